"""The operator for each kind of Keras layer; `frontend` walks the graphs that they are in."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_condense.layers import ChannelIndex, ChannelScatterAdd, ChannelShuffle, GroupConv2D
from keras_condense.tflite.operators import (
    Add,
    Affine,
    AveragePool,
    ConcatenateChannels,
    Convolution,
    Dense,
    Depthwise,
    HardSwish,
    Mean,
    Operator,
    Pad,
    PickChannels,
    Relu,
    Shape,
    explicit_padding,
    shuffled,
)

__all__ = ["ACTIVATIONS", "LINEAR", "read_layer"]

LINEAR = keras.activations.linear
ACTIVATIONS: dict[Callable, type[Operator]] = {keras.activations.relu: Relu, keras.activations.hard_silu: HardSwish}


def _array(weight: Any) -> np.ndarray:
    return ops.convert_to_numpy(weight).astype("float32")


def _bias(layer: keras.layers.Layer) -> np.ndarray | None:
    return _array(layer.bias) if layer.use_bias else None


def _padding(layer: Any, shape: Shape) -> Any:
    return tuple(
        explicit_padding(*sizes, layer.padding)
        for sizes in zip(shape[:2], layer.kernel_size, layer.strides, layer.dilation_rate, strict=True)
    )


# --- an operator for each kind of layer ------------------------------------------------------------------------------
# Each gets the layer and the shape of the first of its inputs; None says that the layer has to be passed through.
def _read_convolution(layer: Any, shape: Shape) -> Operator | None:
    if layer.data_format != "channels_last" or layer.padding not in ("valid", "same"):
        return None
    return Convolution(
        _array(layer.kernel),
        _bias(layer),
        strides=tuple(layer.strides),
        padding=_padding(layer, shape),
        dilation=tuple(layer.dilation_rate),
        groups=layer.groups,
    )


def _read_depthwise(layer: Any, shape: Shape) -> Operator | None:
    plain = layer.depth_multiplier == 1 and tuple(layer.dilation_rate) == (1, 1)
    if layer.data_format != "channels_last" or not plain or layer.padding not in ("valid", "same"):
        return None
    kernel = _array(layer.kernel)[..., 0]
    return Depthwise(kernel, _bias(layer), strides=tuple(layer.strides), padding=_padding(layer, shape))


def _read_batch_norm(layer: Any, shape: Shape) -> Operator | None:
    if len(shape) != 3 or layer.axis not in (-1, 3):
        return None
    # in float64, since the quotient meets large and small variances
    scale = 1.0 / np.sqrt(_array(layer.moving_variance).astype("float64") + layer.epsilon)
    if layer.scale:
        scale *= _array(layer.gamma)
    shift = -_array(layer.moving_mean) * scale
    if layer.center:
        shift = shift + _array(layer.beta)
    return Affine(scale.astype("float32"), shift.astype("float32"))


def _read_index(layer: ChannelIndex, shape: Shape) -> Operator | None:
    return PickChannels(ops.convert_to_numpy(layer.indices).astype("int64"))


def _read_shuffle(layer: ChannelShuffle, shape: Shape) -> Operator | None:
    return PickChannels(shuffled(shape[-1], layer.groups))


def _read_scatter(layer: ChannelScatterAdd, shape: Shape) -> Operator | None:
    """A 1x1 convolution of zeros and ones, which a convolution before it can swallow."""
    if len(shape) != 3:
        return None
    targets = ops.convert_to_numpy(layer.indices)
    return Convolution(np.eye(layer.channels, dtype="float32")[targets][None, None])


def _read_pool(layer: Any, shape: Shape) -> Operator | None:
    size = tuple(layer.pool_size)
    if layer.data_format != "channels_last" or layer.padding != "valid" or tuple(layer.strides) != size:
        return None
    return AveragePool(size)


def _read_mean(layer: Any, shape: Shape) -> Operator | None:
    return None if layer.keepdims or layer.data_format != "channels_last" else Mean()


def _read_dense(layer: Any, shape: Shape) -> Operator | None:
    return Dense(_array(layer.kernel), _bias(layer)) if len(shape) == 1 else None


def _read_relu(layer: Any, shape: Shape) -> Operator | None:
    plain = layer.max_value is None and not np.any(layer.negative_slope) and not np.any(layer.threshold)
    return Relu() if plain else None


def _read_activation(layer: Any, shape: Shape) -> Operator | None:
    operator = ACTIVATIONS.get(layer.activation)
    return None if operator is None else operator()


def _read_concatenation(layer: Any, shape: Shape) -> Operator | None:
    return ConcatenateChannels() if layer.axis in (-1, len(shape)) else None


def _read_addition(layer: Any, shape: Shape) -> Operator | None:
    return Add()


def _read_padding(layer: Any, shape: Shape) -> Operator | None:
    return Pad(tuple(map(tuple, layer.padding))) if layer.data_format == "channels_last" else None


_READERS: dict[type, Callable[[Any, Shape], Operator | None]] = {
    keras.layers.Conv2D: _read_convolution,
    GroupConv2D: _read_convolution,
    keras.layers.DepthwiseConv2D: _read_depthwise,
    keras.layers.BatchNormalization: _read_batch_norm,
    ChannelIndex: _read_index,
    ChannelScatterAdd: _read_scatter,
    ChannelShuffle: _read_shuffle,
    keras.layers.AveragePooling2D: _read_pool,
    keras.layers.GlobalAveragePooling2D: _read_mean,
    keras.layers.Dense: _read_dense,
    keras.layers.ReLU: _read_relu,
    keras.layers.Activation: _read_activation,
    keras.layers.Concatenate: _read_concatenation,
    keras.layers.Add: _read_addition,
    keras.layers.ZeroPadding2D: _read_padding,
}


def read_layer(layer: Any, shapes: list[Shape]) -> Operator | None:
    """The operator of a layer that gets images or vectors of these shapes, or None if it has to be passed through."""
    # a subclass may compute anything: only the layers themselves, and our batch norm, which computes what Keras' does
    kind = type(layer)
    if kind.__module__.startswith("keras_condense.") and isinstance(layer, keras.layers.BatchNormalization):
        kind = keras.layers.BatchNormalization
    reader = _READERS.get(kind)
    is_quantized = getattr(layer, "quantization_mode", None) is not None
    broadcasts = kind is keras.layers.Add and len(set(shapes)) > 1
    return reader(layer, shapes[0]) if reader is not None and not is_quantized and not broadcasts else None
