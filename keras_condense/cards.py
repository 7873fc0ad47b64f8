"""What a trained classifier takes and gives, on a card that goes with it: into the run's folder, `.keras`, `.tflite`.

Without one, nobody knows from a file how pixels become its inputs, or what its outputs are called.
"""

import dataclasses
import json
import os
import pathlib
import zipfile
from typing import Any

import numpy as np

from keras_condense.archives import check_archive
from keras_condense.augmenting import RESIZE, normalize
from keras_condense.files import check_path, check_readable
from keras_condense.validation import check_channel_constants, check_choice, check_positive_integer, shown

__all__ = ["CARD", "Card", "load_card", "write_card"]

CARD = "card.json"  # in a run's folder, and in the archives of files

_FIX = "Make the card with `Card.of(data)`."


@dataclasses.dataclass(frozen=True)
class Card:
    """What a trained classifier of images takes and gives.

    Pixels become inputs as `(pixels / 255 - mean) / std`, after the image was resized to `image_shape`, bilinearly with
    antialiasing, as `resize` says.

    Args:
        class_names: one for each output, in their order.
        image_shape: (height, width, channels) of the images that it was trained on; 1 or 3 channels.
        mean: of each channel, pixels in [0, 1].
        std: standard deviation of the same.
        dataset: what `keras_condense.datasets.load` was given; for a folder or a file, its whole path. Empty if it is
            not known.
        data_dir: the folder of TensorFlow Datasets, or None for its default.
        train_size: training images.
        validation_size: images held out of them.
        test_size: test images.
        resize: what becomes of images of another ratio of sides: "stretch", or "crop" to the middle first. With
            "photographs" no more than the middle 0.875 of the shorter side is seen of any: 224 of 256 pixels.
        takes_pixels: whether the network normalizes by itself what it takes, pixels from 0 to 255.

    Raises:
        ValueError: class names that are no text or empty, or other values of a wrong kind or out of range.

    Example:
        >>> card = Card(("cat", "dog"), (2, 2, 1), (0.5,), (0.25,))
        >>> card.inputs(np.full((1, 2, 2, 1), 255, "uint8"))[0, 0]
        array([[2.],
               [2.]], dtype=float32)
        >>> Card.from_json(card.to_json()) == card
        True
    """

    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    dataset: str = ""
    data_dir: str | None = None
    train_size: int = 0
    validation_size: int = 0
    test_size: int = 0
    resize: str = "stretch"
    takes_pixels: bool = False

    def __post_init__(self) -> None:
        """Check the values and bring them into one form."""
        names = self.class_names
        if isinstance(names, str) or not all(isinstance(name, str) and name.strip() for name in names) or not names:
            raise ValueError(f"`class_names` (={shown(names)}) must be names, one for each output. {_FIX}")
        shape = self.image_shape
        if not isinstance(shape, (tuple, list)) or len(shape) != 3 or shape[2] not in (1, 3):
            raise ValueError(f"`image_shape` (={shown(shape)}) must be (height, width, 1 or 3). {_FIX}")
        checked = {
            "class_names": tuple(names),
            "image_shape": (*(check_positive_integer("image_shape", side, _FIX) for side in shape[:2]), int(shape[2])),
            "mean": check_channel_constants("mean", self.mean, shape[2], _FIX),
            "std": check_channel_constants("std", self.std, shape[2], _FIX, above_zero=True),
        }
        checked["resize"] = check_choice("resize", self.resize, RESIZE, _FIX)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @classmethod
    def of(cls, data: Any) -> "Card":
        """The card of a classifier that was trained on a data set.

        Args:
            data: made by `keras_condense.datasets.load` or `load_arrays`.

        Example:
            >>> from keras_condense import datasets
            >>> Card.of(datasets.load("digits")).class_names[:3]
            ('0', '1', '2')
        """
        sizes = {name: getattr(data, name) for name in ("train_size", "validation_size", "test_size", "resize")}
        of_images = {name: tuple(getattr(data, name)) for name in ("image_shape", "mean", "std")}
        of_images["class_names"] = tuple(map(str, data.class_names))  # some number their classes
        return cls(dataset=data.location, data_dir=data.data_dir, **of_images, **sizes)

    def inputs(self, images: np.ndarray) -> np.ndarray:
        """Pixels as the classifier takes them.

        Args:
            images: uint8, (count, *image_shape).

        Returns:
            float32, of the same shape; the pixels themselves if it takes those.
        """
        if self.takes_pixels:
            return images
        mean, std = (np.asarray(values, "float32") for values in (self.mean, self.std))
        return normalize(images.astype("float32"), mean, std)

    def for_others(self) -> "Card":
        """The card as it goes to others: without the folders of this machine."""
        is_path = pathlib.Path(self.dataset).is_absolute()
        return dataclasses.replace(self, dataset="" if is_path else self.dataset, data_dir=None)

    def to_json(self) -> str:
        """The card as text."""
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "Card":
        """Read a card; what later versions added is left out.

        Raises:
            ValueError: the text is no card.
        """
        try:
            values = json.loads(text)
            fields = {field.name for field in dataclasses.fields(cls)}
            card = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items() if key in fields}
            return cls(**card)
        except (AttributeError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"{CARD} must say what a network takes and gives, and is broken ({error}).") from error


def write_card(archive: zipfile.ZipFile, card: Card) -> None:
    """Add a card to an archive: a `.keras` file, or the one behind a `.tflite` file."""
    archive.writestr(zipfile.ZipInfo(CARD), card.to_json())  # without a date: the same network gives the same bytes


def load_card(path: str | os.PathLike) -> Card | None:
    """Read the card of a trained classifier.

    Args:
        path: a run's folder, or a `.keras` or `.tflite` file.

    Returns:
        The card; None if there is none.

    Raises:
        ValueError: nothing there, or a broken card.

    Example:
        >>> load_card("no/such/model.keras")
        Traceback (most recent call last):
        ...
        ValueError: `path` (='no/such/model.keras') must be an existing file. ...
    """
    path = check_path("path", path)
    if not path.is_dir():
        path = check_readable("path", path)
    try:
        text = _text_of(path)
        return None if text is None else Card.from_json(text)
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise ValueError(
            f"`path` (={str(path)!r}) must be a whole file or folder, and its card can't be read: {error} Train, "
            "condense or export it again."
        ) from error


def _text_of(path: pathlib.Path) -> bytes | None:
    if path.is_dir():
        return (path / CARD).read_bytes() if (path / CARD).is_file() else None
    if not zipfile.is_zipfile(path) or CARD not in check_archive(path):
        return None
    with zipfile.ZipFile(path) as archive:
        return archive.read(CARD)
