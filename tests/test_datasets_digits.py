"""The digits against scikit-learn and Pillow, splits, and the arguments of `load`."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from made_images import arrays
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from keras_condense import datasets
from keras_condense.datasets import Augmentation


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits")


def test_digits_are_scikit_learns_and_the_test_images_are_fixed(digits):
    data = load_digits()
    _, held = train_test_split(np.arange(1797), test_size=360, stratify=data.target, random_state=0)
    held = np.sort(held)
    native = datasets.load("digits", image_size=8, augment=False)
    images, labels = native.test_arrays()
    assert images.shape == (360, 8, 8, 1)
    np.testing.assert_array_equal(labels, data.target[held])
    pixels = np.rint(data.images[held] * (255 / 16)) / 255  # 17 levels of gray in 8 bits
    np.testing.assert_allclose(images[..., 0], (pixels - native.mean) / native.std, atol=1e-6)
    np.testing.assert_array_equal(digits.test_arrays()[1], labels)
    # the same in every version of scikit-learn, or published accuracies would not compare
    assert held[:5].tolist() == [21, 24, 28, 34, 35]
    assert held.sum() == 337944


def test_digits_are_scaled_as_pillow_scales_them(digits):
    gray = np.rint(load_digits().images * (255 / 16)).astype("uint8")
    _, held = train_test_split(np.arange(1797), test_size=360, stratify=load_digits().target, random_state=0)
    expected = [Image.fromarray(gray[i]).resize((16, 16), Image.Resampling.BILINEAR) for i in np.sort(held)]
    found = digits.test_arrays()[0][..., 0] * digits.std[0] + digits.mean[0]
    np.testing.assert_allclose(found * 255, np.stack(expected), atol=1.01)  # Pillow rounds after each direction


def test_digits_facts(digits):
    assert (digits.train_size, digits.test_size, digits.validation_size) == (1437, 360, 0)
    assert digits.class_names == tuple("0123456789")
    assert digits.image_shape == (16, 16, 1)
    assert digits.steps_per_epoch == 23
    assert int(digits.train.cardinality()) == 23
    assert int(digits.test.cardinality()) == 6
    assert digits.validation is None
    assert not digits.augmentation.flip
    for dataset in (digits.train, digits.test, digits.training(1)):
        assert dataset.element_spec == (tf.TensorSpec((None, 16, 16, 1)), tf.TensorSpec((None,), tf.int32))


def test_the_tables_digits_constants_are_those_of_the_training_images():
    plain = datasets.load("digits", augment=False, mean=(0.0,), std=(1.0,))
    images, labels = arrays(plain.train)
    row = datasets.IMAGE_DEFAULTS["digits"]
    assert images.mean(dtype="float64") == pytest.approx(row.mean[0], abs=5e-5)
    assert images.std(dtype="float64") == pytest.approx(row.std[0], abs=5e-5)
    assert np.bincount(labels).min() > 130


def test_gray_becomes_rgb_on_request():
    data = datasets.load("digits", channels=3, image_size=(8, 10))
    assert data.image_shape == (8, 10, 3)
    images, _ = data.test_arrays()
    np.testing.assert_array_equal(images[..., 0], images[..., 2])


def test_fit_takes_train_and_test_as_they_are(digits):
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(digits.train, epochs=2, validation_data=digits.test, shuffle=False, verbose=0)
    assert history.history["val_accuracy"][-1] > 0.6


# splits and helpers


def test_validation_images_leave_the_training_set():
    data = datasets.load("digits", validation_fraction=0.1, augment=False)
    assert (data.train_size, data.validation_size) == (1293, 144)
    train, validation = arrays(data.train)[0], arrays(data.validation)[0]
    whole = arrays(datasets.load("digits", augment=False).train)[0]

    def rows(images):
        return sorted(image.tobytes() for image in images)

    assert rows(np.concatenate([train, validation])) == rows(whole)
    other_seed = datasets.load("digits", validation_fraction=0.1, augment=False, seed=5)
    np.testing.assert_array_equal(arrays(other_seed.validation)[0], validation)


def test_representative_data_are_plain_training_images_of_all_classes(digits):
    batches = digits.representative_data(60)
    assert {(batch.shape, batch.dtype.name) for batch in batches} == {((1, 16, 16, 1), "float32")}
    known = {image.tobytes() for image in arrays(datasets.load("digits", augment=False).train)[0]}
    assert all(batch[0].tobytes() in known for batch in batches)
    np.testing.assert_array_equal(np.concatenate(batches), np.concatenate(digits.representative_data(60)))


def test_drop_remainder():
    data = datasets.load("digits", drop_remainder=True)
    assert data.steps_per_epoch == 22
    assert {len(labels) for _, labels in data.train} == {64}
    assert len(data.test_arrays()[1]) == 360


# arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": 3}, r"`name` \(=3\) must be a name or a folder\. Use"),
        ({"name": ""}, r"`name` \(=''\) must be a name or a folder\. Use"),
        ({"batch_size": 0}, r"`batch_size` \(=0\) must be a positive integer\. Use 64"),
        ({"batch_size": 2.0}, r"`batch_size` \(=2\.0\) must be a positive integer\. Use 64"),
        ({"batch_size": 2000, "drop_remainder": True}, r"`batch_size` \(=2000\) must be at most the 1437 .*Use"),
        ({"image_size": -8}, r"`image_size` \(=-8\) must be a positive integer\. Use 32"),
        ({"image_size": (8, 8, 1)}, r"`image_size` \(=\(8, 8, 1\)\) must be a side length or \(height, width\)\. Use"),
        ({"channels": 4}, r"`channels` \(=4\) must be one of None, 1, 3\. Leave it out"),
        ({"augment": "flip"}, r"`augment` \(='flip'\) must be True, False or an Augmentation\. Use"),
        ({"mean": (0.1, 0.2)}, r"`mean` \(=\(0\.1, 0\.2\)\) must be a number for each .* 1 channels\. Leave"),
        ({"std": (0.0,)}, r"`std` \(=\(0\.0,\)\) must be above 0 .*Leave"),
        ({"validation_fraction": 1.0}, r"`validation_fraction` \(=1\.0\) must be a number in \[0, 1\)\. Use"),
        ({"validation_fraction": 0.001}, r"`validation_fraction` asks for 1 of 1437 .*Give another"),
        ({"test_fraction": 0}, r"`test_fraction` \(=0\) must be above 0\. Use"),
        ({"test_fraction": "a"}, r"`test_fraction` \(='a'\) must be a number in \[0, 1\)\. Use"),
        ({"seed": -1}, r"`seed` \(=-1\) must be an integer in \[0, 2\*\*32\)\. Use"),
        ({"split_seed": 0.5}, r"`split_seed` \(=0\.5\) must be an integer in .*Use"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        datasets.load(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1,), r"`initial_epoch` \(=-1\) must be an integer in .*Use 0"),
        ((2, 2), r"`epochs` \(=2\) must be above `initial_epoch` \(=2\).*Leave it out"),
        ((0, 1.5), r"`epochs` \(=1\.5\) must be a positive integer\. Leave"),
    ],
)
def test_epochs_out_of_range(digits, arguments, message):
    with pytest.raises(ValueError, match=message):
        digits.training(*arguments)


@pytest.mark.parametrize("n", [0, 1438, 1.5])
def test_representative_data_out_of_range(digits, n):
    with pytest.raises(ValueError, match=r"`n` \(=.*must be.*100 are enough"):
        digits.representative_data(n)


@pytest.mark.parametrize(("arguments", "name"), [({"pad": 1.5}, "pad"), ({"flip": 1}, "flip")])
def test_augmentation_out_of_range(arguments, name):
    with pytest.raises(ValueError, match=rf"`{name}` \(=.*must be.*Use"):
        Augmentation(**arguments)


@pytest.mark.parametrize("name", ["drop_remainder", "download", "skip_broken"])
@pytest.mark.parametrize("value", ["yes", 2, None])
def test_switches_are_true_or_false(name, value):
    with pytest.raises(ValueError, match=rf"`{name}` \(=.*\) must be one of True, False"):
        datasets.load("digits", **{name: value})
