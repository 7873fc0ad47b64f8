"""Numbers rounded to what int8 can hold while they stay float32: of activations, with ranges that are watched."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_condense.layers.normalization import BatchNormalization
from keras_condense.validation import check_positive_integer, shown

__all__ = ["BITS", "FakeQuantize", "QuantizedBatchNormalization", "fake_quantized_kernel", "kernel_scale"]

BITS = 8
_LEVELS = 2**BITS - 1
# a range is the mean of this many batches' at most: of all of them at first, then one that forgets
_REMEMBERED = 100
_NARROWEST = 1e-6  # a range of no width has no scale; kernels refuse steps that are very much finer than their input's


def kernel_scale(kernel, axis: Sequence[int]):
    """The step between the numbers that a kernel is rounded to, of each filter; its shape has ones at `axis`."""
    values = ops.cast(ops.convert_to_tensor(kernel), "float32")
    largest = ops.max(ops.abs(values), axis=tuple(axis), keepdims=True)
    return ops.maximum(largest, _NARROWEST) / (_LEVELS // 2)


def fake_quantized_kernel(kernel, axis: Sequence[int]):
    """A kernel rounded to int8 as files hold it: symmetric, of each filter to 127 parts of its largest |weight|.

    Folding a batch norm multiplies a filter and its scale by one number, so the rounding is that of the folded kernel.

    Args:
        kernel: a tensor in floating point.
        axis: those that one scale is shared over; the gradient passes as if nothing was rounded.

    Returns:
        A tensor of the same shape and dtype.

    Example:
        >>> kernel = np.array([[1.0, 12.7], [0.499, 0.14]], "float32")
        >>> ops.convert_to_numpy(fake_quantized_kernel(kernel, (0,))).round(4)
        array([[ 1.    , 12.7   ],
               [ 0.4961,  0.1   ]], dtype=float32)
    """
    values = ops.cast(ops.convert_to_tensor(kernel), "float32")
    scale = ops.stop_gradient(kernel_scale(values, axis))
    rounded = ops.round(ops.stop_gradient(values) / scale) * scale
    return ops.cast(values + ops.stop_gradient(rounded - values), kernel.dtype)


@keras.saving.register_keras_serializable("keras_condense")
class FakeQuantize(keras.layers.Layer):
    """Activations rounded to the 256 numbers that int8 has for their range.

    In training the layer follows the range of what it gets: the mean of the batches' least and largest numbers, of the
    last hundred or so. It computes with `keras.quantizers.fake_quant_with_min_max_vars`, whose gradient passes numbers
    inside the range. Called in several places of a graph, it has one range for all of them, which spans those of each:
    what a file holds as one tensor, or copies without computing (a concatenation), has one range. Before it has seen
    anything, it rounds nothing.

    Args:
        sites: in how many places it is called; each call says which one by `site`.
        fixed: (least, largest) of a range that is known beforehand, as that of a softmax; None to follow it. To such a
            range nothing is rounded in training: the logarithm of a probability that is rounded to 0 has no gradient.
        frozen: keep the range as it is in training too.
        rounds: False for what leaves the model: the file rounds it, and here losses want it as it is.
        name: the layer's name.
        dtype: dtype or dtype policy.

    Input shape:
        Any.

    Output shape:
        That of the input.

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> layer = FakeQuantize()
        >>> numbers = np.array([0.0, 0.1, 0.5, 25.5], "float32")
        >>> layer.observe(numbers), layer.range
        (None, (0.0, 25.5))
        >>> ops.convert_to_numpy(layer(np.array([0.04, 0.06, 30.0], "float32"))).round(4)
        array([ 0. ,  0.1, 25.5], dtype=float32)
    """

    def __init__(self, sites=1, fixed=None, frozen=False, rounds=True, *, name=None, dtype=None, **kwargs):
        super().__init__(name=name, dtype=dtype, **kwargs)
        self.sites = check_positive_integer("sites", sites, "Give the number of places that the layer is called in.")
        self.fixed, self.frozen, self.rounds = None, bool(frozen), bool(rounds)
        self.observing = False  # follow the range in inference, of numbers that nothing before has rounded
        self.passing = False  # round nothing
        self.supports_masking = True
        if fixed is not None:
            lowest, highest = map(float, fixed)
            if not lowest <= 0 <= highest or not lowest < highest < float("inf"):
                raise ValueError(f"`fixed` (={shown(fixed)}) must be (least, largest) around 0. Use (0, 255 / 256).")
            self.fixed = lowest, highest

    def build(self, input_shape=None):
        if self.fixed is None:
            kept = {"initializer": "zeros", "trainable": False, "autocast": False, "dtype": "float32"}
            self.minimum = self.add_weight(name="minimum", shape=(self.sites,), **kept)
            self.maximum = self.add_weight(name="maximum", shape=(self.sites,), **kept)
            self.batches = self.add_weight(name="batches", shape=(self.sites,), **kept)
        self.built = True

    def observe(self, inputs, site: int = 0) -> None:
        """Let the range follow a batch."""
        if not self.built:
            self.build()
        here = np.arange(self.sites) == site
        values = ops.cast(inputs, "float32")
        weight = here / ops.minimum(self.batches + 1.0, float(_REMEMBERED))
        self.minimum.assign(self.minimum + weight * (ops.min(values) - self.minimum))
        self.maximum.assign(self.maximum + weight * (ops.max(values) - self.maximum))
        self.batches.assign(self.batches + ops.cast(here, "float32"))

    def count_as_one_batch(self) -> None:
        """Let what was seen so far weigh no more than the next batch."""
        if self.fixed is None:
            self.batches.assign(ops.minimum(self.batches, 1.0))

    def _range(self):
        """Least and largest number, as tensors; 0 lies between, for int8 must have it."""
        if self.fixed is not None:
            return tuple(ops.convert_to_tensor(end, "float32") for end in self.fixed)
        lowest = ops.minimum(ops.min(self.minimum), 0.0)
        highest = ops.maximum(ops.max(self.maximum), lowest)
        return lowest, ops.where(highest - lowest < _NARROWEST, lowest + 1.0, highest)

    @property
    def range(self) -> tuple[float, float]:
        """The least and the largest number that the layer gives, before the zero is moved to a whole step."""
        return tuple(float(ops.convert_to_numpy(end)) for end in self._range())

    @property
    def scale(self) -> float:
        """The step between the numbers that the layer gives."""
        lowest, highest = self.range
        return (highest - lowest) / _LEVELS

    @property
    def is_calibrated(self) -> bool:
        """Whether all places have seen a batch."""
        return self.fixed is not None or bool((ops.convert_to_numpy(self.batches) > 0).all())

    hands_on = True  # its output is what it gets, for those who look for the last layer that computes

    def call(self, inputs, site=0, training=None):
        if self.passing or not self.rounds or (training and self.fixed is not None):
            return inputs
        follows = self.fixed is None and (self.observing or (training and not self.frozen))
        if follows:
            self.observe(ops.stop_gradient(inputs), site)
        if self.observing:
            return inputs
        rounded = ops.cast(
            keras.quantizers.fake_quant_with_min_max_vars(ops.cast(inputs, "float32"), *self._range(), num_bits=BITS),
            inputs.dtype,
        )
        if follows or self.fixed is not None:
            return rounded
        return ops.where(ops.max(self.batches) > 0, rounded, inputs)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {
            "sites": self.sites,
            "fixed": self.fixed,
            "frozen": self.frozen,
            "rounds": self.rounds,
        }


@keras.saving.register_keras_serializable("keras_condense")
class QuantizedBatchNormalization(BatchNormalization):
    """A batch norm whose statistics can be frozen while scale and offset go on being trained.

    Frozen, it computes in training as in inference, and so as the file does, whose kernels it is folded into.

    Args:
        frozen: whether it normalizes by the moving statistics in training too, and leaves them.
        **arguments: those of `keras.layers.BatchNormalization`.

    Example:
        >>> layer = QuantizedBatchNormalization(frozen=True)
        >>> outputs = layer(np.full((2, 3), 5.0, "float32"), training=True)
        >>> float(ops.max(outputs)) > 4, float(ops.max(layer.moving_mean))
        (True, 0.0)
    """

    def __init__(self, *, frozen=False, **arguments):
        super().__init__(**arguments)
        self.frozen = bool(frozen)

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=training and not self.frozen, mask=mask)

    def get_config(self):
        return super().get_config() | {"frozen": self.frozen}
