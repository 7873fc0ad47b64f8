"""Arrays for training on any backend: against `load`, NumPy and the input pipeline."""

import dataclasses
import itertools
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_condense import datasets
from keras_condense.datasets import Augmentation, ImageArrays, examples, pipeline
from keras_condense.datasets.pixels import fit_pixels
from keras_condense.layers import AugmentedImages


@pytest.fixture(scope="module")
def digits():
    return datasets.load_arrays("digits")


def made_of(size=37, shape=(5, 4, 3), **options):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (size, *shape), dtype="uint8"), rng.integers(0, 3, size)
    options = {
        "name": "made",
        "train_images": images,
        "train_labels": labels,
        "test_images": images[:9],
        "test_labels": labels[:9],
        "class_names": ("a", "b", "c"),
        "batch_size": 8,
        "mean": (0.5,) * shape[-1],
        "std": (0.25,) * shape[-1],
        "augmentation": Augmentation(pad=2, flip=True),
    } | options
    return ImageArrays(**options)


# beside `load`


def test_digits_are_those_of_load(digits):
    data = datasets.load("digits")
    for name in ("name", "class_names", "image_shape", "train_size", "test_size", "mean", "std", "augmentation"):
        assert getattr(digits, name) == getattr(data, name)
    assert (digits.train_images.dtype, digits.train_labels.dtype) == (np.uint8, np.int32)
    for ours, theirs in zip(digits.test_arrays(), data.test_arrays(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert (data.steps_per_epoch, digits.steps_per_epoch) == (23, 22)  # 1437 images: the last batch is dropped


def test_the_same_images_are_held_out(digits):
    ours = datasets.load_arrays("digits", validation_fraction=0.1, split_seed=3)
    theirs = datasets.load("digits", validation_fraction=0.1, split_seed=3).validation
    images, labels = (np.concatenate(parts) for parts in zip(*theirs.as_numpy_iterator(), strict=True))
    np.testing.assert_allclose(ours.normalize(ours.validation_images), images, atol=1e-6)
    np.testing.assert_array_equal(ours.validation_labels, labels)
    assert (ours.train_size, ours.validation_size) == (digits.train_size - 144, 144)


@pytest.mark.parametrize("shape", [(16, 16, 1), (8, 8, 3), (12, 20, 1), (3, 5, 1), (32, 7, 3)])
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_fitted_as_tensorflow_fits_them(shape, channels):
    images = np.random.default_rng(1).integers(0, 256, (4, 8, 8, channels), dtype="uint8")
    ours, theirs = fit_pixels(images, shape), examples.to_pixels(images, shape).numpy()
    difference = np.abs(ours.astype(int) - theirs.astype(int))
    # float32 sums in another order fall to either side of a half; a gray that does so is then resized
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.03
    if shape == (16, 16, 1) and channels == 1:  # doubling has weights of quarters: exact
        np.testing.assert_array_equal(ours, theirs)


def test_representative_data_are_plain_training_images_of_all_classes(digits):
    batches = digits.representative_data(60)
    assert {(batch.shape, batch.dtype.name) for batch in batches} == {((1, 16, 16, 1), "float32")}
    labels = {image.tobytes(): label for image, label in zip(digits.normalize(digits.train_images),
                                                             digits.train_labels, strict=True)}  # fmt: skip
    assert {labels[batch.tobytes()] for batch in batches} == set(range(10))
    with pytest.raises(ValueError, match=r"`n` \(=1438\) must be at most `train_size` \(=1437\)"):
        digits.representative_data(1438)


# what an epoch shows


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 400), pad=st.integers(0, 4), flip=st.booleans())
def test_an_epoch_shows_images_once_in_any_crop(seed, epoch, pad, flip):
    data = made_of(seed=seed, augmentation=Augmentation(pad, flip))
    draws = data.draws(epoch)
    assert draws.shape == (4, 8, 4)
    assert draws.dtype == np.int32
    indices, rows, columns, flips = draws.reshape(-1, 4).T
    assert len(set(indices)) == 32
    assert set(indices) <= set(range(37))
    for offsets in (rows, columns):
        assert set(offsets) <= set(range(2 * pad + 1))
    assert set(flips) <= ({0, 1} if flip else {0})


