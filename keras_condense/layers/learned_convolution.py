"""The convolution whose groups learn which inputs they need."""

from collections.abc import Callable

import keras
from keras import ops

from keras_condense import drop_plans, masks
from keras_condense.layers.channels import ChannelShuffle
from keras_condense.layers.convolution import CONVOLUTION_ARGUMENTS, CheckedConv2D, GroupConv2D
from keras_condense.layers.learned_connections import LearnedConnections
from keras_condense.rewriting import Replacement
from keras_condense.validation import check_not_negative, check_weight_shape

__all__ = ["LearnedGroupConv2D"]


@keras.saving.register_keras_serializable("keras_condense")
class LearnedGroupConv2D(LearnedConnections, CheckedConv2D):
    """A 2-D convolution whose groups of filters learn which inputs they need (CondenseNet, section 3.1).

    It begins dense. At each of C - 1 stages every group loses the in / C inputs that matter least to it; at the last
    each group reads in / C inputs, and `keras_condense.condense` turns the layer into an index and a group
    convolution. `keras_condense.callbacks.CondenseSchedule` moves the stages on while a model is fitted; nothing is
    pruned in `call`. With `pruned_fraction` and `drops_at` a layer loses another share of its inputs, at other moments.

    Filter f belongs to group f mod `groups`. The weights are `kernel` (height, width, inputs, filters), `mask`
    (groups, inputs) and, if asked for, `bias` (filters).

    Args:
        filters: number of output channels, a multiple of `groups`.
        kernel_size: one or two ints, height and width.
        strides: one or two ints.
        padding: "valid" or "same".
        data_format: None or "channels_last".
        dilation_rate: one or two ints; not together with strides.
        groups: G, the number of groups.
        condense_factor: C, a divisor of the input's channels; one connection in C is left at the end. By default 4.
        group_lasso: weight of the group lasso (`masks.group_lasso`), added to the training loss until the last
            stage is reached, in each call of a layer that is called several times.
        activation: None, a name or a function.
        use_bias: False by default, as in the paper.
        kernel_initializer: as in `keras.layers.Conv2D`, and so are the remaining arguments.
        bias_initializer: for the bias.
        kernel_regularizer: for the kernel.
        bias_regularizer: for the bias.
        activity_regularizer: for the outputs.
        kernel_constraint: for the kernel.
        bias_constraint: for the bias.
        pruned_fraction: the share of its inputs that each group loses, in place of `condense_factor`; rounded so that
            `drop_plans.inputs_left` are left, of any number of channels. It needs `drops_at`.
        drops_at: the progress of the training, ascending in [0, 1), at which each drop falls; the drops are equally
            large. By default CondenseNet's s / (2 (C - 1)) for s from 1 to C - 1.
        trainable: whether the weights are trained.
        dtype: dtype or dtype policy.
        name: the layer's name.

    Input shape:
        (batch, height, width, channels).

    Output shape:
        (batch, new height, new width, filters).

    Raises:
        ValueError: an argument out of range; both `condense_factor` and `pruned_fraction`; channels that
            `condense_factor` does not divide; `channels_first`.

    Example:
        >>> import numpy as np
        >>> layer = LearnedGroupConv2D(8, 1, groups=2, condense_factor=4)
        >>> tuple(layer(np.ones((2, 5, 5, 16), "float32")).shape), layer.stage
        ((2, 5, 5, 8), 0)
        >>> layer.condense_to(3), layer.stage, int(np.sum(layer.mask))
        (True, 3, 8)
        >>> layer = LearnedGroupConv2D(8, 3, groups=1, pruned_fraction=0.3, drops_at=(1 / 6, 1 / 3))
        >>> tuple(layer(np.ones((2, 5, 5, 16), "float32")).shape), layer.final_stage
        ((2, 3, 3, 8), 2)
        >>> layer.condense_to(2), int(np.sum(layer.mask))
        (True, 11)
    """

    def __init__(
        self,
        filters,
        kernel_size,
        strides=(1, 1),
        padding="valid",
        data_format=None,
        dilation_rate=(1, 1),
        groups=4,
        condense_factor=None,
        group_lasso=0.0,
        activation=None,
        use_bias=False,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        *,
        pruned_fraction=None,
        drops_at=None,
        trainable=True,
        dtype=None,
        name=None,
    ):
        super().__init__(
            filters,
            kernel_size,
            strides=strides,
            padding=padding,
            data_format=data_format,
            dilation_rate=dilation_rate,
            groups=groups,
            activation=activation,
            use_bias=use_bias,
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
        )
        self.set_plan(condense_factor, pruned_fraction, drops_at, default_condense_factor=4)
        self.group_lasso = check_not_negative(
            "group_lasso", group_lasso, "Use 0 for none; the paper uses 1e-5 on ImageNet."
        )

    def build(self, input_shape):
        channels = self.checked_channels(input_shape)
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={-1: channels})
        shape = (*self.kernel_size, channels, self.filters)  # Keras would make a kernel for one group's inputs alone
        check_weight_shape(self.name, shape)
        self.build_mask(channels)
        self._kernel = self.add_weight(
            name="kernel",
            shape=shape,
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
            autocast=False,  # the group lasso is summed in the variable's precision
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(self.filters,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )

    def call(self, inputs, training=None):
        if self.group_lasso and training:
            self.add_loss(self.group_lasso * self.lasso())
        return super().call(inputs)

    def convolution_op(self, inputs, kernel):
        return super().convolution_op(inputs, self.used_kernel())

    def lasso(self):
        """The group lasso of the layer, without its weight: a scalar, 0 once the last stage is reached."""
        kernel = ops.convert_to_tensor(self.kernel)
        groups, inputs = self.mask.shape
        connections = groups * drop_plans.inputs_left(inputs, self.final_stage, self.plan)
        unfinished = ops.cast(ops.sum(ops.cast(self.mask, "float32")) > connections + 0.5, kernel.dtype)
        return unfinished * masks.group_lasso(kernel, ops.convert_to_tensor(self.mask))

    def condensed(self, new_name: Callable[[str], str]) -> Replacement:
        """`ChannelIndex`, a `GroupConv2D` of this layer's name, `ChannelShuffle` and `Activation`, where needed."""
        inputs, groups, weights = self.condensed_weights()
        # the activation may mix channels (softmax), so it waits until they are in order
        convolution = GroupConv2D(**self.shared_arguments(*CONVOLUTION_ARGUMENTS), groups=groups)
        parts: Replacement = [(convolution, weights)]
        if groups > 1:
            name = new_name(f"{self.name}_shuffle")
            parts.append((ChannelShuffle(groups, dtype=self.dtype_policy, name=name), None))
        if self.activation is not keras.activations.linear or self.activity_regularizer is not None:
            parts.append(self.condensed_activation(new_name))
        return self.indexed(inputs, parts, new_name)

    def get_config(self):
        return super().get_config() | self.plan_config() | {"group_lasso": self.group_lasso}
