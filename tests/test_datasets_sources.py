"""The registry of sources: a new one is a class, a name of none is refused, missing packages are named."""

import sys

import keras
import numpy as np
import pytest
from made_images import paint

from keras_condense import datasets
from keras_condense.applications.preprocessing import CIFAR
from keras_condense.datasets import Augmentation, sources
from keras_condense.datasets.examples import InMemory


class Stripes(sources.Source):
    """A source of one class: what somebody writes who adds one."""

    described = "'stripes'"

    @classmethod
    def open(cls, request):
        return cls(request) if request.name == "stripes" else None

    @classmethod
    def names(cls):
        return ("stripes",)

    def read(self):
        shape = self.request.image_shape(4, 6, 1)
        images = np.zeros((40, *shape), "uint8")
        images[::2, :, ::2] = 255  # class 0 stands upright
        images[1::2, ::2] = 255
        whole = InMemory(images, np.arange(40) % 2)
        return sources.Images(whole.subset(slice(30)), whole.subset(slice(30, None)), ("up", "across"), shape)


@pytest.fixture
def stripes(monkeypatch):
    monkeypatch.setattr(sources, "SOURCES", [Stripes, *sources.SOURCES])


def test_a_new_source_is_a_class_and_a_row(stripes):
    data = datasets.load("stripes", batch_size=8, image_size=(6, 8), channels=3, augment=False, validation_fraction=0.2)
    assert (data.name, data.class_names, data.image_shape) == ("stripes", ("up", "across"), (6, 8, 3))
    assert (data.train_size, data.validation_size, data.test_size) == (24, 6, 10)
    for images, labels in data.training(0, 1).as_numpy_iterator():
        upright = (images[:, 0] == images[:, 1]).all((1, 2))
        np.testing.assert_array_equal(upright, labels == 0)
    held = datasets.load_arrays("stripes", batch_size=8, augment=False)
    np.testing.assert_array_equal(held.test_arrays()[0], datasets.load("stripes", augment=False).test_arrays()[0])
    assert datasets.load_evaluation("stripes", CIFAR).size == 10


def test_a_new_source_is_named_where_none_knows_a_name(stripes):
    with pytest.raises(ValueError, match=r"must be 'stripes', 'digits', an \.npz file.*Did you mean 'stripes'"):
        datasets.load("strips")


# names of none


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [("digit", "'digits'"), ("cifar1O", "'cifar10'"), ("xqzwv", "Check the spelling"), ("./no", "Check the spelling")],
)
def test_no_such_name(name, suggestion, tmp_path):
    with pytest.raises(
        ValueError,
        match=rf"`name` \(='{name}'\) must be 'digits', .* or an existing folder\. .*{suggestion}",
    ):
        datasets.load(name, data_dir=tmp_path)


# missing packages


@pytest.fixture
def folder(tmp_path):
    for number in range(10):
        paint(tmp_path / "pets" / "ab"[number % 2] / f"{number}.png", seed=number)
    return tmp_path / "pets"


def test_without_tensorflow_datasets(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match=r'`tensorflow_datasets`.*pip install "keras-condense\[tfds\]"'):
        datasets.load("cifar10")
    monkeypatch.chdir(folder.parent)
    assert datasets.load("pets").train_size == 8
    assert sources.similar_names("cifar1") == ["cifar10", "cifar100"]


def test_without_tensorflow(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ImportError, match=r'`tensorflow`.*pip install "keras-condense\[tensorflow\]"'):
        datasets.load("digits")


@pytest.fixture(scope="module")
def digits():
    return datasets.load_arrays("digits")


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
        "cifar10", datasets.IMAGE_DEFAULTS["cifar10"].mean, tuple("0123456789"),
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