def test_draws_repeat_and_differ_between_epochs_and_seeds():
    data = made_of()
    np.testing.assert_array_equal(data.draws(5), made_of().draws(5))
    for other in (data.draws(6), made_of(seed=1).draws(5)):
        assert not np.array_equal(data.draws(5), other)
    # by the example, whatever the batch
    by_index = {row[0]: row.tolist() for row in data.draws(5).reshape(-1, 4)}
    for row in made_of(batch_size=37).draws(5).reshape(-1, 4):
        assert by_index.get(row[0], row.tolist()) == row.tolist()


def test_draws_are_the_same_for_ever():
    """Or a run that goes on with another version of NumPy or of this package would see other batches."""
    assert made_of(seed=7).draws(3)[0, :3].tolist() == [[13, 3, 0, 0], [17, 0, 0, 1], [23, 4, 1, 0]]


def test_all_crops_are_equally_likely(digits):
    data = dataclasses.replace(digits, augmentation=Augmentation(1, True))
    rows, columns, flips = np.concatenate([data.draws(epoch).reshape(-1, 4)[:, 1:] for epoch in range(20)]).T
    counts = np.bincount(6 * rows + 2 * columns + flips, minlength=18)
    expected = counts.sum() / 18
    assert ((counts - expected) ** 2 / expected).sum() < 40.8  # chi squared of 17 degrees, one in a thousand


# the layer


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


def test_the_layer_equals_the_input_pipeline():
    data = made_of(300, (9, 7, 3))
    draws = data.draws(2).reshape(-1, 4)
    images = pipeline.crop(data.train_images[draws[:, 0]], draws[:, 1:3], 2)
    expected = pipeline.normalize(pipeline.flip(images, draws[:, 3] == 1), data.mean, data.std)
    outputs = AugmentedImages(data.train_images, data.mean, data.std, 2)(draws)
    np.testing.assert_allclose(ops.convert_to_numpy(outputs), expected, rtol=1e-6, atol=1e-6)


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
    with pytest.raises(ValueError, match=r"got inputs of shape \(None, 3\), and expects \(batch, 4\): index, row"):
        AugmentedImages(np.zeros((2, 4, 4, 1), "uint8"), [0.5], [1.0])(keras.Input((3,), dtype="int32"))


# files


def test_a_saved_file_holds_the_same_images_in_the_same_order(digits, tmp_path):
    digits.save(tmp_path / "digits.npz")
    again = datasets.load_arrays(tmp_path / "digits.npz")
    for name in ("name", "class_names", "mean", "std", "augmentation", "steps_per_epoch", "checksum"):
        assert getattr(again, name) == getattr(digits, name)
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        np.testing.assert_array_equal(getattr(again, name), getattr(digits, name))
    shuffled = dataclasses.replace(digits, train_images=digits.train_images[::-1])
    assert shuffled.checksum != digits.checksum
    assert [path.name for path in tmp_path.iterdir()] == ["digits.npz"]
    streamed = datasets.load(tmp_path / "digits.npz")  # tf.data takes it too
    np.testing.assert_allclose(streamed.test_arrays()[0], digits.test_arrays()[0], atol=1e-6)


