"""ShuffleNet beside pytorchcv's, and beside the paper's tables."""

import functools
import itertools

import keras
import numpy as np
import pytest
from networks import shapes_only
from test_published_figures import EXACT

import keras_condense as kc
from keras_condense.applications import ShuffleNet, shufflenet
from keras_condense.layers import GroupConv2D

pytestmark = pytest.mark.slow  # all of it, together


GROUPS, WIDTHS = (1, 2, 3, 4, 8), (0.25, 0.5, 1, 1.5, 2)
CHANNELS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}  # of stage 2, table 1 of the paper


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def predict(model: keras.Model, x: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(x, training=False))


def randomized(model: keras.Model) -> keras.Model:
    """The model with batch norms as after some training."""
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            ranges = ((0.5, 1.5), (-0.5, 0.5), (-0.2, 0.2), (0.5, 1.5))
            layer.set_weights([random.uniform(low, high, shape) for low, high in ranges])
    return model


# ------------------------------------------------------------------------------------------- beside pytorchcv's


def their_network(groups: int, channels: int, stem_filters: int, stages: tuple[int, ...], classes: int):
    """pytorchcv's network in evaluation mode, its batch norms random, its last pooling for images of any size."""
    models = pytest.importorskip("pytorchcv.models.shufflenet")
    import torch

    torch.manual_seed(0)
    widths = [[channels * 2**stage] * units for stage, units in enumerate(stages)]
    network = models.ShuffleNet(widths, stem_filters, groups, num_classes=classes)
    network.features.final_pool = torch.nn.AdaptiveAvgPool2d(1)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.0)
                module.bias.uniform_(-0.2, 0.2)
                module.running_mean.uniform_(-0.2, 0.2)
                module.running_var.uniform_(0.8, 1.2)
    return network.eval()


def their_pairs(network) -> dict[str, tuple]:
    """pytorchcv's convolutions and batch norms by our names."""
    pairs = {"stem": (network.features.init_block.conv, network.features.init_block.bn)}
    stages = [module for name, module in network.features.named_children() if name.startswith("stage")]
    for stage, units in enumerate(stages, start=2):
        for number, unit in enumerate(units, start=1):
            name = f"stage{stage}_unit{number}"
            pairs[f"{name}_1"] = unit.compress_conv1, unit.compress_bn1
            pairs[f"{name}_2"] = unit.dw_conv2, unit.dw_bn2
            pairs[f"{name}_3"] = unit.expand_conv3, unit.expand_bn3
    return pairs


def set_weights_across(model: keras.Model, network) -> None:
    pairs = their_pairs(network)
    assert {layer.name for layer in model.layers if layer.name.endswith("_conv")} == {f"{name}_conv" for name in pairs}
    for name, (convolution, norm) in pairs.items():
        depthwise = name.endswith("_2")  # ours has (height, width, channels, 1), theirs (channels, 1, height, width)
        kernel = convolution.weight.detach().numpy().transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))
        model.get_layer(f"{name}_conv").set_weights([kernel])
        values = [norm.weight, norm.bias, norm.running_mean, norm.running_var]
        model.get_layer(f"{name}_bn").set_weights([value.detach().numpy() for value in values])
    classifier = network.output
    model.get_layer("predictions").set_weights([classifier.weight.detach().numpy().T, classifier.bias.detach().numpy()])


