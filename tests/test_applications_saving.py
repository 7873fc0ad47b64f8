"""Networks of every family saved and loaded, and files of weights that are damaged or another network's."""

import functools
import os
import re

import keras
import numpy as np
import pytest
from networks import NETWORKS, THREE_PARTS

from keras_condense.layers import condensable_layers

pytestmark = pytest.mark.slow  # all of it, together


# the small networks that stand for their families are rows of NETWORKS in networks.py
SMALL = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def predict(model: keras.Model, x: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(x, training=False))


def assert_same_weights(a: keras.Model, b: keras.Model) -> None:
    for one, other in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture
def saved(network, tmp_path) -> keras.Model:
    """A network of three classes as in the midst of its training, saved as net.keras and net.weights.h5."""
    model = network.build(input_shape=(network.side, network.side, 3), classes=3)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.name in ("beta", "bias", "moving_mean"):
            weight.assign(rng.normal(0, 0.2, weight.shape))
    for layer in condensable_layers(model):
        layer.condense_to(1)
    model.save(tmp_path / "net.keras")
    model.save_weights(tmp_path / "net.weights.h5")
    return model


@SMALL
def test_what_is_saved_is_loaded_without_custom_objects(network, saved, tmp_path):
    x = images(2, network.side, network.side, 3)
    expected = predict(saved, x)
    np.testing.assert_array_equal(predict(keras.models.load_model(tmp_path / "net.keras"), x), expected)
    again = keras.models.model_from_json(saved.to_json())
    assert again.to_json() == saved.to_json()
    again.load_weights(tmp_path / "net.weights.h5")
    np.testing.assert_array_equal(predict(again, x), expected)


@SMALL
def test_constructors_load_weights_of_a_file(network, saved, tmp_path):
    build = functools.partial(network.build, input_shape=(network.side, network.side, 3))
    archive, weights = tmp_path / "net.keras", tmp_path / "net.weights.h5"
    assert_same_weights(build(classes=3, weights=str(archive)), saved)
    assert_same_weights(build(classes=3, weights=weights), saved)
    # the feature extractor reads a file that was saved with the classifier
    features = network.build(include_top=False, weights=weights)
    np.testing.assert_array_equal(features.get_weights()[0], saved.get_weights()[0])
    with pytest.raises(ValueError, match="they don't fit") as error:
        build(classes=4, weights=archive)
    assert str(archive) in str(error.value)
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
