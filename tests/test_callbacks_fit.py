"""CondenseSchedule in every style of training."""

import warnings

import keras
import numpy as np
import pytest
from scheduled_networks import IMAGES, Record, exact, fit, network, targets

from keras_condense.callbacks import CondenseSchedule
from keras_condense.condensation import condense
from keras_condense.keras_graphs import freeze_alone
from keras_condense.layers import CondenseDense, LearnedGroupConv2D, condensable_layers

pytestmark = pytest.mark.slow  # all of it, together


tf = pytest.importorskip("tensorflow")


def test_initial_epoch():
    model, record = network(), Record()
    with pytest.warns(
        UserWarning, match=r"'conv' goes from condensing stage 0 to stage 3 at once, .* 1 of epoch 5 of 6"
    ):
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
    with pytest.warns(UserWarning, match=r"stage 0 to stage 2 at once, .* begin with the weights that it ended with"):
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


def frozen(where):
    """A network whose convolution is frozen, by itself or with a model that holds it."""
    if where == "layer":
        model = network()
        model.get_layer("conv").trainable = False
    else:
        inner = keras.Sequential(
            [keras.Input((3, 3, 8)), LearnedGroupConv2D(4, 1, groups=2, name="conv")], name="inner"
        )
        inner.trainable = False
        model = keras.Sequential([inner, keras.layers.Flatten(), CondenseDense(3, name="top")])
    model.compile("adam", "mse")
    return model


@pytest.mark.parametrize("where", ["layer", "model"])
def test_frozen_layers_are_left_alone(where):
    model = frozen(where)
    conv, top = condensable_layers(model)
    before = conv.kernel.numpy()
    schedule = CondenseSchedule(epochs=6)
    with pytest.warns(UserWarning, match=r"leaves them as they are: 'conv'\. To condense them, set `trainable`"):
        histories = [fit(model, schedule, epochs=3).history]
    histories.append(fit(model, schedule, epochs=3).history)  # it has been said
    assert (conv.stage, top.stage) == (0, 1)
    np.testing.assert_array_equal(conv.kernel, before)
    assert [history["condense_stage"] for history in histories] == [[0, 0, 0], [1, 1, 1]]  # of the other layer
    with pytest.raises(ValueError, match=r"'conv' is in condensing stage 0, .* is frozen, .* Set `trainable` to True"):
        condense(model)
    assert not condensable_layers(condense(model, finish=True))

    for layer in model._flatten_layers():
        layer.trainable = True
    model.compile("adam", "mse")
    fit(model, CondenseSchedule())
    assert (conv.stage, top.stage) == (3, 1)


@pytest.mark.filterwarnings("ignore:The model does not have any trainable weights")  # Keras' own
@pytest.mark.parametrize("freeze", [freeze_alone, lambda model: setattr(model, "trainable", False)])
def test_a_model_that_is_frozen_as_a_whole(freeze):
    model = network()
    freeze(model)  # alone: its layers say that they are trained, and they are not
    model.compile("adam", "mse")
    with pytest.warns(UserWarning, match="leaves them as they are: 'conv', 'top'"):
        history = fit(model, CondenseSchedule(epochs=6)).history
    assert history["condense_stage"] == [0] * 6
    assert history["connections_left"] == [1] * 6


def test_frozen_layers_that_are_condensed_are_no_concern():
    model = network()
    conv = model.get_layer("conv")
    conv.condense_to(3)
    conv.trainable = False
    model.compile("adam", "mse")
    fit(model, CondenseSchedule())  # no warning: pytest would raise it
    condense(model)
