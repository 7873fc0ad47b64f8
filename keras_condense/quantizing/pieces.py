"""What stands for each layer of a model in one that is trained in int8's numbers, and the role that it plays there."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras

from keras_condense.layers import BatchNormalization as FastBatchNormalization
from keras_condense.layers import ChannelIndex, ChannelShuffle, LearnedConnections, SharedKernel
from keras_condense.layers.fake_quantization import QuantizedBatchNormalization
from keras_condense.layers.quantized import quantized_kinds, quantized_layer
from keras_condense.rewriting import copied

__all__ = ["Piece", "Role", "pieces_of"]

# What a file does with an operation decides which of its numbers are rounded.
# kernel: a convolution or dense layer; norm: a batch norm, which is folded into the kernel before it; relu: fused with
# what it follows; affine, join: scale and shift, sum and product; same: copies numbers, so output and inputs have one
# range; average: computes, and has one range; compute: anything else in int8; float: what int8 has no form of
Role = str
_FUSES_RELU = ("kernel", "norm", "affine", "join")

# int8 has these for all files: TensorFlow Lite's specification fixes scale 1/256 or 1/128
_SHARE, _SIGNED_SHARE = (0.0, 255 / 256), (-1.0, 127 / 128)


@dataclasses.dataclass(frozen=True, eq=False)
class Piece:
    """A layer of the new model.

    Attributes:
        operation: the layer, or an operation such as `x + y`.
        weights: what it gets once it is built; None for what it begins with.
        role: see `Role`.
        fixed: the range of what it gives, where TensorFlow Lite fixes it.
        reason: of the role "float": why it computes in float32.
    """

    operation: Any
    weights: list | None
    role: Role
    fixed: tuple[float, float] | None = None
    reason: str | None = None

    def fuses(self, reader: "Piece") -> bool:
        """Whether a file computes this and its only reader in one operator, so that nothing between is rounded."""
        if reader.role == "norm":
            return self.role == "kernel" and not isinstance(self.operation, keras.layers.Conv2DTranspose)
        return reader.role == "relu" and self.role in _FUSES_RELU


_SAME = (
    keras.layers.Concatenate,
    keras.layers.Cropping1D,
    keras.layers.Cropping2D,
    keras.layers.Dropout,
    keras.layers.Flatten,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.GlobalMaxPooling1D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.Identity,
    keras.layers.MaxPooling1D,
    keras.layers.MaxPooling2D,
    keras.layers.Maximum,
    keras.layers.Minimum,
    keras.layers.Permute,
    keras.layers.RepeatVector,
    keras.layers.Reshape,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.UpSampling1D,
    keras.layers.ZeroPadding1D,
    keras.layers.ZeroPadding2D,
    ChannelIndex,
    ChannelShuffle,
)
_JOINS = (keras.layers.Add, keras.layers.Multiply, keras.layers.Subtract)
_AFFINE = (keras.layers.Rescaling, keras.layers.Normalization)
_COMPUTING = (
    keras.layers.GlobalAveragePooling1D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.LeakyReLU,
    keras.layers.PReLU,
)
_NORMS = (keras.layers.BatchNormalization, FastBatchNormalization)
_SAME_OPERATIONS = ("Concatenate", "ExpandDims", "GetItem", "Max", "Reshape", "Split", "Squeeze", "Transpose")
_JOINING_OPERATIONS = ("Add", "Multiply", "Subtract")
_RELUS = (keras.activations.relu, keras.activations.relu6)
_FIXED = {
    keras.activations.softmax: _SHARE,
    keras.activations.sigmoid: _SHARE,
    keras.activations.tanh: _SIGNED_SHARE,
}
_CURVES = (
    keras.activations.exponential,
    keras.activations.gelu,
    keras.activations.hard_silu,
    keras.activations.leaky_relu,
    keras.activations.linear,
    keras.activations.silu,
)
_NO_FORM = "has no int8 form that is known here: it computes in float32, between numbers of int8"


def pieces_of(operation: Any, inputs: int, new_name: Callable[[str], str]) -> list[Piece]:
    """What stands for a layer, in the order of its calls.

    Args:
        operation: a layer or operation.
        inputs: how many tensors it gets.
        new_name: gives a name that no layer has, similar to the one it is called with.
    """
    if not isinstance(operation, keras.layers.Layer):
        return [_operation(operation, inputs)]
    kind = type(operation)
    if kind in quantized_kinds() and not getattr(operation, "quantization_mode", None):
        return _kernel(operation, new_name)
    if kind is keras.layers.SeparableConv2D:
        return _separable(operation, new_name)
    if kind in _NORMS:
        config = operation.get_config()
        if _is_last(operation.axis, operation) and not config.get("renorm"):
            norm = QuantizedBatchNormalization.from_config(config)
            return [Piece(norm, operation.get_weights(), "norm")]
    if kind is keras.layers.Activation:
        return _activation(operation.activation, operation, operation.name, new_name)
    weights = operation.get_weights()
    role, fixed, reason = _role(operation, kind)
    return [Piece(copied(operation), weights, role, fixed, reason)]


def _role(layer: keras.layers.Layer, kind: type) -> tuple[Role, tuple[float, float] | None, str | None]:
    if isinstance(layer, LearnedConnections):
        return "float", None, "learns its connections: condense it first"
    if isinstance(layer, SharedKernel):
        return "float", None, "shares its weights: quantize the model from before `share_weights`"
    if getattr(layer, "quantization_mode", None):
        return "float", None, "is quantized by Keras"
    if kind in _SAME or (kind is keras.layers.UpSampling2D and layer.interpolation == "nearest"):
        return "same", None, None
    if kind is keras.layers.ReLU:
        if layer.max_value not in (None, 6):
            return "float", None, _NO_FORM
        return ("compute" if layer.negative_slope or layer.threshold else "relu"), None, None
    if kind is keras.layers.AveragePooling2D:
        # without padding and overlap it becomes a depthwise convolution, which has a range of its own
        windows = layer.padding == "valid" and tuple(layer.strides) == tuple(layer.pool_size)
        return ("compute" if windows and layer.data_format == "channels_last" else "average"), None, None
    if kind is keras.layers.Softmax:
        return "compute", _SHARE, None
    for kinds, role in ((_JOINS, "join"), (_AFFINE, "affine"), (_COMPUTING, "compute")):
        if kind in kinds:
            return role, None, None
    return "float", None, _NO_FORM


def _is_last(axis: Any, layer: keras.layers.Layer) -> bool:
    rank = len(layer.input_spec.shape or ()) or layer.input_spec.ndim or max(layer.input_spec.axes) + 1
    return axis in (-1, rank - 1)


def _operation(operation: Any, inputs: int) -> Piece:
    name = type(operation).__name__
    if name in _JOINING_OPERATIONS:
        return Piece(copied(operation), None, "join" if inputs > 1 else "affine")
    if name in _SAME_OPERATIONS:
        return Piece(copied(operation), None, "same")
    role = {"Relu": "relu", "Relu6": "relu", "Mean": "compute"}.get(name)
    return Piece(copied(operation), None, role or "float", reason=None if role else _NO_FORM)


def _kernel(layer: keras.layers.Layer, new_name: Callable[[str], str]) -> list[Piece]:
    """A convolution or dense layer without its activation, and that."""
    if layer.activation is keras.activations.linear:
        return [Piece(quantized_layer(layer), layer.get_weights(), "kernel")]
    own = len(layer.weights) - len(getattr(layer.activation, "weights", ()))
    linear = copied(layer)
    linear.activation, linear.activity_regularizer = keras.activations.linear, None
    after = _activation(layer.activation, layer, new_name(f"{layer.name}_activation"), new_name)
    return [Piece(quantized_layer(linear), layer.get_weights()[:own], "kernel"), *after]


def _separable(layer: keras.layers.SeparableConv2D, new_name: Callable[[str], str]) -> list[Piece]:
    shared = {"dtype": layer.dtype_policy, "trainable": layer.trainable, "data_format": layer.data_format}
    windows = keras.layers.DepthwiseConv2D(
        layer.kernel_size,
        strides=layer.strides,
        padding=layer.padding,
        depth_multiplier=layer.depth_multiplier,
        dilation_rate=layer.dilation_rate,
        depthwise_initializer=layer.depthwise_initializer,
        depthwise_regularizer=layer.depthwise_regularizer,
        depthwise_constraint=layer.depthwise_constraint,
        use_bias=False,
        name=new_name(f"{layer.name}_depthwise"),
        **shared,
    )
    pointwise = keras.layers.Conv2D(
        layer.filters,
        1,
        use_bias=layer.use_bias,
        kernel_initializer=layer.pointwise_initializer,
        kernel_regularizer=layer.pointwise_regularizer,
        kernel_constraint=layer.pointwise_constraint,
        bias_regularizer=layer.bias_regularizer,
        bias_constraint=layer.bias_constraint,
        name=layer.name,
        **shared,
    )
    first, *others = layer.get_weights()
    pieces = [Piece(quantized_layer(windows), [first], "kernel"), Piece(quantized_layer(pointwise), others, "kernel")]
    if layer.activation is keras.activations.linear:
        return pieces
    return [*pieces, *_activation(layer.activation, layer, new_name(f"{layer.name}_activation"), new_name)]


def _activation(function: Any, layer: keras.layers.Layer, name: str, new_name: Callable[[str], str]) -> list[Piece]:
    """An activation as layers of its own; `layer` is the one that has it."""
    if isinstance(function, keras.layers.Layer):
        inner = copied(function)
        inner.name, inner.activity_regularizer = name, layer.activity_regularizer
        return [Piece(inner, function.get_weights(), *_role(function, type(function)))]
    if function is keras.activations.hard_sigmoid:
        # a sixth of relu6(x + 3)
        shifted = keras.layers.Rescaling(1.0, 3.0, dtype=layer.dtype_policy, name=new_name(f"{name}_shift"))
        limited = keras.layers.ReLU(6.0, dtype=layer.dtype_policy, name=new_name(f"{name}_limit"))
        regularizer = layer.activity_regularizer
        scaled = keras.layers.Rescaling(1 / 6, activity_regularizer=regularizer, dtype=layer.dtype_policy, name=name)
        return [Piece(shifted, None, "affine"), Piece(limited, None, "relu"), Piece(scaled, None, "affine")]
    made = keras.layers.Activation(
        function, activity_regularizer=layer.activity_regularizer, dtype=layer.dtype_policy, name=name
    )
    if function in _RELUS:
        return [Piece(made, None, "relu")]
    known = function in _FIXED or function in _CURVES
    return [Piece(made, None, "compute" if known else "float", _FIXED.get(function), None if known else _NO_FORM)]
