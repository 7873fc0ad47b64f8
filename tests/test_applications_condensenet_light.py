"""CondenseNet-light against the authors' own program, hand counts, and the DenseNet that it is without groups."""

import functools
import inspect
import pathlib
import re

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from networks import THREE_PARTS, calls_of, shapes_only

import keras_condense as kc
from keras_condense.applications import CondenseNetLight, CondenseNetLight94, DenseNet
from keras_condense.layers import (
    ChannelIndex,
    ChannelShuffle,
    CondenseDense,
    GroupConv2D,
    LearnedGroupConv2D,
    condensable_layers,
)

GOLDEN_FILE = pathlib.Path(__file__).parent / "data" / "condensenet_light_g4_c4.npz"
# float32 logits of magnitude 1, summed in another order
LOGITS = {"rtol": 0, "atol": 1e-4}


def build(stages=(1, 2), growth_rate=4, **arguments) -> keras.Model:
    return CondenseNetLight(stages, growth_rate, **{"input_shape": (16, 16, 3), "classes": 3} | arguments)


def predict(model: keras.Model, x: np.ndarray) -> np.ndarray:
    return ops.convert_to_numpy(model(x, training=False))


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape).astype("float32")


def randomized(model: keras.Model) -> keras.Model:
    """`model` with random weights and statistics, so that nothing is equal by chance."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.name != "mask":
            weight.assign(rng.normal(0, 0.3, weight.shape))
    return model


def finished(model: keras.Model) -> keras.Model:
    for layer in condensable_layers(model):
        layer.condense_to(layer.final_stage)
    return model


# ------------------------------------------------------------------------------ the authors' program, on random weights

LAYER_NAMES = [
    (r"features\.init_conv", "stem_conv"),
    (r"features\.denseblock_(\d+)\.denselayer_(\d+)\.conv_(\d)\.norm", r"block\1_layer\2_\3_bn"),
    (r"features\.denseblock_(\d+)\.denselayer_(\d+)\.conv_(\d)\.conv", r"block\1_layer\2_\3_conv"),
    (r"features\.denseblock_(\d+)\.denselayer_(\d+)\.conv_1", r"block\1_layer\2_1_conv"),
    (r"features\.transition_(\d+)\.conv\.norm", r"transition\1_bn"),
    (r"features\.transition_(\d+)\.conv(\.conv)?", r"transition\1_conv"),
    (r"features\.norm_last", "bn"),
    (r"classifier", "predictions"),
]


def our_name(theirs: str) -> str:
    (name,) = [re.sub(f"^{pattern}$", ours, theirs) for pattern, ours in LAYER_NAMES if re.fullmatch(pattern, theirs)]
    return name


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    """What the authors' PyTorch program computed of a small network, of 1 and 2 layers and k = 4, with random weights.

    `weights/<torch name>` (kernels OIHW, classifier (out, in), batch norms), two `images`, and of each stage
    `stage<s>/logits`, `stage<s>/mask/<torch name>` (groups by inputs) and `stage<s>/group_lasso`, in the order of
    `learned`; `condensed/logits`, `condensed/parameters` and `condensed/operations` are those of its converted network,
    whose classifier has lost half of its inputs.
    """
    with np.load(GOLDEN_FILE) as arrays:
        return dict(arrays)


def golden_model(golden: dict[str, np.ndarray]) -> keras.Model:
    model = build(classes=5, classifier_activation=None, classifier_condense_factor=2)
    weights = {}
    for name, array in golden.items():
        if name.startswith("weights/"):
            layer, _, part = name.removeprefix("weights/").rpartition(".")
            weights.setdefault(our_name(layer), {})[part] = array
    assert set(weights) == {layer.name for layer in model.layers if layer.trainable_weights}
    for name, parts in weights.items():
        layer = model.get_layer(name)
        if "running_mean" in parts:
            layer.set_weights([parts[part] for part in ("weight", "bias", "running_mean", "running_var")])
            continue
        kernel = parts["weight"]
        layer.kernel.assign(kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel.T)
        if "bias" in parts:
            layer.bias.assign(parts["bias"])
    return model


@pytest.mark.parametrize("skipping", [False, True], ids=["stage by stage", "at once"])
def test_every_stage_computes_what_the_authors_program_computes(golden, skipping):
    model = golden_model(golden)
    learned = [model.get_layer(our_name(name)) for name in golden["learned"].tolist()]
    convolutions = [layer for layer in condensable_layers(model) if isinstance(layer, LearnedGroupConv2D)]
    assert {id(layer) for layer in learned} == {id(layer) for layer in convolutions}
    for stage in [0, 3] if skipping else range(4):
        for name, layer in zip(golden["learned"].tolist(), learned, strict=True):
            layer.condense_to(stage)
            np.testing.assert_array_equal(ops.convert_to_numpy(layer.mask), golden[f"stage{stage}/mask/{name}"])
        np.testing.assert_allclose(predict(model, golden["images"]), golden[f"stage{stage}/logits"], **LOGITS)
        lassos = [float(layer.lasso()) for layer in learned]
        np.testing.assert_allclose(lassos, golden[f"stage{stage}/group_lasso"], rtol=1e-5)
    small = kc.condense(finished(model))
    np.testing.assert_allclose(predict(small, golden["images"]), golden["condensed/logits"], **LOGITS)
    profile = kc.profile_model(small)
    assert (profile.parameters, profile.operations) == (golden["condensed/parameters"], golden["condensed/operations"])


# ------------------------------------------------------------------------------------------------------- what it builds


def test_transitions_learn_which_channels_they_read_before_they_pool():
    model = build((1, 1), 4, dropout_rate=0.1, group_lasso=1e-5)
    assert [layer.name for layer in model.layers[1:]] == [
        "stem_conv",
        *(f"block1_layer1_{part}" for part in ("1_bn", "1_relu", "1_drop", "1_conv", "2_bn", "2_relu", "2_conv")),
        "block1_layer1_concat",
        *(f"transition1_{part}" for part in ("bn", "relu", "conv", "pool")),
        *(f"block2_layer1_{part}" for part in ("1_bn", "1_relu", "1_drop", "1_conv", "2_bn", "2_relu", "2_conv")),
        "block2_layer1_concat",
        *("bn", "relu", "avg_pool", "predictions"),
    ]
    for name, kernel in (
        ("block1_layer1_1_conv", (1, 1, 8, 16)),
        ("transition1_conv", (1, 1, 12, 8)),  # half of 12, rounded up to a multiple of 4 groups
        ("block2_layer1_1_conv", (1, 1, 8, 16)),
    ):
        layer = model.get_layer(name)
        assert type(layer) is LearnedGroupConv2D
        assert (layer.groups, layer.condense_factor, layer.group_lasso) == (4, 4, 1e-5)
        assert tuple(layer.kernel.shape) == kernel
    assert model.get_layer("transition1_pool").input.shape == (None, 16, 16, 8)
    assert type(model.get_layer("block2_layer1_2_conv")) is GroupConv2D
    assert model.get_layer("block2_layer1_2_conv").groups == 4


@pytest.mark.parametrize(
    ("compression", "groups", "width"), [(0.5, 4, 16), (0.5, 2, 14), (0.4, 4, 12), (0.01, 4, 4), (1.0, 4, 28)]
)
def test_a_transition_keeps_a_share_of_the_channels(compression, groups, width):
    model = build((5, 1), 4, groups=groups, condense_factor=2, compression=compression, include_top=False)
    assert tuple(model.get_layer("transition1_conv").kernel.shape) == (1, 1, 28, width)


def test_of_one_group_it_is_the_densenet():
    model = randomized(build((2, 1), 4, groups=1, condense_factor=1))
    plain = DenseNet((2, 1), 4, stem="cifar", input_shape=(16, 16, 3), classes=3)
    weights = [weight for weight in model.weights if weight.name != "mask"]
    for weight, own in zip(plain.weights, weights, strict=True):
        weight.assign(own)
    x = images(2, 16, 16, 3)
    # their batch norms add 1.001e-5 and 1e-5 to variances of 0.5 and more
    np.testing.assert_allclose(predict(model, x), predict(plain, x), atol=1e-5)


def test_the_named_network_is_the_papers(monkeypatch):
    calls = calls_of(CondenseNetLight, monkeypatch)
    CondenseNetLight94()
    CondenseNetLight94(groups=2, condense_factor=8, dropout_rate=0.1, group_lasso=1e-5, classifier_condense_factor=1)
    paper = {
        "stages": (15, 15, 15),
        "groups": 4, "condense_factor": 4, "dropout_rate": 0.0, "group_lasso": 0.0, "classifier_condense_factor": 2,
        "include_top": True, "weights": None, "input_tensor": None, "input_shape": None, "pooling": None,
        "classes": 10, "classifier_activation": "softmax", "name": "condensenetlight94", "memory_efficient": False,
    }  # fmt: skip
    other = {
        "groups": 2, "condense_factor": 8, "dropout_rate": 0.1, "group_lasso": 1e-5, "classifier_condense_factor": 1,
    }  # fmt: skip
    assert calls == [paper, paper | other]
    defaults = {name: p.default for name, p in inspect.signature(CondenseNetLight).parameters.items()}
    assert (defaults["growth_rate"], defaults["compression"], defaults["stem_strides"]) == (16, 0.5, 1)
    assert (defaults["groups"], defaults["condense_factor"], defaults["bottleneck_factor"]) == (4, 4, 4)


@pytest.mark.slow
@shapes_only()
def test_light_94_has_the_published_size():
    model = CondenseNetLight94()
    learned = [layer for layer in model.layers if isinstance(layer, LearnedGroupConv2D)]
    grouped = [layer for layer in model.layers if isinstance(layer, GroupConv2D)]
    assert (len(learned), len(grouped)) == (3 * 15 + 2, 3 * 15)
    assert 1 + len(learned) + len(grouped) + 1 == 94  # the stem and the classifier
    assert isinstance(model.get_layer("predictions"), CondenseDense)

    channels, size = 32, 32
    parameters, macs, others = 27 * channels, 27 * channels * size**2, 0
    for block in range(3):
        for _ in range(15):
            # of the 1x1 convolution to 4k a quarter is left, and the 3x3 one has 4 groups; each after a batch norm
            kernels = channels * 64 // 4 + 9 * 64 * 16 // 4
            parameters += 2 * channels + 2 * 64 + kernels
            macs += kernels * size**2
            others += (channels + 64) * size**2  # the outputs of the ReLUs
            channels += 16
        if block < 2:
            kernel = channels * (channels // 2) // 4
            parameters += 2 * channels + kernel
            macs += kernel * size**2
            others += channels * size**2 + (channels // 2) * size**2  # of the ReLU, and what is pooled
            channels, size = channels // 2, size // 2
    parameters += 2 * channels + 10 * (channels // 2) + 10
    macs += 10 * (channels // 2)
    others += 2 * channels * size**2 + 10  # ReLU, pooling and the classifier's biases
    assert (channels, size) == (428, 8)
    profile = kc.profile_model(finished(model))
    assert (profile.parameters, profile.macs, profile.flops) == (parameters, macs, macs + others)
    assert (parameters, macs, macs + others) == (328_366, 116_564_060, 121_923_430)


def test_weights_begin_as_in_the_authors_program():
    model = build((1, 1), 64, classes=100)
    kernel = ops.convert_to_numpy(model.get_layer("transition1_conv").kernel)  # filters 96
    assert kernel.std() == pytest.approx((2 / 96) ** 0.5, rel=0.05)
    kernel = ops.convert_to_numpy(model.get_layer("predictions").kernel)
    assert 0.95 * kernel.shape[0] ** -0.5 < np.abs(kernel).max() <= kernel.shape[0] ** -0.5
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            assert (layer.momentum, layer.epsilon) == (0.9, 1e-5)


# --------------------------------------------------------------------------------------- trained, condensed, exported


def test_it_is_pruned_while_it_trains_condensed_and_exported():
    pytest.importorskip("ai_edge_litert")
    model = build(classifier_activation=None, group_lasso=1e-5, classifier_condense_factor=2)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True), loss, jit_compile=False)
    x, y = images(12, 16, 16, 3), np.arange(12) % 3
    history = model.fit(x, y, epochs=6, batch_size=12, verbose=0, callbacks=[kc.callbacks.CondenseSchedule()]).history
    assert history["condense_stage"] == [0, 1, 2, 3, 3, 3]
    assert history["loss"][-1] < history["loss"][0]
    assert int(ops.sum(model.get_layer("transition1_conv").mask)) == 12  # of 4 groups by 12 inputs

    condensed = kc.condense(model)
    kinds = [type(layer) for layer in condensed.layers]
    assert (kinds.count(ChannelIndex), kinds.count(ChannelShuffle)) == (4 + 1, 4)  # and the classifier's
    assert condensed.get_layer("transition1_conv").kernel.shape == (1, 1, 3, 8)
    np.testing.assert_allclose(predict(condensed, x), predict(model, x), atol=1e-5)


def test_condensed_and_exported_it_computes_the_same():
    pytest.importorskip("ai_edge_litert")
    model = finished(randomized(build((2, 3), 8, classifier_activation=None, classifier_condense_factor=2)))
    condensed = kc.condense(model)
    x = images(2, 16, 16, 3)
    expected = predict(model, x)
    scale = np.abs(expected).max()
    # float32 sums of the same products, without the zeros; and in the file with the batch norms folded
    np.testing.assert_allclose(predict(condensed, x), expected, rtol=0, atol=1e-5 * scale)
    np.testing.assert_allclose(kc.run_tflite(kc.export_tflite(condensed), x), expected, rtol=0, atol=1e-4 * scale)


# ------------------------------------------------------------------------------------------------------ any arguments


@settings(derandomize=True, deadline=None, max_examples=8)
@given(
    stages=st.lists(st.integers(1, 2), min_size=1, max_size=3),
    growth_rate=st.sampled_from([2, 4, 6]),
    groups=st.sampled_from([1, 2, 4]),
    condense_factor=st.sampled_from([1, 2, 4]),
    compression=st.sampled_from([0.3, 0.5, 1.0]),
    stem_strides=st.integers(1, 2),
    size=st.integers(1, 9),
)
def test_any_network_is_built_and_condensed_or_refused_with_reasons(
    stages, growth_rate, groups, condense_factor, compression, stem_strides, size
):
    widths, channels = [], 2 * growth_rate
    for block, layers in enumerate(stages):
        if block:
            widths.append(channels)
            channels = next(width for width in range(groups, 99, groups) if width >= channels * compression)
        widths += [channels + growth_rate * layer for layer in range(layers)]
        channels += growth_rate * layers
    smallest = functools.reduce(lambda n, _: n // 2, stages[1:], -(-size // stem_strides))
    fits = not growth_rate % groups and not any(width % condense_factor for width in widths) and smallest > 0
    build_it = functools.partial(
        build,
        stages,
        growth_rate,
        groups=groups,
        condense_factor=condense_factor,
        compression=compression,
        stem_strides=stem_strides,
        input_shape=(size, size + 1, 3),
    )
    if not fits:
        with pytest.raises(ValueError, match=THREE_PARTS):
            build_it()
        return
    model = finished(randomized(build_it()))
    assert model.get_layer("bn").input.shape[-1] == channels
    x = images(2, size, size + 1, 3)
    np.testing.assert_allclose(predict(kc.condense(model), x), predict(model, x), atol=1e-5)
