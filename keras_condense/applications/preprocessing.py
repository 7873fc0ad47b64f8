"""How images become what a trained network takes: size, colours and statistics, a constant for each kind of weights.

Nothing here needs Keras or TensorFlow: `Preprocessing.normalize` is NumPy.
"""

import dataclasses
import math

import numpy as np

from keras_condense.validation import (
    check_channel_constants,
    check_choice,
    check_fraction,
    check_not_negative,
    check_positive_integer,
)

__all__ = ["CIFAR", "CIFAR10", "IMAGENET", "KERAS_DENSENET", "KERAS_MOBILENET", "Preprocessing"]

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
CHANNEL_ORDERS = ("rgb", "bgr")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How the images were made with which a network was trained and evaluated.

    An evaluation resizes an image so that its shorter side has `resize_to` pixels, cuts `size` x `size` pixels out of
    its middle, and gives them to `normalize`.

    Attributes:
        size: height and width of the images that the network takes.
        mean: of each channel, in `channel_order`, subtracted from the scaled pixels.
        std: of each channel, in `channel_order`, by which the difference is divided.
        channel_order: "rgb" or "bgr": the order in which the network takes the channels.
        scale: the pixels, of 0..255, are multiplied by it first.
        crop_fraction: `size` as a share of the shorter side of the resized image, in (0, 1]; 1 for data whose images
            are taken as they are.
        interpolation: how images are resized: "nearest", "bilinear", "bicubic" or "lanczos".

    Raises:
        ValueError: a value that makes no sense; the message names it.

    Example:
        >>> IMAGENET.size, IMAGENET.resize_to
        (224, 256)
        >>> IMAGENET.normalize(np.full((1, 1, 3), 255, "uint8")).round(3)
        array([[[2.249, 2.429, 2.64 ]]], dtype=float32)
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channel_order: str = "rgb"
    scale: float = 1 / 255
    crop_fraction: float = 0.875
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        """Check the values."""
        check_positive_integer("size", self.size, "Use 224 for ImageNet, 32 for CIFAR.")
        mean = check_channel_constants("mean", self.mean, 3, "Give red, green and blue in `channel_order`.")
        std = check_channel_constants(
            "std", self.std, 3, "Give red, green and blue in `channel_order`.", above_zero=True
        )
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "std", std)
        check_choice(
            "channel_order", self.channel_order, CHANNEL_ORDERS, "Use 'rgb' unless the network wants blue first."
        )
        check_not_negative("scale", self.scale, "Use 1 / 255 for statistics of pixels in 0..1.", above_zero=True)
        fraction = check_fraction("crop_fraction", self.crop_fraction, "Use 0.875, or 1.0 to cut nothing off.")
        check_not_negative("crop_fraction", fraction, "Use 0.875, or 1.0 to cut nothing off.", above_zero=True)
        check_choice("interpolation", self.interpolation, INTERPOLATIONS, "Use 'bilinear'.")

    @property
    def resize_to(self) -> int:
        """The shorter side of the resized image, before its middle is cut out."""
        return math.ceil(self.size / self.crop_fraction)

    def normalize(self, images: np.ndarray) -> np.ndarray:
        """Return images as the network takes them.

        Args:
            images: RGB images (..., height, width, 3), of uint8 or floats in 0..255, of any size.

        Returns:
            A new float32 array of the same shape, its channels in `channel_order`.

        Raises:
            ValueError: not three channels, or neither uint8 nor floats.

        Example:
            >>> KERAS_MOBILENET.normalize(np.array([[[0, 127.5, 255]]])).tolist()
            [[[-1.0, 0.0, 1.0]]]
            >>> IMAGENET.normalize(np.zeros((32, 32, 1)))
            Traceback (most recent call last):
            ...
            ValueError: `images` (of shape (32, 32, 1)) must have the shape (..., height, width, 3). Give RGB images.
        """
        images = np.asarray(images)
        if images.ndim < 3 or images.shape[-1] != 3:
            raise ValueError(
                f"`images` (of shape {images.shape}) must have the shape (..., height, width, 3). Give RGB images."
            )
        if images.dtype != np.uint8 and not np.issubdtype(images.dtype, np.floating):
            raise ValueError(
                f"`images` (of dtype {images.dtype}) must be of uint8 or floats, with values in 0..255. "
                "Convert them with images.astype('uint8')."
            )
        if self.channel_order == "bgr":
            images = images[..., ::-1]
        scaled = images.astype("float32") * np.float32(self.scale)
        return (scaled - np.float32(self.mean)) / np.float32(self.std)


# Of the authors' programs (DenseNet, CondenseNet), of pytorchcv's and of `keras.applications.densenet`.
IMAGENET = Preprocessing(size=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
# What `keras.applications` calls "torch" and "tf". The latter makes -1..1 of 0..255; its networks of other image sizes
# are `dataclasses.replace(KERAS_MOBILENET, size=...)`.
KERAS_DENSENET = IMAGENET
KERAS_MOBILENET = Preprocessing(size=224, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
# pytorchcv trains and evaluates its networks for CIFAR-10, CIFAR-100 and SVHN with these figures, of CIFAR-10, alike.
# The deviations are smaller than those of all pixels.
CIFAR = Preprocessing(size=32, mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010), crop_fraction=1.0)
# Of all pixels of CIFAR-10, as `keras_condense.datasets` has them: for the networks that come with the package.
CIFAR10 = Preprocessing(size=32, mean=(0.4914, 0.4824, 0.4467), std=(0.2471, 0.2435, 0.2616), crop_fraction=1.0)
