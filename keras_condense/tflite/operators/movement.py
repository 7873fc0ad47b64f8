"""Operators that only move numbers: picking, concatenating, and changes of layout.

Rows are an image (channels, height, width): one row of pixels for each channel.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from keras_condense.tflite.operators.base import Features, Operator, Shape
from keras_condense.tflite.operators.convolutions import Padding

__all__ = [
    "IMAGE_TO_ROWS",
    "ROWS_TO_IMAGE",
    "ConcatenateChannels",
    "ConcatenateRows",
    "DepthToSpace",
    "Pad",
    "PickChannels",
    "PickRows",
    "Reshape",
    "Slice",
    "SumOfPicks",
    "Transpose",
    "Turn",
    "UnblockPixels",
    "rows_features",
    "shuffle_features",
    "shuffled",
]

# Of the first cache of today's processors: numbers `_WAY_BYTES` apart share a set, which keeps `_WAYS` of them.
_WAY_BYTES, _WAYS = 4096, 8


def shuffled(channels: int, groups: int) -> np.ndarray:
    """The order that interleaves groups: place d G + g takes channel g (channels / G) + d, as `ChannelShuffle` does."""
    return np.arange(channels).reshape(groups, -1).T.ravel()


def shuffle_features(shape: Shape) -> Features:
    """What the cost of a shuffle grows with: it transposes a small matrix in every pixel; see `Operator.features`."""
    return "shuffle", {"outputs": math.prod(shape), "pixels": math.prod(shape[:-1])}


@dataclasses.dataclass(frozen=True, eq=False)
class PickChannels(Operator):
    """Output channel i is input channel `indices[i]`."""

    kind: ClassVar[str] = "pick_channels"

    indices: np.ndarray

    def shuffled_groups(self, channels: int) -> int | None:
        """G if it interleaves G groups of all channels, which a transposition does, else None."""
        count = len(self.indices)
        step = int(self.indices[1]) if count > 1 else 0
        if count != channels or step < 1 or count % step:
            return None
        groups = count // step
        return groups if np.array_equal(self.indices, shuffled(count, groups)) else None

    def is_permutation(self, channels: int) -> bool:
        """Whether it picks each of so many channels once."""
        return np.array_equal(np.sort(self.indices), np.arange(channels))

    def emit(self, tf: Any, inputs: list[Any], shape: Shape) -> Any:
        full = inputs[0].shape
        groups = self.shuffled_groups(full[-1])
        if groups is None:
            return tf.gather(inputs[0], tf.constant(self.indices, "int32"), axis=-1)
        grouped, rank = tf.reshape(inputs[0], [*full[:-1], groups, full[-1] // groups]), len(full)
        return tf.reshape(tf.transpose(grouped, [*range(rank - 1), rank, rank - 1]), full)

    def features(self, inputs: Sequence[Shape], shape: Shape, lanes: int) -> Features:
        if self.shuffled_groups(inputs[0][-1]) is None:
            return self.kind, {"outputs": math.prod(shape)}
        return shuffle_features(shape)


@dataclasses.dataclass(frozen=True, eq=False)
class PickRows(Operator):
    """Output row i is input row `indices[i]`."""

    kind: ClassVar[str] = "pick_rows"

    indices: np.ndarray

    def emit(self, tf: Any, inputs: list[Any], shape: Shape) -> Any:
        return tf.gather(inputs[0], tf.constant(self.indices, "int32"), axis=1)


@dataclasses.dataclass(frozen=True, eq=False)
class _Concatenate(Operator):
    axis: ClassVar[int]

    def emit(self, tf: Any, inputs: list[Any], shape: Shape) -> Any:
        return tf.concat(inputs, axis=self.axis)

    def features(self, inputs: Sequence[Shape], shape: Shape, lanes: int) -> Features:
        runs = len(inputs) * (math.prod(shape[:-1]) if self.axis == -1 else 1)
        return "concatenate", {"outputs": math.prod(shape), "runs": runs}  # of numbers that stay together


@dataclasses.dataclass(frozen=True, eq=False)
class ConcatenateChannels(_Concatenate):
    """The channels of several images or vectors, one after another."""

    kind: ClassVar[str] = "concatenate_channels"
    axis: ClassVar[int] = -1


@dataclasses.dataclass(frozen=True, eq=False)
class ConcatenateRows(_Concatenate):
    """The rows of several images, one after another."""

    kind: ClassVar[str] = "concatenate_rows"
    axis: ClassVar[int] = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Pad(Operator):
    """Zeros around an image."""

    kind: ClassVar[str] = "pad"

    padding: Padding

    def emit(self, tf: Any, inputs: list[Any], shape: Shape) -> Any:
        return tf.pad(inputs[0], [(0, 0), *self.padding, (0, 0)])


@dataclasses.dataclass(frozen=True, eq=False)
class Reshape(Operator):
    """The same numbers in another shape."""

    kind: ClassVar[str] = "reshape"

    def emit(self, tf: Any, inputs: list[Any], shape: Shape) -> Any:
        return tf.reshape(inputs[0], [inputs[0].shape[0], *shape])


@dataclasses.dataclass(frozen=True, eq=False)
class Transpose(Operator):
    """Axes in another order, of which the batch is 0."""

    kind: ClassVar[str] = "transpose"

    order: tuple[int, ...]

    def emit(self, tf: Any, inputs: list[Any], shape: Shape) -> Any:
        return tf.transpose(inputs[0], self.order)

    def features(self, inputs: Sequence[Shape], shape: Shape, lanes: int) -> Features:
        outputs, sizes = math.prod(shape), {"matrices": 0, "conflicts": 0.0}
        written = self.order.index(len(shape))  # where neighbours in the input go
        if written != len(shape):
            counts = self._extent(len(shape), shape), self._extent(written, shape)
            steps = math.prod(inputs[0][self.order[-1] :]), math.prod(shape[written:])
            crowded = [
                1 - _WAYS / count for count, step in zip(counts, steps, strict=True) if 4 * step % _WAY_BYTES == 0
            ]
            # small matrices that are transposed one after another, and numbers that push each other out of the cache
            sizes = {"matrices": outputs // math.prod(counts), "conflicts": outputs * max([0.0, *crowded])}
        return self.kind, {"outputs": outputs} | sizes

    def _extent(self, place: int, shape: Shape) -> int:
        """How many numbers the output's axis at `place` has, with the axes before it that were before it already."""
        first = place
        while first > 1 and self.order[first - 1] == self.order[first] - 1:
            first -= 1
        return math.prod(shape[first - 1 : place])


