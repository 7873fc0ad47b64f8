"""CondenseSchedule beside other callbacks, in any order, and what the progress bar shows."""

import csv
import json
import re

import keras
import numpy as np
import pytest
from scheduled_networks import IMAGES, fit, messages, network, targets

from keras_condense.callbacks import BestCondensed, CondenseSchedule
from keras_condense.callbacks.others import callbacks_beside
from keras_condense.layers import condensable_layers

pytestmark = pytest.mark.slow  # all of it, together

pytest.importorskip("tensorflow")

STAGES = [0, 1, 2, 3, 3, 3]


class Best(keras.callbacks.Callback):
    """Puts the first epoch's weights back, as a callback that knows nothing of stages may."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 0:
            self.weights = self.model.get_weights()

    def on_train_end(self, logs=None):
        self.model.set_weights(self.weights)


@pytest.mark.parametrize("before", [True, False])
def test_callbacks_listed_before_or_behind_read_the_logs(before, tmp_path):
    seen, written = [], tmp_path / "log.csv"
    loggers = [
        keras.callbacks.CSVLogger(written),
        keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(dict(logs))),
    ]
    history = fit(network(), *(loggers if before else ()), CondenseSchedule(), *(() if before else loggers)).history
    assert [logs["condense_stage"] for logs in seen] == history["condense_stage"] == STAGES
    assert [logs["connections_left"] for logs in seen] == history["connections_left"]
    with open(written) as file:
        assert [row["condense_stage"] for row in csv.DictReader(file)] == list(map(str, STAGES))


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("stopping", [None, 0, 2])
def test_the_order_of_all_others_stays(place, stopping):
    """Without a training: who is called when by a list of three others, one of which may be an `EarlyStopping`."""
    called, stages = [], []

    class Other(keras.callbacks.Callback):
        def __init__(self, name):
            super().__init__()
            self.name = name

        def on_epoch_end(self, epoch, logs=None):
            called.append(self.name)
            stages.append(logs["condense_stage"])

        def on_train_end(self, logs=None):
            called.append(self.name)

    class Stopping(Other, keras.callbacks.EarlyStopping):
        pass

    class Schedule(CondenseSchedule):
        def on_train_end(self, logs=None):
            called.append("schedule")
            super().on_train_end(logs)

    listed = [Stopping(i) if i == stopping else Other(i) for i in range(3)]
    listed.insert(place, Schedule())
    callbacks = keras.callbacks.CallbackList(listed, model=network(), epochs=6, steps=1)
    callbacks.on_train_begin()
    for epoch in range(6):
        callbacks.on_epoch_begin(epoch)
        callbacks.on_train_batch_begin(0)
        callbacks.on_epoch_end(epoch, {"loss": 1.0})
    assert called == [0, 1, 2] * 6
    assert stages == [stage for stage in STAGES for _ in range(3)]
    called.clear()
    callbacks.on_train_end()
    assert [one for one in called if one != "schedule"] == [0, 1, 2]
    first = called.index("schedule")
    assert first == (place if stopping is None else max(place, stopping + 1))
    assert called[first + 1 :] == [*range(first, 3), "schedule"]


def test_a_list_that_is_used_again_is_put_in_order_again():
    model, seen = network(), []
    logger = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs["condense_stage"]))
    callbacks = keras.callbacks.CallbackList(
        [logger, CondenseSchedule(epochs=6)], add_history=True, model=model, epochs=3, steps=3
    )
    lengths = set()
    for _ in range(2):
        model.fit(IMAGES, targets(model), batch_size=4, epochs=3, verbose=0, callbacks=callbacks)
        lengths.add(len(callbacks.callbacks))
    assert seen == STAGES
    assert lengths == {5}  # those two, the history, and what was added


@pytest.mark.parametrize("before", [True, False])
def test_weights_that_any_callback_puts_back_are_condensed_with_a_warning(before):
    model = network()
    with pytest.warns(UserWarning, match=r"after 6 of 6 epochs, 3 .* A callback has put back .* use .*BestCondensed`"):
        fit(model, *((Best(), CondenseSchedule()) if before else (CondenseSchedule(), Best())))
    assert [layer.stage for layer in condensable_layers(model)] == [3, 1]


@pytest.mark.parametrize("before", [True, False])
def test_early_stopping_that_begins_with_the_last_stage_keeps_its_weights(before):
    model, kept = network(), {}
    stopping = keras.callbacks.EarlyStopping(
        "loss", mode="max", patience=99, restore_best_weights=True, start_from_epoch=3
    )
    keep = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: kept.update({epoch: model.get_weights()}))
    fit(model, *((stopping, CondenseSchedule()) if before else (CondenseSchedule(), stopping)), keep)  # no warning
    assert stopping.best_epoch == 3  # its loss is the highest
    for ours, theirs in zip(model.get_weights(), kept[3], strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(("epochs", "last_drop", "first"), [(6, None, 3), (6, 0.9, 5), (4, 0.3, 1), (5, None, 2)])
def test_callbacks_that_compare_all_stages_are_named_with_the_fix(before, epochs, last_drop, first, tmp_path):
    stopping = keras.callbacks.EarlyStopping("loss", patience=99)
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "a.keras", "loss", save_best_only=True)
    schedule = CondenseSchedule(last_drop=last_drop)
    listed = (stopping, checkpoint, schedule) if before else (schedule, stopping, checkpoint)
    with pytest.warns(UserWarning, match=r"of all stages, and .* `keras_condense.callbacks.BestCondensed\(pat") as seen:
        history = fit(network(), *listed, epochs=epochs).history
    assert history["condense_stage"].index(3) == first
    about_stopping, about_checkpoint = messages(seen)
    assert (
        f"stop before epoch {first + 1}, the first that ends in the last stage. Give it `start_from_epoch={first}`"
        in (about_stopping)
    )
    assert re.search(rf"a\.keras'\) .* from before epoch {first + 1}, .* Use `.*BestCondensed\(path=", about_checkpoint)


def test_who_compares_no_stages_or_has_none_before_it_is_not_warned_of(tmp_path):
    class OfItsOwn(keras.callbacks.EarlyStopping):
        def on_epoch_end(self, epoch, logs=None):
            pass

    fit(network(), CondenseSchedule(), OfItsOwn(), keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras"))
    model = network()
    fit(model, CondenseSchedule())
    best = keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", "loss", save_best_only=True)
    fit(model, CondenseSchedule(), best, keras.callbacks.EarlyStopping("loss", patience=9), epochs=2)


def test_two_schedules_are_one_too_many():
    model = network()
    before = model.get_weights()
    with pytest.raises(
        ValueError, match=r"`callbacks` hold 2 `CondenseSchedule`s, and must hold one, .* Leave the other"
    ):
        fit(model, CondenseSchedule(epochs=6), CondenseSchedule(epochs=3))
    for ours, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_list_that_calls_is_found():
    found = []

    class Look(keras.callbacks.Callback):
        def look(self, *args, **kwargs):
            found.append(callbacks_beside(self))

        on_train_begin = on_epoch_end = look

    look = Look()
    assert callbacks_beside(look) is None
    fit(network(), look, CondenseSchedule(), epochs=6)
    assert len({id(one) for one in found}) == 1
    assert look in found[0].callbacks
    found.clear()
    holder = keras.callbacks.LambdaCallback(on_train_begin=look.on_train_begin)  # the list does not hold `look` itself
    fit(network(), holder, CondenseSchedule())
    assert found == [None]


@pytest.mark.parametrize("verbose", [1, 2])
def test_the_progress_bar_shows_the_stage_as_an_integer(verbose, capsys):
    if tuple(map(int, keras.__version__.split(".")[:2])) < (3, 12):
        pytest.skip("makes floats of all numbers")
    history = fit(network(), CondenseSchedule(), verbose=verbose).history
    text = capsys.readouterr().out
    shown = [part.split(" - ")[0].strip() for part in text.split("condense_stage:")[1:]]
    assert shown == list(map(str, STAGES))
    assert "connections_left: 0.42" in text
    assert history["condense_stage"] == STAGES
    assert all(type(stage) is int for stage in history["condense_stage"])
    json.dumps(history)


def test_best_condensed_is_not_warned_of():
    fit(network(), BestCondensed("loss"), CondenseSchedule())
