"""Small networks of every kind that export has to deal with, with random statistics (negative scales too)."""

import keras
import numpy as np

from keras_condense.layers import (
    BatchNormalization,
    ChannelIndex,
    ChannelShuffle,
    CondenseDense,
    GroupConv2D,
    LearnedGroupConv2D,
)


def randomize(model, seed=0):
    """Draw weights as they are after training: batch norms whose statistics are not 0 and 1."""
    random = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            channels = layer.gamma.shape[0]
            layer.set_weights(
                [
                    random.uniform(0.5, 1.5, channels) * random.choice([-1, 1], channels),
                    random.normal(size=channels),
                    random.normal(size=channels),
                    random.uniform(0.5, 2.0, channels),
                ]
            )
    return model


def condensed(blocks=((2, 8), (2, 16)), groups=4, factor=4, size=16, classes=10, use_bias=False, seed=0):
    """A condensed network as the paper has it: index, BN, ReLU, 1x1, shuffle, BN, ReLU, 3x3, concatenation."""
    keras.utils.set_random_seed(seed)
    random = np.random.default_rng(seed)
    inputs = keras.Input((size, size, 3), name="image")
    x = GroupConv2D(2 * blocks[0][1], 3, padding="same")(inputs)
    for number, (layers, growth) in enumerate(blocks):
        if number:
            x = keras.layers.AveragePooling2D(2)(x)
        for _ in range(layers):
            channels = x.shape[-1]
            y = ChannelIndex(random.integers(0, channels, channels // factor * groups))(x)
            y = keras.layers.ReLU()(BatchNormalization(epsilon=1e-5)(y))
            y = ChannelShuffle(groups)(GroupConv2D(4 * growth, 1, groups=groups, use_bias=use_bias)(y))
            y = keras.layers.ReLU()(BatchNormalization(epsilon=1e-5)(y))
            y = GroupConv2D(growth, 3, padding="same", groups=groups)(y)
            x = keras.layers.Concatenate()([x, y])
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(BatchNormalization()(x)))
    return randomize(keras.Model(inputs, keras.layers.Dense(classes, name="logits")(x), name="condensed"), seed)


def masked(finished=True):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 16), name="image")
    convolution = LearnedGroupConv2D(16, 1, groups=4, condense_factor=4, name="squeeze")
    classifier = CondenseDense(5, condense_factor=2, name="logits")
    x = keras.layers.ReLU()(BatchNormalization()(convolution(inputs)))
    model = keras.Model(inputs, classifier(keras.layers.GlobalAveragePooling2D()(x)))
    if finished:
        convolution.condense_to(3)
        classifier.condense_to(1)
    return randomize(model)


def images(rows, *shape, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, *shape)).astype("float32")


def relative_difference(actual, expected):
    """The largest difference, in units of the largest expected value."""
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def reference(model, inputs):
    return keras.ops.convert_to_numpy(model(inputs, training=False))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.convolution = keras.layers.Conv2D(4, 3)
        self.dropout = keras.layers.Dropout(0.5)

    def call(self, inputs, training=None):
        return self.dropout(self.convolution(inputs), training=training)


class Decompose(keras.layers.Layer):
    def call(self, inputs):
        import tensorflow as tf

        return tf.linalg.svd(inputs, compute_uv=False)


def with_missing_operator():
    inputs = keras.Input((4, 4, 2))
    return keras.Model(inputs, Decompose(name="decompose_3")(keras.layers.Conv2D(3, 1)(inputs)))
