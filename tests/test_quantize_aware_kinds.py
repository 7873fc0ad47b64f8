"""Kinds of layers in int8's numbers: whether the file computes all of them in int8, and what the model does."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from random_networks.programs import finished

import keras_condense as kc

L, K = keras.layers, kc.layers


def normalization(x):
    """Its bias is -1 for each channel, and its scales are different."""
    return L.Normalization(mean=[1.0, 2, 3, 4], variance=[1.0, 4, 9, 16])(x)


KINDS = {
    "normalization": normalization,
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
