"""Channels that nobody reads are not computed: neither by the convolution that makes them nor by what follows it.

Groups learn which inputs they need, and what none of them needs is still an output of the layer before. Values that are
computed channel by channel from each other keep the same channels; convolutions at their beginning lose filters.
"""

import math

import numpy as np

from keras_condense.tflite.graph import Graph, Node
from keras_condense.tflite.operators import (
    Add,
    Affine,
    AveragePool,
    Convolution,
    Dense,
    Depthwise,
    FakeQuantized,
    HardSwish,
    Mean,
    Multiply,
    Pad,
    PickChannels,
    Relu,
    Sigmoid,
    Swish,
)
from keras_condense.tflite.schemes import Scheme
from keras_condense.tflite.targets import Target

__all__ = ["run"]

_CHANNEL_BY_CHANNEL = (
    Add,
    Affine,
    AveragePool,
    Depthwise,
    FakeQuantized,
    HardSwish,
    Mean,
    Multiply,
    Pad,
    Relu,
    Sigmoid,
    Swish,
)

# below so many channels, unread ones are not kept to fill registers
_FEW = 64


def run(graph: Graph, target: Target, scheme: Scheme) -> Graph:
    """Leave out channels that nobody reads."""
    channels = _Channels(graph)
    channels.need_what_is_read()
    if channels.all_are_needed:
        return graph
    channels.fit_registers(target.lanes_of(scheme.arithmetic), target.fill_lanes)
    nodes = []
    for node in graph:
        source = channels.kept(node.inputs[0]) if node.inputs else None
        nodes.append(_reduced(node, channels.kept(node.name), source))
    return graph.with_nodes(nodes)


def _is_carried(node: Node, source: Node) -> bool:
    """Whether each channel of a node is made of one of its input, and each of those makes one."""
    if isinstance(node.op, PickChannels):
        return node.is_image and node.op.is_permutation(source.channels)
    return isinstance(node.op, _CHANNEL_BY_CHANNEL)


class _Channels:
    """Sets of channels that are kept or dropped together: those that are made of each other one by one."""

    def __init__(self, graph: Graph):
        self._graph, self._by_name = graph, graph.by_name()
        self._sets: dict[str, np.ndarray] = {}  # of each node's channels
        self._parents: list[int] = []
        self._makers = []
        for node in graph:
            if node.inputs and _is_carried(node, self._by_name[node.inputs[0]]):
                mine = self._sets[node.inputs[0]]
                mine = mine[node.op.indices] if isinstance(node.op, PickChannels) else mine
                for name in node.inputs[1:]:
                    for pair in zip(mine.tolist(), self._sets[name].tolist(), strict=True):
                        self._join(*pair)
            else:
                first = len(self._parents)
                self._parents += range(first, first + (node.channels if node.shape else 0))
                mine = np.arange(first, len(self._parents))
                self._makers.append(node)
            self._sets[node.name] = mine
        of_set = np.array([self._first(number) for number in range(len(self._parents))], int)
        self._sets = {name: of_set[mine] for name, mine in self._sets.items()}
        self._needed = np.zeros(len(of_set), bool)

    def _first(self, number: int) -> int:
        while self._parents[number] != number:
            number = self._parents[number]
        return number

    def _join(self, one: int, other: int) -> None:
        one, other = self._first(one), self._first(other)
        self._parents[max(one, other)] = min(one, other)

    @property
    def all_are_needed(self) -> bool:
        """Whether no channel can be left out."""
        return all(self._needed[mine].all() for mine in self._sets.values())

    def kept(self, name: str) -> np.ndarray | None:
        """The channels of a node that are kept; None for all."""
        mask = self._needed[self._sets[name]]
        return None if mask.all() else np.flatnonzero(mask)

    def need_what_is_read(self) -> None:
        """Keep what leaves the network, and what a layer reads whose outputs are kept."""
        for name in self._graph.outputs.values():
            self._needed[self._sets[name]] = True
        for node in reversed(self._makers):  # readers of a pick before the pick
            if not isinstance(node.op, (Convolution, PickChannels)) or not node.is_image:
                self._needed[self._sets[node.name]] = True
            mine = self._needed[self._sets[node.name]]
            if isinstance(node.op, Convolution) and not mine.any():
                self._needed[self._sets[node.name][:1]] = True
            for name in node.inputs:
                read = _read(node, mine, self._by_name[name])
                self._needed[self._sets[name][read]] = True

    def fit_registers(self, lanes: int, always: bool) -> None:
        """Keep a few channels more: as many for each group of a convolution, and as many as fill registers.

        Args:
            lanes: filters that are computed together.
            always: whether those of each group fill registers; otherwise those of all groups, unless they are few.
        """
        convolutions = [node for node in self._makers if isinstance(node.op, Convolution)]
        changed = True
        while changed:
            changed = False
            for node in convolutions:
                of_group = self._sets[node.name].reshape(node.op.groups, -1)
                # of a group, for all of them to be a multiple of the lanes
                step = lanes // math.gcd(lanes, node.op.groups) if node.channels >= _FEW else 1
                step = lanes if always else step
                wanted = -(-int(self._needed[of_group].sum(axis=1).max()) // step) * step
                for members in of_group:
                    missing = min(wanted, len(members)) - int(self._needed[members].sum())
                    if missing > 0:
                        self._needed[members[~self._needed[members]][:missing]] = True
                        changed = True


def _read(node: Node, mine: np.ndarray, source: Node) -> np.ndarray:
    """The channels of an input that a node reads."""
    match node.op:
        case PickChannels(indices):
            return np.unique(indices[mine] if node.is_image else indices)
        case Convolution(kernel) if node.op.groups == 1:
            return np.flatnonzero((kernel != 0).any(axis=(0, 1, 3)))
        case Dense(kernel):
            return np.flatnonzero((kernel != 0).any(axis=1))
    return np.arange(source.channels if source.shape else 0)


def _reduced(node: Node, kept: np.ndarray | None, source: np.ndarray | None) -> Node:
    """A node of some of its channels that reads some of its input's."""
    op = node.op
    if source is not None:
        match op:
            case PickChannels(indices):
                place = np.searchsorted(source, indices)  # of an index that nobody needs, any
                node = node.with_op(indices=np.minimum(place, len(source) - 1))
            case Convolution() if op.groups == 1:
                node = node.with_op(kernel=op.kernel[:, :, source])
            case Dense():
                node = node.with_op(kernel=op.kernel[source])
    if kept is None:
        return node
    match node.op:
        case Convolution(kernel, bias) | Depthwise(kernel, bias):
            node = node.with_op(kernel=kernel[..., kept], bias=None if bias is None else bias[kept])
        case Affine(scale, shift):
            node = node.with_op(scale=scale[kept], shift=shift[kept])
        case PickChannels(indices):
            node = node.with_op(indices=indices[kept])
    return node.replace(shape=(*node.shape[:-1], len(kept)))
