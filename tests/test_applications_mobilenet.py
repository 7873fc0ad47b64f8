"""MobileNet and MobileNetV2 beside keras.applications, whose networks they are."""

import inspect

import keras
import numpy as np
import pytest
from networks import THREE_PARTS

from keras_condense.applications import MobileNet, MobileNetV2, mobilenet
from keras_condense.applications.pretrained import WEIGHTS

pytestmark = pytest.mark.slow  # all of it, together


KERAS = {MobileNet: keras.applications.MobileNet, MobileNetV2: keras.applications.MobileNetV2}


def built(constructor, **arguments) -> keras.Model:
    keras.utils.clear_session()  # layers without a name are counted anew
    keras.utils.set_random_seed(7)
    return constructor(**arguments)


def predict(model: keras.Model, x: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(x, training=False))


@pytest.mark.parametrize(
    ("constructor", "arguments"),
    [
        (MobileNet, {"alpha": 0.25, "input_shape": (32, 33, 3), "classifier_activation": None}),
        (MobileNet, {"alpha": 0.3, "include_top": False, "pooling": "max"}),
        (MobileNetV2, {"alpha": 0.35, "input_shape": (33, 32, 1), "classes": 7}),
        (MobileNetV2, {"alpha": 1.1, "include_top": False}),
    ],
)
def test_networks_equal_keras(constructor, arguments):
    ours = built(constructor, weights=None, **arguments)
    theirs = built(KERAS[constructor], weights=None, **arguments)
    assert [layer.name for layer in ours.layers] == [layer.name for layer in theirs.layers]
    assert ours.get_config()["layers"] == theirs.get_config()["layers"]
    for one, other in zip(ours.weights, theirs.weights, strict=True):
        assert one.path == other.path
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    x = np.random.default_rng(1).normal(size=(2, *arguments.get("input_shape", (32, 32, 3)))).astype("float32")
    np.testing.assert_array_equal(predict(ours, x), predict(theirs, x))


@pytest.mark.parametrize("constructor", KERAS)
def test_defaults_are_those_of_keras(constructor):
    ours, theirs = (inspect.signature(function).parameters for function in (constructor, KERAS[constructor]))
    for name, parameter in ours.items():
        if name != "name":  # Keras' None stands for a name made of alpha and the images' size
            assert parameter.default == theirs[name].default


def test_an_input_tensor_begins_where_the_callers_layers_begin():
    image = keras.Input((40, 40, 3), name="pixels")
    model = MobileNetV2(0.35, input_tensor=keras.layers.Rescaling(1 / 255)(image), classes=3, weights=None)
    plain = MobileNetV2(0.35, input_tensor=image, classes=3, weights=None)
    assert model.input is image
    plain.set_weights(model.get_weights())
    x = np.random.default_rng(0).uniform(0, 255, (2, 40, 40, 3)).astype("float32")
    np.testing.assert_allclose(predict(model, x), predict(plain, x / 255), atol=1e-5)


def test_any_channels_are_taken_without_a_warning():
    assert MobileNet(0.25, weights=None, input_shape=(32, 32, 5), classes=2).input_shape == (None, 32, 32, 5)


# -------------------------------------------------------------------------------------------------------- weights


class FetchedError(Exception):
    """Raised in place of a download."""


def fetched(constructor, monkeypatch, **arguments) -> tuple[str, str]:
    """Name and URL of the file that a constructor would download."""

    def get_file(name, origin, **_):
        raise FetchedError(name, origin)

    with monkeypatch.context() as patched:
        patched.setattr(keras.utils, "get_file", get_file)
        patched.setattr(inspect.getmodule(keras.applications.MobileNet).file_utils, "get_file", get_file)
        with pytest.raises((FetchedError, OSError)) as error:
            constructor(weights="imagenet", **arguments)
    asked = error.value if isinstance(error.value, FetchedError) else error.value.__cause__
    return asked.args


