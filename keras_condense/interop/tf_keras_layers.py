"""Layers and activations that tf_keras lacks; this module imports TensorFlow, and is imported inside functions.

The layers have no weights. `get_prunable_weights` says so to tensorflow-model-optimization, which refuses to prune a
model with layers that it does not know.
"""

import tensorflow as tf
import tf_keras

__all__ = [
    "ChannelIndex",
    "ChannelScatterAdd",
    "ChannelShuffle",
    "hard_sigmoid",
    "hard_silu",
    "leaky_relu",
    "log_softmax",
    "relu6",
]

_registered = tf_keras.saving.register_keras_serializable("keras_condense")


class _MovesChannels(tf_keras.layers.Layer):
    """What the layers below share: they work on the last axis, and nothing of them can be pruned."""

    def get_prunable_weights(self):
        return []


@_registered
class ChannelIndex(_MovesChannels):
    """`keras_condense.layers.ChannelIndex`: output channel i is input channel `indices[i]`."""

    def __init__(self, indices, **options):
        super().__init__(**options)
        self.indices = list(indices)

    def call(self, inputs):
        return tf.gather(inputs, list(self.indices), axis=-1)

    def compute_output_shape(self, input_shape):
        return tf.TensorShape([*input_shape[:-1], len(self.indices)])

    def get_config(self):
        return super().get_config() | {"indices": list(self.indices)}


@_registered
class ChannelScatterAdd(_MovesChannels):
    """`keras_condense.layers.ChannelScatterAdd`: input channel i is added to output channel `indices[i]`."""

    def __init__(self, indices, channels, **options):
        super().__init__(**options)
        self.indices, self.channels = list(indices), channels

    def call(self, inputs):
        # a product with zeros and ones, which every converter knows
        return tf.tensordot(inputs, tf.one_hot(list(self.indices), self.channels, dtype=inputs.dtype), axes=1)

    def compute_output_shape(self, input_shape):
        return tf.TensorShape([*input_shape[:-1], self.channels])

    def get_config(self):
        return super().get_config() | {"indices": list(self.indices), "channels": self.channels}


@_registered
class ChannelShuffle(_MovesChannels):
    """`keras_condense.layers.ChannelShuffle`: output channel d G + g is input channel g (channels / G) + d."""

    def __init__(self, groups, **options):
        super().__init__(**options)
        self.groups = groups

    def call(self, inputs):
        sizes, channels = tf.shape(inputs), inputs.shape[-1]
        grouped = tf.reshape(inputs, tf.concat([sizes[:-1], [self.groups, channels // self.groups]], 0))
        rank = len(inputs.shape)
        turned = tf.transpose(grouped, [*range(rank - 1), rank, rank - 1])
        return tf.ensure_shape(tf.reshape(turned, sizes), inputs.shape)

    def compute_output_shape(self, input_shape):
        return tf.TensorShape(input_shape)

    def get_config(self):
        return super().get_config() | {"groups": self.groups}


# --- activations: those of Keras 3, by their names -------------------------------------------------------------------
@_registered
def hard_sigmoid(x):
    """A sixth of relu6(x + 3); tf_keras has another function of that name."""
    return tf.nn.relu6(x + 3.0) / 6.0


@_registered
def hard_silu(x):
    """Its input times `hard_sigmoid` of it."""
    return x * hard_sigmoid(x)


@_registered
def leaky_relu(x):
    """Its input, and a fifth of it below 0."""
    return tf.nn.leaky_relu(x, alpha=0.2)


@_registered
def log_softmax(x):
    """The logarithm of a softmax."""
    return tf.nn.log_softmax(x)


@_registered
def relu6(x):
    """min(max(x, 0), 6)."""
    return tf.nn.relu6(x)
