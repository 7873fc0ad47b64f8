"""`train(batch_norms=)`: statistics of each device's images, or of the whole batch."""

import json

import keras
import numpy as np
import pytest
from backend_forks import Program, run
from keras import ops
from test_training_on_several import assert_same, devices, needs_jax
from test_training_on_several import run as run_several

from keras_condense.datasets import load_arrays
from keras_condense.training import train
from keras_condense.training.batch_norms import normalized_apart


@pytest.mark.parametrize(("shape", "axis"), [((6, 5), -1), ((6, 4, 4, 3), -1), ((6, 3, 4, 4), 1), ((6, 2, 7), 2)])
@pytest.mark.parametrize("affine", [True, False])
def test_each_device_normalizes_as_a_layer_of_its_own(shape, axis, affine):
    numbers = np.random.default_rng(0)
    images = numbers.normal(3, 2, shape).astype("float32")
    layers = [keras.layers.BatchNormalization(axis, 0.0, scale=affine, center=affine) for _ in range(3)]
    for layer in layers:
        layer.build(shape)
        if affine:
            layer.gamma.assign(np.linspace(1, 2, shape[axis]))
            layer.beta.assign(np.linspace(-1, 1, shape[axis]))
    expected = [layer(part, training=True) for layer, part in zip(layers, np.split(images, 3), strict=True)]
    trained = {"scale": layers[0].gamma, "offset": layers[0].beta} if affine else {}
    found, mean, variance = normalized_apart(images, 3, axis=axis, epsilon=layers[0].epsilon, **trained)
    np.testing.assert_allclose(found, ops.concatenate(expected), atol=1e-5)
    np.testing.assert_allclose(mean, np.mean([layer.moving_mean for layer in layers], axis=0), rtol=1e-5)
    np.testing.assert_allclose(variance, np.mean([layer.moving_variance for layer in layers], axis=0), rtol=1e-5)


@needs_jax
@pytest.mark.slow
def test_two_devices_and_two_processes_have_the_same_local_batch_norms(tmp_path):
    weights, log = run_several(tmp_path / "devices", on=2, kind="local")
    (synchronized,), _ = run_several(tmp_path / "synchronized", on=2)
    run_several(tmp_path / "processes", processes=2, kind="local", dies_after=2)
    assert_same(run_several(tmp_path / "processes", processes=2, kind="local"), (weights, log))
    moved = {name: np.abs(weight - synchronized[name]).max() for name, weight in weights[0].items()}
    assert max(moved.values()) > 1e-3  # it is another network than one device's


def test_one_device_trains_as_ever_whatever_the_kind(tmp_path):
    data = load_arrays("digits", image_size=8, batch_size=256)
    found = {}
    for kind in (None, "local", "synchronized"):
        keras.utils.set_random_seed(0)
        norm = keras.layers.BatchNormalization()
        layers = [keras.layers.Conv2D(4, 3), norm, keras.layers.Flatten(), keras.layers.Dense(10, "softmax")]
        model = keras.Sequential([keras.Input(data.image_shape), *layers])
        train(model, data, tmp_path / str(kind), epochs=1, batch_norms=kind, verbose=0)
        found[kind] = model.get_weights()
        assert not norm.synchronized
    for kind in ("local", "synchronized"):
        for weight, expected in zip(found[kind], found[None], strict=True):
            np.testing.assert_array_equal(weight, expected)
    with pytest.raises(ValueError, match=r"batch_norms \(=None, first 'local'\)"):
        train(model, data, tmp_path / "local", epochs=2, resume=True, verbose=0)
    with pytest.raises(ValueError, match="`batch_norms` \\(='global'\\) must be one of None, 'local', 'synchronized'"):
        train(model, data, tmp_path / "none", batch_norms="global")
    assert not (tmp_path / "none").exists()


IN_TURN = """
import pathlib, sys
import keras, numpy as np, keras_condense as kc
keras.distribution.set_distribution(keras.distribution.DataParallel())
keras.utils.set_random_seed(0)
norm = keras.layers.BatchNormalization(momentum=0)
model = keras.Sequential([keras.Input((1,)), norm])
model.compile(keras.optimizers.SGD(0.0), "mse")
values = np.array([[1.0], [3.0], [10.0], [14.0]], "float32")
found = []
for kind in (None, "local", "synchronized", "local", None):
    with kc.training.batch_norm_statistics(model, kind):
        model.fit(values, values, batch_size=4, shuffle=False, verbose=0)
    found.append(float(norm.moving_variance[0]))
print(found)
"""


@needs_jax
@pytest.mark.slow
def test_one_model_is_fitted_with_either_kind_in_turn(tmp_path):
    """For all that JAX remembers of a step."""
    (tmp_path / "program.py").write_text(IN_TURN)
    (done,) = run("jax", [Program([tmp_path / "program.py"], tmp_path, devices(2))], timeout=100)
    assert done.code == 0, done.output
    assert json.loads(done.output.splitlines()[-1]) == [27.5, 2.5, 27.5, 2.5, 27.5]


REFUSED = """
import keras, keras_condense as kc
class Own(keras.layers.BatchNormalization):
    def call(self, inputs, training=None, mask=None):
        return super().call(2 * inputs, training=training, mask=mask)
data = kc.datasets.load_arrays("digits", batch_size=64, image_size=8)
layers = [Own(name="own"), keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")]
keras.distribution.set_distribution(keras.distribution.DataParallel())
kc.training.train(keras.Sequential([keras.Input((8, 8, 1)), *layers]), data, "none", batch_norms="local")
"""


@needs_jax
@pytest.mark.slow
def test_batch_norms_of_another_formula_are_refused(tmp_path):
    (tmp_path / "program.py").write_text(REFUSED)
    (done,) = run("jax", [Program([tmp_path / "program.py"], tmp_path, devices(2))], timeout=100)
    assert done.code == 1
    assert "compute as Keras' do, without `renorm`, and 'own' of model" in done.output.splitlines()[-1]
    assert not (tmp_path / "none").exists()
