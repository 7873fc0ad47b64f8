"""Writes nodes in the operators that XNNPACK executes channels-first, skipping the zeros of 1x1 kernels.

- pick and shuffle: nothing; the next kernel has its rows permuted.
- batch norm and ReLU: a diagonal 1x1 convolution of the channels that somebody reads.
- grouped 1x1 convolution: a 1x1 convolution, zero outside the groups, its filters in an order in which neighbours read
  the same inputs, or in which they don't, as the target likes it.
- grouped 3x3 convolution: depthwise ones, and 1x1 ones that sum (`sparse_windows.py`).
- concatenation: nothing, or a sum of stores, zero where nothing has been written (`sparse_stores.py`).
- 2x2 average pooling: a depthwise 3x3 convolution of stride 2 with four weights of 1/4.

An image may lie in several parts. What computes number by number does so part by part; a 1x1 convolution is a sum of
one for each part.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from keras_condense.tflite.graph import Graph, Names, Node
from keras_condense.tflite.operators import (
    Add,
    Affine,
    AveragePool,
    ConcatenateChannels,
    Convolution,
    Depthwise,
    Mean,
    Multiply,
    Operator,
    PickChannels,
    Shape,
    Sigmoid,
)
from keras_condense.tflite.passes.sparse_regions import UNARY
from keras_condense.tflite.passes.sparse_stores import planned
from keras_condense.tflite.passes.sparse_values import Part, Place, Value, alike_apart, alike_in_pairs, needed_channels
from keras_condense.tflite.passes.sparse_windows import average_pool, depthwise_convolution, window_convolution
from keras_condense.tflite.targets import Target

__all__ = ["Form", "SparseWriter", "cost_of"]

# zeros that kernels of single pixels are widened by, for XNNPACK to find enough of them
_ZEROS_OF_PIXELS = 0.75


@dataclasses.dataclass(frozen=True)
class Form:
    """How a part is written: each choice but the first makes more weights zero.

    Attributes:
        wide_pixels: kernels of single pixels have filters of zeros.
        one_store: all pieces of a chain of concatenations lie in one store.
    """

    wide_pixels: bool = False
    one_store: bool = False


def cost_of(nodes: list[Node], target: Target, arithmetic: str) -> float:
    """What a part's sparse operators cost; it does not depend on the shapes that they read."""
    sparse = (node for node in nodes if getattr(node.op, "sparse", False))
    features = (node.op.features([()] * len(node.inputs), node.shape, 1) for node in sparse)
    return sum(target.cost(each, arithmetic) for each in features)


