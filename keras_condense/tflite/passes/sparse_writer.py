"""Writes nodes in the operators that XNNPACK executes channels-first, skipping the zeros of 1x1 kernels.

- pick and shuffle: nothing; the next kernel has its rows permuted.
- batch norm and ReLU: a diagonal 1x1 convolution of the channels that somebody reads.
- grouped 1x1 convolution: a 1x1 convolution, zero outside the groups.
- grouped 3x3 convolution: a depthwise one of each pair of input and filter, and a 1x1 convolution that sums.
- concatenation: a store as wide as the last of a chain of concatenations, zero where nothing has been written. Each
  new piece comes out of its convolution at its place in a store of zeros and is added.
- 2x2 average pooling: a depthwise 3x3 convolution of stride 2 with four weights of 1/4.
"""

import numpy as np

from keras_condense.tflite.graph import Graph, Names, Node
from keras_condense.tflite.operators import (
    PAD_ONE,
    Add,
    Affine,
    AveragePool,
    ConcatenateChannels,
    Convolution,
    DepthToSpace,
    Depthwise,
    HardSwish,
    Mean,
    Operator,
    PickChannels,
    Relu,
    Reshape,
    Shape,
    Slice,
    Transpose,
)
from keras_condense.tflite.passes.sparse_values import Place, Value, needed_channels, pairs_apart, places_in_stores

__all__ = ["SparseWriter", "is_stem"]


def is_stem(node: Node) -> bool:
    """Whether a convolution can begin a channels-first part: 3x3, stride 2, padding 1, three input channels."""
    op = node.op
    return (
        isinstance(op, Convolution)
        and op.kernel.shape[:3] == (3, 3, 3)
        and op.strides == (2, 2)
        and op.padding == PAD_ONE
        and op.dilation == (1, 1)
        and op.groups == 1
    )


