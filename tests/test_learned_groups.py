"""A convolution learns groups with its weights and arguments; which do, which don't and why."""

import re

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from keras_versions import since_keras
from learning_networks import (
    assert_same_outputs,
    assert_unchanged_then_condensed,
    finished,
    network,
    predict,
    randomized,
)
from tensors import array

import keras_condense as kc
from keras_condense.layers import GroupConv2D, LearnedGroupConv2D, condensable_layers

pytest.importorskip("tensorflow")

L = keras.layers

# what came, what was expected, how to fix it
THREE_PARTS = re.compile(r"`.+` \(.+\) must .+\. .+\.", re.DOTALL)


def twice(x):
    return 2 * x


CONVOLUTIONS = {
    "plain": {},
    "without bias": {"use_bias": False},
    "strides": {"strides": (2, 1), "padding": "same"},
    "3x2": {"kernel_size": (3, 2), "padding": "same"},
    "dilation": {"kernel_size": 3, "dilation_rate": (2, 1)},
    "relu": {"activation": "relu"},
    "softmax mixes channels": {"activation": "softmax"},
    "a function": {"activation": twice},
    "regularizers and constraints": {
        "kernel_regularizer": keras.regularizers.L2(0.1),
        "bias_regularizer": "l1",
        "activity_regularizer": "l2",
        "kernel_constraint": "max_norm",
        "bias_constraint": keras.constraints.NonNeg(),
    },
    "initializers": {"kernel_initializer": keras.initializers.HeNormal(seed=3), "bias_initializer": "ones"},
    "frozen": {"trainable": False},
    "float64": {"dtype": "float64"},
    "mixed": {"dtype": "mixed_bfloat16"},
}

KEPT = (
    "name", "filters", "kernel_size", "strides", "padding", "data_format", "dilation_rate", "activation", "use_bias",
    "kernel_initializer", "bias_initializer", "kernel_regularizer", "bias_regularizer", "activity_regularizer",
    "kernel_constraint", "bias_constraint", "trainable", "dtype_policy",
)  # fmt: skip


