"""Convolutions against loops, in every way that a backend computes them."""

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
from reference_convolutions import CONVOLUTIONS, pair, reference_convolution
from tensors import array, numpy_of

from keras_condense.layers import (
    CondenseDense,
    GroupConv2D,
    LearnedGroupConv2D,
    grouped_convolution,
)

pytestmark = pytest.mark.slow  # all of it, together


tf = pytest.importorskip("tensorflow")


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