def write(path, **changes):
    images, labels = np.random.default_rng(0).integers(0, 256, (20, 6, 6), dtype="uint8"), np.arange(20)[:, None] % 4
    arrays = {"x_train": images, "y_train": labels, "x_test": images[:8], "y_test": labels[:8]} | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def test_a_file_of_ones_own(tmp_path):
    data = datasets.load_arrays(write(tmp_path / "mnist.npz"), batch_size=8)
    assert (data.name, data.image_shape, data.class_names) == ("mnist", (6, 6, 1), ("0", "1", "2", "3"))
    assert data.mean == datasets.RECIPES["mnist"].mean
    assert data.train_labels.shape == (20,)
    data = datasets.load_arrays(str(write(tmp_path / "mine.npz")), batch_size=8, image_size=12, channels=3)
    assert data.image_shape == (12, 12, 3)
    assert data.mean == (0.485, 0.456, 0.406)
    data = datasets.load_arrays(tmp_path / "mine.npz", batch_size=4, validation_fraction=0.2)
    assert (data.train_size, data.validation_size) == (16, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_test": None, "y_train": None}, r"must hold x_train, y_train, x_test, y_test, and lacks y_train, x_test\."),
        (
            {"x_train": np.zeros((20, 6, 6))},
            r"x_train and y_train\) must hold images of uint8, .*holds float64 of \(20",
        ),
        ({"x_train": np.zeros((20, 6, 6, 2), "uint8")}, r"must hold images of uint8, .* holds uint8 of \(20, 6, 6, 2"),
        ({"x_train": np.zeros((0, 6, 6), "uint8")}, r"must hold images of uint8"),
        ({"y_train": np.arange(19)}, r"a class number for each of its 20 images, and holds int64 of \(19,\)"),
        ({"y_train": np.zeros(20)}, r"a class number for each of its 20 images, and holds float64"),
        ({"y_test": np.arange(8) - 1}, r"x_test and y_test\) must hold a class number .*from -1 to 6\. Number"),
        ({"x_test": np.zeros((8, 5, 6), "uint8")}, r"images of one size, and they are \(6, 6, 1\) and \(5, 6, 1\)\."),
        ({"class_names": np.array(["a", "b", "c"])}, r"a name for each class in class_names, and has 3 for labels up"),
        ({"x_train": np.array([None])}, r"must be a whole \.npz file of numbers, and can't be read"),
    ],
)
def test_files_of_something_else(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        datasets.load_arrays(write(tmp_path / "mine.npz", **changes))


def test_files_that_can_not_be_read(tmp_path):
    with pytest.raises(ValueError, match=r"`name` \(='.*none\.npz'\) must be an existing file\. Check the name"):
        datasets.load_arrays(tmp_path / "none.npz")
    path = write(tmp_path / "mine.npz")
    for content in (path.read_bytes()[:1000], b"no archive", b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"must be a whole \.npz file of numbers, and can't be read \(.*Make it"):
            datasets.load_arrays(path)
    with open(path, "wb") as file:  # a single array
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match=r"must be a whole \.npz file of numbers"):
        datasets.load_arrays(path)


def test_what_can_not_be_saved(digits, tmp_path):
    with pytest.raises(ValueError, match=r"`path` \(='digits\.npy'\) must end in '\.npz'\. Name it"):
        digits.save("digits.npy")
    with pytest.raises(ValueError, match=r"must lie in an existing folder"):
        digits.save(tmp_path / "none" / "digits.npz")
    data = datasets.load_arrays("digits", validation_fraction=0.1)
    with pytest.raises(
        ValueError, match=r"`validation_images` \(144 of them\) must be None to save .* Load it without"
    ):
        data.save(tmp_path / "digits.npz")
    assert not list(tmp_path.iterdir())


# without TensorFlow


@pytest.fixture(params=["tensorflow", "tensorflow_datasets"])
def missing(request, monkeypatch):
    monkeypatch.setitem(sys.modules, request.param, None)
    return request.param


def test_names_of_keras_datasets(missing, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype="uint8")
    labels = np.arange(20)[:, None] % 10
    monkeypatch.setattr(keras.datasets.cifar10, "load_data", lambda: ((images, labels), (images[:5], labels[:5])))
    data = datasets.load_arrays("cifar10", batch_size=8)
    np.testing.assert_array_equal(data.train_images, images)
    np.testing.assert_array_equal(data.test_labels, labels[:5, 0])
    assert (data.name, data.mean, data.class_names) == (
        "cifar10", datasets.RECIPES["cifar10"].mean, tuple("0123456789"),
    )  # fmt: skip
    assert data.augmentation == Augmentation(4, True)
    with pytest.raises(ValueError, match=r"`download` \(=False\) must be True for 'cifar10' where tensorflow-datasets"):
        datasets.load_arrays("cifar10", download=False)


@pytest.mark.parametrize("error", [Exception("URL fetch failure on https://..."), TimeoutError("timed out")])
def test_keras_datasets_without_a_network(missing, monkeypatch, error):
    def load_data():
        raise error

    monkeypatch.setattr(keras.datasets.mnist, "load_data", load_data)
    with pytest.raises(ConnectionError, match=r"`name` \(='mnist'\) is not in the cache .*network \(.*\)\. Save it"):
        datasets.load_arrays("mnist")


