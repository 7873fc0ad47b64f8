"""Data sets against scikit-learn, PIL and NumPy; the training stream against its own definition."""

import os
import pathlib
import socket
import sys

import keras
import numpy as np
import pytest
import requests
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tfds_prepared import prepare

from keras_condense import datasets
from keras_condense.datasets import Augmentation, examples, pipeline, sources

tfds = pytest.importorskip("tensorflow_datasets")


def arrays(dataset):
    images, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def numbered(size=37, shape=(5, 4, 1)):
    """Images that tell which they are by their upper left pixel: their label, which is their index."""
    images = np.random.default_rng(0).integers(0, 256, (size, *shape), dtype="uint8")
    return examples.InMemory(images, np.arange(size))


def stream(source, first=0, last=3, *, batch_size=8, drop_remainder=False, augmentation=None, seed=0):
    epochs = tf.data.Dataset.range(first, last)
    return pipeline.training_stream(
        source,
        batch_size=batch_size,
        drop_remainder=drop_remainder,
        augmentation=augmentation,
        mean=(0.0,),
        std=(1 / 255,),  # gives raw pixel values
        seed=seed,
        epochs=epochs,
        image_shape=(5, 4, 1),
    )


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits")


def paint(path, size=(6, 5), mode="RGB", seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], *bands), dtype="uint8")
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    """train and test, two classes, 3 and 2 images each."""
    for part, count in (("train", 3), ("test", 2)):
        for number, name in enumerate(("cat", "dog")):
            for i in range(count):
                paint(tmp_path / "pets" / part / name / f"{i}.png", seed=100 * number + i + 10 * (part == "test"))
    return tmp_path / "pets"


# digits


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
    row = datasets.RECIPES["digits"]
    assert images.mean(dtype="float64") == pytest.approx(row.mean[0], abs=5e-5)
    assert images.std(dtype="float64") == pytest.approx(row.std[0], abs=5e-5)
    assert np.bincount(labels).min() > 130


def test_gray_becomes_rgb_on_request():
    data = datasets.load("digits", channels=3, image_size=(8, 10))
    assert data.image_shape == (8, 10, 3)
    images, _ = data.test_arrays()
    np.testing.assert_array_equal(images[..., 0], images[..., 2])


# the training stream


