"""`tf.data` of a request's images: drawn, cropped, mirrored and normalised as `ImageArrays` and its layer do it."""

from typing import TYPE_CHECKING, Any

import numpy as np

from keras_condense.augmenting import normalize, relit, shown_images
from keras_condense.datasets.drawing import as_they_are, shuffled
from keras_condense.datasets.examples import WHOLE
from keras_condense.datasets.parts import Part

if TYPE_CHECKING:
    import tensorflow as tf

    from keras_condense.datasets.preparing import Prepared

__all__ = ["batches_in_order", "calibration_images", "training_batches"]


def training_batches(
    prepared: "Prepared",
    epochs: "tf.data.Dataset",
    crop_size: tuple[int, int] | None = None,
    alternate_flips: bool = False,
    part: Part = WHOLE,
) -> "tf.data.Dataset":
    """Return the batches of `epochs`, a stream of epoch numbers, one epoch after the other.

    The other arguments are those of `Dataset.training`, and which part of each epoch to read.
    """
    import tensorflow as tf

    drawing, request = prepared.drawing(crop_size, alternate_flips), prepared.request
    examples, from_files = prepared.train, request.is_photographs and drawing.cuts_boxes
    if from_files:
        examples = examples.in_boxes(drawing.window)

    def draw(epoch):
        mix = np.random.SeedSequence((request.seed, epoch)).generate_state(1, "uint64")[0] >> np.uint64(1)
        return drawing.epoch(int(epoch)), mix.astype("int64")

    def show(draws, images, labels):
        if from_files:
            images = tf.cast(images, tf.float32)
            if drawing.augmentation.changes_light:
                images = relit(images, draws, tf.experimental.numpy)
        elif drawing.changes_images:
            images = shown_images(images, draws, drawing.pad, drawing.window, tf.experimental.numpy)
        return _normalized(prepared, images), labels

    def one_epoch(epoch):
        draws, mix = tf.numpy_function(draw, [epoch], [tf.int32, tf.int64])  # once an epoch; a batch is cut out of it
        draws, mix = tf.ensure_shape(draws, (drawing.size, len(drawing.columns))), tf.ensure_shape(mix, ())
        batches = examples.batches(draws, request.batch_size, request.drop_remainder, mix, part)
        return batches.map(show, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)

    return epochs.flat_map(one_epoch).prefetch(tf.data.AUTOTUNE)


def batches_in_order(prepared: "Prepared", examples: Any, part: Part = WHOLE) -> "tf.data.Dataset":
    """Return the normalised batches of one pass over `examples` in their stored order, or a part of each."""
    import tensorflow as tf

    batch_size = prepared.request.batch_size
    return (
        examples.batches(as_they_are(np.arange(examples.size)), batch_size, part=part)
        .map(lambda _, images, labels: (_normalized(prepared, images), labels), tf.data.AUTOTUNE, deterministic=True)
        .apply(tf.data.experimental.assert_cardinality(-(-examples.size * part.repeats // batch_size)))
        .prefetch(tf.data.AUTOTUNE)
    )


def calibration_images(prepared: "Prepared", n: int) -> list[np.ndarray]:
    """Return `n` normalised training images, each (1, height, width, channels), in an order of the seed."""
    import tensorflow as tf

    seed = prepared.request.seed
    draws = as_they_are(shuffled(prepared.train.size, seed))
    batches = prepared.train.batches(draws, 1, mix=tf.constant(seed, tf.int64)).take(n)
    return [_normalized(prepared, images).numpy() for _, images, _ in batches]


def _normalized(prepared: "Prepared", images: "tf.Tensor") -> "tf.Tensor":
    import tensorflow as tf

    mean, std = (np.asarray(values, "float32") for values in (prepared.mean, prepared.std))
    return normalize(tf.cast(images, tf.float32), mean, std)
