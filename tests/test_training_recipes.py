"""Recipes: resumed runs, small crops, when connections are dropped, and trainings without validation."""

import dataclasses

import keras
import numpy as np
import pytest
from training_runs import EPOCHS, Stop, assert_same, build, build_small

from keras_condense import datasets
from keras_condense.training import RECIPES, Recipe, compile_model, train
from keras_condense.training.feeding import for_crops

pytestmark = pytest.mark.slow  # all of it, together


@pytest.fixture(scope="module")
def data():
    return datasets.load("digits", batch_size=256)


@pytest.fixture(scope="module")
def arrays():
    return datasets.load_arrays("digits", batch_size=256, image_size=8)


SHORT = Recipe(
    epochs=EPOCHS, decay="linear", label_smoothing=0.1, last_drop=0.6, small_crops=(0.75, 0.5), alternate_flips=True
)


@pytest.mark.parametrize("kind", ["arrays", "tf.data"])
def test_a_resumed_run_of_a_recipe_with_small_crops_ends_like_an_unbroken_one(kind, data, arrays, tmp_path):
    images, make = (arrays, build_small) if kind == "arrays" else (data, build)
    whole = train(make(), images, tmp_path / "whole", recipe=SHORT, seed=1, verbose=0)
    assert whole.input_shape[1:] == images.image_shape
    for stop in ((1, 1), (2, 0)):  # in small crops, in whole images
        with pytest.raises(InterruptedError):
            train(
                make(), images, tmp_path / "run", recipe=SHORT, seed=1, resume=True, callbacks=[Stop(*stop)], verbose=0
            )
    train(make(), images, tmp_path / "run", recipe=SHORT, seed=1, resume=True, verbose=0)
    assert_same(tmp_path / "run", tmp_path / "whole")


def test_small_crops_come_first_and_are_validated_on_centres(arrays, tmp_path):
    shapes, accuracies = [], []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            network = self.model.layers[-1]
            shapes.append(network.input_shape[1:])
            corner = (8 - network.input_shape[1]) // 2
            centres = arrays.normalize(arrays.test_images)[:, corner : 8 - corner, corner : 8 - corner]
            accuracies.append((logs["val_loss"], logs["val_accuracy"]))
            expected = network.evaluate(centres, arrays.test_labels, verbose=0, return_dict=True)
            np.testing.assert_allclose(accuracies[-1], (expected["loss"], expected["accuracy"]), rtol=1e-4)

    train(build_small(), arrays, tmp_path, recipe=SHORT, callbacks=[Watch()], verbose=0)
    assert shapes == [(6, 6, 1)] * 2 + [(8, 8, 1)] * 2
    assert len(set(accuracies)) == EPOCHS


def test_a_training_that_is_stopped_in_small_crops_ends_there(arrays, tmp_path):
    class End(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    with pytest.warns(UserWarning, match="The training ended after 1 of 4 epochs"):
        train(build_small(), arrays, tmp_path, recipe=SHORT, callbacks=[End()], verbose=0)
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 2


def test_the_recipe_decides_when_connections_are_dropped(arrays, tmp_path):
    recipe = Recipe(epochs=5, last_drop=0.2)
    train(build_small(), arrays, tmp_path, recipe=recipe, verbose=0)
    lines = (tmp_path / "log.csv").read_text().splitlines()
    stages = [line.split(",")[lines[0].split(",").index("condense_stage")] for line in lines[1:]]
    assert stages == ["0", "1", "1", "1", "1"]


def test_the_learning_rate_falls_along_a_line():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, activation="softmax")])
    compile_model(model, steps=10, learning_rate=0.2, decay="linear")
    rates = [float(model.optimizer._learning_rate(step)) for step in range(11)]
    np.testing.assert_allclose(rates, np.linspace(0.2, 0, 11), atol=1e-7)


def test_a_small_crop_is_seen_by_the_same_layers():
    model = build()
    small = for_crops(model, (12, 12, 1))
    assert all(ours is theirs for ours, theirs in zip(small.weights, model.weights, strict=True))
    image = np.random.default_rng(0).normal(size=(2, 12, 12, 1)).astype("float32")
    other = build(input_shape=(12, 12, 1))
    other.set_weights(model.get_weights())
    np.testing.assert_allclose(small.predict(image, verbose=0), other.predict(image, verbose=0), atol=1e-6)


