"""BestCondensed keeps the best network of the last stage, wherever it stands and whatever came before."""

import keras
import numpy as np
import pytest
from scheduled_networks import fit, network

from keras_condense.callbacks import BestCondensed, CondenseSchedule
from keras_condense.condensation import condense
from keras_condense.layers import condensable_layers

pytestmark = pytest.mark.slow  # all of it, together

pytest.importorskip("tensorflow")


class Value(keras.callbacks.Callback):
    """Logs given values, and remembers the weights of each epoch."""

    def __init__(self, *values):
        super().__init__()
        self.values, self.weights = values, {}

    def on_epoch_end(self, epoch, logs=None):
        logs["value"] = self.values[epoch]
        self.weights[epoch] = self.model.get_weights()


def assert_weights(model, expected):
    for ours, theirs in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    ("values", "mode", "best"),
    [((0, 0, 0, 3, 2, 4), "min", 4), ((9, 9, 9, 1, 1, 2), "max", 5), ((0, 0, 0, 1, 2, 3), "min", 3),
     ((0, 0, 0, float("nan"), 2, float("inf")), "min", 4)],
)  # fmt: skip
def test_the_best_of_the_last_stage_is_restored_and_saved(first, values, mode, best, tmp_path):
    model, value = network(), Value(*values)  # the drops come before epochs 1, 2 and 3
    keeps = BestCondensed("value", mode, path=tmp_path / "best.keras")
    fit(model, *((value, keeps, CondenseSchedule()) if first else (CondenseSchedule(), value, keeps)))
    assert keeps.best_epoch == best
    assert_weights(model, value.weights[best])
    assert [layer.stage for layer in condensable_layers(model)] == [3, 1]
    assert_weights(keras.models.load_model(tmp_path / "best.keras"), value.weights[best])
    condense(model)


def test_without_restoring_the_last_weights_stay(tmp_path):
    model, value = network(), Value(0, 0, 0, 1, 2, 3)
    fit(model, value, BestCondensed("value", "min", tmp_path / "best.keras", restore=False), CondenseSchedule())
    assert_weights(model, value.weights[5])
    assert_weights(keras.models.load_model(tmp_path / "best.keras"), value.weights[3])


def test_patience_begins_with_the_last_stage():
    model, value = network(), Value(0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
    history = fit(model, value, BestCondensed("value", "min", patience=2), CondenseSchedule(), epochs=10).history
    assert history["condense_stage"] == [0, 1, 1, 2, 2, 3, 3, 3]
    assert_weights(model, value.weights[5])


def test_the_least_change_is_the_same_in_every_fit():
    model, keeps = network(), BestCondensed("value", "min", min_delta=0.5)
    fit(model, CondenseSchedule())
    for _ in range(2):
        fit(model, Value(3, 2.8, 2.4, 2.2, 2, 1.95), keeps)
        assert keeps.best_epoch == 2


def test_the_validation_loss_is_what_it_looks_at_first():
    model = network()
    x = np.random.default_rng(1).normal(size=(6, 3, 3, 8)).astype("float32")
    data = (x, np.eye(3)[np.arange(6) % 3])
    history = fit(model, BestCondensed(), CondenseSchedule(), epochs=8, validation_data=data).history
    best = 4 + int(np.argmin(history["val_loss"][4:]))
    assert model.evaluate(*data, verbose=0) == pytest.approx(history["val_loss"][best], rel=1e-5)


def test_a_value_that_is_not_in_the_logs():
    with pytest.warns(
        UserWarning, match=r"of 'val_loss' kept no network: it is not in the logs, .*'loss'\. Give `valid"
    ):
        fit(network(), BestCondensed(), CondenseSchedule())


def test_a_training_that_does_not_reach_the_last_stage(tmp_path):
    model = network()
    keeps = BestCondensed("loss", path=tmp_path / "best.keras")
    with pytest.warns(
        UserWarning, match=r"of 'loss' kept no network: no epoch ended in the last stage .* Train longer"
    ):
        fit(model, keeps, CondenseSchedule(epochs=6), epochs=2)
    assert not (tmp_path / "best.keras").exists()
    fit(model, keeps, CondenseSchedule(epochs=6), epochs=4)
    assert keras.models.load_model(tmp_path / "best.keras").get_layer("conv").stage == 3


def test_an_unknown_direction_is_asked_for_after_the_first_epoch():
    model, value = network(), Value(*range(6))
    with pytest.raises(ValueError, match=r"Pass `mode='max'`"):
        fit(model, value, BestCondensed("value"), CondenseSchedule())
    assert list(value.weights) == [0]


def test_a_frozen_layer_does_not_hold_it_up():
    model, value = network(), Value(0, 0, 0, 3, 2, 4)
    model.get_layer("conv").trainable = False
    model.compile("sgd", "mse")
    keeps = BestCondensed("value", "min")
    with pytest.warns(UserWarning, match="Frozen layers"):
        fit(model, value, keeps, CondenseSchedule())
    assert keeps.best_epoch == 4


def test_a_model_without_learned_layers():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)], name="plain")
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"got model 'plain', which has no layer .* expects one or more\. Use `keras"):
        model.fit(np.zeros((2, 3)), np.zeros(2), verbose=0, callbacks=[BestCondensed("loss")])


def test_a_model_that_can_not_be_saved_is_refused_before_the_training(tmp_path):
    class NoConfig(keras.layers.Layer):
        def __init__(self, what):
            super().__init__()

        def call(self, x):
            return x

    base = network()
    model = keras.Sequential([*base.layers, NoConfig(object())])
    model.compile("sgd", "mse")
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"must be one that can be saved, and that fails: .* Give each of its layers"):
        fit(model, BestCondensed("loss", path=tmp_path / "best.keras"), CondenseSchedule())
    assert_weights(model, before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"monitor": 3}, r"`monitor` \(=3\) must be the name of a log\. Use 'val_loss'"),
        ({"mode": "best"}, r"`mode` \(='best'\) must be one of 'auto', 'min', 'max'\. Use"),
        ({"restore": "yes"}, r"`restore` \(='yes'\) must be one of True, False\. False leaves"),
        ({"patience": 0}, r"`patience` \(=0\) must be a positive integer\. Leave it out"),
        ({"min_delta": -1}, r"`min_delta` \(=-1\) must be a finite number, not negative\. Use 0"),
        ({"verbose": 3}, r"`verbose` \(=3\) must be one of 0, 1\. Use 1"),
        ({"path": "best.h5"}, r"`path` \(='best\.h5'\) must end in '\.keras'"),
        ({"path": "no/such/folder/best.keras"}, r"must be in an existing folder"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        BestCondensed(**arguments)
