"""Keras' two-dimensional convolution, checked and fast, and with contiguous groups."""

import keras
from keras import ops

from keras_condense.layers.grouped_convolution import grouped_convolution, pays_to_compile
from keras_condense.validation import (
    LARGEST_CHANNELS,
    LARGEST_SIDE,
    check_choice,
    check_divisible,
    check_positive_integer,
    check_real,
    check_weight_shape,
    shown,
)

__all__ = ["CONVOLUTION_ARGUMENTS", "CheckedConv2D", "GroupConv2D"]

# what convolutions have beside the arguments of every layer with a kernel
CONVOLUTION_ARGUMENTS = ("filters", "kernel_size", "strides", "padding", "data_format", "dilation_rate")


def _pair(name: str, value) -> tuple[int, int]:
    values = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    fix = "Give one integer, or two: height and width."
    if len(values) != 2:
        raise ValueError(f"`{name}` (={shown(value)}) must be one or two positive integers. {fix}")
    return tuple(check_positive_integer(name, v, fix, largest=LARGEST_SIDE) for v in values)


class CheckedConv2D(keras.layers.Conv2D):
    """A `keras.layers.Conv2D`, channels last, that checks arguments and inputs and calls the backend's own op."""

    def __init__(
        self,
        filters,
        kernel_size,
        strides=(1, 1),
        padding="valid",
        data_format=None,
        dilation_rate=(1, 1),
        groups=1,
        activation=None,
        use_bias=False,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        trainable=True,
        dtype=None,
        name=None,
        *,
        lora_rank=None,
        lora_alpha=None,
    ):
        filters = check_positive_integer(
            "filters", filters, "Give the number of output channels.", largest=LARGEST_CHANNELS
        )
        kernel_size, strides = _pair("kernel_size", kernel_size), _pair("strides", strides)
        padding = padding.lower() if isinstance(padding, str) else padding
        check_choice("padding", padding, ("valid", "same"), "Pad by hand for others.")
        check_choice(
            "data_format",
            data_format or keras.config.image_data_format(),
            ("channels_last",),
            "Transpose channels-first images with `keras.layers.Permute((2, 3, 1))`, or call "
            "`keras.config.set_image_data_format('channels_last')`.",
        )
        dilation_rate = _pair("dilation_rate", dilation_rate)
        if max(strides) > 1 and max(dilation_rate) > 1:
            raise ValueError(
                f"`strides` (={strides}) and `dilation_rate` (={dilation_rate}) must not both be above 1. "
                "Set one of them to 1."
            )
        groups = check_positive_integer("groups", groups, "Use 1 for an ordinary convolution.")
        check_divisible("filters", filters, "groups", groups, "Change one of them.")
        if lora_rank is not None:
            check_positive_integer("lora_rank", lora_rank, "Use 4, or leave it out for no low-rank update.")
        super().__init__(
            filters,
            kernel_size,
            strides=strides,
            padding=padding,
            data_format="channels_last",
            dilation_rate=dilation_rate,
            groups=groups,
            activation=activation,
            use_bias=bool(use_bias),
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
            trainable=trainable,
            dtype=dtype,
            name=name,
            lora_rank=lora_rank,
            lora_alpha=lora_alpha,
        )
        self.supports_jit = pays_to_compile()  # what `model.compile(jit_compile="auto")` asks every layer
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def checked_channels(self, input_shape) -> int:
        """The channels of the input, if its shape is that of images and says them."""
        if len(input_shape) != 4 or input_shape[-1] is None:
            raise ValueError(
                f"Layer {self.name!r} got inputs of shape {tuple(input_shape)}, and expects (batch, height, width, "
                "channels) with the channels known. Give `keras.Input` a full `shape`."
            )
        return input_shape[-1]

    def convolution_op(self, inputs, kernel):
        """`inputs` convolved with `kernel`, in as many groups as its shape says; Keras' call adds the rest."""
        check_real("inputs", inputs.dtype)
        # refuses images smaller than the kernel: oneDNN answers some of them with arbitrary memory
        self._check_sizes(inputs.shape)
        # Keras casts floating-point inputs only; images often come as uint8
        inputs, kernel = ops.cast(inputs, self.compute_dtype), ops.cast(kernel, self.compute_dtype)
        groups = inputs.shape[-1] // kernel.shape[-2]
        return grouped_convolution(inputs, kernel, self.strides, self.padding, self.dilation_rate, groups)

    def compute_output_shape(self, input_shape):
        self._check_sizes(input_shape)
        return super().compute_output_shape(input_shape)

    def _check_sizes(self, input_shape) -> None:
        for size, kernel, dilation in zip(input_shape[1:3], self.kernel_size, self.dilation_rate, strict=True):
            covered = (kernel - 1) * dilation if self.padding == "valid" else 0
            if size is not None and size <= covered:
                raise ValueError(
                    f"Layer {self.name!r} got inputs of shape {tuple(input_shape)}, too small for its kernel of "
                    f'{self.kernel_size} with dilation {self.dilation_rate}. Use larger images or `padding="same"`.'
                )


@keras.saving.register_keras_serializable("keras_condense")
class GroupConv2D(CheckedConv2D):
    """A `keras.layers.Conv2D` in contiguous groups that trains many times faster on TensorFlow's CPU.

    It computes the same with the backend's own op, and is saved, loaded and given low-rank updates (`enable_lora`) as
    Keras' layer.

    On TensorFlow's CPU the layer says that it does not support `jit_compile`: there, XLA takes minutes to compile the
    training step, and makes it slower. `compile(jit_compile=True)` warns and goes on without; JAX compiles everywhere.

    Args:
        filters: number of output channels, a multiple of `groups`.
        kernel_size: one or two ints, height and width.
        strides: one or two ints.
        padding: "valid" or "same".
        data_format: None or "channels_last".
        dilation_rate: one or two ints; not together with strides.
        groups: number of groups, a divisor of the input's channels.
        activation: None, a name or a function.
        use_bias: False by default, since batch norm follows in the networks this layer is made for.
        kernel_initializer: as in `keras.layers.Conv2D`, and so are the remaining arguments.
        bias_initializer: for the bias.
        kernel_regularizer: for the kernel.
        bias_regularizer: for the bias.
        activity_regularizer: for the outputs.
        kernel_constraint: for the kernel.
        bias_constraint: for the bias.
        trainable: whether the weights are trained.
        dtype: dtype or dtype policy.
        name: the layer's name.
        lora_rank: rank of the kernel's low-rank update, None for none.
        lora_alpha: the update is scaled by `lora_alpha / lora_rank`; None for 1.

    Input shape:
        (batch, height, width, channels).

    Output shape:
        (batch, new height, new width, filters).

    Raises:
        ValueError: an argument out of range; channels that `groups` does not divide; `channels_first`.

    Example:
        >>> import numpy as np
        >>> layer = GroupConv2D(8, 3, padding="same", groups=4)
        >>> tuple(layer(np.ones((2, 5, 5, 16), "float32")).shape), tuple(layer.kernel.shape)
        ((2, 5, 5, 8), (3, 3, 4, 8))
    """

    def build(self, input_shape):
        channels = self.checked_channels(input_shape)
        check_divisible("in_channels", channels, "groups", self.groups, f"Change one of them in layer {self.name!r}.")
        check_weight_shape(self.name, (*self.kernel_size, channels // self.groups, self.filters))
        super().build(input_shape)
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={-1: channels})
