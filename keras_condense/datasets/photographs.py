"""Photographs as networks for ImageNet see them: boxes out of a file's own pixels to train, the middle to evaluate.

All in TensorFlow's graph, whose threads decode many files at a time; of a JPEG, no more than the box is made pixels of.
"""

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_condense.datasets.pixels import middle_of_resized

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["box_in_file", "is_plain_jpeg", "shown_photograph"]

_HEAD = 1 << 16  # bytes within which `decoding` looks for EXIF data, too
_WITH_EXIF = r"\C*(Exif\x00|eXIf)\C*"  # \C is any byte
_DECODED = {"channels": 3, "dct_method": "INTEGER_ACCURATE"}  # Pillow's pixels, and as fast as TensorFlow's default


def box_in_file(draw: Any, image_shape: Sequence[int], sides: Any, xp: ModuleType = np) -> Any:
    """Return the box that a row of draws means in a file of other sides.

    Its share of the area is kept; its ratio of width to height, in units of `image_shape`, becomes one of square
    pixels. A box that would stick out is cut to the file. It lies at the same fraction of the room there is to move it;
    in the middle, where the drawn one has no room.

    Args:
        draw: int32 (9,), with the columns of `keras_condense.augmenting.BOXED`.
        image_shape: (height, width, ...) that the row is in units of.
        sides: (height, width) of the file.
        xp: the library of the arrays.

    Returns:
        int32 (4,): row and column of the upper left corner, height and width.

    Example:
        >>> draw = np.array([0, 50, 150, 0, 100, 50, 1000, 1000, 1000])  # twice as high as wide, 1/8 of the image
        >>> box_in_file(draw, (200, 200), (400, 800))
        array([ 59, 659, 283, 141], dtype=int32)
        >>> box_in_file(np.array([0, 0, 40, 0, 200, 160, 1000, 1000, 1000]), (200, 200), (400, 800))  # cut to the file
        array([  0, 347, 400, 453], dtype=int32)
    """
    whole, sides = np.array(image_shape[:2], "float64"), xp.array(sides, dtype="float64")
    corner, lengths = xp.array(draw[1:3], dtype="float64"), xp.array(draw[4:6], dtype="float64")
    shares = lengths / whole
    in_file = _rounded(shares * xp.sqrt(sides[0] * sides[1]), xp)
    in_file = xp.minimum(xp.maximum(in_file, np.float64(1)), sides)
    room = whole - lengths
    fractions = xp.where(room > 0, corner / xp.maximum(room, np.float64(1)), np.float64(0.5))
    return xp.array(xp.concatenate([_rounded(fractions * (sides - in_file), xp), in_file]), dtype="int32")


def _rounded(values: Any, xp: ModuleType) -> Any:
    return xp.floor(values + np.float64(0.5))


def is_plain_jpeg(encoded: "tf.Tensor", upright: bool) -> "tf.Tensor":
    """Return whether a file is a JPEG whose end is there, so that its boxes can be decoded alone: bool ().

    Args:
        encoded: the file's bytes, ().
        upright: whether those with EXIF data are none, since these may ask for a turn.
    """
    import tensorflow as tf

    length = tf.strings.length(encoded)
    is_whole = (tf.strings.substr(encoded, 0, 3) == b"\xff\xd8\xff") & (
        tf.strings.substr(encoded, tf.maximum(length - 2, 0), 2) == b"\xff\xd9"
    )
    if not upright:
        return is_whole
    return is_whole & ~tf.strings.regex_full_match(tf.strings.substr(encoded, 0, _HEAD), _WITH_EXIF)


def shown_photograph(
    encoded: "tf.Tensor",
    decode: Callable[[], "tf.Tensor"],
    draw: "tf.Tensor",
    image_shape: tuple[int, int, int],
    box_size: tuple[int, int] | None = None,
    upright: bool = True,
) -> "tf.Tensor":
    """Return what is shown of an image file, resized bilinearly with antialiasing.

    Args:
        encoded: the file's bytes, ().
        decode: gives uint8 (height, width, 1 or 3) of files that are no plain JPEGs.
        draw: int32 (4 or 9,), a row of draws; used for boxes only.
        image_shape: (height, width, 1 or 3) that the draws are in units of, and that of the middle.
        box_size: (height, width) of what is cut out for training, and mirrored as drawn; None for the middle, as it
            is evaluated: see `keras_condense.datasets.pixels.middle_of_resized`.
        upright: whether JPEGs with EXIF data are left to `decode`.

    Returns:
        uint8, (*box_size or (height, width), channels).
    """
    import tensorflow as tf

    def any_decoded():
        pixels = decode()
        return tf.image.grayscale_to_rgb(pixels) if pixels.shape[-1] == 1 else pixels

    def box_of(sides):
        return box_in_file(draw, image_shape, sides, tf.experimental.numpy)

    def cut_jpeg():
        return tf.io.decode_and_crop_jpeg(encoded, box_of(tf.image.extract_jpeg_shape(encoded)[:2]), **_DECODED)

    def cut_any():
        pixels = any_decoded()
        box = box_of(tf.shape(pixels)[:2])
        return tf.slice(pixels, [box[0], box[1], 0], [box[2], box[3], 3])

    def jpeg():
        return tf.io.decode_jpeg(encoded, **_DECODED)

    is_plain = is_plain_jpeg(encoded, upright)
    if box_size is None:
        pixels, size = tf.cond(is_plain, jpeg, any_decoded), image_shape[:2]
        sides = tf.cast(tf.shape(pixels)[:2], tf.int64)
        resized, offsets = middle_of_resized(sides, size, tf.experimental.numpy)
    else:
        pixels, size = tf.cond(is_plain, cut_jpeg, cut_any), box_size
        sides, resized, offsets = tf.shape(pixels)[:2], tf.constant(size), tf.zeros(2)
    pixels = tf.ensure_shape(pixels, (None, None, 3))
    if image_shape[-1] == 1:
        pixels = tf.image.rgb_to_grayscale(pixels)
    # what `tf.image.resize(antialias=True)` is made of, which would resize all of an image that is cut
    shown = tf.raw_ops.ScaleAndTranslate(
        images=pixels[None],
        size=size,
        scale=tf.cast(resized, tf.float32) / tf.cast(sides, tf.float32),
        translation=-tf.cast(offsets, tf.float32),
        kernel_type="triangle",
        antialias=True,
    )[0]
    shown = tf.saturate_cast(tf.round(shown), tf.uint8)
    if box_size is not None:
        shown = tf.cond(draw[3] > 0, lambda: shown[:, ::-1], lambda: shown)
    return tf.ensure_shape(shown, (*size, image_shape[-1]))
