"""A condensed layer computes what the masked one computes, whatever its arguments; and what is refused."""

import keras
import numpy as np
import pytest
from condensed_networks import assert_condensed, assert_same_outputs, condense_net, finished
from hypothesis import given, settings
from hypothesis import strategies as st
from tensors import array

from keras_condense.condensation import condense
from keras_condense.drop_plans import inputs_left
from keras_condense.layers import (
    ChannelIndex,
    ChannelShuffle,
    CondenseDense,
    GroupConv2D,
    LearnedGroupConv2D,
    condensable_layers,
)

L = keras.layers


def twice(x):
    return 2 * x


LAYERS = {
    "plain": {},
    "bias": {"use_bias": True},
    "relu": {"use_bias": True, "activation": "relu"},
    "softmax mixes channels": {"use_bias": True, "activation": "softmax"},
    "a function": {"activation": twice},
    "3x3": {"kernel_size": 3, "padding": "same", "use_bias": True},
    "strides": {"kernel_size": (3, 2), "strides": (2, 1)},
    "dilation": {"kernel_size": 3, "dilation_rate": 2, "padding": "same"},
    "G2 C8": {"groups": 2, "condense_factor": 8},
    "G8 C2": {"groups": 8, "condense_factor": 2, "activation": "softmax"},
    "G8 C4": {"groups": 8, "condense_factor": 4, "use_bias": True},
    "G4 C8": {"groups": 4, "condense_factor": 8, "use_bias": True},
    "G1 C4": {"groups": 1, "use_bias": True, "activation": "relu"},
    "G4 C1": {"condense_factor": 1, "use_bias": True, "activation": "softmax"},
    "G1 C1": {"groups": 1, "condense_factor": 1},
    "30 % G1": {"groups": 1, "pruned_fraction": 0.3, "drops_at": (0.1, 0.2), "kernel_size": 3, "use_bias": True},
    "30 % G4": {"pruned_fraction": 0.3, "drops_at": (0.1, 0.2), "use_bias": True, "activation": "softmax"},
    "90 % G2": {"groups": 2, "pruned_fraction": 0.9, "drops_at": (0.1,), "use_bias": True},
    "1 %, which drops one of 16": {"groups": 2, "pruned_fraction": 0.01, "drops_at": (0.1,), "use_bias": True},
    "0 %": {"pruned_fraction": 0.0, "drops_at": (0.1,), "use_bias": True},
    "C4 in two drops": {"drops_at": (0.1, 0.7), "use_bias": True},
    "regularised": {"kernel_regularizer": "l2", "activity_regularizer": "l2", "kernel_constraint": "max_norm"},
}


@pytest.mark.parametrize("arguments", LAYERS.values(), ids=LAYERS)
def test_one_convolution(arguments):
    layer = LearnedGroupConv2D(**({"filters": 16, "kernel_size": 1, "name": "conv"} | arguments))
    model = finished(keras.Sequential([keras.Input((6, 7, 16)), layer]))
    small = condense(model)
    assert_condensed(small)
    x = array(2, 6, 7, 16)
    assert_same_outputs(model, small, x)
    assert small.output_shape == model.output_shape
    conv = small.get_layer("conv")
    assert type(conv) is GroupConv2D
    left = inputs_left(16, layer.final_stage, layer.plan)
    if layer.condense_factor:
        assert left == 16 // layer.condense_factor
    assert conv.kernel.shape[2] == left
    kinds = {type(part) for part in small.layers}
    assert (ChannelIndex in kinds) == (left < 16)
    assert (ChannelShuffle in kinds) == (left < 16 and layer.groups > 1)
    small(x, training=True)
    model(x, training=True)
    if "activity_regularizer" in arguments:  # of the same outputs; that of the kernel counts no zeros anyway
        assert float(sum(small.losses)) == pytest.approx(float(sum(model.losses)), rel=1e-5)


@pytest.mark.parametrize("arguments", [{}, {"condense_factor": 4, "activation": "softmax"}, {"condense_factor": 1},
                                       {"use_bias": False, "kernel_regularizer": "l2"},
                                       {"pruned_fraction": 0.3, "drops_at": (0.5,)}])  # fmt: skip
@pytest.mark.parametrize("shape", [(8,), (3, 8)], ids=str)
def test_one_classifier(arguments, shape):
    model = finished(keras.Sequential([keras.Input(shape), CondenseDense(5, **arguments, name="top")]))
    small = condense(model)
    assert_same_outputs(model, small, array(4, *shape))
    assert type(small.get_layer("top")) is L.Dense
    left = 5 if "pruned_fraction" in arguments else 8 // arguments.get("condense_factor", 2)
    assert small.get_layer("top").kernel.shape == (left, 5)


@given(
    st.sampled_from([1, 2, 3, 4, 8]), st.sampled_from([1, 2, 4, 5, 8]), st.integers(1, 2), st.integers(1, 2),
    st.integers(1, 3), st.integers(1, 2), st.integers(1, 2), st.sampled_from(["valid", "same"]), st.booleans(),
    st.sampled_from([None, "relu", "softmax", "tanh"]), st.integers(0, 10**6),
)  # fmt: skip
@settings(max_examples=40)
def test_any_convolution(groups, factor, a, b, kernel_size, strides, dilation, padding, use_bias, activation, seed):
    layer = LearnedGroupConv2D(
        groups * a, kernel_size, strides, padding, groups=groups, condense_factor=factor, use_bias=use_bias,
        dilation_rate=1 if strides > 1 else dilation, activation=activation,
        bias_initializer=keras.initializers.RandomNormal(seed=seed),
        kernel_initializer=keras.initializers.RandomNormal(seed=seed),
    )  # fmt: skip
    model = keras.Sequential([keras.Input((5, 6, factor * b)), layer])
    x = array(1, 5, 6, factor * b, seed=seed)
    small = condense(model, finish=True)
    assert layer.stage == 0 or factor == 1
    layer.condense_to(layer.final_stage)
    assert_same_outputs(model, small, x)


