"""Names of TensorFlow Datasets against TFDS' own reading."""

import os
import pathlib
import shutil
import socket

import keras
import numpy as np
import pytest
import requests
from made_images import arrays, paint
from tfds_prepared import prepare

from keras_condense import datasets
from keras_condense.datasets import Augmentation, examples

pytestmark = pytest.mark.slow  # all of it, together


tfds = pytest.importorskip("tensorflow_datasets")
NonMatchingChecksumError = tfds.core.download.download_manager.NonMatchingChecksumError
DownloadError = tfds.core.download.util.DownloadError


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
    assert datasets.load("./cifar10").train_size == 8
    assert datasets.load(pathlib.Path("cifar10")).train_size == 8
    assert datasets.load("cifar10", data_dir=prepared, download=False).train_size == 50


@pytest.fixture
def folder(tmp_path):
    for number in range(10):
        paint(tmp_path / "pets" / "ab"[number % 2] / f"{number}.png", seed=number)
    return tmp_path / "pets"


def test_a_split_without_labels_is_passed_over(tmp_path):
    features = {
        "id": tfds.features.Text(),
        "image": tfds.features.Image(shape=(32, 32, 3)),
        "label": tfds.features.ClassLabel(names=["a", "b"]),
    }

    def examples(count, label):
        for i in range(count):
            image = np.full((32, 32, 3), i, "uint8")
            yield {"id": str(i), "image": image, "label": i % 2 if label is None else label}

    splits = {"train": examples(6, None), "test": examples(4, -1), "validation": examples(2, None)}
    prepare(tmp_path, "cifar10", "3.0.2", features, splits)
    for load in (datasets.load, datasets.load_arrays):
        data = load("cifar10", batch_size=2, data_dir=tmp_path, download=False)
        assert data.test_arrays()[1].tolist() == [0, 1]


def test_a_version_or_a_configuration_that_there_is_not(prepared):
    for name in ("cifar10:1.2.3", "cifar10/large"):
        with pytest.raises(ValueError, match=rf"`name` \(='{name}'\) must be a data set that TensorFlow Datasets has"):
            datasets.load(name, data_dir=prepared, download=False)


def test_a_file_that_is_not_all_there(prepared, tmp_path):
    shutil.copytree(prepared / "cifar10", tmp_path / "cifar10")
    for record in tmp_path.rglob("*.tfrecord*"):
        record.write_bytes(record.read_bytes()[:-1000])
    for load in (datasets.load, datasets.load_arrays):
        with pytest.raises(ValueError, match=r"`name` \(='cifar10'\) must be whole in .*, and reading it failed"):
            load("cifar10", data_dir=tmp_path, download=False)


# data sets that are not there


def test_not_downloaded_and_download_is_false(tmp_path):
    message = r"must be prepared in `data_dir` .* download=False.*Give download=True.*tfds build mnist --data_dir="
    with pytest.raises(ValueError, match=message):
        datasets.load("mnist", data_dir=tmp_path, download=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("raised", "expected", "message"),
    [
        (requests.exceptions.ConnectionError("proxy down"), ConnectionError, r"needs a network \(proxy down\)\. On a"),
        (DownloadError("403"), ConnectionError, r"and what its server gave is not it \(403\)\. On a machine"),
        (
            NonMatchingChecksumError("url", "path"),
            ConnectionError,
            r"server gave is not it \(.*url.*\)\. On a",
        ),
        (OSError(28, "No space left on device"), OSError, r"could not be prepared.*No space left.*Give `data_dir`"),
    ],
)
def test_a_download_that_breaks_off(tmp_path, monkeypatch, raised, expected, message):
    """Nothing is looked up before it: whether there is a network is for TFDS to find out."""

    def fail(*arguments, **options):
        raise raised

    monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_options: pytest.fail("a name was looked up"))
    monkeypatch.setattr(tfds.core.GeneratorBasedBuilder, "download_and_prepare", fail)
    with pytest.raises(expected, match=message) as e:
        datasets.load("mnist", data_dir=tmp_path)
    assert e.value.__cause__ is raised


def test_data_that_must_be_fetched_by_hand(tmp_path):
    with pytest.raises(ValueError, match=r"'imagenet2012'.*must be downloaded by hand.*TFDS says: manual_dir should"):
        datasets.load("imagenet2012", data_dir=tmp_path, image_size=32)


@pytest.mark.cifar10
@pytest.mark.slow
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
