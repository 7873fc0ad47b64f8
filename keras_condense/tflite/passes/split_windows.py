"""Grouped convolutions with few filters a group become depthwise ones, and 1x1 ones that sum.

There is one of each for the first filter of all groups, one for the second, and so on. They may read their channels in
any order, so a shuffle before them is not executed.
"""

import math

import numpy as np

from keras_condense.tflite.graph import Graph, Names, Node
from keras_condense.tflite.operators import Add, Convolution, Depthwise, PickChannels, convolution_features
from keras_condense.tflite.passes.block_pixels import block_cost, blocks, is_plain
from keras_condense.tflite.schemes import Scheme
from keras_condense.tflite.targets import Target, node_cost

__all__ = ["run"]


def run(graph: Graph, target: Target, scheme: Scheme) -> Graph:
    """Split grouped convolutions where that is cheaper than computing blocks."""
    # none becomes a kernel of few weights, and what is between the two has no range
    if scheme.few_weights or scheme.has_ranges:
        return graph
    by_name, nodes, names = graph.by_name(), [], Names(graph)
    for node in graph:
        if not is_plain(node) or node.op.window == (1, 1):
            nodes.append(node)
            continue
        source, order = by_name[node.inputs[0]], None
        others = min(block_cost(node, block, target, scheme) for block in blocks(node, scheme))
        if isinstance(source.op, PickChannels) and source.op.is_permutation(source.channels):
            before = by_name[source.inputs[0]]
            if before.channels == source.channels and graph.only_reader(source.name) is not None:
                others += node_cost(source, [before], target, scheme.arithmetic)
                order, source = source.op.indices, before
        if _split_cost(node, source.channels, target, scheme) < others:
            nodes += _split(node, source.name, np.arange(source.channels) if order is None else order, names)
        else:
            nodes.append(node)
    return graph.with_nodes(nodes)


def _split_cost(node: Node, channels: int, target: Target, scheme: Scheme) -> float:
    """The cost of a depthwise and a 1x1 convolution for each filter of a group, and of their sum."""
    windowed, per_group = (*node.shape[:2], channels), node.channels // node.op.groups
    once = (
        Depthwise(np.empty((*node.op.window, channels))).features([], windowed, target.lanes_of(scheme.arithmetic)),
        convolution_features((1, 1, channels, node.channels), 1, node.shape, target.lanes_of(scheme.arithmetic)),
    )
    added = ("add", {"outputs": (per_group - 1) * math.prod(node.shape)})
    return per_group * sum(target.cost(each, scheme.arithmetic) for each in once) + target.cost(
        added, scheme.arithmetic
    )


def _split(node: Node, source: str, order: np.ndarray, names: Names) -> list[Node]:
    """For the first, second ... filter of all groups, a depthwise convolution and a 1x1 one that sums; and their sum.

    Input j of the grouped convolution is channel `order[j]` of `source`.
    """
    op, filters = node.op, node.channels
    per_group, channels = filters // op.groups, len(order)
    nodes, sums = [], []
    for number in range(per_group):
        windows = np.zeros((*op.window, channels), "float32")
        summing = np.zeros((channels, filters), "float32")
        for members, inputs, kernel in op.by_group():
            windows[:, :, order[inputs]] = kernel[..., number]
            summing[order[inputs], members[number]] = 1
        windowed, summed = (names.new(f"{node.name}_{part}{number}") for part in ("windows", "sums"))
        depthwise = Depthwise(windows, padding=op.padding)
        nodes.append(Node(windowed, depthwise, (source,), (*node.shape[:2], channels), node.layer))
        # where sums are added up, the bias belongs to the first and the ReLU to the sum of all
        bias, relu = (op.bias if number == 0 else None), (op.relu and per_group == 1)
        nodes.append(
            Node(summed, Convolution(summing[None, None], bias, relu, op.ceiling), (windowed,), node.shape, node.layer)
        )
        sums.append(summed)
    if per_group == 1:
        return [*nodes[:-1], nodes[-1].replace(name=node.name)]
    return [*nodes, Node(node.name, Add(op.relu, op.ceiling), tuple(sums), node.shape, node.layer)]