@pytest.mark.parametrize(
    ("constructor", "alpha", "size", "include_top"),
    [
        (MobileNet, 1.0, 224, True),
        (MobileNet, 0.75, 192, True),
        (MobileNet, 0.5, 160, False),
        (MobileNet, 0.25, 128, False),
        (MobileNetV2, 1.4, 224, True),
        (MobileNetV2, 1, 128, True),
        (MobileNetV2, 0.35, 96, False),
    ],
)
def test_imagenet_weights_are_the_files_that_keras_fetches(constructor, alpha, size, include_top, monkeypatch):
    arguments = {"alpha": alpha, "include_top": include_top, "input_shape": (size, size, 3)}
    file = fetched(constructor, monkeypatch, **arguments)
    assert file == fetched(KERAS[constructor], monkeypatch, **arguments)


def test_imagenet_weights_are_published_for_what_keras_knows():
    for constructor, sizes in ((MobileNet, mobilenet._SIZES), (MobileNetV2, mobilenet._SIZES_V2)):
        rows = [row for row in WEIGHTS if row.constructor == constructor.__name__]
        files = sorted({row.arguments["alpha"] for row in rows})
        # Keras names files for wider networks and smaller images too, which are not there (keras-team/keras#16452)
        expected = {(alpha, size) for alpha in files for size in (sizes if alpha <= 1 else (224,))}
        assert {(row.arguments["alpha"], row.preprocessing.size) for row in rows} == expected
        assert len(rows) == len(expected)
        source = inspect.getsource(KERAS[constructor])
        alphas = ", ".join(f"{alpha:.2f}" if alpha in (0.25, 0.35, 0.5, 0.75) else f"{alpha:.1f}" for alpha in files)
        assert f"alpha not in [{alphas}]" in source
        assert f"rows not in {list(sizes)}" in source


def test_other_images_take_the_weights_for_224_pixels(monkeypatch):
    monkeypatch.setattr(mobilenet, "_build", lambda *arguments: arguments[-1].pretrained.keras_files.no_top[0])
    image = keras.layers.Rescaling(1.0)(keras.Input((160, 160, 3)))
    for arguments, size in (
        ({}, 224),
        ({"input_shape": (None, None, 3)}, 224),
        ({"input_shape": [64, 64, 3]}, 224),
        ({"input_shape": (128, 160, 3)}, 224),
        ({"input_shape": [192, 192, 3]}, 192),
        ({"input_tensor": image}, 160),
    ):
        assert MobileNet(0.25, include_top=False, **arguments) == f"mobilenet_2_5_{size}_tf_no_top.h5"
    wide = MobileNetV2(1.4, include_top=False, weights="imagenet", input_shape=(96, 96, 3))
    assert wide.endswith("_1.4_224_no_top.h5")


