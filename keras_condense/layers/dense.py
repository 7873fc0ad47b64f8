"""The classifier's counterpart of a learned group convolution."""

import keras
from keras import activations, constraints, initializers, ops, regularizers

from keras_condense.layers.learned_inputs import LearnedInputs
from keras_condense.validation import LARGEST_CHANNELS, check_positive_integer, check_real, check_weight_shape

__all__ = ["CondenseDense"]


@keras.saving.register_keras_serializable("keras_condense")
class CondenseDense(LearnedInputs, keras.layers.Layer):
    """A dense layer that learns which of its inputs it needs, all units as one group (CondenseNet, section 4).

    It begins as `keras.layers.Dense`. At each of C - 1 stages it loses the in / C inputs with the least sum of |kernel|
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
        super().__init__(activity_regularizer=activity_regularizer, trainable=trainable, dtype=dtype, name=name)
        self.units = check_positive_integer("units", units, "Give the number of outputs.", largest=LARGEST_CHANNELS)
        self.set_plan(condense_factor, pruned_fraction, drops_at, default_condense_factor=2)
        self.activation = activations.get(activation)
        self.use_bias = bool(use_bias)
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self.input_spec = keras.layers.InputSpec(min_ndim=2)

    def build(self, input_shape):
        inputs = input_shape[-1]
        if inputs is None:
            raise ValueError(
                f"Layer {self.name!r} got inputs of shape {tuple(input_shape)}, and expects the last axis to be known. "
                "Give `keras.Input` a full `shape`."
            )
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: inputs})
        check_weight_shape(self.name, (inputs, self.units))
        self.build_mask(inputs)
        self.kernel = self.add_weight(
            name="kernel",
            shape=(inputs, self.units),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
            autocast=False,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(self.units,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
                autocast=False,
            )

    def call(self, inputs):
        check_real("inputs", inputs.dtype)
        outputs = ops.matmul(inputs, ops.cast(self.masked_kernel(), self.compute_dtype))
        if self.use_bias:
            outputs = ops.add(outputs, ops.cast(self.bias, self.compute_dtype))
        return self.activation(outputs)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self):
        return super().get_config() | {
            "units": self.units,
            **self.plan_config(),
            "activation": activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "bias_initializer": initializers.serialize(self.bias_initializer),
            "kernel_regularizer": regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": regularizers.serialize(self.bias_regularizer),
            "activity_regularizer": regularizers.serialize(self.activity_regularizer),
            "kernel_constraint": constraints.serialize(self.kernel_constraint),
            "bias_constraint": constraints.serialize(self.bias_constraint),
        }
