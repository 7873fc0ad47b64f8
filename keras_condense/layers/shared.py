"""Layers whose weights share few values: a trained codebook, and for each weight the index of its value."""

from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from keras_condense.layers.convolution import CONVOLUTION_ARGUMENTS, CheckedConv2D, GroupConv2D
from keras_condense.layers.dense import CheckedDense
from keras_condense.layers.stand_in import KERNEL_ARGUMENTS, StandIn
from keras_condense.rewriting import Replacement
from keras_condense.validation import check_choice, check_divisible, check_positive_integer, check_real

__all__ = ["SharedConv2D", "SharedDense", "SharedDepthwiseConv2D", "SharedKernel"]


def _without_constraint(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if name != "kernel_constraint")


class SharedKernel(StandIn):
    """What layers with shared weights have in common: `kernel` is made of `codebook` and `indices`.

    The gradient of a value is thus the sum of the gradients of the weights that share it (Deep Compression, arXiv
    1510.00149, section 3.3). With `zero`, index 0 means a zero that is no part of the codebook, and never moves.
    """

    kernel_arguments = _without_constraint(KERNEL_ARGUMENTS)
    saved = ("codebook", "indices")
    trait = "codebook"

    def set_sharing(self, centroids: int, zero: bool) -> None:
        """Check and keep the arguments of the codebook; for `__init__`."""
        most = 255 if zero else 256
        self.centroids = check_positive_integer("centroids", centroids, "Use 32 for 5 bits.", largest=most)
        self.zero = bool(check_choice("zero", zero, (False, True), "True keeps zeros as they are."))

    def build_codebook(self, shape: tuple[int, ...], regularizer: Callable | None) -> None:
        """Make the weights that the kernel consists of; to be called first in `build`."""
        self._check_not_quantized()
        self.codebook = self.add_weight(
            name="codebook",
            shape=(self.centroids,),
            initializer="zeros",
            regularizer=None if regularizer is None else lambda codebook: regularizer(self._kernel_of(codebook)),
            # float32 in half precision too: the sum over a cluster has many terms
            autocast=False,
        )
        # the name's end tells functions that count weights that here is one for each of the kernel
        self.indices = self.add_weight(
            name="indices_of_kernel",
            shape=shape,
            initializer="zeros",
            trainable=False,
            dtype="uint8",
            autocast=False,
        )

    def build_bias(self, units: int) -> None:
        """Make the bias, if there is one."""
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(units,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )

    @property
    def kernel(self):
        """The kernel, in the codebook's dtype."""
        if not self.built:
            raise AttributeError(f"Layer {self.name!r} must be built to have a kernel, and is not.")  # as Keras' own
        return self._kernel_of(self.codebook)

    def _kernel_of(self, codebook):
        # a product, for TensorFlow to add up the gradient of each value here and not in the optimizer
        values = ops.convert_to_tensor(codebook) * 1.0
        if self.zero:
            values = ops.concatenate([ops.zeros((1,), values.dtype), values])
        return ops.take(values, ops.cast(ops.convert_to_tensor(self.indices), "int32"), axis=0)

    def condensed_kernel(self) -> list[np.ndarray]:
        """The kernel, whose values are those of the codebook, and the bias."""
        weights = [self.kernel, self.bias] if self.use_bias else [self.kernel]
        return [ops.convert_to_numpy(weight) for weight in weights]

    def sharing_config(self) -> dict:
        """The arguments of the codebook, for `get_config`."""
        return {"centroids": self.centroids, "zero": self.zero}


