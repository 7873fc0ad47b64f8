"""SqueezeNet beside pytorchcv's, and beside the paper's table."""

import math

import keras
import numpy as np
import pytest
from networks import shapes_only

import keras_condense as kc
from keras_condense.applications import SqueezeNet, squeezenet

FIRES = range(2, 10)


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def predict(model: keras.Model, x: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(x, training=False))


def outputs(model: keras.Model, x: np.ndarray, *layers: str) -> list[np.ndarray]:
    tapped = keras.Model(model.input, [model.get_layer(layer).output for layer in layers])
    return [keras.ops.convert_to_numpy(y) for y in tapped(x, training=False)]


# ------------------------------------------------------------------------------------------- beside pytorchcv's


def their_network(version: str, bypass: str | None, classes: int):
    """pytorchcv's network in evaluation mode, its last pooling for images of any size."""
    models = pytest.importorskip("pytorchcv.models.squeezenet")
    import torch

    torch.manual_seed(0)
    network = models.get_squeezenet(version=version, residual=bypass == "simple", num_classes=classes)
    network.output.final_pool = torch.nn.AdaptiveAvgPool2d(1)
    with torch.no_grad():
        for name, values in network.named_parameters():
            if name.endswith("bias"):
                values.uniform_(-0.1, 0.1)
    return network.eval()


def their_convolutions(network) -> dict[str, object]:
    """pytorchcv's convolutions by our names."""
    stages = [module for name, module in network.features.named_children() if name.startswith("stage")]
    units = [unit for stage in stages for name, unit in stage.named_children() if name.startswith("unit")]
    convolutions = {"conv1": network.features.init_block.conv, "conv10": network.output.final_conv}
    for fire, unit in zip(FIRES, units, strict=True):
        for part in ("squeeze", "expand1x1", "expand3x3"):
            name = f"fire{fire}_{part}" + ("1x1" if part == "squeeze" else "")
            convolutions[name] = getattr(unit, part).conv
    return convolutions


