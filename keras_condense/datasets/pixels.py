"""Gray, colour and size of images in NumPy, for machines without TensorFlow."""

import numpy as np

__all__ = ["fit_pixels"]

_GRAY = (0.2989, 0.587, 0.114)  # shares of red, green and blue, as `tf.image.rgb_to_grayscale` has them
_AT_ONCE = 1024  # images, so that what is computed in float32 stays small


def fit_pixels(images: np.ndarray, image_shape: tuple[int, int, int]) -> np.ndarray:
    """Return uint8 images as uint8 images of `image_shape`: gray repeated or colours mixed, resized bilinearly.

    The sizes are changed as `tf.image.resize(antialias=True)` changes them.

    Args:
        images: (batch, height, width, 1 or 3).
        image_shape: (height, width, 1 or 3).

    Returns:
        (batch, *image_shape).

    Example:
        >>> fit_pixels(np.array([0, 100], "uint8").reshape(1, 1, 2, 1), (1, 4, 1)).ravel()
        array([  0,  25,  75, 100], dtype=uint8)
    """
    if images.shape[1:] == tuple(image_shape):
        return images
    try:
        fitted = np.empty((len(images), *image_shape), "uint8")
    except MemoryError as error:
        raise ValueError(
            f"`image_size` (={image_shape[:2]}) must be such that {len(images)} images fit into memory. "
            "Use a smaller one."
        ) from error
    for start in range(0, len(images), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        fitted[part] = _resized(_with_channels(images[part], image_shape[-1]), image_shape[:2])
    return fitted


def _with_channels(images: np.ndarray, channels: int) -> np.ndarray:
    if images.shape[-1] == channels:
        return images
    if channels == 3:
        return np.repeat(images, 3, axis=-1)
    mixed = images.astype("float32") @ np.array(_GRAY, "float32")
    return (mixed * (255.5 / 255)).astype("uint8")[..., None]  # TensorFlow's way of rounding


def _resized(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if images.shape[1:3] == tuple(size):
        return images
    down, across = (_weights(old, new) for old, new in zip(images.shape[1:3], size, strict=True))
    resized = np.einsum("ab,nbcd,ec->naed", down, images.astype("float32"), across, optimize=True)
    return np.clip(np.rint(resized), 0, 255).astype("uint8")


def _weights(old: int, new: int) -> np.ndarray:
    """How much each of `old` pixels counts in each of `new` ones: a triangle as wide as the wider of the two."""
    centers = (np.arange(new) + 0.5) * (old / new)
    distances = np.abs(np.arange(old) + 0.5 - centers[:, None]) / max(old / new, 1.0)
    weights = np.maximum(0.0, 1.0 - distances)
    return (weights / weights.sum(axis=1, keepdims=True)).astype("float32")
