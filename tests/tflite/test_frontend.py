"""Keras models read into graphs: what the graph computes is what the model computes."""

import keras
import pytest
from frontend_checks import CONVOLUTION, LAYER, check, model_of
from keras import layers, ops
from keras_versions import since_keras

from keras_condense.layers import BatchNormalization, ChannelIndex, ChannelScatterAdd, ChannelShuffle, GroupConv2D
from keras_condense.tflite.operators import explicit_padding

tf = pytest.importorskip("tensorflow")


# --- every layer that is read --------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", [layers.Conv2D, GroupConv2D])
@pytest.mark.parametrize(
    ("shape", "arguments"),
    [
        ((8, 8, 4), {"kernel_size": 3}),
        ((8, 8, 4), {"kernel_size": 3, "padding": "same"}),
        ((8, 8, 4), {"kernel_size": 2, "padding": "same"}),
        ((8, 9, 4), {"kernel_size": 3, "padding": "same", "strides": 2}),
        ((7, 8, 4), {"kernel_size": 3, "padding": "valid", "strides": 2}),
        ((9, 8, 4), {"kernel_size": (5, 2), "padding": "same", "strides": 3}),
        ((8, 8, 4), {"kernel_size": 1, "padding": "same", "strides": 2}),
        ((9, 9, 4), {"kernel_size": 2, "padding": "same", "strides": 4}),
        ((9, 10, 4), {"kernel_size": 3, "padding": "same", "strides": (1, 2)}),
        ((9, 10, 4), {"kernel_size": 3, "padding": "same", "dilation_rate": 2}),
        ((9, 10, 4), {"kernel_size": 3, "padding": "valid", "dilation_rate": (2, 3)}),
        ((9, 8, 4), {"kernel_size": 3, "padding": "same", "groups": 2}),
        ((8, 8, 4), {"kernel_size": 3, "padding": "same", "groups": 4, "strides": 2, "use_bias": False}),
        ((8, 8, 4), {"kernel_size": 1, "groups": 2, "use_bias": True}),
    ],
)
def test_convolution(kind, shape, arguments):
    check(model_of(shape, kind(8, **arguments)), CONVOLUTION)


@pytest.mark.parametrize(
    ("activation", "following"),
    [
        (None, []),
        ("relu", ["relu"]),
        ("softmax", LAYER),
        ("relu6", ["relu"]),
        ("sigmoid", ["sigmoid"]),
        ("silu", ["swish"]),
        ("hard_sigmoid", ["affine", "relu", "affine"]),
        ("hard_swish", ["hard_swish"]),
        (layers.ReLU(6.0), LAYER),
        (lambda x: ops.tanh(x) + 1, LAYER),
    ],
)
def test_activations_of_layers_come_behind(activation, following):
    check(model_of((6, 6, 4), layers.Conv2D(8, 3, activation=activation)), [*CONVOLUTION, *following])
    check(model_of((6, 6, 4), layers.DepthwiseConv2D(3, activation=activation)), ["depthwise", *following])
    check(model_of((6,), layers.Dense(8, activation=activation)), ["dense", *following])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"kernel_size": 3}, ["depthwise"]),
        ({"kernel_size": 3, "padding": "same", "strides": 2, "use_bias": False}, ["depthwise"]),
        ({"kernel_size": (5, 2), "padding": "same"}, ["depthwise"]),
        ({"kernel_size": 3, "depth_multiplier": 2}, LAYER),
        ({"kernel_size": 3, "dilation_rate": 2}, LAYER),
    ],
)
def test_depthwise_convolution(arguments, expected):
    check(model_of((9, 8, 4), layers.DepthwiseConv2D(**arguments)), expected)


