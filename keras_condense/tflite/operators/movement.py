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
    "UnblockPixels",
    "shuffled",
]


def shuffled(channels: int, groups: int) -> np.ndarray:
    """The order that interleaves groups: place d G + g takes channel g (channels / G) + d, as `ChannelShuffle` does."""
    return np.arange(channels).reshape(groups, -1).T.ravel()


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
        is_shuffle = self.shuffled_groups(inputs[0][-1]) is not None
        return "shuffle" if is_shuffle else self.kind, {"outputs": math.prod(shape)}


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
        return "concatenate", {"outputs": math.prod(shape)}


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
        return tf.reshape(inputs[0], [1, *shape])


@dataclasses.dataclass(frozen=True, eq=False)
class Transpose(Operator):
    """Axes in another order, of which the batch is 0."""

    kind: ClassVar[str] = "transpose"

    order: tuple[int, ...]

    def emit(self, tf: Any, inputs: list[Any], shape: Shape) -> Any:
        return tf.transpose(inputs[0], self.order)


@dataclasses.dataclass(frozen=True, eq=False)
class Slice(Operator):
    """As much of the beginning of each axis as the output's shape says."""

    kind: ClassVar[str] = "slice"

    def emit(self, tf: Any, inputs: list[Any], shape: Shape) -> Any:
        return tf.slice(inputs[0], [0] * (len(shape) + 1), [1, *shape])


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
        split = tf.reshape(inputs[0], [1, *self.parts(shape)])
        return tf.reshape(tf.transpose(split, (0, 1, 4, 2, 5, 3)), [1, *shape])


@dataclasses.dataclass(frozen=True, eq=False)
class SumOfPicks(Operator):
    """The channels, or rows, that each round of `picks` (rounds, channels) names, added up."""

    kind: ClassVar[str] = "sum_of_picks"

    picks: np.ndarray

    def emit(self, tf: Any, inputs: list[Any], shape: Shape) -> Any:
        return tf.add_n([tf.gather(inputs[0], indices, axis=-1) for indices in self.picks])
