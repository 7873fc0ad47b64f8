"""CondenseNetV2 against the authors' own program, and what is its own among the constructors."""

import functools
import pathlib
import re

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

import keras_condense as kc
from keras_condense.applications import CondenseNetV2
from keras_condense.drop_plans import stage_from_progress
from keras_condense.layers import ChannelScatterAdd, LearnedGroupConv2D, SparseFeatureReactivation, condensable_layers

GOLDEN_FILE = pathlib.Path(__file__).parent / "data" / "condensenetv2_g4_c4.npz"
# float32 logits of magnitude 1, summed in another order
LOGITS = {"rtol": 0, "atol": 1e-4}


def build(stages=(1, 1), growth_rates=(8, 8), **arguments):
    defaults = {
        "groups": 4,
        "condense_factor": 4,
        "hidden_units": 8,
        "hard_swish_from_block": 2,
        "squeeze_excitation_from_block": 2,
        "stem_strides": 1,
        "input_shape": (16, 16, 3),
        "classes": 3,
    }
    return CondenseNetV2(stages, growth_rates, **defaults | arguments)


def predict(model, x):
    return ops.convert_to_numpy(model(x, training=False))


def images(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def randomized(model):
    """`model` with random weights and statistics, so that nothing is equal by chance."""
    rng = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign(weight + rng.normal(size=weight.shape) * 0.2)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(rng.normal(size=layer.moving_mean.shape))
            layer.moving_variance.assign(rng.uniform(0.5, 2.0, layer.moving_variance.shape))
    return model


def finished(model):
    for layer in condensable_layers(model):
        layer.condense_to(layer.final_stage)
    return model


# ------------------------------------------------------------------------------ the authors' program, on random weights

LAYER_NAMES = [
    (r"features\.init_conv", "stem_conv"),
    (r"features\.denseblock_(\d+)\.denselayer_(\d+)\.conv_(\d)\.norm", r"block\1_layer\2_\3_bn"),
    (r"features\.denseblock_(\d+)\.denselayer_(\d+)\.conv_(\d)\.conv", r"block\1_layer\2_\3_conv"),
    (r"features\.denseblock_(\d+)\.denselayer_(\d+)\.conv_1", r"block\1_layer\2_1_conv"),
    (r"features\.denseblock_(\d+)\.denselayer_(\d+)\.sfr\.norm", r"block\1_layer\2_3_bn"),
    (r"features\.denseblock_(\d+)\.denselayer_(\d+)\.sfr(\.conv)?", r"block\1_layer\2_3_conv"),
    (r"features\.denseblock_(\d+)\.denselayer_(\d+)\.se\.fc\.0", r"block\1_layer\2_se_1_conv"),
    (r"features\.denseblock_(\d+)\.denselayer_(\d+)\.se\.fc\.2", r"block\1_layer\2_se_2_conv"),
    (r"features\.norm_last", "bn"),
    (r"features\.se_last\.fc\.0", "se_1_dense"),
    (r"features\.se_last\.fc\.2", "se_2_dense"),
    (r"fc", "hidden"),
    (r"classifier", "predictions"),
]


def our_name(theirs):
    (name,) = [re.sub(f"^{pattern}$", ours, theirs) for pattern, ours in LAYER_NAMES if re.fullmatch(pattern, theirs)]
    return name


def our_weights(parts):
    """A layer's weights in Keras' order and layout, from PyTorch's."""
    if "running_mean" in parts:
        return [parts[part] for part in ("weight", "bias", "running_mean", "running_var")]
    kernel = parts["weight"]
    kernel = kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel.T
    return [kernel, parts["bias"]] if "bias" in parts else [kernel]


@pytest.fixture(scope="module")
def golden():
    """What the authors' PyTorch program computed of a small network with random weights.

    `weights/<torch name>` (kernels OIHW, dense layers (out, in), batch norms), two `images`, and of each stage
    `stage<s>/logits`, `stage<s>/mask/<torch name>` (groups by inputs; by outputs for a reactivation) and
    `stage<s>/group_lasso`, in the order of `learned`; `condensed/logits` are those of its converted network.
    """
    with np.load(GOLDEN_FILE) as arrays:
        return dict(arrays)


def golden_model(golden):
    """The golden network, dense; its activations and squeeze-excitation change at the second block."""
    model = build((1, 2), (8, 12), hidden_units=12, classes=5, classifier_activation=None)
    weights = {}
    for name, array in golden.items():
        if name.startswith("weights/"):
            layer, _, part = name.removeprefix("weights/").rpartition(".")
            weights.setdefault(our_name(layer), {})[part] = array
    assert set(weights) == {layer.name for layer in model.layers if layer.trainable_weights}
    for name, parts in weights.items():
        layer = model.get_layer(name)
        values = our_weights(parts)
        if isinstance(layer, keras.layers.Conv2D) and values[0].ndim == 2:  # squeeze-excitation
            values = [values[0][None, None]]
        if isinstance(layer, (LearnedGroupConv2D, SparseFeatureReactivation)):
            layer.kernel.assign(values[0])
        else:
            layer.set_weights(values)
    return model


@pytest.mark.parametrize("skipping", [False, True], ids=["stage by stage", "at once"])
def test_every_stage_computes_what_the_authors_program_computes(golden, skipping):
    model = golden_model(golden)
    learned = [model.get_layer(our_name(name)) for name in golden["learned"].tolist()]
    for stage in [0, 3] if skipping else range(4):
        for layer in learned:
            layer.condense_to(stage)
            assert layer.stage == stage
        for name, layer in zip(golden["learned"].tolist(), learned, strict=True):
            np.testing.assert_array_equal(ops.convert_to_numpy(layer.mask), golden[f"stage{stage}/mask/{name}"])
        np.testing.assert_allclose(predict(model, golden["images"]), golden[f"stage{stage}/logits"], **LOGITS)
        lassos = [float(layer.lasso()) for layer in learned]
        np.testing.assert_allclose(lassos, golden[f"stage{stage}/group_lasso"], rtol=1e-5)
        assert stage_from_progress(stage / 6 + 1e-6, learned[0].plan) == stage
    np.testing.assert_allclose(predict(kc.condense(model), golden["images"]), golden["condensed/logits"], **LOGITS)


# ------------------------------------------------------------------------------------------------------- what it builds


def test_later_blocks_have_hard_swish_and_squeeze_excitation():
    model = CondenseNetV2((1, 1, 1, 1, 1), (8,) * 5, input_shape=(33, 33, 3), classes=3)
    names = {layer.name for layer in model.layers}
    for block in range(1, 6):
        activation = "hard_swish" if block >= 3 else "relu"
        assert {f"block{block}_layer1_{part}_{activation}" for part in (1, 2, 3)} < names
        assert (f"block{block}_layer1_se_scale" in names) == (block >= 4)
    assert {"relu", "se_scale", "hidden_hard_swish"} < names
    plain = build(hard_swish_from_block=9, squeeze_excitation_from_block=9, include_top=False)
    assert not any("swish" in layer.name or "_se_" in layer.name for layer in plain.layers)


def test_new_features_update_those_before_them_and_follow_them():
    model = build()
    add, concatenate = model.get_layer("block2_layer1_add"), model.get_layer("block2_layer1_concat")
    assert [tensor._keras_history.operation.name for tensor in add.input] == ["pool1", "block2_layer1_3_conv"]
    assert [tensor._keras_history.operation.name for tensor in concatenate.input] == [
        add.name,
        "block2_layer1_se_scale",
    ]
    reactivation = model.get_layer("block2_layer1_3_conv")
    assert isinstance(reactivation, SparseFeatureReactivation)
    assert tuple(reactivation.kernel.shape) == (1, 1, 8, 24)


def test_without_the_classifier_come_the_features_as_they_are():
    x = images(2, 16, 16, 3)
    full, features = build(), build(include_top=False, pooling="avg")
    features.set_weights(full.get_weights()[: len(features.get_weights())])
    pooled = keras.Model(full.input, full.get_layer("avg_pool").output)
    np.testing.assert_allclose(predict(features, x), predict(pooled, x), atol=1e-6)


def test_weights_begin_as_in_the_authors_program():
    model = CondenseNetV2((1, 1), (32, 64), input_shape=(32, 32, 3), squeeze_excitation_from_block=2)
    kernel = ops.convert_to_numpy(model.get_layer("block2_layer1_3_conv").kernel)  # filters 96
    assert kernel.std() == pytest.approx((2 / 96) ** 0.5, rel=0.05)
    kernel = ops.convert_to_numpy(model.get_layer("block2_layer1_2_conv").kernel)  # 3x3, filters 64
    assert kernel.std() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.05)
    for name in ("block2_layer1_se_1_conv", "hidden", "predictions"):
        kernel = ops.convert_to_numpy(model.get_layer(name).kernel)
        limit = kernel.shape[-2] ** -0.5
        assert 0.95 * limit < np.abs(kernel).max() <= limit
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            assert (layer.momentum, layer.epsilon) == (0.9, 1e-5)
            assert ops.convert_to_numpy(layer.gamma).min() == 1


