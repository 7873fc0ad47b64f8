"""`memory_efficient=True` beside the same network as usual: whatever a step computes or leaves behind is equal."""

import functools
import importlib.util
import inspect
import os
import re

import backend_forks
import keras
import numpy as np
import pytest

import keras_condense as kc
from keras_condense import applications, memory_efficient
from keras_condense.applications import CondenseNet, CondenseNetLight, DenseNet
from keras_condense.layers import normalization
from keras_condense.memory_efficient import MemoryEfficientModel

pytestmark = pytest.mark.slow  # all of it, together


SIZE = 8
SHAPE = {"input_shape": (SIZE, SIZE, 3), "classes": 3}
NETWORKS = {
    "densenet": functools.partial(DenseNet, (2, 2), 4, stem="cifar", **SHAPE),
    "densenet-plain": functools.partial(
        DenseNet, (2, 2), 4, bottleneck=False, compression=1.0, dropout_rate=0.2, stem="cifar", **SHAPE
    ),
    "densenet-imagenet": functools.partial(DenseNet, (2, 1), 4, **SHAPE),
    "condensenet": functools.partial(
        CondenseNet, (2, 2), (4, 8), stem_strides=1, dropout_rate=0.1, group_lasso=1e-2,
        classifier_condense_factor=2, **SHAPE,
    ),
    "condensenet-light": functools.partial(CondenseNetLight, (2, 2), 4, **SHAPE),
}  # fmt: skip
EVERY = pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)
ON_TENSORFLOW = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="records gradients by TensorFlow")


def batch(size: int = 6) -> tuple[np.ndarray, np.ndarray]:
    return np.random.default_rng(0).normal(size=(size, SIZE, SIZE, 3)).astype("float32"), np.arange(size) % 3