class SparseWriter:
    """Writes the nodes of a channels-first part; `values` says where each of the network's images lies."""

    def __init__(self, graph: Graph, inside: list[Node], target: Target, arithmetic: str, turned: bool, form: Form):
        self.nodes: list[Node] = []
        self.values: dict[str, Value] = {}
        self._graph, self._layer = graph.by_name(), ""
        self._target, self._arithmetic = target, arithmetic
        paired, single = (target.cost(("sparse_pointwise", {kind: 1.0}), arithmetic) for kind in ("paired", "singles"))
        self.order_of = alike_in_pairs if paired <= single else alike_apart
        self.turned, self._form = turned, form
        self._names, self._readers = Names(graph), graph.readers()
        self._inside, self._end = {node.name for node in inside}, inside[-1].name
        self._needed = needed_channels(inside, inside[-1].name)
        self._stores = planned(inside, graph, target, arithmetic, form.one_store)
        self._stored_in: dict[str, dict[int, int]] = {}  # of concatenations: stores, and which part each is

    def begin(self, node: Node) -> None:
        """Let a node be written anew under its name."""
        self._names.release(node.name)
        self._layer = node.layer

    def write(self, node: Node) -> None:
        """Write one node, after all that it reads."""
        if node.name != self._end:  # whose name belongs to the image that leaves
            self.begin(node)
        values = [self.values[name] for name in node.inputs]
        match node.op:
            case PickChannels(indices):
                made = values[0].pick(indices)
            case Affine():
                made = self._affine(node, values[0])
            case Add():
                made = self._elementwise(node, values, Add(node.op.relu, node.op.ceiling, sparse=True))
            case Multiply():
                made = self._elementwise(node, values, Multiply(sparse=True))
            case ConcatenateChannels():
                made = self._concatenate(node, values)
            case AveragePool():
                made = average_pool(self, node, values[0])
            case Mean():
                names = self._part_by_part(node, values[0], Mean(keepdims=True))
                made = values[0].renamed(names)
            case Depthwise():
                made = depthwise_convolution(self, node, values[0])
            case Convolution() if node.op.window == (1, 1):
                made = self._pointwise_convolution(node, values[0])
            case Convolution():
                made = window_convolution(self, node, values[0])
            case _ if isinstance(node.op, UNARY):
                names = self._part_by_part(node, values[0], node.op)
                made = values[0].renamed(names, values[0].alone and not isinstance(node.op, Sigmoid))
        self.values[node.name] = made

    # --- building blocks -------------------------------------------------------------------------------------------
    def shape_of(self, name: str) -> Shape:
        """The shape of a node of the network."""
        return self._graph[name].shape

    def emit(self, name: str, op: Operator, inputs: tuple[str, ...], shape: Shape) -> str:
        """Write an operator; its name, or one like it if that is taken."""
        name = self._names.new(name)
        self.nodes.append(Node(name, op, inputs, shape, self._layer))
        return name

    def pointwise(self, name: str, source: str, shape: Shape, kernel, bias=None, relu=False, ceiling=None) -> str:
        """A 1x1 convolution of the rows of `source`; `kernel` is (rows in, rows out)."""
        kernel = np.asarray(kernel, "float32")[None, None]
        bias = None if bias is None else np.asarray(bias, "float32")
        op = Convolution(kernel, bias, relu, ceiling, sparse=True)
        return self.emit(name, op, (source,), (*shape[:2], kernel.shape[3]))

    def depthwise(self, name: str, source: str, shape: Shape, kernel, stride: int = 1, **finish) -> str:
        """A depthwise convolution of the rows of `source`, with as many zeros on all sides."""
        kernel, half = np.asarray(kernel, "float32"), kernel.shape[0] // 2
        op = Depthwise(kernel, strides=(stride, stride), padding=((half, half),) * 2, sparse=True, **finish)
        return self.emit(name, op, (source,), (*shape[:2], kernel.shape[2]))

    def summed(self, name: str, addends: list[str], shape: Shape, width: int, relu=False, ceiling=None) -> str:
        """The sum of several nodes of as many rows; of one, itself."""
        total = addends[0]
        for number, addend in enumerate(addends[1:], 1):
            last = number == len(addends) - 1
            op = Add(relu and last, ceiling if last else None, sparse=True)
            total = self.emit(name if last else f"{name}_sum{number}", op, (total, addend), (*shape[:2], width))
        return total

    def joined(self, name: str, values: list[Value], shape: Shape, place: Place | None = None) -> Value:
        """One part of the channels that are in some of the values, in order, or at their place in a store."""
        place = place or Place(0, values[0].channels)
        row = np.full(values[0].channels, -1)
        copies = []
        for value in values:
            for number, part in enumerate(value.parts):
                members = value.members(number)
                kernel = np.zeros((part.width, place.width), "float32")
                kernel[value.row[members], place.offset + members] = 1
                row[members] = place.offset + members
                alone = len(values) == len(value.parts) == 1
                copies.append(self.pointwise(name if alone else f"{name}_part", part.name, shape, kernel))
        return Value.of_rows(self.summed(name, copies, shape, place.width), row, place.width)

    def cheapest(self, ways: list[Callable[[], Value]]) -> Value:
        """Write what costs least of several ways to write the same."""
        before, tried = self.nodes, []
        for way in ways:
            self.nodes = []
            value = way()
            tried.append((cost_of(self.nodes, self._target, self._arithmetic), self.nodes, value))
            for node in self.nodes:
                self._names.release(node.name)
        _, nodes, value = min(tried, key=lambda each: each[0])
        for node in nodes:
            self._names.new(node.name)
        self.nodes = before + nodes
        return value

    def place_of(self, node: Node) -> Place:
        """Where the outputs of a convolution go: to their place in a store, or to rows of their own."""
        return self._stores.only_place(node.name) or Place(0, node.channels)

    def apart(self, node: Node, value: Value, number: int = 0) -> Value:
        """The value of a node's input in which no two channels are the same row."""
        pairs = set(zip(value.part.tolist(), value.row.tolist(), strict=True))
        missing = int((value.part < 0).sum())
        if len(pairs) - (missing > 0) == value.channels - missing:
            return value
        return self.joined(f"{node.name}_apart", [value], self.shape_of(node.inputs[number]))

    def _part_by_part(self, node: Node, value: Value, op: Operator) -> list[str]:
        names = []
        for number, part in enumerate(value.parts):
            name = value.name_of(node, number)
            names.append(self.emit(name, op, (part.name,), (*node.shape[:2], part.width)))
        return names

    def _wanted(self, node: Node) -> Value | None:
        """The image that a node's output will be added to, or multiplied by: it should lie like that."""
        name = node.name
        while True:
            readers = self._readers[name]
            if len(readers) != 1 or readers[0].name not in self._inside:
                return None
            reader = readers[0]
            if isinstance(reader.op, (Add, Multiply)):
                others = [self.values[each] for each in reader.inputs if each != name and each in self.values]
                return next((value for value in others if value.is_whole), None)
            if not isinstance(reader.op, UNARY):
                return None
            name = reader.name

    # --- operators -------------------------------------------------------------------------------------------------
    def _affine(self, node: Node, value: Value) -> Value:
        channels = np.flatnonzero(self._needed[node.name])
        if not len(channels):  # a pick behind a concatenation may read all of it but this
            channels = np.arange(1)
        used, wanted = np.unique(value.part[channels]), self._wanted(node)
        filters = [reader.channels for reader in self._readers[node.name] if isinstance(reader.op, Convolution)]
        together = len(used) == 1 or wanted is not None or len(channels) < min(filters, default=node.channels)
        row, width = np.full(node.channels, -1), len(channels)
        row[channels] = np.arange(width) if wanted is None else wanted.row[channels]
        width = width if wanted is None else wanted.parts[0].width
        part, parts = np.full(node.channels, -1), []
        for number in used:
            members = channels[value.part[channels] == number]
            if not together:
                row[members], width = np.arange(len(members)), len(members)
            kernel, bias = np.zeros((value.parts[number].width, width), "float32"), np.zeros(width, "float32")
            kernel[value.row[members], row[members]] = node.op.scale[members]
            bias[row[members]] = node.op.shift[members]
            finish = (node.op.relu, node.op.ceiling)
            name = node.name if len(used) == 1 else f"{node.name}_part{number}"
            source = value.parts[number].name
            part[members] = 0 if together else len(parts)
            parts.append(Part(self.pointwise(name, source, node.shape, kernel, bias, *finish), width))
        if together:  # each row is zero in all but one
            total = self.summed(node.name, [each.name for each in parts], node.shape, width)
            return Value.of_rows(total, row, width)
        return Value(tuple(parts), part, row)

    def _elementwise(self, node: Node, values: list[Value], op: Operator) -> Value:
        """A sum or a product, part by part of images that lie alike."""
        values = [self.apart(node, value, number) for number, value in enumerate(values)]
        # of a sum, the first gives the layout; of a product, the image and not the pixel
        shapes = [self.shape_of(name) for name in node.inputs]
        leader = next(number for number, shape in enumerate(shapes) if shape == node.shape)
        for number, (value, shape) in enumerate(zip(values, shapes, strict=True)):
            if not value.lies_like(values[leader]):
                values[number] = self._laid_like(node, value, values[leader], shape, number)
        names = []
        for number, part in enumerate(values[leader].parts):
            name = values[leader].name_of(node, number)
            inputs = tuple(value.parts[number].name for value in values)
            names.append(self.emit(name, op, inputs, (*node.shape[:2], part.width)))
        return values[leader].renamed(names, all(value.alone for value in values))

    def _laid_like(self, node: Node, value: Value, other: Value, shape: Shape, number: int) -> Value:
        """A value copied to where another has its channels."""
        names = []
        for target, wanted in enumerate(other.parts):
            copies = []
            for source, part in enumerate(value.parts):
                members = np.flatnonzero((value.part == source) & (other.part == target))
                if len(members) or (source == len(value.parts) - 1 and not copies):
                    kernel = np.zeros((part.width, wanted.width), "float32")
                    kernel[value.row[members], other.row[members]] = 1
                    copies.append(self.pointwise(f"{node.name}_copy{number}", part.name, shape, kernel))
            names.append(self.summed(f"{node.name}_copies{number}", copies, shape, wanted.width))
        return other.renamed(names, True)

    def _pointwise_convolution(self, node: Node, value: Value) -> Value:
        op, filters, place, wanted = node.op, node.channels, self.place_of(node), self._wanted(node)
        kernels = [np.zeros((part.width, filters), "float32") for part in value.parts]
        for members, inputs, weights in op.by_group():
            for number, kernel in enumerate(kernels):
                here = value.part[inputs] == number
                # a pick may bring the same row to a group twice: their weights add up
                np.add.at(kernel, (value.row[inputs[here]][:, None], members[None]), weights[0, 0][here])
        row = np.empty(filters, int)
        row[self.order_of(np.concatenate(kernels))] = np.arange(filters)
        columns, width = place.offset + row, place.width
        if wanted is not None:
            columns, width = wanted.row, wanted.parts[0].width
        elif self._form.wide_pixels and node.shape[:2] == (1, 1):
            kept = sum(np.count_nonzero(kernel) for kernel in kernels) / sum(len(kernel) for kernel in kernels)
            width = max(width, int(np.ceil(kept / (1 - _ZEROS_OF_PIXELS))))
        bias = np.zeros(width, "float32")
        bias[columns] = 0.0 if op.bias is None else op.bias
        used = [number for number, kernel in enumerate(kernels) if kernel.any()] or [0]
        addends = []
        for number in used:
            wide = np.zeros((value.parts[number].width, width), "float32")
            wide[:, columns] = kernels[number]
            alone = len(used) == 1
            finish = (op.relu, op.ceiling) if alone else ()
            name = node.name if alone else f"{node.name}_part{number}"
            of_part = bias if number == used[0] else None
            addends.append(self.pointwise(name, value.parts[number].name, node.shape, wide, of_part, *finish))
        total = self.summed(node.name, addends, node.shape, width, op.relu, op.ceiling)
        return Value.of_rows(total, columns, width)

    def _concatenate(self, node: Node, values: list[Value]) -> Value:
        stored = dict(self._stored_in.get(node.inputs[0], {}))
        parts: list[Part] = []
        part, row = [], []
        for name, value in zip(node.inputs, values, strict=True):
            store, place = self._stores.place_of(node.name, name) or (None, None)
            if place is not None:
                value = self._placed(node, value, place, name)
            if store is not None and store in stored:
                number = stored[store]
                both = (parts[number].name, value.parts[0].name)
                written = self.emit(f"{node.name}_store", Add(sparse=True), both, (*node.shape[:2], place.width))
                parts[number] = Part(written, place.width)
                numbers = [number]
            else:
                numbers = []
                for each in value.parts:
                    if each not in parts:
                        parts.append(each)
                    numbers.append(parts.index(each))
                if store is not None:
                    stored[store] = numbers[0]
            part.append(np.array([*numbers, -1])[value.part])
            row.append(value.row)
        self._stored_in[node.name] = stored
        return Value(tuple(parts), np.concatenate(part), np.concatenate(row))

    def _placed(self, node: Node, value: Value, place: Place, name: str) -> Value:
        """A value as rows of a store, all others of which are zero."""
        rows = value.row - place.offset
        is_there = len(value.parts) == 1 and value.alone and value.parts[0].width == place.width
        if is_there and rows.min() >= 0 and rows.max() < value.channels and len(np.unique(rows)) == value.channels:
            return value
        return self.joined(f"{node.name}_{name}", [value], node.shape, place)
