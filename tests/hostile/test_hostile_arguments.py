"""Arguments that nobody means: each is refused at once by a ValueError that names it."""

import math

import keras
import numpy as np
import pytest
from time_limit import time_limit

from keras_condense import datasets, drop_plans, layers, training
from keras_condense.callbacks import CondenseSchedule

IMAGES = np.zeros((1, 8, 8, 8), "float32")
NO_INTEGERS = [-(10**12), 1j, object(), np.array([1, 2]), np.array(3 + 0j), np.array(None), math.inf, "8", b"4", [], {}]
HUGE = [10**12, 10**30, 10**400, 10**5000]


def called_on_images(layer, **defaults):
    return lambda **changed: layer(**(defaults | changed))(IMAGES)


def on_the_digits(load):
    return lambda **changed: load("digits", **changed)


def pixels_padded_by(pad):
    return layers.AugmentedImages(np.zeros((2, 4, 4, 1), "uint8"), [0.0], [1.0], pad)


CALLS = {
    called_on_images(layers.GroupConv2D, filters=8, kernel_size=3, padding="same"): (
        *("filters", "kernel_size", "strides", "dilation_rate", "groups", "padding"),
    ),
    called_on_images(layers.LearnedGroupConv2D, filters=8, kernel_size=1): (
        *("filters", "groups", "condense_factor", "kernel_size", "strides", "dilation_rate"),
    ),
    called_on_images(layers.CondenseDense, units=8): ("units", "condense_factor"),
    called_on_images(layers.SparseFeatureReactivation, filters=8): ("filters", "groups", "condense_factor"),
    called_on_images(layers.ChannelShuffle): ("groups",),
    called_on_images(layers.ChannelScatterAdd, indices=range(8)): ("channels",),
    pixels_padded_by: ("pad",),
    datasets.Augmentation: ("pad",),
    on_the_digits(datasets.load): ("batch_size", "image_size", "channels", "seed", "split_seed"),
    on_the_digits(datasets.load_arrays): ("batch_size", "image_size", "channels", "seed", "split_seed"),
    CondenseSchedule: ("epochs", "steps_per_epoch"),
    drop_plans.drop_plan: ("condense_factor",),
    lambda steps: training.compile_model(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]), steps): (
        "steps",
    ),
}
ARGUMENTS = [(call, name) for call, names in CALLS.items() for name in names]


@pytest.mark.parametrize(("call", "name"), ARGUMENTS, ids=[name for _, name in ARGUMENTS])
def test_what_is_no_integer_or_a_huge_one(call, name):
    for value in (*NO_INTEGERS, *HUGE):
        with time_limit(2), pytest.raises(ValueError, match=rf"^`{name}` \(=") as refused:
            call(**{name: value})
        assert len(str(refused.value)) < 600


@pytest.mark.parametrize(
    "layer",
    [
        layers.GroupConv2D(10**7, 3),
        layers.LearnedGroupConv2D(10**7, 9),
        layers.CondenseDense(2**24),
        layers.SparseFeatureReactivation(2**24, groups=8),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_weights_beyond_counting_are_refused_before_memory_is_taken(layer):
    with time_limit(2), pytest.raises(ValueError, match=r"would have a weight of \(.*\), and at most 2,147,483,647"):
        layer.build((None, 32, 32, 1024))


@pytest.mark.parametrize("name", ["momentum", "learning_rate", "weight_decay"])
def test_rates(name):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    for value in [-1, 1j, object(), np.array([1, 2]), math.inf, math.nan, "8", b"4", [], None, 10**400]:
        with pytest.raises(ValueError, match=rf"^`{name}` \(="):
            training.compile_model(model, 10, **{name: value})


def test_progress():
    for value in [-1, 2, 1j, object(), np.array([0, 1]), math.inf, math.nan, "0", b"4", [], None, 10**5000]:
        with pytest.raises(ValueError, match=r"^`progress` \(="):
            drop_plans.stage_from_progress(value, 4)


@pytest.mark.parametrize("name", ["mean", "std"])
def test_constants(name):
    for value in [1, [1j], ["0.5"], [object()], [10**400], [np.array([1, 2])], np.array([3 + 4j]), [math.nan]]:
        with pytest.raises(ValueError, match=rf"^`{name}` \(="):
            datasets.load_arrays("digits", **{name: value})


def test_folders_that_are_no_paths():
    for value in [1, 1j, object(), b"folder", [], "a\0b"]:
        with pytest.raises(ValueError, match=r"^`data_dir` \(="):
            datasets.load_arrays("digits", data_dir=value)
        with pytest.raises(ValueError, match=r"^`name` \(="):
            datasets.load_arrays(value)


@pytest.mark.parametrize(
    "layer",
    [
        layers.GroupConv2D(8, 3),
        layers.LearnedGroupConv2D(8, 1),
        layers.CondenseDense(8),
        layers.SparseFeatureReactivation(8),
        layers.ChannelScatterAdd(range(8), 8),
    ],
    ids=lambda layer: type(layer).__name__,
)
@pytest.mark.parametrize("dtype", ["complex64", "complex128", str, object, "datetime64[s]"])
def test_inputs_that_are_no_real_numbers(layer, dtype):
    with time_limit(2), pytest.raises(ValueError, match=r"must be real numbers|Failed to convert"):
        layer(np.zeros(IMAGES.shape, dtype))


@pytest.mark.parametrize("shape", [None, 3, [4], [10**12, 1, 1, 1], [2**16, 2**16, 2**16, 3], [1, 1, 1, -1], "abcd"])
def test_a_config_that_claims_all_memory(shape):
    config = layers.AugmentedImages(np.zeros((2, 4, 4, 1), "uint8"), [0.0], [1.0]).get_config()
    with time_limit(2), pytest.raises(ValueError, match=r"^`images_shape` \(="):
        layers.AugmentedImages.from_config(config | {"images_shape": shape})


@pytest.mark.slow
def test_images_that_fit_into_no_memory():
    with time_limit(5), pytest.raises(ValueError, match=r"^`image_size` \(=\(16384, 16384\)\) must be such that 14"):
        datasets.load_arrays("digits", image_size=16384, channels=3)
