"""`load_arrays` and the files that it reads, against `load` and NumPy."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from made_images import made_of

from keras_condense import datasets
from keras_condense.datasets.pixels import fit_pixels


@pytest.fixture(scope="module")
def digits():
    return datasets.load_arrays("digits")


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


@pytest.mark.parametrize("shape", [(16, 16, 1), (8, 8, 3), (12, 20, 1), (3, 5, 1), (70, 7, 3), (1, 1, 1)])
@pytest.mark.parametrize("size", [(8, 8), (9, 13)])
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_fitted_as_tensorflow_fits_them(shape, size, channels):
    images = np.random.default_rng(1).integers(0, 256, (4, *size, channels), dtype="uint8")
    expected = tf.constant(images)
    if channels != shape[-1]:
        expected = (tf.image.rgb_to_grayscale if channels == 3 else tf.image.grayscale_to_rgb)(expected)
    resized = tf.image.resize(expected, shape[:2], antialias=True)
    np.testing.assert_array_equal(
        fit_pixels(images, shape), tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)
    )


def test_representative_data_are_plain_training_images_of_all_classes(digits):
    batches = digits.representative_data(60)
    assert {(batch.shape, batch.dtype.name) for batch in batches} == {((1, 16, 16, 1), "float32")}
    labels = {image.tobytes(): label for image, label in zip(digits.normalize(digits.train_images),
                                                             digits.train_labels, strict=True)}  # fmt: skip
    assert {labels[batch.tobytes()] for batch in batches} == set(range(10))
    with pytest.raises(ValueError, match=r"`n` \(=1438\) must be at most `train_size` \(=1437\)"):
        digits.representative_data(1438)


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
    assert data.mean == datasets.IMAGE_DEFAULTS["mnist"].mean
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
    with pytest.raises(ValueError, match=r"must be in an existing folder"):
        digits.save(tmp_path / "none" / "digits.npz")
    data = datasets.load_arrays("digits", validation_fraction=0.1)
    with pytest.raises(
        ValueError, match=r"`validation_images` \(144 of them\) must be None to save .* Load it without"
    ):
        data.save(tmp_path / "digits.npz")
    assert not list(tmp_path.iterdir())


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
        ({"name": "digitz"}, r"`name` \(='digitz'\) must be 'digits', .* a name of .*Did you mean 'digits'"),
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
