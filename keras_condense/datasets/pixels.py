"""Pixels in NumPy arrays: their checks, their colours and their size, without TensorFlow."""

import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from keras_condense.augmenting import GRAY

__all__ = ["EVALUATED_SHARE", "check_examples", "fit_pixels", "middle_of_resized"]

EVALUATED_SHARE = 0.875  # of a photograph's shorter side: 224 of 256 pixels, as ImageNet's networks are evaluated

_AT_ONCE = 1 << 22  # values, so that what is computed in float32 stays small
_ROWS = 32  # that are resized at once: a photograph's stay in the processor's cache, for 0.6 of the time
_LARGEST_CLASSES = 1_000_000  # a label beyond is a mistake, and every class below it gets a name


def check_examples(described: str, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return uint8 images (examples, height, width, 1 or 3) and int32 labels (examples,), a last axis of 1 put right.

    Args:
        described: what the arrays are called, for messages.
        images: uint8, (examples, height, width) or (examples, height, width, 1 or 3).
        labels: integers, (examples,) or (examples, 1).

    Raises:
        ValueError: other types or shapes, no example, not as many labels as images, or a label that is negative or
            beyond a million.

    Example:
        >>> images, labels = check_examples("`images`", np.zeros((2, 4, 4), "uint8"), np.array([[0], [1]]))
        >>> images.shape, labels
        ((2, 4, 4, 1), array([0, 1], dtype=int32))
    """
    pixels = images[..., None] if images.ndim == 3 else images
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[-1] not in (1, 3) or not pixels.size:
        raise ValueError(
            f"{described} must hold images of uint8, (examples, height, width) or (examples, height, width, 1 or 3), "
            f"and holds {images.dtype} of {images.shape}. Store the pixels as they are, from 0 to 255."
        )
    numbers = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    is_in_range = numbers.dtype.kind in "iu" and numbers.size and 0 <= numbers.min() <= numbers.max() < _LARGEST_CLASSES
    if numbers.shape != (len(pixels),) or not is_in_range:
        values = f", from {labels.min()} to {labels.max()}" if labels.dtype.kind in "iu" and labels.size else ""
        raise ValueError(
            f"{described} must hold a class number for each of its {len(pixels)} images, and holds {labels.dtype} of "
            f"{labels.shape}{values}. Number the classes from 0 on, below {_LARGEST_CLASSES:,}."
        )
    return pixels, numbers.astype("int32")


def fit_pixels(images: np.ndarray, image_shape: tuple[int, int, int], resize: str = "stretch") -> np.ndarray:
    """Return uint8 images as uint8 images of `image_shape`: gray repeated or colours mixed, resized bilinearly.

    The pixels are those of `tf.image.rgb_to_grayscale` and `tf.image.resize(antialias=True)`, rounded.

    Args:
        images: (batch, height, width, 1 or 3).
        image_shape: (height, width, 1 or 3).
        resize: "stretch" or "crop": what becomes of images of another ratio of sides. "photographs" for the middle
            that is evaluated, see `middle_of_resized`.

    Returns:
        (batch, *image_shape).

    Raises:
        ValueError: so many images of this shape exceed the memory.

    Example:
        >>> fit_pixels(np.array([0, 100], "uint8").reshape(1, 1, 2, 1), (1, 4, 1)).ravel()
        array([  0,  25,  75, 100], dtype=uint8)
        >>> fit_pixels(np.array([0, 50, 70, 100], "uint8").reshape(1, 1, 4, 1), (1, 2, 1), "crop").ravel()
        array([50, 70], dtype=uint8)
    """
    if images.shape[1:] == tuple(image_shape) and resize != "photographs":
        return images
    try:
        fitted = np.empty((len(images), *image_shape), "uint8")
    except MemoryError as error:
        raise ValueError(
            f"`image_size` (={image_shape[:2]}) must be such that {len(images)} images fit into memory. "
            "Use a smaller one."
        ) from error
    if resize == "crop":
        images = _middle(images, image_shape[:2])
    step = max(_AT_ONCE // max(images[0].size, fitted[0].size), 1) if len(images) else 1
    for start in range(0, len(images), step):
        part = slice(start, start + step)
        pixels = _with_channels(images[part], image_shape[-1])
        if resize == "photographs":
            whole, offsets = middle_of_resized(np.array(pixels.shape[1:3]), image_shape)
            fitted[part] = _resized(pixels, image_shape[:2], whole, offsets)
        else:
            fitted[part] = _resized(pixels, image_shape[:2])
    return fitted


def middle_of_resized(sides: Any, size: Sequence[int], xp: ModuleType = np) -> tuple[Any, Any]:
    """Return to which size a photograph is resized for its middle, and where that begins, as networks are evaluated.

    The middle is 0.875 of the shorter side (where it is no square, of the side that is so shortest), as torchvision's
    `Resize` and `CenterCrop` have it.

    Args:
        sides: (height, width) of the photograph, an array of int64.
        size: (height, width) of the middle.
        xp: the library of the arrays.

    Returns:
        (height, width) of the whole, and the row and the column of the middle in it, arrays of integers.

    Example:
        >>> middle_of_resized(np.array([375, 500]), (224, 224))
        (array([256, 341]), array([16, 58]))
    """
    wanted = [math.ceil(side / EVALUATED_SHARE) for side in size[:2]]
    by_height = wanted[0] * sides // sides[0], wanted[0] * sides[1] >= wanted[1] * sides[0]
    resized = xp.where(by_height[1], by_height[0], wanted[1] * sides // sides[1])
    over = resized - np.array(size[:2])
    return resized, xp.where(over % 4 == 3, over // 2 + 1, over // 2)  # halves to the even number, as torchvision


def _middle(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The largest middle of images whose sides have the ratio of `size`."""
    sides = images.shape[1:3]
    scale = min(side / wanted for side, wanted in zip(sides, size, strict=True))
    cut = [min(max(round(wanted * scale), 1), side) for side, wanted in zip(sides, size, strict=True)]
    (top, left), (height, width) = ([(side - kept) // 2 for side, kept in zip(sides, cut, strict=True)], cut)
    return images[:, top : top + height, left : left + width]


def _with_channels(images: np.ndarray, channels: int) -> np.ndarray:
    if images.shape[-1] == channels:
        return images
    if channels == 3:
        return np.repeat(images, 3, axis=-1)
    red, green, blue = np.moveaxis(images.astype("float32") * np.float32(1 / 255), -1, 0)
    mixed = red * GRAY[0] + green * GRAY[1] + blue * GRAY[2]
    return (mixed * np.float32(255.5)).astype("uint8")[..., None]  # TensorFlow's way of rounding


def _resized(images: np.ndarray, size: Sequence[int], whole: Any = None, offsets: Sequence[int] = (0, 0)) -> np.ndarray:
    """Images of `size`, or the window of `size` at `offsets` of images resized to `whole`."""
    whole = size if whole is None else whole
    if images.shape[1:3] == tuple(size) == tuple(whole):
        return images
    pixels, resized = images.astype("float32"), np.empty((len(images), *size, images.shape[-1]), "uint8")
    (rows, row_weights), (columns, column_weights) = (
        [taps[:, first : first + shown] for taps in _taps(old, new)]
        for old, new, first, shown in zip(images.shape[1:3], whole, offsets, size, strict=True)
    )
    for start in range(0, size[0], _ROWS):
        part = slice(start, start + _ROWS)
        mixed = _mixed(pixels, rows[:, part], row_weights[:, part, None, None], axis=1)
        mixed = _mixed(mixed, columns, column_weights[:, :, None], axis=2)
        resized[:, part] = np.clip(np.rint(mixed, out=mixed), 0, 255, out=mixed)
    return resized


def _mixed(pixels: np.ndarray, places: np.ndarray, weights: np.ndarray, axis: int) -> np.ndarray:
    """The sum over taps of pixels at the tap's places times its weights, in place: memory is what takes the time."""
    mixed = np.take(pixels, places[0], axis)
    mixed *= weights[0]
    tapped = np.empty_like(mixed)
    for place, weight in zip(places[1:], weights[1:], strict=True):
        np.take(pixels, place, axis, out=tapped, mode="clip")  # the default mode would buffer `out`
        tapped *= weight
        mixed += tapped
    return mixed


def _taps(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of `old` pixels count in each of `new` ones, and how much: (taps, new) each.

    A triangle as wide as the wider of the two, and float32 sums in this order: so TensorFlow computes them.
    """
    one, half = np.float32(1), np.float32(0.5)
    step = one / (np.float32(new) / np.float32(old))
    reach = max(step, one)
    centers = (np.arange(new, dtype="float32") + half) * step
    first = np.maximum(np.ceil(centers - reach - half).astype(int), 0)
    last = np.minimum(np.floor(centers + reach - half).astype(int), old - 1)
    places = first + np.arange((last - first).max() + 1)[:, None]
    distances = np.abs((places.astype("float32") + half - centers) * (one / reach))
    weights = np.where(places <= last, np.maximum(one - distances, 0), 0)
    return np.minimum(places, old - 1), weights * (one / sum(weights))
