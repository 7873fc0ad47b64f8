"""One battery for every layer, convolutions against loops, and masked weights under every optimizer."""

import dataclasses
import functools
import itertools
import subprocess
import sys

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_condense.callbacks import CondenseSchedule
from keras_condense.condensation import condense
from keras_condense.layers import (
    BatchNormalization,
    ChannelIndex,
    ChannelScatterAdd,
    ChannelShuffle,
    CondenseDense,
    GroupConv2D,
    LearnedGroupConv,
    LearnedGroupConv2D,
    SparseFeatureReactivation,
    grouped_convolution,
    normalization,
)
from keras_condense.tflite import export_tflite, run_tflite

tf = pytest.importorskip("tensorflow")


def array(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def numpy_of(tensor):
    return ops.convert_to_numpy(tensor).astype("float32")


# ------------------------------------------------------------------------------------ the reference: a loop of sums


def reference_convolution(images, kernel, strides, padding, dilation, groups):
    """A grouped convolution as loops over positions, from the definition."""
    batch, height, width, _ = images.shape
    kh, kw, per_group, filters = kernel.shape
    pads, sizes = [], []
    for size, k, stride, rate in zip((height, width), (kh, kw), strides, dilation, strict=True):
        span = (k - 1) * rate + 1
        if padding == "same":
            out = (size + stride - 1) // stride
            total = max((out - 1) * stride + span - size, 0)
            pads.append((total // 2, total - total // 2))
        else:
            out = (size - span) // stride + 1
            pads.append((0, 0))
        sizes.append(out)
    padded = np.pad(images.astype("float64"), ((0, 0), *pads, (0, 0)))
    outputs = np.zeros((batch, *sizes, filters))
    for f in range(filters):
        first = (f // (filters // groups)) * per_group
        for y in range(sizes[0]):
            for x in range(sizes[1]):
                for i in range(kh):
                    for j in range(kw):
                        pixel = padded[:, y * strides[0] + i * dilation[0], x * strides[1] + j * dilation[1]]
                        outputs[:, y, x, f] += pixel[:, first : first + per_group] @ kernel[i, j, :, f]
    return outputs


# ---------------------------------------------------------------------------------------------------------- battery


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer and the shape of its inputs, without the batch."""

    layer: type
    arguments: dict
    shape: tuple
    weights: int  # how many
    trainable: int
    losses: bool = False


CASES = {
    "learned": Case(LearnedGroupConv2D, {"filters": 8, "kernel_size": 1}, (5, 5, 8), 2, 1),
    "learned-everything": Case(
        LearnedGroupConv2D,
        {
            "filters": 6, "kernel_size": (3, 2), "strides": (2, 1), "padding": "same", "groups": 2,
            "condense_factor": 4, "group_lasso": 1e-4, "activation": "relu", "use_bias": True,
            "kernel_initializer": "he_normal", "bias_initializer": "ones", "kernel_regularizer": "l2",
            "bias_regularizer": "l1", "kernel_constraint": "max_norm", "bias_constraint": "non_neg",
        },
        (5, 6, 8), 3, 2, losses=True,
    ),
    "learned-dilated": Case(
        LearnedGroupConv2D,
        {"filters": 4, "kernel_size": 3, "dilation_rate": 2, "groups": 4, "condense_factor": 2}, (7, 7, 4), 2, 1,
    ),
    "learned-C1": Case(
        LearnedGroupConv2D, {"filters": 4, "kernel_size": 1, "groups": 2, "condense_factor": 1}, (3, 3, 5), 2, 1
    ),
    "learned-fraction": Case(
        LearnedGroupConv2D,
        {"filters": 4, "kernel_size": 3, "groups": 1, "pruned_fraction": 0.3, "drops_at": (1 / 6, 1 / 3)},
        (5, 5, 7), 2, 1,
    ),
    "learned-moments": Case(
        LearnedGroupConv2D, {"filters": 4, "kernel_size": 1, "groups": 2, "drops_at": [0.0, 0.25]}, (3, 3, 8), 2, 1
    ),
    "group": Case(GroupConv2D, {"filters": 8, "kernel_size": 3, "padding": "same", "groups": 4}, (5, 5, 8), 1, 1),
    "group-everything": Case(
        GroupConv2D,
        {
            "filters": 6, "kernel_size": (2, 3), "strides": 2, "groups": 2, "activation": "softmax",
            "use_bias": True, "kernel_regularizer": "l2", "bias_constraint": "non_neg",
        },
        (6, 7, 4), 2, 2, losses=True,
    ),
    "group-dilated": Case(
        GroupConv2D, {"filters": 4, "kernel_size": 3, "dilation_rate": (2, 1), "groups": 2}, (7, 7, 4), 1, 1
    ),
    "dense": Case(CondenseDense, {"units": 3}, (8,), 3, 2),
    "dense-everything": Case(
        CondenseDense,
        {
            "units": 4, "condense_factor": 4, "activation": "softmax", "use_bias": False,
            "kernel_regularizer": "l2", "kernel_constraint": "max_norm",
        },
        (2, 8), 2, 1, losses=True,
    ),
    "dense-fraction": Case(CondenseDense, {"units": 3, "pruned_fraction": 0.5, "drops_at": (0.2,)}, (7,), 3, 2),
    "index": Case(ChannelIndex, {"indices": [3, 0, 3]}, (2, 2, 4), 1, 0),
    "index-array": Case(ChannelIndex, {"indices": np.array([1, 2], "int64")}, (4,), 1, 0),
    "scatter": Case(ChannelScatterAdd, {"indices": [3, 0, 3], "channels": 5}, (2, 2, 3), 1, 0),
    "shuffle": Case(ChannelShuffle, {"groups": 3}, (2, 2, 6), 0, 0),
    "shuffle-vector": Case(ChannelShuffle, {"groups": 2}, (4,), 0, 0),
    "reactivation": Case(SparseFeatureReactivation, {"filters": 8, "groups": 2, "condense_factor": 4}, (5, 5, 4), 2, 1),
    "reactivation-everything": Case(
        SparseFeatureReactivation,
        {
            "filters": 6, "groups": 1, "condense_factor": 3, "group_lasso": 1e-4, "kernel_initializer": "he_normal",
            "kernel_regularizer": "l2", "kernel_constraint": "max_norm",
        },
        (3, 4, 3), 2, 1, losses=True,
    ),
    "batch norm": Case(BatchNormalization, {"momentum": 0.9, "epsilon": 1e-5}, (3, 3, 4), 4, 2),
    "batch norm-vector": Case(BatchNormalization, {"center": False}, (4,), 3, 1),
}  # fmt: skip
BATTERY = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def model_of(case, **arguments):
    layer = case.layer(**case.arguments, name="layer", **arguments)
    model = keras.Sequential([keras.Input(case.shape), layer])
    if hasattr(layer, "condense_to"):  # a state worth saving: half way
        layer.condense_to(layer.final_stage // 2)
    return model


@BATTERY
def test_config_makes_the_same_layer(case):
    layer = case.layer(**case.arguments, name="mine")
    config = layer.get_config()
    again = case.layer.from_config(config)
    assert again.get_config() == config
    assert again.name == "mine"
    assert keras.layers.deserialize(keras.layers.serialize(layer)).get_config() == config
    assert keras.saving.get_registered_name(case.layer) == f"keras_condense>{case.layer.__name__}"


@BATTERY
def test_builds_its_weights(case):
    layer = case.layer(**case.arguments)
    layer.build((None, *case.shape))
    assert len(layer.weights) == case.weights
    assert len(layer.trainable_weights) == case.trainable
    frozen = case.layer(**case.arguments, trainable=False)
    frozen.build((None, *case.shape))
    assert not frozen.trainable_weights
    assert frozen.get_config()["trainable"] is False


@BATTERY
@pytest.mark.parametrize("batch", [None, 2])
def test_shapes_symbolic_and_eager_agree(case, batch):
    x = array(2, *case.shape)
    layer = case.layer(**case.arguments)
    promised = layer.compute_output_shape((batch, *case.shape))
    symbolic = layer(keras.Input(batch_shape=(batch, *case.shape)))
    eager = layer(x)
    assert promised == symbolic.shape == (batch, *eager.shape[1:])
    assert keras.backend.standardize_dtype(eager.dtype) == symbolic.dtype == "float32"
    traced = tf.function(layer, jit_compile=False)(x)
    np.testing.assert_allclose(numpy_of(traced), numpy_of(eager), atol=1e-6)
    np.testing.assert_allclose(keras.Sequential([layer]).predict(x, verbose=0), numpy_of(eager), atol=1e-6)


@BATTERY
def test_unknown_image_sizes(case):
    if len(case.shape) != 3:
        pytest.skip("no image")
    layer = case.layer(**case.arguments)
    symbolic = layer(keras.Input((None, None, case.shape[-1])))
    assert symbolic.shape[1:3] == (None, None)
    model = keras.Sequential([keras.Input((None, None, case.shape[-1])), layer])
    x = array(1, *case.shape)
    np.testing.assert_allclose(model.predict(x, verbose=0), numpy_of(layer(x)), atol=1e-6)


@BATTERY
def test_saves_and_loads(case, tmp_path):
    model = model_of(case)
    x = array(2, *case.shape)
    expected = numpy_of(model(x))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(numpy_of(loaded(x)), expected)
    for ours, theirs in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)

    model.save_weights(tmp_path / "model.weights.h5")
    keras.utils.set_random_seed(1)
    fresh = keras.Sequential([keras.Input(case.shape), case.layer(**case.arguments, name="layer")])
    fresh.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(numpy_of(fresh(x)), expected)

    model.export(tmp_path / "saved_model", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "saved_model"))
    np.testing.assert_allclose(numpy_of(served.serve(x)), expected, atol=1e-6)


@BATTERY
def test_clones(case):
    model = model_of(case)
    x = array(2, *case.shape)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(numpy_of(clone(x)), numpy_of(model(x)))
    inputs = keras.Input(case.shape)
    functional = keras.Model(inputs, case.layer(**case.arguments)(inputs))
    again = keras.models.clone_model(functional)
    again.set_weights(functional.get_weights())
    np.testing.assert_array_equal(numpy_of(again(x)), numpy_of(functional(x)))


@BATTERY
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16", "float64"])
def test_training_lowers_the_loss_in_every_precision(case, policy):
    if policy == "float64" and case.losses:
        pytest.skip("Keras adds losses of one dtype only")
    inputs = keras.Input(case.shape, dtype="float32")
    outputs = case.layer(**case.arguments, dtype=policy, name="layer")(inputs)
    compute = keras.dtype_policies.get(policy).compute_dtype
    assert outputs.dtype == compute
    outputs = keras.layers.Dense(2, dtype="float32")(keras.layers.Flatten(dtype="float32")(outputs))
    model = keras.Model(inputs, outputs)
    layer = model.get_layer("layer")
    variable = keras.dtype_policies.get(policy).variable_dtype
    assert {w.dtype for w in layer.trainable_weights} <= {variable}
    assert bool(layer.losses) == case.losses
    # eager where only the dtypes differ: tracing takes longer than the steps
    model.compile(keras.optimizers.SGD(0.005), "mse", run_eagerly=policy != "float32")
    x, y = array(8, *case.shape), array(8, 2, seed=1)
    before = [w.copy() for w in layer.get_weights()]
    history = model.fit(x, y, epochs=4, batch_size=8, verbose=0).history["loss"]
    assert np.isfinite(history).all()
    assert history[-1] < history[0]
    moved = [not np.array_equal(a, b) for a, b in zip(before, layer.get_weights(), strict=True)]
    assert sum(moved) >= case.trainable
    assert keras.backend.standardize_dtype(layer(x).dtype) == compute


# ------------------------------------------------------------------------------------------- convolutions' numbers

CONVOLUTIONS = [
    # kernel, strides, padding, dilation
    (1, 1, "valid", 1),
    (1, 2, "same", 1),
    (3, 1, "same", 1),
    (3, 2, "same", 1),
    (3, 2, "valid", 1),
    (3, 1, "valid", 2),
    (3, 1, "same", 3),
    ((2, 4), (1, 2), "same", 1),
    ((1, 3), 1, "same", (1, 2)),
    (2, (2, 1), "valid", 1),
]


def pair(value):
    return value if isinstance(value, tuple) else (value, value)


@pytest.mark.parametrize(("kernel_size", "strides", "padding", "dilation"), CONVOLUTIONS)
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize(("use_bias", "activation"), [(False, None), (True, "relu")])
def test_group_convolution_equals_the_loops(kernel_size, strides, padding, dilation, groups, use_bias, activation):
    layer = GroupConv2D(
        8, kernel_size, strides, padding, dilation_rate=dilation, groups=groups, use_bias=use_bias,
        activation=activation, bias_initializer="normal",
    )  # fmt: skip
    x = array(2, 7, 6 + 1, 4)
    outputs = numpy_of(layer(x))
    kernel = numpy_of(layer.kernel)
    expected = reference_convolution(x, kernel, pair(strides), padding, pair(dilation), groups)
    if use_bias:
        expected += numpy_of(layer.bias)
    if activation:
        expected = np.maximum(expected, 0)
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    assert outputs.shape == layer.compute_output_shape(x.shape)


@pytest.mark.parametrize(("kernel_size", "strides", "padding", "dilation"), CONVOLUTIONS)
@pytest.mark.parametrize("stage", [0, 1, 3])
def test_learned_convolution_equals_the_loops(kernel_size, strides, padding, dilation, stage):
    layer = LearnedGroupConv2D(
        6, kernel_size, strides, padding, dilation_rate=dilation, groups=2, condense_factor=4, use_bias=True,
        bias_initializer="normal",
    )  # fmt: skip
    x = array(2, 7, 7, 8)
    layer.build(x.shape)
    layer.condense_to(stage)
    kernel, mask = numpy_of(layer.kernel), numpy_of(layer.mask)
    layer.kernel.assign(kernel + 1.0)  # the mask alone must do, whatever the dropped weights are
    masked = (kernel + 1.0) * np.stack([mask[f % 2] for f in range(6)], axis=-1)
    expected = reference_convolution(x, masked, pair(strides), padding, pair(dilation), 1) + numpy_of(layer.bias)
    np.testing.assert_allclose(numpy_of(layer(x)), expected, atol=1e-5)


def test_group_convolution_equals_keras():
    # one case only: stock grouped convolutions compile for seconds on the CPU
    ours = GroupConv2D(4, 3, 2, "same", groups=2, use_bias=True, bias_initializer="normal")
    theirs = keras.layers.Conv2D(4, 3, 2, "same", groups=2)
    x = array(1, 5, 5, 4)
    ours.build(x.shape)
    theirs.build(x.shape)
    theirs.set_weights(ours.get_weights())
    np.testing.assert_allclose(numpy_of(ours(x)), numpy_of(theirs(x)), atol=1e-5)


def test_condense_dense_equals_dense_with_zeros():
    ours, theirs = CondenseDense(5, 2, "softmax"), keras.layers.Dense(5, activation="softmax")
    x = array(3, 8)
    ours.build(x.shape)
    theirs.build(x.shape)
    ours.condense_to(1)
    kernel, bias, mask = ours.get_weights()
    assert mask.sum() == 4
    theirs.set_weights([kernel, bias])
    assert ((kernel == 0).all(1) == (mask[0] == 0)).all()
    np.testing.assert_allclose(numpy_of(ours(x)), numpy_of(theirs(x)), atol=1e-6)


def gradients_of(x, kernel, strides, padding, dilation, groups):
    x, kernel = tf.Variable(x), tf.Variable(kernel)
    with tf.GradientTape() as tape:
        outputs = grouped_convolution.grouped_convolution(x, kernel, strides, padding, dilation, groups)
        loss = tf.reduce_sum(tf.cast(outputs, "float32") ** 2)
    return [numpy_of(outputs), *(numpy_of(g) for g in tape.gradient(loss, [x, kernel]))]


@pytest.mark.parametrize(("kernel_size", "strides", "padding", "dilation"), CONVOLUTIONS)
@pytest.mark.parametrize("groups", [1, 2])
def test_every_way_has_the_same_gradients(monkeypatch, kernel_size, strides, padding, dilation, groups):
    x, kernel = array(2, 7, 7, 4), array(*pair(kernel_size), 4 // groups, 6, seed=1)
    run = functools.partial(
        gradients_of, strides=pair(strides), padding=padding, dilation=pair(dilation), groups=groups
    )
    native = run(x, kernel)
    for dtype in ("float16", "bfloat16", "float64"):
        # sums of up to some hundred products of halves with 11 (8) significant bits
        tolerance = {"float16": 2e-2, "bfloat16": 2e-1, "float64": 1e-5}[dtype]
        for ours, expected in zip(run(tf.cast(x, dtype), tf.cast(kernel, dtype)), native, strict=True):
            np.testing.assert_allclose(ours, expected, atol=tolerance * np.abs(expected).max())
    monkeypatch.setattr(grouped_convolution, "_has_gradient", lambda *_: False)
    for ours, expected in zip(run(x, kernel), native, strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-4)


@pytest.mark.slow
def test_without_onednn_convolutions_still_have_gradients():
    script = """
import os
os.environ.update(TF_ENABLE_ONEDNN_OPTS="0", TF_CPP_MIN_LOG_LEVEL="2", KERAS_BACKEND="tensorflow")
import keras, numpy as np
from keras_condense.layers import GroupConv2D, LearnedGroupConv2D
from keras_condense.layers.grouped_convolution import _has_gradient
assert not _has_gradient("float32", True, False)
model = keras.Sequential([
    keras.Input((9, 9, 8)), LearnedGroupConv2D(8, 3, dilation_rate=2), GroupConv2D(8, 3, groups=4),
    GroupConv2D(8, 2, dilation_rate=2, groups=2), keras.layers.GlobalAveragePooling2D()])
model.compile("sgd", "mse")
x = np.random.default_rng(0).normal(size=(8, 9, 9, 8)).astype("float32")
loss = model.fit(x, x[:, 0, 0], epochs=3, verbose=0).history["loss"]
assert loss[-1] < loss[0], loss
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr


@given(
    st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3),
    st.sampled_from(["valid", "same"]), st.integers(1, 9), st.integers(1, 9),
)  # fmt: skip
@settings(max_examples=40)
def test_any_convolution_works_or_says_why(groups, multiple, kernel_size, strides, dilation, padding, channels, size):
    arguments = {"strides": strides, "padding": padding, "dilation_rate": dilation, "groups": groups}
    x = array(2, size, size + 1, channels)
    for kind, symbolic in itertools.product((GroupConv2D, LearnedGroupConv2D), (True, False)):
        try:
            layer = kind(groups * multiple, kernel_size, **arguments)
            if symbolic:
                shape = layer(keras.Input((size, size + 1, channels))).shape
            actual = numpy_of(layer(x))  # without a symbolic call before, it builds the layer
        except ValueError as error:
            message = str(error)
            bad_stride = strides > 1 and dilation > 1
            divisor = groups if kind is GroupConv2D else 4
            small = padding == "valid" and size < (kernel_size - 1) * dilation + 1
            assert bad_stride or channels % divisor or small, message
            assert any(word in message for word in ("Set", "Change", "Use")), message
            continue
        assert actual.shape[1:] == (shape if symbolic else layer.compute_output_shape(x.shape))[1:]
        kernel_groups = groups if kind is GroupConv2D else 1
        expected = reference_convolution(
            x, numpy_of(layer.kernel), pair(strides), padding, pair(dilation), kernel_groups
        )
        np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.parametrize("kind", [GroupConv2D, functools.partial(LearnedGroupConv2D, groups=1, condense_factor=1)])
@pytest.mark.parametrize(
    ("size", "kernel_size", "strides", "padding"),
    [((28, 1), 3, (1, 2), "same"), ((5, 2), (2, 3), (1, 3), "same"), ((8, 4), (3, 2), (1, 3), "valid")],
)
def test_images_of_one_channel_that_become_one_pixel_wide(kind, size, kernel_size, strides, padding):
    # TensorFlow's own op answers them with arbitrary memory, up to 1e34
    layer, x = kind(2, kernel_size, strides=strides, padding=padding), array(2, *size, 1)
    reference = functools.partial(reference_convolution, x, strides=strides, padding=padding, dilation=(1, 1), groups=1)
    with tf.GradientTape() as tape:
        outputs = layer(x)
        loss = ops.sum(outputs * (weights := array(*outputs.shape)))
    np.testing.assert_allclose(numpy_of(outputs), reference(numpy_of(layer.kernel)), atol=1e-5)
    # a convolution is linear in its kernel
    gradient = numpy_of(tape.gradient(loss, layer.kernel.value))
    for position in np.ndindex(gradient.shape):
        one = np.zeros_like(gradient)
        one[position] = 1
        np.testing.assert_allclose(gradient[position], np.sum(reference(one) * weights), atol=1e-4)


# ------------------------------------------------------------------------------------------------ index and shuffle


def test_index_and_shuffle_of_numbers_an_eye_can_check():
    x = np.arange(12, dtype="float32").reshape(2, 6)
    np.testing.assert_array_equal(numpy_of(ChannelIndex([5, 0, 0])(x)), [[5, 0, 0], [11, 6, 6]])
    np.testing.assert_array_equal(numpy_of(ChannelShuffle(3)(x)), [[0, 2, 4, 1, 3, 5], [6, 8, 10, 7, 9, 11]])
    np.testing.assert_array_equal(numpy_of(ChannelShuffle(2)(x))[0], [0, 3, 1, 4, 2, 5])


@given(st.integers(1, 5), st.integers(1, 5))
def test_shuffling_back_restores(groups, per_group):
    x = array(2, 3, groups * per_group)
    shuffled = ChannelShuffle(groups)(x)
    np.testing.assert_array_equal(numpy_of(ChannelShuffle(per_group)(shuffled)), x)


def test_loaded_indices_are_what_the_config_says(tmp_path):
    model = keras.Sequential([keras.Input((4,)), ChannelIndex([0, 1])])
    model.layers[0].set_weights([np.array([3, 2])])
    assert model.layers[0].get_config()["indices"] == [3, 2]
    np.testing.assert_array_equal(numpy_of(keras.models.clone_model(model)(array(1, 4))), array(1, 4)[:, [3, 2]])


@pytest.mark.parametrize("layer", [ChannelIndex([0, 1], name="l"), ChannelScatterAdd([0, 1, 0, 1], 2, name="l")])
@pytest.mark.parametrize("wrong", [4, -1])
def test_indices_beyond_the_channels_are_refused_on_load_and_before_export(layer, wrong, tmp_path):
    layer = type(layer).from_config(layer.get_config())
    model = keras.Sequential([keras.Input((4,)), layer])
    before = numpy_of(layer.indices)
    layer.set_weights([np.full(len(before), wrong)])
    model.save_weights(tmp_path / "wrong.weights.h5")
    message = rf"`indices` of layer 'l' must lie in \[0, [42]\).* and holds {wrong}\. Load weights"
    with pytest.raises(ValueError, match=message):
        export_tflite(model, tmp_path / "model.tflite")
    assert not (tmp_path / "model.tflite").exists()
    layer.set_weights([before])
    with pytest.raises(ValueError, match=message):
        model.load_weights(tmp_path / "wrong.weights.h5")
    np.testing.assert_array_equal(numpy_of(layer.indices), before)


@pytest.mark.parametrize("layer", [ChannelIndex([1, 0]), ChannelShuffle(2), ChannelScatterAdd([0, 1, 0, 1], 3)])
@pytest.mark.parametrize(("given", "out"), [("uint8", "uint8"), ("int32", "int32"), ("float64", "float32")])
def test_channels_are_moved_in_the_dtype_that_is_declared(layer, given, out):
    layer, image = type(layer).from_config(layer.get_config()), keras.Input((4,), dtype=given)
    model = keras.Model(image, layer(image))
    assert model.output.dtype == out
    assert keras.backend.standardize_dtype(model(np.ones((1, 4), given)).dtype) == out


# ---------------------------------------------------------------------------------------------- batch normalization


def both_norms(policy="float32", **arguments):
    norms = [kind(**arguments, dtype=policy) for kind in (BatchNormalization, keras.layers.BatchNormalization)]
    return norms


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"epsilon": 1e-5, "momentum": 0.9},
        {"epsilon": 1e-7},
        {"scale": False},
        {"center": False},
        {"axis": 3},
        {"axis": 1},
        {"trainable": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("shape", [(6, 5, 4, 3), (2, 1, 1, 3), (1, 1, 1, 3), (7, 3)], ids=str)
def test_batch_norm_equals_keras(arguments, shape):
    if arguments.get("axis") == 3 and len(shape) == 2:
        pytest.skip("no such axis")
    if arguments.get("epsilon") == 1e-7 and shape == (1, 1, 1, 3):
        pytest.skip("the variance is 0, and 1e-7 makes 3000-fold of Keras' own rounding")
    ours, theirs = both_norms(**arguments)
    rng = np.random.default_rng(0)
    for norm in (ours, theirs):
        norm.build(shape)
    start = [rng.uniform(0.5, 2, w.shape) for w in theirs.weights]
    for norm in (ours, theirs):
        norm.set_weights(start)
    x = tf.constant(rng.normal(3, 2, shape), "float32")
    target = tf.constant(rng.normal(size=shape), "float32")
    for training in (True, True, False):
        results = []
        for norm in (ours, theirs):
            with tf.GradientTape() as tape:
                tape.watch(x)
                outputs = norm(x, training=training)
                loss = tf.reduce_sum((outputs - target) ** 2)
            trained = [w.value for w in norm.trainable_weights]
            results.append([outputs, *tape.gradient(loss, [x, *trained]), *norm.weights])
        for a, b in zip(*results, strict=True):
            np.testing.assert_allclose(numpy_of(a), numpy_of(b), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("shape", [(6, 5, 4, 3), (3, 7, 5, 24), (3, 4, 4, 60), (2, 4, 4, 32)], ids=str)
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("compiled", [True, False])
def test_batch_norm_trains_like_keras_with_and_without_the_fused_op(monkeypatch, shape, fused, compiled):
    monkeypatch.setattr(normalization, "_is_fused_op_fast", lambda channels: fused)
    rng = np.random.default_rng(1)
    images, target = rng.normal(300, 2, shape).astype("float32"), rng.normal(size=shape).astype("float32")
    results = []
    for norm in both_norms(momentum=0.9, epsilon=1e-5):
        norm.build(shape)
        start = np.random.default_rng(2)
        norm.set_weights([start.uniform(0.5, 2, w.shape) for w in norm.weights])

        def step(x, norm=norm):
            with tf.GradientTape() as tape:
                tape.watch(x)
                outputs = norm(x, training=True)  # a ReLU that follows is merged into the last op
                loss = tf.reduce_sum(tf.nn.relu(outputs) * target)
            return [outputs, *tape.gradient(loss, [x, *(w.value for w in norm.trainable_weights)])]

        step = tf.function(step) if compiled else step
        results.append([*step(tf.constant(images)), *norm.weights])
    for a, b in zip(*results, strict=True):
        # means of 300 leave a deviation of 2 some five digits
        np.testing.assert_allclose(numpy_of(a), numpy_of(b), rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("fused", [True, False])
def test_batch_norm_has_forward_and_second_derivatives(monkeypatch, fused):
    monkeypatch.setattr(normalization, "_is_fused_op_fast", lambda channels: fused)
    images, direction = tf.constant(array(3, 4, 4, 5)), tf.constant(array(3, 4, 4, 5, seed=1))
    results = []
    for norm in both_norms():
        with tf.autodiff.ForwardAccumulator(images, direction) as accumulator:
            outputs = norm(images, training=True)
        with tf.GradientTape() as outer:
            outer.watch(images)
            with tf.GradientTape() as inner:
                inner.watch(images)
                loss = tf.reduce_sum(tf.sin(norm(images, training=True)))
            squares = tf.reduce_sum(inner.gradient(loss, images) ** 2)
        results.append([accumulator.jvp(outputs), outer.gradient(squares, images)])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(numpy_of(a), numpy_of(b), atol=2e-5)


@pytest.mark.parametrize("fused", [True, False])
def test_batch_norm_of_no_pixels_in_a_graph(monkeypatch, fused):
    monkeypatch.setattr(normalization, "_is_fused_op_fast", lambda channels: fused)
    norm = BatchNormalization()
    norm.build((None, 0, 4, 5))
    assert tf.function(norm)(tf.zeros((2, 0, 4, 5)), training=True).shape == (2, 0, 4, 5)


def test_which_batch_norms_the_fused_op_trains_fast(monkeypatch):
    def fast(channels, onednn, avx512):
        monkeypatch.setattr(normalization, "_runs_on_onednn", lambda: onednn)
        monkeypatch.setattr(normalization, "_processor_has_avx512", lambda: avx512)
        return normalization._is_fused_op_fast(channels)

    assert fast(24, onednn=False, avx512=False)  # an accelerator, ARM, or oneDNN switched off
    assert fast(32, onednn=True, avx512=True)
    assert not fast(24, onednn=True, avx512=True)
    assert not fast(32, onednn=True, avx512=False)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64", "float16", "bfloat16"])
def test_batch_norm_equals_keras_in_other_precisions(policy):
    ours, theirs = both_norms(policy)
    x = array(6, 4, 4, 3) * 2 + 3
    for training in (True, False):
        a, b = ours(x, training=training), theirs(x, training=training)
        assert a.dtype == b.dtype
        # rounded to 11 (8) bits, ours once and Keras' up to thrice
        tolerance = 1e-6 if policy == "float64" else 2**-6 if "bfloat16" in policy else 2**-9
        np.testing.assert_allclose(numpy_of(a), numpy_of(b), rtol=tolerance, atol=tolerance)
    statistics = 1e-5 if policy in ("float64", "mixed_float16", "mixed_bfloat16") else 3e-2
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a.astype("float32"), b.astype("float32"), rtol=statistics, atol=statistics)


def test_batch_norm_with_a_mask_equals_keras():
    ours, theirs = both_norms()
    x, mask = array(4, 3, 3, 2), np.random.default_rng(0).integers(0, 2, (4, 3, 3)).astype(bool)
    a, b = ours(x, training=True, mask=mask), theirs(x, training=True, mask=mask)
    np.testing.assert_allclose(numpy_of(a), numpy_of(b), atol=1e-5)


# --------------------------------------------------------------------------------------------------- masked weights


def test_dropped_inputs_get_no_gradient():
    for layer, x in ((LearnedGroupConv2D(4, 3, groups=2, use_bias=True), array(2, 5, 5, 8)),
                     (CondenseDense(3, 4), array(2, 8))):  # fmt: skip
        layer.build(x.shape)
        layer.condense_to(2)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x) ** 2)
        gradient = numpy_of(tape.gradient(loss, layer.kernel.value))
        mask = numpy_of(layer.mask)
        for f in range(gradient.shape[-1]):
            dropped = mask[f % layer.groups] == 0
            assert (gradient[..., dropped, f] == 0).all()
            assert (gradient[..., ~dropped, f] != 0).all()


OPTIMIZERS = {
    "SGD": lambda **more: keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True, weight_decay=1e-2, **more),
    "SGD momentum": lambda **more: keras.optimizers.SGD(0.05, momentum=0.9, **more),
    "Adam": lambda **more: keras.optimizers.Adam(0.01, amsgrad=True, **more),
    "AdamW": lambda **more: keras.optimizers.AdamW(0.01, weight_decay=0.1, **more),
    "RMSprop": lambda **more: keras.optimizers.RMSprop(0.01, momentum=0.9, centered=True, **more),
    "Adagrad": lambda **more: keras.optimizers.Adagrad(0.1, **more),
    "Adadelta": lambda **more: keras.optimizers.Adadelta(1.0, **more),
    "Adafactor": lambda **more: keras.optimizers.Adafactor(0.01, **more),
    "Adamax": lambda **more: keras.optimizers.Adamax(0.01, **more),
    "Ftrl": lambda **more: keras.optimizers.Ftrl(0.1, **more),
    "Ftrl regularised": lambda **more: keras.optimizers.Ftrl(
        0.1, l1_regularization_strength=1e-3, l2_regularization_strength=1e-3,
        l2_shrinkage_regularization_strength=1e-3, beta=0.1, **more),
    "Nadam": lambda **more: keras.optimizers.Nadam(0.01, **more),
    "Lamb": lambda **more: keras.optimizers.Lamb(0.01, **more),
    "Lion": lambda **more: keras.optimizers.Lion(0.003, weight_decay=0.1, **more),
    "LossScale": lambda **more: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01), **more),
}  # fmt: skip