@pytest.mark.parametrize("arguments", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_a_convolution_keeps_its_weights_and_its_arguments(arguments):
    conv = L.Conv2D(**({"filters": 8, "kernel_size": 1, "name": "conv"} | arguments))
    model = randomized(keras.Sequential([keras.Input((6, 7, 16)), conv]))
    x = array(2, 6, 7, 16)
    learning = kc.learn_groups(model, where="conv", group_lasso=1e-3)
    learned = learning.get_layer("conv")
    assert type(learned) is LearnedGroupConv2D
    assert (learned.groups, learned.condense_factor, learned.group_lasso) == (4, 4, 1e-3)
    for argument in KEPT:
        assert getattr(learned, argument) == getattr(conv, argument), argument
    for ours, theirs in zip(learned.weights, conv.weights, strict=False):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(learned.mask, np.ones((4, 16)))
    assert len(learning.trainable_weights) == len(model.trainable_weights)
    # of bfloat16, whose sums the op of each layer may round in another order
    tolerance = 1e-2 if "mixed" in str(arguments.get("dtype")) else 1e-6
    assert_same_outputs(predict(learning, x), predict(model, x), tolerance)
    assert float(sum(learning.losses)) == pytest.approx(float(sum(model.losses)))
    masked = predict(finished(learning), x)
    assert_same_outputs(predict(kc.condense(learning), x), masked, max(tolerance, 1e-5))


@pytest.mark.parametrize(
    "functions",
    [
        {"activation": lambda x: x / 2},
        pytest.param(
            {"activation": lambda x: x / 2, "kernel_regularizer": lambda kernel: 0.1 * ops.sum(kernel**2)},
            marks=since_keras("3.15", "takes no functions for regularizers"),
        ),
    ],
    ids=lambda functions: list(functions)[-1],
)
def test_functions_are_handed_on_without_being_saved(functions):
    conv = L.Conv2D(8, 1, **functions)
    model = keras.Sequential([keras.Input((4, 4, 8)), conv])
    learning = kc.learn_groups(model)
    assert learning.layers[0].activation is conv.activation
    assert_same_outputs(predict(learning, array(2, 4, 4, 8)), predict(model, array(2, 4, 4, 8)))
    assert float(sum(learning.losses)) == pytest.approx(float(sum(model.losses)))


@given(
    st.sampled_from([1, 2, 3, 4]), st.integers(1, 3), st.sampled_from([1, 2, 4, 5]), st.integers(1, 3),
    st.integers(1, 3), st.integers(1, 2), st.integers(1, 2), st.sampled_from(["valid", "same"]), st.booleans(),
    st.sampled_from([None, "relu", "swish", "tanh"]),
)  # fmt: skip
@settings(max_examples=25)
def test_any_convolution(groups, a, factor, b, kernel_size, strides, dilation, padding, use_bias, activation):
    conv = L.Conv2D(
        groups * a, kernel_size, strides, padding, dilation_rate=1 if strides > 1 else dilation, use_bias=use_bias,
        activation=activation, name="conv",
    )  # fmt: skip
    model = randomized(keras.Sequential([keras.Input((6, 5, factor * b)), conv]))
    learning = assert_unchanged_then_condensed(
        model, array(1, 6, 5, factor * b), groups=groups, condense_factor=factor, where="conv"
    )
    assert learning.get_layer("conv").final_stage == factor - 1


def test_our_own_convolution_of_one_group_learns_too():
    model = keras.Sequential([keras.Input((4, 4, 8)), GroupConv2D(8, 1, use_bias=True), GroupConv2D(8, 1, groups=2)])
    learning = assert_unchanged_then_condensed(model, array(2, 4, 4, 8))
    assert [type(layer) for layer in learning.layers] == [LearnedGroupConv2D, GroupConv2D]


def test_layers_that_learn_already_keep_their_stage():
    model = keras.Sequential([
        keras.Input((4, 4, 8)), LearnedGroupConv2D(8, 1, groups=2, name="first"), L.Conv2D(8, 1, name="second"),
    ])  # fmt: skip
    model.get_layer("first").condense_to(2)
    learning = kc.learn_groups(model, groups=8, condense_factor=2)
    first, second = learning.layers
    assert (first.groups, first.condense_factor, first.stage) == (2, 4, 2)
    assert (second.groups, second.condense_factor, second.stage) == (8, 2, 0)
    np.testing.assert_array_equal(first.mask, model.get_layer("first").mask)
    assert kc.explain_learn_groups(model).left == {"first": "learns its groups already"}


class Own(L.Conv2D):
    pass


def strange():
    """A convolution for each reason not to learn groups, and one that does."""
    image = keras.Input((9, 9, 8))
    x = L.Conv2D(8, 3, padding="same", name="wide")(image)
    for layer in (
        L.DepthwiseConv2D(1, name="depthwise"), L.SeparableConv2D(8, 1, name="separable"),
        L.Conv2DTranspose(8, 1, name="transposed"), L.Conv2D(8, 1, groups=2, name="grouped"),
        GroupConv2D(8, 1, groups=4, name="ours"), Own(8, 1, name="own"), L.Conv2D(8, 1, name="lora"),
        L.Conv2D(6, 1, name="odd_filters"), L.Conv2D(8, 3, padding="same", name="wide_2"),
        L.Conv2D(2, 1, name="few_filters"), L.Conv2D(8, 1, name="few_inputs"),
        L.Conv2D(8, 1, name="curved", activation=L.PReLU()), L.Conv2D(8, 1, name="good"),
    ):  # fmt: skip
        x = layer(x)
    last = L.Conv2D(4, 1, name="odd_inputs")(L.Concatenate()([x, L.Conv2D(2, 1, name="two")(x)]))
    sequence = L.Conv1D(8, 1, name="line")(L.Reshape((81, 8))(x))
    wrapped = L.TimeDistributed(L.Conv2D(8, 1, name="inside"), name="wrapper")(L.Reshape((1, 9, 9, 8))(x))
    volume = L.Conv3D(8, 1, name="volume")(wrapped)
    first = L.Conv2D(8, 1, data_format="channels_first", name="first")(L.Permute((3, 1, 2))(x))
    model = keras.Model(image, [last, sequence, volume, first], name="strange")
    model.get_layer("lora").enable_lora(2)
    model.get_layer("curved").activation.build((None, 9, 9, 8))
    return model


REASONS = {
    "wide": "has a 3x3 kernel, and `where` chooses 1x1 kernels by default",
    "wide_2": "has a 3x3 kernel, and `where` chooses 1x1 kernels by default",
    "depthwise": "is depthwise: each filter reads a single input",
    "separable": "is separable: it is two convolutions in one",
    "transposed": "is a transposed convolution",
    "grouped": "has 2 groups already",
    "ours": "has 4 groups already",
    "own": "is of a subclass, which may compute something else than its base",
    "lora": "has a LoRA kernel beside its own",
    "curved": "has an activation with weights of its own, which must be a layer behind it",
    "odd_filters": "has 6 filters, which `groups` (=4) does not divide",
    "few_filters": "is too small: it has 2 filters, and `groups` is 4",
    "few_inputs": "is too small: it has 2 inputs, and `condense_factor` is 4",
    "odd_inputs": "has 10 inputs, which `condense_factor` (=4) does not divide",
    "two": "is too small: it has 2 filters, and `groups` is 4",
    "line": "does not convolve in two dimensions",
    "volume": "does not convolve in two dimensions",
    "wrapper/inside": "lies inside layer 'wrapper', which is not a functional or sequential model",
    "first": 'has `data_format="channels_first"`, and learned groups need "channels_last"',
}


def test_an_activation_that_is_a_layer_is_not_shared_with_the_old_model():
    model = keras.Sequential([keras.Input((4, 4, 8)), L.Conv2D(8, 1, activation=L.LeakyReLU(0.3))])
    learning = kc.learn_groups(model)
    image = np.random.default_rng(0).normal(size=(2, 4, 4, 8)).astype("float32")
    np.testing.assert_allclose(learning(image), model(image), atol=1e-6)
    assert learning.layers[0].activation is not model.layers[0].activation


def test_every_layer_that_is_left_has_its_reason():
    model = strange()
    layers = kc.explain_learn_groups(model)
    assert layers.learned == ("good",)
    assert layers.left == REASONS
    assert layers.model == "strange"
    good = next(layer for layer in layers.layers if layer.name == "good")
    assert (good.kind, good.kernel, good.reason) == ("Conv2D", (1, 1, 8, 8), None)
    table = str(layers)
    assert "1 of 20 convolutions learn groups" in table
    for name in ("good", *REASONS):
        assert re.search(rf"│ {name} ", table), name
    assert [layer.name for layer in condensable_layers(kc.learn_groups(model))] == ["good"]


def test_the_report_is_printed(capsys):
    model = network()
    kc.learn_groups(model)
    assert capsys.readouterr().out == ""
    kc.learn_groups(model, report=True)
    assert capsys.readouterr().out.strip() == str(kc.explain_learn_groups(model))


WHERE = {
    "default": ({}, {"expand", "project"}),
    "a name": ({"where": "project"}, {"project"}),
    "names": ({"where": ["project", "expand"]}, {"expand", "project"}),
    "an iterator of names": ({"where": iter(["expand"])}, {"expand"}),
    "a function": ({"where": lambda layer: layer.filters == 16}, {"expand"}),
    "a function that says all": ({"where": lambda layer: True}, {"expand", "project"}),  # the stem has three inputs
    "other divisors": ({"where": lambda layer: True, "condense_factor": 3}, {"stem"}),
    "factor one": ({"condense_factor": 1, "where": lambda layer: np.True_}, {"stem", "expand", "project"}),
}


@pytest.mark.parametrize(("arguments", "expected"), WHERE.values(), ids=WHERE)
def test_where_chooses(arguments, expected):
    learning = kc.learn_groups(network(), **arguments)
    assert {layer.name for layer in condensable_layers(learning)} == expected


def test_a_function_is_asked_about_ordinary_convolutions_alone():
    asked = []
    kc.explain_learn_groups(strange(), where=lambda layer: asked.append(layer.name))
    assert asked == ["wide", "odd_filters", "wide_2", "few_filters", "few_inputs", "good", "two", "odd_inputs"]


def test_nothing_to_replace_says_why_for_each_layer():
    with pytest.raises(ValueError, match=r"^`model` \(='strange'\) must have a convolution") as error:
        kc.learn_groups(strange(), groups=16)
    for name, reason in REASONS.items():
        if "`groups`" not in reason and "`condense_factor`" not in reason:
            assert f"\n{name!r} {reason}" in str(error.value)
    assert "\n'good' is too small: it has 8 filters, and `groups` is 16\n" in str(error.value)
    assert str(error.value).endswith("Give another `where`, `groups` or `condense_factor`.")
    with pytest.raises(ValueError, match=r"'stem' is not chosen by `where`\n'expand' is not chosen by `where`"):
        kc.learn_groups(network(), where=())
    with pytest.raises(ValueError, match="has none:\nit has no convolution at all\nGive another"):
        kc.learn_groups(keras.Sequential([keras.Input((4,)), L.Dense(8)]))
    assert kc.explain_learn_groups(keras.Sequential([keras.Input((4,)), L.Dense(8)])).layers == ()


WRONG = {
    "a name": ({"where": "expnd"}, r"`where` \(='expnd'\) must be the name of a convolution .* Use 'expand' that"),
    "another layer's name": ({"where": ["expand", "top"]}, r"`where` \(='top'\) must be the name of a convolution"),
    "a name that can't": (
        {"where": ["expand", "depthwise"]},
        r"`where` \(='depthwise'\) must be .* that can learn groups, and this one is depthwise: .* Leave it out",
    ),
    "a name that divides badly": (
        {"where": "stem"},
        r"`where` \(='stem'\) must be .* and this one is too small: it has 3 inputs, .* Leave it out",
    ),
    "no names": ({"where": 3}, r"`where` \(=3\) must be a function of a layer, a name or names of layers\. Leave"),
    "a layer": ({"where": L.ReLU(name="relu")}, r"`where` \(=<ReLU name=relu, .*>\) must be a function of a layer"),
    "a class": ({"where": L.Conv2D}, r"`where` \(=<class .*Conv2D'>\) must be a function of a layer"),
    "names of another kind": ({"where": ["expand", 3]}, r"`where` \(=\['expand', 3\]\) must be a function"),
    "groups": ({"groups": 0}, r"`groups` \(=0\) must be a positive integer\. Use"),
    "groups of another kind": ({"groups": 2.0}, r"`groups` \(=2.0\) must be a positive integer\. Use"),
    "condense factor": ({"condense_factor": True}, r"`condense_factor` \(=True\) must be a positive integer\. Use"),
    "group lasso": ({"group_lasso": -1}, r"`group_lasso` \(=-1\) must be a finite number, not negative\. Use"),
    "report": ({"report": "yes"}, r"`report` \(='yes'\) must be one of False, True\. True prints"),
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        kc.learn_groups(network(), **arguments)
    assert THREE_PARTS.fullmatch(str(error.value))
    if not {"group_lasso", "report"} & set(arguments):
        with pytest.raises(ValueError, match=message):
            kc.explain_learn_groups(network(), **arguments)


@pytest.mark.parametrize("function", [kc.learn_groups, kc.explain_learn_groups])
def test_wrong_models(function):
    for bad in (None, "model.keras", L.Conv2D(8, 1)):
        with pytest.raises(ValueError, match=r"`model` \(=.*\) must be a Keras model\. Load one with"):
            function(bad)
    unbuilt = keras.Sequential([L.Conv2D(8, 1)], name="unbuilt")
    with pytest.raises(
        ValueError, match=r"`model` \(='unbuilt', a Sequential\) must be a functional or a built .* Bui"
    ):
        function(unbuilt)
