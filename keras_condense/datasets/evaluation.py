"""`load_evaluation`: test images made as a trained network was evaluated, decoded while they are iterated."""

import concurrent.futures
import dataclasses
import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_condense.datasets.decoding import decode_with_pillow
from keras_condense.datasets.request import Request
from keras_condense.datasets.sources import find_source, require

if TYPE_CHECKING:
    from keras_condense.applications.preprocessing import Preprocessing

__all__ = ["EvaluationImages", "evaluation_crop", "load_evaluation"]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class EvaluationImages:
    """Images and labels for the evaluation of a trained network, made by `load_evaluation`.

    Iterating gives batches of (images, labels): float32 (batch, size, size, 3), normalised as `preprocessing` says,
    and int32 (batch,) class numbers, always in the same order. Of image files nothing but two batches is held in
    memory.

    Iterating raises ValueError at an image that can't be decoded, and names it.

    Attributes:
        name: the data set or the folder.
        part: what was read of it, for instance "split 'validation'".
        size: number of images.
        class_names: one for each label; WordNet numbers for ImageNet.
        preprocessing: how the images are resized, cropped and normalised.
        batch_size: images in a batch; the last one may be smaller.
    """

    name: str
    part: str
    size: int
    class_names: tuple[str, ...]
    preprocessing: "Preprocessing"
    batch_size: int
    _examples: Callable[[], Iterable[tuple[str, Any, int]]] = dataclasses.field(repr=False)

    def __len__(self) -> int:
        """The number of batches."""
        return math.ceil(self.size / self.batch_size)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Give the batches; while the caller computes with one, the next is decoded."""
        examples = iter(self._examples())
        with concurrent.futures.ThreadPoolExecutor() as pool:
            ready = []
            while chunk := list(itertools.islice(examples, self.batch_size)):
                coming = [pool.submit(self._read, *example) for example in chunk]
                if ready:
                    yield self._batch(ready)
                ready = coming
            if ready:
                yield self._batch(ready)

    def _read(self, origin: str, content: Any, label: int) -> tuple[np.ndarray, int]:
        if not 0 <= label < len(self.class_names):
            raise ValueError(
                f"`name` (={self.name!r}) must have a label in 0..{len(self.class_names) - 1} for every image, and "
                f"{origin} has {label}. Choose another data set."
            )
        image = _decoded(origin, content) if isinstance(content, bytes) else content
        return evaluation_crop(image, self.preprocessing), label

    def _batch(self, futures: list[concurrent.futures.Future]) -> tuple[np.ndarray, np.ndarray]:
        images, labels = zip(*(future.result() for future in futures), strict=True)
        return self.preprocessing.normalize(np.stack(images)), np.array(labels, "int32")

    def __str__(self) -> str:
        how = self.preprocessing
        return (
            f"images         {self.size:,} of {self.name}, {self.part}, {len(self.class_names):,} classes\n"
            f"crop           shorter side resized to {how.resize_to} ({how.interpolation}, antialiased), "
            f"the middle {how.size}x{how.size} of it\n"
            f"normalisation  (pixels * {how.scale:.6g} - mean) / std, {how.channel_order.upper()}, "
            f"mean {_listed(how.mean)}, std {_listed(how.std)}"
        )


def load_evaluation(
    name: str | os.PathLike,
    preprocessing: "Preprocessing",
    *,
    batch_size: int = 64,
    data_dir: str | os.PathLike | None = None,
    download: bool = True,
) -> EvaluationImages:
    """Load the test images of a data set as a trained network takes them.

    Args:
        name: a name of TensorFlow Datasets ("imagenet2012", "imagenet_v2", "imagenet_v2/topimages", "cifar10", ...),
            of which the split "validation" is read, or "test" if there is none; a folder of ImageNet's images,
            `<folder>/val/<WordNet number>/*.JPEG` or `<folder>/<WordNet number>/*.JPEG`; "digits"; or an `.npz` file
            of `ImageArrays.save`. A name goes before a folder: write "./imagenet2012" for a folder of that name.
        preprocessing: how images are made for the network: that of its weights
            (`applications.pretrained.find_weights(...).preprocessing`), or one of `applications.preprocessing`.
        batch_size: images in a batch.
        data_dir: the folder of TensorFlow Datasets; None for its default, `~/tensorflow_datasets`.
        download: whether TensorFlow Datasets may download what is not prepared in `data_dir`.

    Returns:
        The images, in batches.

    Raises:
        ValueError: an argument of another kind; no such name or file; a folder of another layout, or with unknown
            classes; not prepared, and it can't be downloaded or may not be.
        ConnectionError: not prepared, and the download failed for lack of a network.
        ImportError: Pillow is not installed; for folders, TensorFlow; for most names, tensorflow-datasets.

    Example:
        >>> import os, tempfile, keras
        >>> from keras_condense import datasets
        >>> from keras_condense.applications.preprocessing import CIFAR, IMAGENET
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     os.makedirs(os.path.join(folder, "val", "n01443537"))
        ...     photograph = np.zeros((300, 400, 3), "uint8")
        ...     keras.utils.save_img(os.path.join(folder, "val", "n01443537", "1.JPEG"), photograph)
        ...     data = datasets.load_evaluation(folder, IMAGENET)
        ...     [(images.shape, labels) for images, labels in data]
        [((1, 224, 224, 3), array([1], dtype=int32))]
        >>> print(datasets.load_evaluation("digits", CIFAR))
        images         360 of digits, test images, 10 classes
        crop           shorter side resized to 32 (bilinear, antialiased), the middle 32x32 of it
        normalisation  (pixels * 0.00392157 - mean) / std, RGB, mean 0.4914 0.4822 0.4465, std 0.2023 0.1994 0.201
    """
    request = Request(name=name, batch_size=batch_size, data_dir=data_dir, download=download, in_memory=True)
    if not hasattr(preprocessing, "resize_to"):
        raise ValueError(
            f"`preprocessing` (={preprocessing!r}) must be a Preprocessing. Use one of "
            "keras_condense.applications.preprocessing, for instance IMAGENET."
        )
    require("PIL.Image", "tensorflow")
    held_out = find_source(request).read_test()
    return EvaluationImages(
        name=os.fspath(name),
        part=held_out.part,
        size=held_out.size,
        class_names=held_out.class_names,
        preprocessing=preprocessing,
        batch_size=batch_size,
        _examples=held_out.examples,
    )


def evaluation_crop(image: np.ndarray, preprocessing: "Preprocessing") -> np.ndarray:
    """Return the part of an image that the papers evaluate on: resized, then the middle of it.

    As torchvision's `Resize` and `CenterCrop` do it, with Pillow.

    Args:
        image: uint8, (height, width, 1 or 3).
        preprocessing: gives the size, the share that is kept of the shorter side, and the interpolation.

    Returns:
        uint8, (size, size, 3), not normalised.

    Example:
        >>> from keras_condense.applications.preprocessing import IMAGENET
        >>> evaluation_crop(np.full((300, 400, 1), 7, "uint8"), IMAGENET).shape
        (224, 224, 3)
    """
    from PIL import Image

    shorter, size = preprocessing.resize_to, preprocessing.size
    height, width = (side * shorter // min(image.shape[:2]) for side in image.shape[:2])
    top, left = (round((side - size) / 2) for side in (height, width))  # halves to the even number, as torchvision
    method = Image.Resampling[preprocessing.interpolation.upper()]
    resized = Image.fromarray(np.broadcast_to(image, (*image.shape[:2], 3))).resize((width, height), method)
    return np.asarray(resized.crop((left, top, left + size, top + size)))


def _decoded(origin: str, content: bytes) -> np.ndarray:
    try:
        return decode_with_pillow(content, upright=False)  # as torchvision's loader does
    except ValueError as error:
        raise ValueError(
            f"{origin} ({len(content):,} bytes) must be an image that can be decoded, and it can't be. "
            "Copy it again: it is not skipped, since the error rate could then not be compared."
        ) from error


def _listed(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.6g}" for value in values)
