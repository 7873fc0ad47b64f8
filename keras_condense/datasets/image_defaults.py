"""How each data set is normalised and augmented: one table."""

import dataclasses

from keras_condense.validation import check_padding

__all__ = ["IMAGE_DEFAULTS", "Augmentation", "ImageDefaults", "defaults_for"]


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Random crops and mirror images of the training set.

    Args:
        pad: rows and columns of zeros (black) around the image, of which a crop of the image's size is cut. The
            paper uses 4 for 32x32 images. 0 for no crops.
        flip: mirror half of the images left to right. Not for images that mean something else in the mirror.

    Raises:
        ValueError: `pad` is no integer of at least 0, or `flip` no bool.

    Example:
        >>> Augmentation(pad=4, flip=True)
        Augmentation(pad=4, flip=True)
        >>> Augmentation(pad=-1)
        Traceback (most recent call last):
        ...
        ValueError: `pad` (=-1) must be a positive integer or 0. Use 4 for 32x32 images, 0 for no crops.
    """

    pad: int = 4
    flip: bool = True

    def __post_init__(self):
        check_padding("pad", self.pad, "Use 4 for 32x32 images, 0 for no crops.")
        if not isinstance(self.flip, bool):
            raise ValueError(f"`flip` (={self.flip!r}) must be True or False. Use False where a mirror image is wrong.")


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
