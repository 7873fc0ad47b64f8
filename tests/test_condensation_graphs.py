"""A condensed network computes what the masked one computes, whatever its graph."""

import keras
import numpy as np
import pytest
from condensed_networks import assert_condensed, assert_same_outputs, condense_net, finished, predict
from tensors import array

from keras_condense.condensation import condense
from keras_condense.layers import (
    CondenseDense,
    GroupConv2D,
    LearnedGroupConv2D,
    SparseFeatureReactivation,
)

L = keras.layers


def test_a_network():
    model = finished(condense_net())
    small = condense(model)
    assert_condensed(small)
    assert_same_outputs(model, small, array(4, 8, 8, 8))
    assert small.name == "net"
    assert [tensor.name for tensor in small.inputs] == ["image"]
    assert small.output_names == ["top"]
    assert small.count_params() < model.count_params()
    drop = next(layer for layer in small.layers if isinstance(layer, L.Dropout))
    assert drop.rate == 0.3


def test_shared_layers_stay_shared():
    shared = LearnedGroupConv2D(8, 1, groups=2, name="shared", use_bias=True)
    x, y = keras.Input((4, 4, 8)), keras.Input((4, 4, 8))
    model = finished(keras.Model([x, y], L.Add()([shared(shared(x)), shared(y)])))
    small = condense(model)
    assert_same_outputs(model, small, array(2, 4, 4, 8), array(2, 4, 4, 8, seed=1))
    assert [layer.name for layer in small.layers].count("shared") == 1
    assert len(small.trainable_weights) == 2


@pytest.mark.parametrize("sequential", [True, False])
def test_nested_and_shared_models(sequential):
    if sequential:
        inner = keras.Sequential([keras.Input((4, 4, 8)), LearnedGroupConv2D(8, 1, name="a"), L.ReLU()], name="inner")
    else:
        i = keras.Input((4, 4, 8))
        inner = keras.Model(i, L.Add()([LearnedGroupConv2D(8, 1, name="a")(i), i]), name="inner")
    j = keras.Input((4, 4, 8))
    middle = keras.Model(j, LearnedGroupConv2D(8, 3, padding="same", name="b")(inner(j)), name="middle")
    x = keras.Input((4, 4, 8))
    y = middle(inner(x))
    model = finished(keras.Model(x, [y, inner(y)], name="outer"))
    small = condense(model)
    assert_condensed(small)
    assert_same_outputs(model, small, array(2, 4, 4, 8))
    assert small.get_layer("inner") in small.get_layer("middle").layers
    outer = finished(keras.Sequential([keras.Input((4, 4, 8)), model.get_layer("middle"), L.Flatten(), L.Dense(2)]))
    assert_same_outputs(outer, condense(outer), array(2, 4, 4, 8))


@pytest.mark.parametrize("part", ["index", "shuffle", "activation", "scatter", "conv"])
@pytest.mark.parametrize("nested", [False, True])
def test_layers_that_are_called_as_the_parts_of_a_condensed_one(part, nested):
    inputs = keras.Input((4, 4, 8))
    learned = LearnedGroupConv2D(8, 1, groups=2, activation="relu", name="learned")
    reactivation = SparseFeatureReactivation(8, groups=2, condense_factor=2, name="reactivation")
    x = L.ReLU(name=f"learned_{part}")(inputs)
    x = L.ReLU(name=f"reactivation_{part}")(reactivation(learned(x)))
    last = LearnedGroupConv2D(8, 1, groups=2, name="output")
    if nested:
        inner = keras.Model(inputs, x, name="inner")
        inputs = keras.Input((4, 4, 8))
        x = inner(inputs)
    model = finished(keras.Model(inputs, [last(x), L.ReLU(name=f"output_{part}")(x)]))
    small = condense(model)
    assert_condensed(small)
    assert small.output_names == model.output_names
    assert_same_outputs(model, small, array(2, 4, 4, 8))


