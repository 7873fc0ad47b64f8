"""Where a model lies while several JAX devices train it, and what is left of it where that fails."""

import json

import pytest
from backend_forks import Program, run
from test_training_on_several import devices, needs_jax

pytestmark = [pytest.mark.slow, needs_jax]  # all of it, together

BEGIN = """
import json, os
import keras, numpy as np, keras_condense as kc
data = kc.datasets.load_arrays("digits", batch_size=256, image_size=8)
DataParallel, set_distribution = keras.distribution.DataParallel, keras.distribution.set_distribution

class Fails(keras.layers.Layer):
    def call(self, inputs, training=None):
        if training and not isinstance(inputs, keras.KerasTensor):
            raise RuntimeError("fails in training")
        return inputs

def network(*layers):
    layers = [*layers, keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")]
    return keras.Sequential([keras.Input((8, 8, 1)), *layers])

def trained(model, **options):
    kc.training.train(model, data, f"run{len(os.listdir())}", epochs=1, verbose=0, **options)

def on(model):
    return {device.id for variable in model.variables for device in variable.value.sharding.device_set}
"""
FAILS = """
model, found = network(Fails()), []
before = model.get_weights()
for distribution in ("auto", "auto", None):
    try:
        trained(model, distribution=distribution)
    except RuntimeError as error:
        kept = all((weight == was).all() for weight, was in zip(model.get_weights(), before))
        is_free = keras.distribution.distribution() is None
        found.append(["fails in training" in str(error), kept, len(on(model)), is_free])
print(json.dumps(found))
"""
ELSEWHERE = """
found = []
for built, within, distribution in [
    (None, DataParallel(), "auto"), (None, DataParallel(), None), (DataParallel(devices=["cpu:1"]), None, "auto"),
    (DataParallel(), None, DataParallel(devices=["cpu:0"])),
]:
    set_distribution(built)
    model = network()
    set_distribution(within)
    begun = on(model)
    trained(model, distribution=distribution)
    found.append([on(model) == begun, len(on(model)), keras.distribution.distribution() is within])
    set_distribution(None)
print(json.dumps(found))
"""
REFUSED = """
norm = keras.layers.BatchNormalization(name="norm")
masked = network(keras.layers.Reshape((8, 8)), keras.layers.Masking(-99.0), norm)
found = []
for model, options in [
    (network(), {"distribution": DataParallel(devices=["cpu:0", "cpu:9"])}),
    (masked, {"distribution": "auto", "batch_norms": "local"}),
    ("net", {"distribution": "auto"}),
]:
    try:
        trained(model, **options)
    except ValueError as error:
        found.append(str(error))
print(json.dumps([found, os.listdir(), keras.distribution.distribution() is None]))
"""


def printed(program, folder):
    (folder / "program.py").write_text(BEGIN + program)
    (folder / "runs").mkdir()
    (done,) = run("jax", [Program([folder / "program.py"], folder / "runs", devices(2))], timeout=200)
    assert done.code == 0, done.output
    return json.loads(done.output.splitlines()[-1])


def test_a_step_that_fails_leaves_the_model_and_the_distribution(tmp_path):
    assert printed(FAILS, tmp_path) == [[True, True, 1, True]] * 3


def test_a_model_that_lies_elsewhere_is_moved(tmp_path):
    """And back; but where a distribution is set that it was not built under, it stays, for that is in force."""
    assert printed(ELSEWHERE, tmp_path) == [[False, 2, True], [False, 2, True], [True, 1, True], [True, 2, True]]


def test_what_can_not_be_placed_is_refused_before_anything_is_written(tmp_path):
    (devices, masked, model), files, is_free = printed(REFUSED, tmp_path)
    assert "and 'cpu:9' are not among them: 'cpu:0', 'cpu:1'. Use 'auto' for all of them." in devices
    assert "must be left out for batch norms that get a mask, as 'norm' of model" in masked
    assert model.startswith("`model` (='net') must be a functional or a built sequential model")
    assert files == []
    assert is_free
