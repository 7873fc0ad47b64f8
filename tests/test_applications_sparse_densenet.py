"""Sparse-DenseNet beside DenseNet, hand counts and its own condensed and exported forms."""

import inspect

import keras
import numpy as np
import pytest
from networks import THREE_PARTS, calls_of, shapes_only

import keras_condense as kc
from keras_condense.applications import DenseNet
from keras_condense.applications.sparse_densenet import SparseDenseNet, SparseDenseNet40
from keras_condense.callbacks import CondenseSchedule, learned_layers
from keras_condense.layers import ChannelIndex, GroupConv2D, LearnedGroupConv2D


def small(**arguments) -> keras.Model:
    return SparseDenseNet(**({"stages": (2, 1), "growth_rate": 4, "input_shape": (8, 8, 3), "classes": 3} | arguments))


def randomized(model: keras.Model) -> keras.Model:
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.name != "mask":
            weight.assign(rng.normal(0, 0.3, weight.shape))
    return model


def finished(model: keras.Model) -> keras.Model:
    for layer in learned_layers(model):
        layer.condense_to(layer.final_stage)
    return model


def predict(model: keras.Model, x: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(x, training=False))


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape).astype("float32")


# ------------------------------------------------------------------------------------------------------ the network


@pytest.mark.parametrize("dropout_rate", [0.0, 0.2])
def test_before_any_drop_it_is_the_plain_densenet(dropout_rate):
    model = randomized(small(dropout_rate=dropout_rate))
    plain = DenseNet(
        (2, 1), 4, bottleneck=False, compression=1.0, dropout_rate=dropout_rate, stem="cifar", input_shape=(8, 8, 3),
        classes=3,
    )  # fmt: skip
    assert [layer.name for layer in model.layers[1:]] == [layer.name for layer in plain.layers[1:]]
    weights = [weight for weight in model.weights if weight.name != "mask"]
    assert [tuple(w.shape) for w in weights] == [tuple(w.shape) for w in plain.weights]
    for weight, own in zip(plain.weights, weights, strict=True):
        weight.assign(own)
    x = images(2, 8, 8, 3)
    # the masks multiply by one; the convolutions are the same
    np.testing.assert_allclose(predict(model, x), predict(plain, x), atol=1e-6)


def test_every_convolution_but_the_stem_learns_its_inputs():
    model = small(pruned_fraction=0.5, drops_at=(0.1, 0.2, 0.3))
    learned = learned_layers(model)
    assert [(layer.name, tuple(layer.kernel.shape)) for layer in learned] == [
        ("conv2_block1_2_conv", (3, 3, 16, 4)),
        ("conv2_block2_2_conv", (3, 3, 20, 4)),
        ("pool2_conv", (1, 1, 24, 24)),
        ("conv3_block1_2_conv", (3, 3, 24, 4)),
    ]
    for layer in learned:
        assert type(layer) is LearnedGroupConv2D
        assert (layer.groups, layer.pruned_fraction, layer.drops_at) == (1, 0.5, (0.1, 0.2, 0.3))
    assert type(model.get_layer("conv1_conv")) is keras.layers.Conv2D
    for layer in learned_layers(small()):
        assert (layer.pruned_fraction, layer.drops_at) == (0.3, (1 / 6, 1 / 3))


def test_a_drop_takes_the_channels_of_the_least_weights():
    layer = learned_layers(randomized(small()))[0]
    kernel = keras.ops.convert_to_numpy(layer.kernel).astype("float64")
    order = np.argsort([np.abs(kernel[:, :, channel]).sum() for channel in range(16)])
    for stage, dropped in ((1, 3), (2, 5)):  # int(16 * 0.85) = 13 and int(16 * 0.7) = 11 are left
        layer.condense_to(stage)
        mask = keras.ops.convert_to_numpy(layer.mask)
        assert np.flatnonzero(mask[0] == 0).tolist() == sorted(order[:dropped].tolist())


def test_the_named_network_is_the_papers(monkeypatch):
    calls = calls_of(SparseDenseNet, monkeypatch)
    SparseDenseNet40()
    (arguments,) = calls
    assert arguments == {
        "stages": (12, 12, 12),
        "include_top": True, "weights": None, "input_tensor": None, "input_shape": None, "pooling": None,
        "classes": 10, "classifier_activation": "softmax", "name": "sparsedensenet40",
    }  # fmt: skip
    defaults = inspect.signature(SparseDenseNet).parameters
    assert defaults["growth_rate"].default == 12
    assert defaults["pruned_fraction"].default == 0.3
    assert [round(300 * moment) for moment in defaults["drops_at"].default] == [50, 100]


