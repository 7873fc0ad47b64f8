"""Networks as models of tf_keras and back: how they are put together, and what their layers keep."""

import keras
import numpy as np
import pytest
from random_networks import inputs_of
from random_networks.settings import held
from twins import assert_same, names, there_and_back

import keras_condense as kc

pytest.importorskip("tf_keras")

L, K = keras.layers, kc.layers


# --- structure -------------------------------------------------------------------------------------------------------
def nested():
    inner_image = keras.Input((6, 6, 4), name="inner_image")
    inner = keras.Model(
        inner_image,
        L.ReLU(name="relu")(L.Rescaling(1.0, 1.0, name="plus")(L.Conv2D(4, 1, name="conv")(inner_image))),
        name="inner",
    )
    image = keras.Input((6, 6, 4), name="image")
    conv = L.Conv2D(4, 3, padding="same", name="conv")
    x = inner(conv(inner(conv(image))))
    return keras.Model(image, L.GlobalAveragePooling2D(name="mean")(x), name="outer")


def test_nested_models_are_opened_and_shared_layers_stay_shared():
    model = nested()
    twin, back = there_and_back(model, inputs_of(model))
    assert sorted(names(twin)) == sorted(["image", "conv", "inner_conv", "plus", "relu", "mean"])
    assert twin.name == back.name == "outer"
    assert twin.count_params() == back.count_params() == model.count_params()
    assert len(twin.get_layer("conv")._inbound_nodes) == 2


@pytest.mark.parametrize("container", ["list", "dict"])
def test_inputs_and_outputs_are_nested_as_before(container):
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    model = held(keras.Model([a, b], [L.Add()([a, b]), L.Dense(2)(b)]), inputs=container, outputs=container)
    twin = kc.interop.to_tf_keras(model)
    assert {"a", "b"} < set(names(twin))
    rows = {name: np.random.default_rng(i).normal(size=(2, 3)).astype("float32") for i, name in enumerate("ab")}
    inputs = rows if container == "dict" else list(rows.values())
    made, expected = twin(inputs), model(inputs)
    assert type(made) is type(expected)
    assert_same(model, twin, inputs)
    assert_same(model, kc.interop.from_tf_keras(twin), inputs)


def test_what_layers_are_trained_with_is_kept():
    conv = L.Conv2D(4, 3, kernel_regularizer=keras.regularizers.L2(0.25), bias_constraint="non_neg", name="conv")
    dense = L.Dense(2, activity_regularizer=keras.regularizers.L1(0.5), name="dense")
    model = keras.Sequential([keras.Input((6, 6, 4)), conv, L.BatchNormalization(momentum=0.7, name="bn"), dense])
    model.get_layer("bn").trainable = False
    twin = kc.interop.to_tf_keras(model)
    back = kc.interop.from_tf_keras(twin)
    for other in (twin, back):
        first = other.get_layer("conv")
        assert float(first.kernel_regularizer.l2) == 0.25
        assert type(first.bias_constraint).__name__ == "NonNeg"
        assert float(other.get_layer("dense").activity_regularizer.l1) == 0.5
        assert other.get_layer("bn").momentum == 0.7
        assert [layer.trainable for layer in other.layers[1:]] == [True, False, True]
    for ours, theirs in zip(back.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    inputs = inputs_of(model)[0]
    for other in (model, twin):
        other(inputs)
    np.testing.assert_allclose(sum(map(float, twin.losses)), sum(map(float, model.losses)), rtol=1e-5)


def test_a_frozen_nested_model_has_frozen_layers():
    inner = keras.Sequential([keras.Input((3,)), L.Dense(3, name="inside")], name="inner")
    inner.trainable = False
    twin = kc.interop.to_tf_keras(keras.Sequential([keras.Input((3,)), inner, L.Dense(2, name="top")]))
    assert [(layer.name, layer.trainable) for layer in twin.layers[1:]] == [("inside", False), ("top", True)]


def test_a_twin_is_saved_and_loaded(tmp_path):
    import tf_keras

    layers = [
        K.ChannelShuffle(2),
        K.ChannelIndex([1, 0, 3]),
        L.Activation("hard_silu"),
        K.ChannelScatterAdd([0, 2, 0], 3),
    ]
    twin = kc.interop.to_tf_keras(keras.Sequential([keras.Input((4, 4, 4)), *layers]))
    twin.save(tmp_path / "twin.keras")
    images = np.random.default_rng(0).normal(size=(2, 4, 4, 4)).astype("float32")
    np.testing.assert_array_equal(tf_keras.models.load_model(tmp_path / "twin.keras")(images), twin(images))


# --- models written in tf_keras --------------------------------------------------------------------------------------
def test_a_model_written_in_tf_keras():
    import tensorflow as tf
    import tf_keras

    T = tf_keras.layers
    image = tf_keras.Input((6, 6, 4), name="image")
    x = T.Conv2D(4, 3, activation=tf.nn.relu6, groups=2, padding="same", name="grouped")(image)
    x = tf.nn.relu(2.0 - x) * x + image / 3.0
    x = T.BatchNormalization(epsilon=1e-7, name="bn")(x)
    inner = tf_keras.Sequential([tf_keras.Input((6, 6, 4)), T.LeakyReLU(0.2), T.Dense(3, "swish")])
    x = tf.concat([inner(x, training=False), tf.reshape(x, (-1, 6, 6, 4))], axis=-1)
    model = tf_keras.Model(image, T.Softmax()(T.Flatten()(x)))
    model.get_layer("bn").moving_variance.assign(np.full(4, 1e-5))
    back = kc.interop.from_tf_keras(model)
    assert_same(model, back, inputs_of(back))
    assert isinstance(back.get_layer("grouped"), kc.layers.GroupConv2D)


def test_a_sequential_model_of_tf_keras():
    import tf_keras

    layers = [tf_keras.Input((3,), name="x"), tf_keras.layers.Dense(4, "relu"), tf_keras.layers.Dense(2, name="scores")]
    model = tf_keras.Sequential(layers, name="theirs")
    back = kc.interop.from_tf_keras(model)
    assert_same(model, back, inputs_of(back))
    assert (back.name, back.layers[0].name, back.layers[-1].name) == ("theirs", "x", "scores")


def test_a_memory_efficient_model_computes_the_same():
    from keras_condense.applications import DenseNet

    arguments = {"input_shape": (8, 8, 3), "classes": 3, "weights": None, "stem": "cifar"}
    model = DenseNet((1, 1), 4, memory_efficient=True, **arguments)
    assert_same(model, kc.interop.to_tf_keras(model), inputs_of(model))
