"""CondenseSchedule: at the right batch in every style of training, and complete at the end."""

import itertools
import math
import re
import warnings
from fractions import Fraction

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_condense.callbacks import CondenseSchedule
from keras_condense.layers import CondenseDense, LearnedGroupConv2D, condensable_layers

tf = pytest.importorskip("tensorflow")

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


# -------------------------------------------------------------------------------------------------- the right batch


@pytest.mark.parametrize(("epochs", "batch_size"), [(1, 2), (1, 12), (2, 5), (3, 2), (5, 5), (5, 12)])
def test_each_drop_comes_before_the_batch_that_the_formula_says(epochs, batch_size):
    model, record = network(), Record()
    steps = math.ceil(12 / batch_size)
    total = epochs * steps
    with warnings.catch_warnings():
        if exact(total - 1, total, 4) < 3:  # too short to get there
            warnings.simplefilter("ignore")
        fit(model, CondenseSchedule(), record, epochs=epochs, batch_size=batch_size)
    assert len(record.stages) == total
    for (epoch, batch), stages in record.stages.items():
        step = epoch * steps + batch
        assert stages == (exact(step, total, 4), exact(step, total, 2)), (epoch, batch)
    assert [layer.stage for layer in condensable_layers(model)] == [3, 1]


@given(st.integers(1, 4), st.integers(1, 6), st.sampled_from([1, 2, 4, 8]), st.data())
@settings(max_examples=15)
def test_any_schedule(epochs, steps, condense_factor, data):
    """The callback's own part, without a training: epochs and batches in, stages out."""
    model = network(condense_factor)
    schedule = CondenseSchedule(epochs=epochs, steps_per_epoch=steps)
    schedule.set_model(model)
    schedule.set_params({"epochs": 99, "steps": 99, "verbose": 0})
    first = data.draw(st.integers(0, epochs - 1))
    schedule.on_train_begin()
    for epoch in range(first, epochs):
        schedule.on_epoch_begin(epoch)
        for batch in range(steps):
            schedule.on_train_batch_begin(batch)
            assert model.get_layer("conv").stage == exact(epoch * steps + batch, epochs * steps, condense_factor)
        logs = {}
        schedule.on_epoch_end(epoch, logs)
        assert logs["condense_stage"] == max(layer.stage for layer in condensable_layers(model))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        schedule.on_train_end()
    assert model.get_layer("conv").stage == condense_factor - 1


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


@pytest.mark.parametrize(
    ("drops_at", "first_steps"),  # of 6 epochs of 3 batches
    [((1 / 6, 1 / 3), (3, 6)), ((0.0,), (0,)), ((0.1, 0.5, 0.95), (2, 9, 18)), ((0.3, 0.31, 0.9), (6, 6, 17))],
)
def test_drops_fall_before_the_batch_that_the_plan_says(drops_at, first_steps):
    model, record = planned(drops_at=drops_at), Record()
    with warnings.catch_warnings():
        if first_steps[-1] == 18:  # due after the last batch's beginning: made up for at the end
            warnings.simplefilter("ignore")
        history = fit(model, CondenseSchedule(), record).history
    stages = [sum(step >= first for first in first_steps) for step in range(18)]
    assert [conv for conv, _ in record.stages.values()] == stages
    assert [top for _, top in record.stages.values()] == [exact(step, 18, 2) for step in range(18)]
    assert model.get_layer("conv").stage == len(drops_at)
    assert model.get_layer("conv").mask.numpy().sum() == 5  # floor(8 * 0.7)
    left = [math.floor(8 * (1 - 0.3 * stages[3 * epoch + 2] / len(drops_at)) + 1e-9) for epoch in range(6)]
    top = [4 if exact(3 * epoch + 2, 18, 2) == 0 else 2 for epoch in range(6)]
    assert history["connections_left"] == pytest.approx([(a + b) / 12 for a, b in zip(left, top, strict=True)])


