"""DenseNet beside keras.applications, and beside the paper's own numbers."""

import functools
import inspect
import re

import keras
import numpy as np
import pytest
from networks import calls_of, shapes_only

from keras_condense import applications
from keras_condense.applications import DenseNet, DenseNet264, densenet_stages
from keras_condense.applications.pretrained import find_weights

pytestmark = pytest.mark.slow  # all of it, together


STAGES = {121: (6, 12, 24, 16), 169: (6, 12, 32, 32), 201: (6, 12, 48, 32)}


def pair(depth: int):
    return getattr(applications, f"DenseNet{depth}"), getattr(keras.applications, f"DenseNet{depth}")


def built(constructor, **arguments) -> keras.Model:
    keras.utils.clear_session()  # layers without a name are counted anew
    return constructor(**arguments)


def randomize(model: keras.Model) -> None:
    rng = np.random.default_rng(0)
    weights = []
    for weight in model.weights:
        if weight.name == "kernel":
            fan_in = np.prod(weight.shape[:-1])
            weights.append(rng.normal(0, np.sqrt(2 / fan_in), weight.shape))
        elif weight.name in ("gamma", "moving_variance"):
            weights.append(rng.uniform(0.5, 1.5, weight.shape))
        else:
            weights.append(rng.normal(0, 0.2, weight.shape))
    model.set_weights(weights)


def predict(model: keras.Model, x: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(x, training=False))


@pytest.mark.parametrize("depth", STAGES)
def test_signatures_equal_keras(depth):
    ours, theirs = pair(depth)
    assert inspect.signature(ours) == inspect.signature(theirs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("depth", "arguments"),
    [
        (121, {"input_shape": (32, 33, 3), "classifier_activation": None}),
        (169, {"input_shape": (33, 32, 3), "classes": 7}),
        (201, {"include_top": False, "pooling": "max"}),
    ],
)
def test_networks_equal_keras(depth, arguments):
    ours, theirs = (built(constructor, weights=None, **arguments) for constructor in pair(depth))
    assert [layer.name for layer in ours.layers] == [layer.name for layer in theirs.layers]
    assert [(w.path, tuple(w.shape)) for w in ours.weights] == [(w.path, tuple(w.shape)) for w in theirs.weights]
    for one, other in zip(ours.layers, theirs.layers, strict=True):
        # the same settings too: momentum, epsilon, padding, initializers; ours only names the last axis -1, not 3
        settings = [{k: v for k, v in layer.get_config().items() if k != "axis"} for layer in (one, other)]
        assert settings[0] == settings[1]
    randomize(theirs)
    ours.set_weights(theirs.get_weights())
    x = np.random.default_rng(1).normal(size=(2, *arguments.get("input_shape", (32, 32, 3)))).astype("float32")
    expected = predict(theirs, x)
    # float32 sums in another order differ by about 1e-6 of the largest value
    np.testing.assert_allclose(predict(ours, x), expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))


def test_published_files_are_those_that_keras_names():
    source = inspect.getsource(inspect.getmodule(keras.applications.DenseNet121))
    for stages in STAGES.values():
        published = find_weights("DenseNet", "imagenet", {"stages": stages}).keras_files
        assert f'"{published.folder}/"' in source
        for file, md5 in (published.top, published.no_top):
            assert re.search(rf'"{re.escape(file)}",\s+\w+,\s+cache_subdir="models",\s+file_hash="{md5}"', source)


