"""Layers whose kernels are rounded to int8 in every call: what `quantize_aware` puts in the place of others."""

from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from keras_condense.layers.convolution import GroupConv2D
from keras_condense.layers.dense import CondenseDense
from keras_condense.layers.fake_quantization import fake_quantized_kernel, kernel_scale
from keras_condense.layers.learned_connections import LearnedConnections
from keras_condense.layers.learned_convolution import LearnedGroupConv2D
from keras_condense.layers.pruned import PrunedConv2D, PrunedDense
from keras_condense.rewriting import Replacement, copied

__all__ = ["QuantizedKernel", "plain_layer", "quantized_kinds", "quantized_layer"]


class QuantizedKernel:
    """Mixin of a layer with a `kernel` that is rounded before it is used; its gradient is as if it was not.

    Attributes:
        filter_axes: the axes of the kernel that have a scale for each place: those of the outputs.
    """

    filter_axes: tuple[int, ...] = (-1,)

    def _shared_axes(self, kernel) -> list[int]:
        ranks = len(kernel.shape)
        kept = {axis % ranks for axis in self.filter_axes}
        return [axis for axis in range(ranks) if axis not in kept]

    def rounded(self, kernel):
        """The kernel as the file will hold it."""
        return fake_quantized_kernel(kernel, self._shared_axes(kernel))

    def kernel_scales(self) -> np.ndarray:
        """The step of each filter's weights, (filters,)."""
        kernel = self.masked_kernel() if isinstance(self, LearnedConnections) else self.kernel
        return ops.convert_to_numpy(kernel_scale(kernel, self._shared_axes(kernel))).reshape(-1)


class _Convolution(QuantizedKernel):
    def convolution_op(self, inputs, kernel):
        return super().convolution_op(inputs, self.rounded(kernel))


class _Masked(QuantizedKernel):
    """A layer with a mask, which computes with `used_kernel`, and becomes layers whose kernels are rounded too."""

    def used_kernel(self):
        return self.rounded(super().used_kernel())

    def condensed(self, new_name: Callable[[str], str]) -> Replacement:
        return [(quantized_layer(layer), weights) for layer, weights in super().condensed(new_name)]


@keras.saving.register_keras_serializable("keras_condense")
class QuantizedConv1D(_Convolution, keras.layers.Conv1D):
    """`keras.layers.Conv1D`, its kernel rounded to int8."""


@keras.saving.register_keras_serializable("keras_condense")
class QuantizedConv2D(_Convolution, keras.layers.Conv2D):
    """`keras.layers.Conv2D`, its kernel rounded to int8."""


@keras.saving.register_keras_serializable("keras_condense")
class QuantizedGroupConv2D(_Convolution, GroupConv2D):
    """`GroupConv2D`, its kernel rounded to int8."""


@keras.saving.register_keras_serializable("keras_condense")
class QuantizedConv2DTranspose(QuantizedKernel, keras.layers.Conv2DTranspose):
    """`keras.layers.Conv2DTranspose`, its kernel (height, width, filters, inputs) rounded to int8."""

    filter_axes = (2,)

    def call(self, inputs):
        outputs = ops.conv_transpose(
            inputs,
            self.rounded(self.kernel),
            strides=list(self.strides),
            padding=self.padding,
            output_padding=self.output_padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )
        return _activated(self, outputs)


@keras.saving.register_keras_serializable("keras_condense")
class QuantizedDepthwiseConv2D(QuantizedKernel, keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D`, its kernel (height, width, inputs, multiplier) rounded to int8."""

    filter_axes = (2, 3)

    def call(self, inputs):
        outputs = ops.depthwise_conv(
            inputs,
            self.rounded(self.kernel),
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )
        return _activated(self, outputs)


@keras.saving.register_keras_serializable("keras_condense")
class QuantizedDense(QuantizedKernel, keras.layers.Dense):
    """`keras.layers.Dense`, its kernel rounded to int8."""

    def call(self, inputs, training=None):
        outputs = ops.matmul(inputs, ops.cast(self.rounded(self.kernel), self.compute_dtype))
        if self.use_bias:
            outputs = ops.add(outputs, self.bias)
        return self.activation(outputs)


@keras.saving.register_keras_serializable("keras_condense")
class QuantizedLearnedGroupConv2D(_Masked, LearnedGroupConv2D):
    """`LearnedGroupConv2D`, its kernel rounded to int8."""


@keras.saving.register_keras_serializable("keras_condense")
class QuantizedCondenseDense(_Masked, CondenseDense):
    """`CondenseDense`, its kernel rounded to int8."""


@keras.saving.register_keras_serializable("keras_condense")
class QuantizedPrunedConv2D(_Masked, PrunedConv2D):
    """`PrunedConv2D`, its kernel rounded to int8."""


@keras.saving.register_keras_serializable("keras_condense")
class QuantizedPrunedDense(_Masked, PrunedDense):
    """`PrunedDense`, its kernel rounded to int8."""


def _activated(layer, outputs):
    if layer.use_bias:
        shape = (1, -1, 1, 1) if layer.data_format == "channels_first" else (1, 1, 1, -1)
        outputs = ops.add(outputs, ops.reshape(layer.bias, shape))
    return layer.activation(outputs)


_PLAIN = {
    QuantizedConv1D: keras.layers.Conv1D,
    QuantizedConv2D: keras.layers.Conv2D,
    QuantizedGroupConv2D: GroupConv2D,
    QuantizedConv2DTranspose: keras.layers.Conv2DTranspose,
    QuantizedDepthwiseConv2D: keras.layers.DepthwiseConv2D,
    QuantizedDense: keras.layers.Dense,
    QuantizedLearnedGroupConv2D: LearnedGroupConv2D,
    QuantizedCondenseDense: CondenseDense,
    QuantizedPrunedConv2D: PrunedConv2D,
    QuantizedPrunedDense: PrunedDense,
}
_QUANTIZED = {plain: quantized for quantized, plain in _PLAIN.items()}


def quantized_kinds() -> tuple[type, ...]:
    """The classes that have a counterpart with a rounded kernel."""
    return tuple(_QUANTIZED)


def quantized_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
    """A layer of the same configuration whose kernel is rounded; itself if it has none to round."""
    kind = _QUANTIZED.get(type(layer))
    return layer if kind is None else copied(layer, kind=kind)


def plain_layer(layer: QuantizedKernel) -> Replacement:
    """The ordinary layer that holds what a layer with a rounded kernel computes with."""
    weights = layer.get_weights()
    weights[0] = ops.convert_to_numpy(layer.rounded(layer.kernel))
    return [(copied(layer, kind=_PLAIN[type(layer)]), weights)]