# ---------------------------------------------------------------------------------------- train, condense, save, export


@pytest.mark.slow
def test_it_trains_condenses_and_trains_further(tmp_path):
    x = images(24, 16, 16, 3)
    y = (x.mean((1, 2, 3)) > 0).astype("int32")
    model = build(group_lasso=1e-5)
    model.compile(
        keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True), "sparse_categorical_crossentropy", jit_compile=False
    )
    history = model.fit(x, y, batch_size=8, epochs=6, verbose=0, callbacks=[kc.callbacks.CondenseSchedule()]).history
    assert history["condense_stage"] == [0, 1, 2, 3, 3, 3]
    assert history["connections_left"] == [1.0, 0.75, 0.5, 0.25, 0.25, 0.25]
    assert history["loss"][-1] < history["loss"][0]
    for layer in condensable_layers(model):
        kernel, kept = ops.convert_to_numpy(layer.kernel)[0, 0], ops.convert_to_numpy(layer.kernel_mask())
        assert (kernel[kept == 0] == 0).all()
        assert kept.mean() == 0.25
    small = kc.condense(model)
    assert not condensable_layers(small)
    np.testing.assert_allclose(predict(small, x), predict(model, x), atol=1e-5)
    small.save(tmp_path / "small.keras")
    np.testing.assert_array_equal(predict(keras.models.load_model(tmp_path / "small.keras"), x), predict(small, x))
    before = small.evaluate(x, y, verbose=0)
    assert small.fit(x, y, batch_size=24, epochs=3, verbose=0).history["loss"][-1] < before