@pytest.mark.parametrize(("constructor", "alpha"), [(MobileNet, 0.25), (MobileNetV2, 0.35)])
@pytest.mark.parametrize("include_top", [True, False])
def test_imagenet_weights_are_loaded(constructor, alpha, include_top, monkeypatch, tmp_path):
    """The public file can't be fetched in a test: one of the same format stands in for it."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "cache"))
    shape = (128, 128, 3)
    theirs = built(KERAS[constructor], alpha=alpha, weights=None, include_top=include_top, input_shape=shape)
    theirs.save(tmp_path / "keras.h5")
    monkeypatch.setattr(keras.utils, "get_file", lambda *_, **__: str(tmp_path / "keras.h5"))
    # the caller's own layers before the network, here with weights of their own, are no part of the file
    image = keras.layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[4.0, 4.0, 4.0])(keras.Input(shape))
    ours = constructor(alpha, include_top=include_top, input_tensor=image)
    expected = {weight.path: weight for weight in theirs.weights}
    loaded = [weight for weight in ours.weights if weight.path in expected]
    assert len(loaded) == len(expected)
    for weight in loaded:
        np.testing.assert_array_equal(weight.numpy(), expected[weight.path].numpy())


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5"])
def test_files_of_keras_own_networks_are_read(suffix, tmp_path):
    arguments = {"alpha": 0.25, "input_shape": (32, 32, 3), "classes": 3}
    theirs = built(KERAS[MobileNet], weights=None, **arguments)
    path = tmp_path / f"mine{suffix}"
    (theirs.save_weights if suffix == ".weights.h5" else theirs.save)(path)
    ours = built(MobileNet, weights=path, **arguments)
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


# --------------------------------------------------------------------------------------------------------- errors

WRONG = {
    "alpha zero": ({"alpha": 0}, r"`alpha` \(=0\) must be a finite number above 0"),
    "alpha negative": ({"alpha": -1.0}, r"`alpha` \(=-1.0\) must be a finite number above 0"),
    "alpha text": ({"alpha": "1.0"}, r"`alpha` \(='1.0'\) must be a finite number above 0"),
    "alpha none": ({"alpha": None}, r"`alpha` \(=None\) must be a finite number above 0"),
    "alpha infinite": ({"alpha": float("inf")}, r"`alpha` \(=inf\) must be a finite number above 0"),
    "alpha a shape": ({"alpha": (32, 32, 3)}, r"`alpha` \(=\(32, 32, 3\)\) must be a finite number"),  # Keras' first
    "alpha unpublished": ({"alpha": 0.3, "weights": "imagenet"}, "no trained weights of this network are published"),
    "size unpublished": (
        {"input_shape": (100, 100, 3), "weights": "imagenet"},
        r"must be \(224, 224, 3\) with weights='imagenet'",
    ),
    "not square": ({"input_shape": (192, 160, 3), "weights": "imagenet"}, r"must be \(224, 224, 3\) with weights"),
    "classes": ({"classes": 10, "weights": "imagenet"}, r"`classes` \(=10\) must be 1000"),
    "gray": ({"input_shape": (96, 96, 1), "include_top": False, "weights": "imagenet"}, "must have 3 channels"),
    "small": ({"input_shape": (31, 64, 3)}, "must be at least 32x32"),
    "small tensor": ({"input_tensor": keras.KerasTensor((None, 64, 31, 3))}, "must be at least 32x32"),
    "shape a number": ({"input_shape": 224}, r"`input_shape` \(=224\) must be a tuple of three"),
    "tensor an array": ({"input_tensor": np.ones((1, 32, 32, 3))}, r"`input_tensor` \(of type ndarray\) must be"),
    "weights": ({"weights": "nowhere.weights.h5"}, r"`weights` \(='nowhere.weights.h5'\) must be None"),
    "pooling": ({"pooling": "mean"}, r"`pooling` \(='mean'\) must be one of"),
    "activation": ({"classifier_activation": "soft"}, r"`classifier_activation` \(='soft'\) must be None"),
}


@pytest.mark.parametrize("constructor", KERAS)
@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG)
def test_wrong_arguments_are_refused_before_keras_is_called(constructor, arguments, message, monkeypatch):
    monkeypatch.setattr(mobilenet, "_build", lambda *_: pytest.fail("built"))
    with pytest.raises(ValueError, match=message) as error:
        constructor(**{"weights": None} | arguments)
    assert THREE_PARTS.fullmatch(str(error.value))


def test_too_few_filters_are_refused():
    assert MobileNet(1 / 32, weights=None, include_top=False).output_shape == (None, None, None, 32)
    with pytest.raises(ValueError, match=r"`alpha` \(=0.03\) must be at least 0.03125") as error:
        MobileNet(0.03)
    assert THREE_PARTS.fullmatch(str(error.value))


# ------------------------------------------------------------------------------------------------------ functions


def test_preprocessing_scales_to_one():
    x = np.array([0.0, 127.5, 255.0], "float32").reshape(1, 1, 3)
    np.testing.assert_array_equal(mobilenet.preprocess_input(x.copy()).ravel(), [-1.0, 0.0, 1.0])
    np.testing.assert_array_equal(
        mobilenet.preprocess_input(x.copy()), keras.applications.mobilenet_v2.preprocess_input(x.copy())
    )
