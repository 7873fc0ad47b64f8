"""One table of small networks drives the contract of keras.applications; the named networks have their own tests."""

import functools
import hashlib
import importlib
import inspect
import os
import pathlib
import re

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import NETWORKS, THREE_PARTS, shapes_only

from keras_condense import applications
from keras_condense.applications import CondenseNet, DenseNet, densenet_stages, downloads, families, pretrained
from keras_condense.applications import imagenet as imagenet_functions
from keras_condense.layers import CondenseDense

CONTRACT = (
    "include_top",
    "weights",
    "input_tensor",
    "input_shape",
    "pooling",
    "classes",
    "classifier_activation",
    "name",
)


# the small networks that stand for their families are rows of NETWORKS in networks.py
SMALL = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
FAMILIES = [importlib.import_module(family.module) for family in families.FAMILIES.values()]
ALL_CONSTRUCTORS = [getattr(applications, name) for name in applications.__all__ if name[0].isupper()]


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def predict(model: keras.Model, x: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(x, training=False))


def assert_same_weights(a: keras.Model, b: keras.Model) -> None:
    for one, other in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


# ---------------------------------------------------------------------------------------------------- signatures


@pytest.mark.parametrize("constructor", ALL_CONSTRUCTORS, ids=lambda constructor: constructor.__name__)
def test_every_constructor_takes_the_contract_in_its_order(constructor):
    parameters = inspect.signature(constructor).parameters
    positional = [name for name, p in parameters.items() if p.kind is not p.KEYWORD_ONLY]
    # the arguments of a family's own, such as `stages`, stand before those that all share
    assert tuple(positional[-len(CONTRACT) :]) == CONTRACT
    assert parameters["name"].default == constructor.__name__.lower()
    assert inspect.getdoc(constructor)
    assert not any(p.kind is p.VAR_KEYWORD for p in parameters.values())


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_each_family_has_preprocessing_and_decoding_beside_it(family):
    reference = keras.applications.densenet
    for name in ("preprocess_input", "decode_predictions"):
        ours, theirs = getattr(family, name), getattr(reference, name)
        assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)


# ------------------------------------------------------------------------------------------------------- shapes


@SMALL
def test_with_the_classifier(network):
    with shapes_only():
        model = network.build()
        assert model.input_shape == (None, network.default_size, network.default_size, 3)
        assert model.output_shape == (None, 1000)
    shape = (network.side + 1, network.side + 8, 1)
    model = network.build(input_shape=shape, classes=3, name="mine")
    probabilities = predict(model, images(2, *shape))
    assert probabilities.shape == (2, 3)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    assert model.name == "mine"


@SMALL
@shapes_only()
def test_integers_of_numpy_are_integers(network):
    model = network.build(input_shape=tuple(np.array([network.side, network.side, 3])), classes=np.int64(5))
    assert model.output_shape == (None, 5)
    assert type(model.output_shape[1]) is int


@SMALL
def test_without_the_classifier(network):
    model = network.build(include_top=False)
    assert model.input_shape == (None, None, None, 3)
    size = 2 * network.min_size + 1
    features = predict(model, images(2, size, size, 3))
    assert features.shape[0::3] == (2, network.channels)
    assert model.output_shape == (None, None, None, network.channels)
    x = images(2, size, size, 3)
    for pooling, reduce in (("avg", np.mean), ("max", np.max)):
        pooled = network.build(include_top=False, pooling=pooling)
        pooled.set_weights(model.get_weights())
        assert pooled.output_shape == (None, network.channels)
        np.testing.assert_allclose(predict(pooled, x), reduce(predict(model, x), (1, 2)), rtol=1e-4, atol=1e-5)


@SMALL
@shapes_only()
def test_the_smallest_image_leaves_one_pixel(network):
    model = network.build(include_top=False, input_shape=(network.min_size, network.min_size + 1, 3))
    assert model.output_shape[1] == 1
    if network.min_size > 1:  # else it pads everywhere, and no image is too small
        with pytest.raises(ValueError, match=f"must be at least {network.min_size}x{network.min_size}"):
            network.build(include_top=False, input_shape=(network.min_size, network.min_size - 1, 3))