def test_condensed_it_costs_what_the_masked_network_costs():
    model = finished(build((1, 2), (8, 16)))
    masked, small = kc.profile_model(model), kc.profile_model(kc.condense(model))
    assert (masked.parameters, masked.macs, masked.operations) == (small.parameters, small.macs, small.operations)
    dense = kc.profile_model(build((1, 2), (8, 16)))
    learned = {layer.name for layer in condensable_layers(model)}
    for row, full in zip(masked.layers, dense.layers, strict=True):
        assert row.macs == (full.macs / 4 if row.name in learned else full.macs)


def test_the_file_computes_the_same():
    pytest.importorskip("tensorflow")
    from keras_condense.tflite import run_tflite

    model = finished(randomized(build(classifier_activation=None)))
    assert any(isinstance(layer, ChannelScatterAdd) for layer in kc.condense(model).layers)
    x = images(2, 16, 16, 3)
    expected = predict(model, x)
    actual = run_tflite(kc.export_tflite(model), x)
    assert np.abs(actual - expected).max() < 1e-4 * np.abs(expected).max()


# -------------------------------------------------------------------------------------------------------- any arguments

THREE_PARTS = re.compile(r"`.+` \(.+\) .*must .+\. .+\.", re.DOTALL)
WRONG = {
    "lengths": ({"growth_rates": (8,)}, r"`growth_rates` \(of 1 values\) must be as long as `stages` \(of 2\)"),
    "stages": ({"stages": 2}, r"`stages` \(=2\) must be a sequence of positive integers"),
    "growth of no groups": (
        {"growth_rates": (8, 6)},
        r"`growth_rates\[1\]` \(=6\) must be divisible by `groups` \(=4\)",
    ),
    "condense factor": (
        {"condense_factor": 3},
        r"`in_channels of block1_layer1_1_conv` \(=16\) must be divisible by `condense_factor` \(=3\)",
    ),
    "groups": ({"groups": 0}, r"`groups` \(=0\) must be a positive integer"),
    "bottleneck": ({"bottleneck_factor": 1.5}, r"`bottleneck_factor` \(=1.5\) must be a positive integer"),
    "hidden": ({"hidden_units": 0}, r"`hidden_units` \(=0\) must be a positive integer"),
    "hard-swish": ({"hard_swish_from_block": 0}, r"`hard_swish_from_block` \(=0\) must be a positive integer"),
    "squeeze": (
        {"squeeze_excitation_from_block": None},
        r"`squeeze_excitation_from_block` \(=None\) must be a positive",
    ),
    "strides": ({"stem_strides": "2"}, r"`stem_strides` \(='2'\) must be a positive integer"),
    "lasso": ({"group_lasso": -1.0}, r"`group_lasso` \(=-1.0\) must be a finite number"),
    "weights": ({"weights": "imagenet"}, r"`weights` \(='imagenet'\) must be None or the path"),
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG)
def test_wrong_arguments(arguments, message):
    arguments = {"stages": (1, 1), "growth_rates": (8, 8), "groups": 4, "condense_factor": 4} | arguments
    with pytest.raises(ValueError, match=message) as error:
        CondenseNetV2(**arguments)
    assert THREE_PARTS.fullmatch(str(error.value))


