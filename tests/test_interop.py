"""Networks and layers as models of tf_keras and back: their outputs."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import ops
from networks import NETWORKS
from random_networks import inputs_of, random_program
from random_networks.settings import PLAIN
from twins import assert_same, names, outputs, there_and_back, with_statistics

import keras_condense as kc

pytest.importorskip("tf_keras")

L, K = keras.layers, kc.layers


# --- whole networks --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", [1, 7, 8, 13, 17, 29])
def test_random_networks(seed):
    model = kc.condense(dataclasses.replace(random_program(seed), setting=PLAIN).build())
    there_and_back(model, inputs_of(model, seed))


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "mobilenet"])  # is Keras' own
def test_networks_of_this_package(name):
    side = NETWORKS[name].side
    model = with_statistics(NETWORKS[name].build(input_shape=(side, side, 3), classes=5, weights=None))
    small = kc.condense(model, finish=True)
    twin = kc.interop.to_tf_keras(small)
    assert_same(small, twin, inputs_of(small))
    assert set(names(twin)) >= {layer.name for layer in small.layers}


def small_resnet(**arguments):
    from keras.src.applications import resnet

    def stacks(x):
        return resnet.stack_residual_blocks_v1(x, 8, 2, name="conv2")

    return resnet.ResNet(stacks, False, True, weights_name="small_resnet", **arguments)


def small_densenet(**arguments):
    from keras.src.applications import densenet

    return densenet.DenseNet([1, 2, 1, 1], **arguments)


@pytest.mark.parametrize(
    "build", [keras.applications.MobileNetV2, keras.applications.MobileNetV3Small, small_resnet, small_densenet]
)
def test_networks_of_keras(build):
    model = with_statistics(build(weights=None, input_shape=(64, 64, 3), classes=5))
    assert_same(
        model, kc.interop.to_tf_keras(model), [255 * np.random.default_rng(0).random((1, 64, 64, 3), "float32")]
    )


@pytest.mark.slow
def test_efficientnet():
    model = with_statistics(keras.applications.EfficientNetB0(weights=None, input_shape=(64, 64, 3), classes=5))
    assert_same(
        model, kc.interop.to_tf_keras(model), [255 * np.random.default_rng(0).random((1, 64, 64, 3), "float32")]
    )


# --- layers ----------------------------------------------------------------------------------------------------------
IMAGE_LAYERS = [
    L.Conv2D(6, 3, strides=2, padding="same", groups=2, activation="hard_silu"),
    L.Conv2D(6, (1, 3), dilation_rate=2, padding="same", activation="leaky_relu"),
    L.Conv2DTranspose(5, 3, strides=2, padding="same", activation="gelu"),
    L.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2, activation="relu6"),
    L.SeparableConv2D(6, 3, padding="same", depth_multiplier=2, activation="silu"),
    L.Dense(3, activation="hard_sigmoid"),
    L.BatchNormalization(epsilon=1e-5, momentum=0.9, scale=False),
    L.LayerNormalization(epsilon=1e-6),
    L.GroupNormalization(2),
    L.UnitNormalization(),
    L.Normalization(mean=[0.1, 0.2, 0.3, 0.4], variance=[1.0, 2.0, 3.0, 4.0]),
    L.Rescaling(0.5, offset=[0.1, 0.2, 0.3, 0.4]),
    L.Resizing(5, 7, interpolation="bilinear"),
    L.ReLU(max_value=2.0, negative_slope=0.1, threshold=0.3),
    L.LeakyReLU(negative_slope=0.05),
    L.PReLU(shared_axes=[1, 2], alpha_initializer="ones"),
    L.ELU(0.7),
    L.Softmax(axis=1),
    L.ZeroPadding2D(((1, 0), (2, 1))),
    L.Cropping2D(((1, 0), (2, 1))),
    L.UpSampling2D((2, 3)),
    L.UpSampling2D(2, interpolation="bilinear"),
    L.MaxPooling2D(3, strides=2, padding="same"),
    L.AveragePooling2D(3, strides=2, padding="same"),
    L.GlobalAveragePooling2D(keepdims=True),
    L.GlobalMaxPooling2D(),
    L.Flatten(),
    L.Reshape((4, -1)),
    L.Permute((3, 1, 2)),
    L.Identity(),
    L.Dropout(0.5, noise_shape=(None, 1, 1, 4), seed=3),
    L.SpatialDropout2D(0.5, seed=3),
    L.GaussianNoise(1.0),
    L.ActivityRegularization(l1=0.1),
    K.GroupConv2D(8, 3, strides=2, padding="same", groups=2, use_bias=True),
    K.ChannelIndex([3, 0, 3]),
    K.ChannelShuffle(2),
    K.ChannelScatterAdd([5, 0, 5, 2], channels=7),
    K.BatchNormalization(),
    *(
        L.Activation(name)
        for name in ("elu", "exponential", "gelu", "hard_sigmoid", "hard_silu", "leaky_relu", "linear", "log_softmax")
    ),
    *(
        L.Activation(name)
        for name in ("mish", "relu", "relu6", "selu", "sigmoid", "silu", "softmax", "softplus", "softsign", "tanh")
    ),
]
SEQUENCE_LAYERS = [
    L.Conv1D(5, 3, padding="causal", dilation_rate=2),
    L.Conv1DTranspose(5, 3, strides=2),
    L.DepthwiseConv1D(3, strides=2, padding="same"),
    L.SeparableConv1D(5, 3),
    L.MaxPooling1D(2),
    L.AveragePooling1D(2),
    L.GlobalAveragePooling1D(),
    L.GlobalMaxPooling1D(),
    L.ZeroPadding1D(2),
    L.Cropping1D(1),
    L.UpSampling1D(2),
    L.SpatialDropout1D(0.3),
    K.ChannelShuffle(2),
    K.ChannelScatterAdd([5, 0, 5, 2], channels=7),
]


@pytest.mark.parametrize(("shape", "layers"), [((8, 9, 4), IMAGE_LAYERS), ((9, 4), SEQUENCE_LAYERS)])
def test_layers(shape, layers):
    image = keras.Input(shape)
    model = with_statistics(keras.Model(image, [layer(image) for layer in layers]))
    random = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign(random.normal(size=weight.shape) * 0.5)
    inputs = [2 * random.normal(size=(2, *shape)).astype("float32")]
    twin, back = kc.interop.to_tf_keras(model), None
    back = kc.interop.from_tf_keras(twin)
    for other in (twin, back):
        for layer, ours, theirs in zip(layers, outputs(other, inputs), outputs(model, inputs), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=1e-5, err_msg=layer.name)
    assert names(twin)[1:] == names(back)[1:] == [layer.name for layer in layers]


def test_layers_of_several_inputs():
    x, y = keras.Input((4, 4, 3), name="x"), keras.Input((4, 4, 3), name="y")
    kinds = (L.Add, L.Subtract, L.Multiply, L.Average, L.Maximum, L.Minimum)
    made = [kind()([x, y]) for kind in kinds] + [L.Concatenate(axis=1)([x, y, x]), L.Dot(axes=(3, 3))([x, y])]
    random = np.random.default_rng(0)
    there_and_back(keras.Model([x, y], made), [random.normal(size=(2, 4, 4, 3)).astype("float32") for _ in range(2)])


def test_operations():
    x, y = keras.Input((4, 6, 3), name="x"), keras.Input((4, 6, 3), name="y")
    made = [x + y, x - y, x * y, ops.maximum(x, y), ops.minimum(x, y), x + 3.0, 3.0 - x, 2 * x, x / 4, -x, x - 1]
    made += [x * np.array([1.0, 2.0, 3.0], "float32"), ops.square(x), ops.maximum(x, 0), ops.relu6(x), ops.silu(x)]
    made += [ops.concatenate([x, y], axis=-1), ops.reshape(x, (-1, 24, 3)), ops.transpose(x, (0, 3, 1, 2))]
    made += [ops.mean(x, axis=(1, 2)), ops.max(x, axis=(1, 2), keepdims=True), ops.softmax(x), ops.hard_silu(x)]
    made += [x * ops.mean(x, axis=[1, 2], keepdims=True), ops.gelu(x, approximate=False), ops.leaky_relu(x)]
    random = np.random.default_rng(0)
    inputs = [3 * random.normal(size=(2, 4, 6, 3)).astype("float32") for _ in range(2)]
    there_and_back(keras.Model([x, y], made), inputs)


def test_precision_is_kept():
    image = keras.Input((4, 4, 3), dtype="float64")
    model = keras.Model(image, L.Conv2D(4, 3, dtype="float64")(L.Rescaling(2.0, dtype="float64")(image)))
    twin, back = there_and_back(model, [np.random.default_rng(0).normal(size=(2, 4, 4, 3))])
    assert [layer.dtype_policy.name for layer in twin.layers[1:]] == ["float64"] * 2
    mixed = keras.Sequential([keras.Input((4, 4, 3)), L.Conv2D(4, 3, dtype="mixed_bfloat16")])
    twin, back = kc.interop.to_tf_keras(mixed), kc.interop.from_tf_keras(kc.interop.to_tf_keras(mixed))
    assert twin.layers[1].dtype_policy.name == back.layers[1].dtype_policy.name == "mixed_bfloat16"
    np.testing.assert_array_equal(back.get_weights()[0], mixed.get_weights()[0])
