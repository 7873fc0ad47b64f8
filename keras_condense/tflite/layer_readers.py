"""The operator for each kind of Keras layer; `frontend` walks the graphs that they are in."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_condense.layers import (
    ChannelIndex,
    ChannelScatterAdd,
    ChannelShuffle,
    FakeQuantize,
    GroupConv2D,
    QuantizedBatchNormalization,
)
from keras_condense.tflite.operators import (
    Add,
    Affine,
    AveragePool,
    ConcatenateChannels,
    Convolution,
    Dense,
    Depthwise,
    FakeQuantized,
    HardSwish,
    Mean,
    Multiply,
    Operator,
    Pad,
    PickChannels,
    Relu,
    Reshape,
    Shape,
    Sigmoid,
    Swish,
    explicit_padding,
    shuffled,
)

__all__ = ["LINEAR", "read_activation", "read_layer", "read_operation"]

LINEAR = keras.activations.linear


def _scaled(channels: int, scale: float, shift: float) -> Affine:
    """The same scale and shift for all channels."""
    return Affine(np.full(channels, scale, "float32"), np.full(channels, shift, "float32"))


# --- the operators of each activation, given the number of channels -------------------------------------------------
_ACTIVATIONS: dict[Callable, Callable[[int], tuple[Operator, ...]]] = {
    keras.activations.relu: lambda channels: (Relu(),),
    keras.activations.relu6: lambda channels: (Relu(6.0),),
    keras.activations.sigmoid: lambda channels: (Sigmoid(),),
    keras.activations.silu: lambda channels: (Swish(),),
    keras.activations.hard_silu: lambda channels: (HardSwish(),),
    # a sixth of relu6(x + 3)
    keras.activations.hard_sigmoid: lambda channels: (
        _scaled(channels, 1, 3),
        Relu(6.0),
        _scaled(channels, 1 / 6, 0),
    ),
}


def read_activation(activation: Callable, channels: int) -> tuple[Operator, ...] | None:
    """The operators of an activation, or None if it has to be passed through."""
    made = _ACTIVATIONS.get(activation)
    return None if made is None else made(channels)


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


def _windows_of(layer: Any, shape: Shape, kernel: Any, bias: np.ndarray | None) -> Operator | None:
    plain = layer.depth_multiplier == 1 and tuple(layer.dilation_rate) == (1, 1)
    if layer.data_format != "channels_last" or not plain or layer.padding not in ("valid", "same"):
        return None
    return Depthwise(_array(kernel)[..., 0], bias, strides=tuple(layer.strides), padding=_padding(layer, shape))


def _read_depthwise(layer: Any, shape: Shape) -> Operator | None:
    return _windows_of(layer, shape, layer.kernel, _bias(layer))


def _read_separable(layer: Any, shape: Shape) -> tuple[Operator, ...] | None:
    """A depthwise convolution and a 1x1 convolution of what it gives."""
    windows = _windows_of(layer, shape, layer.depthwise_kernel, None)
    if windows is None:
        return None
    return windows, Convolution(_array(layer.pointwise_kernel), _bias(layer))


def _read_batch_norm(layer: Any, shape: Shape) -> Operator | None:
    is_one_of_ours = isinstance(layer, QuantizedBatchNormalization)  # of vectors too, and its axis is the last
    if not is_one_of_ours and (len(shape) != 3 or layer.axis not in (-1, 3)):
        return None
    # in float64, since the quotient meets large and small variances
    scale = 1.0 / np.sqrt(_array(layer.moving_variance).astype("float64") + layer.epsilon)
    if layer.scale:
        scale *= _array(layer.gamma)
    shift = -_array(layer.moving_mean) * scale
    if layer.center:
        shift = shift + _array(layer.beta)
    return _affine(scale, shift)


def _read_normalization(layer: Any, shape: Shape) -> Operator | None:
    axes = [axis % (len(shape) + 1) for axis in layer.axis]
    if layer.invert or len(shape) != 3 or axes not in ([], [3]):
        return None
    mean, variance = (ops.convert_to_numpy(each).astype("float64").reshape(-1) for each in (layer.mean, layer.variance))
    scale = 1.0 / np.maximum(np.sqrt(variance), keras.config.epsilon())
    return _affine(np.broadcast_to(scale, shape[-1:]), np.broadcast_to(-mean * scale, shape[-1:]))


def _affine(scale: np.ndarray, shift: np.ndarray) -> Affine:
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


def _read_rescaling(layer: Any, shape: Shape) -> Operator | None:
    scale, offset = np.asarray(layer.scale, "float32"), np.asarray(layer.offset, "float32")
    if len(shape) != 3 or not {scale.shape, offset.shape} <= {(), (1,), shape[-1:]}:
        return None
    return Affine(*(np.array(np.broadcast_to(each, shape[-1:])) for each in (scale, offset)))


def _read_pool(layer: Any, shape: Shape) -> Operator | None:
    size = tuple(layer.pool_size)
    if layer.data_format != "channels_last" or layer.padding != "valid" or tuple(layer.strides) != size:
        return None
    return AveragePool(size)


def _read_mean(layer: Any, shape: Shape) -> Operator | None:
    return Mean(keepdims=layer.keepdims) if layer.data_format == "channels_last" else None


def _read_dense(layer: Any, shape: Shape) -> Operator | None:
    return Dense(_array(layer.kernel), _bias(layer)) if len(shape) == 1 else None


def _read_relu(layer: Any, shape: Shape) -> Operator | None:
    plain = layer.max_value in (None, 6) and not np.any(layer.negative_slope) and not np.any(layer.threshold)
    return Relu(layer.max_value) if plain else None


def _read_activation(layer: Any, shape: Shape) -> tuple[Operator, ...] | None:
    return read_activation(layer.activation, shape[-1])


def _read_reshape(layer: Any, shape: Shape) -> Operator | None:
    return Reshape()


def _read_concatenation(layer: Any, shape: Shape) -> Operator | None:
    return ConcatenateChannels() if layer.axis in (-1, len(shape)) else None


def _read_addition(layer: Any, shape: Shape) -> Operator | None:
    return Add()


def _read_product(layer: Any, shape: Shape) -> Operator | None:
    return Multiply()


def _read_padding(layer: Any, shape: Shape) -> Operator | None:
    return Pad(tuple(map(tuple, layer.padding))) if layer.data_format == "channels_last" else None


def _read_rounding(layer: FakeQuantize, shape: Shape) -> Operator | None:
    return FakeQuantized(*layer.range)


_READERS: dict[type, Callable[[Any, Shape], Operator | tuple[Operator, ...] | None]] = {
    keras.layers.Conv2D: _read_convolution,
    GroupConv2D: _read_convolution,
    keras.layers.DepthwiseConv2D: _read_depthwise,
    keras.layers.SeparableConv2D: _read_separable,
    keras.layers.BatchNormalization: _read_batch_norm,
    ChannelIndex: _read_index,
    FakeQuantize: _read_rounding,
    ChannelScatterAdd: _read_scatter,
    ChannelShuffle: _read_shuffle,
    keras.layers.Rescaling: _read_rescaling,
    keras.layers.Normalization: _read_normalization,
    keras.layers.AveragePooling2D: _read_pool,
    keras.layers.GlobalAveragePooling2D: _read_mean,
    keras.layers.Dense: _read_dense,
    keras.layers.ReLU: _read_relu,
    keras.layers.Activation: _read_activation,
    keras.layers.Concatenate: _read_concatenation,
    keras.layers.Add: _read_addition,
    keras.layers.Multiply: _read_product,
    keras.layers.Reshape: _read_reshape,
    keras.layers.Flatten: _read_reshape,
    keras.layers.ZeroPadding2D: _read_padding,
}


def read_layer(layer: Any, shapes: list[Shape]) -> tuple[Operator, ...] | None:
    """The operators of a layer that gets images or vectors of these shapes, or None if it has to be passed through."""
    # a subclass may compute anything: only the layers themselves, and our batch norm, which computes what Keras' does
    kind = type(layer)
    if kind.__module__.startswith("keras_condense.") and isinstance(layer, keras.layers.BatchNormalization):
        kind = keras.layers.BatchNormalization
    reader = _READERS.get(kind)
    is_quantized = getattr(layer, "quantization_mode", None) is not None
    if reader is None or is_quantized or not _fits(kind, shapes):
        return None
    read = reader(layer, shapes[0])
    return (read,) if isinstance(read, Operator) else read


def _fits(kind: type, shapes: list[Shape]) -> bool:
    """Whether a layer of several inputs does not broadcast them in a way that no operator has."""
    if kind is keras.layers.Add:
        return len(set(shapes)) == 1
    if kind is keras.layers.Multiply:
        pixel = (1, 1, shapes[0][-1])
        return len(shapes) == 2 and len(shapes[0]) == 3 and (shapes[0] == shapes[1] or pixel in shapes)
    return True


def read_operation(node: Any, shape: Shape) -> tuple[Operator, ...] | None:
    """The operator of `x + number` or `x * number` for an image, or None if it has to be passed through."""
    operation = node.operation
    if type(operation).__module__ != "keras.src.ops.numpy" or len(shape) != 3 or len(node.input_tensors) != 1:
        return None
    numbers = [argument for argument in node.arguments.args if isinstance(argument, (int, float))]
    if len(numbers) != 1 or len(node.arguments.args) != 2 or node.arguments.kwargs:
        return None
    match type(operation).__name__:
        case "Add":
            return (_scaled(shape[-1], 1, numbers[0]),)
        case "Multiply":
            return (_scaled(shape[-1], numbers[0], 0),)
    return None
