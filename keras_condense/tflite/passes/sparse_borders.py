"""How images get into a channels-first part, and out of it."""

from typing import Any

import numpy as np

from keras_condense.tflite.graph import Node
from keras_condense.tflite.operators import (
    PAD_ONE,
    ConcatenateChannels,
    Convolution,
    DepthToSpace,
    Mean,
    PickChannels,
    Reshape,
    Slice,
    Transpose,
    Turn,
)
from keras_condense.tflite.passes.sparse_regions import SMALLEST_ENTRANCE
from keras_condense.tflite.passes.sparse_values import Value

__all__ = ["enter", "leave", "stem"]


def stem(writer: Any, node: Node, turned: bool) -> Value:
    """The convolution of stride 2 on three channels whose output XNNPACK writes channels-first."""
    source, kernel = node.inputs[0], node.op.kernel
    if turned:
        shape = writer.shape_of(source)
        source, kernel = writer.emit(f"{source}_turned", Turn(), (source,), shape), kernel[::-1, ::-1]
    op = node.with_op(kernel=np.ascontiguousarray(kernel), padding=PAD_ONE, sparse=True).op
    return Value.of_rows(writer.emit(node.name, op, (source,), node.shape), np.arange(node.channels), node.channels)


def enter(writer: Any, start: Node, turned: bool) -> Value:
    """An image from the middle of a network.

    Twelve channels of a pixel are four pixels of three, from which a stem of stride 2 makes twelve channels again.
    """
    name, (height, width, channels) = start.name, start.shape
    source, count = name, SMALLEST_ENTRANCE
    if turned:
        source = writer.emit(f"{name}_turned", Turn(), (source,), start.shape)
    parts = []
    for number, first in enumerate(range(0, channels, count)):
        first = min(first, channels - count)  # the last may have some that the one before it has too
        part = source
        if channels > count:
            slice_ = Slice((0, 0, first))
            part = writer.emit(f"{name}_slice{number}", slice_, (part,), (height, width, count))
        part = writer.emit(f"{name}_spread{number}", DepthToSpace(2), (part,), (2 * height, 2 * width, 3))
        kernel = np.zeros((3, 3, 3, count), "float32")
        new = np.arange(max(0, number * count - first), count)
        kernel[1 + new // 6, 1 + new // 3 % 2, new % 3, new] = 1
        op = Convolution(kernel, strides=(2, 2), padding=PAD_ONE, sparse=True)
        part = writer.emit(f"{name}_entrance{number}", op, (part,), (height, width, count))
        row = np.full(channels, -1)
        row[first + new] = new
        parts.append(Value.of_rows(part, row, count))
    if len(parts) == 1:
        return parts[0]
    return writer.joined(f"{name}_entered", parts, start.shape)


def leave(writer: Any, node: Node, value: Value, turned: bool) -> None:
    """Give the last image its channels last again, under the node's own name."""
    if isinstance(node.op, Mean):
        _leave_mean(writer, node, value)
        return
    channels = np.concatenate([value.members(number) for number in range(len(value.parts))])
    if len(value.parts) > 1 and not np.array_equal(channels, np.arange(node.channels)):
        value = writer.joined(f"{node.name}_joined", [value], node.shape)
    name = node.name
    names = [name] if len(value.parts) == 1 else [f"{name}_piece{number}" for number in range(len(value.parts))]
    if turned:
        names = [f"{each}_turned" for each in names]
    images = [_channels_last(writer, value, number, names[number], node.shape) for number in range(len(value.parts))]
    if len(images) > 1:
        joined = f"{name}_turned" if turned else name
        images = [writer.emit(joined, ConcatenateChannels(), tuple(images), node.shape)]
    if turned:
        writer.emit(name, Turn(), tuple(images), node.shape)


def _leave_mean(writer: Any, node: Node, value: Value) -> None:
    """A vector, or an image of one pixel."""
    vectors = []
    for number, part in enumerate(value.parts):
        vectors.append(writer.emit(f"{node.name}_rows{number}", Mean(), (part.name,), (part.width,)))
    offsets = np.cumsum([0, *(part.width for part in value.parts)])
    vector, width = vectors[0], int(offsets[-1])
    if len(vectors) > 1:
        vector = writer.emit(f"{node.name}_vector", ConcatenateChannels(), tuple(vectors), (width,))
    if len(node.shape) > 1:
        vector = writer.emit(f"{node.name}_pixel", Reshape(), (vector,), (1, 1, width))
    writer.emit(node.name, PickChannels(offsets[value.part] + value.row), (vector,), node.shape)


def _channels_last(writer: Any, value: Value, number: int, name: str, shape) -> str:
    """One part, its channels in their order."""
    part, members, (height, width) = value.parts[number], value.members(number), shape[:2]
    quarter = -(-len(members) // 4)
    last = part.name
    if part.width != 4 * quarter or not np.array_equal(value.row[members], np.arange(part.width)):
        kernel = np.zeros((part.width, 4 * quarter), "float32")
        kernel[value.row[members], np.arange(len(members))] = 1
        last = writer.pointwise(f"{name}_ordered", last, shape, kernel)
    # `depth_to_space` is an operator that ends a channels-first part; what it moves is moved back
    last = writer.emit(f"{name}_spread", DepthToSpace(2), (last,), (2 * height, 2 * width, quarter))
    last = writer.emit(f"{name}_parts", Reshape(), (last,), (height, 2, width, 2, quarter))
    last = writer.emit(f"{name}_order", Transpose((0, 1, 3, 2, 4, 5)), (last,), (height, width, 2, 2, quarter))
    last = writer.emit(f"{name}_image", Reshape(), (last,), (height, width, 4 * quarter))
    return writer.emit(name, Slice(), (last,), (height, width, len(members)))
