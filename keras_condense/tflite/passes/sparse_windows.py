"""Windows in a channels-first part, where XNNPACK has depthwise ones alone.

A grouped 3x3 convolution is depthwise ones and sums, in the cheapest of several ways.
"""

from typing import Any

import numpy as np

from keras_condense.tflite.graph import Node
from keras_condense.tflite.passes.sparse_values import Place, Value

__all__ = ["average_pool", "depthwise_convolution", "window_convolution"]


def average_pool(writer: Any, node: Node, value: Value) -> Value:
    """Write a 2x2 average pooling: a 3x3 window with four weights of 1/4."""
    names = []
    for number, part in enumerate(value.parts):
        window = np.zeros((3, 3, part.width), "float32")
        window[1:, 1:, value.row[value.members(number)]] = 0.25
        names.append(writer.depthwise(value.name_of(node, number), part.name, node.shape, window, stride=2))
    return value.renamed(names, True)


def depthwise_convolution(writer: Any, node: Node, value: Value) -> Value:
    """Write a depthwise convolution, part by part; rows of no channel become zero."""
    value, op, names = writer.apart(node, value), node.op, []
    kernel = op.kernel[::-1, ::-1] if writer.turned else op.kernel
    for number, part in enumerate(value.parts):
        members = value.members(number)
        window = np.zeros((*op.window, part.width), "float32")
        window[..., value.row[members]] = kernel[..., members]
        bias = np.zeros(part.width, "float32")
        bias[value.row[members]] = 0.0 if op.bias is None else op.bias[members]
        finish = {"bias": bias, "relu": op.relu, "ceiling": op.ceiling}
        name = value.name_of(node, number)
        names.append(writer.depthwise(name, part.name, node.shape, window, op.strides[0], **finish))
    return value.renamed(names, True)


def window_convolution(writer: Any, node: Node, value: Value) -> Value:
    """Write a grouped 3x3 convolution.

    Args:
        writer: the `SparseWriter`.
        node: the convolution.
        value: where its input lies.

    Returns:
        Where its output lies.
    """
    if writer.turned:
        node = node.with_op(kernel=node.op.kernel[::-1, ::-1])
    value = writer.apart(node, value)
    if len(value.parts) > 1:
        value = writer.joined(f"{node.name}_joined", [value], writer.shape_of(node.inputs[0]))
    place, alone = writer.place_of(node), Place(0, node.channels)
    per_group = node.channels // node.op.groups
    ways = [lambda: _copied(writer, node, value, place), lambda: _from_taps(writer, node, value, place)]
    if per_group > 1:
        ways.append(lambda: _one_by_one(writer, node, value, place))
        if place != alone:
            ways.append(lambda: _moved(writer, node, _one_by_one(writer, node, value, alone), place))
    return writer.cheapest(ways)


def _moved(writer: Any, node: Node, value: Value, place: Place) -> Value:
    return writer.joined(f"{node.name}_placed", [value], node.shape, place)


def _summed(writer: Any, node: Node, source: str, owners: np.ndarray, place: Place) -> Value:
    """Sums of the rows of each filter; `owners[row]` is the filter that a row belongs to, -1 for none."""
    kernel, bias = np.zeros((len(owners), place.width), "float32"), np.zeros(place.width, "float32")
    used, columns = np.flatnonzero(owners >= 0), place.offset + np.arange(node.channels)
    kernel[used, columns[owners[used]]] = 1
    bias[columns] = 0.0 if node.op.bias is None else node.op.bias
    finish = (node.op.relu, node.op.ceiling)
    return Value.of_rows(writer.pointwise(node.name, source, node.shape, kernel, bias, *finish), columns, place.width)


def _copied(writer: Any, node: Node, value: Value, place: Place) -> Value:
    """A depthwise row for each pair of an input and a filter that reads it."""
    per_group, (part,) = node.channels // node.op.groups, value.parts
    owners = np.full(per_group * part.width, -1)
    window = np.zeros((3, 3, per_group * part.width), "float32")
    for filters, inputs, weights in node.op.by_group():
        for copy, filter_ in enumerate(filters):
            rows = copy * part.width + value.row[inputs]
            owners[rows] = filter_
            window[..., rows] = weights[..., copy]
    source = part.name
    if per_group > 1:
        copies = np.tile(np.eye(part.width, dtype="float32"), per_group)
        source = writer.pointwise(f"{node.name}_copies", source, node.shape, copies)
    return _summed(writer, node, writer.depthwise(f"{node.name}_windows", source, node.shape, window), owners, place)


def _one_by_one(writer: Any, node: Node, value: Value, place: Place) -> Value:
    """A depthwise convolution of all inputs for the first filter of each group, one for the second, and their sum."""
    per_group, (part,) = node.channels // node.op.groups, value.parts
    columns, sums = place.offset + np.arange(node.channels), []
    for number in range(per_group):
        window = np.zeros((3, 3, part.width), "float32")
        kernel = np.zeros((part.width, place.width), "float32")
        for filters, inputs, weights in node.op.by_group():
            rows = value.row[inputs]
            window[..., rows] = weights[..., number]
            kernel[rows, columns[filters[number]]] = 1
        bias = None
        if number == 0 and node.op.bias is not None:
            bias = np.zeros(place.width, "float32")
            bias[columns] = node.op.bias
        source = writer.depthwise(f"{node.name}_windows{number}", part.name, node.shape, window)
        sums.append(writer.pointwise(f"{node.name}_filter{number}", source, node.shape, kernel, bias))
    total = writer.summed(node.name, sums, node.shape, place.width, node.op.relu, node.op.ceiling)
    return Value.of_rows(total, columns, place.width)


def _from_taps(writer: Any, node: Node, value: Value, place: Place) -> Value:
    """A row for each filter and each of the nine positions: first the sum over inputs, then the shift."""
    per_group, (part,) = node.channels // node.op.groups, value.parts
    owners = np.repeat(np.arange(node.channels).reshape(-1, per_group), 9, axis=0).ravel()
    kernel = np.zeros((part.width, len(owners)), "float32")
    window = np.zeros((3, 3, len(owners)), "float32")
    for group, (_, inputs, weights) in enumerate(node.op.by_group()):
        for position in range(9):
            columns = (group * 9 + position) * per_group + np.arange(per_group)
            kernel[value.row[inputs][:, None], columns[None]] = weights[position // 3, position % 3]
            window[position // 3, position % 3, columns] = 1
    order = writer.order_of(kernel)
    source = writer.pointwise(f"{node.name}_taps", part.name, node.shape, kernel[:, order])
    source = writer.depthwise(f"{node.name}_windows", source, node.shape, window[..., order])
    return _summed(writer, node, source, owners[order], place)