@pytest.mark.parametrize(
    ("shape", "layer", "expected"),
    [
        ((4, 5, 6), lambda: layers.BatchNormalization(), ["affine"]),
        ((4, 5, 6), lambda: layers.BatchNormalization(axis=3, epsilon=0.3), ["affine"]),
        ((4, 5, 6), lambda: layers.BatchNormalization(scale=False), ["affine"]),
        ((4, 5, 6), lambda: layers.BatchNormalization(center=False), ["affine"]),
        ((4, 5, 6), lambda: layers.BatchNormalization(scale=False, center=False), ["affine"]),
        ((4, 5, 6), lambda: BatchNormalization(epsilon=1e-5), ["affine"]),
        ((4, 5, 6), lambda: layers.BatchNormalization(axis=1), LAYER),
        ((6,), lambda: layers.BatchNormalization(), LAYER),
        ((5, 6), lambda: layers.BatchNormalization(), LAYER),
        ((4, 5, 6), lambda: ChannelIndex([5, 0, 0, 2]), ["pick_channels"]),
        ((4, 5, 6), lambda: ChannelIndex([0, 1]), ["pick_channels"]),
        ((4, 5, 6), lambda: ChannelIndex([0, 2, 1, 3]), ["pick_channels"]),
        ((4, 5, 6), lambda: ChannelIndex([0, 2, 4, 1, 3, 5]), ["pick_channels"]),
        ((4, 5, 6), lambda: ChannelIndex([3]), ["pick_channels"]),
        ((6,), lambda: ChannelIndex([5, 0, 0, 2]), ["pick_channels"]),
        ((4, 5, 6), lambda: ChannelScatterAdd([3, 0, 3, 6, 1, 1], 8), CONVOLUTION),
        ((6,), lambda: ChannelScatterAdd([3, 0, 3, 6, 1, 1], 8), LAYER),
        ((4, 5, 6), lambda: ChannelShuffle(3), ["pick_channels"]),
        ((4, 5, 6), lambda: ChannelShuffle(1), ["pick_channels"]),
        ((4, 5, 6), lambda: ChannelShuffle(6), ["pick_channels"]),
        ((6,), lambda: ChannelShuffle(2), ["pick_channels"]),
        ((6, 9, 4), lambda: layers.AveragePooling2D((2, 3)), ["average_pool"]),
        ((7, 7, 4), lambda: layers.AveragePooling2D(2), ["average_pool"]),
        ((7, 7, 4), lambda: layers.AveragePooling2D(2, padding="same"), LAYER),
        ((7, 7, 4), lambda: layers.AveragePooling2D(3, strides=2), LAYER),
        ((7, 7, 4), lambda: layers.MaxPooling2D(2), LAYER),
        ((7, 6, 4), lambda: layers.GlobalAveragePooling2D(), ["mean"]),
        ((7, 6, 4), lambda: layers.GlobalAveragePooling2D(keepdims=True), ["mean"]),
        ((7, 6, 4), lambda: layers.GlobalAveragePooling2D(data_format="channels_first"), LAYER),
        ((6,), lambda: layers.Dense(3), ["dense"]),
        ((6,), lambda: layers.Dense(3, use_bias=False), ["dense"]),
        ((4, 5, 6), lambda: layers.Dense(3, activation="relu"), LAYER),
        ((4, 5, 6), lambda: layers.ReLU(), ["relu"]),
        ((6,), lambda: layers.ReLU(), ["relu"]),
        ((4, 5, 6), lambda: layers.ReLU(max_value=6.0), ["relu"]),
        ((4, 5, 6), lambda: layers.ReLU(max_value=2.0), LAYER),
        ((4, 5, 6), lambda: layers.ReLU(negative_slope=0.5), LAYER),
        ((4, 5, 6), lambda: layers.ReLU(threshold=0.5), LAYER),
        ((4, 5, 6), lambda: layers.Activation("relu"), ["relu"]),
        ((4, 5, 6), lambda: layers.Activation("hard_silu"), ["hard_swish"]),
        ((6,), lambda: layers.Activation("hard_swish"), ["hard_swish"]),
        ((4, 5, 6), lambda: layers.Activation("softmax"), LAYER),
        ((4, 5, 6), lambda: layers.Activation("linear"), LAYER),
        ((4, 5, 6), lambda: layers.ZeroPadding2D(2), ["pad"]),
        ((4, 5, 6), lambda: layers.ZeroPadding2D((1, 2)), ["pad"]),
        ((4, 5, 6), lambda: layers.ZeroPadding2D(((0, 1), (2, 3))), ["pad"]),
        ((4, 5, 6), lambda: layers.Flatten(), ["reshape"]),
        ((4, 5, 6), lambda: layers.Reshape((2, 60)), ["reshape"]),
        ((4, 5, 6), lambda: layers.Reshape((-1, 3, 10)), ["reshape"]),
        ((4, 5, 6), lambda: layers.Rescaling(1 / 127.5, offset=-1), ["affine"]),
        ((4, 5, 6), lambda: layers.Rescaling([1.0, 2.0, 0.5, -1.0, 3.0, 0.25]), ["affine"]),
        ((6,), lambda: layers.Rescaling(2.0), LAYER),
        ((4, 5, 2), lambda: layers.Normalization(mean=[0.5, -1.0], variance=[2.0, 1e-20]), ["affine"]),
        ((4, 5, 2), lambda: layers.Normalization(axis=None, mean=0.5, variance=2.0), ["affine"]),
        ((4, 5, 2), lambda: layers.Normalization(mean=[0.5, -1.0], variance=[2.0, 3.0], invert=True), LAYER),
        pytest.param(
            *((4, 5, 2), lambda: layers.Normalization(axis=1, mean=[0.0] * 4, variance=[1.0] * 4), LAYER),
            marks=since_keras("3.14", "can not build it"),
        ),
        ((6, 5, 4), lambda: layers.SeparableConv2D(7, 3, padding="same", strides=2), ["depthwise", *CONVOLUTION]),
        ((6, 5, 4), lambda: layers.SeparableConv2D(7, 3, activation="relu"), ["depthwise", *CONVOLUTION, "relu"]),
        ((6, 5, 4), lambda: layers.SeparableConv2D(7, 3, depth_multiplier=2), LAYER),
        ((4, 5, 6), lambda: layers.Activation("relu6"), ["relu"]),
        ((6,), lambda: layers.Activation("silu"), ["swish"]),
        ((4, 5, 6), lambda: layers.Activation("hard_sigmoid"), ["affine", "relu", "affine"]),
        ((4, 5, 6), lambda: layers.Conv2DTranspose(3, 3, strides=2), LAYER),
        ((4, 5, 6), lambda: layers.LayerNormalization(), LAYER),
    ],
)
def test_layer(shape, layer, expected):
    check(model_of(shape, layer()), expected)