def reseed(model: keras.Model) -> None:
    """The same dropout masks for every model."""
    keras.utils.set_random_seed(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.seed_generator.state.assign(np.array([1, 2]))


def pair(build) -> tuple[keras.Model, keras.Model]:
    usual, efficient = build(), build(memory_efficient=True)
    efficient.set_weights(usual.get_weights())
    for model in (usual, efficient):
        reseed(model)
    return usual, efficient


def values(variables) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def predict(model: keras.Model, x: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(x, training=False))


def assert_close(one, other, atol: float = 1e-5) -> None:
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


def loss_and_gradients(model: keras.Model, in_graph: bool):
    import tensorflow as tf

    def step(x, y):
        with tf.GradientTape() as tape:
            outputs = model(x, training=True)
            loss = keras.ops.mean(keras.losses.sparse_categorical_crossentropy(y, outputs)) + sum(model.losses)
        return loss, outputs, tape.gradient(loss, model.trainable_variables)

    loss, outputs, gradients = (tf.function(step) if in_graph else step)(*map(tf.constant, batch()))
    return loss.numpy(), outputs.numpy(), [gradient.numpy() for gradient in gradients]


@EVERY
@ON_TENSORFLOW
def test_losses_gradients_and_state_of_a_step_are_equal(build):
    for in_graph in (False, True):
        usual, efficient = pair(build)
        (loss, outputs, gradients), (loss_too, outputs_too, gradients_too) = (
            loss_and_gradients(model, in_graph) for model in (usual, efficient)
        )
        assert abs(loss - loss_too) < 1e-5
        np.testing.assert_allclose(outputs_too, outputs, rtol=0, atol=1e-5)
        assert max(np.abs(gradient).max() for gradient in gradients) > 1e-2  # not zero on both sides
        assert_close(gradients_too, gradients)
        # moving statistics moved on once, and so did the state that dropout draws from
        assert_close(values(efficient.non_trainable_variables), values(usual.non_trainable_variables))


def test_moving_statistics_move_on_once_a_step():
    """By hand: momentum 0.9 keeps nine tenths of the zero mean and of the variance 1 that a batch norm begins with."""
    image = keras.Input((4, 4, 2))
    x = kc.layers.BatchNormalization(momentum=0.9, name="bn")(keras.layers.Concatenate()([image, image]))
    x = keras.layers.Conv2D(3, 1)(keras.layers.ReLU()(x))
    model = MemoryEfficientModel(image, keras.layers.GlobalAveragePooling2D()(x))
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    x = np.random.default_rng(0).normal(3.0, 2.0, (8, 4, 4, 2)).astype("float32")
    model.fit(x, np.zeros((8, 3)), batch_size=8, epochs=1, verbose=0)
    layer = model.get_layer("bn")
    mean, variance = (np.tile(moment(x, (0, 1, 2)), 2) for moment in (np.mean, np.var))
    np.testing.assert_allclose(values([layer.moving_mean])[0], 0.1 * mean, rtol=1e-4)
    np.testing.assert_allclose(values([layer.moving_variance])[0], 0.9 + 0.1 * variance, rtol=1e-4)


@pytest.mark.parametrize("network", ["densenet-plain", "condensenet"])
def test_fitted_networks_are_equal(network):
    assert_equal_fits(NETWORKS[network])


def assert_equal_fits(build) -> None:
    x, y = batch()
    histories = []
    usual, efficient = pair(build)
    for model in (usual, efficient):
        reseed(model)
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy", jit_compile=False)
        histories.append(model.fit(x, y, batch_size=3, epochs=1, shuffle=False, verbose=0).history["loss"])
    np.testing.assert_allclose(*histories, rtol=0, atol=1e-5)
    # two steps of float32 sums in another order
    assert_close(values(efficient.weights), values(usual.weights), atol=1e-4)
    assert_close([predict(efficient, x)], [predict(usual, x)], atol=1e-4)


@EVERY
def test_files_and_weights_are_exchanged(build, tmp_path):
    keras.utils.clear_session()  # layers without a name are counted anew
    usual = build()
    keras.utils.clear_session()
    efficient = build(memory_efficient=True)
    assert [layer.name for layer in efficient.layers] == [layer.name for layer in usual.layers]
    assert [(w.path, tuple(w.shape)) for w in efficient.weights] == [(w.path, tuple(w.shape)) for w in usual.weights]
    x, _ = batch()
    expected = predict(usual, x)
    for suffix in (".weights.h5", ".keras"):
        path = tmp_path / f"usual{suffix}"
        (usual.save_weights if suffix == ".weights.h5" else usual.save)(path)
        loaded = build(weights=path, memory_efficient=True)
        np.testing.assert_array_equal(predict(loaded, x), expected)
        path = tmp_path / f"efficient{suffix}"
        (loaded.save_weights if suffix == ".weights.h5" else loaded.save)(path)
        np.testing.assert_array_equal(predict(build(weights=path), x), expected)
    for again in (keras.models.load_model(tmp_path / "efficient.keras"), keras.models.clone_model(loaded)):
        assert type(again) is MemoryEfficientModel
        again.set_weights(usual.get_weights())
        np.testing.assert_array_equal(predict(again, x), expected)


@ON_TENSORFLOW
def test_a_network_of_half_precision_has_equal_gradients():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        usual, efficient = pair(NETWORKS["densenet"])
    finally:
        keras.config.set_dtype_policy(policy)
    (_, outputs, gradients), (_, outputs_too, gradients_too) = (
        loss_and_gradients(model, in_graph=True) for model in (usual, efficient)
    )
    np.testing.assert_array_equal(outputs_too, outputs)
    # gradients of the concatenated parts are summed in another order, in bfloat16's eight bits
    assert_close(gradients_too, gradients, atol=0.02 * max(np.abs(gradient).max() for gradient in gradients))


def test_it_stays_efficient_condensed_and_nested():
    model = CondenseNet((2, 1), (4, 8), stem_strides=1, memory_efficient=True, **SHAPE)
    condensed = kc.condense(model, finish=True)
    assert type(condensed) is MemoryEfficientModel
    # what only picks channels is computed again too
    assert any(isinstance(layer, kc.layers.ChannelIndex) for layer in memory_efficient._deferred_layers(condensed))
    image = keras.Input((SIZE, SIZE, 3))
    outer = keras.Model(image, keras.layers.Rescaling(2.0)(condensed(image)))
    outer.compile("sgd", "mse", jit_compile=False)
    x, _ = batch()
    before = condensed.get_layer("bn").get_weights()[2]
    outer.fit(x, np.zeros((6, 3)), epochs=1, verbose=0)
    assert np.abs(condensed.get_layer("bn").get_weights()[2] - before).max() > 1e-4


def test_frozen_layers_are_left_as_they_are():
    x, y = batch()
    _, model = pair(NETWORKS["densenet"])
    frozen = [model.get_layer(name) for name in ("conv2_block1_1_bn", "conv2_block2_1_conv")]
    for layer in frozen:
        layer.trainable = False
    before = [layer.get_weights() for layer in frozen]
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    model.fit(x, y, verbose=0)
    for layer, weights in zip(frozen, before, strict=True):
        assert_close(layer.get_weights(), weights, atol=0)


# ------------------------------------------------------------------------------------------------ what is not kept


def test_what_is_deferred_of_a_dense_block():
    model = DenseNet((2,), 4, stem="cifar", dropout_rate=0.2, **SHAPE)
    deferred = {layer.name for layer in memory_efficient._deferred_layers(model)}
    concatenations = {"conv2_block1_concat", "conv2_block2_concat"}
    norms = {f"conv2_block{i}_{j}_{part}" for i in (1, 2) for j in (0, 1) for part in ("bn", "relu")}
    # a bottleneck's dropout is read by its batch norm alone; the other is kept, being part of all concatenations
    drops = {"conv2_block1_1_conv_drop", "conv2_block2_1_conv_drop"}
    assert deferred == concatenations | norms | drops | {"bn", "relu"}


def test_a_layer_with_state_runs_once_whoever_reads_it():
    """Batch norms that are read twice, concatenated, called twice or are outputs: their statistics must move once."""
    bn, conv = keras.layers.BatchNormalization, keras.layers.Conv2D

    def build(kind):
        keras.utils.set_random_seed(0)
        image = keras.Input((SIZE, SIZE, 3))
        twice, shared = bn(name="twice")(image), bn(name="shared")
        both = keras.layers.Concatenate(name="both")([bn(name="part")(image), shared(image)])
        nested = keras.layers.Concatenate()([both, keras.layers.Concatenate(axis=1)([twice, twice])[:, :SIZE]])
        x = conv(4, 1)(twice) + conv(4, 1)(twice) + conv(4, 1)(both) + conv(4, 1)(nested) + conv(4, 1)(shared(image))
        end = bn(name="end")(x)
        model = kind(image, {"features": keras.layers.ReLU()(end), "end": end})
        return model

    usual, efficient = build(keras.Model), build(MemoryEfficientModel)
    deferred = {layer.name for layer in memory_efficient._deferred_layers(efficient)}
    assert "both" in deferred
    assert not deferred & {"twice", "shared", "part", "end"}
    x, _ = batch()
    for model in (usual, efficient):
        model.compile("sgd", {"features": "mse", "end": "mae"}, jit_compile=False)
        model.fit(x, {"features": np.ones((6, SIZE, SIZE, 4)), "end": np.ones((6, SIZE, SIZE, 4))}, verbose=0)
    assert_close(values(efficient.variables), values(usual.variables))


@ON_TENSORFLOW
def test_the_graph_of_a_step_computes_again_what_is_cheap_and_no_convolution(monkeypatch):
    import tensorflow as tf

    monkeypatch.setattr(normalization, "_is_fused_op_fast", lambda channels: True)  # one op for each norm, to count
    counts = []
    for model in pair(functools.partial(DenseNet, (4,), 4, stem="cifar", **SHAPE)):

        @tf.function
        def step(x, y, model=model):
            with tf.GradientTape() as tape:
                loss = keras.ops.mean(keras.losses.sparse_categorical_crossentropy(y, model(x, training=True)))
            return tape.gradient(loss, model.trainable_variables)

        graph = tf.compat.v1.graph_util.extract_sub_graph(  # without what only TensorFlow's tracing left in it
            step.get_concrete_function(*map(tf.constant, batch())).graph.as_graph_def(),
            [node.op.name for node in step.get_concrete_function(*map(tf.constant, batch())).outputs],
        )
        operations = [node.op for node in graph.node]
        counts.append([operations.count(kind) for kind in ("FusedBatchNormV3", "ConcatV2", "Conv2D")])
    assert counts == [[9, 4, 9], [18, 8, 9]]


# ----------------------------------------------------------------------------------------------- arguments and errors


def test_constructors_take_it_by_keyword():
    takers = []
    for name in applications.__all__:
        parameter = (
            inspect.signature(getattr(applications, name)).parameters.get("memory_efficient")
            if (name[0].isupper())
            else None
        )
        if parameter is not None:
            assert parameter.kind is parameter.KEYWORD_ONLY
            assert parameter.default is False
            takers.append(name)
    assert {"DenseNet", "DenseNetBC100K12", "CondenseNet", "CondenseNet86", "CondenseNetLight94"} <= set(takers)
    # whose signatures equal those of keras.applications
    assert not {"DenseNet121", "DenseNet169", "DenseNet201"} & set(takers)


@EVERY
def test_anything_but_a_bool_is_refused(build):
    with pytest.raises(
        ValueError, match=r"`memory_efficient` \(='yes'\) must be one of True, False\. Use True"
    ) as error:
        build(memory_efficient="yes")
    assert re.fullmatch(r"`.+` \(.+\) must .+\. .+\.", str(error.value))


# ------------------------------------------------------------------------------------------------------ other backends

PROGRAM = """
import sys
sys.path.insert(0, sys.argv[2])
import keras
from test_memory_efficient import SHAPE, CondenseNet, assert_equal_fits, functools
assert keras.backend.backend() == sys.argv[1]
assert_equal_fits(
    functools.partial(CondenseNet, (2,), (4,), stem_strides=1, dropout_rate=0.1, group_lasso=1e-2, **SHAPE)
)
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends(backend, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [program, backend, os.path.dirname(os.path.abspath(__file__))]
    (done,) = backend_forks.run(backend, [backend_forks.Program(command, tmp_path)])
    assert done.code == 0, done.output