def test_many_inputs_and_outputs_in_dictionaries():
    inputs = {"left": keras.Input((4, 4, 8), name="left"), "right": keras.Input((8,), name="right")}
    left = LearnedGroupConv2D(8, 1, activation="relu", name="conv")(inputs["left"])
    right = CondenseDense(8, name="dense")(inputs["right"])
    both = left * L.Reshape((1, 1, 8))(right) + 1.0  # operations that are no layers
    model = finished(keras.Model(inputs, {"map": both, "vector": keras.ops.mean(both, axis=(1, 2)), "right": right}))
    small = condense(model)
    x = {"left": array(2, 4, 4, 8), "right": array(2, 8, seed=1)}
    assert_same_outputs(model, small, x)
    assert set(predict(small, x)) == {"map", "vector", "right"}


def test_masks_and_call_arguments_go_on():
    words = keras.Input((6,), dtype="int32")
    x = L.Embedding(10, 8, mask_zero=True)(words)
    x = L.MultiHeadAttention(2, 4)(x, x, use_causal_mask=True)
    x = L.BatchNormalization()(x, training=False)
    model = finished(keras.Model(words, CondenseDense(4)(L.GlobalAveragePooling1D()(x))))
    assert_same_outputs(model, condense(model), np.array([[1, 2, 3, 0, 0, 0]]))


def test_unknown_sizes():
    model = finished(keras.Sequential([keras.Input((None, None, 8)), LearnedGroupConv2D(8, 1)]))
    small = condense(model)
    for size in (3, 5):
        assert_same_outputs(model, small, array(1, size, size + 1, 8))


def test_a_fixed_batch_size_is_kept():
    model = finished(keras.Sequential([keras.Input(batch_shape=(2, 3, 3, 8)), LearnedGroupConv2D(8, 1)]))
    assert condense(model).input_shape == (2, 3, 3, 8)


def test_an_adapted_normalization_keeps_what_it_learned():
    norm = L.Normalization()
    norm.adapt(array(50, 4, 4, 8) * 7 + 100)
    model = finished(keras.Sequential([keras.Input((4, 4, 8)), norm, LearnedGroupConv2D(8, 1)]))
    assert_same_outputs(model, condense(model), array(2, 4, 4, 8) * 7 + 100, atol=1e-4)


def test_preprocessing_and_dropout_with_seeds():
    model = finished(keras.Sequential([
        keras.Input((4, 4, 8)), L.RandomFlip(seed=1), L.GaussianNoise(0.1, seed=2), LearnedGroupConv2D(8, 1),
        L.SpatialDropout2D(0.5),
    ]))  # fmt: skip
    assert_same_outputs(model, condense(model), array(2, 4, 4, 8))


def test_a_network_without_learned_layers_is_copied():
    model = keras.Sequential([keras.Input((4,)), L.Dense(3)])
    small = condense(model)
    assert small is not model
    assert_same_outputs(model, small, array(2, 4))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "float64"])
def test_precision_is_kept(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = finished(condense_net())
    finally:
        keras.config.set_dtype_policy("float32")
    small = condense(model)
    for layer in small.layers[1:]:
        assert layer.dtype_policy.name == policy, layer.name
    tolerance = {"mixed_bfloat16": 3e-2, "mixed_float16": 4e-3, "float64": 1e-6}[policy]  # softmax outputs, 8/11 bits
    assert_same_outputs(model, small, array(2, 8, 8, 8), atol=tolerance)


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_outputs_keep_the_names_that_losses_know(activation, tmp_path):
    image = keras.Input((4, 4, 8))
    scores = L.Dense(3, name="scores")(L.Flatten()(LearnedGroupConv2D(8, 1, groups=4, name="inner")(image)))
    mask = LearnedGroupConv2D(8, 1, groups=4, activation=activation, use_bias=True, name="mask")(image)
    model = finished(keras.Model(image, [mask, scores]))
    model.compile("sgd", loss={"mask": "mse", "scores": "mae"})
    small = condense(model)
    assert small.output_names == model.output_names == ["mask", "scores"]
    assert isinstance(small.get_layer("mask_conv"), GroupConv2D)
    assert isinstance(small.get_layer("inner"), GroupConv2D)  # no output: the convolution keeps the name
    x = array(6, 4, 4, 8)
    targets = {"mask": array(6, 4, 4, 8, seed=1), "scores": array(6, 3)}
    losses = [m.evaluate(x, targets, verbose=0, return_dict=True)["loss"] for m in (model, small)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    small.save(tmp_path / "small.keras")
    assert_same_outputs(model, keras.models.load_model(tmp_path / "small.keras"), x)
