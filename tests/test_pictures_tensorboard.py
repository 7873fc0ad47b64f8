"""What TensorBoard's own reader finds in the folder of a training."""

import io
import sys

import keras
import numpy as np
import pytest
from scheduled_networks import fit, network
from training_runs import EPOCHS, Stop, build_small

from keras_condense import datasets, pictures
from keras_condense.callbacks import CondenseSchedule
from keras_condense.layers import LearnedGroupConv2D, condensable_layers
from keras_condense.pictures import ConnectionPictures, tensorboard_callbacks
from keras_condense.training import train

for package in ("matplotlib", "tensorboard", "tensorflow"):
    pytest.importorskip(package)

pytestmark = pytest.mark.slow  # all of it, together


def read(folder):
    """Every tag's events, of all that writers of Keras and of this package wrote there."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder), size_guidance={"tensors": 0}, purge_orphaned_data=False).Reload()
    return {tag: accumulator.Tensors(tag) for tag in accumulator.Tags()["tensors"]}


def scalars(folder):
    """For each tag the steps and values."""
    from tensorboard.util.tensor_util import make_ndarray

    tags = {tag: events for tag, events in read(folder).items() if tag not in ("keras", "connections")}
    return {tag: [(event.step, float(make_ndarray(event.tensor_proto))) for event in tags[tag]] for tag in tags}


def images(folder):
    """The pictures by their steps, none of which stands twice."""
    from PIL import Image

    events = read(folder / "connections")["connections"]
    found = {event.step: np.array(Image.open(io.BytesIO(event.tensor_proto.string_val[2]))) for event in events}
    assert len(found) == len(events)
    return found


def drawn(model):
    return pictures.drawing.pixels(pictures.connections(model))


def values(history, name):
    return list(enumerate(history.history[name]))


@pytest.mark.parametrize("before", [True, False])
def test_keras_own_callback_writes_stage_and_share_of_connections(before, tmp_path):
    board = keras.callbacks.TensorBoard(tmp_path)
    listed = [board, CondenseSchedule()] if before else [CondenseSchedule(), board]
    history = fit(network(), *listed)
    written = scalars(tmp_path / "train")
    assert written["epoch_condense_stage"] == values(history, "condense_stage")
    assert [stage for _, stage in written["epoch_condense_stage"]] == [0, 1, 2, 3, 3, 3]
    np.testing.assert_allclose(written["epoch_connections_left"], values(history, "connections_left"), rtol=1e-6)
    np.testing.assert_allclose(written["epoch_learning_rate"], [(epoch, 0.01) for epoch in range(6)], rtol=1e-6)


class PutBack(keras.callbacks.Callback):
    """Ends the training with the weights that it began with, and stops it early."""

    def on_train_begin(self, logs=None):
        self._weights = self.model.get_weights()

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = epoch == 1

    def on_train_end(self, logs=None):
        self.model.set_weights(self._weights)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("update_freq", ["epoch", 2])
def test_a_picture_for_each_drop_and_one_for_the_end(before, update_freq, tmp_path):
    model = network()
    boards = [ConnectionPictures(tmp_path), keras.callbacks.TensorBoard(tmp_path, update_freq=update_freq)]
    fit(model, *(boards if before else ()), CondenseSchedule(), *(() if before else boards))
    found = images(tmp_path)
    assert sorted(found) == [0, 1, 2, 3, 6]
    np.testing.assert_array_equal(found[6], drawn(model))
    assert all((found[step] != found[6]).any() for step in (0, 1, 2))


@pytest.mark.filterwarnings("ignore:The training ended after 2 of 6 epochs")
def test_the_last_picture_shows_what_other_callbacks_leave(tmp_path):
    model = network()
    fit(model, ConnectionPictures(tmp_path), CondenseSchedule(), PutBack())
    assert [layer.stage for layer in condensable_layers(model)] == [3, 1]  # made up for at the end
    found = images(tmp_path)
    assert sorted(found) == [0, 1, 2]
    np.testing.assert_array_equal(found[2], drawn(model))


# --- runs that are killed --------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def arrays():
    return datasets.load_arrays("digits", batch_size=256, image_size=8)


def run(folder, data, *others, epochs=EPOCHS):
    model = build_small()
    boards = tensorboard_callbacks(folder / "tensorboard", model)
    train(model, data, folder, epochs=epochs, seed=1, resume=True, callbacks=[*boards, *others], verbose=0)
    return model


class StopBeforeTheCheckpoint(keras.callbacks.Callback):
    """Ends the training where an epoch's scalars and pictures are written and its checkpoint is not."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 2:
            raise InterruptedError


def test_a_resumed_run_shows_each_epoch_once(arrays, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    model = run(whole, arrays)
    for stop in (Stop(0, 2), Stop(1, 3), StopBeforeTheCheckpoint()):
        with pytest.raises(InterruptedError):
            run(killed, arrays, stop)
    file = sorted((killed / "tensorboard" / "validation").glob("*"))[-1]  # of the third
    file.write_bytes(file.read_bytes()[:-5])  # which a kill cut short
    run(killed, arrays)
    for part, names in (
        ("train", {"accuracy", "loss", "condense_stage", "connections_left", "learning_rate"}),
        ("validation", {"accuracy", "loss"}),
    ):
        expected = scalars(whole / "tensorboard" / part)
        assert names == {tag.removeprefix("epoch_") for tag in expected if tag.startswith("epoch_")}
        assert all(len(events) == EPOCHS for events in expected.values())
        assert scalars(killed / "tensorboard" / part) == expected
    pictured, expected = images(killed / "tensorboard"), images(whole / "tensorboard")
    assert sorted(pictured) == sorted(expected) == [0, 2, EPOCHS]
    for step, picture in expected.items():
        np.testing.assert_array_equal(pictured[step], picture)
    np.testing.assert_array_equal(expected[EPOCHS], drawn(model))  # of the network, and not of what feeds it


# --- what goes wrong -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("package", ["tensorboard", "tensorflow", "matplotlib"])
def test_what_must_be_installed_is_named(package, tmp_path, monkeypatch):
    model = network()
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "matplotlib.figure", raising=False)
    extra = "plot" if package == "matplotlib" else "tensorboard"
    for make in (ConnectionPictures, tensorboard_callbacks):
        with pytest.raises(ImportError, match=rf'{package}.*pip install "keras-condense\[{extra}\]"'):
            make(tmp_path / "logs", model)
    assert not list(tmp_path.iterdir())


def test_a_network_without_learned_layers_has_scalars_alone(tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    (board,) = tensorboard_callbacks(tmp_path, model)
    assert isinstance(board, keras.callbacks.TensorBoard)
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="must have learned layers, masked or condensed, and has none"):
        model.fit(np.zeros((2, 4)), np.zeros((2, 2)), verbose=0, callbacks=[ConnectionPictures(tmp_path)])
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made(tmp_path):
    with pytest.raises(ValueError, match=r"`log_dir` \(=3\) must be a string or a path"):
        ConnectionPictures(3)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="a place where one can be made"):
        fit(network(), ConnectionPictures(tmp_path / "file"), CondenseSchedule())


def test_a_network_that_fit_builds_is_drawn(tmp_path):
    model = keras.Sequential([LearnedGroupConv2D(8, 1)])
    model.compile("sgd", "mse")
    x = np.ones((4, 2, 2, 8), "float32")
    model.fit(x, x, epochs=2, verbose=0, callbacks=[ConnectionPictures(tmp_path)])
    assert sorted(images(tmp_path)) == [0, 2]
