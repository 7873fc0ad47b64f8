"""Crops, mirror images and normalisation of uint8 images, as pure functions of arrays.

They are written once for the NumPy interface that NumPy, `keras.ops` and `tf.experimental.numpy` share: the first for
arrays, the second within a compiled training step on any backend, the third in `tf.data`, where `keras.ops` would
compute with the wrong backend under JAX and PyTorch.
"""

from types import ModuleType
from typing import Any

import numpy as np

__all__ = ["RESIZE", "cut", "normalize"]

RESIZE = ("stretch", "crop")  # to the shape that is asked for: all of an image, or its largest middle of that shape


def cut(images: Any, draws: Any, pad: int, size: tuple[int, int], xp: ModuleType = np) -> Any:
    """Cut a window out of every image, padded with black, and mirror some of them left to right.

    Args:
        images: (batch, height, width, channels), raw pixels: the authors, too, pad before they normalise.
        draws: int32 (batch, 4): an index that is not used here, the row and the column of the window's upper left
            corner in the padded image, and 1 to mirror it or 0.
        pad: width of the black border.
        size: (height, width) of the windows.
        xp: the library of the arrays.

    Returns:
        Windows of the type of `images`.

    Example:
        >>> image = np.array([[1, 2], [3, 4]], "uint8").reshape(1, 2, 2, 1)
        >>> cut(image, np.array([[0, 0, 1, 1]], "int32"), pad=1, size=(2, 2))[0, :, :, 0]  # a row down, mirrored
        array([[0, 0],
               [2, 1]], dtype=uint8)
    """
    _, height, width, channels = images.shape
    across = xp.arange(size[1], dtype="int32")
    rows = draws[:, 1:2] + xp.arange(-pad, size[0] - pad, dtype="int32")
    columns = draws[:, 2:3] - pad + across + draws[:, 3:] * (size[1] - 1 - 2 * across)
    is_row, is_column = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
    places = xp.clip(rows, 0, height - 1)[:, :, None] * width + xp.clip(columns, 0, width - 1)[:, None, :]
    pixels = xp.take_along_axis(
        xp.reshape(images, (-1, height * width, channels)), xp.reshape(places, (-1, size[0] * size[1], 1)), axis=1
    )
    pixels = xp.reshape(pixels, (-1, *size, channels))
    return xp.where((is_row[:, :, None] & is_column[:, None, :])[..., None], pixels, xp.zeros_like(pixels))


def normalize(pixels: Any, mean: Any, std: Any) -> Any:
    """Return `(pixels / 255 - mean) / std`; all float32 arrays of one library, a constant for each channel.

    Example:
        >>> normalize(np.array([255, 0], "float32"), np.float32(0.5), np.float32(0.25))
        array([ 2., -2.], dtype=float32)
    """
    return (pixels / 255.0 - mean) / std