@SMALL
def test_an_input_tensor_begins_where_the_callers_layers_begin(network):
    shape = (network.side + 8, network.side + 8, 3)
    image = keras.Input(shape, name="pixels")
    model = network.build(input_tensor=keras.layers.Rescaling(1 / 255)(image), classes=3)
    plain = network.build(input_tensor=image, input_shape=shape, classes=3)
    assert model.input is image
    plain.set_weights(model.get_weights())
    x = 255 * images(2, *shape)
    np.testing.assert_allclose(predict(model, x), predict(plain, x / 255), atol=1e-5)


def test_an_input_tensor_of_two_inputs_makes_a_model_of_both():
    left, right = keras.Input((8, 8, 2)), keras.Input((8, 8, 1))
    image = keras.layers.Concatenate()([left, right])
    model = NETWORKS["condensenet-cifar"].build(input_tensor=image, classes=3)
    assert [tensor.shape for tensor in model.inputs] == [(None, 8, 8, 2), (None, 8, 8, 1)]


def test_logits_and_callable_activations():
    build = functools.partial(NETWORKS["densenet-cifar"].build, input_shape=(8, 8, 3), classes=3)
    logits, scores = build(classifier_activation=None), build(classifier_activation=keras.activations.sigmoid)
    scores.set_weights(logits.get_weights())
    x = images(2, 8, 8, 3)
    np.testing.assert_allclose(predict(scores, x), 1 / (1 + np.exp(-predict(logits, x))), atol=1e-6)


def test_half_precision_policies_reach_every_layer():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        for name, network in NETWORKS.items():
            shape = (network.side, network.side, 3)
            model = network.build(input_shape=shape, classes=3)
            assert np.isfinite(predict(model, images(2, *shape)).astype("float32")).all()
            assert model.compute_dtype == "bfloat16"
            assert {w.dtype for w in model.trainable_weights} == {"float32"}
            if name != "mobilenet":  # keras.applications' own
                assert model.output.dtype == "float32"  # bfloat16 has too few digits for scores and their loss
    finally:
        keras.config.set_dtype_policy(policy)