def small_network():
    return keras.Sequential([
        keras.Input((4, 4, 8)),
        LearnedGroupConv2D(8, 1, condense_factor=4, group_lasso=1e-4, use_bias=True, kernel_regularizer="l2"),
        keras.layers.ReLU(),
        LearnedGroupConv2D(8, 3, groups=2, condense_factor=2, padding="same"),
        keras.layers.GlobalAveragePooling2D(),
        CondenseDense(3, kernel_constraint=keras.constraints.MaxNorm(2.0)),
    ])  # fmt: skip


# at the end: 6 of 8 inputs for 8 filters, 4 of 8 for 8 filters, 4 of 8 for 3 units
ALL_DROPPED = 6 * 8 + 4 * 8 + 4 * 3


class DroppedStayZero(keras.callbacks.Callback):
    """After every batch, raw weights that the mask dropped are exactly zero, and nothing is NaN."""

    def on_train_batch_end(self, batch, logs=None):
        check_zeros(self.model)


def check_zeros(model):
    zeros = 0
    for layer in model.layers:
        if hasattr(layer, "condense_to"):
            kernel, mask = layer.kernel.numpy(), layer.mask.numpy()
            assert np.isfinite(kernel).all()
            for f in range(kernel.shape[-1]):
                dropped = mask[f % layer.groups] == 0
                assert (kernel[..., dropped, f] == 0).all()
                zeros += int(dropped.sum())
    return zeros