@pytest.mark.slow
@pytest.mark.parametrize("include_top", [True, False])
def test_imagenet_weights_come_from_keras_public_file(include_top, monkeypatch, tmp_path):
    """The public file can't be fetched in a test: one of the same format stands in for it."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "cache"))
    theirs = built(keras.applications.DenseNet121, weights=None, include_top=include_top)
    theirs.save(tmp_path / "keras.h5")
    fetched = []

    def get_file(name, origin, **_):
        fetched.append(name)
        return str(tmp_path / "keras.h5")

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    # the caller's own layers before the network, here with weights of their own, are no part of the file
    image = keras.layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[4.0, 4.0, 4.0])(keras.Input((224, 224, 3)))
    ours = applications.DenseNet121(include_top=include_top, input_tensor=image)
    assert fetched == [f"densenet121_weights_tf_dim_ordering_tf_kernels{'' if include_top else '_notop'}.h5"]
    expected = {weight.path: weight for weight in theirs.weights}
    loaded = [weight for weight in ours.weights if weight.path in expected]
    assert len(loaded) == len(expected)
    for weight in loaded:
        np.testing.assert_array_equal(weight.numpy(), expected[weight.path].numpy())


def test_the_general_constructor_knows_the_published_networks(monkeypatch):
    with pytest.raises(ValueError, match="no trained weights of this network are published"):
        DenseNet264(weights="imagenet")
    for change in ({"growth_rate": 24}, {"bottleneck": False}, {"compression": 0.6}, {"stem": "cifar"}):
        with pytest.raises(ValueError, match="no trained weights of this network are published"):
            DenseNet(STAGES[121], weights="imagenet", **change)


# ---------------------------------------------------------------------------------- the paper's numbers of parameters


def parameters(stages, growth_rate, stem_filters, stem_size, bottleneck, compression, classes, stem_bn) -> int:
    """Trainable parameters, counted from the paper's description alone; a batch norm has two a channel."""
    total, channels = 3 * stem_size**2 * stem_filters + 2 * stem_filters * stem_bn, stem_filters
    for block, layers in enumerate(stages):
        for _ in range(layers):
            middle = 4 * growth_rate if bottleneck else channels
            if bottleneck:
                total += 2 * channels + channels * middle
            total += 2 * middle + 9 * middle * growth_rate
            channels += growth_rate
        if block < len(stages) - 1:
            kept = int(channels * compression)
            total += 2 * channels + channels * kept
            channels = kept
    return total + 2 * channels + channels * classes + classes


def trainable(model: keras.Model) -> int:
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


CIFAR = {  # table 2 of the paper: depth, growth rate, bottleneck, compression, parameters; exactly, counted here
    "DenseNet40K12": (40, 12, False, 1.0, "1.0M", 1_019_722),
    "DenseNet100K12": (100, 12, False, 1.0, "7.0M", 6_979_642),
    "DenseNet100K24": (100, 24, False, 1.0, "27.2M", 27_249_082),
    "DenseNetBC100K12": (100, 12, True, 0.5, "0.8M", 769_162),
    "DenseNetBC250K24": (250, 24, True, 0.5, "15.3M", 15_324_406),
    "DenseNetBC190K40": (190, 40, True, 0.5, "25.6M", 25_624_430),
}


@pytest.mark.parametrize("name", CIFAR)
def test_cifar_networks_are_rows_of_the_papers_table(name, monkeypatch):
    depth, growth_rate, bottleneck, compression, published, count = CIFAR[name]
    stages, stem_filters = densenet_stages(depth, bottleneck=bottleneck), 2 * growth_rate if bottleneck else 16
    assert parameters(stages, growth_rate, stem_filters, 3, bottleneck, compression, 10, False) == count
    assert f"{count / 1e6:.1f}M" == published
    calls = calls_of(DenseNet, monkeypatch)
    getattr(applications, name)()
    getattr(applications, name)(input_shape=(8, 8, 1), classes=3, dropout_rate=0.2, memory_efficient=True)
    contract = {
        "include_top": True, "weights": None, "input_tensor": None, "input_shape": None, "pooling": None,
        "classes": 10, "classifier_activation": "softmax", "name": name.lower(),
    }  # fmt: skip
    row = contract | {"stages": stages, "growth_rate": growth_rate, "bottleneck": bottleneck}
    row |= {"compression": compression, "stem": "cifar"}
    row |= {"dropout_rate": 0.0, "memory_efficient": False}
    other = {"input_shape": (8, 8, 1), "classes": 3, "dropout_rate": 0.2, "memory_efficient": True}
    assert calls == [row, row | other]


@pytest.mark.parametrize("name", ["DenseNet40K12", "DenseNetBC100K12"])
@shapes_only()
def test_cifar_networks_have_the_papers_size(name):
    model = getattr(applications, name)()
    assert trainable(model) == CIFAR[name][-1]
    assert model.input_shape == (None, 32, 32, 3)
    assert model.output_shape == (None, 10)
    assert model.get_layer("relu").output.shape == (None, 8, 8, model.get_layer("predictions").kernel.shape[0])


def test_a_depth_that_is_not_shared_out_evenly_is_refused():
    with pytest.raises(ValueError, match=r"`depth` \(=42\) must be 4 plus a multiple of 3 .* Use 40 or 43\."):
        densenet_stages(42, bottleneck=False)


# ----------------------------------------------------------------------------------------------- beside pytorchcv's


