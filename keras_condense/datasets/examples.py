"""Where examples are kept: in memory, as image files, or in a stream too large for memory.

Each kind has `size`, `labels`, `checksum` (of which examples they are), `subset(indices)` and `batches(draws,
batch_size, drop_remainder, mix, part)`: one pass as (draws, uint8 images, int32 labels). The rows of `draws`, one for
each example, begin with its index and say in which order examples come; a stream, which can't be read at random places,
is in its own order instead, or shuffled by the seed `mix`. Of each batch the rows of `part` are read, and no others
decoded.

With `resize="photographs"` files and streams show the middle of each image or, after `in_boxes`, the
boxes of the draws.
"""

import dataclasses
import functools
import os
import pathlib
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_condense.datasets.decoding import in_threads, read_image
from keras_condense.datasets.drawing import as_they_are
from keras_condense.datasets.parts import Part
from keras_condense.datasets.photographs import shown_photograph
from keras_condense.datasets.pixels import fit_pixels

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["IN_MEMORY_BYTES", "ImageFiles", "InMemory", "Stream", "checksum", "fits_in_memory", "in_memory"]

IN_MEMORY_BYTES = 1 << 30  # data sets of more bytes as uint8 are read again every epoch
_SHUFFLE_BUFFER = 4096  # examples of a stream
WHOLE = Part()


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

    def batches(
        self, draws: Any, batch_size: int, drop_remainder: bool = False, mix: Any = None, part: Part = WHOLE
    ) -> "tf.data.Dataset":
        import tensorflow as tf

        images, labels = self._tensors
        return (
            tf.data.Dataset.from_tensor_slices(_of_part(draws, batch_size, drop_remainder, part))
            .batch(batch_size // part.of, drop_remainder=drop_remainder)
            .map(
                lambda draws: (draws, tf.gather(images, draws[:, 0]), tf.gather(labels, draws[:, 0])),
                num_parallel_calls=tf.data.AUTOTUNE,
                deterministic=True,
            )
        )

    @property
    def checksum(self) -> str:
        return checksum(self.labels, np.ascontiguousarray(self.images))

    def subset(self, indices: np.ndarray | slice) -> "InMemory":
        return InMemory(self.images[indices], self.labels[indices])


@dataclasses.dataclass(frozen=True)
class ImageFiles:
    """Image files, decoded in parallel whenever a batch needs them."""

    paths: np.ndarray
    labels: np.ndarray
    image_shape: tuple[int, int, int]
    resize: str = "stretch"
    box_size: tuple[int, int] | None = None  # (height, width) of boxes

    @property
    def size(self) -> int:
        return len(self.paths)

    @property
    def checksum(self) -> str:
        names = ["/".join(pathlib.PurePath(path).parts[-2:]) for path in self.paths]
        return checksum(self.labels, "\n".join(names).encode())

    def batches(
        self, draws: Any, batch_size: int, drop_remainder: bool = False, mix: Any = None, part: Part = WHOLE
    ) -> "tf.data.Dataset":
        import tensorflow as tf

        labels = tf.constant(self.labels, tf.int32)

        def read_photograph(draw):
            encoded = tf.io.read_file(self._names[draw[0]])
            own = {"inp": [draw[0]], "Tout": tf.uint8}

            def decoded():
                image = tf.numpy_function(lambda index: read_image(str(self.paths[index])), **own)
                return tf.ensure_shape(image, (None, None, 3))

            image = shown_photograph(encoded, decoded, draw, self.image_shape, self.box_size)
            return draw, image, labels[draw[0]]

        def read(draw):
            image = tf.numpy_function(
                lambda index: read_image(str(self.paths[index]), self.image_shape, self.resize), [draw[0]], tf.uint8
            )
            return draw, tf.ensure_shape(image, self.image_shape), labels[draw[0]]

        examples = tf.data.Dataset.from_tensor_slices(_of_part(draws, batch_size, drop_remainder, part))
        read = read_photograph if self.resize == "photographs" else read
        examples = examples.map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return examples.batch(batch_size // part.of, drop_remainder=drop_remainder)

    def subset(self, indices: np.ndarray | slice) -> "ImageFiles":
        return dataclasses.replace(self, paths=self.paths[indices], labels=self.labels[indices])

    def in_boxes(self, box_size: tuple[int, int]) -> "ImageFiles":
        return dataclasses.replace(self, box_size=box_size)

    @functools.cached_property
    def _names(self) -> "tf.Tensor":
        import tensorflow as tf

        with tf.init_scope(), tf.device("CPU"):  # outside of the graph, of which a million names would be a part
            return tf.constant([os.fsencode(str(path)) for path in self.paths])

    def decode(self, keep: bool) -> tuple[InMemory | None, np.ndarray]:
        """Decode every file; return those that can be, in memory (None if not to `keep`), and which they are (bool)."""
        images = np.empty((self.size, *self.image_shape), "uint8") if keep else None

        def read(index):
            try:
                image = read_image(str(self.paths[index]), self.image_shape, self.resize)
            except ValueError:
                return False
            if keep:
                images[index] = image
            return True

        whole = np.fromiter(in_threads(read, range(self.size)), bool, self.size)
        if not keep:
            return None, whole
        return InMemory(images if whole.all() else images[whole], self.labels[whole]), whole


@dataclasses.dataclass(frozen=True)
class Stream:
    """A `tf.data` of (encoded image, label) pairs, always in the same order, shuffled through a buffer."""

    pairs: "tf.data.Dataset"
    decode: Callable[["tf.Tensor"], "tf.Tensor"]
    size: int
    image_shape: tuple[int, int, int]
    resize: str = "stretch"
    chosen: np.ndarray | None = None  # (number of pairs,) bool: the subset's members; None for all
    box_size: tuple[int, int] | None = None  # (height, width) of boxes

    @property
    def labels(self) -> np.ndarray:
        """The class numbers, for which the stream is read."""
        return np.array([label for _, (_, label) in self._examples().as_numpy_iterator()])

    @property
    def checksum(self) -> str:
        return checksum(np.array(self.size), b"" if self.chosen is None else self.chosen)

    def batches(
        self, draws: Any, batch_size: int, drop_remainder: bool = False, mix: Any = None, part: Part = WHOLE
    ) -> "tf.data.Dataset":
        import tensorflow as tf

        examples, draws = self._examples(), tf.convert_to_tensor(draws)
        by_index = tf.scatter_nd(draws[:, :1], draws, draws.shape)
        if mix is not None:  # before decoding: what the buffer holds is small
            examples = _shuffled_through_buffer(examples, mix)
        if not part.is_whole:
            read = np.zeros(self.size * part.repeats, bool)
            read[part.rows(self.size, batch_size, drop_remainder)] = True
            read = tf.constant(read)
            examples = examples.repeat(part.repeats).enumerate()
            examples = examples.filter(lambda place, _: read[place]).map(lambda _, example: example)
            batch_size //= part.of
        parallel = {"num_parallel_calls": tf.data.AUTOTUNE, "deterministic": True}
        if self.resize == "photographs":
            examples = examples.map(lambda index, pair: self._photograph(by_index[index], *pair), **parallel)
            return examples.batch(batch_size, drop_remainder=drop_remainder)
        examples = examples.map(
            lambda index, pair: (by_index[index], self._pixels(pair[0]), tf.cast(pair[1], tf.int32)), **parallel
        )
        if examples.element_spec[1].shape.is_fully_defined():  # images of one size are fitted by the batch
            examples = examples.batch(batch_size, drop_remainder=drop_remainder)
            return examples.map(lambda draws, images, labels: (draws, self._fitted(images), labels), **parallel)
        examples = examples.map(lambda draw, image, label: (draw, self._fitted(image[None])[0], label), **parallel)
        return examples.batch(batch_size, drop_remainder=drop_remainder)

    def subset(self, indices: np.ndarray) -> "Stream":
        places = np.arange(self.size) if self.chosen is None else np.flatnonzero(self.chosen)
        chosen = np.zeros(self.size if self.chosen is None else len(self.chosen), bool)
        chosen[places[indices]] = True
        return dataclasses.replace(self, size=len(indices), chosen=chosen)

    def in_boxes(self, box_size: tuple[int, int]) -> "Stream":
        return dataclasses.replace(self, box_size=box_size)

    def _photograph(self, draw: "tf.Tensor", encoded: "tf.Tensor", label: "tf.Tensor") -> tuple["tf.Tensor", ...]:
        import tensorflow as tf

        def decoded():
            return self._pixels(encoded)

        # never turned, as TensorFlow Datasets doesn't turn them
        image = shown_photograph(encoded, decoded, draw, self.image_shape, self.box_size, upright=False)
        return draw, image, tf.cast(label, tf.int32)

    def _examples(self) -> "tf.data.Dataset":
        """(index, (encoded image, label)) of the chosen ones."""
        import tensorflow as tf

        examples = self.pairs
        if self.chosen is not None:
            chosen = tf.constant(self.chosen)
            examples = examples.enumerate().filter(lambda place, _: chosen[place]).map(lambda _, pair: pair)
        return examples.enumerate()

    def _pixels(self, encoded: "tf.Tensor") -> "tf.Tensor":
        import tensorflow as tf

        return tf.image.convert_image_dtype(self.decode(encoded), tf.uint8, saturate=True)

    def _fitted(self, images: "tf.Tensor") -> "tf.Tensor":
        import tensorflow as tf

        if images.shape[1:] == self.image_shape:
            return images
        fitted = tf.numpy_function(lambda images: fit_pixels(images, self.image_shape, self.resize), [images], tf.uint8)
        return tf.ensure_shape(fitted, (images.shape[0], *self.image_shape))


def _of_part(draws: Any, batch_size: int, drop_remainder: bool, part: Part) -> Any:
    if part.is_whole:
        return draws
    import tensorflow as tf

    return tf.gather(draws, part.rows(len(draws), batch_size, drop_remainder) % len(draws))


def checksum(*parts: np.ndarray | bytes) -> str:
    """What examples in another order, or other ones, differ in."""
    return f"{functools.reduce(lambda sum_, part: zlib.crc32(part, sum_), parts, 0):08x}"


def fits_in_memory(size: int, image_shape: tuple[int, int, int]) -> bool:
    """Whether so many images take at most `IN_MEMORY_BYTES`."""
    return size * int(np.prod(image_shape)) <= IN_MEMORY_BYTES


def in_memory(examples: InMemory | ImageFiles | Stream) -> InMemory:
    """Read `examples` into memory, however many they are."""
    if isinstance(examples, InMemory):
        return examples
    images = np.empty((examples.size, *examples.image_shape), "uint8")
    labels = np.empty(examples.size, "int32")
    for draws, image_batch, label_batch in examples.batches(as_they_are(np.arange(examples.size)), 256):
        images[draws[:, 0]], labels[draws[:, 0]] = image_batch, label_batch
    return InMemory(images, labels)


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