# ----------------------------------------------------------------------------------------------- save and load


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A function that gives a network of 3 classes, and the path of its files without their suffix: saved once."""

    @functools.cache
    def save(network):
        model = network.build(input_shape=(network.side, network.side, 3), classes=3)
        path = tmp_path_factory.mktemp("saved") / "mine"
        model.save(path.with_suffix(".keras"))
        model.save_weights(path.with_suffix(".weights.h5"))
        return model, path

    return save


@SMALL
def test_saved_models_load_without_custom_objects(network, saved):
    model, path = saved(network)
    x = images(2, *model.input_shape[1:])
    loaded = keras.models.load_model(path.with_suffix(".keras"))
    np.testing.assert_array_equal(predict(loaded, x), predict(model, x))
    again = keras.models.model_from_json(model.to_json())
    assert again.to_json() == model.to_json()
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(predict(again, x), predict(model, x))


@SMALL
@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_weights_of_a_file(network, suffix, saved):
    shape = (network.side, network.side, 3)
    model, path = saved(network)
    path = path.with_suffix(suffix)
    weights = path if suffix == ".keras" else str(path)
    assert_same_weights(network.build(input_shape=shape, classes=3, weights=weights), model)
    # the feature extractor reads a file that was saved with the classifier
    features = network.build(include_top=False, weights=path)
    np.testing.assert_array_equal(features.get_weights()[0], model.get_weights()[0])
    with pytest.raises(ValueError, match="they don't fit") as error:
        network.build(input_shape=shape, classes=4, weights=path)
    assert str(path) in str(error.value)
    assert THREE_PARTS.fullmatch(str(error.value))


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras", ".h5"])
@pytest.mark.parametrize("damage", ["empty", "truncated", "foreign", "other model"])
def test_damaged_weights_are_named(suffix, damage, tmp_path):
    path = tmp_path / f"damaged{suffix}"
    build = functools.partial(NETWORKS["condensenet-cifar"].build, input_shape=(8, 8, 3), classes=3)
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model = other if damage == "other model" else build()
    (model.save_weights if suffix == ".weights.h5" else model.save)(path)
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "truncated":
        os.truncate(path, path.stat().st_size * 2 // 3)
    elif damage == "foreign":
        path.write_bytes(b"\x89PNG\r\n\x1a\n" * 100)
    with pytest.raises(ValueError, match=re.escape(str(path))) as error:
        build(weights=path)
    assert THREE_PARTS.fullmatch(str(error.value))


def test_damage_inside_an_archive_is_found(tmp_path):
    path = tmp_path / "model.keras"
    build = functools.partial(NETWORKS["condensenet-cifar"].build, input_shape=(8, 8, 3), classes=3)
    build().save(path)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 8] = bytes(255 - byte for byte in data[middle : middle + 8])
    path.write_bytes(data)
    with pytest.raises(ValueError, match="can't be read"):
        build(weights=path)


# ------------------------------------------------------------------------------------------------------- errors

WRONG = {
    "weights missing": ({"weights": "no/such.weights.h5"}, r"`weights` \(='no/such.weights.h5'\) must be None"),
    "weights of no kind": ({"weights": 3}, r"`weights` \(=3\) must be None"),
    "weights a list": ({"weights": ["imagenet"]}, r"must be None or the path of an existing file"),
    "weights unpublished": ({"weights": "imagenet"}, r"`weights` \(='imagenet'\) must be None or the path"),
    "pooling": ({"pooling": "mean"}, r"`pooling` \(='mean'\) must be one of None, 'avg', 'max'"),
    "pooling below the top": ({"pooling": "min", "include_top": False}, r"`pooling` \(='min'\) must be one of"),
    "include_top": ({"include_top": "no"}, r"`include_top` \(='no'\) must be one of True, False"),
    "no classes": ({"classes": 0}, r"`classes` \(=0\) must be a positive integer"),
    "classes a float": ({"classes": 10.0}, r"`classes` \(=10.0\) must be a positive integer"),
    "activation": ({"classifier_activation": "soft"}, r"`classifier_activation` \(='soft'\) must be None"),
    "activation a number": ({"classifier_activation": 3}, r"`classifier_activation` \(=3\) must be None"),
    "name": ({"name": "a/b"}, r"`name` \(='a/b'\) must be a string"),
    "name a number": ({"name": 5}, r"`name` \(=5\) must be a string"),
    "shape of two": ({"input_shape": (32, 32)}, r"`input_shape` \(=\(32, 32\)\) must be a tuple of three"),
    "shape with batch": ({"input_shape": (None, 32, 32, 3)}, r"without the batch"),
    "shape a number": ({"input_shape": 32}, r"`input_shape` \(=32\) must be a tuple of three"),
    "shape of floats": ({"input_shape": (32.0, 32.0, 3)}, r"must be a tuple of three positive integers"),
    "shape negative": ({"input_shape": (-32, 32, 3)}, r"must be a tuple of three positive integers"),
    "shape without channels": ({"input_shape": (32, 32, None), "include_top": False}, r"must be a tuple of three"),
    "shape open": ({"input_shape": (None, None, 3)}, r"must be free of None with include_top=True"),
    "tensor an array": ({"input_tensor": np.ones((1, 32, 32, 3))}, r"`input_tensor` \(of type ndarray\) must be"),
    "tensor of rank 3": ({"input_tensor": keras.KerasTensor((None, 32, 3))}, r"must have the shape \(batch, height"),
    "tensor of integers": ({"input_tensor": keras.Input((32, 32, 3), dtype="uint8")}, r"of dtype 'uint8'"),
    "tensor without channels": ({"input_tensor": keras.Input((32, 32, None))}, r"known number of channels"),
    "tensor too small": ({"input_tensor": keras.Input((1, 32, 3))}, r"`input_tensor` .* must be at least"),
    "tensor and shape": (
        {"input_tensor": keras.Input((32, 32, 3)), "input_shape": (64, 32, 3)},
        r"must agree with `input_tensor`",
    ),
}


@pytest.mark.parametrize("family", ["densenet-cifar", "condensenet-cifar"])
@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG)
def test_wrong_arguments(family, arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        NETWORKS[family].build(**arguments)
    assert THREE_PARTS.fullmatch(str(error.value))


def test_weights_need_a_known_suffix_and_a_fitting_activation(tmp_path):
    path = tmp_path / "weights.bin"
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"must end in one of \.weights\.h5") as error:
        NETWORKS["densenet-cifar"].build(weights=path)
    assert THREE_PARTS.fullmatch(str(error.value))
    model = NETWORKS["densenet-cifar"].build()
    model.save_weights(path.with_suffix(".weights.h5"))
    with pytest.raises(ValueError, match="must be None or 'softmax' with pretrained weights") as error:
        NETWORKS["densenet-cifar"].build(weights=path.with_suffix(".weights.h5"), classifier_activation="relu")
    assert THREE_PARTS.fullmatch(str(error.value))
    with pytest.raises(ValueError, match="must be None or the path of an existing file"):
        NETWORKS["densenet-cifar"].build(weights=tmp_path)


def test_published_weights_limit_the_other_arguments():
    """Where keras.applications refuses the combination, so do we."""
    cases = [
        ({"classes": 10}, "`classes` .* must be 1000"),
        ({"classifier_activation": "relu"}, "must be None or 'softmax'"),
        ({"input_shape": (64, 64, 3)}, r"must be \(224, 224, 3\) with weights='imagenet'"),
        ({"include_top": False, "input_shape": (64, 64, 1)}, "must have 3 channels"),
        ({"include_top": False, "input_shape": (31, 64, 3)}, "must be at least 32x32"),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message) as error:
            applications.DenseNet121(weights="imagenet", **arguments)
        assert THREE_PARTS.fullmatch(str(error.value))
        if "activation" not in message and "softmax" not in message:  # Keras builds the network before that check
            with pytest.raises(ValueError):
                keras.applications.DenseNet121(weights="imagenet", **arguments)


def test_channels_first_is_refused():
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(ValueError, match="must be 'channels_last'") as error:
            NETWORKS["densenet-cifar"].build()
    finally:
        keras.config.set_image_data_format("channels_last")
    assert THREE_PARTS.fullmatch(str(error.value))


DENSENET_WRONG = {
    "no stages": ({"stages": ()}, r"`stages` \(=\(\)\) must be a sequence of positive integers"),
    "stages text": ({"stages": "666"}, r"`stages` \(='666'\) must be a sequence"),
    "empty stage": ({"stages": (2, 0)}, r"`stages\[1\]` \(=0\) must be a positive integer"),
    "growth": ({"growth_rate": 2.5}, r"`growth_rate` \(=2.5\) must be a positive integer"),
    "bottleneck": ({"bottleneck": 4}, r"`bottleneck` \(=4\) must be one of True, False"),
    "compression": ({"compression": 2}, r"`compression` \(=2\) must be a number in \[0, 1\]"),
    "nothing left": ({"compression": 0.01}, r"`compression` \(=0.01\) must leave a channel"),
    "dropout": ({"dropout_rate": 1.0}, r"`dropout_rate` \(=1.0\) must be a number in \[0, 1\)"),
    "stem": ({"stem": "svhn"}, r"`stem` \(='svhn'\) must be one of 'imagenet', 'cifar'"),
}
CONDENSENET_WRONG = {
    "lengths": ({"growth_rates": (4,)}, r"`growth_rates` \(of 1 values\) must be as long as `stages` \(of 2\)"),
    "growth": ({"growth_rates": (4, 0)}, r"`growth_rates\[1\]` \(=0\) must be a positive integer"),
    "growth of no groups": (
        {"growth_rates": (4, 6)},
        r"`growth_rates\[1\]` \(=6\) must be divisible by `groups` \(=4\)",
    ),
    "condense factor": (
        {"condense_factor": 3},
        r"`in_channels of block1_layer1_1_conv` \(=8\) must be divisible by `condense_factor` \(=3\)",
    ),
    "groups": ({"groups": 0}, r"`groups` \(=0\) must be a positive integer"),
    "bottleneck": ({"bottleneck_factor": -1}, r"`bottleneck_factor` \(=-1\) must be a positive integer"),
    "strides": ({"stem_strides": "2"}, r"`stem_strides` \(='2'\) must be a positive integer"),
    "dropout": ({"dropout_rate": -0.1}, r"`dropout_rate` \(=-0.1\) must be a number in \[0, 1\)"),
    "lasso": ({"group_lasso": -1.0}, r"`group_lasso` \(=-1.0\) must be a finite number"),
    "classifier": (
        {"classifier_condense_factor": 5},
        r"`inputs of the classifier` \(=24\) must be divisible by `classifier_condense_factor` \(=5\)",
    ),
}


@pytest.mark.parametrize(
    ("constructor", "arguments", "message"),
    [
        (functools.partial(DenseNet, **{"stages": (2, 2), "growth_rate": 2} | a), a, m)
        for a, m in DENSENET_WRONG.values()
    ]
    + [
        (functools.partial(CondenseNet, **{"stages": (2, 1), "growth_rates": (4, 8)} | a), a, m)
        for a, m in CONDENSENET_WRONG.values()
    ],
    ids=[f"densenet {key}" for key in DENSENET_WRONG] + [f"condensenet {key}" for key in CONDENSENET_WRONG],
)
def test_wrong_architectures(constructor, arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        constructor()
    assert THREE_PARTS.fullmatch(str(error.value))


# ----------------------------------------------------------------------------------------------- any arguments

PROPERTY = settings(derandomize=True, deadline=None, max_examples=40)


def shrunk(size: int, halvings: int) -> int:
    return functools.reduce(lambda n, _: n // 2, range(halvings), size)


@PROPERTY
@given(
    stages=st.lists(st.integers(1, 2), min_size=1, max_size=3),
    growth_rates=st.lists(st.sampled_from([2, 4, 6, 8]), min_size=1, max_size=3),
    groups=st.sampled_from([1, 2, 4]),
    condense_factor=st.sampled_from([1, 2, 3, 4]),
    bottleneck_factor=st.integers(1, 4),
    stem_strides=st.integers(1, 3),
    classifier_condense_factor=st.sampled_from([1, 2, 3]),
    include_top=st.booleans(),
    size=st.integers(1, 12),
)
def test_any_condensenet_is_built_or_refused_with_reasons(
    stages, growth_rates, groups, condense_factor, classifier_condense_factor, include_top, size, stem_strides,
    bottleneck_factor,
):  # fmt: skip
    growth_rates = (growth_rates * 3)[: len(stages)] if len(growth_rates) > 1 else growth_rates
    channels = [2 * growth_rates[0]]
    for layers, growth_rate in zip(stages, growth_rates, strict=False):
        channels += [channels[-1] + (i + 1) * growth_rate for i in range(layers)]
    smallest = shrunk(-(-size // stem_strides), len(stages) - 1)
    fits = (
        len(stages) == len(growth_rates)
        and not any(growth_rate % groups for growth_rate in growth_rates)
        and not any(width % condense_factor for width in channels[:-1])
        and not (include_top and channels[-1] % classifier_condense_factor)
        and smallest > 0
    )
    arguments = {
        "groups": groups,
        "condense_factor": condense_factor,
        "bottleneck_factor": bottleneck_factor,
        "stem_strides": stem_strides,
        "classifier_condense_factor": classifier_condense_factor,
        "include_top": include_top,
        "input_shape": (size, size + 1, 3),
        "classes": 3,
    }
    if not fits:
        with pytest.raises(ValueError, match=THREE_PARTS):
            CondenseNet(stages, growth_rates, **arguments)
        return
    model = CondenseNet(stages, growth_rates, **arguments)
    outputs = predict(model, images(2, size, size + 1, 3))
    wide = shrunk(-(-(size + 1) // stem_strides), len(stages) - 1)
    assert outputs.shape == ((2, 3) if include_top else (2, smallest, wide, channels[-1]))
    assert np.isfinite(outputs).all()
    if include_top:
        assert isinstance(model.get_layer("predictions"), CondenseDense) == (classifier_condense_factor > 1)


@PROPERTY
@given(
    stages=st.lists(st.integers(1, 2), min_size=1, max_size=3),
    growth_rate=st.integers(1, 5),
    bottleneck=st.booleans(),
    compression=st.sampled_from([0.05, 0.3, 0.5, 1.0, 1.5]),
    dropout_rate=st.sampled_from([0.0, 0.2]),
    stem=st.sampled_from(["imagenet", "cifar"]),
    include_top=st.booleans(),
    size=st.integers(1, 20),
)
def test_any_densenet_is_built_or_refused_with_reasons(
    stages, growth_rate, bottleneck, compression, dropout_rate, stem, include_top, size
):
    wide_stem = stem == "imagenet" or (bottleneck and compression < 1)
    channels = [2 * growth_rate if wide_stem else 16]
    for layers in stages[:-1]:
        channels.append(int((channels[-1] + layers * growth_rate) * compression))
    features = channels[-1] + stages[-1] * growth_rate
    halvings = len(stages) - 1
    smallest = size // 2 ** (halvings + (2 if stem == "imagenet" else 0))
    arguments = {
        "bottleneck": bottleneck,
        "compression": compression,
        "dropout_rate": dropout_rate,
        "stem": stem,
        "include_top": include_top,
        "input_shape": (size, size, 3),
        "classes": 3,
    }
    if compression > 1 or 0 in channels or smallest == 0:
        with pytest.raises(ValueError, match=THREE_PARTS):
            DenseNet(stages, growth_rate, **arguments)
        return
    model = DenseNet(stages, growth_rate, **arguments)
    outputs = predict(model, images(2, size, size, 3))
    assert outputs.shape[0] == 2
    assert outputs.shape[-1] == (3 if include_top else features)
    assert np.isfinite(outputs).all()


@PROPERTY
@given(layers=st.integers(1, 60), blocks=st.integers(1, 5), bottleneck=st.booleans())
def test_depth_counts_convolutions_and_the_classifier(layers, blocks, bottleneck):
    depth = 1 + blocks * layers * (1 + bottleneck) + (blocks - 1) + 1
    assert densenet_stages(depth, blocks, bottleneck) == (layers,) * blocks


@PROPERTY
@given(depth=st.integers(-5, 120), blocks=st.integers(1, 5), bottleneck=st.booleans())
def test_other_depths_are_refused_with_depths_that_work(depth, blocks, bottleneck):
    layers, left = divmod(depth - blocks - 1, blocks * (1 + bottleneck))
    if layers >= 1 and not left:
        assert densenet_stages(depth, blocks, bottleneck) == (layers,) * blocks
        return
    with pytest.raises(ValueError, match=THREE_PARTS) as error:
        densenet_stages(depth, blocks, bottleneck)
    suggested = re.search(r"Use (\d+) or (\d+)\.", str(error.value))
    for number in suggested.groups() if suggested else ():
        assert densenet_stages(int(number), blocks, bottleneck)


# ---------------------------------------------------------------------------------------------------- functions


@pytest.mark.parametrize("shape", [(2, 5, 4, 3), (5, 4, 3)])
def test_preprocessing_equals_keras(shape):
    x = np.random.default_rng(0).integers(0, 256, shape).astype("float32")
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # the authors' numbers
    np.testing.assert_allclose(imagenet_functions.preprocess_input(x.copy()), (x / 255 - mean) / std, atol=1e-5)
    np.testing.assert_array_equal(
        imagenet_functions.preprocess_input(x.copy()), keras.applications.densenet.preprocess_input(x.copy())
    )
    tensor = imagenet_functions.preprocess_input(keras.ops.convert_to_tensor(x))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(tensor), (x / 255 - mean) / std, atol=1e-5)
    first = imagenet_functions.preprocess_input(np.moveaxis(x, -1, -3).copy(), data_format="channels_first")
    np.testing.assert_allclose(np.moveaxis(first, -3, -1), (x / 255 - mean) / std, atol=1e-5)


def test_preprocessing_refuses_what_it_would_spoil():
    for x, arguments in (
        (np.ones((8, 8, 1), "float32"), {}),
        (np.ones((8, 3), "float32"), {}),
        (np.ones((8, 8, 3), "float32"), {"data_format": "channels_first"}),
        (np.ones((8, 8, 3), "float32"), {"data_format": "NHWC"}),
        ([[1.0]], {}),
    ):
        with pytest.raises(ValueError, match=THREE_PARTS):
            imagenet_functions.preprocess_input(x, **arguments)


def test_decoding_names_the_best_first(monkeypatch, tmp_path):
    names = {str(i): [f"n{i:08d}", f"class_{i}"] for i in range(1000)}
    monkeypatch.setattr(inspect.getmodule(keras.applications.imagenet_utils.decode_predictions), "CLASS_INDEX", names)
    scores = np.zeros((2, 1000))
    scores[0, [3, 5]] = 0.2, 0.7
    scores[1, 9] = 1.0
    decoded = imagenet_functions.decode_predictions(scores, top=2)
    assert decoded[0] == [("n00000005", "class_5", 0.7), ("n00000003", "class_3", 0.2)]
    assert decoded[1][0] == ("n00000009", "class_9", 1.0)
    with pytest.raises(ValueError, match=THREE_PARTS):
        imagenet_functions.decode_predictions(scores[0])


def test_files_of_keras_are_fetched_once_and_checked(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    calls, content = [], b"weights"

    def get_file(name, address, *, cache_dir, cache_subdir, file_hash):
        calls.append((address, file_hash))
        path = pathlib.Path(cache_dir, cache_subdir, name)
        path.write_bytes(content)
        return str(path)

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    md5 = hashlib.md5(content).hexdigest()
    files = pretrained.KerasFiles("https://host/folder", ("top.h5", md5), ("no.h5", None))
    for _ in range(2):
        assert files_at(downloads.keras_file(files, True)) == content
        assert files_at(downloads.keras_file(files, False)) == content
    assert calls == [("https://host/folder/top.h5", md5), ("https://host/folder/no.h5", None)]
    assert sorted(os.listdir(tmp_path / "models")) == ["no.h5", "top.h5"]
    (tmp_path / "models" / "top.h5").write_bytes(b"damaged since")
    assert files_at(downloads.keras_file(files, True)) == content
    assert len(calls) == 3


def files_at(path):
    return pathlib.Path(path).read_bytes()


def test_files_of_keras_that_cannot_be_fetched(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))

    def get_file(name, address, *, cache_dir, **_):
        pathlib.Path(cache_dir, name).write_bytes(b"half")
        raise Exception(f"URL fetch failure on {address}: None -- unreachable")  # as Keras does

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    with pytest.raises(OSError, match=r"The weights at https://.*mobilenet.* could not be .*unreachable.* Check"):
        applications.MobileNet(weights="imagenet")
    assert os.listdir(tmp_path / "models") == []
