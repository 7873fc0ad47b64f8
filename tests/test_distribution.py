"""Training on several devices: the masks are those of one device, and dropped weights stay zero on each."""

import importlib.util
import json
import os

import backend_forks
import forked
import numpy as np
import pytest
from backend_forks import Program

pytestmark = pytest.mark.slow  # all of it, together


# the same network, weights and batches wherever it is trained
NETWORK = """
import json
import keras
import numpy as np
from keras_condense.callbacks import CondenseSchedule, learned_layers
from keras_condense.layers import BatchNormalization, CondenseDense, LearnedGroupConv2D

def network(synchronized=False):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([
        keras.Input((4, 4, 8)), LearnedGroupConv2D(8, 1, group_lasso=1e-3),
        BatchNormalization(synchronized=synchronized), keras.layers.ReLU(),
        LearnedGroupConv2D(8, 3, group_lasso=1e-3), keras.layers.GlobalAveragePooling2D(), CondenseDense(3)])
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9),
                  keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    numbers = np.random.default_rng(1)  # backends draw other ones from the same seed
    for weight in model.trainable_variables:
        if weight.name == "kernel":
            fan_in = np.prod(weight.shape[:-1])
            weight.assign(numbers.normal(0, fan_in**-0.5, weight.shape))
    return model

def train(model):
    images = np.random.default_rng(0).normal(size=(24, 4, 4, 8)).astype("float32")
    history = model.fit(images, np.arange(24) % 3, batch_size=8, epochs=6, shuffle=False, verbose=0,
                        callbacks=[CondenseSchedule()])
    return history.history["loss"]

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

# both networks in one process, where one device would be enough for the first
JAX = """
devices = jax.devices()
assert len(devices) == 2, devices

def trained(devices):
    model = network()
    losses = train(model)
    assert len(learned_layers(model)[0].kernel.value.sharding.device_set) == devices
    return {"layers": results(model), "losses": losses}

one = trained(1)
keras.distribution.set_distribution(keras.distribution.DataParallel(devices=keras.distribution.list_devices()))
print(json.dumps({"one": one, "two": trained(2)}))
"""

# with what `train(batch_norms="local")` trains in
LOCAL = """
from keras_condense.training import batch_norm_statistics
keras.distribution.set_distribution(keras.distribution.DataParallel())
model = network()
with batch_norm_statistics(model, "local"):
    losses = train(model)
print(json.dumps({"layers": results(model), "losses": losses}))
"""

# where rounding can't flip a ReLU or decide a drop; without the second line Keras has float32 within batch norms on JAX
DOUBLE = """
jax.config.update("jax_enable_x64", True)
keras.src.backend.common.dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"
keras.config.set_floatx("float64")
"""

# with how far what is condensed is from what `predict` says under the strategy, and the warnings of condensing, before
# and after the fix that the warning names
MIRRORED = """
import warnings
from keras_condense import condense

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)

def condensed(model):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        small = condense(model)
    images = np.random.default_rng(1).normal(size=(8, 4, 4, 8)).astype("float32")
    difference = np.abs(model.predict(images, verbose=0) - small.predict(images, verbose=0)).max()
    return float(difference), [str(warning.message) for warning in seen if warning.category is UserWarning]

# the loss, and how far each kernel goes, where nothing else is in the loss; replicas take turns at the norms
def lasso_alone(synchronized):
    keras.utils.set_random_seed(0)
    learned = [LearnedGroupConv2D(8, 1, group_lasso=0.1) for _ in range(3)]
    norms = [BatchNormalization(synchronized=synchronized) for _ in range(2)]
    model = keras.Sequential([
        keras.Input((4, 4, 8)), learned[0], norms[0], learned[1], keras.layers.Dropout(0.5), norms[1], learned[2]])
    model.compile(keras.optimizers.SGD(0.1), lambda labels, outputs: 0 * outputs)
    kernels = [layer.kernel.numpy() for layer in learned]
    images = np.ones((4, 4, 4, 8), "float32")
    losses = model.fit(images, images, batch_size=4, epochs=2, verbose=0).history["loss"]
    return losses, [float(abs(layer.kernel.numpy() - before).sum()) for layer, before in zip(learned, kernels)]

