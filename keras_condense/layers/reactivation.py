"""Sparse feature reactivation, the twin of a learned group convolution: its groups learn which outputs they update."""

from collections.abc import Callable

import keras
import numpy as np
from keras import constraints, initializers, ops, regularizers

from keras_condense import masks
from keras_condense.layers.channels import ChannelScatterAdd, ChannelShuffle
from keras_condense.layers.convolution import GroupConv2D
from keras_condense.layers.grouped_convolution import grouped_convolution
from keras_condense.layers.learned_connections import LearnedConnections
from keras_condense.rewriting import Replacement
from keras_condense.validation import (
    LARGEST_CHANNELS,
    check_divisible,
    check_not_negative,
    check_positive_integer,
    check_real,
    check_weight_shape,
)

__all__ = ["SparseFeatureReactivation"]


@keras.saving.register_keras_serializable("keras_condense")
class SparseFeatureReactivation(LearnedConnections, keras.layers.Layer):
    """A 1x1 convolution whose groups of inputs learn which outputs they reach (CondenseNetV2).

    A network adds what it gives to features that it made earlier, and so reactivates them; few of them are worth it. It
    begins dense. At each of S - 1 stages every group of inputs loses the filters / S outputs that matter least to it:
    those of the smallest sum of |kernel| over the group's inputs. At the last stage each group reaches filters / S
    outputs, an output is reached by any number of groups, and `keras_condense.condense` turns the layer into a group
    convolution and a `ChannelScatterAdd`. `keras_condense.callbacks.CondenseSchedule` moves the stages on while a model
    is fitted; nothing is pruned in `call`.

    Input i belongs to group i mod `groups`, so that each group reads from all groups of the 3x3 group convolution that
    comes before, whose groups are contiguous. The weights are `kernel` (1, 1, inputs, filters) and `mask`
    (groups, filters). There is no bias and no activation, since features are added to what comes out.

    Args:
        filters: number of output channels, a multiple of `condense_factor`.
        groups: G, the number of groups, a divisor of the input's channels.
        condense_factor: S, the paper's sparse factor; one connection in S is left at the end, 1 keeps all.
        group_lasso: weight of the group lasso (`masks.group_lasso`, over a group's inputs), added to the training
            loss until the last stage is reached, in each call of a layer that is called several times.
        kernel_initializer: as in `keras.layers.Conv2D`, and so are the remaining arguments.
        kernel_regularizer: for the kernel.
        kernel_constraint: for the kernel.
        trainable: whether the weights are trained.
        dtype: dtype or dtype policy.
        name: the layer's name.

    Input shape:
        (batch, height, width, channels).

    Output shape:
        (batch, height, width, filters).

    Raises:
        ValueError: an argument out of range; filters that `condense_factor`, or channels that `groups` do not divide.

    Example:
        >>> layer = SparseFeatureReactivation(16, groups=2, condense_factor=4)
        >>> tuple(layer(np.ones((2, 5, 5, 8), "float32")).shape), layer.stage
        ((2, 5, 5, 16), 0)
        >>> layer.condense_to(3), layer.stage, np.sum(layer.mask, axis=1).tolist()
        (True, 3, [4.0, 4.0])
    """

    use_bias = False

    def __init__(
        self,
        filters,
        groups=8,
        condense_factor=8,
        group_lasso=0.0,
        kernel_initializer="glorot_uniform",
        kernel_regularizer=None,
        kernel_constraint=None,
        trainable=True,
        dtype=None,
        name=None,
    ):
        super().__init__(trainable=trainable, dtype=dtype, name=name)
        self.filters = check_positive_integer(
            "filters", filters, "Give the number of output channels.", largest=LARGEST_CHANNELS
        )
        self.groups = check_positive_integer("groups", groups, "Use the groups of the convolution before it.")
        self.condense_factor = check_positive_integer(
            "condense_factor", condense_factor, "One connection in `condense_factor` is left at the end; 1 keeps all."
        )
        check_divisible("filters", self.filters, "condense_factor", self.condense_factor, "Change one of them.")
        self.group_lasso = check_not_negative("group_lasso", group_lasso, "Use 0 for none.")
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape):
        channels = input_shape[-1]
        if channels is None:
            raise ValueError(
                f"Layer {self.name!r} got inputs of shape {tuple(input_shape)}, and expects (batch, height, width, "
                "channels) with the channels known. Give `keras.Input` a full `shape`."
            )
        check_divisible("in_channels", channels, "groups", self.groups, f"Change one of them in layer {self.name!r}.")
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={-1: channels})
        check_weight_shape(self.name, (channels, self.filters))
        self.build_mask(self.filters)
        self.kernel = self.add_weight(
            name="kernel",
            shape=(1, 1, channels, self.filters),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
            autocast=False,
        )

    def call(self, inputs, training=None):
        check_real("inputs", inputs.dtype)
        if self.group_lasso and training:
            self.add_loss(self.group_lasso * self.lasso())
        inputs, kernel = (ops.cast(x, self.compute_dtype) for x in (inputs, self.masked_kernel()))
        return grouped_convolution(inputs, kernel)

    def kernel_mask(self):
        """The mask spread over the kernel: (inputs, filters), 1 where an input's group reaches a filter."""
        return ops.transpose(masks.mask_of_filters(ops.convert_to_tensor(self.mask), self.kernel.shape[-2]))

    def importance(self) -> np.ndarray:
        """How much each group needs each filter: (groups, filters)."""
        return masks.importance(ops.convert_to_numpy(self.kernel).swapaxes(-1, -2), self.groups)

    def lasso(self):
        """The group lasso of the layer, without its weight: a scalar, 0 once the last stage is reached."""
        kernel = ops.convert_to_tensor(self.kernel)
        connections = self.groups * (self.filters // self.condense_factor)  # what the last stage leaves
        unfinished = ops.cast(ops.sum(self.mask) > connections + 0.5, kernel.dtype)
        return unfinished * masks.group_lasso(ops.swapaxes(kernel, -1, -2), ops.convert_to_tensor(self.mask))

    def condensed(self, new_name: Callable[[str], str]) -> Replacement:
        """`ChannelShuffle`, a `GroupConv2D` of this layer's name and `ChannelScatterAdd`, where needed."""
        mask = self.final_mask()
        drops = not mask.all()
        groups = self.groups if drops else 1
        if groups == 1:
            mask = mask[:1]
        kernel = masks.condensed_reactivation(ops.convert_to_numpy(self.kernel), mask)
        convolution = GroupConv2D(
            kernel.shape[-1],
            1,
            groups=groups,
            kernel_initializer=self.kernel_initializer,
            kernel_regularizer=self.kernel_regularizer,
            kernel_constraint=self.kernel_constraint,
            trainable=self.trainable,
            dtype=self.dtype_policy,
            name=self.name,
        )
        parts: Replacement = [(convolution, [kernel])]
        if groups > 1:
            # puts input d G + g, of group g, in place g (inputs / G) + d
            name = new_name(f"{self.name}_shuffle")
            parts.insert(0, (ChannelShuffle(self.kernel.shape[-2] // groups, dtype=self.dtype_policy, name=name), None))
        if drops:
            targets, name = masks.kept_inputs(mask), new_name(f"{self.name}_scatter")
            parts.append((ChannelScatterAdd(targets, self.filters, dtype=self.dtype_policy, name=name), None))
        return parts

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.filters)

    def get_config(self):
        return super().get_config() | {
            "filters": self.filters,
            "groups": self.groups,
            "condense_factor": self.condense_factor,
            "group_lasso": self.group_lasso,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": regularizers.serialize(self.kernel_regularizer),
            "kernel_constraint": constraints.serialize(self.kernel_constraint),
        }