@pytest.mark.parametrize(
    ("shapes", "layer", "expected"),
    [
        ([(4, 5, 2), (4, 5, 3), (4, 5, 1)], lambda: layers.Concatenate(), ["concatenate_channels"]),
        ([(4, 5, 2), (4, 5, 3)], lambda: layers.Concatenate(axis=3), ["concatenate_channels"]),
        ([(4, 5, 2), (4, 3, 2)], lambda: layers.Concatenate(axis=2), LAYER),
        ([(4, 5, 2), (3, 5, 2)], lambda: layers.Concatenate(axis=1), LAYER),
        ([(4, 5, 2), (4, 3, 2)], lambda: layers.Concatenate(axis=-2), LAYER),
        ([(4,), (3,)], lambda: layers.Concatenate(), ["concatenate_channels"]),
        ([(4, 5, 2)] * 2, lambda: layers.Add(), ["add"]),
        ([(4, 5, 2)] * 3, lambda: layers.Add(), ["add"]),
        ([(4, 5, 2), (1, 1, 2)], lambda: layers.Add(), LAYER),  # broadcasts
        ([(4, 5, 2), (2,)], lambda: layers.Add(), LAYER),
        ([(4, 5, 2)] * 2, lambda: layers.Multiply(), ["multiply"]),
        ([(4, 5, 2), (1, 1, 2)], lambda: layers.Multiply(), ["multiply"]),
        ([(1, 1, 2), (4, 5, 2)], lambda: layers.Multiply(), ["multiply"]),
        ([(4, 5, 2), (4, 1, 2)], lambda: layers.Multiply(), LAYER),
        ([(4, 5, 2)] * 3, lambda: layers.Multiply(), LAYER),
        ([(4, 5, 2)] * 2, lambda: layers.Subtract(), LAYER),
    ],
)
def test_layer_of_several_inputs(shapes, layer, expected):
    check(model_of(shapes, layer()), expected)


def test_same_tensor_twice():
    check(model_of((4, 4, 2), lambda x: layers.Add()([x, x])), ["add"])
    check(model_of((4, 4, 2), lambda x: layers.Concatenate()([x, x])), ["concatenate_channels"])
    check(model_of((4, 4, 2), lambda x: layers.Multiply()([x, x])), ["multiply"])


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("size", [1, 4, 7])
def test_explicit_padding_gives_keras_output_sizes(size, padding):
    for kernel, stride, dilation in [(1, 1, 1), (1, 3, 1), (2, 1, 1), (3, 1, 2), (3, 2, 1), (5, 4, 1)]:
        if padding == "valid" and size < (kernel - 1) * dilation + 1:
            continue
        layer = layers.Conv2D(1, (kernel, 1), strides=(stride, 1), dilation_rate=(dilation, 1), padding=padding)
        before, after = explicit_padding(size, kernel, stride, dilation, padding)
        expected = layer.compute_output_shape((1, size, 1, 1))[1]
        assert (size + before + after - (kernel - 1) * dilation - 1) // stride + 1 == expected
        assert 0 <= after - before <= 1


