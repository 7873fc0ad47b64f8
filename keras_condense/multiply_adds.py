"""Multiply-adds of one call of a layer for one image; shapes are without the batch.

Each rule is the formula of what Keras computes: how often each number of a kernel is multiplied.
"""

import math
from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import ops

from keras_condense.layers import LearnedConnections

__all__ = ["Shape", "connections", "multiply_adds"]

Shape = tuple[int, ...]
Rule = Callable[[keras.layers.Layer, Sequence[Shape], Sequence[Shape]], int]


def connections(layer: LearnedConnections) -> int:
    """Weights of a masked kernel that its mask leaves."""
    positions = math.prod(layer.kernel.shape[:-2])
    return int(np.count_nonzero(ops.convert_to_numpy(layer.kernel_mask()))) * positions


def _kernels(layer: keras.layers.Layer) -> int:
    """The numbers in all kernels of a layer."""
    return sum(math.prod(weight.shape) for weight in layer.weights if weight.name.endswith("kernel"))


def _places(shape: Shape, data_format: str | None) -> int:
    """How many places an image or a batch of them has, each with all of its channels."""
    return math.prod(shape[1:] if data_format == "channels_first" else shape[:-1])


def _learned(layer, inputs, outputs) -> int:
    return connections(layer) * (math.prod(outputs[0]) // layer.kernel.shape[-1])


def _convolution(layer, inputs, outputs) -> int:
    return _kernels(layer) * _places(outputs[0], layer.data_format)


def _transposed_convolution(layer, inputs, outputs) -> int:
    return _kernels(layer) * _places(inputs[0], layer.data_format)


def _dense(layer, inputs, outputs) -> int:
    return layer.kernel.shape[0] * math.prod(outputs[0])


def _einsum(layer, inputs, outputs) -> int:
    """Each output is a sum over the kernel's axes that it does not have."""
    kernel, output = layer.equation.split(",")[1].split("->")
    return math.prod(outputs[0]) * math.prod(
        size for axis, size in zip(kernel, layer.kernel.shape, strict=True) if axis not in output
    )


def _attention_products(query: Shape, value: Shape, axes: Sequence[int], width: int) -> int:
    """Scores, and values weighted by them: `width` numbers of a query's heads and as many of a value's, together."""
    return math.prod(query[:-1]) * math.prod(value[axis - 1] for axis in axes) * width


def _multi_head_attention(layer, inputs, outputs) -> int:
    query, value = inputs[0], inputs[1] if len(inputs) > 1 else inputs[0]
    asked, given = math.prod(query[:-1]), math.prod(value[:-1])
    projections = asked * (_kernels(layer.query_dense) + _kernels(layer.output_dense))
    projections += given * (_kernels(layer.key_dense) + _kernels(layer.value_dense))
    width = layer.num_heads * (layer.key_dim + layer.value_dim)
    axes = [axis % (len(query) + 1) for axis in layer.attention_axes or range(1, len(query))]
    return projections + _attention_products(query, value, axes, width)


def _grouped_query_attention(layer, inputs, outputs) -> int:
    query, value = inputs[0], inputs[1] if len(inputs) > 1 else inputs[0]
    asked, given = math.prod(query[:-1]), math.prod(value[:-1])
    projections = asked * (_kernels(layer._query_dense) + _kernels(layer._output_dense))
    projections += given * (_kernels(layer._key_dense) + _kernels(layer._value_dense))
    return projections + _attention_products(query, value, [1], 2 * layer.num_query_heads * layer.head_dim)


def _attention(layer, inputs, outputs) -> int:
    query, value = inputs[0], inputs[1]
    return query[0] * value[0] * (query[-1] + value[-1])


def _matrix_product(operation, inputs, outputs) -> int:
    return math.prod(outputs[0]) * inputs[0][-1]


def _recurrent(layer, inputs, outputs) -> int:
    """Each step multiplies all kernels, a convolutional one at every place."""
    cell, shape = layer.cell, outputs[0]
    rank = getattr(cell, "rank", 0)
    spatial = shape[-rank:] if getattr(cell, "data_format", None) == "channels_first" else shape[-rank - 1 : -1]
    return inputs[0][0] * _kernels(cell) * math.prod(spatial if rank else ())


# Keras has no public name for the class of this operation
_MATMUL = type((keras.KerasTensor((2, 2)) @ keras.KerasTensor((2, 2)))._keras_history.operation)

_RULES: tuple[tuple[type | tuple[type, ...], Rule], ...] = (
    (LearnedConnections, _learned),
    (
        (
            keras.layers.Conv1DTranspose,
            keras.layers.Conv2DTranspose,
            keras.layers.Conv3DTranspose,
        ),
        _transposed_convolution,
    ),
    (
        (
            keras.layers.Conv1D,
            keras.layers.Conv2D,
            keras.layers.Conv3D,
            keras.layers.DepthwiseConv1D,
            keras.layers.DepthwiseConv2D,
            keras.layers.SeparableConv1D,
            keras.layers.SeparableConv2D,
        ),
        _convolution,
    ),
    (keras.layers.Dense, _dense),
    (keras.layers.EinsumDense, _einsum),
    (keras.layers.MultiHeadAttention, _multi_head_attention),
    (keras.layers.GroupQueryAttention, _grouped_query_attention),
    ((keras.layers.Attention, keras.layers.AdditiveAttention), _attention),
    (keras.layers.RNN, _recurrent),
    (_MATMUL, _matrix_product),
)
# of Keras' own, and no multiplication by a matrix
_NO_PRODUCTS = (
    keras.layers.Embedding,
    keras.layers.PReLU,
    keras.layers.BatchNormalization,
    keras.layers.LayerNormalization,
    keras.layers.GroupNormalization,
    keras.layers.RMSNormalization,
)


def multiply_adds(layer: keras.layers.Layer, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int | None:
    """Multiply-adds of a layer with kernels: convolutions, dense, recurrent and attention layers.

    Args:
        layer: a built layer, or an operation of `keras.ops`.
        inputs: shapes of what it is called with.
        outputs: shapes of what it gives.

    Returns:
        Their number; 0 for a layer without kernels, None for one with matrices, of which it is not known what they are
        multiplied with.

    Example:
        >>> layer = keras.layers.Conv2D(4, 3)
        >>> layer.build((None, 8, 8, 3))
        >>> multiply_adds(layer, [(8, 8, 3)], [(6, 6, 4)]) == 6 * 6 * 4 * 27
        True
    """
    for kinds, rule in _RULES:
        if isinstance(layer, kinds):
            return rule(layer, inputs, outputs)
    matrices = any(len(weight.shape) > 1 for weight in getattr(layer, "trainable_weights", ()))
    return None if (matrices and not isinstance(layer, _NO_PRODUCTS)) or isinstance(layer, keras.layers.Dot) else 0
