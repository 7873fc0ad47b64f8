"""Channels that nobody reads are not computed: neither by the convolution that makes them nor by what follows it.

Groups learn which inputs they need, and what none of them needs is still an output of the layer before. Values that are
computed channel by channel from each other keep the same channels; convolutions at their beginning lose filters.
"""

from collections.abc import Iterator

import numpy as np

from keras_condense.tflite.graph import Graph, Node
from keras_condense.tflite.operators import (
    Add,
    Affine,
    AveragePool,
    Convolution,
    Dense,
    Depthwise,
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

_CHANNEL_BY_CHANNEL = (Add, Affine, AveragePool, Depthwise, HardSwish, Mean, Multiply, Pad, Relu, Sigmoid, Swish)


def run(graph: Graph, target: Target, scheme: Scheme) -> Graph:
    """Leave out channels that nobody reads."""
    of_value = _families(graph)
    families: dict[str, list[Node]] = {}
    for node in graph:
        families.setdefault(of_value[node.name], []).append(node)
    needed = _needed(graph, of_value)
    kept = {}
    for name, members in families.items():
        if len(mask := needed[name]) and not mask.all():
            mask = _fitting(mask, [node for node in members if _makes_channels(node)])
            if not mask.all():
                kept[name] = np.flatnonzero(mask)
    if not kept:
        return graph
    by_name = graph.by_name()
    nodes = []
    for node in graph:
        channels = kept.get(of_value[node.name])
        source = None
        if node.inputs and by_name[node.inputs[0]].shape:
            source = kept.get(of_value[node.inputs[0]])
        nodes.append(_reduced(node, channels, source))
    return graph.with_nodes(nodes)


def _makes_channels(node: Node) -> bool:
    return not isinstance(node.op, _CHANNEL_BY_CHANNEL)


def _families(graph: Graph) -> dict[str, str]:
    """For each node the first of those that must keep the same channels."""
    parent = {node.name: node.name for node in graph}

    def first(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for node in graph:
        if not _makes_channels(node):
            for name in node.inputs:
                one, other = first(name), first(node.name)
                parent[other] = one
    return {node.name: first(node.name) for node in graph}


def _needed(graph: Graph, of_value: dict[str, str]) -> dict[str, np.ndarray]:
    """For each family the channels that somebody reads."""
    by_name, outputs = graph.by_name(), set(graph.outputs.values())
    needed: dict[str, np.ndarray] = {}
    for node in graph:
        free = _makes_channels(node) and isinstance(node.op, (Convolution, PickChannels)) and node.is_image
        everything = node.name in outputs or (_makes_channels(node) and not free)
        family = of_value[node.name]
        mask = needed.get(family, np.zeros(node.channels if node.shape else 0, bool))
        needed[family] = mask | everything
    for node in reversed(graph.nodes):  # readers of a pick before the pick
        if not _makes_channels(node):
            continue
        for name, mask in _read(node, needed[of_value[node.name]], [by_name[name] for name in node.inputs]):
            needed[of_value[name]] = needed[of_value[name]] | mask
    return needed


def _read(node: Node, mine: np.ndarray, sources: list[Node]) -> Iterator[tuple[str, np.ndarray]]:
    """What a node reads of each of its inputs."""
    op = node.op
    for source in sources:
        channels = source.channels if source.shape else 0
        if isinstance(op, PickChannels):
            yield source.name, np.isin(np.arange(channels), op.indices[mine] if node.is_image else op.indices)
        elif isinstance(op, Convolution) and op.groups == 1:
            yield source.name, (op.kernel != 0).any(axis=(0, 1, 3))
        elif isinstance(op, Dense):
            yield source.name, (op.kernel != 0).any(axis=1)
        else:
            yield source.name, np.ones(channels, bool)


def _fitting(mask: np.ndarray, makers: list[Node]) -> np.ndarray:
    """As few channels more as leave groups of one size; all, where one does not find any."""
    mask = mask.copy()
    if not mask.any():
        mask[0] = True
    groups = {node.op.groups for node in makers if isinstance(node.op, Convolution)} - {1}
    if len(groups) > 1:
        return np.ones_like(mask)
    for count in groups:
        of_group = mask.reshape(count, -1)
        wanted = int(of_group.sum(axis=1).max())
        for members in of_group:
            unread = np.flatnonzero(~members)
            members[unread[: wanted - int(members.sum())]] = True
    return mask


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
