"""How each data set is normalised and augmented: one table."""

import dataclasses
import numbers
from collections.abc import Sequence
from typing import Any

from keras_condense.validation import check_fraction, check_padding, shown

__all__ = ["IMAGENET", "IMAGE_DEFAULTS", "PHOTOGRAPHS", "Augmentation", "ImageDefaults", "defaults_for"]

LIGHT = ("brightness", "contrast", "saturation")


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Random crops, mirror images and changes of light of the training set.

    Args:
        pad: rows and columns of zeros (black) around the image, of which a crop of the image's size is cut. The
            paper uses 4 for 32x32 images. 0 for no crops.
        flip: mirror half of the images left to right. Not for images that mean something else in the mirror.
        scale: (least, most): random resized crops, as networks for photographs are trained on: a box with a share of
            the (padded) image's area drawn from this range is resized to the image's size. ImageNet's recipes use
            (0.08, 1), and milder ones suit small data sets. None for boxes of the image's size.
        ratio: (least, most) ratio of width to height of a box, in units of the image's own (with
            `resize="photographs"`, of square pixels), drawn on a logarithmic scale. A box that would stick out of the
            image is cut to it.
        brightness: how far an image's brightness may change: its pixels are multiplied by 1 - brightness to 1 +
            brightness.
        contrast: the same of its distance from the mean gray.
        saturation: the same of its distance from gray; nothing for gray images.

    Raises:
        ValueError: `pad` is no integer of at least 0, `flip` no bool, `scale` or `ratio` no two numbers in order (the
            first in (0, 1]), or a change of light not in [0, 1].

    Example:
        >>> Augmentation(pad=4, flip=True) == Augmentation()
        True
        >>> Augmentation(pad=0, scale=(0.25, 1), brightness=0.4).is_boxed
        True
        >>> Augmentation(pad=-1)
        Traceback (most recent call last):
        ...
        ValueError: `pad` (=-1) must be a positive integer or 0. Use 4 for 32x32 images, 0 for no crops.
    """

    pad: int = 4
    flip: bool = True
    scale: tuple[float, float] | None = None
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0

    def __post_init__(self):
        check_padding("pad", self.pad, "Use 4 for 32x32 images, 0 for no crops.")
        if not isinstance(self.flip, bool):
            raise ValueError(f"`flip` (={self.flip!r}) must be True or False. Use False where a mirror image is wrong.")
        if self.scale is not None:
            object.__setattr__(self, "scale", _check_range("scale", self.scale, 1, "Use (0.25, 1), or None for none."))
        object.__setattr__(self, "ratio", _check_range("ratio", self.ratio, 100, "Use (3 / 4, 4 / 3)."))
        for name in LIGHT:
            object.__setattr__(self, name, check_fraction(name, getattr(self, name), "Use 0.4, or 0 for none."))

    @property
    def is_boxed(self) -> bool:
        """Whether images are resized or their light is changed, which takes more than a window of whole pixels."""
        return self.scale is not None or self.changes_light

    @property
    def changes_light(self) -> bool:
        """Whether brightness, contrast or saturation are changed."""
        return any(getattr(self, name) for name in LIGHT)

    def settings(self) -> dict[str, Any]:
        """The arguments that make it, without those that change nothing: what a run folder keeps."""
        unused = {name for name in LIGHT if not getattr(self, name)} | ({"scale", "ratio"} if not self.scale else set())
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in unused}


def _check_range(name: str, values: Any, largest: float, fix: str) -> tuple[float, float]:
    is_pair = isinstance(values, Sequence) and len(values) == 2
    if not is_pair or not all(isinstance(v, numbers.Real) and not isinstance(v, bool) for v in values):
        raise ValueError(f"`{name}` (={shown(values)}) must be two numbers, (least, most). {fix}")
    if not 0 < values[0] <= values[1] <= largest:
        raise ValueError(f"`{name}` (={shown(values)}) must be (least, most) in (0, {largest}], in this order. {fix}")
    return float(values[0]), float(values[1])


@dataclasses.dataclass(frozen=True)
class ImageDefaults:
    """What is done to one data set's images unless the caller says otherwise.

    Attributes:
        mean: of the training images' channels, pixels in [0, 1].
        std: standard deviation of the same.
        augmentation: of the training images.
        image_size: (height, width), or None for the images' own.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: Augmentation
    image_size: tuple[int, int] | None = None


_PAPER = Augmentation(pad=4, flip=True)
_ASYMMETRIC = Augmentation(pad=2, flip=False)  # a mirrored digit or letter is none

# for `augment=` and a folder of photographs: boxes not so small that a few hundred images could not be learned
PHOTOGRAPHS = Augmentation(pad=0, flip=True, scale=(0.25, 1.0), brightness=0.4, contrast=0.4, saturation=0.4)

# for `augment=` and ImageNet, with `resize="photographs"`; the authors' program has these boxes, and leaves the light
IMAGENET = dataclasses.replace(PHOTOGRAPHS, scale=(0.08, 1.0))

# cifar10, cifar100 and ImageNet (every name that is not listed) as in the authors' program
IMAGE_DEFAULTS = {
    "digits": ImageDefaults((0.3054,), (0.3187,), Augmentation(pad=1, flip=False), image_size=(16, 16)),
    "mnist": ImageDefaults((0.1307,), (0.3081,), _ASYMMETRIC),
    "fashion_mnist": ImageDefaults((0.2860,), (0.3530,), Augmentation(pad=2, flip=True)),
    "svhn_cropped": ImageDefaults((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970), _ASYMMETRIC),
    "cifar10": ImageDefaults((0.4914, 0.4824, 0.4467), (0.2471, 0.2435, 0.2616), _PAPER),
    "cifar100": ImageDefaults((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761), _PAPER),
}
_OTHERS = ImageDefaults((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), _PAPER)


def defaults_for(name: str, channels: int) -> ImageDefaults:
    """Return the row of `name` (ImageNet's if it has none), its constants made to fit `channels`.

    Example:
        >>> defaults_for("cifar10", 3).mean
        (0.4914, 0.4824, 0.4467)
        >>> defaults_for("digits", 3).mean
        (0.3054, 0.3054, 0.3054)
        >>> defaults_for("my_photographs", 1).mean
        (0.449,)
    """
    defaults = IMAGE_DEFAULTS.get(name, _OTHERS)
    return dataclasses.replace(defaults, mean=_fit(defaults.mean, channels), std=_fit(defaults.std, channels))


def _fit(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    if len(values) == channels:
        return values
    return (round(sum(values) / len(values), 4),) * channels