@pytest.mark.parametrize(
    ("groups", "width", "stem_filters", "stages", "size"),
    [
        (1, 0.25, 12, (1, 2), (32, 40)),
        (2, 1, 24, (2, 1), (33, 37)),
        (3, 0.5, 12, (1, 3, 2), (64, 63)),
        (4, 1, 24, (1, 2), (35, 32)),
        (8, 0.25, 8, (2, 2), (32, 33)),
        (3, 0.75, 18, (1, 1), (32, 32)),
    ],
)
def test_networks_equal_pytorchcv(groups, width, stem_filters, stages, size):
    network = their_network(groups, int(CHANNELS[groups] * width), stem_filters, stages, 7)
    import torch

    model = ShuffleNet(groups, width, stages=stages, input_shape=(*size, 3), classes=7, classifier_activation=None)
    set_weights_across(model, network)
    x = images(2, *size, 3)
    with torch.no_grad():
        expected = network(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    np.testing.assert_allclose(predict(model, x), expected, rtol=0, atol=1e-4 * max(1, np.abs(expected).max()))


# ------------------------------------------------------------------------------------------------ beside the paper


def multiply_adds(channels: int, groups: int) -> int:
    """Those of the convolutions of the network of table 1, counted from the paper's description alone."""
    total, inputs, side = 112**2 * 27 * 24, 24, 56
    for stage, units in enumerate((4, 8, 4)):
        outputs, middle = channels * 2**stage, channels * 2**stage // 4
        for unit in range(units):
            first_groups = 1 if stage == unit == 0 else groups
            total += side**2 * inputs * middle // first_groups
            side //= 2 if unit == 0 else 1
            new = outputs - inputs if unit == 0 else outputs
            total += side**2 * (9 * middle + middle * new // groups)
            inputs = outputs
    return total


@pytest.mark.parametrize(("groups", "published"), [(1, "143M"), (2, "140M"), (3, "137M"), (4, "133M"), (8, "137M")])
def test_the_operations_of_table_1(groups, published):
    """The paper leaves the classifier out there; with it, what was counted of each network is in EXACT."""
    convolutions = multiply_adds(CHANNELS[groups], groups)
    assert f"{convolutions / 1e6:.0f}M" == published
    assert EXACT[f"ShuffleNet 1x (g={groups})"][1] == convolutions + 4 * CHANNELS[groups] * 1000


@shapes_only()
def test_the_sizes_of_table_1():
    model = ShuffleNet()
    assert model.get_layer("stem_relu").output.shape == (None, 112, 112, 24)
    assert model.get_layer("stem_pool").output.shape == (None, 56, 56, 24)
    for stage, units, side, channels in ((2, 4, 28, 240), (3, 8, 14, 480), (4, 4, 7, 960)):
        for unit in range(1, units + 1):
            assert model.get_layer(f"stage{stage}_unit{unit}_out").output.shape == (None, side, side, channels)
    assert f"{kc.profile_model(model).parameters / 1e6:.2f}M" == "1.87M"


@pytest.mark.parametrize(("groups", "width"), list(itertools.product(GROUPS, WIDTHS)))
@shapes_only()
def test_every_width_suits_every_number_of_groups(groups, width):
    model = ShuffleNet(groups, width, stages=(1,), include_top=False, input_shape=(4, 4, 3))
    channels = CHANNELS[groups] * width
    assert model.output_shape == (None, 1, 1, channels)
    bottleneck = model.get_layer("stage2_unit1_1_conv").filters
    assert bottleneck % groups == 0
    assert abs(bottleneck - channels / 4) <= groups / 2


@pytest.mark.parametrize(
    ("channels", "groups", "expected"), [(240, 3, 60), (50, 2, 12), (68, 4, 16), (100, 2, 26), (136, 4, 36)]
)
def test_bottlenecks_are_rounded_to_the_nearest_multiple(channels, groups, expected):
    assert shufflenet._nearest_multiple(channels, 4, groups) == expected


def test_only_the_very_first_pointwise_convolution_has_no_groups():
    model = ShuffleNet(3, 0.25, stages=(2, 1))
    groups = {layer.name: layer.groups for layer in model.layers if isinstance(layer, GroupConv2D)}
    assert groups.pop("stage2_unit1_1_conv") == 1
    assert len(groups) == 5
    assert set(groups.values()) == {3}


def test_channels_are_shuffled_as_the_paper_says():
    """(g, n) channels transposed to (n, g) and flattened back (section 3.1), before the depthwise convolution."""
    model = ShuffleNet(3, 0.25, stages=(1,), input_shape=(16, 16, 3))
    layers = [model.get_layer(f"stage2_unit1_{part}") for part in ("1_relu", "shuffle")]
    before, after = keras.Model(model.input, [layer.output for layer in layers])(images(1, 16, 16, 3))
    before, after = keras.ops.convert_to_numpy(before), keras.ops.convert_to_numpy(after)
    np.testing.assert_array_equal(after, before.reshape(1, 4, 4, 3, 5).swapaxes(-1, -2).reshape(before.shape))
    names = [layer.name for layer in model.layers]
    assert names.index("stage2_unit1_shuffle") + 2 == names.index("stage2_unit1_2_conv")  # its padding between
    assert not [layer for layer in ShuffleNet(1, 0.25, stages=(1,)).layers if "shuffle" in layer.name]


def test_squeeze_and_excitation_against_numpy():
    model = randomized(ShuffleNet(2, 0.25, squeeze_excitation=True, stages=(2,), input_shape=(16, 18, 3)))
    for unit, channels in ((1, 50 - 12), (2, 50)):
        name = f"stage2_unit{unit}"
        layers = [model.get_layer(f"{name}_{part}") for part in ("3_bn", "se_scale")]
        squeeze, excite = (model.get_layer(f"{name}_se_{i}_conv") for i in (1, 2))
        random = np.random.default_rng(unit)
        for layer in (squeeze, excite):
            layer.bias.assign(random.normal(size=layer.bias.shape))
        x, scaled = keras.Model(model.input, [layer.output for layer in layers])(images(2, 16, 18, 3))
        x, scaled = keras.ops.convert_to_numpy(x), keras.ops.convert_to_numpy(scaled)
        (kernel_1, bias_1), (kernel_2, bias_2) = squeeze.get_weights(), excite.get_weights()
        assert kernel_1.shape == (1, 1, channels, channels // 16)
        hidden = np.maximum(x.mean((1, 2)) @ kernel_1[0, 0] + bias_1, 0)
        gates = 1 / (1 + np.exp(-(hidden @ kernel_2[0, 0] + bias_2)))
        np.testing.assert_allclose(scaled, x * gates[:, None, None], rtol=1e-4, atol=1e-5)


def test_kernels_are_drawn_as_the_authors_draw_them():
    model = ShuffleNet(3, 1, stages=(1, 1))
    deviations = {"stem_conv": 0.01, "predictions": 0.01, "stage2_unit1_1_conv": 1 / 24, "stage2_unit1_2_conv": 1}
    deviations |= {"stage2_unit1_3_conv": 1 / 20, "stage3_unit1_1_conv": 1 / 80}
    for name, deviation in deviations.items():
        kernel = model.get_layer(name).get_weights()[0]
        np.testing.assert_allclose(kernel.std(), deviation, rtol=0.1)


# ------------------------------------------------------------------------------------------------------- in use


@pytest.mark.parametrize("squeeze_excitation", [False, True])
def test_a_training_step_lowers_the_loss(squeeze_excitation):
    model = ShuffleNet(
        2, 0.25, squeeze_excitation, stages=(1,), input_shape=(16, 16, 3), classes=2, classifier_activation=None
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.05), loss, jit_compile=False)
    x = images(16, 16, 16, 3)
    y = (x.mean((1, 2, 3)) > 0).astype("int32")
    history = model.fit(x, y, epochs=4, batch_size=16, verbose=0).history["loss"]
    assert history[-1] < history[0]


@pytest.mark.parametrize(("groups", "squeeze_excitation"), [(1, False), (3, False), (4, True)])
def test_exported_networks_compute_the_same(groups, squeeze_excitation):
    pytest.importorskip("tensorflow")
    build = functools.partial(ShuffleNet, groups, 0.25, squeeze_excitation, stages=(1, 2))
    model = randomized(build(input_shape=(33, 32, 3), classes=5, classifier_activation=None))
    x = images(2, 33, 32, 3)
    expected = predict(model, x)
    # float32 sums in another order; 1e-4 is the promise
    actual = kc.run_tflite(kc.export_tflite(model), x)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


# ------------------------------------------------------------------------------------------------------- errors

WRONG = {
    "groups": ({"groups": 5}, r"`groups` \(=5\) must be one of 1, 2, 3, 4, 8. Use "),
    "groups none": ({"groups": 0}, r"`groups` \(=0\) must be a positive integer. Use "),
    "groups a fraction": ({"groups": 3.0}, r"`groups` \(=3.0\) must be a positive integer. Use "),
    "width": ({"width": 0.8}, r"`width` \(=0.8\) must be one of 0.25, 0.5, 0.75, 1.0, 1.5, 2.0. Use "),
    "width text": ({"width": "2x"}, r"`width` \(='2x'\) must be one of 0.25, 0.5, 0.75, 1.0, 1.5, 2.0. Use "),
    "no stem": ({"stem_filters": 0}, r"`stem_filters` \(=0\) must be a positive integer. Leave it out "),
    "stem": (
        {"stem_filters": 25},
        r"`stem_filters` \(=25\) must leave .*`groups` \(=3\) divides, and leaves 215 of",
    ),
    "large stem": ({"stem_filters": 240}, r"`stem_filters` \(=240\) must leave .* and leaves 0 of 240. Leave it out"),
    "squeeze": ({"squeeze_excitation": 16}, r"`squeeze_excitation` \(=16\) must be one of True, False. Use "),
    "no stages": ({"stages": ()}, r"`stages` \(=\(\)\) must be a sequence of positive integers. Give "),
    "empty stage": ({"stages": (4, 0, 4)}, r"`stages\[1\]` \(=0\) must be a positive integer. Give "),
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ShuffleNet(**arguments)


def test_figures_hold_every_width_of_every_number_of_groups():
    rows = [(row.arguments["groups"], row.arguments["width"]) for row in shufflenet.FAMILY.figures[:25]]
    assert rows == list(itertools.product(GROUPS, WIDTHS))
    assert all(row.arguments.get("squeeze_excitation") for row in shufflenet.FAMILY.figures[25:])