@settings(max_examples=8)
@given(
    stages=st.lists(st.integers(1, 2), min_size=1, max_size=2),
    growth_rate=st.sampled_from([2, 4, 6]),
    groups=st.sampled_from([1, 2, 4]),
    condense_factor=st.sampled_from([1, 2, 4]),
    bottleneck_factor=st.integers(1, 3),
    block=st.integers(1, 4),
    stem_strides=st.integers(1, 2),
    size=st.integers(1, 9),
)
def test_any_network_is_built_and_condensed_or_refused_with_reasons(
    stages, growth_rate, groups, condense_factor, bottleneck_factor, block, stem_strides, size
):
    widths = [2 * growth_rate + growth_rate * layer for layer in range(sum(stages))]
    smallest = functools.reduce(lambda n, _: n // 2, stages[1:], -(-size // stem_strides))
    fits = not growth_rate % groups and not any(width % condense_factor for width in widths) and smallest > 0
    build_it = functools.partial(
        build,
        stages,
        (growth_rate,) * len(stages),
        groups=groups,
        condense_factor=condense_factor,
        bottleneck_factor=bottleneck_factor,
        hard_swish_from_block=block,
        squeeze_excitation_from_block=block,
        stem_strides=stem_strides,
        input_shape=(size, size + 1, 3),
    )
    if not fits:
        with pytest.raises(ValueError, match=THREE_PARTS):
            build_it()
        return
    model = finished(randomized(build_it()))
    x = images(2, size, size + 1, 3)
    np.testing.assert_allclose(predict(kc.condense(model), x), predict(model, x), atol=1e-5)