class SparseWriter:
    """Writes the nodes of a channels-first part; `values` says where each of the network's images lies."""

    def __init__(self, graph: Graph, inside: list[Node], cut: str):
        self.nodes: list[Node] = []
        self.values: dict[str, Value] = {}
        self._graph, self._cut, self._layer = graph.by_name(), cut, ""
        self._needed = needed_channels(inside, cut)
        self._widths, self._places = places_in_stores(inside, graph)
        self._names = Names(graph)

    def write(self, node: Node) -> None:
        """Write one node, after all that it reads."""
        self._names.release(node.name)
        self._layer = node.layer
        match node.op:
            case PickChannels():
                self._pick(node)
            case Relu() | HardSwish():
                self._activation(node)
            case Affine():
                self._affine(node)
            case Add():
                self._add(node)
            case ConcatenateChannels():
                self._concatenate(node)
            case AveragePool():
                self._average_pool(node)
            case Mean():
                self._mean(node)
            case Convolution(kernel) if kernel.shape[:2] == (1, 1):
                self._pointwise_convolution(node)
            case Convolution() if is_stem(node):
                self.nodes.append(node)
                self._keep(node, node.name, np.arange(node.channels), node.channels)
            case Convolution():
                self._window_convolution(node)

    # --- building blocks -------------------------------------------------------------------------------------------
    def _emit(self, name: str, op: Operator, inputs: tuple[str, ...], shape: Shape) -> str:
        name = self._names.new(name)
        self.nodes.append(Node(name, op, inputs, shape, self._layer))
        return name

    def _pointwise(self, name: str, source: str, shape, kernel, bias=None, relu=False) -> str:
        """A 1x1 convolution of the rows of `source`; `kernel` is (rows in, rows out)."""
        kernel = np.asarray(kernel, "float32")[None, None]
        bias = None if bias is None else np.asarray(bias, "float32")
        op = Convolution(kernel, bias, relu, sparse=True)
        return self._emit(name, op, (source,), (*shape[:2], kernel.shape[3]))

    def _depthwise(self, name: str, source: str, shape, kernel, stride: int = 1) -> str:
        op = Depthwise(np.asarray(kernel, "float32"), strides=(stride, stride), padding=PAD_ONE, sparse=True)
        return self._emit(name, op, (source,), (*shape[:2], kernel.shape[2]))

    def _place(self, node: Node, channels: int) -> Place:
        """Where the outputs of a node go: to their place in a store, or to rows of their own."""
        return self._places.get(node.name, Place(0, channels))

    def _keep(self, node: Node, name: str, rows, width: int, alone: bool = True) -> None:
        self.values[node.name] = Value(name, np.asarray(rows), width, alone)

    # --- operators -------------------------------------------------------------------------------------------------
    def _pick(self, node: Node) -> None:
        value = self.values[node.inputs[0]]
        rows = value.rows[node.op.indices]
        self._keep(node, value.name, rows, value.width, value.alone and bool(np.isin(value.rows, rows).all()))

    def _activation(self, node: Node) -> None:
        value = self.values[node.inputs[0]]
        self._emit(node.name, node.op, (value.name,), (*node.shape[:2], value.width))
        self._keep(node, node.name, value.rows, value.width, value.alone)

    def _affine(self, node: Node) -> None:
        value, channels = self.values[node.inputs[0]], np.flatnonzero(self._needed[node.name])
        if not len(channels):  # a pick behind a concatenation may read all of it but this
            channels = np.arange(1)
        kernel = np.zeros((value.width, len(channels)), "float32")
        kernel[value.rows[channels], np.arange(len(channels))] = node.op.scale[channels]
        self._pointwise(node.name, value.name, node.shape, kernel, node.op.shift[channels], node.op.relu)
        rows = np.full(node.channels, -1)
        rows[channels] = np.arange(len(channels))
        self._keep(node, node.name, rows, len(channels))

    def _add(self, node: Node) -> None:
        values = [self.values[name] for name in node.inputs]
        if not np.array_equal(values[0].rows, values[1].rows) or values[0].width != values[1].width:
            values = [self._moved(value, node, i) for i, value in enumerate(values)]
        names = tuple(value.name for value in values)
        self._emit(node.name, Add(node.op.relu, sparse=True), names, (*node.shape[:2], values[0].width))
        self._keep(node, node.name, values[0].rows, values[0].width, all(value.alone for value in values))

    def _moved(self, value: Value, node: Node, number: int, place: Place | None = None) -> Value:
        """A value copied to rows in the order of its channels, from an offset in a wider store."""
        place = place or Place(0, len(value.rows))
        kernel = np.zeros((value.width, place.width), "float32")
        written = np.flatnonzero(value.rows >= 0)
        kernel[value.rows[written], place.offset + written] = 1
        name = self._pointwise(f"{node.name}_copy{number}", value.name, node.shape, kernel)
        return Value(name, place.offset + np.arange(len(value.rows)), place.width)

    def _pointwise_convolution(self, node: Node) -> None:
        value, place = self.values[node.inputs[0]], self._place(node, node.channels)
        order = np.arange(node.channels)
        if place.width == node.channels:
            order = pairs_apart(node.channels, node.op.groups)
        rows = np.empty_like(order)
        rows[order] = np.arange(len(order))
        columns = place.offset + rows
        kernel = np.zeros((value.width, place.width), "float32")
        for filters, inputs, weights in node.op.by_group():
            # a pick may bring the same row to a group twice: their weights add up
            np.add.at(kernel, (value.rows[inputs][:, None], columns[filters][None]), weights[0, 0])
        bias = np.zeros(place.width, "float32")
        bias[columns] = 0.0 if node.op.bias is None else node.op.bias
        self._pointwise(node.name, value.name, node.shape, kernel, bias, node.op.relu)
        self._keep(node, node.name, columns, place.width)

    def _window_convolution(self, node: Node) -> None:
        """A grouped 3x3 convolution: the shorter of two ways, both depthwise and then summed."""
        value = self.values[node.inputs[0]]
        inputs, groups, filters = value.rows.size, node.op.groups, node.channels
        pairs, taps = inputs * filters // groups, 9 * filters
        if np.unique(value.rows).size < inputs:  # a pick repeats a row, and each of its readers needs its own
            value = self._moved(value, node, 0)
        source, owners = (self._from_pairs if pairs <= taps else self._from_taps)(node, value)
        # owners[row] is the filter that a depthwise row belongs to, -1 for none
        place = self._place(node, filters)
        kernel = np.zeros((len(owners), place.width), "float32")
        used = np.flatnonzero(owners >= 0)
        kernel[used, place.offset + owners[used]] = 1
        bias = np.zeros(place.width, "float32")
        bias[place.offset + np.arange(filters)] = 0.0 if node.op.bias is None else node.op.bias
        self._pointwise(node.name, source, node.shape, kernel, bias, node.op.relu)
        self._keep(node, node.name, place.offset + np.arange(filters), place.width)

    def _from_pairs(self, node: Node, value: Value) -> tuple[str, np.ndarray]:
        """A depthwise row for each pair of an input and a filter that reads it."""
        per_group = node.channels // node.op.groups
        source = value.name
        owners = np.full(per_group * value.width, -1)
        window = np.zeros((3, 3, per_group * value.width), "float32")
        for filters, inputs, weights in node.op.by_group():
            for copy, filter_ in enumerate(filters):
                rows = copy * value.width + value.rows[inputs]
                owners[rows] = filter_
                window[..., rows] = weights[..., copy]
        if per_group > 1:
            copies = np.tile(np.eye(value.width, dtype="float32"), per_group)
            source = self._pointwise(f"{node.name}_copies", source, node.shape, copies)
        return self._depthwise(f"{node.name}_windows", source, node.shape, window), owners

    def _from_taps(self, node: Node, value: Value) -> tuple[str, np.ndarray]:
        """A row for each filter and each of the nine positions: first the sum over inputs, then the shift."""
        per_group = node.channels // node.op.groups
        owners = np.repeat(np.arange(node.channels).reshape(-1, per_group), 9, axis=0).ravel()
        kernel = np.zeros((value.width, len(owners)), "float32")
        window = np.zeros((3, 3, len(owners)), "float32")
        for group, (_, inputs, weights) in enumerate(node.op.by_group()):
            for position in range(9):
                columns = (group * 9 + position) * per_group + np.arange(per_group)
                kernel[value.rows[inputs][:, None], columns[None]] = weights[position // 3, position % 3]
                window[position // 3, position % 3, columns] = 1
        order = pairs_apart(len(owners), node.op.groups)
        source = self._pointwise(f"{node.name}_taps", value.name, node.shape, kernel[:, order])
        return self._depthwise(f"{node.name}_windows", source, node.shape, window[..., order]), owners[order]

    def _concatenate(self, node: Node) -> None:
        values, width = [self.values[name] for name in node.inputs], self._widths[node.name]
        offset, store = 0, None
        for number, (name, value) in enumerate(zip(node.inputs, values, strict=True)):
            count = self._graph[name].channels
            expected = offset + np.arange(count)
            is_in_place = value.width == width and np.array_equal(value.rows, expected) and value.alone
            if not is_in_place:
                value = self._moved(value, node, number, Place(offset, width))
            if store is None:
                store = value.name
            else:
                last = number == len(values) - 1
                written = node.name if last else f"{node.name}_store{number}"
                store = self._emit(written, Add(sparse=True), (store, value.name), (*node.shape[:2], width))
            offset += count
        self._keep(node, store, np.arange(node.channels), width)

    def _average_pool(self, node: Node) -> None:
        value = self.values[node.inputs[0]]
        window = np.zeros((3, 3, value.width), "float32")
        window[1:, 1:] = 0.25
        name = node.name if node.name != self._cut else f"{node.name}_rows"
        name = self._depthwise(name, value.name, node.shape, window, stride=2)
        self._keep(node, name, value.rows, value.width, value.alone)

    def _mean(self, node: Node) -> None:
        value = self.values[node.inputs[0]]
        name = self._emit(f"{node.name}_rows", Mean(), (value.name,), (value.width,))
        self._keep(node, name, value.rows, value.width, value.alone)

    # --- the end ---------------------------------------------------------------------------------------------------
    def leave(self, node: Node) -> None:
        """Give the last image its channels last again, under the node's own name."""
        value, name = self.values[node.name], node.name
        if isinstance(node.op, Mean):
            self._emit(name, PickChannels(value.rows), (value.name,), node.shape)
            return
        height, width = node.shape[:2]
        quarter = -(-len(value.rows) // 4)
        kernel = np.zeros((value.width, 4 * quarter), "float32")
        kernel[value.rows, np.arange(len(value.rows))] = 1
        last = value.name
        if value.width != 4 * quarter or not np.array_equal(value.rows, np.arange(value.width)):
            last = self._pointwise(f"{name}_ordered", last, node.shape, kernel)
        # `depth_to_space` is an operator that ends a channels-first part; what it moves is moved back
        last = self._emit(f"{name}_spread", DepthToSpace(2), (last,), (2 * height, 2 * width, quarter))
        last = self._emit(f"{name}_parts", Reshape(), (last,), (height, 2, width, 2, quarter))
        last = self._emit(f"{name}_order", Transpose((0, 1, 3, 2, 4, 5)), (last,), (height, width, 2, 2, quarter))
        last = self._emit(f"{name}_image", Reshape(), (last,), (height, width, 4 * quarter))
        self._emit(name, Slice(), (last,), node.shape)
