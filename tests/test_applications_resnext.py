"""ResNeXt beside pytorchcv's, and beside the paper's template."""

import keras
import numpy as np
import pytest
from networks import calls_of, shapes_only

import keras_condense as kc
from keras_condense import applications
from keras_condense.applications import ResNeXt, resnext
from keras_condense.layers import GroupConv2D

STAGES = {"ResNeXt50": (3, 4, 6, 3), "ResNeXt101": (3, 4, 23, 3)}
LADDER = [(1, 64), (2, 40), (4, 24), (8, 14), (32, 4)]  # table 2 of the paper: cardinality, width of the bottleneck


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def predict(model: keras.Model, x: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(x, training=False))


# ------------------------------------------------------------------------------------------- beside pytorchcv's


def their_network(stages, cardinality: int, bottleneck_width: int, classes: int):
    """pytorchcv's network in evaluation mode, its batch norms random, its last pooling for images of any size."""
    models = pytest.importorskip("pytorchcv.models.resnext")
    import torch

    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    channels = [[256 * 2**stage] * units for stage, units in enumerate(stages)]
    network = models.ResNeXt(channels, 64, cardinality, bottleneck_width, num_classes=classes)
    network.features.final_pool = torch.nn.AdaptiveAvgPool2d(1)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                for values, low, high in (
                    (module.weight, 0.5, 1.0),
                    (module.bias, -0.2, 0.2),
                    (module.running_mean, -0.2, 0.2),
                    (module.running_var, 0.8, 1.2),
                ):
                    values.uniform_(low, high, generator=generator)
    return network.eval()


def their_convolutions(network) -> dict[str, object]:
    """pytorchcv's pairs of a convolution and a batch norm by our names."""
    pairs = {"conv1": network.features.init_block.conv}
    stages = [module for name, module in network.features.named_children() if name.startswith("stage")]
    for stage, units in enumerate(stages, start=2):
        for block, unit in enumerate(units, start=1):
            name = f"conv{stage}_block{block}"
            if unit.resize_identity:
                pairs[f"{name}_0"] = unit.identity_conv
            pairs |= {f"{name}_{i}": getattr(unit.body, f"conv{i}") for i in (1, 2, 3)}
    return pairs


def set_weights_across(model: keras.Model, network) -> None:
    pairs = their_convolutions(network)
    ours = {layer.name for layer in model.layers if layer.name.endswith("_conv")}
    assert ours == {f"{name}_conv" for name in pairs}
    for name, pair in pairs.items():
        norm = pair.bn
        kernel = pair.conv.weight.detach().numpy().transpose(2, 3, 1, 0)
        model.get_layer(f"{name}_conv").set_weights([kernel])
        values = [norm.weight, norm.bias, norm.running_mean, norm.running_var]
        model.get_layer(f"{name}_bn").set_weights([value.detach().numpy() for value in values])
    classifier = network.output
    model.get_layer("predictions").set_weights([classifier.weight.detach().numpy().T, classifier.bias.detach().numpy()])


