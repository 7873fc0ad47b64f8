"""Kinds of layers in int8's numbers: whether the file computes all of them in int8, and what the model does."""

import dataclasses

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from keras import ops
from random_networks.generator import random_program
from random_networks.programs import finished
from random_networks.settings import PLAIN

import keras_condense as kc

L, K = keras.layers, kc.layers


def normalization(x):
    """Its bias is -1 for each channel, and its scales are different."""
    return L.Normalization(mean=[1.0, 2, 3, 4], variance=[1.0, 4, 9, 16])(x)


def norm_of_means(x):
    return L.Dense(4)(L.ReLU()(L.BatchNormalization()(L.GlobalAveragePooling2D()(x))))


def split(x):
    first, second = ops.split(L.Conv2D(4, 1)(x), 2, axis=-1)
    return first * second + first


KINDS = {
    "normalization": normalization,
    "rescaling of channels": lambda x: L.Rescaling([0.1, 0.2, 0.3, 0.4], [0, 1, 2, 3])(x),
    "norm of means": norm_of_means,
    "norm of shuffled vectors": lambda x: L.BatchNormalization()(K.ChannelShuffle(2)(L.Dense(4)(L.Flatten()(x)))),
    "norm of rows": lambda x: L.ReLU()(L.BatchNormalization()(L.Reshape((36, 4))(x))),
    "norm of a dense layer of pixels": lambda x: L.BatchNormalization()(L.Dense(4)(x)),
    "norm of two windows a channel": lambda x: L.BatchNormalization()(L.DepthwiseConv2D(3, depth_multiplier=2)(x)),
    "maximum": lambda x: L.Maximum()([x, L.Conv2D(4, 1)(x)]),
    "split": split,
    "rows": lambda x: L.MaxPooling1D()(L.Conv1D(4, 3, activation="relu")(L.Reshape((36, 4))(x))),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_computes_in_int8_what_the_model_does(kind):
    image = keras.Input((6, 6, 4))
    x = KINDS[kind](image)
    x = L.Conv2D(3, 1)(x) if len(x.shape) == 4 else x
    model = finished(keras.Model(image, L.Dense(3)(L.Flatten()(x))), seed=1)
    images = np.random.default_rng(0).normal(size=(100, 6, 6, 4)).astype("float32")
    aware = kc.quantize_aware(model, images, strict=True)
    content = kc.export_tflite(aware, quantize="int8")
    apart = np.abs(kc.run_tflite(content, images) - aware.predict(images, verbose=0))
    step = next(layer.scale for layer in reversed(aware.layers) if isinstance(layer, K.FakeQuantize))
    assert (apart <= 1.01 * step).mean() >= 0.99
    assert operators_in_float(content) == []


def test_a_layer_that_gives_nothing_but_zeros_is_exported():
    image = keras.Input((6, 6, 4))
    x = L.Conv2D(4, 3, activation="relu", kernel_initializer=keras.initializers.Constant(-1.0))(image)
    model = keras.Model(image, L.Dense(3, bias_initializer="ones")(L.GlobalAveragePooling2D()(x)))
    images = np.random.default_rng(0).random((20, 6, 6, 4), "float32")
    content = kc.export_tflite(kc.quantize_aware(model, images), quantize="int8")
    np.testing.assert_allclose(kc.run_tflite(content, images), np.ones((20, 3)), atol=0.01)


@pytest.mark.parametrize("seed", [17, 23, 35, 59])
def test_files_of_random_networks_compute_in_int8_what_they_do(seed):
    model = dataclasses.replace(random_program(seed), setting=PLAIN).build()
    random = np.random.default_rng(0)
    rows = {image.name: random.normal(size=(60, *image.shape[1:])).astype("float32") for image in model.inputs}
    images = list(rows.values())
    aware = kc.quantize_aware(model, images if len(images) > 1 else images[0], strict=True)
    content = kc.export_tflite(aware, quantize="int8")
    of_file = kc.run_tflite(content, rows)
    of_file = list(of_file.values()) if isinstance(of_file, dict) else [of_file]
    for file, expected in zip(of_file, keras.tree.flatten(aware(images)), strict=True):
        steps = np.diff(np.unique(file))
        step = steps.min() if len(steps) else 1.0
        assert (np.abs(file - expected) <= 1.01 * step).mean() >= 0.999
    assert operators_in_float(content) == []


def operators_in_float(content):
    """Names of the operators that read or give float32, but for those at the file's ends."""
    quiet = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=quiet)
    dtypes = {tensor["index"]: tensor["dtype"] for tensor in interpreter.get_tensor_details()}
    return [
        operator["op_name"]
        for operator in interpreter._get_ops_details()
        if operator["op_name"] not in ("QUANTIZE", "DEQUANTIZE")
        and any(dtypes.get(index) is np.float32 for index in (*operator["inputs"], *operator["outputs"]))
    ]


@pytest.mark.parametrize("activation", ["elu", "softplus", "selu", "mish", "softsign", "log_sigmoid"])
def test_activations_that_files_compute_in_float32_are_named(activation):
    model = keras.Sequential([keras.Input((3,)), L.Dense(4, activation=activation, name="dense")])
    assert list(kc.explain_quantize_aware(model).left) == ["dense"]
    with pytest.raises(ValueError, match="'dense' has no int8 form"):
        kc.quantize_aware(model, strict=True)


@pytest.mark.parametrize("activation", ["relu", "hard_sigmoid", L.LeakyReLU(0.2)], ids=str)
def test_activity_regularizers_are_kept(activation):
    image = keras.Input((4, 4, 2))
    conv = L.Conv2D(3, 1, activation=activation, activity_regularizer=keras.regularizers.L2(0.1))
    model, x = keras.Model(image, conv(image)), np.random.default_rng(0).normal(size=(20, 4, 4, 2)).astype("float32")
    aware = kc.quantize_aware(model, x)
    losses = []
    for each in (model, aware):
        each(x)
        losses.append(float(sum(each.losses)))
    np.testing.assert_allclose(*losses, rtol=0.02)
    assert losses[0] > 0.01
