"""A data set's pixels as a layer, so that cropping and mirroring are part of a compiled training step."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_condense.augmenting import BOXED, PLAIN, normalize, shown_images
from keras_condense.validation import (
    check_channel_constants,
    check_crop_size,
    check_padding,
    check_positive_integer,
    check_real,
    shown,
)

__all__ = ["AugmentedImages"]

_LARGEST_IMAGES = 2**33  # bytes; a file that holds no images must not claim all memory


@keras.saving.register_keras_serializable("keras_condense")
class AugmentedImages(keras.layers.Layer):
    """Look images up, crop, mirror and normalise them: rows of (index, row, column, flip) in, images out.

    Image `index` is padded with `pad` zeros (black) on every side. The window whose upper left corner lies at (row,
    column) of the padded image, of the image's own size or of `crop_size`, is cut out, mirrored left to right if `flip`
    is 1, and normalised to `(pixels / 255 - mean) / std`. (index, pad, pad, 0) is the image as it is.

    Longer rows (index, row, column, flip, height, width, brightness, contrast, saturation) give the window's own size,
    from which it is resized, and the factors in thousandths by which its light is changed.

    The images are a weight that is not trained, one byte per value, on the device that trains. A batch costs the host
    no more than its few integers. Neither a saved model nor saved weights hold them, and the config only their shape: a
    layer that is loaded shows black images until `images.assign(pixels)`.

    Args:
        images: uint8 array (examples, height, width, channels).
        mean: of each channel, pixels in [0, 1].
        std: standard deviation of the same.
        pad: width of the black border, 0 for none.
        crop_size: (height, width) of the windows; None for the images' own size.
        trainable: has no effect, since there is nothing to train; accepted as for every layer.
        dtype: dtype or dtype policy; of the outputs. They are computed in float32.
        name: the layer's name.

    Input shape:
        (batch, 4) integers: an index below the number of examples, two offsets in [0, 2 * pad] (up to
        2 * pad + side - crop with a `crop_size`), 0 or 1. Or (batch, 9): a window within the padded image, and three
        factors.

    Output shape:
        (batch, height, width, channels), of the windows.

    Raises:
        ValueError: `images` of another type or shape, a `pad` that is no integer of at least 0, constants that are not
            one number per channel, or inputs of another shape.

    Example:
        >>> import numpy as np
        >>> image = np.array([[51, 102], [153, 255]], "uint8").reshape(1, 2, 2, 1)
        >>> layer = AugmentedImages(image, mean=[0.0], std=[1.0], pad=1)
        >>> draws = np.array([[0, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 0]], "int32")  # as it is, mirrored, a row down
        >>> (ops.convert_to_numpy(layer(draws))[..., 0] * 255).round().astype(int).tolist()
        [[[51, 102], [153, 255]], [[102, 51], [255, 153]], [[0, 0], [51, 102]]]
    """

    def __init__(
        self,
        images: np.ndarray,
        mean: Sequence[float],
        std: Sequence[float],
        pad: int = 0,
        crop_size: tuple[int, int] | None = None,
        trainable: bool = True,
        dtype: Any = None,
        name: str | None = None,
    ):
        super().__init__(trainable=trainable, dtype=dtype, name=name)
        if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 4 or not images.size:
            given = f"{getattr(images, 'dtype', type(images).__name__)} of shape {np.shape(images)}"
            raise ValueError(
                f"`images` ({given}) must be a NumPy array of uint8, (examples, height, width, channels), not empty. "
                "Give the pixels as they are stored: the layer normalises them."
            )
        self.pad = check_padding("pad", pad, "Use 4 for 32x32 images, 0 for none.")
        self.images_shape, channels = images.shape, images.shape[-1]
        self.crop_size = None if crop_size is None else check_crop_size(crop_size, self.images_shape[1:])
        fix = "Give that of the training images."
        self.mean = check_channel_constants("mean", mean, channels, fix)
        self.std = check_channel_constants("std", std, channels, fix, above_zero=True)
        self._pixels = images

    def build(self, input_shape):
        if len(input_shape) != 2 or input_shape[-1] not in (len(PLAIN), len(BOXED)):
            raise ValueError(
                f"Layer {self.name!r} got inputs of shape {tuple(input_shape)}, and expects (batch, 4), "
                f"{', '.join(PLAIN)} of each image, or (batch, {len(BOXED)}), {', '.join(BOXED[4:])} too. "
                "Give it the rows of `ImageArrays.draws`."
            )
        self.images = self.add_weight(
            name="images",
            shape=self.images_shape,
            initializer=lambda shape, dtype: ops.convert_to_tensor(self._pixels, dtype),
            dtype="uint8",
            trainable=False,
            autocast=False,
        )
        self._pixels = None  # the weight holds them now

    def call(self, inputs):
        check_real("inputs", inputs.dtype)
        draws = ops.cast(inputs, "int32")
        images = ops.take(self.images, draws[:, 0], axis=0)  # whole images first: an index of pixels could exceed int32
        size = self.crop_size or self.images_shape[1:3]
        pixels = ops.cast(shown_images(images, draws, self.pad, size, ops), "float32")
        mean, std = ops.convert_to_tensor(self.mean, "float32"), ops.convert_to_tensor(self.std, "float32")
        return ops.cast(normalize(pixels, mean, std), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *(self.crop_size or self.images_shape[1:3]), self.images_shape[-1])

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), self.compute_dtype)

    def save_own_variables(self, store):
        """Save nothing: a file of weights must not hold the data set."""

    def load_own_variables(self, store):
        """Load nothing, and leave the images as they are."""

    def get_config(self):
        return super().get_config() | {
            "images_shape": list(self.images_shape),
            "mean": self.mean,
            "std": self.std,
            "pad": self.pad,
            "crop_size": self.crop_size,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        shape, fix = config.pop("images_shape", None), "Save the layer again."
        if not isinstance(shape, (list, tuple)) or len(shape) != 4:
            raise ValueError(f"`images_shape` (={shown(shape)}) must be four positive integers. {fix}")
        shape = tuple(check_positive_integer("images_shape", size, fix) for size in shape)
        if math.prod(shape) > _LARGEST_IMAGES:
            raise ValueError(
                f"`images_shape` (={shape}) must be of at most {_LARGEST_IMAGES:,} bytes to be made of a config. "
                "Make the layer of its images instead."
            )
        return cls(np.zeros(shape, "uint8"), **config)
