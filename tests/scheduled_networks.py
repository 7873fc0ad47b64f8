"""Small networks to train with `CondenseSchedule`, and what is seen of their stages."""

import math
from fractions import Fraction

import keras
import numpy as np

from keras_condense.layers import CondenseDense, LearnedGroupConv2D, condensable_layers

IMAGES = np.random.default_rng(0).normal(size=(12, 3, 3, 8)).astype("float32")

LABELS = np.arange(12) % 3


def network(condense_factor=4, dense_factor=2):
    model = keras.Sequential([
        keras.Input((3, 3, 8)),
        LearnedGroupConv2D(4, 1, groups=2, condense_factor=condense_factor, name="conv"),
        keras.layers.ReLU(),
        keras.layers.Flatten(),
        CondenseDense(3, dense_factor, name="top"),
    ])  # fmt: skip
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse")
    return model


class Record(keras.callbacks.Callback):
    """The stages of both layers as each batch is trained, by (epoch, batch)."""

    def __init__(self):
        super().__init__()
        self.stages = {}

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.stages[self.epoch, batch] = tuple(layer.stage for layer in condensable_layers(self.model))


def targets(model):
    return keras.utils.to_categorical(LABELS, 3)


def fit(model, *callbacks, **arguments):
    arguments = {"batch_size": 4, "epochs": 6, "verbose": 0, "shuffle": False} | arguments
    return model.fit(IMAGES, targets(model), callbacks=list(callbacks), **arguments)


def exact(step, total, condense_factor):
    return min(math.floor(2 * Fraction(min(step, total), total) * (condense_factor - 1)), condense_factor - 1)


def masks(model):
    return [layer.mask.numpy() for layer in condensable_layers(model)]


def assert_same_masks(a, b):
    for one, other in zip(masks(a), masks(b), strict=True):
        np.testing.assert_array_equal(one, other)


def messages(seen):
    """The texts of the warnings that `pytest.warns` saw, without those of imports."""
    return [str(warning.message) for warning in seen if warning.category is UserWarning]


def planned(fraction=0.3, drops_at=(1 / 6, 1 / 3)):
    """A network with a layer of a plan of its own, beside one of a condense factor."""
    model = keras.Sequential([
        keras.Input((3, 3, 8)),
        LearnedGroupConv2D(4, 3, groups=1, pruned_fraction=fraction, drops_at=drops_at, name="conv"),
        keras.layers.Flatten(),
        CondenseDense(3, name="top"),
    ])  # fmt: skip
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse")
    return model
