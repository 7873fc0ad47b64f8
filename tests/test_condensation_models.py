"""A condensed network is compiled, trained and saved as any model, and the masked one is left alone."""

import io

import keras
import numpy as np
import pytest
from condensed_networks import assert_same_outputs, condense_net, finished, predict
from keras import ops
from tensors import array

import keras_condense as kc
from keras_condense.condensation import condense
from keras_condense.layers import (
    CondenseDense,
    LearnedGroupConv2D,
)

pytestmark = pytest.mark.slow  # all of it, together


L = keras.layers


def own_loss(y, p):
    return ops.mean(ops.square(y - p), axis=-1)


def own_metric(y, p):
    return ops.mean(ops.abs(y - p))


LOSSES = {
    "a name": lambda: "mse",
    "an object": lambda: keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
    "a function": lambda: own_loss,
    "a lambda": lambda: lambda y, p: ops.mean(ops.square(y - p), axis=-1),
}


@pytest.mark.parametrize(
    ("loss", "kind"),
    [(LOSSES[name], "functional") for name in LOSSES] + [(LOSSES["a lambda"], "sequential")],
    ids=[*LOSSES, "a lambda, sequential"],
)
def test_compiled_models_stay_compiled(loss, kind):
    model = finished(
        condense_net()
        if kind == "functional"
        else keras.Sequential([keras.Input((8, 8, 8)), LearnedGroupConv2D(8, 1), L.Flatten(), CondenseDense(3)])
    )
    schedule = keras.optimizers.schedules.CosineDecay(0.01, 100)
    optimizer = keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True)
    model.compile(optimizer, loss(), metrics=[own_metric, keras.metrics.CategoricalAccuracy(name="acc")])
    x, y = array(8, 8, 8, 8), keras.utils.to_categorical(np.arange(8) % 3, 3)
    expected = model.evaluate(x, y, verbose=0, return_dict=True)
    small = condense(model)
    assert small.compiled
    assert small.evaluate(x, y, verbose=0, return_dict=True) == pytest.approx(expected, rel=1e-4)
    assert small.optimizer is not model.optimizer
    assert small.optimizer.get_config() == model.optimizer.get_config()
    metrics = {id(metric) for metric in model.metrics}
    assert not any(id(metric) in metrics for metric in small.metrics)


def test_losses_by_output():
    x = keras.Input((8,))
    model = finished(keras.Model(x, [CondenseDense(3, name="a")(x), CondenseDense(2, name="b")(x)]))
    model.compile("adam", {"a": "mse", "b": own_loss}, loss_weights={"a": 1.0, "b": 2.0}, metrics={"a": ["mae"]})
    small = condense(model)
    data = array(4, 8), {"a": array(4, 3), "b": array(4, 2)}
    assert small.evaluate(*data, verbose=0) == pytest.approx(model.evaluate(*data, verbose=0), rel=1e-4)


class OwnStep(keras.Model):
    steps = 0

    def train_step(self, *args, **kwargs):
        OwnStep.steps += 1
        return super().train_step(*args, **kwargs)


def test_a_functional_model_with_its_own_training_step_keeps_it():
    x = keras.Input((8,))
    model = finished(OwnStep(x, CondenseDense(3)(x)))
    model.compile("sgd", "mse")
    small = condense(model)
    assert type(small) is OwnStep
    before = OwnStep.steps
    small.fit(array(4, 8), array(4, 3), verbose=0)
    assert OwnStep.steps > before


def test_a_condensed_network_trains_on():
    model = finished(condense_net())
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    small = condense(model)
    x, y = array(12, 8, 8, 8), np.arange(12) % 3
    history = small.fit(x, y, epochs=8, batch_size=12, verbose=0).history["loss"]
    assert history[-1] < history[0]


def test_uncompiled_stays_uncompiled():
    assert not condense(condense_net(), finish=True).compiled


@pytest.mark.parametrize("finish", [False, True])
def test_the_argument_is_left_alone(finish):
    model = condense_net() if finish else finished(condense_net())
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    x, y = array(8, 8, 8, 8), np.arange(8) % 3
    model.fit(x, y, verbose=0)
    layers, weights = list(model.layers), list(model.weights)
    values, memory = model.get_weights(), [v.numpy() for v in model.optimizer.variables]
    config, nodes = model.get_config(), [len(layer._inbound_nodes) for layer in layers]
    small = condense(model, finish=finish)
    small.fit(x, y, epochs=2, verbose=0)
    assert all(a is b for a, b in zip(model.layers, layers, strict=True))
    assert all(a is b for a, b in zip(model.weights, weights, strict=True))
    assert [len(layer._inbound_nodes) for layer in layers] == nodes
    assert model.get_config() == config
    for a, b in zip(model.get_weights(), values, strict=True):
        assert a.tobytes() == b.tobytes()
    for a, b in zip(model.optimizer.variables, memory, strict=True):
        assert a.numpy().tobytes() == b.tobytes()
    assert not {id(layer) for layer in small.layers} & {id(layer) for layer in layers}


