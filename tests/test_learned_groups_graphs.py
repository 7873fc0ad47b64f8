"""A Keras model with learned groups stays what it was, and trains and condenses like one of our own."""

import keras
import numpy as np
import pytest
from keras import ops
from learning_networks import assert_same_outputs, assert_unchanged_then_condensed, network, predict, randomized
from tensors import array

import keras_condense as kc
from keras_condense.callbacks import CondenseSchedule
from keras_condense.layers import condensable_layers

pytestmark = pytest.mark.slow  # all of it, together


pytest.importorskip("tensorflow")

L = keras.layers


def test_a_network():
    model = network()
    learning = assert_unchanged_then_condensed(model, array(4, 8, 8, 3))
    assert [layer.name for layer in condensable_layers(learning)] == ["expand", "project"]
    assert learning.name == "net"
    assert [tensor.name for tensor in learning.inputs] == ["image"]
    assert learning.output_names == ["top"]
    assert [layer.name for layer in learning.layers] == [layer.name for layer in model.layers]
    before, after = kc.profile_model(model), kc.profile_model(learning)
    saved = 3 * 3 * (8 * 16 + 16 * 8) * 3 // 4
    assert before.macs - after.macs == saved


def test_training_mode_is_unchanged_too():
    model = network()
    learning = kc.learn_groups(model)
    x = array(4, 8, 8, 3)
    assert_same_outputs(predict(learning, x, training=True), predict(model, x, training=True))
    for name in ("stem_bn", "expand_bn", "depthwise_bn"):
        for ours, theirs in zip(learning.get_layer(name).weights, model.get_layer(name).weights, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_shared_layers_stay_shared():
    shared = L.Conv2D(8, 1, activation="relu", name="shared")
    x, y = keras.Input((4, 4, 8)), keras.Input((4, 4, 8))
    model = randomized(keras.Model([x, y], [L.Add()([shared(shared(x)), shared(y)]), shared(y)]))
    learning = assert_unchanged_then_condensed(model, array(2, 4, 4, 8), array(2, 4, 4, 8, seed=1))
    assert len(condensable_layers(learning)) == 1
    assert len(learning.trainable_weights) == 2
    assert kc.explain_learn_groups(model).learned == ("shared",)


def nested(sequential):
    i = keras.Input((4, 4, 8))
    if sequential:
        inner = keras.Sequential([i, L.Conv2D(8, 1, name="conv"), L.ReLU()], name="inner")
    else:
        inner = keras.Model(i, L.Add()([L.Conv2D(8, 1, name="conv")(i), i]), name="inner")
    j = keras.Input((4, 4, 8))
    middle = keras.Model(j, L.Conv2D(8, 1, name="conv")(inner(j)), name="middle")
    x = keras.Input((4, 4, 8))
    y = middle(inner(x))
    return randomized(keras.Model(x, [y, inner(y)], name="outer"))


@pytest.mark.parametrize("sequential", [True, False])
def test_nested_models(sequential):
    model = nested(sequential)
    assert kc.explain_learn_groups(model).learned == ("inner/conv", "middle/conv")
    learning = assert_unchanged_then_condensed(model, array(2, 4, 4, 8))
    assert len(condensable_layers(learning)) == 2
    assert learning.get_layer("inner") in learning.get_layer("middle").layers
    learning = assert_unchanged_then_condensed(model, array(2, 4, 4, 8), where="middle/conv")
    assert [layer.name for layer in condensable_layers(learning.get_layer("middle"))] == ["conv"]
    assert not condensable_layers(learning.get_layer("inner"))


def test_many_inputs_and_outputs_in_dictionaries():
    inputs = {"left": keras.Input((4, 4, 8), name="left"), "right": keras.Input((2, 2, 8), name="right")}
    left = L.Conv2D(8, 1, name="a")(inputs["left"])
    right = L.UpSampling2D()(L.Conv2D(8, 1, name="b")(inputs["right"]))
    both = left * right + 1.0  # operations that are no layers
    model = keras.Model(inputs, {"map": both, "vector": ops.mean(both, axis=(1, 2)), "right": right})
    x = {"left": array(2, 4, 4, 8), "right": array(2, 2, 2, 8, seed=1)}
    assert_unchanged_then_condensed(model, x)
    assert set(predict(kc.learn_groups(model), x)) == {"map", "vector", "right"}


def test_sizes_that_are_not_known():
    model = keras.Sequential([keras.Input((None, None, 8)), L.Conv2D(8, 1, strides=2)])
    learning = kc.learn_groups(model)
    for size in (3, 6):
        assert_same_outputs(predict(learning, array(1, size, 5, 8)), predict(model, array(1, size, 5, 8)))


class OwnStep(keras.Model):
    def train_step(self, *args, **kwargs):
        return super().train_step(*args, **kwargs) | {"own": 1.0}


def test_compiled_models_stay_compiled():
    base = network()
    model = OwnStep(base.inputs, base.outputs, name="own")
    schedule = keras.optimizers.schedules.CosineDecay(0.01, 100)
    loss = keras.losses.SparseCategoricalCrossentropy()
    model.compile(keras.optimizers.SGD(schedule, momentum=0.9), loss, metrics=["accuracy"], jit_compile=False)
    x, y = array(8, 8, 8, 3), np.arange(8) % 3
    expected = model.evaluate(x, y, verbose=0, return_dict=True)
    learning = kc.learn_groups(model)
    assert type(learning) is OwnStep
    assert learning.optimizer is not model.optimizer
    assert learning.optimizer.get_config() == model.optimizer.get_config()
    assert learning.evaluate(x, y, verbose=0, return_dict=True) == pytest.approx(expected, rel=1e-5)
    assert learning.fit(x, y, verbose=0).history["own"] == [1.0]
    assert not kc.learn_groups(base).compiled


def test_saving_and_loading(tmp_path):
    learning = kc.learn_groups(network())
    condensable_layers(learning)[0].condense_to(1)
    learning.save(tmp_path / "learning.keras")
    loaded = keras.models.load_model(tmp_path / "learning.keras")
    x = array(2, 8, 8, 3)
    np.testing.assert_array_equal(predict(loaded, x), predict(learning, x))
    assert [layer.stage for layer in condensable_layers(loaded)] == [1, 0]


@pytest.mark.slow
def test_the_argument_is_left_alone():
    model = network()
    model.compile(
        keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False
    )
    x, y = array(8, 8, 8, 3), np.arange(8) % 3
    model.fit(x, y, verbose=0)
    layers, config = list(model.layers), model.get_config()
    nodes = [len(layer._inbound_nodes) for layer in layers]
    values = [ops.convert_to_numpy(v) for v in [*model.variables, *model.optimizer.variables]]
    learning = kc.learn_groups(model)
    learning.fit(x, y, epochs=6, verbose=0, callbacks=[CondenseSchedule()])
    assert all(a is b for a, b in zip(model.layers, layers, strict=True))
    assert [len(layer._inbound_nodes) for layer in layers] == nodes
    assert model.get_config() == config
    for value, variable in zip(values, [*model.variables, *model.optimizer.variables], strict=True):
        np.testing.assert_array_equal(value, variable)
    assert not {id(layer) for layer in learning.layers} & {id(layer) for layer in layers}
    assert not {id(variable) for variable in learning.variables} & {id(variable) for variable in model.variables}


@pytest.mark.slow
def test_fit_condenses_to_the_end():
    model = network()
    x, y = array(24, 8, 8, 3), np.arange(24) % 3
    optimizer = keras.optimizers.Adam(0.01)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    learning = kc.learn_groups(model, group_lasso=1e-4)
    history = learning.fit(x, y, epochs=6, batch_size=8, verbose=0, callbacks=[CondenseSchedule()]).history
    assert history["condense_stage"] == [0, 1, 2, 3, 3, 3]
    assert history["connections_left"][-1] == 0.25
    assert history["loss"][-1] < history["loss"][0]
    # one memory per trained weight, in the weights' order; those of dropped weights are zero
    memories = [v for v in learning.optimizer.variables if v.path.endswith("momentum")]
    assert [v.shape for v in memories] == [v.shape for v in learning.trainable_weights]
    for layer in condensable_layers(learning):
        dropped = np.tile(ops.convert_to_numpy(layer.mask).T, (1, layer.filters // 4)) == 0
        position = next(i for i, v in enumerate(learning.trainable_weights) if v is layer.kernel)
        for values in (layer.kernel, memories[position]):
            assert not ops.convert_to_numpy(values)[0, 0][dropped].any()
    small = kc.condense(learning)
    assert_same_outputs(predict(small, x), predict(learning, x), tolerance=1e-5)
    assert small.evaluate(x, y, verbose=0) == pytest.approx(learning.evaluate(x, y, verbose=0), rel=1e-4)
