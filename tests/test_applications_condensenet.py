"""CondenseNet beside the authors' own program and beside the paper's table."""

import keras
import numpy as np
import pytest
from golden import golden_model, learned_layers, load_golden
from networks import calls_of, shapes_only

from keras_condense import applications, condense
from keras_condense.applications import CondenseNet
from keras_condense.layers import CondenseDense, GroupConv2D, LearnedGroupConv2D

IMAGENET = ((4, 6, 8, 10, 8), (8, 16, 32, 64, 128))
TABLE = {  # stages, growth rates, groups, classes, size of the images, size of the last feature map
    "CondenseNet50": ((8, 8, 8), (8, 16, 32), 4, 10, 32, 8),
    "CondenseNet74": ((12, 12, 12), (8, 16, 32), 4, 10, 32, 8),
    "CondenseNet86": ((14, 14, 14), (8, 16, 32), 4, 10, 32, 8),
    "CondenseNet98": ((16, 16, 16), (8, 16, 32), 4, 10, 32, 8),
    "CondenseNet110": ((18, 18, 18), (8, 16, 32), 4, 10, 32, 8),
    "CondenseNet122": ((20, 20, 20), (8, 16, 32), 4, 10, 32, 8),
    "CondenseNet182": ((30, 30, 30), (12, 24, 48), 4, 10, 32, 8),
    "CondenseNetImageNet74G4": (*IMAGENET, 4, 1000, 224, 7),
    "CondenseNetImageNet74G8": (*IMAGENET, 8, 1000, 224, 7),
}


def predict(model: keras.Model, x: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(x, training=False))


@pytest.fixture(scope="module")
def golden():
    return load_golden()


@pytest.mark.parametrize("classifier_condense_factor", [1, 2])
def test_logits_equal_the_authors(golden, classifier_condense_factor):
    model = golden_model(golden, classifier_condense_factor=classifier_condense_factor)
    logits = predict(model, golden["input_nhwc"])
    # the project's bound; float32 sums in another order differ by some 1e-6
    np.testing.assert_allclose(logits, golden["logits_dense"], rtol=0, atol=1e-4)


def test_learned_layers_are_the_authors_in_their_order(golden):
    model = golden_model(golden)
    ours = [layer.name for layer in model.layers if isinstance(layer, LearnedGroupConv2D)]
    assert list(learned_layers(golden).values()) == ours
    for theirs, name in learned_layers(golden).items():
        filters, inputs = golden[f"stage1/mask/{theirs}"].shape
        assert tuple(model.get_layer(name).kernel.shape) == (1, 1, inputs, filters)


@pytest.mark.parametrize("name", TABLE)
def test_named_networks_are_rows_of_the_papers_table(name, monkeypatch):
    stages, growth_rates, groups, classes, size, _ = TABLE[name]
    calls = calls_of(CondenseNet, monkeypatch)
    getattr(applications, name)()
    (kwargs,) = calls
    assert (kwargs["stages"], kwargs["growth_rates"]) == (stages, growth_rates)
    assert (kwargs["groups"], kwargs["condense_factor"], kwargs["classes"]) == (groups, groups, classes)
    assert kwargs["stem_strides"] == {32: 1, 224: 2}[size]
    assert (kwargs["group_lasso"], kwargs["dropout_rate"], kwargs["classifier_condense_factor"]) == (0.0, 0.0, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["CondenseNet50", "CondenseNet182", "CondenseNetImageNet74G8"])