def counted(left) -> tuple[int, int]:
    """Parameters and multiply-adds of DenseNet-40 whose convolutions, but the stem, read `left(inputs)`."""
    channels, size = 16, 32
    parameters, macs = 27 * channels, 27 * channels * size**2
    for block in range(3):
        for _ in range(12):
            weights = 9 * left(channels) * 12
            parameters += weights + 2 * channels  # a batch norm reads all that was concatenated
            macs += weights * size**2
            channels += 12
        if block < 2:
            weights = left(channels) * channels
            parameters += weights + 2 * channels
            macs += weights * size**2
            size //= 2
    return parameters + 2 * channels + 10 * channels + 10, macs + 10 * channels


@pytest.mark.slow
@shapes_only()
def test_sparse_densenet_40_has_the_published_size():
    model = SparseDenseNet40()
    profile = kc.profile_model(model)
    assert (profile.parameters, profile.macs) == counted(lambda inputs: inputs) == (1_019_722, 264_812_928)
    # DenseNet-40: 1.0M and 530M, a multiplication and an addition counted apart
    assert (f"{profile.parameters / 1e6:.1f}", f"{2 * profile.macs / 1e6:.0f}") == ("1.0", "530")
    profile = kc.profile_model(finished(model))
    assert (profile.parameters, profile.macs) == counted(lambda inputs: 7 * inputs // 10)
    assert (profile.parameters, profile.macs) == (718_934, 184_753_792)
    assert (f"{profile.parameters / 1e6:.1f}", f"{2 * profile.macs / 1e6:.0f}") == ("0.7", "370")


# ------------------------------------------------------------------------------------- trained, condensed, exported


def test_it_is_pruned_while_it_trains_condensed_and_exported(tmp_path):
    pytest.importorskip("ai_edge_litert")
    model = small(classifier_activation=None)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True), loss, jit_compile=False)
    x, y = images(12, 8, 8, 3), np.arange(12) % 3
    history = model.fit(x, y, epochs=6, batch_size=12, verbose=0, callbacks=[CondenseSchedule()]).history
    assert history["condense_stage"] == [0, 1, 2, 2, 2, 2]
    assert history["loss"][-1] < history["loss"][0]
    # 16, 20, 24 and 24 inputs, rounded down at 85 % and at 70 %
    assert history["connections_left"] == pytest.approx([1, 70 / 84, *4 * [57 / 84]])

    condensed = kc.condense(model)
    kinds = [type(layer) for layer in condensed.layers]
    assert (kinds.count(ChannelIndex), kinds.count(GroupConv2D)) == (4, 4)
    assert condensed.get_layer("pool2_conv").kernel.shape == (1, 1, 16, 24)
    # float32 sums of the same products, without the zeros
    np.testing.assert_allclose(predict(condensed, x), predict(model, x), atol=1e-5)

    content = kc.export_tflite(condensed, tmp_path / "small.tflite")
    np.testing.assert_allclose(kc.run_tflite(content, x[:1]), predict(condensed, x[:1]), atol=1e-5)


# ----------------------------------------------------------------------------------------------------- how it fails

WRONG = {
    "no stages": ({"stages": ()}, r"`stages` \(=\(\)\) must be a sequence of positive integers"),
    "a stage of none": ({"stages": (2, 0)}, r"`stages\[1\]` \(=0\) must be a positive integer"),
    "growth": ({"growth_rate": 0}, r"`growth_rate` \(=0\) must be a positive integer"),
    "all pruned": ({"pruned_fraction": 1.0}, r"`pruned_fraction` \(=1.0\) must be a number in \[0, 1\)"),
    "no fraction": ({"pruned_fraction": None}, r"`pruned_fraction` \(=None\) must be a number in \[0, 1\)"),
    "no drops": ({"drops_at": ()}, r"`drops_at` \(=\(\)\) must be a tuple of ascending numbers"),
    "drops in epochs": ({"drops_at": (50, 100)}, r"`drops_at` \(=\(50, 100\)\) must be a tuple of ascending numbers"),
    "drops backwards": ({"drops_at": (0.4, 0.2)}, r"`drops_at` \(=\(0.4, 0.2\)\) must be a tuple of ascending numbers"),
    "dropout": ({"dropout_rate": 1}, r"`dropout_rate` \(=1\) must be a number in \[0, 1\)"),
    "weights": ({"weights": "imagenet"}, r"`weights` \(='imagenet'\) must be None or the path"),
    "image": ({"input_shape": (1, 8, 3)}, r"`input_shape` \(=\(1, 8, 3\)\) must be at least 2x2"),
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        small(**arguments)
    assert THREE_PARTS.fullmatch(str(error.value))
