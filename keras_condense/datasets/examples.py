"""Where examples are kept: in memory, as image files, or in a stream too large for memory.

Each kind has `size` and `batches(batch_size, drop_remainder, key)`: one pass as (indices, uint8 images, int32
labels), in stored order without a key, else in an order that depends on the key (seed, epoch) alone.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_condense.datasets.decoding import decode_image
from keras_condense.datasets.pipeline import shuffle_seed, shuffled

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["IN_MEMORY_BYTES", "ImageFiles", "InMemory", "Stream", "in_memory", "in_memory_if_small", "to_pixels"]

IN_MEMORY_BYTES = 1 << 30  # data sets of more bytes as uint8 are read again every epoch
_SHUFFLE_BUFFER = 4096  # examples; only for streams, which can't be read at random places


class InMemory:
    """uint8 images held once; a batch is gathered by index, so that a training step costs the host next to nothing.

    TensorFlow is not needed until `batches` is called.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        self.size = len(labels)
        self.images, self.labels = images, np.asarray(labels, "int32")

    @functools.cached_property
    def _tensors(self) -> tuple["tf.Tensor", "tf.Tensor"]:
        import tensorflow as tf

        # `batches` may be called while a pipeline is traced; and on an accelerator the whole data set would lie there
        with tf.init_scope(), tf.device("CPU"):
            tensors = tf.constant(self.images), tf.constant(self.labels)
        self.images, self.labels = map(np.asarray, tensors)  # views of the tensors: the pixels are still held once
        return tensors

    def batches(self, batch_size: int, drop_remainder: bool = False, key: Any = None) -> "tf.data.Dataset":
        import tensorflow as tf

        images, labels = self._tensors
        return _batched_order(self.size, batch_size, drop_remainder, key).map(
            lambda indices: (indices, tf.gather(images, indices), tf.gather(labels, indices)),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )

    def subset(self, indices: np.ndarray) -> "InMemory":
        return InMemory(self.images[indices], self.labels[indices])


@dataclasses.dataclass(frozen=True)
class ImageFiles:
    """Image files, decoded in parallel whenever a batch needs them."""

    paths: np.ndarray
    labels: np.ndarray
    image_shape: tuple[int, int, int]

    @property
    def size(self) -> int:
        return len(self.paths)

    def batches(self, batch_size: int, drop_remainder: bool = False, key: Any = None) -> "tf.data.Dataset":
        import tensorflow as tf

        paths, labels = tf.constant(self.paths.tolist()), tf.constant(self.labels, tf.int32)

        def read(index):
            image = decode_image(tf.io.read_file(paths[index]), self.image_shape[-1])
            return index, to_pixels(image, self.image_shape), labels[index]

        indices = tf.data.Dataset.from_tensor_slices(_order(self.size, key))
        images = indices.map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return images.batch(batch_size, drop_remainder=drop_remainder)

    def subset(self, indices: np.ndarray) -> "ImageFiles":
        return dataclasses.replace(self, paths=self.paths[indices], labels=self.labels[indices])


@dataclasses.dataclass(frozen=True)
class Stream:
    """A `tf.data` of (encoded image, label) pairs, always in the same order, shuffled through a buffer."""

    pairs: "tf.data.Dataset"
    decode: Callable[["tf.Tensor"], "tf.Tensor"]
    size: int
    image_shape: tuple[int, int, int]
    chosen: np.ndarray | None = None  # (number of pairs,) bool: the subset's members; None for all

    def batches(self, batch_size: int, drop_remainder: bool = False, key: Any = None) -> "tf.data.Dataset":
        import tensorflow as tf

        examples = self.pairs
        if self.chosen is not None:
            chosen = tf.constant(self.chosen)
            examples = examples.enumerate().filter(lambda place, _: chosen[place]).map(lambda _, pair: pair)
        examples = examples.enumerate()
        if key is not None:
            # before decoding: what the buffer holds is small
            examples = _shuffled_through_buffer(examples, shuffle_seed(key))
        examples = examples.map(
            lambda index, pair: (index, to_pixels(self.decode(pair[0]), self.image_shape), tf.cast(pair[1], tf.int32)),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        return examples.batch(batch_size, drop_remainder=drop_remainder)

    def subset(self, indices: np.ndarray) -> "Stream":
        places = np.arange(self.size) if self.chosen is None else np.flatnonzero(self.chosen)
        chosen = np.zeros(self.size if self.chosen is None else len(self.chosen), bool)
        chosen[places[indices]] = True
        return dataclasses.replace(self, size=len(indices), chosen=chosen)


def in_memory_if_small(examples: ImageFiles | Stream) -> InMemory | ImageFiles | Stream:
    """Read `examples` into memory if they take at most `IN_MEMORY_BYTES`, else return them as they are."""
    if examples.size * int(np.prod(examples.image_shape)) > IN_MEMORY_BYTES:
        return examples
    return in_memory(examples)


def in_memory(examples: InMemory | ImageFiles | Stream) -> InMemory:
    """Read `examples` into memory, however many they are."""
    if isinstance(examples, InMemory):
        return examples
    images = np.empty((examples.size, *examples.image_shape), "uint8")
    labels = np.empty(examples.size, "int32")
    for indices, image_batch, label_batch in examples.batches(256).as_numpy_iterator():
        images[indices], labels[indices] = image_batch, label_batch
    return InMemory(images, labels)


def to_pixels(images: Any, image_shape: tuple[int, int, int]) -> "tf.Tensor":
    """Return one image or a batch as uint8 of `image_shape`: gray repeated or colours mixed, resized bilinearly."""
    import tensorflow as tf

    images = tf.image.convert_image_dtype(images, tf.uint8, saturate=True)
    if images.shape[-1] == 1 and image_shape[-1] == 3:
        images = tf.image.grayscale_to_rgb(images)
    elif images.shape[-1] == 3 and image_shape[-1] == 1:
        images = tf.image.rgb_to_grayscale(images)
    if images.shape[-3:-1] != image_shape[:2]:
        resized = tf.image.resize(images, image_shape[:2], antialias=True)
        images = tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)
    return tf.ensure_shape(images, (*images.shape[:-3], *image_shape))


def _shuffled_through_buffer(examples: "tf.data.Dataset", seed: Any) -> "tf.data.Dataset":
    """Shuffle as `Dataset.shuffle` does, which mixes TensorFlow's global seed in and fails when that is 0."""
    import tensorflow as tf

    specs = tf.nest.flatten(examples.element_spec)
    variant = tf.raw_ops.ShuffleDataset(
        input_dataset=tf.data.experimental.to_variant(examples),
        buffer_size=tf.constant(_SHUFFLE_BUFFER, tf.int64),
        seed=seed,
        seed2=tf.constant(1, tf.int64),  # both 0 would mean a seed from the clock
        output_types=[spec.dtype for spec in specs],
        output_shapes=[spec.shape for spec in specs],
        reshuffle_each_iteration=False,
    )
    return tf.data.experimental.from_variant(variant, examples.element_spec)


def _order(size: int, key: Any) -> "tf.Tensor":
    import tensorflow as tf

    return tf.range(size, dtype=tf.int64) if key is None else shuffled(size, key)


def _batched_order(size: int, batch_size: int, drop_remainder: bool, key: Any) -> "tf.data.Dataset":
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(_order(size, key)).batch(batch_size, drop_remainder=drop_remainder)