@settings(derandomize=True, deadline=None, max_examples=12)
@given(
    batch_size=st.integers(1, 40),
    drop_remainder=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
    epoch=st.integers(0, 400),
)
def test_every_epoch_is_a_permutation(batch_size, drop_remainder, seed, epoch):
    source = numbered()
    batches = list(stream(source, epoch, epoch + 1, batch_size=batch_size, drop_remainder=drop_remainder, seed=seed))
    seen = [int(label) for _, labels in batches for label in labels]
    if drop_remainder:
        assert len(seen) == 37 // batch_size * batch_size
        assert len(set(seen)) == len(seen)
    else:
        assert sorted(seen) == list(range(37))
        assert len(batches) == -(-37 // batch_size)
    for images, labels in batches:
        np.testing.assert_allclose(images, source.images[labels], atol=1e-4)


def test_epochs_and_seeds_differ_and_repeat():
    def order(**arguments):
        return [int(label) for _, labels in stream(numbered(), **arguments) for label in labels]

    three = order(last=3)
    assert three == order(last=3)
    assert three[:37] != three[37:74] != three[74:]
    assert three != order(last=3, seed=1)


@pytest.mark.parametrize("first", [1, 2])
def test_a_resumed_stream_is_the_unbroken_streams_tail(digits, first):
    unbroken = digits.training(0, epochs=3).skip(first * digits.steps_per_epoch)
    resumed = digits.training(first, epochs=3)
    assert int(resumed.cardinality()) == (3 - first) * 23
    for one, other in zip(unbroken.as_numpy_iterator(), resumed.as_numpy_iterator(), strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


def test_the_endless_stream_says_that_it_is_endless(digits):
    endless = digits.training(2)
    assert int(endless.cardinality()) == tf.data.INFINITE_CARDINALITY
    ours, theirs = next(iter(endless)), next(iter(digits.training(2, epochs=3)))
    np.testing.assert_array_equal(ours[0], theirs[0])


def test_an_example_is_cropped_the_same_in_every_batch_size():
    crops = []
    for batch_size in (5, 37):
        images, labels = arrays(stream(numbered(), 4, 5, batch_size=batch_size, augmentation=Augmentation(2, True)))
        crops.append(images[np.argsort(labels)])
    np.testing.assert_array_equal(*crops)


def test_every_crop_is_a_window_of_the_padded_image():
    source, pad = numbered(200, (6, 5, 3)), 2
    images, labels = arrays(stream(source, 0, 1, augmentation=Augmentation(pad, flip=True)))
    padded = np.pad(source.images, [(0, 0), (pad, pad), (pad, pad), (0, 0)])
    found = set()
    for image, label in zip(images, labels, strict=True):
        matches = [
            (row, column, flipped)
            for row in range(2 * pad + 1)
            for column in range(2 * pad + 1)
            for flipped in (False, True)
            if np.allclose(image, padded[label, row : row + 6, column : column + 5][:, :: -1 if flipped else 1])
        ]
        assert len(matches) == 1
        found.update(matches)
    assert len(found) > 45  # of 50 equally likely ones, in 200 draws


@pytest.mark.parametrize("augmentation", [Augmentation(0, False), Augmentation(0, True), Augmentation(1, False)])
def test_augmentation_does_only_what_it_says(augmentation):
    source = numbered(100)
    images, labels = arrays(stream(source, 0, 1, augmentation=augmentation))
    plain = source.images[labels].astype("float32")
    same = np.isclose(images, plain, atol=1e-3).all((1, 2, 3))
    mirrored = np.isclose(images, plain[:, :, ::-1], atol=1e-3).all((1, 2, 3))
    if augmentation.pad:
        assert same.mean() < 0.4
    elif augmentation.flip:
        assert (same | mirrored).all()
        assert 0.3 < mirrored.mean() < 0.7
    else:
        assert same.all()


@settings(derandomize=True, deadline=None, max_examples=15)
@given(pad=st.integers(1, 6), data=st.data())
def test_crop_equals_numpys(pad, data):
    images = np.random.default_rng(pad).integers(0, 256, (3, 4, 5, 2), dtype="uint8")
    offsets = data.draw(st.lists(st.tuples(*[st.integers(0, 2 * pad)] * 2), min_size=3, max_size=3))
    padded = np.pad(images, [(0, 0), (pad, pad), (pad, pad), (0, 0)])
    expected = [image[row : row + 4, column : column + 5] for image, (row, column) in zip(padded, offsets, strict=True)]
    np.testing.assert_array_equal(pipeline.crop(images, offsets, pad), expected)


def test_the_border_is_black_before_normalisation():
    source = examples.InMemory(np.full((50, 4, 4, 1), 255, "uint8"), np.zeros(50, int))
    images, _ = arrays(stream(source, 0, 1, augmentation=Augmentation(2, False)))
    assert set(np.unique(np.round(images))) == {0.0, 255.0}
    data = datasets.load("digits", augment=Augmentation(4, False))
    assert float(arrays(data.train)[0].min()) == pytest.approx(-data.mean[0] / data.std[0])


def test_train_is_shuffled_anew_each_time_it_is_iterated():
    train, again = datasets.load("digits").train, datasets.load("digits").train
    first, second = arrays(train)[1], arrays(train)[1]
    assert not np.array_equal(first, second)
    assert np.array_equal(np.sort(first), np.sort(second))
    np.testing.assert_array_equal(arrays(again)[1], first)
    np.testing.assert_array_equal(arrays(again)[1], second)


class Recorder(keras.layers.Layer):
    """Remembers the sum of every training batch."""

    def __init__(self):
        super().__init__()
        self.sums = []
        self.factor = self.add_weight(shape=(), initializer="ones")

    def call(self, inputs, training=False):
        if training and isinstance(inputs, tf.Tensor) and hasattr(inputs, "numpy"):
            self.sums.append(float(tf.reduce_sum(inputs)))
        return keras.ops.mean(inputs, axis=(1, 2)) * self.factor


@pytest.mark.parametrize("first", [0, 1])
def test_fit_sees_exactly_the_streams_batches(digits, first):
    recorder = Recorder()
    model = keras.Sequential([recorder])
    model.compile("sgd", "mse", run_eagerly=True)
    fit_arguments = {"steps_per_epoch": digits.steps_per_epoch, "shuffle": False, "verbose": 0}
    model.fit(digits.training(first), initial_epoch=first, epochs=2, **fit_arguments)
    expected = [float(tf.reduce_sum(images)) for images, _ in digits.training(first, epochs=2)]
    np.testing.assert_allclose(recorder.sums[-len(expected) :], expected, rtol=1e-5)


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


# folders


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_folder_with_train_and_test(folder, in_memory, monkeypatch):
    if not in_memory:
        monkeypatch.setattr(examples, "IN_MEMORY_BYTES", 0)
    data = datasets.load(folder, batch_size=4)
    assert data.class_names == ("cat", "dog")
    assert data.image_shape == (5, 6, 3)
    assert (data.train_size, data.test_size, data.steps_per_epoch) == (6, 4, 2)
    images, labels = data.test_arrays()
    assert labels.tolist() == [0, 0, 1, 1]
    files = [folder / "test" / name / f"{i}.png" for name in ("cat", "dog") for i in range(2)]
    pixels = np.stack([np.asarray(Image.open(file)) for file in files]) / 255
    expected = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(images, expected, atol=1e-5)
    assert data.augmentation == Augmentation(4, True)
    tail = [batch[0] for batch in data.training(0, epochs=2).skip(2).as_numpy_iterator()]
    for one, other in zip(tail, data.training(1, epochs=2).as_numpy_iterator(), strict=True):
        np.testing.assert_array_equal(one, other[0])


def test_file_and_memory_streams_are_the_same(folder, monkeypatch):
    held = arrays(datasets.load(folder).training(0, epochs=2))
    monkeypatch.setattr(examples, "IN_MEMORY_BYTES", 0)
    read = arrays(datasets.load(folder).training(0, epochs=2))
    np.testing.assert_array_equal(held[0], read[0])
    np.testing.assert_array_equal(held[1], read[1])


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_folder_as_arrays(folder, in_memory, monkeypatch):
    if not in_memory:
        monkeypatch.setattr(examples, "IN_MEMORY_BYTES", 0)
    ours, theirs = datasets.load_arrays(folder, batch_size=4), datasets.load(folder, batch_size=4)
    assert (ours.name, ours.class_names, ours.mean) == (theirs.name, theirs.class_names, theirs.mean)
    assert (ours.image_shape, ours.train_size, ours.steps_per_epoch) == ((5, 6, 3), 6, 1)
    for one, other in zip(ours.test_arrays(), theirs.test_arrays(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_imagenets_val_is_the_test_set(folder):
    (folder / "test").rename(folder / "val")
    assert datasets.load(folder).test_size == 4


def test_a_folder_of_classes_is_split_alike_for_every_seed(tmp_path):
    for number, name in enumerate(("a", "b")):
        for i in range(10):
            paint(tmp_path / name / f"{i}.png", seed=100 * number + i)
    data = datasets.load(tmp_path, test_fraction=0.3)
    assert (data.train_size, data.test_size) == (14, 6)
    images, labels = data.test_arrays()
    assert np.bincount(labels).tolist() == [3, 3]
    np.testing.assert_array_equal(datasets.load(tmp_path, test_fraction=0.3, seed=9).test_arrays()[0], images)
    assert not np.array_equal(datasets.load(tmp_path, test_fraction=0.3, split_seed=1).test_arrays()[0], images)
    with pytest.raises(ValueError, match=r"`test_fraction` asks for 1 of 20 .* at least one example of every class"):
        datasets.load(tmp_path, test_fraction=0.05)


def test_gray_rgb_alpha_and_other_formats_become_one_shape(tmp_path):
    for name in ("a", "b"):
        for i, (mode, ending) in enumerate([("L", "png"), ("RGB", "bmp"), ("RGBA", "png"), ("L", "jpg"), ("L", "GIF")]):
            paint(tmp_path / "train" / name / f"{i}.{ending}", mode=mode, size=(9, 7 + i))
            paint(tmp_path / "test" / name / f"{i}.{ending}", mode=mode, size=(9, 7 + i))
    for channels in (3, 1):
        data = datasets.load(tmp_path, image_size=8, channels=channels)
        assert data.image_shape == (8, 8, channels)
        assert data.test_arrays()[0].shape == (10, 8, 8, channels)
    with pytest.raises(ValueError, match=r"`image_size` \(=None\) must be given .* 5 sizes.*Give one"):
        datasets.load(tmp_path)


def test_foreign_files_are_left_out_with_a_warning(folder):
    (folder / "train" / "cat" / "notes.txt").write_text("cats")
    (folder / "train" / "cat" / ".hidden").write_text("cats")
    with pytest.warns(UserWarning, match=r"1 files in .* are left out.*notes\.txt"):
        data = datasets.load(folder)
    assert data.train_size == 6


# folders that can't be used


def break_images(folder, count):
    for i in range(count):
        path = paint(folder / "train" / "cat" / f"broken{i:02}.png")
        path.write_bytes([path.read_bytes()[:-30], b"", b"no image"][i % 3])


def test_broken_images_are_named_before_training(folder):
    break_images(folder, 12)
    with pytest.raises(ValueError, match=r"12 of its 22 can't: .*broken00\.png.*broken09\.png and 2 more\. Mend") as e:
        datasets.load(folder)
    assert "broken10" not in str(e.value)


def test_broken_images_are_skipped_on_request_only(folder):
    break_images(folder, 3)
    with pytest.warns(UserWarning, match=r"3 of 13 images .* skipped: .*broken00\.png.*broken02\.png\.$"):
        data = datasets.load(folder, skip_broken=True)
    assert data.train_size == 6
    assert np.isfinite(arrays(data.train)[0]).all()


def test_a_class_of_broken_images_only(folder):
    for path in (folder / "train" / "dog").iterdir():
        path.write_bytes(b"no image")
    with (
        pytest.warns(UserWarning, match="3 of 10 images"),
        pytest.raises(ValueError, match=r"all those in \['dog'\] are broken\. Mend them or remove"),
    ):
        datasets.load(folder, skip_broken=True)


def test_an_empty_folder(tmp_path):
    with pytest.raises(ValueError, match=r"must hold a folder of images for each class, and it holds none\. Lay"):
        datasets.load(tmp_path)


def test_images_without_class_folders(tmp_path):
    paint(tmp_path / "0.png")
    with pytest.raises(ValueError, match=r"it holds images without class folders\. Lay"):
        datasets.load(tmp_path)


def test_class_folders_without_images(tmp_path):
    (tmp_path / "cat").mkdir()
    paint(tmp_path / "dog" / "0.png")
    with pytest.raises(ValueError, match=r"must have images in every class folder, .* none in \['cat'\]\. Add"):
        datasets.load(tmp_path)


def test_a_class_missing_in_test(folder):
    (folder / "test" / "dog").rename(folder / "test" / "dgo")
    with pytest.raises(ValueError, match=r"'test' lacks \['dog'\] and has \['dgo'\] in excess\. Add or remove"):
        datasets.load(folder)


def test_an_unreadable_folder(folder, monkeypatch):
    # permissions don't bind root, as whom containers run tests
    iterdir = pathlib.Path.iterdir

    def refuse(path):
        if path.name == "dog":
            raise PermissionError(13, "Permission denied", str(path))
        return iterdir(path)

    monkeypatch.setattr(pathlib.Path, "iterdir", refuse)
    with pytest.raises(ValueError, match=r"must be a folder that can be read, .* \(Permission denied\)\. Change") as e:
        datasets.load(folder)
    assert isinstance(e.value.__cause__, PermissionError)


def test_a_file_is_no_folder(tmp_path):
    with pytest.raises(ValueError, match="or an existing folder"):
        datasets.load(paint(tmp_path / "0.png"))


# TensorFlow Datasets


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A data_dir with small data sets as TFDS prepares them; `cifar10` has the real one's form."""
    folder = tmp_path_factory.mktemp("tfds")
    rng = np.random.default_rng(0)

    def store(title, splits, shape=(32, 32, 3), keys=("image", "label")):
        features = {
            "id": tfds.features.Text(),
            "image": tfds.features.Image(shape=shape),
            "label": tfds.features.ClassLabel(names=["a", "b"]),
        }

        def examples(count):
            for i in range(count):
                drawn = tuple(side or 20 + i % 3 for side in shape)
                yield {"id": str(i), "image": rng.integers(0, 256, drawn, dtype="uint8"), "label": i % 2}

        prepare(folder, title, "3.0.2", features, {name: examples(count) for name, count in splits.items()}, keys)

    store("cifar10", {"train": 50, "test": 20})
    store("only_train", {"train": 40}, shape=(None, None, 3))
    store("no_train", {"test": 4})
    store("no_labels", {"train": 4}, keys=None)
    return folder


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_tfds_name(prepared, in_memory, monkeypatch):
    if not in_memory:
        monkeypatch.setattr(examples, "IN_MEMORY_BYTES", 0)
    data = datasets.load("cifar10", data_dir=prepared, download=False, batch_size=16, validation_fraction=0.2)
    assert (data.train_size, data.validation_size, data.test_size) == (40, 10, 20)
    assert data.class_names == ("a", "b")
    assert data.mean == (0.4914, 0.4824, 0.4467)
    assert data.std == (0.2471, 0.2435, 0.2616)
    assert data.augmentation == Augmentation(4, True)
    theirs = tfds.load("cifar10", data_dir=prepared, download=False, split="test", as_supervised=True)
    images, labels = zip(*theirs.as_numpy_iterator(), strict=True)
    found, found_labels = data.test_arrays()
    np.testing.assert_array_equal(found_labels, labels)
    np.testing.assert_allclose(found, (np.stack(images) / 255 - data.mean) / data.std, atol=1e-5)
    assert np.bincount(arrays(data.validation)[1]).tolist() == [5, 5]
    unbroken = list(data.training(0, epochs=3).skip(2 * data.steps_per_epoch).as_numpy_iterator())
    resumed = list(data.training(2, epochs=3).as_numpy_iterator())
    assert sum(len(labels) for _, labels in resumed) == 40
    for one, other in zip(unbroken, resumed, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


def test_a_tfds_name_as_arrays(prepared):
    options = {"data_dir": prepared, "download": False, "batch_size": 16, "validation_fraction": 0.2}
    ours, theirs = datasets.load_arrays("cifar10", **options), datasets.load("cifar10", **options)
    assert (ours.name, ours.class_names, ours.mean) == (theirs.name, theirs.class_names, theirs.mean)
    assert (ours.train_size, ours.validation_size, ours.test_size) == (40, 10, 20)
    np.testing.assert_allclose(ours.normalize(ours.validation_images), arrays(theirs.validation)[0], atol=1e-6)
    np.testing.assert_allclose(ours.test_arrays()[0], theirs.test_arrays()[0], atol=1e-6)


def test_a_streams_epoch_is_a_permutation_in_another_order(prepared, monkeypatch):
    monkeypatch.setattr(examples, "IN_MEMORY_BYTES", 0)
    data = datasets.load("cifar10", data_dir=prepared, download=False, augment=False)
    epochs = [arrays(data.training(e, epochs=e + 1))[0] for e in range(2)]
    assert not np.array_equal(*epochs)
    assert sorted(i.tobytes() for i in epochs[0]) == sorted(i.tobytes() for i in epochs[1])
    assert len({i.tobytes() for i in epochs[0]}) == 50


@pytest.mark.parametrize("in_memory", [True, False])
def test_global_seeds_make_no_difference(prepared, in_memory, monkeypatch):
    if not in_memory:
        monkeypatch.setattr(examples, "IN_MEMORY_BYTES", 0)
    found = []
    try:
        for seed in (0, 7):
            keras.utils.set_random_seed(seed)
            data = datasets.load("cifar10", data_dir=prepared, download=False)
            found.append(arrays(data.training(3, epochs=4))[0])
    finally:
        keras.utils.set_random_seed(0)
    np.testing.assert_array_equal(*found)


def test_a_tfds_name_without_test_split_and_with_many_sizes(prepared):
    arguments = {"data_dir": prepared, "download": False}
    with pytest.raises(ValueError, match=r"`image_size` \(=None\) must be given for 'only_train'.*Give one"):
        datasets.load("only_train", **arguments)
    data = datasets.load("only_train", image_size=16, channels=1, **arguments)
    assert (data.train_size, data.test_size, data.image_shape) == (32, 8, (16, 16, 1))
    assert np.bincount(data.test_arrays()[1]).tolist() == [4, 4]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_train", r"must be a data set with a split 'train', and it has \['test'\]\. Choose"),
        ("no_labels", r"must be a data set of images with one class each, and it holds .*image: Image.*Choose"),
    ],
)
def test_tfds_data_that_don_t_fit(prepared, name, message):
    with pytest.raises(ValueError, match=message):
        datasets.load(name, data_dir=prepared, download=False)


def test_a_folder_may_have_the_name_of_a_data_set(prepared, folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    folder.rename("cifar10")
    assert datasets.load("./cifar10").train_size == 6
    assert datasets.load(pathlib.Path("cifar10")).train_size == 6
    assert datasets.load("cifar10", data_dir=prepared, download=False).train_size == 50


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [("digit", "'digits'"), ("cifar1O", "'cifar10'"), ("xqzwv", "Check the spelling"), ("./no", "Check the spelling")],
)
def test_no_such_name(name, suggestion, tmp_path):
    with pytest.raises(ValueError, match=rf"`name` \(='{name}'\) must be 'digits', a name of .*{suggestion}"):
        datasets.load(name, data_dir=tmp_path)


def test_not_downloaded_and_download_is_false(tmp_path):
    message = r"must be prepared in `data_dir` .* download=False.*Give download=True.*tfds build mnist --data_dir="
    with pytest.raises(ValueError, match=message):
        datasets.load("mnist", data_dir=tmp_path, download=False)
    assert list(tmp_path.iterdir()) == []


def test_not_downloaded_and_no_network(tmp_path, monkeypatch):
    def resolve_nothing(*arguments, **options):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve_nothing)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    with pytest.raises(ConnectionError, match=r"'mnist'.*not prepared in.*needs a network.*tfds build mnist") as e:
        datasets.load("mnist", data_dir=tmp_path)
    assert isinstance(e.value.__cause__, socket.gaierror)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("raised", "expected", "message"),
    [
        (requests.exceptions.ConnectionError("proxy down"), ConnectionError, r"needs a network \(proxy down\)\. On a"),
        (OSError(28, "No space left on device"), OSError, r"could not be prepared.*No space left.*Give `data_dir`"),
    ],
)
def test_a_download_that_breaks_off(tmp_path, monkeypatch, raised, expected, message):
    def fail(*arguments, **options):
        raise raised

    monkeypatch.setattr("urllib.request.getproxies", lambda: {"https": "http://proxy"})
    monkeypatch.setattr(tfds.core.GeneratorBasedBuilder, "download_and_prepare", fail)
    with pytest.raises(expected, match=message) as e:
        datasets.load("mnist", data_dir=tmp_path)
    assert e.value.__cause__ is raised


def test_data_that_must_be_fetched_by_hand(tmp_path):
    with pytest.raises(ValueError, match=r"'imagenet2012'.*must be downloaded by hand.*TFDS says: manual_dir should"):
        datasets.load("imagenet2012", data_dir=tmp_path, image_size=32)


def test_without_tensorflow_datasets(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match=r'`tensorflow_datasets`.*pip install "keras-condense\[tfds\]"'):
        datasets.load("cifar10")
    monkeypatch.chdir(folder.parent)
    assert datasets.load("pets").train_size == 6
    assert sources.similar_names("cifar1") == ["cifar10", "cifar100"]


def test_without_tensorflow(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ImportError, match=r'`tensorflow`.*pip install "keras-condense\[tensorflow\]"'):
        datasets.load("digits")


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


@pytest.mark.cifar10
def test_cifar10_itself():
    folder = os.environ.get("KERAS_CONDENSE_TFDS")
    if not folder:
        pytest.skip("KERAS_CONDENSE_TFDS does not name a folder in which TFDS prepared cifar10")
    data = datasets.load("cifar10", data_dir=folder, download=False, augment=False)
    assert (data.train_size, data.test_size, data.steps_per_epoch) == (50000, 10000, 782)
    assert data.image_shape == (32, 32, 3)
    assert data.class_names[:3] == ("airplane", "automobile", "bird")
    sums, squares, counts = np.zeros(3), np.zeros(3), np.zeros(10, int)
    for images, labels in data.training(0, epochs=1).as_numpy_iterator():
        sums += images.sum((0, 1, 2), dtype="float64")
        squares += np.square(images).sum((0, 1, 2), dtype="float64")
        counts += np.bincount(labels, minlength=10)
    pixels = 50000 * 32 * 32
    np.testing.assert_allclose(sums / pixels, 0, atol=1e-3)  # the constants have four digits
    np.testing.assert_allclose(squares / pixels, 1, atol=2e-3)
    assert counts.tolist() == [5000] * 10
