"""Small trainings, and how they are stopped and compared."""

import os

import keras
import numpy as np

from keras_condense.applications import CondenseNet
from keras_condense.saving import load_model

EPOCHS = 4


def build(**options):
    keras.utils.set_random_seed(5)
    options = {"dropout_rate": 0.3, "classes": 10, "condense_factor": 2, "input_shape": (16, 16, 1)} | options
    return CondenseNet((1, 1), (4, 4), stem_strides=1, groups=2, **options)


def build_small(**options):
    return build(**{"input_shape": (8, 8, 1)} | options)


class Stop(keras.callbacks.Callback):
    """Ends the training like a lost machine: with nothing written after it."""

    def __init__(self, epoch, batch):
        super().__init__()
        self._at, self._epoch = (epoch, batch), None

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self._epoch, batch) == self._at:
            raise InterruptedError


def weights_and_state(path):
    model = load_model(path)
    return [np.asarray(variable) for variable in [*model.weights, *model.optimizer.variables]]


def assert_same(folder, unbroken):
    for ours, theirs in zip(
        weights_and_state(folder / "model.keras"), weights_and_state(unbroken / "model.keras"), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    assert sorted(os.listdir(folder)) == ["card.json", "checkpoint.keras", "log.csv", "model.keras", "settings.json"]
