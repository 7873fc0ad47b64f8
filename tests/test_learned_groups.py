"""Any Keras model with learned groups: unchanged until it is condensed, and condensed like a network of our own."""

import re

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from networks import NETWORKS

import keras_condense as kc
from keras_condense.callbacks import CondenseSchedule
from keras_condense.layers import GroupConv2D, LearnedGroupConv2D, condensable_layers

L = keras.layers
# what came, what was expected, how to fix it
THREE_PARTS = re.compile(r"`.+` \(.+\) must .+\. .+\.", re.DOTALL)


def array(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def randomized(model):
    """`model` with random biases and batch norms, so that nothing is equal by chance.

    Some scales are negative. They are small, for deep random networks of scales about 1 amplify rounding a hundredfold.
    """
    rng = np.random.default_rng(0)
    for layer in model._flatten_layers():
        if isinstance(layer, L.BatchNormalization):
            channels = layer.gamma.shape[0]
            layer.gamma.assign(rng.uniform(0.2, 0.5, channels) * rng.choice([-1, 1], channels, p=[0.2, 0.8]))
            layer.beta.assign(rng.normal(0, 0.3, channels))
            layer.moving_mean.assign(rng.normal(0, 0.3, channels))
            layer.moving_variance.assign(rng.uniform(0.5, 2, channels))
        elif getattr(layer, "bias", None) is not None:
            layer.bias.assign(rng.normal(0, 0.3, layer.bias.shape))
    return model


def finished(model):
    for layer in condensable_layers(model):
        layer.condense_to(layer.final_stage)
    return model


def predict(model, *inputs, **options):
    outputs = model(inputs[0] if len(inputs) == 1 else list(inputs), **({"training": False} | options))
    return keras.tree.map_structure(lambda y: ops.convert_to_numpy(ops.cast(y, "float32")), outputs)


def assert_same_outputs(actual, expected, tolerance=1e-6):
    """Relative to the largest output."""
    keras.tree.assert_same_structure(actual, expected)
    for a, b in zip(keras.tree.flatten(actual), keras.tree.flatten(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(np.abs(b).max(), 1e-6))


def assert_unchanged_then_condensed(model, *inputs, **arguments):
    """Outputs are the model's, and after condensing all at once the condensed network's are the masked one's."""
    expected = predict(model, *inputs)
    learning = kc.learn_groups(model, **arguments)
    assert condensable_layers(learning)
    assert_same_outputs(predict(learning, *inputs), expected)
    masked = predict(finished(learning), *inputs)
    small = kc.condense(learning)
    assert not condensable_layers(small)
    assert_same_outputs(predict(small, *inputs), masked, tolerance=1e-5)
    return learning


# ---------------------------------------------------------------------------------------------------- single layers


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


def test_functions_are_handed_on_without_being_saved():
    conv = L.Conv2D(8, 1, activation=lambda x: x / 2, kernel_regularizer=lambda kernel: 0.1 * ops.sum(kernel**2))
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


# ----------------------------------------------------------------------------------------------------------- graphs


def network(name="net"):
    """Pointwise convolutions before and after batch norms, a depthwise one, a shortcut."""
    x = image = keras.Input((8, 8, 3), name="image")
    x = y = L.ReLU()(L.BatchNormalization(name="stem_bn")(L.Conv2D(8, 3, strides=2, name="stem")(x)))
    y = L.BatchNormalization(name="expand_bn")(L.Conv2D(16, 1, use_bias=False, name="expand")(y))
    y = L.DepthwiseConv2D(3, padding="same", name="depthwise")(L.Activation("relu6")(y))
    y = L.Conv2D(8, 1, name="project")(L.BatchNormalization(name="depthwise_bn")(y))
    x = L.GlobalAveragePooling2D()(L.Dropout(0.5, seed=1)(L.Add()([x, y])))
    return randomized(keras.Model(image, L.Dense(3, activation="softmax", name="top")(x), name=name))


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
    learning.fit(x, y, epochs=2, verbose=0, callbacks=[CondenseSchedule()])
    assert all(a is b for a, b in zip(model.layers, layers, strict=True))
    assert [len(layer._inbound_nodes) for layer in layers] == nodes
    assert model.get_config() == config
    for value, variable in zip(values, [*model.variables, *model.optimizer.variables], strict=True):
        np.testing.assert_array_equal(value, variable)
    assert not {id(layer) for layer in learning.layers} & {id(layer) for layer in layers}
    assert not {id(variable) for variable in learning.variables} & {id(variable) for variable in model.variables}


# --------------------------------------------------------------------------------------------------------- training


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


# -------------------------------------------------------------------------------------------- which layers, and why


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
        L.Conv2D(8, 1, name="good"),
    ):  # fmt: skip
        x = layer(x)
    last = L.Conv2D(4, 1, name="odd_inputs")(L.Concatenate()([x, L.Conv2D(2, 1, name="two")(x)]))
    sequence = L.Conv1D(8, 1, name="line")(L.Reshape((81, 8))(x))
    wrapped = L.TimeDistributed(L.Conv2D(8, 1, name="inside"), name="wrapper")(L.Reshape((1, 9, 9, 8))(x))
    volume = L.Conv3D(8, 1, name="volume")(wrapped)
    first = L.Conv2D(8, 1, data_format="channels_first", name="first")(L.Permute((3, 1, 2))(x))
    model = keras.Model(image, [last, sequence, volume, first], name="strange")
    model.get_layer("lora").enable_lora(2)
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


def test_every_layer_that_is_left_has_its_reason():
    model = strange()
    layers = kc.explain_learn_groups(model)
    assert layers.learned == ("good",)
    assert layers.left == REASONS
    assert layers.model == "strange"
    good = next(layer for layer in layers.layers if layer.name == "good")
    assert (good.kind, good.kernel, good.reason) == ("Conv2D", (1, 1, 8, 8), None)
    table = str(layers)
    assert "1 of 19 convolutions learn groups" in table
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


# ----------------------------------------------------------------------------------------------------- how it fails


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


# ---------------------------------------------------------------------------------------------- keras.applications

APPLICATIONS = {
    # constructor, its arguments, learned and left convolutions
    "MobileNetV2": ({"alpha": 0.35, "input_shape": (32, 32, 3)}, 34, 18),
    "ResNet50": ({"input_shape": (64, 64, 3)}, 36, 17),
    "DenseNet121": ({"input_shape": (64, 64, 3)}, 61, 59),
    "EfficientNetV2B0": ({"input_shape": (64, 64, 3), "include_preprocessing": False}, 69, 22),
}


def gather_statistics(model, images):
    """Give batch norms the statistics of these images, as training does; else signals die out on their way."""
    norms = [layer for layer in model.layers if isinstance(layer, L.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    model(images, training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def differ(outputs):
    """Whether the outputs of two images do: otherwise any two networks would be equal."""
    return np.abs(outputs[0] - outputs[1]).max() > 0.05 * np.abs(outputs).max()


@pytest.mark.parametrize("name", ["condensenet-v2", "resnext", "squeezenet"])
def test_networks_of_our_own(name):
    network = NETWORKS[name]
    model = randomized(network.build(input_shape=(network.side, network.side, 3), classes=4))
    x = array(4, network.side, network.side, 3)
    gather_statistics(model, x)
    layers = kc.explain_learn_groups(model)
    learned_before = {layer.name for layer in condensable_layers(model)}
    assert {name for name, reason in layers.left.items() if reason == "learns its groups already"} == learned_before
    learning = assert_unchanged_then_condensed(model, x)
    assert {layer.name for layer in condensable_layers(learning)} == learned_before | set(layers.learned)


@pytest.mark.parametrize(
    "name", [name if name == "MobileNetV2" else pytest.param(name, marks=pytest.mark.slow) for name in APPLICATIONS]
)
def test_networks_of_keras_applications(name):
    pytest.importorskip("tensorflow")
    arguments, learned, left = APPLICATIONS[name]
    constructor = getattr(keras.applications, name)
    model = randomized(constructor(weights=None, classes=7, classifier_activation=None, **arguments))
    layers = kc.explain_learn_groups(model)
    assert (len(layers.learned), len(layers.left)) == (learned, left)
    x = array(8, *arguments["input_shape"])
    gather_statistics(model, x)
    learning = kc.learn_groups(model)
    expected = predict(model, x)
    assert differ(expected)
    assert_same_outputs(predict(learning, x), expected, tolerance=1e-5)
    before = kc.profile_model(model)
    assert kc.profile_model(learning).macs == before.macs

    finished(learning)
    gather_statistics(learning, x)
    masked = predict(learning, x)
    assert differ(masked)
    small = kc.condense(learning)
    saved = sum(row.macs * 3 // 4 for row in before.layers if row.name in layers.learned)  # three connections of four
    assert kc.profile_model(small).macs == kc.profile_model(learning).macs == before.macs - saved
    assert_same_outputs(predict(small, x), masked, tolerance=1e-4)
    assert_same_outputs(kc.run_tflite(kc.export_tflite(learning), x[:2]), masked[:2], tolerance=1e-4)
