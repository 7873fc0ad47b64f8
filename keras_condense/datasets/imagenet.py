"""ImageNet's classes and their order, and its images in a folder for each class.

A class has a WordNet number, such as n01440764; its label is the number's place among the 1000 sorted ones.
"""

import hashlib
import pathlib
import re
from collections.abc import Sequence

from keras_condense.datasets.folders import class_files, is_image, listing, some, subfolders

__all__ = ["has_imagenet_classes", "imagenet_classes", "read_imagenet_folder"]

CLASSES = 1000
_NUMBER = re.compile(r"n\d{8}")
# of the WordNet numbers in their order, a line each: so that 1000 class folders can be checked without a list of them
_SHA256 = "385e0240499426c022b773be1ae4da780f057b89c9694c7f47199f62746b6edd"
_HELD_OUT = ("val", "validation", "test")


def imagenet_classes() -> tuple[str, ...] | None:
    """Return the WordNet numbers of ImageNet's classes in their order, or None if tensorflow-datasets is missing."""
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        return None

    return tuple(tfds.builder("imagenet2012").info.features["label"].names)


def has_imagenet_classes(class_names: Sequence[str]) -> bool:
    """Whether `class_names` are the WordNet numbers of ImageNet's 1000 classes in their order.

    Example:
        >>> has_imagenet_classes(["n01440764", "n01443537"])
        False
    """
    return hashlib.sha256("\n".join(class_names).encode()).hexdigest() == _SHA256


def read_imagenet_folder(folder: pathlib.Path) -> tuple[list[tuple[str, int]], tuple[str, ...]]:
    """Find the images of `folder/val/<WordNet number>/*` or `folder/<WordNet number>/*`.

    Args:
        folder: an existing folder.

    Returns:
        (path, label) of each image, classes and files sorted by name, and the names of all 1000 classes. Folders may
        be missing where tensorflow-datasets, which has the list of all classes, is installed.

    Raises:
        ValueError: another layout, an unknown class, or too few folders to number the classes.
    """
    root = _held_out(folder)
    _refuse_flat_layout(root)
    files = class_files(root)
    described = f"`name` (={str(root)!r})"
    if strangers := [name for name in files if not _NUMBER.fullmatch(name)]:
        raise ValueError(
            f"{described} must hold folders named by WordNet numbers, such as n01440764, and holds "
            f"{some(strangers)}. Rename or remove them: a class is known by its number alone."
        )
    known = imagenet_classes()
    if known is None and len(files) != CLASSES:
        raise ValueError(
            f"{described} must hold a folder for each of ImageNet's {CLASSES} classes where tensorflow-datasets, which "
            f"has their list, is missing; {len(files)} were found. Add the missing folders, or run "
            'pip install "keras-condense[tensorflow,tfds]".'
        )
    classes = tuple(files) if known is None else known
    if not has_imagenet_classes(classes):
        raise ValueError(
            f"{described} must hold ImageNet's own {CLASSES} classes, and its folders are others. Compare them with a "
            "list of the WordNet numbers."
        )
    labels = {name: label for label, name in enumerate(classes)}
    if unknown := [name for name in files if name not in labels]:
        raise ValueError(
            f"{described} must hold classes among ImageNet's {CLASSES}, and {some(unknown)} "
            f"{'is' if len(unknown) == 1 else 'are'} none. Remove the folders."
        )
    return [(path, labels[name]) for name, paths in files.items() for path in paths], classes


def _held_out(folder: pathlib.Path) -> pathlib.Path:
    names = subfolders(folder)
    held_out = next((name for name in _HELD_OUT if name in names), None)
    if held_out is None and "train" in names:
        raise ValueError(
            f"`name` (={str(folder)!r}) must hold the validation images in a folder named 'val' beside 'train', and "
            "has none. Add it, or give a folder of class folders."
        )
    return folder / held_out if held_out else folder


def _refuse_flat_layout(root: pathlib.Path) -> None:
    images = [path.name for path in listing(root) if is_image(path) and path.is_file()]
    if images:
        raise ValueError(
            f"`name` (={str(root)!r}) must hold images in a folder for each class, named by its WordNet number, and "
            f"{len(images)} images lie outside of any, such as {images[0]!r}: their classes stand in a file of ground "
            "truth, which is not read here. Sort them into folders, or prepare 'imagenet2012' with TensorFlow "
            "Datasets, which knows their classes."
        )
