"""Training on several devices: the masks are those of one device, and dropped weights stay zero on each."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.slow  # all of it, together


ROOT = pathlib.Path(__file__).parent.parent

# the same network, weights and batches in every process
NETWORK = """
import json
import keras
import numpy as np
from keras_condense.callbacks import CondenseSchedule, learned_layers
from keras_condense.layers import BatchNormalization, CondenseDense, LearnedGroupConv2D

def network():
    keras.utils.set_random_seed(0)
    lasso = 1e-3 * (DEVICES if SYNCHRONIZED else 1)  # as `CondenseSchedule` says
    model = keras.Sequential([
        keras.Input((4, 4, 8)), LearnedGroupConv2D(8, 1, group_lasso=lasso),
        BatchNormalization(synchronized=SYNCHRONIZED), keras.layers.ReLU(),
        keras.layers.GlobalAveragePooling2D(), CondenseDense(3)])
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9),
                  keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model

def train(model):
    images = np.random.default_rng(0).normal(size=(24, 4, 4, 8)).astype("float32")
    model.fit(images, np.arange(24) % 3, batch_size=8, epochs=6, shuffle=False, verbose=0,
              callbacks=[CondenseSchedule()])

def results(model):
    found = []
    for layer in learned_layers(model):
        mask, kernel = (keras.ops.convert_to_numpy(value) for value in (layer.mask, layer.kernel))
        assert layer.stage == layer.final_stage
        of_filters = mask.T[:, np.arange(kernel.shape[-1]) % layer.groups]
        assert (kernel[..., of_filters == 0] == 0).all(), "a dropped weight is not zero"
        assert (kernel[..., of_filters == 1] != 0).all()
        found.append([mask.tolist(), kernel.tolist()])
    return found
"""

JAX = """
devices = jax.devices()
assert len(devices) == DEVICES, devices
if DEVICES > 1:
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=keras.distribution.list_devices()))
model = network()
train(model)
if DEVICES > 1:
    assert len(learned_layers(model)[0].kernel.value.sharding.device_set) == DEVICES
print(json.dumps(results(model)))
"""

MIRRORED = """
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]) if DEVICES > 1 else tf.distribute.get_strategy()
assert strategy.num_replicas_in_sync == DEVICES
with strategy.scope():
    model = network()
train(model)
for variable in model.variables:
    copies = [copy.numpy() for copy in strategy.experimental_local_results(variable.value)]
    assert len(copies) == DEVICES
    of_replica = "moving" in variable.path and not SYNCHRONIZED
    assert of_replica or all((copy == copies[0]).all() for copy in copies), variable.path
print(json.dumps(results(model)))
"""

# how far what is condensed is from what `predict` says under the strategy, and the warnings of condensing
CONDENSED = (
    MIRRORED.rpartition("print")[0]
    + """
import warnings
from keras_condense import condense

def compare():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        small = condense(model)
    images = np.random.default_rng(1).normal(size=(8, 4, 4, 8)).astype("float32")
    difference = np.abs(model.predict(images, verbose=0) - small.predict(images, verbose=0)).max()
    return float(difference), [str(warning.message) for warning in seen if warning.category is UserWarning]

found = [compare()]
model.set_weights(model.get_weights())  # the fix that the warning names
print(json.dumps([*found, compare()]))
"""
)


def run(backend, devices, program, *, synchronized=False):
    """Masks and kernels that a process of its own ends with."""
    environment = os.environ | {
        "KERAS_BACKEND": backend,
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    imports = "import jax" if backend == "jax" else "import tensorflow as tf"
    text = f"DEVICES, SYNCHRONIZED = {devices}, {synchronized}\n{imports}\n{NETWORK}\n{program}"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, env=environment, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def assert_same(several, one):
    for (mask, kernel), (expected_mask, expected_kernel) in zip(several, one, strict=True):
        np.testing.assert_array_equal(mask, expected_mask)
        np.testing.assert_allclose(kernel, expected_kernel, atol=1e-4)  # sums of float32 in another order


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
def test_data_parallel_on_jax_equals_one_device():
    assert_same(run("jax", 2, JAX), run("jax", 1, JAX))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="tensorflow is not installed")
def test_mirrored_replicas_agree():
    run("tensorflow", 2, MIRRORED)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="tensorflow is not installed")
def test_mirrored_and_synchronized_equals_one_device():
    assert_same(run("tensorflow", 2, MIRRORED, synchronized=True), run("tensorflow", 1, MIRRORED))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="tensorflow is not installed")
@pytest.mark.parametrize("synchronized", [False, True])
def test_condensing_says_what_replicas_predict_apart(synchronized):
    before, after = run("tensorflow", 2, CONDENSED, synchronized=synchronized)
    if synchronized:
        assert before[1] == []
        assert before[0] < 1e-5
    else:
        (message,) = before[1]
        assert "differ between its 2 replicas: " in message
        assert "moving_mean" in message
        assert "call `model.set_weights(model.get_weights())`" in message
        assert "`synchronized=True`" in message
        assert before[0] > 1e-3
    assert after[1] == []
    assert after[0] < 1e-5