@shapes_only()
def test_named_networks_have_the_papers_layers(name):
    stages, growth_rates, groups, classes, size, last_size = TABLE[name]
    model = getattr(applications, name)()
    assert model.name == name.lower()
    assert model.input_shape == (None, size, size, 3)
    assert model.output_shape == (None, classes)
    learned = [layer for layer in model.layers if isinstance(layer, LearnedGroupConv2D)]
    grouped = [layer for layer in model.layers if isinstance(layer, GroupConv2D)]
    channels, expected = 2 * growth_rates[0], []
    for layers, growth_rate in zip(stages, growth_rates, strict=True):
        for _ in range(layers):
            expected.append((channels, 4 * growth_rate, growth_rate))
            channels += growth_rate
    found = [(a.kernel.shape[2], a.filters, b.filters) for a, b in zip(learned, grouped, strict=True)]
    assert found == expected
    assert {(layer.groups, layer.condense_factor, layer.group_lasso) for layer in learned} == {(groups, groups, 0.0)}
    assert {(layer.groups, layer.kernel_size, layer.padding) for layer in grouped} == {(groups, (3, 3), "same")}
    assert model.get_layer("relu").output.shape == (None, last_size, last_size, channels)
    classifier = model.get_layer("predictions")
    assert isinstance(classifier, CondenseDense)
    assert classifier.condense_factor == 2
    # convolutions, learned ones included, and the classifier: the number in the name is the depth
    if "ImageNet" not in name:
        assert 1 + 2 * sum(stages) + 1 == int(name.removeprefix("CondenseNet"))
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            assert (layer.epsilon, layer.momentum) == (1e-5, 0.9)


def test_named_networks_take_the_networks_options_by_keyword():
    model = applications.CondenseNet50(
        input_shape=(8, 8, 1),
        classes=3,
        groups=2,
        condense_factor=8,
        dropout_rate=0.1,
        group_lasso=1e-5,
        classifier_condense_factor=1,
    )
    learned = model.get_layer("block3_layer8_1_conv")
    assert (learned.groups, learned.condense_factor, learned.group_lasso) == (2, 8, 1e-5)
    assert model.get_layer("block3_layer8_2_conv").groups == 2
    assert model.get_layer("block1_layer1_1_drop").rate == 0.1
    assert type(model.get_layer("predictions")) is keras.layers.Dense


def test_dropout_stands_between_relu_and_the_learned_convolution():
    model = CondenseNet((1,), (4,), stem_strides=1, dropout_rate=0.1, input_shape=(8, 8, 3), classes=3)
    names = [layer.name for layer in model.layers[1:]]
    assert names == [
        "stem_conv",
        *(f"block1_layer1_{part}" for part in ("1_bn", "1_relu", "1_drop", "1_conv", "2_bn", "2_relu", "2_conv")),
        "block1_layer1_concat",
        *("bn", "relu", "avg_pool", "predictions"),
    ]


def test_the_strided_stem_pads_both_sides():
    """As PyTorch's padding=1 does: Keras' "same" would put an even image's padding at its end."""
    model = CondenseNet((1,), (4,), include_top=False, input_shape=(6, 6, 1))
    stem = keras.Model(model.input, model.get_layer("stem_conv").output)
    x = np.random.default_rng(0).normal(size=(1, 6, 6, 1)).astype("float32")
    kernel = keras.ops.convert_to_numpy(model.get_layer("stem_conv").kernel)
    padded = np.pad(x[0, :, :, 0], 1)
    expected = np.array(
        [
            [np.einsum("hw,hwf->f", padded[i : i + 3, j : j + 3], kernel[:, :, 0]) for j in range(0, 6, 2)]
            for i in range(0, 6, 2)
        ]
    )
    np.testing.assert_allclose(predict(stem, x)[0], expected, atol=1e-5)


def test_kernels_are_drawn_as_the_authors_draw_them():
    keras.utils.set_random_seed(0)
    model = CondenseNet((1, 1), (64, 128), stem_strides=1, classes=100)
    for name in ("stem_conv", "block2_layer1_1_conv", "block2_layer1_2_conv"):
        kernel = keras.ops.convert_to_numpy(model.get_layer(name).kernel)
        height, width, _, filters = kernel.shape
        std = np.sqrt(2 / (height * width * filters))
        # the sample's standard deviation of n numbers deviates by 1 / sqrt(2n): five of these
        assert abs(kernel.std() / std - 1) < 5 / np.sqrt(2 * kernel.size), name
        assert abs(kernel).max() > 2.5 * std, "a truncated normal would end at two standard deviations"
    classifier = model.get_layer("predictions")
    kernel, limit = keras.ops.convert_to_numpy(classifier.kernel), 1 / np.sqrt(classifier.kernel.shape[0])
    assert 0.99 * limit < abs(kernel).max() <= limit
    assert abs(kernel.std() / (limit / np.sqrt(3)) - 1) < 0.02
    assert not keras.ops.convert_to_numpy(classifier.bias).any()
    first, second = (keras.ops.convert_to_numpy(CondenseNet((1,), (4,)).get_weights()[0]) for _ in range(2))
    assert not np.array_equal(first, second), "every network is drawn anew"