IMAGE_TO_ROWS, ROWS_TO_IMAGE = Transpose((0, 3, 1, 2)), Transpose((0, 2, 3, 1))


def rows_features(shape: Shape) -> Features:
    """What the cost of an image (height, width, channels) from rows, or of rows from it, grows with."""
    return IMAGE_TO_ROWS.features([shape], (shape[2], *shape[:2]), 1)


@dataclasses.dataclass(frozen=True, eq=False)
class Slice(Operator):
    """As much of each axis as the output's shape says, from its beginning or from `begin` on."""

    kind: ClassVar[str] = "slice"

    begin: Shape = ()

    def emit(self, tf: Any, inputs: list[Any], shape: Shape) -> Any:
        begin = self.begin or [0] * len(shape)
        return tf.slice(inputs[0], [0, *begin], [inputs[0].shape[0], *shape])


@dataclasses.dataclass(frozen=True, eq=False)
class Turn(Operator):
    """An image turned by 180 degrees: its last row first, and the last pixel of each row."""

    kind: ClassVar[str] = "turn"

    def emit(self, tf: Any, inputs: list[Any], shape: Shape) -> Any:
        return tf.reverse(inputs[0], [1, 2])

    def features(self, inputs: Sequence[Shape], shape: Shape, lanes: int) -> Features:
        return self.kind, {"outputs": math.prod(shape), "pixels": math.prod(shape[:-1])}


@dataclasses.dataclass(frozen=True, eq=False)
class DepthToSpace(Operator):
    """Channels as blocks of pixels."""

    kind: ClassVar[str] = "depth_to_space"

    block: int = 2

    def emit(self, tf: Any, inputs: list[Any], shape: Shape) -> Any:
        return tf.nn.depth_to_space(inputs[0], self.block)


# --- what `passes.keep_rows` writes in the layout in which it is wanted -----------------------------------------------
@dataclasses.dataclass(frozen=True, eq=False)
class UnblockPixels(Operator):
    """Blocks of (rows, columns) pixels, the fastest part of the channels, as an image."""

    kind: ClassVar[str] = "unblock_pixels"

    block: tuple[int, int]

    def parts(self, shape: Shape) -> Shape:
        """Blocks down and across, channels, and the rows and columns of a block."""
        (height, width, channels), (rows, columns) = shape, self.block
        return height // rows, width // columns, channels, rows, columns

    def emit(self, tf: Any, inputs: list[Any], shape: Shape) -> Any:
        batch = inputs[0].shape[0]  # above 1 where the model put several images into one batch
        split = tf.reshape(inputs[0], [batch, *self.parts(shape)])
        return tf.reshape(tf.transpose(split, (0, 1, 4, 2, 5, 3)), [batch, *shape])

    def features(self, inputs: Sequence[Shape], shape: Shape, lanes: int) -> Features:
        down, across, channels, rows, columns = parts = self.parts(shape)
        return Transpose((0, 1, 4, 2, 5, 3)).features([parts], (down, rows, across, columns, channels), lanes)


@dataclasses.dataclass(frozen=True, eq=False)
class SumOfPicks(Operator):
    """The channels, or rows, that each round of `picks` (rounds, channels) names, added up."""

    kind: ClassVar[str] = "sum_of_picks"

    picks: np.ndarray

    def emit(self, tf: Any, inputs: list[Any], shape: Shape) -> Any:
        return tf.add_n([tf.gather(inputs[0], indices, axis=-1) for indices in self.picks])
