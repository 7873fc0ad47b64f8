"""Runs at their seams: callbacks that restore, stops in an epoch, other data, odd models, odd arguments."""

import pathlib

import keras
import numpy as np
import pytest
from training_runs import EPOCHS, Stop, weights_and_state

from keras_condense import datasets
from keras_condense.layers import LearnedGroupConv2D, condensable_layers
from keras_condense.saving import load_model
from keras_condense.training import Recipe, train

pytestmark = pytest.mark.slow  # all of it, together


@pytest.fixture(scope="module")
def data():
    return datasets.load_arrays("digits", batch_size=300, image_size=8)


def small(*first, classes=10, size=8):
    """A network that is traced in a second, with layers of one's own before its own."""
    keras.utils.set_random_seed(5)
    image = x = keras.Input((size, size, 1))
    for layer in (*first, keras.layers.Conv2D(8, 3, strides=2)):
        x = layer(x)
    x = LearnedGroupConv2D(8, 1, groups=2, condense_factor=2, name="learned")(x)
    scores = keras.layers.Dense(classes, activation="softmax")(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, scores, name="small")


def epochs_of(folder) -> list[str]:
    return [line.split(",")[0] for line in (folder / "log.csv").read_text().splitlines()[1:]]


class Seen(keras.callbacks.Callback):
    """The epochs that `fit` begins."""

    def __init__(self):
        super().__init__()
        self.epochs = []

    def on_epoch_begin(self, epoch, logs=None):
        self.epochs.append(epoch)


