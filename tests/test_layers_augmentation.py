"""The layer that holds images and crops them, against NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from made_images import made_of

from keras_condense.augmenting import cut
from keras_condense.layers import AugmentedImages


def cut_by_numpy(images, draws, pad, mean, std):
    padded = np.pad(images, [(0, 0), (pad, pad), (pad, pad), (0, 0)])
    height, width = images.shape[1:3]
    windows = [padded[i, row : row + height, column : column + width][:, :: -1 if flip else 1]
               for i, row, column, flip in draws]  # fmt: skip
    return (np.stack(windows) / 255 - mean) / std


@settings(max_examples=15)
@given(pad=st.integers(0, 5), shape=st.tuples(st.integers(1, 6), st.integers(1, 6), st.sampled_from([1, 3])))
def test_the_layer_equals_numpy(pad, shape):
    rng = np.random.default_rng(pad)
    images = rng.integers(0, 256, (7, *shape), dtype="uint8")
    draws = np.stack([rng.integers(0, limit, 20) for limit in (7, 2 * pad + 1, 2 * pad + 1, 2)], axis=1)
    mean, std = rng.random(shape[-1]), rng.random(shape[-1]) + 0.1
    outputs = AugmentedImages(images, mean, std, pad)(draws.astype("int32"))
    expected = cut_by_numpy(images, draws, pad, mean, std)
    np.testing.assert_allclose(ops.convert_to_numpy(outputs), expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=15)
@given(pad=st.integers(0, 6), data=st.data())
def test_crops_equal_numpys_in_every_library(pad, data):
    images = np.random.default_rng(pad).integers(0, 256, (3, 4, 5, 2), dtype="uint8")
    size = (data.draw(st.integers(1, 4)), data.draw(st.integers(1, 5)))
    limits = (0, 4 + 2 * pad - size[0], 5 + 2 * pad - size[1], 1)
    draws = [[data.draw(st.integers(0, limit)) for limit in limits] for _ in images]
    padded = np.pad(images, [(0, 0), (pad, pad), (pad, pad), (0, 0)])
    expected = [
        image[row : row + size[0], column : column + size[1]][:, :: -1 if mirrored else 1]
        for image, (_, row, column, mirrored) in zip(padded, draws, strict=True)
    ]
    for library in (np, ops, tf.experimental.numpy):
        as_array = ops.convert_to_tensor if library is ops else library.asarray
        windows = cut(as_array(images), as_array(np.array(draws, "int32")), pad, size, library)
        np.testing.assert_array_equal(np.asarray(windows), expected)


def test_images_stay_out_of_files_and_configs(tmp_path):
    data = made_of(2000, (16, 16, 3))
    draws = keras.Input((4,), dtype="int32")
    images = AugmentedImages(data.train_images, data.mean, data.std, 1, name="images")
    model = keras.Model(draws, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(images(draws))))
    assert "keras_condense>AugmentedImages" in model.to_json()
    assert len(model.to_json()) < 5000
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    for name in ("model.keras", "model.weights.h5"):
        assert (tmp_path / name).stat().st_size < 100_000 < data.train_images.nbytes
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.get_layer("images").get_config() == images.get_config()
    rows = data.draws(0)[0]
    black = ops.convert_to_numpy(loaded.get_layer("images")(rows))
    np.testing.assert_allclose(black, -2.0)
    loaded.get_layer("images").images.assign(data.train_images)
    np.testing.assert_array_equal(loaded(rows), model(rows))
    loaded.load_weights(tmp_path / "model.weights.h5")  # which leaves the images
    np.testing.assert_array_equal(loaded(rows), model(rows))


def test_the_layer_trains_nothing_and_computes_in_float32():
    data = made_of()
    layer = AugmentedImages(data.train_images, data.mean, data.std, 2, dtype="mixed_bfloat16")
    outputs = layer(data.draws(0)[0])
    assert outputs.dtype == tf.bfloat16
    exact = AugmentedImages(data.train_images, data.mean, data.std, 2)(data.draws(0)[0])
    np.testing.assert_array_equal(outputs, tf.cast(exact, tf.bfloat16))
    assert not layer.trainable_variables
    assert layer.images.dtype == "uint8"
    assert layer(keras.Input((4,), dtype="int32")).shape == (None, 5, 4, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": np.zeros((2, 4, 4, 1))}, r"`images` \(float64 of shape \(2, 4, 4, 1\)\) must be a NumPy array of"),
        ({"images": np.zeros((2, 4, 4), "uint8")}, r"`images` \(uint8 of shape \(2, 4, 4\)\) must be"),
        ({"images": [[1]]}, r"`images` \(list of shape \(1, 1\)\) must be"),
        ({"pad": -1}, r"`pad` \(=-1\) must be a positive integer or 0\. Use 4"),
        ({"pad": 1.0}, r"`pad` \(=1\.0\) must be"),
        ({"mean": (0.1, 0.2)}, r"`mean` \(=\(0\.1, 0\.2\)\) must be a number for each of the images' 1 channels"),
        ({"mean": None}, r"`mean` \(=None\) must be"),
        ({"std": [0.0]}, r"`std` \(=\[0\.0\]\) must be above 0"),
    ],
)
def test_the_layers_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        AugmentedImages(**{"images": np.zeros((2, 4, 4, 1), "uint8"), "mean": [0.5], "std": [1.0]} | options)


def test_the_layers_inputs():
    with pytest.raises(ValueError, match=r"got inputs of shape \(None, 3\), and expects \(batch, 4\), index, row"):
        AugmentedImages(np.zeros((2, 4, 4, 1), "uint8"), [0.5], [1.0])(keras.Input((3,), dtype="int32"))


def test_smaller_crops_lie_within_the_images_and_reach_every_place():
    data = made_of()  # 5x4 images
    draws = np.concatenate([data.draws(epoch, crop_size=(3, 2)).reshape(-1, 4) for epoch in range(20)])
    assert set(draws[:, 1]) == {0, 1, 2}
    assert set(draws[:, 2]) == {0, 1, 2}
    layer = AugmentedImages(data.train_images, data.mean, data.std, crop_size=(3, 2))
    windows = ops.convert_to_numpy(layer(draws[:50]))
    assert windows.shape == layer.compute_output_shape((50, 4)) == (50, 3, 2, 3)
    for window, (index, row, column, mirrored) in zip(windows, draws[:50], strict=True):
        expected = data.normalize(data.train_images[index, row : row + 3, column : column + 2])
        np.testing.assert_allclose(window, expected[:, ::-1] if mirrored else expected, atol=1e-6)


@pytest.mark.parametrize("crop_size", [(6, 4), (0, 2), 3, (2.0, 2)])
def test_crops_that_do_not_fit(crop_size):
    for act in (
        lambda: made_of().draws(0, crop_size=crop_size),
        lambda: AugmentedImages(np.zeros((1, 5, 4, 3), "uint8"), [0.0] * 3, [1.0] * 3, crop_size=crop_size),
    ):
        with pytest.raises(ValueError, match=r"`crop_size` \(=.*\) must be \(height, width\), at most the images'"):
            act()
