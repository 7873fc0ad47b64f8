"""CondenseSchedule at the end of a training, after a crash, and from a file."""

import re
import warnings

import keras
import numpy as np
import pytest
from scheduled_networks import Record, assert_same_masks, fit, network, planned

from keras_condense.callbacks import CondenseSchedule
from keras_condense.layers import condensable_layers

pytestmark = pytest.mark.slow  # all of it, together


pytest.importorskip("tensorflow")


def test_going_on_from_a_file_between_two_drops_of_a_plan(tmp_path):
    model = planned()
    fit(model, CondenseSchedule(epochs=6), epochs=2)
    assert model.get_layer("conv").stage == 1
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.get_layer("conv").plan == model.get_layer("conv").plan
    assert_same_masks(loaded, model)
    for one in (model, loaded):
        record = Record()
        fit(one, CondenseSchedule(epochs=6), record, initial_epoch=2)
        assert record.stages[2, 0] == (2, 0)
    assert_same_masks(loaded, model)
    for ours, theirs in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize(("epochs", "batch_size"), [(1, 12), (1, 6), (2, 12)])
def test_short_trainings_reach_the_last_stage(epochs, batch_size):
    model, schedule = network(), CondenseSchedule()
    if epochs * 12 // batch_size == 1:
        with pytest.warns(UserWarning, match=r"after 1 of 1 epochs, 3 condensing stages early.*Train longer, or give"):
            fit(model, schedule, epochs=epochs, batch_size=batch_size)
    else:
        with pytest.warns(
            UserWarning, match=rf"stage 0 to stage 3 at once, before batch . of epoch {epochs} of {epochs},"
        ):
            fit(model, schedule, epochs=epochs, batch_size=batch_size)
    assert [layer.stage for layer in condensable_layers(model)] == [3, 1]


def test_stopping_early_reaches_the_last_stage_and_warns():
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    model = network()
    with pytest.warns(UserWarning, match=r"ended after 2 of 6 epochs, 2 condensing stages early"):
        fit(model, CondenseSchedule(), Stop())
    assert [layer.stage for layer in condensable_layers(model)] == [3, 1]
    kernel = model.get_layer("conv").kernel.numpy()
    assert (kernel == 0).sum() == 6 * 4


def test_a_training_that_ended_without_numbers_keeps_its_history():
    class Diverge(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            layer = self.model.get_layer("conv")
            layer.kernel.assign(layer.kernel * np.nan)
            self.model.stop_training = True  # as TerminateOnNaN does

    model = network()
    with pytest.warns(UserWarning, match=r"ended with weights that are not finite, 3 condensing stages early"):
        history = fit(model, CondenseSchedule(), Diverge())
    assert len(history.epoch) == 1
    assert model.get_layer("conv").stage == 0


@pytest.mark.parametrize("restore", [False, True])
def test_early_stopping(restore):
    model = network()
    stopping = keras.callbacks.EarlyStopping("loss", min_delta=100.0, patience=2, restore_best_weights=restore)
    with (
        pytest.warns(UserWarning, match="condensing stages early"),
        pytest.warns(UserWarning, match="`EarlyStopping` looks at epochs of all stages"),
    ):
        fit(model, stopping, CondenseSchedule())
    assert [layer.stage for layer in condensable_layers(model)] == [3, 1]


def test_restored_weights_at_the_end_of_a_whole_training_are_condensed():
    # the best weights are the first epoch's, from before any drop
    model = network()
    best = keras.callbacks.EarlyStopping("connections_left", mode="max", patience=99, restore_best_weights=True)
    if not hasattr(best, "restore_best_weights"):
        pytest.skip("no such option")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit(model, best, CondenseSchedule())
    assert [layer.stage for layer in condensable_layers(model)] == [3, 1]


def test_a_fit_that_ends_by_its_own_plan_leaves_the_rest_to_the_next():
    model = network()
    fit(model, CondenseSchedule(epochs=6), epochs=2)  # no warning: pytest would raise it
    assert model.get_layer("conv").stage == 1


def test_the_end_is_quiet_when_nothing_is_missing():
    model = network()
    fit(model, CondenseSchedule())
    fit(model, CondenseSchedule(epochs=6), initial_epoch=3)


class Crash(keras.callbacks.Callback):
    def __init__(self, epoch, batch):
        super().__init__()
        self.at = (epoch, batch)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.at:
            raise RuntimeError("power cut")


@pytest.mark.parametrize(
    ("at", "same_callback"), [((0, 1), True), ((2, 1), False), ((2, 1), True), ((3, 2), False), ((5, 2), False)]
)
def test_backup_and_restore_after_a_crash(tmp_path, at, same_callback):
    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path / "backup")

    keras.utils.set_random_seed(0)
    whole = network()
    fit(whole, CondenseSchedule())

    keras.utils.set_random_seed(0)
    model, schedule = network(), CondenseSchedule()
    start = model.get_weights()
    with pytest.raises(RuntimeError, match="power cut"):
        fit(model, backup(), schedule, Crash(*at))
    if not same_callback:  # a new process
        model, schedule = network(), CondenseSchedule()
        model.set_weights(start)
    elif at[0] == 0:  # no epoch was backed up
        model.set_weights(start)
        model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse")
    record = Record()
    fit(model, schedule, backup(), record)  # the order of the two does not matter
    assert min(record.stages) == (at[0], 0)
    assert_same_masks(model, whole)
    for ours, theirs in zip(model.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_backups_within_an_epoch_never_bring_an_input_back(tmp_path):
    model = network()
    with pytest.raises(RuntimeError):
        fit(model, keras.callbacks.BackupAndRestore(tmp_path / "b", save_freq=2), CondenseSchedule(), Crash(2, 2))
    stage = model.get_layer("conv").stage
    record = Record()
    fit(model, keras.callbacks.BackupAndRestore(tmp_path / "b", save_freq=2), CondenseSchedule(), record)
    stages = [conv for conv, _ in record.stages.values()]
    assert stages == sorted(stages)
    assert stages[0] <= stage
    assert model.get_layer("conv").stage == 3


def test_checkpoints_hold_masks_and_stages(tmp_path):
    model, record = network(), Record()
    seen = {}

    class Remember(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen[epoch + 1] = [w.copy() for w in self.model.get_weights()]

    fit(
        model, CondenseSchedule(), Remember(), record,
        keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}-{condense_stage}-{connections_left:.2f}.keras"),
        keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.weights.h5", save_weights_only=True),
    )  # fmt: skip
    files = sorted(tmp_path.glob("*.keras"))
    assert len(files) == 6
    for file in files:
        epoch, stage, _ = re.fullmatch(r"(\d)-(\d)-([\d.]+)\.keras", file.name).groups()
        loaded, fresh = keras.models.load_model(file), network()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the fresh optimizer has no memory yet to load into
            fresh.load_weights(tmp_path / f"{epoch}.weights.h5")
        for again in (loaded, fresh):
            assert condensable_layers(again)[0].stage == int(stage) == record.stages[int(epoch) - 1, 2][0]
            for ours, theirs in zip(again.get_weights(), seen[int(epoch)], strict=True):
                np.testing.assert_array_equal(ours, theirs)


def test_going_on_from_a_saved_model_equals_going_on(tmp_path):
    model = network()
    fit(model, CondenseSchedule(epochs=6), epochs=3)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for one in (model, loaded):
        fit(one, CondenseSchedule(epochs=6), initial_epoch=3)
    assert_same_masks(loaded, model)
    for ours, theirs in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