def test_digits_and_files_do_without_tensorflow(digits, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    assert datasets.load_arrays("digits").checksum == digits.checksum
    digits.save(tmp_path / "mine.npz")
    assert datasets.load_arrays(tmp_path / "mine.npz").checksum == digits.checksum
    for name in ("svhn_cropped", str(tmp_path), "digitz"):
        with pytest.raises(ImportError, match=r"must be 'digits', an \.npz file or one of 'cifar10', .* TensorFlow is"):
            datasets.load_arrays(name)


# arguments


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, r"`batch_size` \(=0\) must be a positive integer"),
        ({"batch_size": 1438}, r"`batch_size` \(=1438\) must be at most the 1437 training images, since all"),
        ({"seed": -1}, r"`seed` \(=-1\) must be an integer in \[0, 2\*\*32\)"),
        ({"image_size": 0}, r"`image_size` \(=0\) must be a positive integer"),
        ({"channels": 2}, r"`channels` \(=2\) must be one of"),
        ({"augment": 4}, r"`augment` \(=4\) must be True, False or an Augmentation"),
        ({"mean": (0.1, 0.2)}, r"`mean` \(=\(0\.1, 0\.2\)\) must be"),
        ({"validation_fraction": 1.0}, r"`validation_fraction` \(=1\.0\) must be"),
        ({"name": "digitz"}, r"`name` \(='digitz'\) must be 'digits', a name of .*Did you mean 'digits'"),
        ({"name": None}, r"`name` \(=None\) must be a name or a folder"),
    ],
)
def test_arguments_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        datasets.load_arrays(**options)


def test_arrays_of_ones_own_are_checked():
    with pytest.raises(ValueError, match=r"`train_images` and `train_labels` must hold images of uint8"):
        made_of(train_images=np.zeros((37, 5, 4, 3)))
    with pytest.raises(ValueError, match=r"`test_images` and `test_labels` must hold a class number for each of its 9"):
        made_of(test_labels=np.zeros(8, int))
    with pytest.raises(ValueError, match=r"`epoch` \(=-1\) must be an integer"):
        made_of().draws(-1)


# smaller crops, and flips that alternate


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


def test_flips_that_alternate_show_both_sides_of_every_image_in_two_epochs():
    data = made_of()
    sides = [dict(data.draws(epoch, alternate_flips=True).reshape(-1, 4)[:, [0, 3]].tolist()) for epoch in range(4)]
    for first, second in itertools.pairwise(sides):
        both = first.keys() & second.keys()
        assert both
        assert all(first[index] != second[index] for index in both)
    assert set(sides[0].values()) == {0, 1}
    assert not dataclasses.replace(data, augmentation=None).draws(1, alternate_flips=True)[..., 3].any()


def test_tf_data_crops_and_alternates_alike(digits):
    data = datasets.load("digits", batch_size=100, augment=Augmentation(pad=1, flip=True))
    plain = datasets.load_arrays("digits", batch_size=100)
    images = plain.normalize(plain.train_images)[..., 0]
    windows = np.lib.stride_tricks.sliding_window_view(images, (15, 15), axis=(1, 2))
    known = {window.tobytes(): index for index, rows in enumerate(windows) for row in rows for window in row}
    mirrored = {
        np.ascontiguousarray(w[:, ::-1]).tobytes(): i for i, rows in enumerate(windows) for r in rows for w in r
    }
    seen = []
    for epoch in (0, 1):
        batches = data.training(epoch, epoch + 1, crop_size=(15, 15), alternate_flips=True)
        crops = np.concatenate([batch.numpy() for batch, _ in batches])
        assert crops.shape == (1437, 15, 15, 1)
        keys = [crop[..., 0].tobytes() for crop in crops]
        assert all(key in known or key in mirrored for key in keys)
        seen.append(({known[k] for k in keys if k in known}, {mirrored[k] for k in keys if k in mirrored}))
    # what was seen as it is comes mirrored next, but for crops that are their own mirror image
    assert len(seen[0][0] - seen[1][1]) < 15
    assert len(seen[0][1] - seen[1][0]) < 15
    assert 600 < len(seen[0][0]) < 850


@pytest.mark.parametrize("crop_size", [(6, 4), (0, 2), 3, (2.0, 2)])
def test_crops_that_do_not_fit(crop_size):
    for act in (
        lambda: made_of().draws(0, crop_size=crop_size),
        lambda: AugmentedImages(np.zeros((1, 5, 4, 3), "uint8"), [0.0] * 3, [1.0] * 3, crop_size=crop_size),
    ):
        with pytest.raises(ValueError, match=r"`crop_size` \(=.*\) must be \(height, width\), at most the images'"):
            act()
