"""Dense layers with a mask, among them the classifier's counterpart of a learned group convolution."""

from collections.abc import Callable

import keras
from keras import ops, regularizers

from keras_condense.layers.learned_connections import LearnedConnections
from keras_condense.rewriting import Replacement
from keras_condense.validation import LARGEST_CHANNELS, check_positive_integer, check_real, check_weight_shape

__all__ = ["CheckedDense", "CondenseDense", "MaskedDense"]


class CheckedDense(keras.layers.Dense):
    """A `keras.layers.Dense` that checks its inputs and computes with `used_kernel`."""

    def used_kernel(self):
        """The kernel that the layer computes with, in its variable's dtype."""
        return self.kernel

    def checked_inputs(self, input_shape) -> int:
        """The size of the last axis, if the input's shape says it."""
        inputs = input_shape[-1]
        if inputs is None:
            raise ValueError(
                f"Layer {self.name!r} got inputs of shape {tuple(input_shape)}, and expects the last axis to be known. "
                "Give `keras.Input` a full `shape`."
            )
        check_weight_shape(self.name, (inputs, self.units))
        return inputs

    def call(self, inputs, training=None):
        # Keras' call, with another kernel
        check_real("inputs", inputs.dtype)
        outputs = ops.matmul(inputs, ops.cast(self.used_kernel(), self.compute_dtype))
        if self.use_bias:
            outputs = ops.add(outputs, self.bias)
        return self.activation(outputs)

    def get_config(self):
        config = super().get_config()
        config.pop("quantization_config", None)  # it is refused
        return config | {"activity_regularizer": regularizers.serialize(self.activity_regularizer)}

    @classmethod
    def from_config(cls, config):
        return super(keras.layers.Dense, cls).from_config(config)  # Keras' Dense would add a `quantization_config`


class MaskedDense(LearnedConnections, CheckedDense):
    """What dense layers with a mask share: they are built, called and saved as Keras' own, with the masked kernel."""

    def used_kernel(self):
        return self.masked_kernel()

    def build(self, input_shape):
        self.build_mask(self.checked_inputs(input_shape))
        super().build(input_shape)

    def get_config(self):
        return super().get_config() | self.plan_config()


@keras.saving.register_keras_serializable("keras_condense")
class CondenseDense(MaskedDense):
    """A `keras.layers.Dense` that learns which of its inputs it needs, all units as one group (CondenseNet, section 4).

    It begins dense. At each of C - 1 stages it loses the in / C inputs with the least sum of |kernel|
    over the units; with the paper's C = 2 that is half of them, once. `keras_condense.condense` turns it into an
    index and an ordinary dense layer. The weights are `kernel` (inputs, units), `mask` (1, inputs) and `bias` (units).

    Args:
        units: number of outputs.
        condense_factor: C, a divisor of the inputs; one input in C is left at the end. By default 2.
        activation: None, a name or a function.
        use_bias: whether to add a bias.
        kernel_initializer: as in `keras.layers.Dense`, and so are the remaining arguments.
        bias_initializer: for the bias.
        kernel_regularizer: for the kernel.
        bias_regularizer: for the bias.
        activity_regularizer: for the outputs.
        kernel_constraint: for the kernel.
        bias_constraint: for the bias.
        trainable: whether the weights are trained.
        dtype: dtype or dtype policy.
        name: the layer's name.
        pruned_fraction: the share of its inputs that the layer loses, in place of `condense_factor`, as in
            `LearnedGroupConv2D`. It needs `drops_at`.
        drops_at: the progress of the training, ascending in [0, 1), at which each drop falls.

    Input shape:
        (..., inputs).

    Output shape:
        (..., units).

    Raises:
        ValueError: an argument out of range; both `condense_factor` and `pruned_fraction`; inputs that
            `condense_factor` does not divide.

    Example:
        >>> import numpy as np
        >>> layer = CondenseDense(10, condense_factor=2)
        >>> tuple(layer(np.ones((3, 16), "float32")).shape)
        (3, 10)
        >>> layer.condense_to(1), int(np.sum(layer.mask))
        (True, 8)
    """

    groups = 1

    def __init__(
        self,
        units,
        condense_factor=None,
        activation=None,
        use_bias=True,
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
        pruned_fraction=None,
        drops_at=None,
    ):
        super().__init__(
            check_positive_integer("units", units, "Give the number of outputs.", largest=LARGEST_CHANNELS),
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
        )
        self.set_plan(condense_factor, pruned_fraction, drops_at, default_condense_factor=2)

    def condensed(self, new_name: Callable[[str], str]) -> Replacement:
        """`ChannelIndex`, if inputs are dropped, and a `keras.layers.Dense` of this layer's name."""
        inputs, _, weights = self.condensed_weights()
        if isinstance(self.activation, keras.layers.Layer):  # with weights of its own, perhaps
            parts = [(keras.layers.Dense(**self.shared_arguments("units")), weights)]
            return self.indexed(inputs, [*parts, self.condensed_activation(new_name)], new_name)
        dense = keras.layers.Dense(**self.shared_arguments("units", "activation", "activity_regularizer"))
        return self.indexed(inputs, [(dense, weights)], new_name)