@given(
    st.sampled_from([1, 2, 3]), st.integers(1, 12), st.floats(0, 0.99), st.integers(1, 4), st.integers(1, 3),
    st.integers(0, 10**6),
)  # fmt: skip
@settings(max_examples=20)
def test_any_fraction(groups, inputs, fraction, drops, kernel_size, seed):
    layer = LearnedGroupConv2D(
        2 * groups, kernel_size, padding="same", groups=groups, use_bias=True,
        pruned_fraction=fraction, drops_at=tuple(drop / (drops + 1) for drop in range(drops)),
        bias_initializer=keras.initializers.RandomNormal(seed=seed),
        kernel_initializer=keras.initializers.RandomNormal(seed=seed),
    )  # fmt: skip
    model = keras.Sequential([keras.Input((4, 5, inputs)), layer])
    small = condense(model, finish=True)
    layer.condense_to(layer.final_stage)
    assert_same_outputs(model, small, array(1, 4, 5, inputs, seed=seed))
    assert small.get_layer(layer.name).kernel.shape[2] == inputs_left(inputs, drops, layer.plan)


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_unfinished_layers_are_named_with_their_stage(stage):
    model = condense_net()
    for layer in condensable_layers(model):
        layer.condense_to(layer.final_stage)
    model = keras.models.clone_model(model)
    model.get_layer("block1_1").condense_to(stage)
    model.get_layer("block0_1").condense_to(3)
    message = rf"Layer 'block1_1' is in condensing stage {stage}, and must be in stage 3 .* Train on with"
    with pytest.raises(ValueError, match=message):
        condense(model)
    small = condense(model, finish=True)
    assert model.get_layer("block1_1").stage == stage
    for layer in condensable_layers(model):
        layer.condense_to(layer.final_stage)  # what the rest by magnitude means
    assert_same_outputs(model, small, array(2, 8, 8, 8))


def test_unfinished_drops_of_a_plan_of_its_own():
    layer = LearnedGroupConv2D(4, 1, groups=1, pruned_fraction=0.3, drops_at=(0.1, 0.2), name="conv")
    model = keras.Sequential([keras.Input((2, 2, 7)), layer])
    layer.condense_to(1)
    with pytest.raises(ValueError, match=r"Layer 'conv' is in condensing stage 1, and must be in stage 2 to be cond"):
        condense(model)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("finish", [False, True])
@pytest.mark.parametrize("name", ["block1_1", "top"])
def test_weights_that_are_not_finite(bad, finish, name):
    model = finished(condense_net())
    kernel = model.get_layer(name).kernel.numpy()
    kernel.flat[3] = bad
    model.get_layer(name).kernel.assign(kernel)
    with pytest.raises(ValueError, match=rf"kernel of layer '{name}' must be finite, .* Load an earlier checkpoint"):
        condense(model, finish=finish)


@pytest.mark.parametrize("bad", [None, "model.keras", L.Dense(3), 3], ids=repr)
def test_what_is_no_model(bad):
    with pytest.raises(ValueError, match=r"`model` \(=.*\) must be a Keras model\. Load one with"):
        condense(bad)


@pytest.mark.parametrize("finish", ["yes", None, 2], ids=repr)
def test_finish_is_a_bool(finish):
    with pytest.raises(ValueError, match=r"`finish` \(=.*\) must be one of False, True\. True prunes"):
        condense(condense_net(), finish=finish)


def test_models_without_a_graph():
    class Mine(keras.Model):
        def __init__(self, **options):
            super().__init__(**options)
            self.conv = LearnedGroupConv2D(4, 1)

        def call(self, x):
            return self.conv(x)

    mine = Mine(name="mine")
    mine(array(1, 2, 2, 8))
    unbuilt = keras.Sequential([LearnedGroupConv2D(4, 1)], name="unbuilt")
    for model in (mine, unbuilt, keras.Sequential(name="empty")):
        with pytest.raises(
            ValueError, match=rf"`model` \(='{model.name}', a .* must be a functional or a built .* Build"
        ):
            condense(model)
    x = keras.Input((2, 2, 8))
    with pytest.raises(
        ValueError, match=r"Layer '.*' lies inside a layer that is not .* Put it into the model's graph"
    ):
        condense(keras.Model(x, mine(x)), finish=True)


def test_a_learned_layer_in_a_wrapper():
    x = keras.Input((2, 3, 3, 8))
    model = keras.Model(x, L.TimeDistributed(LearnedGroupConv2D(4, 1, name="inside"))(x))
    with pytest.raises(ValueError, match="Layer 'inside' lies inside a layer"):
        condense(model, finish=True)


def test_a_mask_set_by_hand():
    model = finished(condense_net())
    layer = model.get_layer("block0_1")
    mask = layer.mask.numpy()
    mask[1] = 1
    layer.mask.assign(mask)
    with pytest.raises(ValueError, match="'block0_1' is in condensing stage 0"):
        condense(model)
    mask[1] = 0
    layer.mask.assign(mask)
    with pytest.raises(ValueError, match=r"keeps \[2, 0, 2, 2\]. Set it with the layer's `condense_to`"):
        condense(model)