# ----------------------------------------------------------------------------------------------- beside pytorchcv's


def pytorchcv_twin(model: keras.Model, stages, growth_rates, groups: int):
    """pytorchcv's condensed network with the weights of ours. It picks channels before the batch norm, ours after."""
    models = pytest.importorskip("pytorchcv.models.condensenet")
    import torch

    channels, width = [], 2 * growth_rates[0]
    for layers, growth_rate in zip(stages, growth_rates, strict=True):
        channels.append([width + growth_rate * (layer + 1) for layer in range(layers)])
        width = channels[-1][-1]
    network = models.CondenseNet(channels, 2 * growth_rates[0], groups, num_classes=3)
    network.features.final_pool = torch.nn.AdaptiveAvgPool2d(1)  # for images of any size

    def set_values(targets, values) -> None:
        for target, value in zip(targets, values, strict=True):
            target.data.copy_(torch.from_numpy(value))

    def set_norm(norm, name: str, index=slice(None)) -> None:
        values = [value[index] for value in model.get_layer(name).get_weights()]
        set_values([norm.weight, norm.bias, norm.running_mean, norm.running_var], values)

    def set_convolution(convolution, name: str) -> None:
        (kernel,) = model.get_layer(name).get_weights()
        set_values([convolution.weight], [kernel.transpose(3, 2, 0, 1)])

    set_convolution(network.features.init_block.conv, "stem_conv")
    for block, units in enumerate(stages, start=1):
        for layer in range(1, units + 1):
            unit, name = (
                getattr(getattr(network.features, f"stage{block}"), f"unit{layer}"),
                f"block{block}_layer{layer}",
            )
            (index,) = model.get_layer(f"{name}_1_conv_index").get_weights()
            set_values([unit.conv1.index], [index])
            set_norm(unit.conv1.bn, f"{name}_1_bn", index)
            set_convolution(unit.conv1.conv, f"{name}_1_conv")
            set_norm(unit.conv2.bn, f"{name}_2_bn")
            set_convolution(unit.conv2.conv, f"{name}_2_conv")
    set_norm(network.features.post_activ.bn, "bn")
    set_values([network.output.index], model.get_layer("predictions_index").get_weights())
    kernel, bias = model.get_layer("predictions").get_weights()
    set_values([network.output.linear.weight, network.output.linear.bias], [kernel.T, bias])
    return network.eval()


@pytest.mark.parametrize("groups", [2, 4])
@pytest.mark.parametrize("size", [(32, 32), (17, 20)])
def test_condensed_networks_equal_pytorchcv(groups, size):
    stages, growth_rates = (2, 1, 2), (4, 8, 16)
    model = CondenseNet(
        stages, growth_rates, groups=groups, condense_factor=groups, classifier_condense_factor=2,
        input_shape=(*size, 3), classes=3, classifier_activation=None,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.name in ("beta", "moving_mean"):
            weight.assign(rng.uniform(-0.3, 0.3, weight.shape))
    condensed = condense(model, finish=True)
    network = pytorchcv_twin(condensed, stages, growth_rates, groups)
    import torch

    x = rng.normal(size=(2, *size, 3)).astype("float32")
    with torch.no_grad():
        expected = network(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    assert expected.std() > 0.01
    # float32 sums in another order differ by about 1e-6 of the largest value
    np.testing.assert_allclose(predict(condensed, x), expected, rtol=0, atol=1e-4 * max(1, np.abs(expected).max()))