def test_it_loads_from_a_file_without_flags(tmp_path):
    model = finished(condense_net())
    model.compile("sgd", "sparse_categorical_crossentropy")
    small = condense(model)
    x = array(2, 8, 8, 8)
    small.save(tmp_path / "small.keras")
    loaded = keras.models.load_model(tmp_path / "small.keras")
    np.testing.assert_array_equal(predict(loaded, x), predict(small, x))
    assert loaded.compiled
    small.save_weights(tmp_path / "small.weights.h5")
    # another network's file brings its own indices
    other = condense(condense_net(), finish=True)
    assert not np.array_equal(predict(other, x), predict(small, x))
    other.load_weights(tmp_path / "small.weights.h5")
    np.testing.assert_array_equal(predict(other, x), predict(small, x))
    text = io.StringIO()
    loaded.summary(print_fn=lambda line, **_: text.write(line))
    assert "top_index" in text.getvalue()


def test_condensing_what_was_loaded_or_condensed_before(tmp_path):
    model = finished(condense_net())
    model.save(tmp_path / "model.keras")
    small = condense(keras.models.load_model(tmp_path / "model.keras"))
    assert_same_outputs(model, small, array(2, 8, 8, 8))
    assert_same_outputs(model, condense(small), array(2, 8, 8, 8))


def test_frozen_layers_stay_frozen():
    model = finished(condense_net())
    model.get_layer("block0_1").trainable = False
    small = condense(model)
    assert not small.get_layer("block0_1").trainable
    assert len(small.trainable_weights) == len(model.trainable_weights)


def decay(w):
    return 1e-4 * ops.sum(w * w)


class Small(keras.constraints.Constraint):
    """Of a class that nobody registered."""

    def __call__(self, w):
        return ops.clip(w, -0.5, 0.5)


def ones(shape, dtype=None):
    return ops.ones(shape, dtype)


class Scaled(LearnedGroupConv2D):
    """A subclass with an argument of its own, which its condensed form has no use for."""

    def __init__(self, *args, alpha=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.alpha = alpha

    def get_config(self):
        return super().get_config() | {"alpha": self.alpha}


@pytest.mark.parametrize("kind", ["learned afterwards", "convolution", "dense", "subclass"])
def test_what_nobody_registered_is_handed_on(kind):
    own = {"kernel_regularizer": decay, "kernel_constraint": Small(), "bias_initializer": ones, "use_bias": True}
    image = keras.Input((4, 4, 16))
    if kind == "learned afterwards":
        model = keras.Model(image, L.Conv2D(16, 1, activation=ops.square, activity_regularizer=decay, **own)(image))
        model = kc.learn_groups(model, groups=4, condense_factor=4)
    elif kind == "dense":
        model = keras.Model(image, CondenseDense(8, activation=ops.square, **own)(L.GlobalMaxPooling2D()(image)))
    else:
        layer = Scaled(16, 1, alpha=2.0, **own) if kind == "subclass" else LearnedGroupConv2D(16, 1, **own)
        model = keras.Model(image, layer(image))
    for layer in kc.layers.condensable_layers(model):
        layer.condense_to(layer.final_stage)
    small = condense(model)
    assert_same_outputs(small, model, array(3, 4, 4, 16))
    (core,) = [layer for layer in small.layers if hasattr(layer, "kernel")]
    assert core.kernel_regularizer is decay
    assert isinstance(core.kernel_constraint, Small)
    assert core.bias_initializer is ones
    small.compile("sgd", "mse")
    small.fit(array(4, 4, 4, 16), array(4, *small.output_shape[1:]), verbose=0)  # it trains further with them


@pytest.mark.parametrize("factor", [1, 2])
def test_a_mask_of_time_steps_means_the_same(factor):
    words = keras.Input((6,), dtype="int32")
    x = keras.layers.Embedding(10, 8, mask_zero=True)(words)
    x = kc.layers.CondenseDense(4, condense_factor=factor)(x)
    model = keras.Model(words, keras.layers.GlobalAveragePooling1D()(x))
    tokens = np.array([[1, 2, 0, 0, 0, 0]])
    expected = keras.ops.convert_to_numpy(kc.condense(model, finish=True)(tokens))
    for layer in kc.layers.condensable_layers(model):
        layer.condense_to(layer.final_stage)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(model(tokens)), expected, atol=1e-6)
