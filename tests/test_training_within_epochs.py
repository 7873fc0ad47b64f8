"""A run that is killed within an epoch goes on there, and ends like an unbroken one."""

import json
import zipfile

import keras
import numpy as np
import pytest
from training_runs import EPOCHS, Stop, assert_same, build_small

from keras_condense import datasets
from keras_condense.training import Recipe, train

pytestmark = pytest.mark.slow  # all of it, together

RECIPES = {
    "whole": Recipe(epochs=EPOCHS),
    "crops": Recipe(epochs=EPOCHS, small_crops=(0.75, 0.5), alternate_flips=True, label_smoothing=0.1),
}


@pytest.fixture(scope="module")
def kinds():
    options = {"batch_size": 256, "image_size": 8, "validation_fraction": 0.1}  # six batches, five of arrays
    return {"tf.data": datasets.load("digits", **options), "arrays": datasets.load_arrays("digits", **options)}


@pytest.fixture(scope="module")
def teacher():
    return build_small(name="teacher")


class CountBatches(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.batches = []

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.batches.append(self.epoch)


def rows(folder):
    return [line.rsplit(",", 1)[0] for line in (folder / "log.csv").read_text().splitlines()]


@pytest.mark.parametrize(("kind", "recipe"), [("tf.data", "whole"), ("arrays", "whole"), ("arrays", "crops")])
def test_a_run_goes_on_within_an_epoch(kind, recipe, kinds, teacher, tmp_path):
    data, steps = kinds[kind], kinds[kind].steps_per_epoch
    options = {"recipe": RECIPES[recipe], "seed": 1, "verbose": 0, "class_weights": True}
    options |= {"teacher": teacher} if recipe == "crops" else {}
    train(build_small(), data, tmp_path / "unbroken", **options)
    resumed, went_on = tmp_path / "resumed", [(0, 0), (0, 2), (2, 4)]  # after the kills before
    for stop in [(0, 3), (2, 4), None]:
        counted, stops = CountBatches(), [Stop(*stop)] if stop else []
        arguments = {"resume": True, "save_freq": 2, "callbacks": [counted, *stops], **options}
        if stops:
            with pytest.raises(InterruptedError):
                train(build_small(), data, resumed, **arguments)
        else:
            train(build_small(), data, resumed, **arguments)
        epoch, step = went_on.pop(0)
        assert counted.batches[0] == epoch
        assert counted.batches.count(epoch) == (min(stop[1] + 1, steps) if stop and stop[0] == epoch else steps) - step
    assert_same(resumed, tmp_path / "unbroken")
    assert rows(resumed) == rows(tmp_path / "unbroken")


def test_a_checkpoint_within_an_epoch_says_where_it_is(kinds, tmp_path):
    with pytest.raises(InterruptedError):
        train(build_small(), kinds["arrays"], tmp_path, epochs=2, save_freq=3, callbacks=[Stop(0, 3)], verbose=0)
    with zipfile.ZipFile(tmp_path / "checkpoint.keras") as archive:
        progress = json.loads(archive.read("progress.json"))
    assert (progress["epochs"], progress["steps"]) == (0, 3)
    assert not (tmp_path / "log.csv").exists()


def test_a_loss_that_is_not_finite_within_an_epoch_leaves_the_checkpoint(kinds, tmp_path):
    class Poison(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 2:
                layer = self.model.layers[-1].layers[-1]
                layer.kernel.assign(np.nan * layer.kernel)

    with pytest.raises(ValueError, match="The loss must be finite, and in epoch 1 it is not"):
        train(build_small(), kinds["arrays"], tmp_path, epochs=2, save_freq=2, callbacks=[Poison()], verbose=0)
    train(build_small(), kinds["arrays"], tmp_path, epochs=2, resume=True, verbose=0)
    assert len(rows(tmp_path)) == 3


@pytest.mark.parametrize("save_freq", [0, -1, 1.5, True, "batch", None])
def test_how_often_to_save_is_checked(save_freq, kinds, tmp_path):
    with pytest.raises(ValueError, match=r"`save_freq` .* must be a positive integer\. Use 'epoch', or how many"):
        train(build_small(), kinds["arrays"], tmp_path / "none", save_freq=save_freq)
    assert not (tmp_path / "none").exists()
