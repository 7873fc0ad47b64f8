"""Training in int8's numbers: what is frozen, what goes on after a kill, and what it is combined with."""

import keras
import numpy as np
import pytest
from training_runs import Stop, assert_same

import keras_condense as kc
from keras_condense import datasets
from keras_condense.training import train

L = keras.layers
EPOCHS = 4


def build():
    keras.utils.set_random_seed(3)
    image = keras.Input((8, 8, 1))
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(8, 3, strides=2, name="conv")(image)))
    model = keras.Model(image, L.Dense(10, activation="softmax", name="scores")(L.GlobalAveragePooling2D()(x)))
    return kc.quantize_aware(model)


@pytest.fixture(scope="module")
def arrays():
    return datasets.load_arrays("digits", batch_size=256, image_size=8)


@pytest.fixture(scope="module")
def unbroken(arrays, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    train(build(), arrays, folder, epochs=EPOCHS, seed=1, verbose=0)
    return folder


def killed():
    raise InterruptedError


@pytest.mark.parametrize("stop", [Stop(3, 2), keras.callbacks.LambdaCallback(on_train_end=lambda logs: killed())])
def test_a_run_that_was_killed_ends_like_an_unbroken_one(arrays, unbroken, tmp_path, stop):
    with pytest.raises(InterruptedError):
        train(build(), arrays, tmp_path, epochs=EPOCHS, seed=1, callbacks=[stop], verbose=0)
    train(build(), arrays, tmp_path, epochs=EPOCHS, seed=1, resume=True, verbose=0)
    assert_same(tmp_path, unbroken)


def test_schedules_that_can_not_do_what_they_say_are_refused(arrays, tmp_path):
    model, (x, y) = build(), (np.zeros((8, 8, 8, 1)), np.zeros((8,)))
    model.compile("sgd", "sparse_categorical_crossentropy")
    schedule = kc.callbacks.QuantizeSchedule
    with pytest.raises(ValueError, match="hold 2 `QuantizeSchedule`s, and must hold one"):
        model.fit(x, y, verbose=0, callbacks=[schedule(), schedule(freeze_at=0.5)])
    with pytest.raises(ValueError, match=r"hold 2 `QuantizeSchedule`s.*brings its own"):
        train(model, arrays, tmp_path, epochs=1, callbacks=schedule(), verbose=0)
    with pytest.raises(ValueError, match=r"must be known then; that of .* has seen no numbers"):
        model.fit(x, y, verbose=0, callbacks=[schedule(freeze_at=0)])
