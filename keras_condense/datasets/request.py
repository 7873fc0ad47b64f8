"""What a caller asks for, as one checked object that is handed down instead of its many parts."""

import dataclasses
import os
import pathlib
from typing import Any

from keras_condense.augmenting import RESIZE
from keras_condense.datasets.image_defaults import Augmentation
from keras_condense.files import check_path
from keras_condense.validation import (
    LARGEST_SIDE,
    as_index,
    check_choice,
    check_fraction,
    check_positive_integer,
    shown,
)

__all__ = ["Request", "check_calibration_size", "check_seed"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """The arguments of `load` (see there), `load_arrays` and `load_evaluation`, checked.

    Only what depends on the images is checked later: `mean` and `std` once their channels are known, `batch_size` once
    they are counted.

    Attributes:
        in_memory: hold the images in memory, however many they are; TensorFlow need not be there.

    Raises:
        ValueError: an argument of another type or out of range.

    Example:
        >>> Request(name="digits", image_size=8).image_size
        (8, 8)
    """

    name: str | os.PathLike
    batch_size: int = 64
    image_size: int | tuple[int, int] | None = None
    channels: int | None = None
    resize: str = "stretch"
    augment: bool | Augmentation = True
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    validation_fraction: float = 0.0
    test_fraction: float = 0.2
    drop_remainder: bool = False
    seed: int = 0
    split_seed: int = 0
    data_dir: str | os.PathLike | None = None
    download: bool = True
    skip_broken: bool = False
    in_memory: bool = False

    def __post_init__(self) -> None:
        """Check the arguments and bring them into one form."""
        checked = {"batch_size": check_positive_integer("batch_size", self.batch_size, "Use 64.")}
        fix = "Leave it out for the data set's own."
        checked["channels"] = check_choice("channels", self.channels, (None, 1, 3), fix)
        fix = "Use 'crop' to keep the ratio of the sides."
        checked["resize"] = check_choice("resize", self.resize, RESIZE, fix)
        if self.is_photographs:
            self._check_photographs()
        if not isinstance(self.augment, (bool, Augmentation)):
            raise ValueError(
                f"`augment` (={shown(self.augment)}) must be True, False or an Augmentation. "
                "Use Augmentation(pad=4, flip=True)."
            )
        check_fraction("validation_fraction", self.validation_fraction, "Use 0.1, or 0 for none.", below_one=True)
        if check_fraction("test_fraction", self.test_fraction, "Use 0.2.", below_one=True) == 0:
            raise ValueError(f"`test_fraction` (={self.test_fraction!r}) must be above 0. Use 0.2.")
        for name in ("drop_remainder", "download", "skip_broken", "in_memory"):
            checked[name] = check_choice(name, getattr(self, name), (True, False), "Leave it out for the default.")
        if self.data_dir is not None:
            check_path("data_dir", self.data_dir)
        if not isinstance(self.name, (str, os.PathLike)) or not os.fspath(self.name):
            raise ValueError(f"`name` (={shown(self.name)}) must be a name or a folder. Use 'digits'.")
        check_path("name", self.name)
        checked["image_size"] = _check_image_size(self.image_size)
        checked |= {name: check_seed(name, getattr(self, name)) for name in ("seed", "split_seed")}
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def is_photographs(self) -> bool:
        """Whether images are cut out of their files in every epoch, and never held."""
        return self.resize == "photographs"

    def _check_photographs(self) -> None:
        if self.in_memory:
            raise ValueError(
                "`resize` (='photographs') must be 'stretch' or 'crop' for images that are held in memory (those of "
                "`load_arrays` and --on-device): boxes are cut out of the files. Use `load`, or 'crop'."
            )
        if self.image_size is None:
            raise ValueError(
                "`image_size` (=None) must be given with resize='photographs', to which boxes are resized. Use 224."
            )
        pad = self.augment.pad if isinstance(self.augment, Augmentation) else 0
        if pad:
            raise ValueError(
                f"`augment` (with pad={pad}) must have a pad of 0 with resize='photographs', whose boxes lie within "
                "the files. Use datasets.IMAGENET."
            )

    @property
    def path(self) -> pathlib.Path:
        """The name as that of a file or a folder."""
        return pathlib.Path(os.path.expanduser(self.name))

    def image_shape(self, height: int, width: int, channels: int) -> tuple[int, int, int]:
        """Return the shape that images of this shape shall have."""
        return (*(self.image_size or (height, width)), self.channels or channels)


def _check_image_size(image_size: Any) -> tuple[int, int] | None:
    if image_size is None:
        return None
    fix = "Use 32 or (32, 32)."
    sides = image_size if isinstance(image_size, (tuple, list)) else (image_size, image_size)
    if len(sides) != 2:
        raise ValueError(f"`image_size` (={shown(image_size)}) must be a side length or (height, width). {fix}")
    return tuple(check_positive_integer("image_size", side, fix, largest=LARGEST_SIDE) for side in sides)


def check_calibration_size(n: Any, train_size: int) -> None:
    """Raise ValueError unless a training set has `n` images to calibrate with."""
    if check_positive_integer("n", n, "100 are enough to calibrate with.") > train_size:
        raise ValueError(f"`n` (={n}) must be at most `train_size` (={train_size}). Give fewer; 100 are enough.")


def check_seed(name: str, value: Any, fix: str = "Use 0.") -> int:
    """Return `value` as an int if it can seed a random generator, or number an epoch.

    Example:
        >>> check_seed("seed", -1)
        Traceback (most recent call last):
        ...
        ValueError: `seed` (=-1) must be an integer in [0, 2**32). Use 0.
    """
    number = as_index(value)
    if number is None or not 0 <= number < 2**32:
        raise ValueError(f"`{name}` (={shown(value)}) must be an integer in [0, 2**32). {fix}")
    return number
