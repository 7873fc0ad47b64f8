"""A training of several fits: CondenseSchedule goes on where the layers are, or says what it does not know."""

import keras
import numpy as np
import pytest
from scheduled_networks import IMAGES, Record, assert_same_masks, exact, fit, network, targets

from keras_condense.callbacks import CondenseSchedule
from keras_condense.layers import condensable_layers

pytestmark = pytest.mark.slow  # all of it, together

pytest.importorskip("tensorflow")


@pytest.mark.parametrize("parts", [(2, 2, 2), (1,) * 6, (5, 1)], ids=str)
def test_a_new_callback_for_each_fit_drops_as_one_for_all(parts):
    keras.utils.set_random_seed(0)
    whole, record_whole = network(), Record()
    fit(whole, CondenseSchedule(), record_whole)
    keras.utils.set_random_seed(0)
    model, stages = network(), []
    for epochs in parts:
        record = Record()
        fit(model, CondenseSchedule(epochs=6), record, epochs=epochs)
        stages += record.stages.values()
    assert stages == list(record_whole.stages.values())
    assert_same_masks(model, whole)
    for ours, theirs in zip(model.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_new_callback_goes_on_after_an_interruption_where_the_last_drop_was():
    model = network()

    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if model.get_layer("conv").stage == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(model, CondenseSchedule(epochs=6), Interrupt())
    record = Record()
    fit(model, CondenseSchedule(epochs=6), record)
    assert list(record.stages.values()) == [(exact(6 + s, 18, 4), exact(6 + s, 18, 2)) for s in range(18)]


def test_another_count_of_epochs_goes_on_by_its_own():
    model, record = network(), Record()
    fit(model, CondenseSchedule(epochs=6), epochs=2)
    fit(model, CondenseSchedule(epochs=12), record, epochs=10)
    assert list(record.stages.values()) == [(max(exact(s, 36, 4), 1), exact(s, 36, 2)) for s in range(6, 36)]


@pytest.mark.parametrize("same", [True, False])
def test_weights_of_the_beginning_begin_anew(same):
    model, schedule, record = network(), CondenseSchedule(epochs=6), Record()
    start = model.get_weights()
    fit(model, schedule)
    model.set_weights(start)
    fit(model, schedule if same else CondenseSchedule(epochs=6), record)
    assert list(record.stages.values()) == [(exact(s, 18, 4), exact(s, 18, 2)) for s in range(18)]


def test_without_epochs_each_fit_is_a_whole_training():
    model, schedule, record = network(), CondenseSchedule(), Record()
    start = model.get_weights()
    fit(model, schedule, epochs=3)
    model.set_weights(start)
    fit(model, schedule, record)
    assert list(record.stages.values()) == [(exact(s, 18, 4), exact(s, 18, 2)) for s in range(18)]


def loaded(model, path):
    model.save(path)
    return keras.models.load_model(path)


def test_a_model_from_a_file_goes_on_where_its_stage_begins_and_says_so(tmp_path):
    model = network()
    fit(model, CondenseSchedule(epochs=6), epochs=2)
    for stages in ([1, 1, 1, 2, 2, 2], [2, 2, 2, 3, 3, 3], [3] * 6):
        model, record = loaded(model, tmp_path / "model.keras"), Record()
        after = {1: 1, 2: 2, 3: 3}[stages[0]]
        if stages[0] < 3:
            match = rf"in stage {stages[0]} already, .* of the 6 epochs .* goes on as after {after}, .*initial_epoch=2"
            with pytest.warns(UserWarning, match=match):
                fit(model, CondenseSchedule(epochs=6), record, epochs=2)
        else:
            fit(model, CondenseSchedule(epochs=6), record, epochs=2)  # nothing is left to drop
        assert [conv for conv, _ in record.stages.values()] == stages
    assert [layer.stage for layer in condensable_layers(model)] == [3, 1]


def test_a_model_from_a_file_that_has_dropped_nothing_is_not_taken_for_a_new_one_in_silence(tmp_path):
    model = network()
    fit(model, CondenseSchedule(epochs=6), epochs=1)
    model = loaded(model, tmp_path / "model.keras")
    with pytest.warns(
        UserWarning, match=r"takes this for the first of its 6 epochs\. .*initial_epoch.* compile the mod"
    ):
        fit(model, CondenseSchedule(epochs=6), epochs=1)
    model = loaded(model, tmp_path / "model.keras")
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse")
    fit(model, CondenseSchedule(epochs=6), epochs=1)  # no warning: pytest would raise it
    model = loaded(model, tmp_path / "model.keras")
    fit(model, CondenseSchedule(epochs=6))  # the whole training, whatever came before


def test_layers_that_are_thawed_later_begin_at_the_beginning():
    model, record = network(), Record()
    conv = model.get_layer("conv")
    conv.trainable = False
    model.compile("sgd", "mse")
    with pytest.warns(UserWarning, match="Frozen layers"):
        fit(model, CondenseSchedule(epochs=6))
    conv.trainable = True
    model.compile("sgd", "mse")
    with pytest.warns(UserWarning, match=r"in stage 0 already, .* as after 0,"):
        fit(model, CondenseSchedule(epochs=6), record)
    assert list(record.stages.values()) == [(exact(s, 18, 4), 1) for s in range(18)]


def test_a_loop_of_ones_own_says_what_is_missing():
    model = network()
    for params, message in [
        ({}, "steps per epoch are unknown"),
        ({"steps": 3}, "epochs are unknown, .* Give `epochs`"),
    ]:
        callbacks = keras.callbacks.CallbackList([CondenseSchedule()], model=model, **params)
        with pytest.raises(ValueError, match=message):
            callbacks.on_train_begin()


def test_a_loop_of_ones_own_with_a_model_that_is_not_compiled():
    network_ = keras.Sequential(network().layers)
    callbacks = keras.callbacks.CallbackList([CondenseSchedule()], model=network_, epochs=6, steps=1)
    callbacks.on_train_begin()
    stages = []
    for epoch in range(6):
        callbacks.on_epoch_begin(epoch)
        callbacks.on_train_batch_begin(0)
        callbacks.on_epoch_end(epoch, {})
        stages.append(network_.get_layer("conv").stage)
    callbacks.on_train_end()
    assert stages == [0, 1, 2, 3, 3, 3]
    with pytest.raises(ValueError, match="compile"):  # Keras says so
        network_.fit(IMAGES, targets(network_), verbose=0, callbacks=[CondenseSchedule()])