@keras.saving.register_keras_serializable("keras_condense")
class SharedConv2D(SharedKernel, CheckedConv2D):
    """A convolution whose weights share the values of a codebook, which are trained.

    `keras_condense.share_weights` makes it of a `keras.layers.Conv2D` or `GroupConv2D`, and `keras_condense.condense`
    makes these of it. The weights are `codebook` (centroids), `indices` (height, width, inputs of a group, filters),
    uint8 and not trained, and, if asked for, `bias`. Until they are set, the kernel is zero.

    Args:
        filters: number of output channels.
        kernel_size: one or two ints.
        centroids: the values of the codebook, at most 256.
        zero: whether index 0 means a weight that is zero and stays so; there are 255 centroids beside it at most.
        **arguments: those of `GroupConv2D` that it has beside these, but for `kernel_constraint`.

    Input shape:
        (batch, height, width, channels).

    Output shape:
        (batch, new height, new width, filters).

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> import numpy as np
        >>> layer = SharedConv2D(4, 3, centroids=2, zero=True)
        >>> layer.build((None, 8, 8, 1))
        >>> layer.set_weights([np.array([0.5, -0.5]), np.arange(36).reshape(3, 3, 1, 4) % 3])
        >>> np.unique(layer.kernel).tolist(), tuple(layer(np.ones((2, 8, 8, 1), "float32")).shape)
        ([-0.5, 0.0, 0.5], (2, 6, 6, 4))
    """

    def __init__(self, filters, kernel_size, *args, centroids=32, zero=False, **arguments):
        super().__init__(filters, kernel_size, *args, **arguments)
        _check_unconstrained(self.name, self.kernel_constraint)
        self.set_sharing(centroids, zero)

    def build(self, input_shape):
        channels = self.checked_channels(input_shape)
        check_divisible("in_channels", channels, "groups", self.groups, f"Change one of them in layer {self.name!r}.")
        self.compute_output_shape(input_shape)  # which refuses small images
        self.build_codebook((*self.kernel_size, channels // self.groups, self.filters), self.kernel_regularizer)
        self.build_bias(self.filters)
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={-1: channels})
        self.built = True

    def condensed(self, new_name: Callable[[str], str]) -> Replacement:
        """A `keras.layers.Conv2D`, or a `GroupConv2D` where there are groups, of this layer's name."""
        kind = keras.layers.Conv2D if self.groups == 1 else GroupConv2D
        return self.condensed_to(kind, (*CONVOLUTION_ARGUMENTS, "groups"), self.condensed_kernel(), new_name)

    def get_config(self):
        config = super().get_config()
        for name in ("lora_rank", "lora_alpha"):
            config.pop(name, None)
        return config | self.sharing_config()


@keras.saving.register_keras_serializable("keras_condense")
class SharedDepthwiseConv2D(SharedKernel, keras.layers.DepthwiseConv2D):
    """A depthwise convolution whose weights share the values of a codebook, as those of `SharedConv2D` do.

    The weights are `codebook` (centroids), `indices` (height, width, channels, multiplier) and `bias`.

    Args:
        kernel_size: one or two ints.
        centroids: the values of the codebook, at most 256.
        zero: whether index 0 means a weight that is zero and stays so.
        **arguments: those of `keras.layers.DepthwiseConv2D` that it has beside these, but for `depthwise_constraint`.

    Input shape:
        (batch, height, width, channels).

    Output shape:
        (batch, new height, new width, channels * depth_multiplier).

    Raises:
        ValueError: an argument out of range; `channels_first`.

    Example:
        >>> layer = SharedDepthwiseConv2D(3, centroids=4)
        >>> layer.build((None, 8, 8, 5))
        >>> tuple(layer.codebook.shape), tuple(layer.indices.shape)
        ((4,), (3, 3, 5, 1))
    """

    _depthwise = ("depthwise_initializer", "depthwise_regularizer")
    kernel_arguments = (*(name for name in KERNEL_ARGUMENTS if not name.startswith("kernel_")), *_depthwise)

    def __init__(self, kernel_size, *args, centroids=32, zero=False, **arguments):
        super().__init__(kernel_size, *args, **arguments)
        _check_unconstrained(self.name, self.depthwise_constraint)
        fix = "Transpose channels-first images with `keras.layers.Permute((2, 3, 1))`."
        check_choice("data_format", self.data_format, ("channels_last",), fix)
        self.set_sharing(centroids, zero)

    def build(self, input_shape):
        channels = input_shape[-1]
        self.compute_output_shape(input_shape)  # which refuses small images
        self.build_codebook((*self.kernel_size, channels, self.depth_multiplier), self.depthwise_regularizer)
        self.build_bias(channels * self.depth_multiplier)
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={-1: channels})
        self.built = True

    def call(self, inputs):
        # Keras' call, which does not cast its kernel
        check_real("inputs", inputs.dtype)
        inputs, kernel = (ops.cast(values, self.compute_dtype) for values in (inputs, self.kernel))
        outputs = ops.depthwise_conv(inputs, kernel, self.strides, self.padding, self.data_format, self.dilation_rate)
        return self.activation(ops.add(outputs, self.bias) if self.use_bias else outputs)

    def condensed(self, new_name: Callable[[str], str]) -> Replacement:
        """A `keras.layers.DepthwiseConv2D` of this layer's name."""
        arguments = ("depth_multiplier", *(name for name in CONVOLUTION_ARGUMENTS if name != "filters"))
        return self.condensed_to(keras.layers.DepthwiseConv2D, arguments, self.condensed_kernel(), new_name)

    def get_config(self):
        return super().get_config() | self.sharing_config()


@keras.saving.register_keras_serializable("keras_condense")
class SharedDense(SharedKernel, CheckedDense):
    """A `keras.layers.Dense` whose weights share the values of a codebook, as those of `SharedConv2D` do.

    The weights are `codebook` (centroids), `indices` (inputs, units) and, if asked for, `bias` (units).

    Args:
        units: number of outputs.
        centroids: the values of the codebook, at most 256.
        zero: whether index 0 means a weight that is zero and stays so.
        **arguments: those of `keras.layers.Dense` that it has beside these, but for `kernel_constraint`.

    Input shape:
        (..., inputs).

    Output shape:
        (..., units).

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> layer = SharedDense(10, centroids=16)
        >>> layer.build((None, 20))
        >>> tuple(layer.codebook.shape), tuple(layer.kernel.shape)
        ((16,), (20, 10))
    """

    def __init__(self, units, *args, centroids=32, zero=False, **arguments):
        super().__init__(units, *args, **arguments)
        _check_unconstrained(self.name, self.kernel_constraint)
        self.set_sharing(centroids, zero)

    def build(self, input_shape):
        inputs = self.checked_inputs(input_shape)
        self.build_codebook((inputs, self.units), self.kernel_regularizer)
        self.build_bias(self.units)
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: inputs})
        self.built = True

    def condensed(self, new_name: Callable[[str], str]) -> Replacement:
        """A `keras.layers.Dense` of this layer's name."""
        return self.condensed_to(keras.layers.Dense, ("units",), self.condensed_kernel(), new_name)

    def get_config(self):
        return super().get_config() | self.sharing_config()


def _check_unconstrained(name: str, constraint: Callable | None) -> None:
    if constraint is not None:
        raise ValueError(
            f"`kernel_constraint` (={constraint!r}) of layer {name!r} must be None: weights that share a value can't "
            "be constrained one by one. Leave it out."
        )
