"""Crops, mirror images, changes of light and normalisation of uint8 images, as pure functions of arrays.

They are written once for the NumPy interface that NumPy, `keras.ops` and `tf.experimental.numpy` share: the first for
arrays, the second within a compiled training step on any backend, the third in `tf.data`, where `keras.ops` would
compute with the wrong backend under JAX and PyTorch.
"""

from types import ModuleType
from typing import Any

import numpy as np

__all__ = ["BOXED", "GRAY", "PLAIN", "RESIZE", "cut", "normalize", "recolored", "relit", "shown_images", "zoomed"]

# to the shape that is asked for: all of an image, its largest middle of that shape, or as networks for ImageNet see it
RESIZE = ("stretch", "crop", "photographs")
GRAY = np.array((0.2989, 0.587, 0.114), "float32")  # shares of red, green and blue, those of TensorFlow

# the columns of draws: what is shown of each image
PLAIN = ("index", "row", "column", "flip")  # a window of the size that is shown
BOXED = (*PLAIN, "height", "width", "brightness", "contrast", "saturation")  # a box, resized; factors in thousandths


def shown_images(images: Any, draws: Any, pad: int, size: tuple[int, int], xp: ModuleType = np) -> Any:
    """Show of every image what a row of `draws` says.

    Args:
        images: (batch, height, width, channels), raw pixels.
        draws: int32 (batch, 4) with the columns of `PLAIN`, or (batch, 9) with those of `BOXED`.
        pad: width of the black border that rows and columns are counted in.
        size: (height, width) of what is shown.
        xp: the library of the arrays.

    Returns:
        (batch, *size, channels): of the type of `images` for `PLAIN`, float32 for `BOXED`, raw pixels both.

    Example:
        >>> image = np.array([[0, 100]], "uint8").reshape(1, 1, 2, 1)
        >>> shown_images(image, np.array([[0, 0, 0, 1]], "int32"), 0, (1, 2)).ravel()
        array([100,   0], dtype=uint8)
        >>> shown_images(image, np.array([[0, 0, 0, 1, 1, 2, 1500, 1000, 1000]], "int32"), 0, (1, 2)).ravel()
        array([150.,   0.], dtype=float32)
    """
    if draws.shape[1] == len(PLAIN):
        return cut(images, draws, pad, size, xp)
    windows = zoomed(xp.array(images, dtype="float32"), xp.array(draws[:, 1:6], dtype="float32"), pad, size, xp)
    return relit(windows, draws, xp)


def relit(images: Any, draws: Any, xp: ModuleType = np) -> Any:
    """Change the light of float32 images as rows of `draws` with the columns of `BOXED` say: see `recolored`."""
    return recolored(images, xp.array(draws[:, 6:], dtype="float32") / np.float32(1000), xp)


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


def zoomed(images: Any, boxes: Any, pad: int, size: tuple[int, int], xp: ModuleType = np) -> Any:
    """Cut a box out of every image, padded with black, resize it to `size`, and mirror some of them left to right.

    Bilinearly, and with antialiasing where a box is larger than `size`, as `tf.image.resize(antialias=True)` would
    resize the box alone. Rows and columns are mixed by a matrix for each image, which any accelerator multiplies fast.

    Args:
        images: float32 (batch, height, width, channels).
        boxes: float32 (batch, 5): row and column of the upper left corner in the padded image, 1 to mirror it or 0,
            height and width, all of them whole numbers.
        pad: width of the black border.
        size: (height, width) of what is returned.
        xp: the library of the arrays.

    Returns:
        float32 (batch, *size, channels).

    Example:
        >>> image = np.array([0, 100, 7], "float32").reshape(1, 1, 3, 1)
        >>> zoomed(image, np.array([[0, 0, 0, 1, 2]], "float32"), 0, (1, 4)).ravel()  # its first two pixels
        array([  0.,  25.,  75., 100.], dtype=float32)
    """
    height, width = images.shape[1:3]
    rows = _mixing(boxes[:, 0:1], boxes[:, 3:4], boxes[:, 2:3] * np.float32(0), height, pad, size[0], xp)
    columns = _mixing(boxes[:, 1:2], boxes[:, 4:5], boxes[:, 2:3], width, pad, size[1], xp)
    return xp.einsum("bjq,biqc->bijc", columns, xp.einsum("bip,bpqc->biqc", rows, images))


def _mixing(first: Any, length: Any, flip: Any, old: int, pad: int, new: int, xp: ModuleType) -> Any:
    """How much each of `old` pixels counts in each of `new` ones: (batch, new, old), of boxes (batch, 1) along an axis.

    A triangle around each new pixel's place in the box, as wide as the wider pixel of the two.
    """
    one, half = np.float32(1), np.float32(0.5)
    places = xp.arange(new, dtype="float32")
    places = places + flip * (np.float32(new - 1) - np.float32(2) * places)
    step = length / np.float32(new)
    centers = (first + (places + half) * step - half)[:, :, None]
    pixels = xp.arange(old + 2 * pad, dtype="float32")
    is_inside = (pixels >= first) & (pixels < first + length)
    weights = one - xp.abs(centers - pixels) / xp.maximum(step, one)[:, :, None]
    weights = xp.where(is_inside[:, None, :], xp.maximum(weights, np.float32(0)), np.float32(0))
    return (weights / xp.sum(weights, axis=-1, keepdims=True))[:, :, pad : pad + old]


def recolored(images: Any, factors: Any, xp: ModuleType = np) -> Any:
    """Change every image's brightness, then its contrast, then its saturation; 1 leaves each of them as it is.

    Each factor mixes an image with a dull one, or leads away from it: with black, with the mean of its gray, with its
    gray. Pixels stay in [0, 255].

    Args:
        images: float32 (batch, height, width, 1 or 3), raw pixels.
        factors: float32 (batch, 3): of brightness, contrast and saturation.
        xp: the library of the arrays.

    Example:
        >>> image = np.array([[[[50, 150]]]], "float32").reshape(1, 1, 2, 1)
        >>> recolored(image, np.array([[1, 0.5, 1]], "float32")).ravel()
        array([ 75., 125.], dtype=float32)
    """
    shares = GRAY / GRAY.sum() if images.shape[-1] == 3 else np.ones(1, "float32")

    def gray(pixels):
        return xp.tensordot(pixels, shares, axes=1)[..., None]  # a third of the time of a product and its sum

    def mixed(pixels, column, dull=None):
        factor = factors[:, column, None, None, None]
        pixels = factor * pixels if dull is None else factor * pixels + (np.float32(1) - factor) * dull
        return xp.minimum(xp.maximum(pixels, np.float32(0)), np.float32(255))  # half the time of `clip` in `tf.data`

    images = mixed(images, 0)
    images = mixed(images, 1, xp.mean(gray(images), axis=(1, 2), keepdims=True))
    return mixed(images, 2, gray(images))


def normalize(pixels: Any, mean: Any, std: Any) -> Any:
    """Return `(pixels / 255 - mean) / std`; all float32 arrays of one library, a constant for each channel.

    Example:
        >>> normalize(np.array([255, 0], "float32"), np.float32(0.5), np.float32(0.25))
        array([ 2., -2.], dtype=float32)
    """
    return (pixels / 255.0 - mean) / std
