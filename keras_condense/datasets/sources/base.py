"""What a source of images is, and what sources need: optional packages and fair splits."""

import dataclasses
import importlib
import os
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

import numpy as np

from keras_condense.datasets.examples import ImageFiles, InMemory, Stream
from keras_condense.datasets.pixels import fit_pixels
from keras_condense.datasets.request import Request
from keras_condense.validation import shown

__all__ = [
    "HeldOutImages",
    "Images",
    "Source",
    "images_of_arrays",
    "missing_package",
    "require",
    "stratified_split",
]


@dataclasses.dataclass(frozen=True)
class Images:
    """Training and test examples, as yet neither normalised nor augmented."""

    train: InMemory | ImageFiles | Stream
    test: InMemory | ImageFiles | Stream
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class HeldOutImages:
    """Test images of their own sizes.

    Attributes:
        part: what they are of their data set, for instance "split 'validation'".
        size: how many.
        class_names: one for each label.
        examples: begins a pass of (where it comes from, for messages; a file's bytes or uint8 pixels; label).
    """

    part: str
    size: int
    class_names: tuple[str, ...]
    examples: Callable[[], Iterable[tuple[str, Any, int]]]


class Source:
    """A place that images come from: a class in a file of its own, and its row in `SOURCES`.

    Attributes:
        described: what a name of this source is, for messages.
        needs_tensorflow: whether reading it does, and not only what becomes of the images.
        has_files: whether its images are files of their own sizes, encoded.
        request: what is to be read.
        name: what to call it.
        location: what finds it again from any folder: the name, or the whole path.
        defaults: its row in `IMAGE_DEFAULTS`, if there is one.
    """

    described: str
    needs_tensorflow = False
    has_files = False

    def __init__(self, request: Request):
        self.request = request
        self.name = self.defaults = self.location = os.fspath(request.name)

    @classmethod
    def open(cls, request: Request) -> "Source | None":
        """Return the source of a request, or None if its name is none of this source's."""
        raise NotImplementedError

    @classmethod
    def names(cls) -> Iterable[str]:
        """Names that may be misspelt."""
        return ()

    def read(self) -> Images:
        """Find the images for training and testing, of the size and the channels that were asked for."""
        raise NotImplementedError

    def read_test(self) -> HeldOutImages:
        """Find the images on which trained networks are evaluated, as they are."""
        images = self.read()

        def examples():
            for number, (image, label) in enumerate(zip(images.test.images, images.test.labels, strict=True)):
                yield f"image {number}", image, int(label)

        return HeldOutImages("test images", images.test.size, images.class_names, examples)


def images_of_arrays(
    request: Request,
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    class_names: tuple[str, ...],
) -> Images:
    """Return (images, labels) of one size as a request wants them."""
    image_shape = request.image_shape(*train[0].shape[1:])
    train, test = (
        InMemory(fit_pixels(images, image_shape, request.resize), labels) for images, labels in (train, test)
    )
    return Images(train, test, class_names, image_shape)


def require(module: str, extra: str) -> ModuleType:
    """Import a package that only some users need.

    Raises:
        ImportError: it, or something it needs, is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"`{module}` could not be imported ({error}), and this data set needs it. "
            f'Install it: pip install "keras-condense[{extra}]"'
        ) from error


def missing_package(*modules: str) -> str | None:
    """Return the first of `modules` that can't be imported, or None."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError:
            return module
    return None


def stratified_split(labels: np.ndarray, held_out: int, seed: int, argument: str) -> tuple[np.ndarray, np.ndarray]:
    """Split `range(len(labels))` in two so that every class keeps its share in both.

    Args:
        labels: (examples,) class numbers.
        held_out: size of the second part.
        seed: of the choice.
        argument: name of the argument that asked for the split, for messages.

    Returns:
        The sorted indices of the first part and of the second.

    Raises:
        ValueError: a class has less than two examples, or a part would have less examples than there are classes.

    Example:
        >>> stratified_split(np.array([0, 0, 0, 1, 1, 1]), 2, seed=0, argument="test_fraction")[1].shape
        (2,)
    """
    from sklearn.model_selection import train_test_split

    counts = np.bincount(labels)
    counts = counts[counts > 0]
    if counts.min() < 2 or held_out < len(counts) or len(labels) - held_out < len(counts):
        raise ValueError(
            f"`{argument}` asks for {held_out} of {len(labels)} examples of {len(counts)} classes (the smallest has "
            f"{counts.min()}), but both parts need at least one example of every class. Give another fraction or "
            "more images."
        )
    kept, held = train_test_split(np.arange(len(labels)), test_size=held_out, stratify=labels, random_state=seed)
    for part in (kept, held):
        if missing := sorted(set(labels.tolist()) - set(labels[part].tolist())):
            raise ValueError(
                f"`{argument}` asks for {held_out} of {len(labels)} examples, and both parts need at least one example "
                f"of every class, of which one has none of {shown(missing)}. Give another fraction or more images."
            )
    return np.sort(kept), np.sort(held)