def test_a_network_that_takes_one_size_of_images_alone(arrays, tmp_path):
    flat = [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")]
    with pytest.raises(ValueError, match=r"must take images of any size to be trained on small crops of \(6, 6\)"):
        train(keras.Sequential(flat), arrays, tmp_path / "run", recipe=SHORT, verbose=0)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, r"`epochs` \(=0\) must be a positive integer"),
        ({"decay": "step"}, r"`decay` \(='step'\) must be one of 'cosine', 'linear'"),
        ({"label_smoothing": 1}, r"`label_smoothing` \(=1\) must be a number in \[0, 1\)"),
        ({"last_drop": 0.0}, r"`last_drop` \(=0\.0\) must be a number in \(0, 1\)"),
        ({"small_crops": 0.75}, r"`small_crops` \(=0\.75\) must be None or \(crop, share\)"),
        ({"small_crops": (1.0, 0.5)}, r"`small_crops\[0\]` \(=1\.0\) must be a number in \[0, 1\)"),
        ({"alternate_flips": "yes"}, r"`alternate_flips` \(='yes'\) must be one of True, False"),
    ],
)
def test_recipes_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**options)


def test_an_unknown_recipe(data, tmp_path):
    with pytest.raises(ValueError, match=r"`recipe` \(='quick'\) must be 'paper', 'imagenet', 'short' or a Recipe"):
        train(build(), data, tmp_path / "run", recipe="quick", verbose=0)
    assert not (tmp_path / "run").exists()
    assert RECIPES["paper"] == Recipe(epochs=300, learning_rate=0.1, decay="cosine", weight_decay=1e-4)


@pytest.mark.parametrize("kind", ["arrays", "tf.data"])
def test_a_training_without_validation_looks_at_no_image_held_out(kind, data, arrays, tmp_path):
    if kind == "arrays":
        images, model = dataclasses.replace(arrays), build_small()
        other = dataclasses.replace(arrays, test_images=255 - arrays.test_images)
    else:
        images, model = data, build()
        other = dataclasses.replace(data, test=None)
    for number, each in enumerate((images, other)):
        start = keras.models.clone_model(model)
        start.set_weights(model.get_weights())
        train(start, each, tmp_path / str(number), recipe=SHORT, seed=1, validate=False, verbose=0)
    assert_same(tmp_path / "0", tmp_path / "1")
    assert "val_" not in (tmp_path / "0" / "log.csv").read_text()


@pytest.mark.parametrize(("scaled", "batch_size", "rate"), [(False, 256, 0.1), (True, 256, 0.4), (True, 32, 0.05)])
def test_the_learning_rate_is_scaled_when_asked(scaled, batch_size, rate, tmp_path):
    data = datasets.load_arrays("digits", batch_size=batch_size, image_size=8)
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10, "softmax")])
    rates = []
    see = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: rates.append(float(model.optimizer.learning_rate)))
    options = {"epochs": 1, "scale_learning_rate": scaled, "callbacks": [see], "verbose": 0}
    train(model, data, tmp_path / "run", **options)
    assert rates == [pytest.approx(rate)]
    with pytest.raises(ValueError, match=r"these differ: .*scale_learning_rate"):
        train(model, data, tmp_path / "run", resume=True, **options | {"scale_learning_rate": not scaled})


@pytest.mark.parametrize("distribution", ["all", 2, keras.distribution])
def test_what_is_no_distribution(distribution, arrays, tmp_path):
    with pytest.raises(ValueError, match=r"`distribution` .* must be None, 'auto'"):
        train(build_small(), arrays, tmp_path / "none", distribution=distribution)
    assert not (tmp_path / "none").exists()


def test_all_devices_of_one(arrays, tmp_path):
    """The distribution "auto" is nothing where there is one device."""
    train(build_small(), arrays, tmp_path / "run", distribution="auto", epochs=1, verbose=0)
    assert (tmp_path / "run" / "model.keras").exists()
