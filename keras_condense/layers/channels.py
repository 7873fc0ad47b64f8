"""Layers that only move channels: choose them by index, add them up by index, or interleave groups."""

import keras
import numpy as np
from keras import ops

from keras_condense.validation import LARGEST_CHANNELS, check_divisible, check_positive_integer, check_real, shown

__all__ = ["ChannelIndex", "ChannelScatterAdd", "ChannelShuffle"]


def _check_indices(indices, meaning: str) -> np.ndarray:
    try:
        array = np.asarray(indices)
    except ValueError:  # sequences of different lengths
        array = np.empty(0)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iu" or array.min() < 0:
        raise ValueError(
            f"`indices` (={shown(indices)}) must be a non-empty sequence of integers, none negative. "
            f"Give {meaning}, for instance [0, 2, 5]."
        )
    return array


class _MovesChannels(keras.layers.Layer):
    """What the layers below share: they give out what they get, in its dtype, and with its mask of time steps."""

    def __init__(self, **options):
        super().__init__(**options)
        self.supports_masking = True

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), dtype=inputs.dtype)


class _HoldsIndices(_MovesChannels):
    """A layer with the weight `indices`, each below `_channels`, which `build` sets."""

    def check_indices(self) -> None:
        """Raise ValueError unless all indices lie in the layer's channels; `set_weights` takes any."""
        values = ops.convert_to_numpy(self.indices)
        wrong = values[(values < 0) | (values >= self._channels)]
        if wrong.size:
            raise ValueError(
                f"The weight `indices` of layer {self.name!r} must lie in [0, {self._channels}), the channels that "
                f"there are, and holds {wrong[0]}. Load weights that were saved from the same architecture."
            )

    def load_own_variables(self, store) -> None:
        """Load the indices; one that names no channel is refused, and those that were there stay."""
        before = ops.convert_to_numpy(self.indices)
        super().load_own_variables(store)
        try:
            self.check_indices()
        except ValueError:
            self.indices.assign(before)
            raise


@keras.saving.register_keras_serializable("keras_condense")
class ChannelIndex(_HoldsIndices):
    """Choose channels of the last axis: output channel i is input channel `indices[i]` (CondenseNet, figure 3).

    A channel may be chosen several times or not at all. The indices are a weight, so that weights of a condensed
    network bring their own.

    Args:
        indices: a sequence of ints, the channels to read.
        trainable: has no effect, since there is nothing to train; accepted as for every layer.
        dtype: dtype or dtype policy.
        name: the layer's name.

    Input shape:
        (..., channels).

    Output shape:
        (..., len(indices)).

    Raises:
        ValueError: no index, one that is not an integer, negative, or not below the input's channels.

    Example:
        >>> import numpy as np
        >>> from keras import ops
        >>> ops.convert_to_numpy(ChannelIndex([2, 0, 2])(np.array([[10.0, 11.0, 12.0]], "float32")))
        array([[12., 10., 12.]], dtype=float32)
    """

    def __init__(self, indices, trainable=True, dtype=None, name=None):
        super().__init__(trainable=trainable, dtype=dtype, name=name)
        self._initial_indices = _check_indices(indices, "the channels to read")

    def build(self, input_shape):
        channels, highest = input_shape[-1], int(self._initial_indices.max())  # before int32 could wrap them
        if channels is None or highest >= channels:
            raise ValueError(
                f"`indices` of layer {self.name!r} reach channel {highest}, and its input of shape "
                f"{tuple(input_shape)} has {channels} channels. Choose indices below that."
            )
        self._channels = channels
        self.indices = self.add_weight(
            name="indices",
            shape=self._initial_indices.shape,
            initializer=lambda shape, dtype: ops.convert_to_tensor(self._initial_indices, dtype),
            dtype="int32",
            trainable=False,
        )

    def call(self, inputs):
        return ops.take(inputs, self.indices, axis=-1)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], len(self._initial_indices))

    def get_config(self):
        indices = ops.convert_to_numpy(self.indices) if self.built else self._initial_indices
        return super().get_config() | {"indices": indices.tolist()}