def mirrored(synchronized):
    found = {"of_lasso": lasso_alone(synchronized)}
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert strategy.num_replicas_in_sync == 2
    with strategy.scope():
        model = network(synchronized)
    losses = train(model)
    for variable in model.variables:
        copies = [copy.numpy() for copy in strategy.experimental_local_results(variable.value)]
        assert len(copies) == 2
        of_replica = "moving" in variable.path and not synchronized
        assert of_replica or all((copy == copies[0]).all() for copy in copies), variable.path
    found |= {"trained": {"layers": results(model), "losses": losses}, "before": condensed(model)}
    model.set_weights(model.get_weights())
    with strategy.scope():
        of_two = lasso_alone(synchronized)
    return found | {"after": condensed(model), "of_lasso": [found["of_lasso"], of_two]}
"""
APART = """
one = network()
assert one.distribute_strategy.num_replicas_in_sync == 1
losses = train(one)
print(json.dumps({"one": {"layers": results(one), "losses": losses}} | mirrored(False)))
"""
SYNCHRONIZED = "print(json.dumps(mirrored(True)))"  # TensorFlow has one such strategy a process


def run(backend, program, folder):
    """What a process of its own, with two devices, prints at its end."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    script, output = folder / "program.py", folder / "output.txt"
    script.write_text(f"import {'jax' if backend == 'jax' else 'tensorflow as tf'}\n{NETWORK}\n{program}")
    if backend == "tensorflow":
        code = forked.run(script, folder=folder, output=output, timeout=200)
        said = output.read_text()
    else:
        devices = {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"}
        (done,) = backend_forks.run(backend, [Program([script], folder, devices)], timeout=200)
        code, said = done.code, done.output
    assert code == 0, said
    return json.loads(said.splitlines()[-1])


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    return run("tensorflow", MIRRORED + APART, tmp_path_factory.mktemp("apart"))


@pytest.fixture(scope="module")
def synchronized(tmp_path_factory):
    return run("tensorflow", MIRRORED + SYNCHRONIZED, tmp_path_factory.mktemp("synchronized"))


def assert_same(several, one, atol=1e-4):  # float32 sums in another order
    np.testing.assert_allclose(several["losses"], one["losses"], rtol=0, atol=atol / 10)
    for (mask, kernel), (expected_mask, expected_kernel) in zip(several["layers"], one["layers"], strict=True):
        np.testing.assert_array_equal(mask, expected_mask)
        np.testing.assert_allclose(kernel, expected_kernel, rtol=0, atol=atol)


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "atol"), [("", 1e-4), (DOUBLE, 1e-9)], ids=["float32", "float64"])
def test_data_parallel_on_jax_equals_one_device(precision, atol, tmp_path):
    found = run("jax", precision + JAX, tmp_path)
    assert_same(found["two"], found["one"], atol)


@pytest.mark.slow
def test_local_batch_norms_on_jax_are_those_of_mirrored_replicas(apart, tmp_path):
    found = run("jax", LOCAL, tmp_path)
    assert_same(found, apart["trained"])
    assert np.abs(np.subtract(found["losses"], apart["one"]["losses"])).max() > 1e-3


@pytest.mark.slow
def test_mirrored_replicas_agree(apart):
    assert len(apart["trained"]["layers"]) == 3  # the process compared the replicas


@pytest.mark.slow
def test_mirrored_and_synchronized_equals_one_device(synchronized, apart):
    assert_same(synchronized["trained"], apart["one"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["apart", "synchronized"])
def test_mirrored_group_lasso_counts_once(kind, request):
    (losses, moved), (expected_losses, expected_moved) = request.getfixturevalue(kind)["of_lasso"]
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    np.testing.assert_allclose(moved, expected_moved, rtol=1e-4)
    assert min(moved) > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["apart", "synchronized"])
def test_condensing_says_what_replicas_predict_apart(kind, request):
    found = request.getfixturevalue(kind)
    before, after = found["before"], found["after"]
    if kind == "synchronized":
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
