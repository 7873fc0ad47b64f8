"""Image files to pixels: by TensorFlow where it reads a format rightly, else by Pillow.

TensorFlow takes the palette of a BMP for gray, refuses BMPs of 1 bit and WebPs with transparency, and shows photographs
as the sensor lay, whatever their EXIF orientation says. Pillow reads all of these, which are told apart by the first
bytes alone. JPEGs and PNGs stay with TensorFlow, whose pixels differ from Pillow's by a few levels.
"""

import concurrent.futures
import io
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from keras_condense.datasets.pixels import fit_pixels

__all__ = ["decode_image", "decode_with_pillow", "header_size", "in_threads", "read_image"]

_AT_ONCE = 4096  # items that wait for a thread, each of which takes 2 kB
_HEAD = 1 << 16  # bytes within which a camera writes its EXIF data
_EXIF = re.compile(rb"Exif\x00|eXIf")  # of JPEG and of PNG
_ORIENTATION = 0x0112  # EXIF's number for it


def in_threads(function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
    """Yield a function of each item, in order, computed in threads; Pillow's remarks on odd files are not shown."""
    # here, since filters are the whole process's
    with warnings.catch_warnings(), concurrent.futures.ThreadPoolExecutor() as pool:
        warnings.simplefilter("ignore")
        for start in range(0, len(items), _AT_ONCE):
            yield from pool.map(function, items[start : start + _AT_ONCE])


def decode_image(encoded: bytes, channels: int) -> np.ndarray:
    """Decode the bytes of one image file to uint8 (height, width, channels); of an animation its first picture.

    Transparency is left out. An image is turned and mirrored as its EXIF orientation says.

    Raises:
        ValueError: broken or of an unknown format.
    """
    if encoded[:2] == b"BM" or _is_webp(encoded) or _has_exif(encoded):
        pixels = decode_with_pillow(encoded)
    else:
        import tensorflow as tf

        with tf.device("CPU"):
            try:  # always by way of RGB: not every format decodes to gray
                pixels = tf.io.decode_image(encoded, channels=3, expand_animations=False).numpy()
            except tf.errors.OpError as error:
                raise ValueError(
                    "an image must be one that TensorFlow reads, and is not "
                    f"({_in_words(error.message)}). Save it again."
                ) from error
    return fit_pixels(pixels[None], (*pixels.shape[:2], channels))[0]


def _in_words(message: str) -> str:
    """TensorFlow's message on one line, without the names of its operations."""
    return " ".join(re.sub(r"\{\{.*?\}\}|\[Op:\w+\]", "", message).split())[:200]


def decode_with_pillow(encoded: bytes, upright: bool = True) -> np.ndarray:
    """Decode the bytes of one image file to uint8 (height, width, 3), its first picture, turned as EXIF says.

    Args:
        encoded: the file's bytes.
        upright: False to leave the image as the sensor lay.

    Raises:
        ValueError: broken, of an unknown format, or of more pixels than Pillow takes for honest.

    Example:
        >>> from PIL import Image
        >>> file = io.BytesIO()
        >>> Image.fromarray(np.array([[0, 255]], "uint8")).save(file, "bmp")  # gray, by way of a palette
        >>> decode_with_pillow(file.getvalue()).tolist()
        [[[0, 0, 0], [255, 255, 255]]]
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(encoded)) as image:
            image.load()
            turned = image
            if upright and (orientation := _orientation(image)):
                turned = image.transpose(_turns(Image.Transpose)[orientation])
            if turned.mode.startswith("I"):  # 16 bits a pixel, of which TensorFlow too takes the upper 8
                gray = (np.asarray(turned).astype("int64") >> 8).clip(0, 255).astype("uint8")
                return np.repeat(gray[..., None], 3, axis=-1)
            return np.array(turned.convert("RGB"))
    except Exception as error:  # a broken file can end in any
        raise ValueError(
            f"an image must be one that Pillow reads, and is not ({type(error).__name__}: {error}). Save it again."
        ) from error


def read_image(path: str, image_shape: tuple[int, int, int] | None = None, resize: str = "stretch") -> np.ndarray:
    """Return the pixels of an image file as uint8 of `image_shape` (None for RGB of its own size); see `fit_pixels`.

    Raises:
        ValueError: it can't be read or decoded; the message names it.
    """
    try:
        if not os.path.isfile(path):  # to open a pipe would wait for somebody who writes to it
            raise ValueError("it is not a regular file")
        with open(path, "rb") as file:
            pixels = decode_image(file.read(), image_shape[-1] if image_shape else 3)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path!r} must be an image that can be decoded, and can't ({error}). Fix or remove it."
        ) from error
    return pixels if image_shape is None else fit_pixels(pixels[None], image_shape, resize)[0]


def header_size(path: str) -> tuple[int, int] | None:
    """Return an image file's (height, width) as its header says, turned upright, or None if that is broken.

    Headers that claim more pixels than memory holds are broken. What follows the header is not read.
    """
    from PIL import Image

    if not os.path.isfile(path):
        return None
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD)
            file.seek(0)
            with Image.open(file) as image:
                width, height = image.size
                if (_is_webp(head) or _has_exif(head)) and (_orientation(image) or 0) >= 5:
                    height, width = width, height
    except Exception:  # whatever a broken file makes Pillow raise
        return None
    return (height, width) if height and width else None


def _is_webp(encoded: bytes) -> bool:
    return encoded[:4] == b"RIFF"


def _has_exif(encoded: bytes) -> bool:
    return _EXIF.search(encoded, 0, _HEAD) is not None


def _orientation(image: Any) -> int | None:
    """EXIF's orientation of an image where it is one that turns or mirrors."""
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:  # broken EXIF data says nothing of the pixels
        return None
    return orientation if orientation in range(2, 9) else None


def _turns(transpose: Any) -> dict[int, Any]:
    """What puts each orientation right (TIFF 6.0, tag Orientation)."""
    return {
        2: transpose.FLIP_LEFT_RIGHT,
        3: transpose.ROTATE_180,
        4: transpose.FLIP_TOP_BOTTOM,
        5: transpose.TRANSPOSE,
        6: transpose.ROTATE_270,
        7: transpose.TRANSVERSE,
        8: transpose.ROTATE_90,
    }