@given(st.integers(1, 4), st.integers(1, 6), st.sets(st.integers(0, 23), min_size=1, max_size=4), st.data())
@settings(max_examples=15)
def test_any_plan(epochs, steps, moments, data):
    """The callback's own part, without a training: drops at n / 24 of it."""
    moments = sorted(moments)
    model = planned(0.9, tuple(moment / 24 for moment in moments))
    schedule = CondenseSchedule(epochs=epochs, steps_per_epoch=steps)
    schedule.set_model(model)
    schedule.set_params({"epochs": 99, "steps": 99, "verbose": 0})
    schedule.on_train_begin()
    for epoch in range(data.draw(st.integers(0, epochs - 1)), epochs):
        schedule.on_epoch_begin(epoch)
        for batch in range(steps):
            schedule.on_train_batch_begin(batch)
            done = Fraction(epoch * steps + batch, epochs * steps)
            assert model.get_layer("conv").stage == sum(done >= Fraction(moment, 24) for moment in moments)
        schedule.on_epoch_end(epoch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        schedule.on_train_end()
    assert model.get_layer("conv").stage == len(moments)


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


def test_the_history_has_the_stage_and_the_connections():
    history = fit(network(dense_factor=1), CondenseSchedule()).history
    conv, dense = 2 * 8, 36
    assert history["condense_stage"] == [0, 1, 2, 3, 3, 3]  # the classifier has no stage to reach
    assert history["connections_left"] == pytest.approx(
        [(conv * left + dense) / (conv + dense) for left in (1, 0.75, 0.5, 0.25, 0.25, 0.25)]
    )
    history = fit(network(dense_factor=4), CondenseSchedule()).history
    assert history["condense_stage"] == [0, 1, 2, 3, 3, 3]
    assert history["connections_left"] == [1, 0.75, 0.5, 0.25, 0.25, 0.25]
    assert all(type(stage) is int for stage in history["condense_stage"])


def test_a_line_at_every_drop_when_asked(capsys):
    fit(network(dense_factor=4), CondenseSchedule(verbose=1))
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    assert lines == [
        "progress 0.167: stage 1, 75.0% of the connections left",
        "progress 0.333: stage 2, 50.0% of the connections left",
        "progress 0.500: stage 3, 25.0% of the connections left",
    ]
    fit(network(), CondenseSchedule())
    assert capsys.readouterr().out == ""


def test_drops_follow_the_importance_of_the_moment():
    class Favour(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            layer = self.model.get_layer("conv")
            kernel = layer.kernel.numpy()
            kernel[..., [2, 5], :] = 10.0
            layer.kernel.assign(kernel)

    model = network()
    model.compile(keras.optimizers.SGD(0.0), "mse")
    fit(model, CondenseSchedule(), Favour())
    np.testing.assert_array_equal(np.nonzero(model.get_layer("conv").mask.numpy())[1], [2, 5, 2, 5])


# ------------------------------------------------------------------------------------------------ styles of training


def test_initial_epoch():
    model, record = network(), Record()
    fit(model, CondenseSchedule(), record, initial_epoch=4, epochs=6)
    assert min(record.stages) == (4, 0)
    assert set(record.stages.values()) == {(3, 1)}


@pytest.mark.parametrize("make", [lambda: CondenseSchedule(epochs=6), lambda: CondenseSchedule(epochs=np.int64(6))])
def test_several_fits_with_initial_epochs(make):
    once, record_once = network(), Record()
    keras.utils.set_random_seed(0)
    fit(once, CondenseSchedule(), record_once)
    keras.utils.set_random_seed(0)
    parts, record = network(), Record()
    schedule = make()
    for first, last in ((0, 1), (1, 4), (4, 6)):
        fit(parts, schedule, record, initial_epoch=first, epochs=last)
    assert record.stages == record_once.stages


def test_several_fits_that_count_from_zero():
    model, schedule = network(), CondenseSchedule(epochs=6)
    stages = []
    for epochs in (1, 3, 2):
        record = Record()
        fit(model, schedule, record, epochs=epochs)
        stages += record.stages.values()
    assert stages == [(exact(step, 18, 4), exact(step, 18, 2)) for step in range(18)]
    # one more goes on with the sparse network
    history = fit(model, schedule, epochs=1).history
    assert history["condense_stage"] == [3]
    assert [layer.stage for layer in condensable_layers(model)] == [3, 1]


def test_another_model_begins_at_its_own_beginning():
    schedule = CondenseSchedule()
    fit(network(), schedule)
    model, record = network(), Record()
    fit(model, schedule, record)
    assert record.stages[0, 0] == (0, 0)
    assert record.stages[5, 2] == (3, 1)


def test_a_resumed_training_drops_all_that_is_due():
    model, record = network(), Record()
    fit(model, CondenseSchedule(epochs=6), record, initial_epoch=2, epochs=3)
    assert record.stages[2, 0] == (2, 0)
    assert model.get_layer("conv").mask.numpy().sum(1).tolist() == [4, 4]


def generator(model):
    while True:
        yield IMAGES[:4], targets(model)[:4]


def test_a_generator_with_steps():
    model, record = network(), Record()
    model.fit(
        generator(model), steps_per_epoch=3, epochs=4, verbose=0, shuffle=False, callbacks=[CondenseSchedule(), record]
    )
    assert record.stages == {
        (e, b): (exact(3 * e + b, 12, 4), exact(3 * e + b, 12, 2)) for e in range(4) for b in range(3)
    }


def unknown_length(model):
    data = tf.data.Dataset.from_tensor_slices((IMAGES, targets(model))).filter(lambda *_: True).batch(4)
    assert data.cardinality() == tf.data.UNKNOWN_CARDINALITY
    return data


@pytest.mark.parametrize("verbose", ["x", 2, None], ids=repr)
def test_verbose_is_0_or_1(verbose):
    with pytest.raises(ValueError, match=r"`verbose` \(=.*\) must be one of 0, 1\. Use 1 for a line"):
        CondenseSchedule(verbose=verbose)


@pytest.mark.parametrize("data", [unknown_length, lambda model: unknown_length(model).repeat(), generator])
def test_progress_that_can_not_be_known(data):
    model = network()
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"steps per epoch are unknown .* Give `steps_per_epoch` to `fit` or to"):
        model.fit(data(model), epochs=2, verbose=0, shuffle=False, callbacks=[CondenseSchedule()])
    for ours, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("where", ["fit", "schedule"])
def test_unknown_length_with_steps_given(where):
    model, record = network(), Record()
    data, steps = unknown_length(model), {}
    if where == "fit":
        data, steps = data.repeat(), {"steps_per_epoch": 3}
    schedule = CondenseSchedule(steps_per_epoch=3 if where == "schedule" else None)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Your input ran out of data")  # Keras', where it did not know
        history = model.fit(data, epochs=4, verbose=0, shuffle=False, callbacks=[schedule, record], **steps).history
    assert list(record.stages.values()) == [(exact(s, 12, 4), exact(s, 12, 2)) for s in range(12)]
    # nor does the batch that Keras begins beyond the end of the data drop what the next epoch is due
    assert history["condense_stage"] == [exact(s, 12, 4) for s in (2, 5, 8, 11)]


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_wrong_steps_keep_progress_in_its_range(steps):
    model, record = network(), Record()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit(model, CondenseSchedule(steps_per_epoch=steps), record, epochs=3)
    stages = [conv for conv, _ in record.stages.values()]
    assert stages == sorted(stages)
    assert model.get_layer("conv").stage == 3


def test_tf_data_of_known_length():
    model, record = network(), Record()
    data = tf.data.Dataset.from_tensor_slices((IMAGES, targets(model))).batch(4)
    model.fit(data, epochs=4, verbose=0, shuffle=False, callbacks=[CondenseSchedule(), record], validation_data=data)
    assert record.stages[2, 0] == (3, 1)
    assert record.stages[1, 2] == (exact(5, 12, 4), 0)


def test_steps_per_execution_and_compiled_graphs():
    model = network()
    model.compile("sgd", "mse", steps_per_execution=3)
    history = fit(model, CondenseSchedule(), batch_size=2).history
    assert history["condense_stage"] == [0, 1, 2, 3, 3, 3]
    assert [layer.stage for layer in condensable_layers(model)] == [3, 1]


def test_a_model_that_fit_builds():
    model = keras.Sequential([LearnedGroupConv2D(4, 1), keras.layers.GlobalAveragePooling2D()])
    model.compile("sgd", "mse")
    model.fit(IMAGES, np.zeros((12, 4)), epochs=6, batch_size=4, verbose=0, callbacks=[CondenseSchedule()])
    assert model.layers[0].stage == 3


def test_a_subclassed_model():
    class Mine(keras.Model):
        def __init__(self):
            super().__init__()
            self.parts = [LearnedGroupConv2D(4, 1), keras.layers.GlobalAveragePooling2D()]

        def call(self, x):
            return self.parts[1](self.parts[0](x))

    model = Mine()
    model.compile("sgd", "mse")
    history = model.fit(IMAGES, np.zeros((12, 4)), epochs=6, batch_size=4, verbose=0, callbacks=[CondenseSchedule()])
    assert history.history["condense_stage"] == [0, 1, 2, 3, 3, 3]


def test_frozen_layers_are_condensed_too():
    model = network()
    model.get_layer("conv").trainable = False
    model.compile("adam", "mse")
    fit(model, CondenseSchedule())
    assert model.get_layer("conv").stage == 3


# --------------------------------------------------------------------------------------------------------- endings


@pytest.mark.parametrize(("epochs", "batch_size"), [(1, 12), (1, 6), (2, 12)])
def test_short_trainings_reach_the_last_stage(epochs, batch_size):
    model, schedule = network(), CondenseSchedule()
    if epochs * 12 // batch_size == 1:
        with pytest.warns(UserWarning, match=r"after 1 of 1 epochs, 3 condensing stages early.*Train longer, or give"):
            fit(model, schedule, epochs=epochs, batch_size=batch_size)
    else:
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


@pytest.mark.parametrize("restore", [False, True])
def test_early_stopping(restore):
    model = network()
    stopping = keras.callbacks.EarlyStopping("loss", min_delta=100.0, patience=2, restore_best_weights=restore)
    with pytest.warns(UserWarning, match="condensing stages early"):
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


# -------------------------------------------------------------------------------------------- crashes and checkpoints


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


# -------------------------------------------------------------------------------------------- finding layers, errors


def test_learned_layers_reach_everywhere_once():
    shared = LearnedGroupConv2D(8, 1, name="shared")
    inner = keras.Sequential([keras.Input((3, 3, 8)), shared, LearnedGroupConv2D(8, 1, name="inner")], name="in")
    middle_input = keras.Input((3, 3, 8))
    middle = keras.Model(middle_input, inner(shared(inner(middle_input))))
    x = keras.Input((3, 3, 8))
    y = keras.layers.TimeDistributed(LearnedGroupConv2D(4, 1, name="wrapped"))(keras.layers.Reshape((1, 3, 3, 8))(x))
    y = keras.layers.Concatenate()([keras.layers.Reshape((3, 3, 4))(y), middle(x)])
    model = keras.Model(x, CondenseDense(2, name="top")(y))
    names = [layer.name for layer in condensable_layers(model)]
    assert sorted(names) == ["inner", "shared", "top", "wrapped"]


def test_nested_models_are_condensed():
    inner = keras.Sequential([keras.Input((3, 3, 8)), LearnedGroupConv2D(8, 1, name="inner")])
    x = keras.Input((3, 3, 8))
    model = keras.Model(x, keras.layers.GlobalAveragePooling2D()(inner(inner(x))))
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse")
    model.fit(IMAGES, np.zeros((12, 8)), epochs=6, batch_size=4, verbose=0, callbacks=[CondenseSchedule()])
    assert inner.layers[0].stage == 3
    assert (inner.layers[0].kernel.numpy() == 0).sum() == 6 * 8


def test_a_model_without_learned_layers():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)], name="plain")
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"got model 'plain', which has no layer .* expects one or more\. Build it"):
        model.fit(np.zeros((2, 3)), np.zeros(2), verbose=0, callbacks=[CondenseSchedule()])


