"""The input pipeline: examples in an order that depends on (seed, epoch) alone, cropped, flipped, normalised.

Nothing here keeps state. What an epoch shows is a function of the seed, the epoch's number and an example's index, so
that a run that was killed can go on with exactly the batches that an unbroken run would have seen.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from keras_condense.datasets.recipes import Augmentation

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["crop", "draw", "examples_in_order", "flip", "normalize", "training_stream"]

_ORDER, _CROP, _FLIP = range(3)  # independent random streams of an epoch


def crop(images: Any, offsets: Any, pad: int, size: tuple[int, int] | None = None) -> "tf.Tensor":
    """Pad every image with `pad` zeros on each side and cut out a window, by default of the image's size.

    Args:
        images: (batch, height, width, channels), raw pixels: the authors, too, pad before they normalise.
        offsets: (batch, 2) integers; the window's upper left corner in the padded image.
        pad: width of the border.
        size: (height, width) of the windows.

    Returns:
        Windows of the type of `images`.

    Example:
        >>> image = np.array([[1, 2], [3, 4]]).reshape(1, 2, 2, 1)
        >>> crop(image, [[0, 1]], pad=1).numpy()[0, :, :, 0]  # moved down by a row
        array([[0, 0],
               [1, 2]])
    """
    import tensorflow as tf

    height, width = size or (tf.shape(images)[1], tf.shape(images)[2])
    padded = tf.pad(images, [[0, 0], [pad, pad], [pad, pad], [0, 0]])
    offsets = tf.cast(offsets, tf.int32)
    rows = offsets[:, :1] + tf.range(height)
    columns = offsets[:, 1:] + tf.range(width)
    windows = tf.gather(tf.gather(padded, rows, batch_dims=1), columns, axis=2, batch_dims=1)
    return tf.ensure_shape(windows, [images.shape[0], *(size or images.shape[1:3]), images.shape[3]])


def flip(images: Any, flips: Any) -> "tf.Tensor":
    """Mirror those images left to right whose entry in `flips` (batch, bool) is True.

    Example:
        >>> flip(np.array([[1, 2], [3, 4]]).reshape(2, 1, 2, 1), [True, False]).numpy().reshape(2, 2)
        array([[2, 1],
               [3, 4]])
    """
    import tensorflow as tf

    return tf.where(tf.convert_to_tensor(flips)[:, None, None, None], tf.reverse(images, [2]), images)


def draw(size: int, key: Any, places: tuple[int, int], alternate_flips: bool) -> tuple["tf.Tensor", "tf.Tensor"]:
    """Draw what happens to every example in an epoch: by its index, so that batch sizes make no difference.

    Args:
        size: number of examples in the data set.
        key: two integers, the seed and the epoch.
        places: how many rows and columns a window's corner can lie in.
        alternate_flips: mirror each example in every second epoch.

    Returns:
        The offsets for `crop`, (size, 2) int32, and the choices for `flip`, (size,) bool.
    """
    import tensorflow as tf

    offsets = [
        tf.random.stateless_uniform([size, 2], _key(key, _CROP), 0, most, tf.int32, alg="philox")[:, side]
        for side, most in enumerate(places)
    ]
    epoch = key[1] if alternate_flips else tf.zeros([], tf.int64)
    flips_key = tf.stack([key[0], 0]) if alternate_flips else key
    flips = tf.random.stateless_uniform([size], _key(flips_key, _FLIP), 0, 2, tf.int32, alg="philox")
    return tf.stack(offsets, axis=1), (flips + tf.cast(epoch % 2, tf.int32)) % 2 == 1


def normalize(images: Any, mean: tuple[float, ...], std: tuple[float, ...]) -> "tf.Tensor":
    """Return `(images / 255 - mean) / std` as float32, a mean and a standard deviation for each channel.

    Example:
        >>> float(normalize(np.full((1, 1, 1, 1), 255, "uint8"), mean=(0.5,), std=(0.25,))[0, 0, 0, 0])
        2.0
    """
    import tensorflow as tf

    images = tf.cast(images, tf.float32) / 255.0
    return (images - np.asarray(mean, "float32")) / np.asarray(std, "float32")


def shuffled(size: int, key: Any) -> "tf.Tensor":
    """Return a permutation of `range(size)` (int64) that depends on `key`, the seed and the epoch, alone."""
    import tensorflow as tf

    order = tf.range(size, dtype=tf.int64)
    return tf.random.experimental.stateless_shuffle(order, _key(key, _ORDER), alg="philox")


def shuffle_seed(key: Any) -> "tf.Tensor":
    """Return the one integer (int64) that seeds a `tf.data` shuffle buffer for `key`, the seed and the epoch."""
    import tensorflow as tf

    return tf.cast(_key(key, _ORDER)[0], tf.int64)


def training_stream(
    examples: Any,
    *,
    batch_size: int,
    drop_remainder: bool,
    augmentation: Augmentation | None,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    seed: int,
    epochs: "tf.data.Dataset",
    image_shape: tuple[int, int, int],
    crop_size: tuple[int, int] | None = None,
    alternate_flips: bool = False,
) -> "tf.data.Dataset":
    """Return the batches of `epochs`, a stream of epoch numbers, one epoch after the other.

    The last two arguments are those of `Dataset.training`.
    """
    import tensorflow as tf

    augmentation = augmentation or Augmentation(pad=0, flip=False)
    pad, places = augmentation.pad, (2 * augmentation.pad + 1,) * 2
    if crop_size is not None:
        pad, places = 0, tuple(side - crop + 1 for side, crop in zip(image_shape, crop_size, strict=False))

    def one_epoch(epoch):
        key = tf.stack([tf.constant(seed, tf.int64), epoch])
        offsets, flips = draw(examples.size, key, places, alternate_flips)  # once an epoch: a batch only looks them up

        def prepare(indices, images, labels):
            if pad or crop_size:
                images = crop(images, tf.gather(offsets, indices), pad, crop_size)
            if augmentation.flip:
                images = flip(images, tf.gather(flips, indices))
            return normalize(images, mean, std), labels

        return examples.batches(batch_size, drop_remainder, key).map(
            prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )

    return epochs.flat_map(one_epoch).prefetch(tf.data.AUTOTUNE)


def examples_in_order(
    examples: Any, *, batch_size: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> "tf.data.Dataset":
    """Return the normalised batches of one pass over `examples` in their stored order."""
    import tensorflow as tf

    steps = -(-examples.size // batch_size)
    return (
        examples.batches(batch_size)
        .map(lambda _, images, labels: (normalize(images, mean, std), labels), tf.data.AUTOTUNE, deterministic=True)
        .apply(tf.data.experimental.assert_cardinality(steps))
        .prefetch(tf.data.AUTOTUNE)
    )


def _key(key: Any, purpose: int) -> "tf.Tensor":
    import tensorflow as tf

    return tf.random.experimental.stateless_fold_in(tf.cast(key, tf.int64), purpose, alg="philox")