# --- what leaves no trace ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.Dropout(0.5),
        lambda: layers.SpatialDropout2D(0.5),
        lambda: layers.GaussianDropout(0.5),
        lambda: layers.GaussianNoise(0.5),
        lambda: layers.AlphaDropout(0.5),
        lambda: layers.ActivityRegularization(0.5),
        lambda: layers.Identity(),
    ],
)
def test_layers_for_training_are_left_out(layer):
    check(model_of((4, 4, 2), lambda x: layers.ReLU()(layer()(x))), ["relu"])
    check(model_of((4, 4, 2), lambda x: layer()(layers.ReLU()(x))), ["relu"])


def test_identity_of_several_tensors():
    check(
        model_of([(4,), (3,)], lambda inputs: layers.Concatenate()(layers.Identity()(inputs))), ["concatenate_channels"]
    )


def test_dropout_called_as_in_training_is_left_out_as_keras_does():
    check(model_of((4, 4, 2), lambda x: layers.Dropout(0.5)(x, training=True)), [])


class Doubled(layers.Dropout):
    def call(self, inputs, training=False):
        return 2 * inputs


class Shifted(layers.Conv2D):
    def call(self, inputs):
        return super().call(inputs) + 1


def test_subclasses_of_known_layers_are_called():
    check(model_of((4, 4, 2), Doubled(0.5)), LAYER)
    check(model_of((4, 4, 2), Shifted(3, 2)), LAYER)


# --- layers that are called as they are ----------------------------------------------------------------------------
class Halves(layers.Layer):
    """Two outputs of different sizes."""

    def call(self, inputs):
        return inputs[..., :1], inputs[..., 1:] * 2


class Scaled(layers.Layer):
    """A tensor that comes by keyword, a number, and a behaviour that differs in training."""

    def call(self, inputs, other=None, factor=1.0, training=None):
        return inputs * factor + other["by"] + (100 if training else 0)


def test_layer_with_several_outputs():
    check(model_of((4, 4, 3), lambda x: Halves()(x)), ["layer", "layer"])
    check(model_of((4, 4, 3), lambda x: layers.ReLU()(Halves()(x)[1])), ["layer", "relu"])


def test_layer_with_keywords():
    check(model_of([(4, 4, 3), (4, 4, 3)], lambda i: Scaled()(i[0], other={"by": i[1]}, factor=3.0)), LAYER)
    check(model_of([(4, 4, 3), (4, 4, 3)], lambda i: Scaled()(i[0], other={"by": i[1]}, training=True)), LAYER)


def test_plain_operations():
    check(model_of((4, 4, 3), lambda x: x * 2 + x), ["affine", "layer"])
    check(model_of((4, 4, 3), lambda x: (3.0 + x) * 0.5), ["affine"] * 2)
    check(model_of((4,), lambda x: x + 3.0), LAYER)
    check(model_of((4, 4, 3), lambda x: 1 - x), LAYER)
    check(model_of((4, 4, 3), lambda x: ops.concatenate([x, ops.sigmoid(x)], axis=-1)), LAYER * 2)
    check(model_of((4, 4, 3), lambda x: x[:, 1:, :, ::2]), LAYER)
    check(model_of((4, 4, 3), lambda x: ops.split(x, 3, axis=-1)), LAYER * 3)
    check(model_of((4, 4, 3), lambda x: ops.mean(x, axis=(1, 2), keepdims=True) * x), LAYER * 2)


def test_casts_are_left_to_keras():
    inputs = keras.Input((4, 4, 3), dtype="uint8")
    other = keras.Input((4, 4, 3))
    check(keras.Model(inputs, layers.Rescaling(1 / 255)(inputs)), LAYER)
    check(keras.Model([inputs, other], layers.Concatenate()([inputs, other])), LAYER)
    check(keras.Model([inputs, other], layers.Add()([inputs, other])), LAYER)
    check(keras.Model(inputs, layers.BatchNormalization()(inputs)), LAYER)


def test_masks_reach_the_layers_that_read_them():
    inputs = keras.Input((6,), dtype="int32")
    embedded = layers.Embedding(5, 4, mask_zero=True)(inputs)
    # the embedding, the comparison that makes the mask, and what follows
    check(keras.Model(inputs, layers.LSTM(3)(layers.ReLU()(embedded))), LAYER * 4)
    check(keras.Model(inputs, layers.LSTM(3)(layers.Dropout(0.5)(embedded))), LAYER * 3)


def test_random_layers_are_quiet_in_inference():
    check(model_of((8, 8, 3), layers.RandomFlip()), LAYER)