@keras.saving.register_keras_serializable("keras_condense")
class ChannelScatterAdd(_HoldsIndices):
    """Add up channels of the last axis: output channel c is the sum of the input channels i that have `indices[i]` = c.

    An output channel that no index names is zero. `ChannelIndex` says of each output where it comes from, this layer of
    each input where it goes: it puts the results of a condensed `SparseFeatureReactivation` where they belong. The
    indices are a weight, so that weights of a condensed network bring their own.

    Args:
        indices: a sequence of ints, the output channel of each input channel.
        channels: number of output channels, above every index.
        trainable: has no effect, since there is nothing to train; accepted as for every layer.
        dtype: dtype or dtype policy.
        name: the layer's name.

    Input shape:
        (..., len(indices)).

    Output shape:
        (..., channels).

    Raises:
        ValueError: no index, one that is not an integer, negative, or not below `channels`; an input of another
            number of channels.

    Example:
        >>> import numpy as np
        >>> from keras import ops
        >>> ops.convert_to_numpy(ChannelScatterAdd([3, 0, 3], channels=4)(np.array([[1.0, 10.0, 100.0]], "float32")))
        array([[ 10.,   0.,   0., 101.]], dtype=float32)
    """

    def __init__(self, indices, channels, trainable=True, dtype=None, name=None):
        super().__init__(trainable=trainable, dtype=dtype, name=name)
        self._initial_indices = _check_indices(indices, "the output channel of each input channel")
        self.channels = check_positive_integer(
            "channels", channels, "Give the number of output channels.", largest=LARGEST_CHANNELS
        )
        if (highest := int(self._initial_indices.max())) >= self.channels:
            raise ValueError(
                f"`indices` (up to {highest}) must be below `channels` (={self.channels}). "
                f"Give at least {highest + 1} channels."
            )

    def build(self, input_shape):
        if input_shape[-1] != len(self._initial_indices):
            raise ValueError(
                f"Layer {self.name!r} got inputs of shape {tuple(input_shape)}, and expects as many channels (last "
                f"axis) as it has `indices` (={len(self._initial_indices)}). Give one index for each channel."
            )
        self._channels = self.channels
        self.indices = self.add_weight(
            name="indices",
            shape=self._initial_indices.shape,
            initializer=lambda shape, dtype: ops.convert_to_tensor(self._initial_indices, dtype),
            dtype="int32",
            trainable=False,
        )

    def call(self, inputs):
        check_real("inputs", inputs.dtype)
        if keras.backend.standardize_dtype(inputs.dtype) == "bool":
            raise ValueError(
                f"`inputs` (of dtype bool) of layer {self.name!r} must be numbers, which can be added up. Cast them, "
                "for instance with `keras.ops.cast(inputs, 'int32')`."
            )
        channels_first = ops.moveaxis(inputs, -1, 0)
        return ops.moveaxis(ops.segment_sum(channels_first, self.indices, num_segments=self.channels), 0, -1)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.channels)

    def get_config(self):
        indices = ops.convert_to_numpy(self.indices) if self.built else self._initial_indices
        return super().get_config() | {"indices": indices.tolist(), "channels": self.channels}


@keras.saving.register_keras_serializable("keras_condense")
class ChannelShuffle(_MovesChannels):
    """Interleave groups of channels: channel d G + g of the output is channel g (channels / G) + d of the input.

    After a group convolution it puts filter d of group g where a learned group convolution has it.

    Args:
        groups: G, a divisor of the input's channels.
        trainable: has no effect, since there is nothing to train; accepted as for every layer.
        dtype: dtype or dtype policy.
        name: the layer's name.

    Input shape:
        (..., channels).

    Output shape:
        (..., channels).

    Raises:
        ValueError: groups that are not a positive integer or do not divide the channels.

    Example:
        >>> import numpy as np
        >>> from keras import ops
        >>> ops.convert_to_numpy(ChannelShuffle(2)(np.array([[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]], "float32")))
        array([[0., 3., 1., 4., 2., 5.]], dtype=float32)
    """

    def __init__(self, groups, trainable=True, dtype=None, name=None):
        super().__init__(trainable=trainable, dtype=dtype, name=name)
        self.groups = check_positive_integer("groups", groups, "Give the number of groups to interleave.")

    def build(self, input_shape):
        if input_shape[-1] is None:
            raise ValueError(
                f"Layer {self.name!r} got inputs of shape {tuple(input_shape)}, and expects the channels (last axis) "
                "to be known. Give `keras.Input` a full `shape`."
            )
        check_divisible("channels", input_shape[-1], "groups", self.groups, f"Change layer {self.name!r} or its input.")

    def call(self, inputs):
        sizes = ops.shape(inputs)
        channels = inputs.shape[-1]
        grouped = ops.reshape(inputs, (*sizes[:-1], self.groups, channels // self.groups))
        return ops.reshape(ops.swapaxes(grouped, -1, -2), sizes)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return super().get_config() | {"groups": self.groups}