def test_earlier_weights_that_a_callback_restores_are_condensed_with_a_warning(data, tmp_path):
    restoring = keras.callbacks.EarlyStopping("epoch_number", mode="min", patience=99, restore_best_weights=True)

    class Number(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["epoch_number"] = epoch  # the dense network of the first epoch is the best

    with (
        pytest.warns(
            UserWarning, match=r"`EarlyStopping` looks at epochs of all stages, .* Give it `start_from_epoch=2`"
        ),
        pytest.warns(UserWarning, match="The training ended after 4 of 4 epochs, 1 condensing stages early"),
    ):
        model = train(small(), data, tmp_path, epochs=EPOCHS, callbacks=[Number(), restoring], verbose=0)
    assert all(layer.stage == layer.final_stage for layer in condensable_layers(model))


def test_a_single_callback_and_numpy_numbers(data, tmp_path):
    seen = Seen()
    numbers = {"epochs": np.int64(1), "learning_rate": np.float32(0.1), "seed": np.int64(3), "momentum": np.float64(0)}
    train(small(), data, tmp_path, callbacks=seen, verbose=0, **numbers)
    assert seen.epochs == [0]


class LosesSteps(keras.callbacks.Callback):
    """An optimizer's own count is behind, as where loss scaling skips a step."""

    def on_epoch_end(self, epoch, logs=None):
        self.model.optimizer.iterations.assign_sub(2)


def test_a_run_goes_on_at_the_epoch_that_was_saved(data, tmp_path):
    with pytest.raises(InterruptedError):
        train(small(), data, tmp_path, epochs=EPOCHS, callbacks=[LosesSteps(), Stop(2, 0)], verbose=0)
    seen = Seen()
    train(small(), data, tmp_path, epochs=EPOCHS, callbacks=[seen], resume=True, verbose=0)
    assert seen.epochs == [2, 3]
    assert epochs_of(tmp_path) == ["1", "2", "3", "4"]


def test_an_epoch_that_was_stopped_in_its_middle_is_repeated(data, tmp_path):
    class StopEarly(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = (self.epoch, batch) == (1, 1)

    with pytest.warns(UserWarning, match="early"):
        train(small(), data, tmp_path, epochs=EPOCHS, callbacks=[StopEarly()], verbose=0)
    assert epochs_of(tmp_path) == ["1"]
    seen = Seen()
    train(small(), data, tmp_path, epochs=EPOCHS, callbacks=[seen], resume=True, verbose=0)
    assert seen.epochs == [1, 2, 3]


@pytest.mark.parametrize("load", [datasets.load, datasets.load_arrays])
def test_a_run_does_not_go_on_with_other_data(load, tmp_path):
    options = {"batch_size": 300, "image_size": 8, "validation_fraction": 0.1}
    with pytest.raises(InterruptedError):
        train(small(), load("digits", **options), tmp_path, epochs=2, callbacks=[Stop(1, 0)], verbose=0)
    for changed, name in [
        ({"split_seed": 1}, "images_checksum"),
        ({"seed": 1}, "data_seed"),
        ({"augment": False}, "augmentation"),
        ({"mean": (0.5,)}, "mean"),
        ({"validation_fraction": 0.3}, "steps_per_epoch"),
    ]:
        with pytest.raises(ValueError, match=rf"and these differ: .*{name} \(="):
            train(small(), load("digits", **options | changed), tmp_path, epochs=2, resume=True, verbose=0)


def test_a_folder_whose_images_changed(image_folder, tmp_path):
    def data():
        return datasets.load(image_folder, batch_size=8, image_size=16, channels=1, test_fraction=0.3)

    with pytest.raises(InterruptedError):
        train(small(classes=2, size=16), data(), tmp_path / "run", epochs=2, callbacks=[Stop(1, 0)], verbose=0)
    first = sorted(image_folder.glob("*/*.png"))[0]
    first.rename(first.with_name("another.png"))
    with pytest.raises(ValueError, match=r"and these differ: images_checksum"):
        train(small(classes=2, size=16), data(), tmp_path / "run", epochs=2, resume=True, verbose=0)


@pytest.fixture
def image_folder(tmp_path):
    from PIL import Image

    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(12):
            pixels = random.integers(0, 255, (16, 16), "uint8")
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    return tmp_path / "images"


def test_other_columns_of_the_log(data, tmp_path):
    with pytest.raises(InterruptedError):
        train(small(), data, tmp_path, epochs=EPOCHS, callbacks=[Stop(2, 0)], verbose=0)
    train(small(), data, tmp_path, epochs=EPOCHS, validate=False, resume=True, verbose=0)
    lines = [line.split(",") for line in (tmp_path / "log.csv").read_text().splitlines()]
    column = lines[0].index("val_loss")
    assert [bool(line[column]) for line in lines] == [True, True, True, False, False]


class Odd(keras.layers.Layer):
    """Nobody registered it."""

    def __init__(self, factor=1.0, **options):
        super().__init__(**options)
        self.factor = factor

    def call(self, inputs):
        return inputs * self.factor


class Unsaved(keras.layers.Layer):
    def __init__(self, table, **options):
        super().__init__(**options)
        self.table = object()

    def call(self, inputs):
        return inputs


def test_a_model_of_a_layer_that_nobody_registered_goes_on(data, tmp_path):
    with pytest.raises(InterruptedError):
        train(small(Odd(1.0)), data, tmp_path, epochs=2, callbacks=[Stop(1, 0)], verbose=0)
    train(small(Odd(1.0)), data, tmp_path, epochs=2, resume=True, verbose=0)
    assert epochs_of(tmp_path) == ["1", "2"]


def test_a_sequential_model_without_a_name_goes_on(data, tmp_path):
    def model():
        layers = [keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")]
        return keras.Sequential([keras.Input((8, 8, 1)), *layers])

    with pytest.raises(InterruptedError):
        train(model(), data, tmp_path, epochs=2, callbacks=[Stop(1, 0)], verbose=0)
    train(model(), data, tmp_path, epochs=2, resume=True, verbose=0)
    assert epochs_of(tmp_path) == ["1", "2"]


def test_a_checkpoint_of_another_optimizer_is_refused(data, tmp_path):
    with pytest.raises(InterruptedError):
        train(small(), data, tmp_path, epochs=2, callbacks=[Stop(1, 0)], verbose=0)
    checkpoint = tmp_path / "checkpoint.keras"
    other = load_model(checkpoint)
    other.compile("adam", "mse")
    other.optimizer.build(other.trainable_variables)
    other.save(checkpoint)
    with pytest.raises(ValueError, match=r"must hold the state of `model` \(='small'\).*Skipping variable"):
        train(small(), data, tmp_path, epochs=2, resume=True, verbose=0)
    load_model(tmp_path / "checkpoint.keras").save(checkpoint)


def test_a_checkpoint_that_does_not_say_its_epoch(data, tmp_path):
    with pytest.raises(InterruptedError):
        train(small(), data, tmp_path, epochs=2, callbacks=[Stop(1, 0)], verbose=0)
    load_model(tmp_path / "checkpoint.keras").save(tmp_path / "checkpoint.keras")
    with pytest.raises(ValueError, match=r"its checkpoint\.keras does not say how many epochs it was trained"):
        train(small(), data, tmp_path, epochs=2, resume=True, verbose=0)


def subclassed():
    class Mine(keras.Model):
        def call(self, images):
            return images

    return Mine()


def of_own_arguments():
    class Classifier(keras.Model):
        def __init__(self, classes):
            image = keras.Input((None, None, 1))
            x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(image))
            super().__init__(image, keras.layers.Dense(classes, activation="softmax")(x))

    return Classifier(10)


def with_an_unsaved_layer():
    image = keras.Input((8, 8, 1))
    x = keras.layers.Flatten()(Unsaved(object())(image))
    return keras.Model(image, keras.layers.Dense(10, activation="softmax")(x))


def of_two_outputs():
    image = keras.Input((8, 8, 1))
    scores = keras.layers.Dense(10)(keras.layers.Flatten()(image))
    return keras.Model(image, {"scores": scores, "again": scores * 2})


@pytest.mark.parametrize(
    ("model", "recipe", "message"),
    [
        (lambda: keras.Sequential([keras.layers.Dense(10)]), "paper", "must be a functional or a built sequential"),
        (subclassed, "paper", "must be a functional or a built sequential model that maps images"),
        (of_two_outputs, "paper", "must be a functional or a built sequential model that maps images"),
        (of_own_arguments, Recipe(small_crops=(0.75, 0.5)), "is a Classifier, which can't be made of inputs"),
        (with_an_unsaved_layer, "paper", "must be one that can be saved, and that fails"),
    ],
)
def test_models_that_no_run_can_take_are_refused_at_once(data, tmp_path, model, recipe, message):
    with pytest.raises(ValueError, match=message):
        train(model(), data, tmp_path / "run", recipe=recipe, verbose=0)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": None}, r"`seed` \(=None\) must be an integer in \[0, 2\*\*32\)"),
        ({"seed": -1}, r"`seed` \(=-1\) must be"),
        ({"settings": {"root": pathlib.Path("data")}}, r"`settings` \(=.* must be values that JSON has, and they are"),
    ],
)
def test_arguments_that_can_not_be_written_down_are_refused_at_once(data, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        train(small(), data, tmp_path / "run", epochs=1, verbose=0, **options)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_takes_no_files_any_more(data, tmp_path, monkeypatch):
    with pytest.raises(InterruptedError):
        train(small(), data, tmp_path, epochs=2, callbacks=[Stop(1, 0)], verbose=0)
    import keras_condense.training.run_folder as module

    def refused(path):
        raise ValueError(f"`path` (={str(path)!r}) must be in a folder that takes files.")

    monkeypatch.setattr(module, "check_writable", refused)
    seen = Seen()
    with pytest.raises(ValueError, match="must be in a folder that takes files"):
        train(small(), data, tmp_path, epochs=2, callbacks=[seen], resume=True, verbose=0)
    assert not seen.epochs


def test_two_equal_runs_end_alike_though_one_was_stopped_with_masks_half_dropped(data, tmp_path):
    train(small(), data, tmp_path / "whole", epochs=EPOCHS, verbose=0)
    with pytest.raises(InterruptedError):
        train(small(), data, tmp_path / "broken", epochs=EPOCHS, callbacks=[Stop(3, 1)], verbose=0)
    model = small()
    returned = train(model, data, tmp_path / "broken", epochs=EPOCHS, resume=True, verbose=0)
    assert returned is model
    states = [weights_and_state(tmp_path / name / "model.keras") for name in ("whole", "broken")]
    for ours, theirs in zip(*states, strict=True):
        np.testing.assert_array_equal(ours, theirs)
