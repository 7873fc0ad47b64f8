"""What the networks trained on ImageNet do to images and to class scores."""

from typing import Any

import keras

__all__ = ["decode_predictions", "preprocess_input"]


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """Scale RGB images to [0, 1] and normalise each channel with ImageNet's mean and standard deviation.

    These are the statistics of DenseNet's and CondenseNet's own training programs, and of
    `keras.applications.densenet.preprocess_input`.

    Args:
        x: an array or tensor (height, width, 3) or (batch, height, width, 3) of values in 0..255. A NumPy array of
            floats is overwritten, as `keras.applications` does; pass a copy to keep it.
        data_format: "channels_last", "channels_first" (then the 3 stands before height), or None for Keras' setting.

    Returns:
        The normalised images, of `x`'s kind and shape.

    Raises:
        ValueError: an unknown `data_format`, or not 3 channels.

    Example:
        >>> import numpy as np
        >>> preprocess_input(np.full((1, 1, 3), 255.0)).round(3).tolist()
        [[[2.249, 2.429, 2.64]]]
    """
    data_format = data_format or keras.config.image_data_format()
    if data_format not in ("channels_last", "channels_first"):
        raise ValueError(f"`data_format` (={data_format!r}) must be 'channels_last' or 'channels_first'. Leave it out.")
    shape = tuple(getattr(x, "shape", ()))
    channels = None if len(shape) not in (3, 4) else shape[-1 if data_format == "channels_last" else -3]
    if channels != 3:
        raise ValueError(
            f"`x` (of shape {shape}) must be an array of images with 3 channels ({data_format}). Give RGB images; "
            "normalise others with the statistics of your own data."
        )
    return keras.applications.imagenet_utils.preprocess_input(x, data_format=data_format, mode="torch")


def decode_predictions(preds: Any, top: int = 5) -> list[list[tuple[str, str, float]]]:
    """Name the most likely ImageNet classes of each image. Fetches the list of names on its first use.

    Args:
        preds: class scores (batch, 1000).
        top: how many classes to name.

    Returns:
        For each image a list of `top` tuples (WordNet number, name, score), the most likely first.

    Raises:
        ValueError: `preds` is not of shape (batch, 1000).

    Example:
        >>> import numpy as np
        >>> decode_predictions(np.zeros((1, 10)))
        Traceback (most recent call last):
        ...
        ValueError: `preds` (of shape (1, 10)) must be of shape (batch, 1000). Decode other classes with ...
    """
    shape = tuple(getattr(preds, "shape", ()))
    if len(shape) != 2 or shape[1] != 1000:
        raise ValueError(
            f"`preds` (of shape {shape}) must be of shape (batch, 1000). Decode other classes with your own names."
        )
    return keras.applications.imagenet_utils.decode_predictions(preds, top=top)
