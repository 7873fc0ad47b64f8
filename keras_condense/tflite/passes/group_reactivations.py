"""What is added to a store of rows becomes a group convolution and a sum of rows, where that is cheaper.

A condensed reactivation reaches each output from some of its groups of inputs, and is zero for the others. Groups that
are computed by themselves give their outputs in rows of their own; the rows that belong to one output are then added
up. Some groups are better computed as one, with zeros, since then fewer rows meet in an output.
"""

import math

import numpy as np

from keras_condense.tflite.graph import Graph, Names, Node
from keras_condense.tflite.operators import (
    Add,
    Convolution,
    PickChannels,
    Shape,
    SumOfPicks,
    convolution_features,
    rows_features,
    shuffle_features,
)
from keras_condense.tflite.passes.stores import stores
from keras_condense.tflite.schemes import Scheme
from keras_condense.tflite.targets import Target

__all__ = ["run"]


def run(graph: Graph, target: Target, scheme: Scheme) -> Graph:
    """Write reactivations in groups."""
    kept, nodes, names = stores(graph), [], Names(graph)
    for node in graph:
        op, reader = node.op, graph.only_reader(node.name)
        linear = isinstance(op, Convolution) and not op.relu and op.bias is None and op.groups == 1
        if not linear or reader is None or not isinstance(reader.op, Add) or reader.name not in kept:
            nodes.append(node)
            continue
        choices = [(_dense_cost(node, target, scheme), [node])]
        if op.window == (1, 1):
            groups = _input_groups(op.kernel[0, 0])
            merges = [m for m in range(1, len(groups)) if len(groups) % m == 0]
            choices += [_grouped(node, _joined(groups, merged), target, scheme, names) for merged in merges]
        nodes += min(choices, key=lambda choice: choice[0])[1]
    return graph.with_nodes(nodes)


def _input_groups(matrix: np.ndarray) -> list[np.ndarray]:
    """Inputs that reach the same outputs; one group of all if the groups are of different sizes."""
    members: dict[bytes, list[int]] = {}
    for number, row in enumerate(matrix != 0):
        members.setdefault(row.tobytes(), []).append(number)
    groups = [np.array(group) for group in members.values()]
    return groups if len({len(group) for group in groups}) == 1 else [np.arange(len(matrix))]


def _joined(groups: list[np.ndarray], merged: int) -> list[np.ndarray]:
    return [np.concatenate(groups[first : first + merged]) for first in range(0, len(groups), merged)]


def _convolution_cost(kernel: Shape, groups: int, shape: Shape, target: Target, scheme: Scheme) -> float:
    """A 1x1 convolution, and its outputs as rows."""
    computed = target.cost(
        convolution_features(kernel, groups, shape, target.lanes_of(scheme.arithmetic)), scheme.arithmetic
    )
    return computed + target.cost(rows_features(shape), scheme.arithmetic)


def _dense_cost(node: Node, target: Target, scheme: Scheme) -> float:
    return _convolution_cost(node.op.kernel.shape, 1, node.shape, target, scheme)


def _grouped(
    node: Node, groups: list[np.ndarray], target: Target, scheme: Scheme, names: Names
) -> tuple[float, list[Node]]:
    """A reactivation computed in groups of inputs: its cost, and its nodes."""
    matrix, (height, width, channels) = node.op.kernel[0, 0], node.shape
    reached = [np.flatnonzero((matrix[group] != 0).any(axis=0)) for group in groups]
    widest = max(map(len, reached))
    filters = widest + (min(map(len, reached)) == widest)  # one at least stays zero
    kernel = np.zeros((1, 1, len(groups[0]), len(groups) * filters), "float32")
    sources: list[list[int]] = [[] for _ in range(channels)]
    empty = 0
    for number, (group, outputs) in enumerate(zip(groups, reached, strict=True)):
        first = number * filters
        kernel[0, 0, :, first : first + len(outputs)] = matrix[np.ix_(group, outputs)]
        for position, output in enumerate(outputs):
            sources[output].append(first + position)
        empty = first + len(outputs) if len(outputs) < filters else empty
    rounds = max(map(len, sources))
    picks = np.array([source + [empty] * (rounds - len(source)) for source in sources]).T
    order = np.concatenate(groups)
    ordered, outputs = names.new(f"{node.name}_order"), names.new(f"{node.name}_groups")
    shape = (height, width, kernel.shape[3])
    nodes = [
        Node(ordered, PickChannels(order), node.inputs, (height, width, len(order)), node.layer),
        node.with_op(kernel=kernel, groups=len(groups)).replace(name=outputs, inputs=(ordered,), shape=shape),
        Node(node.name, SumOfPicks(picks), (outputs,), node.shape, node.layer),
    ]
    written = rounds * math.prod(node.shape)
    cost = _convolution_cost(kernel.shape, len(groups), shape, target, scheme) + sum(
        target.cost(features, scheme.arithmetic)
        for features in (
            shuffle_features((height, width, len(order))),
            ("pick_rows", {"outputs": written}),
            ("add", {"outputs": written}),
        )
    )
    return cost, nodes