@pytest.mark.parametrize(
    ("name", "value"), list(itertools.product(["epochs", "steps_per_epoch"], [0, -3, 2.0, "4", True]))
)
def test_bad_arguments(name, value):
    with pytest.raises(ValueError, match=rf"`{name}` \(=.*\) must be a positive integer\. Leave it out"):
        CondenseSchedule(**{name: value})


def test_a_diverged_training_says_so():
    model = network()

    class Diverge(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            layer = self.model.get_layer("conv")
            layer.kernel.assign(layer.kernel * np.nan)

    with pytest.raises(ValueError, match=r"layer 'conv' must be finite.* Lower the learning rate"):
        fit(model, CondenseSchedule(), Diverge())


def test_the_last_drop_moves_all_drops_in_proportion():
    model = keras.Sequential([keras.Input((2, 2, 8)), LearnedGroupConv2D(8, 1)])
    model.compile("sgd", "mse")
    images = np.zeros((4, 2, 2, 8), "float32")
    schedule = CondenseSchedule(epochs=10, last_drop=0.3)
    history = model.fit(images, images, epochs=10, verbose=0, callbacks=[schedule])
    assert history.history["condense_stage"] == [0, 1, 2, 3, 3, 3, 3, 3, 3, 3]


@pytest.mark.parametrize("last_drop", [0, 1, -0.1, "half", float("nan")])
def test_a_last_drop_out_of_range(last_drop):
    with pytest.raises(ValueError, match=r"`last_drop` \(=.*\) must be a number in"):
        CondenseSchedule(last_drop=last_drop)