def their_cifar_network(stages, growth_rate: int, stem_filters: int, bottleneck: bool):
    """pytorchcv's network in evaluation mode, its batch norms random; it halves the channels in every transition."""
    models = pytest.importorskip("pytorchcv.models.densenet_cifar")
    import torch

    torch.manual_seed(0)
    channels, width = [], stem_filters
    for layers in stages:
        channels.append([width + growth_rate * (layer + 1) for layer in range(layers)])
        width = channels[-1][-1] // 2
    network = models.CIFARDenseNet(channels, stem_filters, bottleneck, num_classes=5)
    network.features.final_pool = torch.nn.AdaptiveAvgPool2d(1)  # for images of any size
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                for values in (module.weight, module.running_var):
                    values.uniform_(0.5, 1.5)
                for values in (module.bias, module.running_mean):
                    values.uniform_(-0.3, 0.3)
    return network.eval()


def set_weights_across(model: keras.Model, network) -> None:
    """Both list their layers in the order in which they compute."""
    import torch

    for kind, torch_kind in (
        (keras.layers.Conv2D, torch.nn.Conv2d),
        (keras.layers.BatchNormalization, torch.nn.BatchNorm2d),
    ):
        ours = [layer for layer in model.layers if isinstance(layer, kind)]
        theirs = [module for module in network.modules() if isinstance(module, torch_kind)]
        for layer, module in zip(ours, theirs, strict=True):
            if torch_kind is torch.nn.Conv2d:
                values = [module.weight.permute(2, 3, 1, 0)]
            else:
                values = [module.weight, module.bias, module.running_mean, module.running_var]
            layer.set_weights([value.detach().numpy() for value in values])
    values = [network.output.weight.T, network.output.bias]
    model.get_layer("predictions").set_weights([value.detach().numpy() for value in values])


@pytest.mark.parametrize(("bottleneck", "stem_filters"), [(False, 16), (True, 12)], ids=["plain", "BC"])
@pytest.mark.parametrize("size", [(32, 32), (17, 20)])
def test_cifar_networks_equal_pytorchcv(bottleneck, stem_filters, size):
    stages, growth_rate = (3, 2, 2), 6
    network = their_cifar_network(stages, growth_rate, stem_filters, bottleneck)
    import torch

    model = DenseNet(
        stages, growth_rate, bottleneck, compression=0.5, stem="cifar", input_shape=(*size, 3), classes=5,
        classifier_activation=None,
    )  # fmt: skip
    set_weights_across(model, network)
    x = np.random.default_rng(1).normal(size=(2, *size, 3)).astype("float32")
    with torch.no_grad():
        expected = network(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    assert expected.std() > 0.01
    # epsilon is 1.001e-5 here and 1e-5 there, and float32 sums in another order differ by about 1e-6
    np.testing.assert_allclose(predict(model, x), expected, rtol=0, atol=1e-4 * max(1, np.abs(expected).max()))


@pytest.mark.slow
@shapes_only()
def test_densenet264_follows_the_papers_table():
    model = DenseNet264(input_shape=(32, 32, 3))
    assert trainable(model) == parameters((6, 12, 64, 48), 32, 64, 7, True, 0.5, 1000, True) == 33_337_704
    convolutions = sum(isinstance(layer, keras.layers.Conv2D) for layer in model.layers)
    # the paper names it 264, though its blocks of 6, 12, 64 and 48 layers make one more; the other three agree
    assert convolutions + 1 == 265
    assert model.name == "densenet264"


def test_dropout_follows_every_convolution_but_the_stem():
    model = DenseNet((2, 1), 4, dropout_rate=0.2, stem="cifar", input_shape=(8, 8, 3), classes=3)
    convolutions = [layer.name for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    dropped = [layer.name for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert dropped == [f"{name}_drop" for name in convolutions if name != "conv1_conv"]
    x = np.ones((2, 8, 8, 3), "float32")
    keras.utils.set_random_seed(0)
    assert not np.allclose(keras.ops.convert_to_numpy(model(x, training=True)), predict(model, x))


def test_a_training_step_lowers_the_loss():
    keras.utils.set_random_seed(0)
    build = functools.partial(DenseNet, (1, 1), 4, stem="cifar", input_shape=(8, 8, 3), classes=2)
    model = build(classifier_activation=None)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, jit_compile=False)
    x = np.random.default_rng(0).normal(size=(16, 8, 8, 3)).astype("float32")
    y = (x.mean((1, 2, 3)) > 0).astype("int32")
    history = model.fit(x, y, epochs=4, batch_size=16, verbose=0).history["loss"]
    assert history[-1] < history[0]
