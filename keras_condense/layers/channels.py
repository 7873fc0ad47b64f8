"""Layers that only move channels: choose them by index, or interleave groups."""

import keras
import numpy as np
from keras import ops

from keras_condense.validation import check_divisible, check_positive_integer

__all__ = ["ChannelIndex", "ChannelShuffle"]


@keras.saving.register_keras_serializable("keras_condense")
class ChannelIndex(keras.layers.Layer):
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
        try:
            array = np.asarray(indices)
        except ValueError:  # sequences of different lengths
            array = np.empty(0)
        if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iu" or array.min() < 0:
            raise ValueError(
                f"`indices` (={indices!r}) must be a non-empty sequence of integers, none negative. "
                "Give the channels to read, for instance [0, 2, 5]."
            )
        self._initial_indices = array

    def build(self, input_shape):
        channels, highest = input_shape[-1], int(self._initial_indices.max())  # before int32 could wrap them
        if channels is None or highest >= channels:
            raise ValueError(
                f"`indices` of layer {self.name!r} reach channel {highest}, and its input of shape "
                f"{tuple(input_shape)} has {channels} channels. Choose indices below that."
            )
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
class ChannelShuffle(keras.layers.Layer):
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
