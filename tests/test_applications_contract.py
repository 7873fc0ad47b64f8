"""One table of small networks drives the contract of keras.applications; the named networks have their own tests."""

import functools
import importlib
import inspect

import keras
import numpy as np
import pytest
from networks import NETWORKS, THREE_PARTS, shapes_only

from keras_condense import applications
from keras_condense.applications import families

pytestmark = pytest.mark.slow  # all of it, together


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


# ----------------------------------------------------------------------------------------------------------- signatures


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


# --------------------------------------------------------------------------------------------------------------- shapes


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


# --------------------------------------------------------------------------------------------------------------- errors


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
