"""A layer of any arguments computes the same masked, condensed and as a .tflite file."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tflite_networks import images, reference, relative_difference

from keras_condense.condensation import condense
from keras_condense.layers import CondenseDense, GroupConv2D, LearnedGroupConv2D, condensable_layers
from keras_condense.tflite import export_tflite, run_tflite

pytestmark = pytest.mark.slow  # all of it, together


pytest.importorskip("tensorflow")

SHARED = {"use_bias": st.booleans(), "activation": st.sampled_from([None, "relu", "sigmoid", "softmax"])}
CONVOLUTION = {
    "groups": st.sampled_from([1, 2, 3, 4]),
    "multiple": st.integers(2, 3),  # Keras warns of a softmax over one channel
    "kernel_size": st.sampled_from([1, 2, 3, (3, 2)]),
    "strides_and_dilation": st.sampled_from([(1, 1), (2, 1), ((1, 2), 1), (1, 2)]),
    "padding": st.sampled_from(["valid", "same"]),
    "channels": st.integers(1, 3),  # times what must divide them
}
FACTOR = {"condense_factor": st.sampled_from([1, 2, 4, 8])}


def convolution(kind, groups, multiple, strides_and_dilation, **arguments):
    strides, dilation = strides_and_dilation
    return kind(groups * multiple, strides=strides, dilation_rate=dilation, groups=groups, **arguments)


def assert_parity(layer, *shape):
    """Masked and condensed agree to 1e-5, the file to 1e-4 of the largest output."""
    model = keras.Sequential([keras.Input(shape), layer])
    random = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign(random.normal(size=weight.shape) * 0.5)
    for learned in condensable_layers(model):
        learned.condense_to(learned.final_stage)
    inputs = images(2, *shape)
    expected, small = reference(model, inputs), condense(model)
    assert not condensable_layers(small)
    np.testing.assert_allclose(reference(small, inputs), expected, rtol=1e-5, atol=1e-5)
    actual = run_tflite(export_tflite(model), inputs)
    assert actual.shape == expected.shape
    assert relative_difference(actual, expected) < 1e-4


@given(st.fixed_dictionaries(CONVOLUTION | FACTOR | SHARED))
@settings(max_examples=12)
def test_any_learned_convolution(arguments):
    channels = arguments.pop("channels") * arguments["condense_factor"]
    assert_parity(convolution(LearnedGroupConv2D, **arguments), 6, 7, channels)


@given(st.fixed_dictionaries(CONVOLUTION | SHARED))
@settings(max_examples=12)
def test_any_group_convolution(arguments):
    channels = arguments.pop("channels") * arguments["groups"]
    assert_parity(convolution(GroupConv2D, **arguments), 6, 7, channels)


@given(st.integers(2, 9), st.integers(1, 4), st.fixed_dictionaries(FACTOR | SHARED))
@settings(max_examples=10)
def test_any_classifier(units, multiple, arguments):
    assert_parity(CondenseDense(units, **arguments), multiple * arguments["condense_factor"])
