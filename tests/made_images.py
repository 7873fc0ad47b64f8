"""Small images and data sets, made up, for the tests of data sets and of the layer that holds them."""

import numpy as np
from PIL import Image

from keras_condense.datasets import Augmentation, ImageArrays


def arrays(dataset):
    images, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def paint(path, size=(6, 5), mode="RGB", seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], *bands), dtype="uint8")
    Image.fromarray(pixels).save(path)
    return path


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