def train_while_condensing(model, optimizer, batch_size=6, **more):
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), **more)
    x, y = array(18, 4, 4, 8), np.arange(18) % 3
    return model.fit(
        x, y, batch_size=batch_size, epochs=6, verbose=0, callbacks=[CondenseSchedule(), DroppedStayZero()]
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_dropped_weights_stay_zero_under(name):
    model = small_network()
    history = train_while_condensing(model, OPTIMIZERS[name]()).history
    assert check_zeros(model) == ALL_DROPPED
    assert all(layer.stage == layer.final_stage for layer in model.layers if hasattr(layer, "condense_to"))
    assert np.isfinite(history["loss"]).all()
    assert all(np.isfinite(w).all() for w in model.get_weights())


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        {"use_ema": True, "ema_momentum": 0.9},
        {"use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 4},
        {"gradient_accumulation_steps": 5},  # drops fall between two updates
        {"clipnorm": 0.5, "gradient_accumulation_steps": 2},
        {"global_clipnorm": 0.5, "weight_decay": 0.1},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["SGD momentum", "Adam"])
def test_dropped_weights_stay_zero_with(name, more, tmp_path):
    model = small_network()
    train_while_condensing(model, OPTIMIZERS[name](**more))
    assert check_zeros(model) == ALL_DROPPED
    model.save(tmp_path / "model.keras")
    assert check_zeros(keras.models.load_model(tmp_path / "model.keras")) == check_zeros(model)


@pytest.mark.slow
def test_dropped_weights_stay_zero_in_half_precision_with_loss_scaling():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = small_network()
        train_while_condensing(model, OPTIMIZERS["SGD"]())
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    finally:
        keras.config.set_dtype_policy("float32")
    assert check_zeros(model) == ALL_DROPPED


def test_an_optimizer_that_mixes_weights_revives_nothing_that_is_used_or_saved(tmp_path):
    model = small_network()
    model.compile(keras.optimizers.Muon(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = array(12, 4, 4, 8)
    model.fit(x, np.arange(12) % 3, batch_size=3, epochs=4, verbose=0, callbacks=[CondenseSchedule()])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert check_zeros(loaded) == ALL_DROPPED
    np.testing.assert_array_equal(numpy_of(loaded(x)), numpy_of(model(x)))


def test_saved_files_hold_zeros_whatever_the_variable_holds(tmp_path):
    model = small_network()
    layer = model.layers[0]
    layer.condense_to(3)
    layer.kernel.assign(layer.kernel + 1.0)
    x = array(2, 4, 4, 8)
    expected = numpy_of(model(x))
    for path in (tmp_path / "a.keras", tmp_path / "a.weights.h5"):
        if path.suffix == ".keras":
            model.save(path)
            loaded = keras.models.load_model(path)
        else:
            model.save_weights(path)
            loaded = small_network()
            loaded.load_weights(path)
        assert check_zeros(loaded) == 8 * 6
        np.testing.assert_array_equal(numpy_of(loaded(x)), expected)


# ------------------------------------------------------------------------------------------- state, and how it fails


def test_condense_to():
    layer = LearnedGroupConv2D(4, 1, groups=2, condense_factor=4)
    layer.build((None, 2, 2, 8))
    before = layer.kernel.numpy()
    assert layer.stage == 0
    assert layer.final_stage == 3
    assert not layer.condense_to(0)
    assert layer.condense_to(2)
    assert layer.stage == 2
    assert not layer.condense_to(1)
    assert not layer.condense_to(2)
    mask = layer.mask.numpy()
    np.testing.assert_array_equal(mask.sum(1), [4, 4])
    after = layer.kernel.numpy()
    np.testing.assert_array_equal(after[after != 0], before[after != 0])
    np.testing.assert_array_equal((after != 0)[0, 0], np.tile(mask.T, 2) > 0)


def test_condense_to_any_fraction():
    layer = LearnedGroupConv2D(4, 3, groups=2, pruned_fraction=0.3, drops_at=(0.2, 0.6))
    assert (layer.condense_factor, layer.final_stage) == (None, 2)
    layer.build((None, 3, 3, 10))
    kernel = layer.kernel.numpy()
    scores = np.abs(kernel).sum((0, 1))  # (inputs, filters)
    scores = np.stack([scores[:, g::2].sum(1) for g in range(2)])
    for stage, left in ((1, 8), (2, 7)):  # floor(10 * 0.85), 10 * 0.7
        assert layer.condense_to(stage)
        assert layer.stage == stage
        np.testing.assert_array_equal(layer.mask.numpy(), scores >= np.sort(scores, axis=1)[:, [10 - left]])
    np.testing.assert_array_equal(layer.kernel.numpy(), kernel * np.tile(layer.mask.numpy().T, 2))
    assert not layer.condense_to(2)
    with pytest.raises(ValueError, match=r"`stage` \(=3\) of layer .* must be an integer in \[0, 2\]\. Its"):
        layer.condense_to(3)


def test_condense_factors_are_what_they_are_by_default():
    assert LearnedGroupConv2D(4, 1).condense_factor == 4
    assert CondenseDense(3).condense_factor == 2
    assert LearnedGroupConv2D(4, 1, condense_factor=np.int64(8)).get_config()["condense_factor"] == 8


@pytest.mark.parametrize("layer", [LearnedGroupConv2D(4, 1, condense_factor=8), CondenseDense(3)])
def test_configurations_without_a_fraction_of_their_own_make_the_same_layer(layer):
    config = layer.get_config()
    shorter = {name: value for name, value in config.items() if name not in ("pruned_fraction", "drops_at")}
    assert type(layer).from_config(shorter).get_config() == config


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_condensing_keeps_what_is_left_to_the_last_bit(dtype):
    layer = LearnedGroupConv2D(4, 1, dtype=dtype)
    layer.build((None, 2, 2, 8))
    before = ops.convert_to_numpy(layer.kernel).copy()
    layer.condense_to(3)
    after = ops.convert_to_numpy(layer.kernel)
    assert layer.stage == 3
    assert (after[after != 0] == before[after != 0]).all()


@pytest.mark.parametrize("stage", [-1, 4, 1.5, "2", None])
def test_condense_to_refuses(stage):
    layer = LearnedGroupConv2D(4, 1, name="conv")
    layer.build((None, 2, 2, 8))
    with pytest.raises(ValueError, match=r"`stage` \(=.*\) of layer 'conv' must be an integer in \[0, 3\]\. Its"):
        layer.condense_to(stage)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_diverged_kernel_is_refused_and_left(bad):
    layer = LearnedGroupConv2D(4, 1, name="conv")
    layer.build((None, 2, 2, 8))
    kernel = layer.kernel.numpy()
    kernel[0, 0, 1, 2] = bad
    layer.kernel.assign(kernel)
    with pytest.raises(ValueError, match=r"kernel of layer 'conv' must be finite .* Lower the learning rate"):
        layer.condense_to(1)
    assert layer.stage == 0
    np.testing.assert_array_equal(layer.kernel.numpy(), kernel)


def test_an_unbuilt_layer_has_no_stage():
    for use in (lambda layer: layer.stage, lambda layer: layer.condense_to(1),
                lambda layer: layer.load_own_variables({"kernel": 0, "mask": 0})):  # fmt: skip
        with pytest.raises(ValueError, match=r"Layer 'conv' must be built .* Call the layer"):
            use(LearnedGroupConv2D(4, 1, name="conv"))


def test_weights_of_another_architecture_are_refused(tmp_path):
    with_bias = keras.Sequential([keras.Input((2, 2, 8)), LearnedGroupConv2D(4, 1, use_bias=True, name="conv")])
    with_bias.save_weights(tmp_path / "a.weights.h5")
    without = keras.Sequential([keras.Input((2, 2, 8)), LearnedGroupConv2D(4, 1, name="conv")])
    with pytest.raises(ValueError, match=r"'conv' expects the weights \['kernel', 'mask'\], and the file holds"):
        without.load_weights(tmp_path / "a.weights.h5")
    narrow = keras.Sequential([keras.Input((2, 2, 4)), LearnedGroupConv2D(4, 1, use_bias=True, name="conv")])
    with pytest.raises(ValueError, match="shape"):
        narrow.load_weights(tmp_path / "a.weights.h5")


def test_group_lasso_is_added_while_training_until_the_last_stage():
    layer = LearnedGroupConv2D(8, 1, group_lasso=0.01)
    x = array(1, 2, 2, 8)
    layer(x, training=False)
    assert not layer.losses
    for stage in range(3):
        layer.condense_to(stage)
        layer(x, training=True)
        assert len(layer.losses) == 1
        assert float(layer.losses[0]) == pytest.approx(0.01 * float(layer.lasso()))
        assert float(layer.lasso()) > 1
    layer.condense_to(3)
    layer(x, training=True)
    assert float(layer.losses[0]) == float(layer.lasso()) == 0


def test_group_lasso_ends_with_the_last_of_any_drops():
    layer = LearnedGroupConv2D(4, 1, groups=1, group_lasso=0.01, pruned_fraction=0.3, drops_at=(0.2, 0.6))
    layer.build((None, 2, 2, 7))
    for stage in range(2):
        layer.condense_to(stage)
        assert float(layer.lasso()) > 1
    layer.condense_to(2)
    assert float(layer.lasso()) == 0


BAD_ARGUMENTS = [
    (LearnedGroupConv2D, {"filters": 0, "kernel_size": 1}, r"`filters` \(=0\) must be a positive integer. Give"),
    (LearnedGroupConv2D, {"filters": 4.0, "kernel_size": 1}, r"`filters` \(=4.0\) must be a positive integer"),
    (LearnedGroupConv2D, {"filters": 4, "kernel_size": 0}, r"`kernel_size` \(=0\) must be a positive .* Give one"),
    (GroupConv2D, {"filters": 4, "kernel_size": (1, 2, 3)}, r"`kernel_size` \(=\(1, 2, 3\)\) must be one or two"),
    (GroupConv2D, {"filters": 4, "kernel_size": np.array([3, 3])}, r"`kernel_size` \(=array.* must be a positive"),
    (GroupConv2D, {"filters": 4, "kernel_size": 3, "strides": -1}, r"`strides` \(=-1\)"),
    (GroupConv2D, {"filters": 4, "kernel_size": 3, "dilation_rate": 0}, r"`dilation_rate` \(=0\)"),
    (GroupConv2D, {"filters": 4, "kernel_size": 3, "strides": 2, "dilation_rate": 2}, "must not both be above 1. Set"),
    (GroupConv2D, {"filters": 4, "kernel_size": 3, "padding": "causal"}, r"`padding` \(='causal'\) must be one of"),
    (GroupConv2D, {"filters": 4, "kernel_size": 3, "data_format": "channels_first"}, "Transpose channels-first images"),
    (GroupConv2D, {"filters": 6, "kernel_size": 3, "groups": 4}, r"`filters` \(=6\) must be divisible by `groups`"),
    (LearnedGroupConv2D, {"filters": 6, "kernel_size": 3}, r"`filters` \(=6\) must be divisible by `groups` \(=4\)"),
    (LearnedGroupConv2D, {"filters": 4, "kernel_size": 1, "groups": True}, r"`groups` \(=True\)"),
    (LearnedGroupConv2D, {"filters": 4, "kernel_size": 1, "condense_factor": 0}, r"`condense_factor` \(=0\).* One"),
    (
        LearnedGroupConv2D,
        {"filters": 4, "kernel_size": 1, "pruned_fraction": 0.3},
        r"`drops_at` \(=None\) must be a tuple of ascending numbers .*\. Use \(1 / 6, 1 / 3\)",
    ),
    (
        LearnedGroupConv2D,
        {"filters": 4, "kernel_size": 1, "pruned_fraction": 1, "drops_at": (0.5,)},
        r"`pruned_fraction` \(=1\) must be a number in \[0, 1\)\. Use 0\.3",
    ),
    (
        LearnedGroupConv2D,
        {"filters": 4, "kernel_size": 1, "condense_factor": 4, "pruned_fraction": 0.3, "drops_at": (0.5,)},
        r"`condense_factor` \(=4\) must be left out beside `pruned_fraction` \(=0\.3\), .*\. Use one",
    ),
    (CondenseDense, {"units": 4, "drops_at": (0.5, 0.5)}, r"`drops_at` \(=\(0\.5, 0\.5\)\) must be a tuple"),
    (LearnedGroupConv2D, {"filters": 4, "kernel_size": 1, "group_lasso": -1}, r"`group_lasso` \(=-1\).* Use 0"),
    (LearnedGroupConv2D, {"filters": 4, "kernel_size": 1, "group_lasso": float("nan")}, r"`group_lasso` \(=nan\)"),
    (LearnedGroupConv2D, {"filters": 4, "kernel_size": 1, "group_lasso": "1"}, r"`group_lasso` \(='1'\)"),
    (CondenseDense, {"units": None}, r"`units` \(=None\) must be a positive integer"),
    (CondenseDense, {"units": 4, "condense_factor": 1.5}, r"`condense_factor` \(=1.5\)"),
    (ChannelIndex, {"indices": []}, r"`indices` \(=\[\]\) must be a non-empty sequence .* Give the channels"),
    (ChannelIndex, {"indices": [0, -1]}, "none negative"),
    (ChannelIndex, {"indices": [0.5]}, "sequence of integers"),
    (ChannelIndex, {"indices": [[0], [1]]}, "sequence of integers"),
    (ChannelIndex, {"indices": [[0], [1, 2]]}, "sequence of integers"),
    (ChannelShuffle, {"groups": 0}, r"`groups` \(=0\) must be a positive integer"),
]


@pytest.mark.parametrize(("layer", "arguments", "message"), BAD_ARGUMENTS)
def test_bad_arguments(layer, arguments, message):
    with pytest.raises(ValueError, match=message):
        layer(**arguments)


BAD_INPUTS = [
    (LearnedGroupConv2D(4, 1, name="l"), (4, 4, 6), r"`in_channels` \(=6\) must be divisible by `condense_factor`"),
    (LearnedGroupConv2D(4, 1, name="l"), (4, 4, None), "channels known. Give `keras.Input` a full `shape`"),
    (GroupConv2D(4, 1, groups=4, name="l"), (4, 4, 6), r"`in_channels` \(=6\) must be divisible by `groups` .*'l'"),
    (GroupConv2D(4, 5, name="l"), (4, 4, 6), r"too small for its kernel of \(5, 5\) .* Use larger images"),
    (CondenseDense(4, name="l"), (7,), r"`in_channels` \(=7\) must be divisible by `condense_factor` \(=2\)"),
    (CondenseDense(4, name="l"), (None,), "last axis to be known"),
    (ChannelIndex([0, 4], name="l"), (4,), "reach channel 4, and its input .* has 4 channels. Choose"),
    (ChannelIndex([2**32 + 1], name="l"), (4,), "reach channel 4294967297"),
    (ChannelShuffle(3, name="l"), (4,), r"`channels` \(=4\) must be divisible by `groups` \(=3\). Change layer 'l'"),
    (ChannelShuffle(3, name="l"), (None,), "to be known"),
]  # fmt: skip


@pytest.mark.parametrize(("layer", "shape", "message"), BAD_INPUTS)
def test_inputs_that_do_not_fit(layer, shape, message):
    with pytest.raises(ValueError, match=message):
        type(layer).from_config(layer.get_config())(keras.Input(shape))


@pytest.mark.parametrize("kind", [LearnedGroupConv2D, GroupConv2D])
@pytest.mark.parametrize("size", [1, 3, 4])
def test_arrays_smaller_than_the_kernel_are_refused(kind, size):
    with pytest.raises(ValueError, match=r"too small for its kernel of \(5, 5\) .* Use larger images"):
        kind(4, 5)(array(1, size, size, 4))
    image = keras.Input((None, None, 4))
    with pytest.raises(ValueError, match="too small for its kernel"):
        keras.Model(image, kind(4, 5)(image))(array(1, size, size, 4))


@pytest.mark.parametrize("kind", [LearnedGroupConv2D, GroupConv2D])
@pytest.mark.parametrize("dtype", ["uint8", "int32", "float64"])
def test_images_of_any_dtype_are_cast(kind, dtype):
    layer, images = kind(4, 3), np.arange(100).reshape(1, 5, 5, 4)
    outputs = layer(images.astype(dtype))
    assert keras.backend.standardize_dtype(outputs.dtype) == "float32"
    np.testing.assert_array_equal(numpy_of(outputs), numpy_of(layer(images.astype("float32"))))


@pytest.mark.parametrize(
    "layer",
    [LearnedGroupConv2D(4, 1), CondenseDense(4), SparseFeatureReactivation(8, groups=2, condense_factor=2)],
    ids=["convolution", "dense", "reactivation"],
)
def test_images_as_bytes_are_cast_condensed_and_exported(layer):
    image = keras.Input((3, 3, 8), dtype="uint8")
    model = keras.Model(image, layer(image))
    layer.condense_to(layer.final_stage)
    x = np.arange(72, dtype="uint8").reshape(1, 3, 3, 8)
    expected = numpy_of(model(x))
    np.testing.assert_allclose(numpy_of(condense(model)(x)), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(run_tflite(export_tflite(model), x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layer", [LearnedGroupConv2D(4, 1), GroupConv2D(4, 1)])
def test_images_need_four_axes(layer):
    with pytest.raises(ValueError, match="ndim=4"):
        layer(array(2, 8))


def test_channels_first_as_the_global_setting_is_refused():
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(ValueError, match=r"`data_format` .* Transpose channels-first"):
            GroupConv2D(4, 1)
    finally:
        keras.config.set_image_data_format("channels_last")


def test_the_papers_name_is_the_same_layer():
    assert LearnedGroupConv is LearnedGroupConv2D