@pytest.mark.parametrize(
    ("version", "bypass", "size"),
    [("1.0", None, (67, 75)), ("1.0", None, (64, 69)), ("1.0", "simple", (66, 64)), ("1.1", None, (66, 65))],
)
def test_networks_equal_pytorchcv(version, bypass, size):
    network = their_network(version, bypass, 7)
    import torch

    model = SqueezeNet(version, bypass, input_shape=(*size, 3), classes=7, classifier_activation=None)
    convolutions = their_convolutions(network)
    assert {layer.name for layer in model.layers if layer.weights} == set(convolutions)
    for name, convolution in convolutions.items():
        kernel = convolution.weight.detach().numpy().transpose(2, 3, 1, 0)
        model.get_layer(name).set_weights([kernel, convolution.bias.detach().numpy()])
    x = images(2, *size, 3)
    with torch.no_grad():
        expected = network(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    assert expected.std() > 0.01  # the last ReLU leaves something to compare
    np.testing.assert_allclose(predict(model, x), expected, rtol=0, atol=1e-4 * max(1, np.abs(expected).max()))


# ------------------------------------------------------------------------------------------------ beside the paper


@shapes_only()
def test_the_sizes_of_the_papers_table():
    model = SqueezeNet()
    sizes = {"conv1": (111, 96), "pool1": (55, 96), "fire2_concat": (55, 128), "fire4_concat": (55, 256)}
    sizes |= {"pool4": (27, 256), "fire6_concat": (27, 384), "fire8_concat": (27, 512), "pool8": (13, 512)}
    for name, (side, channels) in sizes.items():
        assert model.get_layer(name).output.shape == (None, side, side, channels)
    assert model.get_layer("conv10").output.shape == (None, 13, 13, 1000)
    # at the size of the table nothing is left over to pad
    assert not [layer for layer in model.layers if isinstance(layer, keras.layers.ZeroPadding2D)]


# of the paper's table 1: squeeze 1x1, expand 1x1 and expand 3x3 filters, parameters before pruning
TABLE = {
    2: (16, 64, 64, 11_920), 3: (16, 64, 64, 12_432), 4: (32, 128, 128, 45_344), 5: (32, 128, 128, 49_440),
    6: (48, 192, 192, 104_880), 7: (48, 192, 192, 111_024), 8: (64, 256, 256, 188_992), 9: (64, 256, 256, 197_184),
}  # fmt: skip


@shapes_only()
def test_the_parameters_of_the_papers_table():
    model = SqueezeNet()
    assert model.get_layer("conv1").count_params() == 14_208
    assert model.get_layer("conv10").count_params() == 513_000
    for fire, (*filters, parameters) in TABLE.items():
        layers = [model.get_layer(f"fire{fire}_{part}") for part in ("squeeze1x1", "expand1x1", "expand3x3")]
        assert [layer.filters for layer in layers] == filters
        assert sum(layer.count_params() for layer in layers) == parameters
    assert model.count_params() == 1_248_424
    assert SqueezeNet(bypass="simple").count_params() == 1_248_424
    # 1x1 convolutions with bias to 128, 256, 384 and 512 channels
    bypasses = 97 * 128 + 129 * 256 + 257 * 384 + 385 * 512
    assert SqueezeNet(bypass="complex").count_params() == 1_248_424 + bypasses


@shapes_only()
def test_the_authors_operations():
    """They count 1.72G an image, two a multiply-add, with a last convolution that pads its 13x13 map to 15x15."""
    padding = 512 * 1000 * (15**2 - 13**2)
    assert f"{2 * (kc.profile_model(SqueezeNet()).macs + padding) / 1e9:.2f}" == "1.72"


def test_simple_bypasses_stand_around_modules_that_keep_the_channels():
    added = [layer.name for layer in SqueezeNet(bypass="simple").layers if isinstance(layer, keras.layers.Add)]
    assert added == ["fire3_add", "fire5_add", "fire7_add", "fire9_add"]


def test_complex_bypasses_stand_around_the_others_too():
    model = SqueezeNet(bypass="complex", input_shape=(35, 35, 3), classes=3)
    added = [layer.name for layer in model.layers if isinstance(layer, keras.layers.Add)]
    assert added == [f"fire{fire}_add" for fire in FIRES]
    names = [layer.name for layer in model.layers if layer.name.endswith("_bypass")]
    assert names == ["fire2_bypass", "fire4_bypass", "fire6_bypass", "fire8_bypass"]
    x, new, added = outputs(model, images(2, 35, 35, 3), "pool1", "fire2_concat", "fire2_add")
    kernel, bias = model.get_layer("fire2_bypass").get_weights()
    np.testing.assert_allclose(added, new + np.einsum("bhwi,io->bhwo", x, kernel[0, 0]) + bias, rtol=1e-4, atol=1e-5)
    x, new, added = outputs(model, images(2, 35, 35, 3), "fire2_add", "fire3_concat", "fire3_add")
    np.testing.assert_allclose(added, x + new, rtol=1e-6)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_poolings_round_up_as_in_caffe(version):
    """With height and width unknown as well as known."""
    open_sized = SqueezeNet(version, include_top=False)
    first = open_sized.get_layer("conv1").kernel_size[0]
    for height, width in ((24, 29), (31, 34)):
        model = SqueezeNet(version, include_top=False, input_shape=(height, width, 3))
        sizes = []
        for size in (height, width):
            size = (size - first) // 2 + 1
            for _ in range(3):
                size = math.ceil((size - 3) / 2) + 1
            sizes.append(size)
        assert model.output_shape == (None, *sizes, 512)
        model.set_weights(open_sized.get_weights())
        x = images(1, height, width, 3)
        np.testing.assert_allclose(predict(model, x), predict(open_sized, x), atol=1e-5)


def test_kernels_are_drawn_as_the_authors_draw_them():
    model = SqueezeNet()
    for name in ("conv1", "fire5_expand3x3", "fire9_squeeze1x1"):
        kernel, bias = model.get_layer(name).get_weights()
        limit = np.sqrt(3 / np.prod(kernel.shape[:3]))
        assert 0.99 * limit < np.abs(kernel).max() <= limit
        np.testing.assert_allclose(kernel.std(), limit / np.sqrt(3), rtol=0.05)
        assert not bias.any()
    np.testing.assert_allclose(model.get_layer("conv10").kernel.numpy().std(), 0.01, rtol=0.02)


def test_half_of_the_last_features_are_dropped_in_training():
    model = SqueezeNet(input_shape=(35, 35, 3), classes=3)
    assert [layer.name for layer in model.layers if isinstance(layer, keras.layers.Dropout)] == ["drop9"]
    assert model.get_layer("drop9").rate == 0.5
    names = [layer.name for layer in model.layers]
    assert names[names.index("fire9_concat") :] == ["fire9_concat", "drop9", "conv10", "avg_pool", "predictions"]
    assert "drop9" not in [layer.name for layer in SqueezeNet(include_top=False).layers]


# ------------------------------------------------------------------------------------------------------- in use


def test_a_training_step_lowers_the_loss():
    model = SqueezeNet("1.1", input_shape=(17, 17, 3), classes=2, classifier_activation=None)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.02), loss, jit_compile=False)
    x = images(16, 17, 17, 3)
    y = (x.mean((1, 2, 3)) > 0).astype("int32")
    before = model.evaluate(x, y, verbose=0)
    model.fit(x, y, epochs=4, batch_size=16, verbose=0)
    assert model.evaluate(x, y, verbose=0) < before


@pytest.mark.parametrize(("arguments", "size"), [({"bypass": "complex"}, (43, 40)), ({"version": "1.1"}, (32, 35))])
def test_exported_networks_compute_the_same(arguments, size):
    pytest.importorskip("tensorflow")
    model = SqueezeNet(**arguments, input_shape=(*size, 3), classes=5, classifier_activation=None)
    x = images(2, *size, 3)
    expected = predict(model, x)
    # float32 sums in another order; 1e-4 is the promise
    actual = kc.run_tflite(kc.export_tflite(model), x)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


# ------------------------------------------------------------------------------------------------------- errors

WRONG = {
    "version": ({"version": "2.0"}, r"`version` \(='2.0'\) must be one of '1.0', '1.1'. Use "),
    "version a number": ({"version": 1.0}, r"`version` \(=1.0\) must be one of '1.0', '1.1'. Use "),
    "bypass": ({"bypass": "residual"}, r"`bypass` \(='residual'\) must be one of None, 'simple', 'complex'. Leave "),
    "bypass a flag": ({"bypass": True}, r"`bypass` \(=True\) must be one of None, 'simple', 'complex'. Leave "),
    "bypass of 1.1": (
        {"version": "1.1", "bypass": "complex"},
        r"`bypass` \(='complex'\) must be None with `version` \(='1.1'\). Use version='1.0', which has bypasses.",
    ),
    "image": ({"input_shape": (20, 64, 3)}, r"`input_shape` \(=\(20, 64, 3\)\) must be at least 21x21, .+ Enlarge "),
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        SqueezeNet(**arguments)


def test_figures_build_every_version_once():
    assert [row.arguments for row in squeezenet.FAMILY.figures] == [
        {}, {"bypass": "simple"}, {"bypass": "complex"}, {"version": "1.1"}
    ]  # fmt: skip
