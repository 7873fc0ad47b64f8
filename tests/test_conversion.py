"""A condensed network computes what the masked one computes, whatever it is made of."""

import io

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_condense.condensation import condense
from keras_condense.drop_plans import inputs_left
from keras_condense.layers import (
    BatchNormalization,
    ChannelIndex,
    ChannelShuffle,
    CondenseDense,
    GroupConv2D,
    LearnedGroupConv2D,
    SparseFeatureReactivation,
    condensable_layers,
)

L = keras.layers


def array(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def finished(model):
    """`model` at its last stage, with every weight a random number, so that nothing is equal by chance."""
    rng = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign(rng.normal(size=weight.shape) * 0.5)
    for layer in condensable_layers(model):
        layer.condense_to(layer.final_stage)
    return model


def predict(model, *inputs, **options):
    outputs = model(inputs[0] if len(inputs) == 1 else list(inputs), training=False, **options)
    return keras.tree.map_structure(lambda y: ops.convert_to_numpy(ops.cast(y, "float32")), outputs)


def assert_same_outputs(masked, small, *inputs, atol=1e-5):
    # the same sums of float32, without the zeros and in another order
    ours, theirs = predict(small, *inputs), predict(masked, *inputs)
    keras.tree.assert_same_structure(ours, theirs)
    for a, b in zip(keras.tree.flatten(ours), keras.tree.flatten(theirs), strict=True):
        np.testing.assert_allclose(a, b, atol=atol, rtol=1e-5)


def assert_condensed(small):
    assert not condensable_layers(small)


# ---------------------------------------------------------------------------------------------------- single layers


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


# ----------------------------------------------------------------------------------------------------------- graphs


def block(x, name, filters=8, groups=4):
    y = L.ReLU()(BatchNormalization(name=f"{name}_bn")(x))
    y = LearnedGroupConv2D(filters, 1, groups=groups, name=f"{name}_1")(y)
    y = GroupConv2D(8, 3, padding="same", groups=groups, name=f"{name}_2")(y)
    return L.Concatenate()([x, y])


def condense_net():
    x = image = keras.Input((8, 8, 8), name="image")
    for i in range(2):
        x = block(x, f"block{i}")
    x = L.GlobalAveragePooling2D()(L.Dropout(0.3)(x))
    return keras.Model(image, CondenseDense(3, name="top", activation="softmax")(x), name="net")


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


# ------------------------------------------------------------------------------------------------------- compilation


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


# --------------------------------------------------------------------------------------- what must not change, files


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


# ----------------------------------------------------------------------------------------------------- how it fails


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
