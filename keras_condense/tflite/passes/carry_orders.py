"""Channels stay in the order in which a convolution of groups makes them, and what reads them is rewritten instead.

A shuffle behind a convolution moves every number. What computes channel by channel takes any order, with its weights in
that order; sums take one that all of their images have; a pick of channels, a convolution of one group and a dense
layer undo it in their own indices and kernels. Only where others read the channels, or the network ends, is it moved.
"""

import dataclasses

import numpy as np

from keras_condense.tflite.graph import Graph, Names, Node
from keras_condense.tflite.operators import (
    Add,
    Affine,
    AveragePool,
    ConcatenateChannels,
    Convolution,
    Dense,
    Depthwise,
    FakeQuantized,
    HardSwish,
    Maximum,
    Mean,
    Minimum,
    Multiply,
    PickChannels,
    Relu,
    Reshape,
    Sigmoid,
    Swish,
)
from keras_condense.tflite.schemes import Scheme
from keras_condense.tflite.targets import Target, node_cost

__all__ = ["run"]

_ANY_ORDER = (AveragePool, FakeQuantized, HardSwish, Mean, Relu, Sigmoid, Swish)


def run(graph: Graph, target: Target, scheme: Scheme) -> Graph:
    """Carry orders of channels as far as they go, where that leaves less to move."""
    writer = _Writer(graph)
    for node in graph:
        writer.write(node)
    written = writer.finished()

    def cost_of_picks(form: Graph) -> float:
        by_name = form.by_name()
        picks = (node for node in form if isinstance(node.op, PickChannels))
        return sum(node_cost(node, [by_name[node.inputs[0]]], target, scheme.arithmetic) for node in picks)

    return written if cost_of_picks(written) < cost_of_picks(graph) else graph


@dataclasses.dataclass(frozen=True, eq=False)
class _Ordered:
    """A value as it is held: number i of node `name` is channel `order[i]`."""

    name: str
    order: np.ndarray

    @property
    def is_plain(self) -> bool:
        return np.array_equal(self.order, np.arange(len(self.order)))


class _Writer:
    """Writes nodes, and knows in which order each value of the network is held."""

    def __init__(self, graph: Graph):
        self.nodes: list[Node] = []
        self._graph, self._by_name, self._names = graph, graph.by_name(), Names(graph)
        self._values: dict[str, _Ordered] = {}
        self._plain: dict[str, str] = {}

    def write(self, node: Node) -> None:
        """Write a node that reads values in any order, or in their own where it must."""
        values = [self._values[name] for name in node.inputs]
        if node.inputs and isinstance(node.op, PickChannels):
            self._pick(node, values[0])
            return
        op, order = self._in_order(node, values)
        if op is None:
            inputs = tuple(map(self._in_own_order, node.inputs))
            self.nodes.append(node.replace(inputs=inputs))
            self._values[node.name] = _Ordered(node.name, np.arange(node.channels if node.shape else 1))
            return
        self.nodes.append(node.replace(op=op, inputs=tuple(value.name for value in values)))
        self._values[node.name] = _Ordered(node.name, order)

    def finished(self) -> Graph:
        """The new graph; what leaves the network has its own order."""
        renamed = {name: self._in_own_order(name) for name in self._graph.outputs.values()}
        outputs = {key: renamed[name] for key, name in self._graph.outputs.items()}
        return Graph(tuple(self.nodes), outputs).with_nodes(self.nodes)

    def _pick(self, node: Node, value: _Ordered) -> None:
        indices, channels = node.op.indices, len(value.order)
        if node.is_image and node.op.is_permutation(channels):
            self._values[node.name] = _Ordered(value.name, np.argsort(indices)[value.order])
            return
        place = np.argsort(value.order)  # where each channel is held
        self.nodes.append(node.replace(op=PickChannels(place[indices]), inputs=(value.name,)))
        self._values[node.name] = _Ordered(node.name, np.arange(node.channels))

    def _in_own_order(self, name: str) -> str:
        """The node that holds a value in its own order; it is written once."""
        value = self._values[name]
        if value.is_plain:
            return value.name
        if name not in self._plain:
            node, written = self._by_name[name], self._names.new(f"{name}_in_order")
            pick = PickChannels(np.argsort(value.order))
            self.nodes.append(Node(written, pick, (value.name,), node.shape, node.layer))
            self._plain[name] = written
        return self._plain[name]

    def _in_order(self, node: Node, values: list[_Ordered]):
        """The operator that reads the values as they are held, and its output's order; None for one that can't."""
        op = node.op
        if not values or all(value.is_plain for value in values):
            return None, None
        order, plain = values[0].order, np.arange(node.channels)
        match op:
            case Affine():
                return dataclasses.replace(op, scale=op.scale[order], shift=op.shift[order]), order
            case Maximum() | Minimum() if op.limit.shape == (len(order),):
                return dataclasses.replace(op, limit=op.limit[order]), order
            case Depthwise():
                bias = None if op.bias is None else op.bias[order]
                return dataclasses.replace(op, kernel=op.kernel[..., order], bias=bias), order
            case Convolution() if op.groups == 1:
                return dataclasses.replace(op, kernel=op.kernel[:, :, order]), plain
            case Dense():
                return dataclasses.replace(op, kernel=op.kernel[order]), plain
            case Add() | Multiply() if all(np.array_equal(value.order, order) for value in values):
                return op, order
            case ConcatenateChannels():
                offsets = np.cumsum([0, *(len(value.order) for value in values[:-1])])
                return op, np.concatenate([at + value.order for at, value in zip(offsets, values, strict=True)])
            case Reshape() if node.channels == len(order) == np.prod(node.shape):
                return op, order
        return (op, order) if isinstance(op, _ANY_ORDER) else (None, None)