def assert_equal_outputs(model: keras.Model, network, x: np.ndarray) -> None:
    import torch

    set_weights_across(model, network)
    with torch.no_grad():
        expected = network(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    assert expected.std() > 0.01
    # float32 sums in another order differ by about 1e-6 of the largest value
    np.testing.assert_allclose(predict(model, x), expected, rtol=0, atol=1e-4 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize(("cardinality", "bottleneck_width"), LADDER)
@pytest.mark.parametrize("size", [(32, 48), (33, 47)])
def test_outputs_equal_pytorchcv(cardinality, bottleneck_width, size):
    network = their_network((1, 2), cardinality, bottleneck_width, classes=7)
    model = ResNeXt(
        (1, 2), cardinality, bottleneck_width, input_shape=(*size, 3), classes=7, classifier_activation=None
    )
    assert_equal_outputs(model, network, images(2, *size, 3))


def test_resnext50_equals_pytorchcv():
    network = their_network(STAGES["ResNeXt50"], 32, 4, classes=1000)
    model = applications.ResNeXt50(input_shape=(64, 96, 3), classifier_activation=None)
    assert_equal_outputs(model, network, images(2, 64, 96, 3))


# --------------------------------------------------------------------------------------------- the paper's template


def counted(stages, cardinality: int, bottleneck_width: int, size: int = 224, classes: int = 1000) -> tuple[int, int]:
    """Parameters and multiply-adds, counted from the paper's table 1 alone; a batch norm has two a channel."""
    size = size // 2
    parameters, macs = 49 * 3 * 64 + 2 * 64, 49 * 3 * 64 * size**2
    size, channels = size // 2, 64
    for stage, blocks in enumerate(stages):
        width, filters = cardinality * bottleneck_width * 2**stage, 256 * 2**stage
        for block in range(blocks):
            before, size = size, size // 2 if stage and not block else size
            reduce, group, expand = channels * width, 9 * width * width // cardinality, width * filters
            shortcut = 0 if block else channels * filters
            parameters += reduce + group + expand + shortcut + 2 * (2 * width + filters) + (0 if block else 2 * filters)
            macs += reduce * before**2 + (group + expand + shortcut) * size**2
            channels = filters
    return parameters + channels * classes + classes, macs + channels * classes


@pytest.mark.parametrize("row", resnext.FAMILY.figures, ids=lambda row: row.network)
@shapes_only()
def test_rows_have_the_size_of_the_papers_template(row):
    model = getattr(applications, row.constructor)(**row.arguments)
    profile = kc.profile_model(model)
    arguments = {"stages": STAGES.get(row.constructor), "cardinality": 32, "bottleneck_width": 4} | row.arguments
    assert (profile.parameters, profile.macs) == counted(**arguments)
    assert f"({arguments['cardinality']}x{arguments['bottleneck_width']}d)" in row.network
    # table 1: 112, 56, 28, 14 and 7 pixels; the depth counts convolutions of the longest path and the classifier
    last = [f"conv{stage}_block{blocks}_out" for stage, blocks in enumerate(arguments["stages"], start=2)]
    assert [model.get_layer(name).output.shape[1:] for name in ("conv1_relu", *last)] == [
        (112, 112, 64), (56, 56, 256), (28, 28, 512), (14, 14, 1024), (7, 7, 2048)
    ]  # fmt: skip
    depth = 1 + sum(layer.name.endswith("_conv") and not layer.name.endswith("_0_conv") for layer in model.layers)
    assert f"-{depth} " in row.network


@pytest.mark.parametrize("name", STAGES)
def test_named_networks_are_rows_of_the_papers_table(name, monkeypatch):
    calls = calls_of(ResNeXt, monkeypatch)
    getattr(applications, name)(classes=10)
    (arguments,) = calls
    assert (arguments["stages"], arguments["classes"], arguments["name"]) == (STAGES[name], 10, name.lower())
    assert not {"cardinality", "bottleneck_width"} & set(arguments)


def test_the_3x3_convolution_has_the_groups_and_the_stride():
    model = ResNeXt((1, 2), cardinality=8, bottleneck_width=4, input_shape=(32, 32, 3))
    grouped = [layer for layer in model.layers if isinstance(layer, GroupConv2D)]
    assert [(layer.groups, layer.filters, layer.strides) for layer in grouped] == [
        (8, 32, (1, 1)),
        (8, 64, (2, 2)),
        (8, 64, (1, 1)),
    ]
    strided = {layer.name for layer in model.layers if getattr(layer, "strides", None) == (2, 2)}
    assert strided == {"conv1_conv", "pool1_pool", "conv3_block1_0_conv", "conv3_block1_2_conv"}
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert {(layer.momentum, layer.epsilon) for layer in norms} == {(0.9, 1e-5)}


def test_first_weights_are_drawn_as_the_authors_do():
    model = ResNeXt((1,), cardinality=4, bottleneck_width=16, input_shape=(32, 32, 3))
    for name, kernel_size, filters in (("conv1", 7, 64), ("conv2_block1_2", 3, 64), ("conv2_block1_3", 1, 256)):
        kernel = keras.ops.convert_to_numpy(model.get_layer(f"{name}_conv").kernel)
        # thousands of numbers: their standard deviation is within some per cent of what they are drawn with
        assert kernel.std() == pytest.approx(np.sqrt(2 / (kernel_size**2 * filters)), rel=0.05)
    kernel, bias = model.get_layer("predictions").get_weights()
    assert np.abs(kernel).max() == pytest.approx(1 / np.sqrt(256), rel=0.01)
    assert not bias.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"stages": ()},
            r"`stages` \(=\(\)\) must be a sequence of positive integers\. Give the blocks of each stage, .+\.",
        ),
        (
            {"stages": (3, 0)},
            r"`stages\[1\]` \(=0\) must be a positive integer\. Give the blocks of each stage, .+\.",
        ),
        (
            {"cardinality": 2.0},
            r"`cardinality` \(=2\.0\) must be a positive integer\. Use the paper's 32, or 1 for a ResNet\.",
        ),
        (
            {"bottleneck_width": -4},
            r"`bottleneck_width` \(=-4\) must be a positive integer\. Use 4 with cardinality 32\.",
        ),
    ],
)
def test_wrong_architectures(arguments, message):
    with pytest.raises(ValueError, match=rf"^{message}$"):
        ResNeXt(**{"stages": (1, 1)} | arguments)


# ------------------------------------------------------------------------------------------------ train and export


def test_a_training_step_lowers_the_loss():
    model = ResNeXt((1, 1), cardinality=4, bottleneck_width=2, input_shape=(16, 16, 3), classes=2)
    model.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy", jit_compile=False)
    x = images(16, 16, 16, 3)
    y = (x.mean((1, 2, 3)) > 0).astype("int32")
    history = model.fit(x, y, epochs=4, batch_size=16, verbose=0).history["loss"]
    assert history[-1] < history[0]


def test_exported_file_computes_the_same():
    model = ResNeXt((1, 1), cardinality=8, bottleneck_width=2, input_shape=(32, 32, 3), classes=5)
    x = images(1, 32, 32, 3)
    outputs = kc.run_tflite(kc.export_tflite(model), x)
    np.testing.assert_allclose(np.asarray(outputs), predict(model, x), atol=1e-5)
