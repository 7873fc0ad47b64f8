"""CondenseSchedule drops before the right batch, and says what it needs."""

import itertools
import math
import warnings
from fractions import Fraction

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scheduled_networks import IMAGES, Record, exact, fit, network, planned

from keras_condense.callbacks import CondenseSchedule
from keras_condense.layers import CondenseDense, LearnedGroupConv2D, condensable_layers

pytest.importorskip("tensorflow")


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


@pytest.mark.filterwarnings("ignore:Layer 'conv' goes from")  # several drops at once
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


@pytest.mark.parametrize(
    ("drops_at", "first_steps"),  # of 6 epochs of 3 batches
    [((1 / 6, 1 / 3), (3, 6)), ((0.0,), (0,)), ((0.1, 0.5, 0.95), (2, 9, 18)), ((0.3, 0.31, 0.9), (6, 6, 17))],
)
def test_drops_fall_before_the_batch_that_the_plan_says(drops_at, first_steps):
    model, record = planned(drops_at=drops_at), Record()
    with warnings.catch_warnings():
        if first_steps[-1] == 18:  # due after the last batch's beginning: made up for at the end
            warnings.simplefilter("ignore")
        if len(set(first_steps)) < len(first_steps):
            warnings.filterwarnings("ignore", message="Layer 'conv' goes from condensing stage 0 to stage 2 at once")
        history = fit(model, CondenseSchedule(), record).history
    stages = [sum(step >= first for first in first_steps) for step in range(18)]
    assert [conv for conv, _ in record.stages.values()] == stages
    assert [top for _, top in record.stages.values()] == [exact(step, 18, 2) for step in range(18)]
    assert model.get_layer("conv").stage == len(drops_at)
    assert model.get_layer("conv").mask.numpy().sum() == 5  # floor(8 * 0.7)
    left = [math.floor(8 * (1 - 0.3 * stages[3 * epoch + 2] / len(drops_at)) + 1e-9) for epoch in range(6)]
    top = [4 if exact(3 * epoch + 2, 18, 2) == 0 else 2 for epoch in range(6)]
    assert history["connections_left"] == pytest.approx([(a + b) / 12 for a, b in zip(left, top, strict=True)])


@pytest.mark.filterwarnings("ignore:Layer 'conv' goes from")  # several drops at once
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


def test_a_line_says_the_progress_of_the_training_whatever_the_last_drop(capsys):
    fit(network(dense_factor=4), CondenseSchedule(verbose=1, last_drop=0.3))
    lines = [line.split(":")[0] for line in capsys.readouterr().out.splitlines() if line]
    assert [float(line.split()[1]) for line in lines] == pytest.approx([0.1, 0.2, 0.3], abs=0.07)


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
