"""Whether a model that was read computes the same."""

import keras
import numpy as np
import pytest
from graphs import assert_same, computed, operators
from keras import ops

from keras_condense.tflite.frontend import read_model

tf = pytest.importorskip("tensorflow")

LAYER = ["layer"]
CONVOLUTION = ["convolution"]


def randomize(model, seed=0):
    """Draw all weights; scales of norms are negative as often as not."""
    random = np.random.default_rng(seed)
    for variable in model.variables:
        shape, path = variable.shape, variable.path
        if "kernel" in path or not keras.backend.is_float_dtype(variable.dtype):
            continue  # kernels are drawn already, indices and seeds stay
        if path.endswith(("variance", "gamma")):
            value = random.uniform(0.5, 1.5, shape)
            if path.endswith("gamma"):
                value *= random.choice([-1, 1], shape)
        else:
            value = random.normal(size=shape)
        variable.assign(value)
    return model


def images_for(model, seed=0):
    random = np.random.default_rng(seed)
    shapes = [(1, *tensor.shape[1:]) for tensor in keras.tree.flatten(model._inputs)]
    dtypes = [tensor.dtype for tensor in keras.tree.flatten(model._inputs)]
    return [
        (random.integers(0, 5, shape) if "int" in dtype else random.uniform(-3, 4, shape)).astype(dtype)
        for shape, dtype in zip(shapes, dtypes, strict=True)
    ]


def check(model, expected=None):
    """Read a model, compare with Keras, and give the graph."""
    randomize(model)
    functional = getattr(model, "_functional", None) or model
    outputs = keras.tree.flatten(functional._outputs)
    names = [f"y{i}" for i in range(len(outputs))]
    graph = read_model(model, [f"x{i}" for i in range(len(functional._inputs))], names)
    images = images_for(functional)
    structured = keras.tree.pack_sequence_as(functional._inputs_struct, images)
    values = keras.tree.flatten(model(structured, training=False))
    assert_same(computed(graph, images), dict(zip(names, map(ops.convert_to_numpy, values), strict=True)))
    for node, tensor in zip(graph.outputs.values(), outputs, strict=True):
        assert None in tensor.shape[1:] or graph[node].shape == tuple(tensor.shape[1:])
    if expected is not None:
        assert operators(graph) == expected
    return graph


def model_of(shape, function):
    """A model of one input, or of several if `shape` is a list."""
    inputs = [keras.Input(s) for s in shape] if isinstance(shape, list) else keras.Input(shape)
    return keras.Model(inputs, function(inputs))
