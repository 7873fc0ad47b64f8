"""Layers that move channels."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensors import array, numpy_of

from keras_condense.layers import (
    ChannelIndex,
    ChannelScatterAdd,
    ChannelShuffle,
)
from keras_condense.tflite import export_tflite

pytest.importorskip("tensorflow")


def test_index_and_shuffle_of_numbers_an_eye_can_check():
    x = np.arange(12, dtype="float32").reshape(2, 6)
    np.testing.assert_array_equal(numpy_of(ChannelIndex([5, 0, 0])(x)), [[5, 0, 0], [11, 6, 6]])
    np.testing.assert_array_equal(numpy_of(ChannelShuffle(3)(x)), [[0, 2, 4, 1, 3, 5], [6, 8, 10, 7, 9, 11]])
    np.testing.assert_array_equal(numpy_of(ChannelShuffle(2)(x))[0], [0, 3, 1, 4, 2, 5])


@given(st.integers(1, 5), st.integers(1, 5))
def test_shuffling_back_restores(groups, per_group):
    x = array(2, 3, groups * per_group)
    shuffled = ChannelShuffle(groups)(x)
    np.testing.assert_array_equal(numpy_of(ChannelShuffle(per_group)(shuffled)), x)


def test_loaded_indices_are_what_the_config_says(tmp_path):
    model = keras.Sequential([keras.Input((4,)), ChannelIndex([0, 1])])
    model.layers[0].set_weights([np.array([3, 2])])
    assert model.layers[0].get_config()["indices"] == [3, 2]
    np.testing.assert_array_equal(numpy_of(keras.models.clone_model(model)(array(1, 4))), array(1, 4)[:, [3, 2]])


@pytest.mark.parametrize("layer", [ChannelIndex([0, 1], name="l"), ChannelScatterAdd([0, 1, 0, 1], 2, name="l")])
@pytest.mark.parametrize("wrong", [4, -1])
def test_indices_beyond_the_channels_are_refused_on_load_and_before_export(layer, wrong, tmp_path):
    layer = type(layer).from_config(layer.get_config())
    model = keras.Sequential([keras.Input((4,)), layer])
    before = numpy_of(layer.indices)
    layer.set_weights([np.full(len(before), wrong)])
    model.save_weights(tmp_path / "wrong.weights.h5")
    message = rf"`indices` of layer 'l' must lie in \[0, [42]\).* and holds {wrong}\. Load weights"
    with pytest.raises(ValueError, match=message):
        export_tflite(model, tmp_path / "model.tflite")
    assert not (tmp_path / "model.tflite").exists()
    layer.set_weights([before])
    with pytest.raises(ValueError, match=message):
        model.load_weights(tmp_path / "wrong.weights.h5")
    np.testing.assert_array_equal(numpy_of(layer.indices), before)


@pytest.mark.parametrize("layer", [ChannelIndex([1, 0]), ChannelShuffle(2), ChannelScatterAdd([0, 1, 0, 1], 3)])
@pytest.mark.parametrize(("given", "out"), [("uint8", "uint8"), ("int32", "int32"), ("float64", "float32")])
def test_channels_are_moved_in_the_dtype_that_is_declared(layer, given, out):
    layer, image = type(layer).from_config(layer.get_config()), keras.Input((4,), dtype=given)
    model = keras.Model(image, layer(image))
    assert model.output.dtype == out
    assert keras.backend.standardize_dtype(model(np.ones((1, 4), given)).dtype) == out


def test_booleans_have_no_sum():
    with pytest.raises(ValueError, match=r"`inputs` \(of dtype bool\) of layer 'l' must be numbers.*ops.cast"):
        ChannelScatterAdd([0, 1], 2, name="l")(np.ones((1, 2), bool))
