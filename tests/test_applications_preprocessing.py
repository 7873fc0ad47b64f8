"""Preprocessing of images for trained networks, compared with keras.applications' own."""

import dataclasses
import re

import keras
import numpy as np
import pytest

from keras_condense.applications import preprocessing
from keras_condense.applications.preprocessing import (
    CIFAR,
    CIFAR10,
    IMAGENET,
    KERAS_DENSENET,
    KERAS_MOBILENET,
    Preprocessing,
)
from keras_condense.datasets.image_defaults import defaults_for

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3), dtype="uint8")
MEAN, STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)


@pytest.mark.parametrize(
    ("ours", "keras_module"),
    [(KERAS_DENSENET, keras.applications.densenet), (KERAS_MOBILENET, keras.applications.mobilenet)],
    ids=["densenet", "mobilenet"],
)
def test_normalize_equals_keras(ours, keras_module) -> None:
    theirs = keras_module.preprocess_input(PIXELS.astype("float64"), data_format="channels_last")
    np.testing.assert_allclose(ours.normalize(PIXELS), theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64"])
def test_dtypes_make_the_same_float32_and_leave_the_images_alone(dtype) -> None:
    images = PIXELS.astype(dtype)
    normal = IMAGENET.normalize(images)
    assert normal.dtype == np.float32
    np.testing.assert_array_equal(normal, IMAGENET.normalize(PIXELS))
    np.testing.assert_array_equal(images, PIXELS)


def test_formula() -> None:
    rgb = Preprocessing(size=8, mean=MEAN, std=STD, scale=0.5)
    expected = (PIXELS * 0.5 - np.array(MEAN)) / np.array(STD)
    np.testing.assert_allclose(rgb.normalize(PIXELS), expected, rtol=1e-5)
    bgr = dataclasses.replace(rgb, channel_order="bgr")  # the constants are in the network's order, too
    expected = (PIXELS[..., ::-1] * 0.5 - np.array(MEAN)) / np.array(STD)
    np.testing.assert_allclose(bgr.normalize(PIXELS), expected, rtol=1e-5)


def test_one_image_and_many_axes() -> None:
    one = IMAGENET.normalize(PIXELS[0])
    np.testing.assert_array_equal(IMAGENET.normalize(PIXELS[None])[0, 0], one)


def test_sizes() -> None:
    assert (IMAGENET.size, IMAGENET.resize_to) == (224, 256)
    assert (CIFAR.size, CIFAR.resize_to) == (32, 32)
    assert dataclasses.replace(KERAS_MOBILENET, size=128).resize_to == 147


def test_values_are_kept_as_tuples_of_floats() -> None:
    made = Preprocessing(size=8, mean=[0, 0, 0], std=np.ones(3))
    assert (made.mean, made.std) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    assert hash(made) == hash(Preprocessing(size=8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "`size` (=0) must be a positive integer. Use 224"),
        ({"mean": (0.5,)}, "`mean` (=(0.5,)) must be a number for each of the images' 3 channels. Give red"),
        ({"std": (1, 1, 0)}, "`std` (=(1, 1, 0)) must be above 0 in every channel. Give red"),
        ({"channel_order": "grb"}, "`channel_order` (='grb') must be one of 'rgb', 'bgr'. Use 'rgb'"),
        ({"scale": 0}, "`scale` (=0) must be a finite number above 0. Use 1 / 255"),
        ({"crop_fraction": 1.5}, "`crop_fraction` (=1.5) must be a number in [0, 1]. Use 0.875"),
        ({"crop_fraction": 0}, "`crop_fraction` (=0.0) must be a finite number above 0. Use 0.875"),
        ({"interpolation": "area"}, "`interpolation` (='area') must be one of 'nearest', 'bilinear'"),
    ],
)
def test_bad_values(arguments, message) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Preprocessing(**{"size": 8, "mean": MEAN, "std": STD} | arguments)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((4, 3)), "`images` (of shape (4, 3)) must have the shape (..., height, width, 3). Give RGB images."),
        (np.zeros((4, 4, 1)), "`images` (of shape (4, 4, 1)) must have the shape"),
        (np.zeros((4, 4, 3), "int64"), "`images` (of dtype int64) must be of uint8 or floats, with values in 0..255."),
    ],
)
def test_bad_images(images, message) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        IMAGENET.normalize(images)


def test_everything_public_is_named() -> None:
    assert all(hasattr(preprocessing, name) for name in preprocessing.__all__)


def test_networks_that_come_with_the_package_see_cifar10_as_it_is_loaded() -> None:
    recipe = defaults_for("cifar10", channels=3)
    assert (CIFAR10.mean, CIFAR10.std, CIFAR10.resize_to) == (recipe.mean, recipe.std, 32)
