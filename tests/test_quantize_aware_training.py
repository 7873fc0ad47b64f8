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


def calibrated():
    x, labels = np.random.default_rng(0).random((60, 8, 8, 1), "float32"), np.arange(60) % 10
    aware = build()
    kc.calibrate_ranges(aware, x)
    return aware, x, labels


def test_it_is_compared_with_its_original():
    aware, x, labels = calibrated()
    plain = keras.Sequential([keras.Input((8, 8, 1)), L.Conv2D(4, 3), L.Flatten(), L.Dense(10, activation="softmax")])
    comparison = kc.compare(plain, aware, (x, labels), quantize="int8", runs=1)
    of_file = kc.run_tflite(kc.export_tflite(aware, quantize="int8"), x)
    assert comparison.compressed.accuracy == np.mean(of_file.argmax(axis=1) == labels)


def test_its_file_shares_weights():
    aware, x, _ = calibrated()
    content = kc.export_tflite(aware, quantize="int8", share_weights=6)
    expected = aware.predict(x, verbose=0)
    np.testing.assert_allclose(kc.run_tflite(content, x), expected, atol=1.01 / 256)


def test_what_comes_too_late_or_is_no_model_is_named():
    aware, x, _ = calibrated()
    for late in (
        lambda: kc.learn_groups(aware, 2, 2, where="conv"),
        lambda: kc.prune_weights(aware, 0.5, where="scores_unrounded"),
        lambda: kc.share_weights(aware, 4),
    ):
        with pytest.raises(ValueError, match="computes in int8 already: call this before `quantize_aware`"):
            late()
    plain = keras.Sequential([keras.Input((4,)), L.Dense(16, name="dense")])
    with pytest.raises(ValueError, match="'dense' shares its weights: quantize the model from before"):
        kc.quantize_aware(kc.share_weights(plain, 2))
    for call in (kc.ranges_of, lambda model: kc.calibrate_ranges(model, x)):
        with pytest.raises(ValueError, match=r"`model` \(='aware'\) must be a Keras model made by"):
            call("aware")
