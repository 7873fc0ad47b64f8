"""Learned groups as ordinary 1x1 convolutions of all channels, zero for those they don't need: in a beginning, or all.

Picking channels takes longer than the multiplications with zero where channels are few and images large: in a network's
first block on processors with wide registers. No rows are kept there, and nothing is moved. All of a network in this
form is the one that the learned groups were put into, as any converter would have it.
"""

import numpy as np

from keras_condense.tflite.graph import Graph, Node
from keras_condense.tflite.operators import AveragePool, Convolution, PickChannels

__all__ = ["cuts", "run"]


def _is_grouped(node: Node, by_name: dict[str, Node]) -> bool:
    """Whether a 1x1 convolution has groups, or reads picked channels."""
    pointwise = isinstance(node.op, Convolution) and node.op.is_pointwise
    return pointwise and (node.op.groups > 1 or isinstance(by_name[node.inputs[0]].op, PickChannels))


def cuts(graph: Graph) -> list[str]:
    """Where such a beginning may end, from the shortest to the longest.

    Args:
        graph: a simplified network.

    Returns:
        Names of pooling nodes with a learned group convolution between them and the one before, and of the last node.
    """
    by_name, found, names = graph.by_name(), False, []
    for node in graph:
        found = found or _is_grouped(node, by_name)
        if found and (isinstance(node.op, AveragePool) or node is graph.nodes[-1]):
            names.append(node.name)
            found = False
    last = graph.nodes[-1].name
    return [*names, last] if names and names[-1] != last else names


def run(graph: Graph, cut: str) -> Graph:
    """Write the 1x1 convolutions of groups before `cut` as convolutions of all channels.

    Args:
        graph: a simplified network.
        cut: one of its `cuts`.

    Returns:
        The new graph, equal in its outputs.
    """
    nodes, renamed = graph.by_name(), {}
    for name in list(nodes):
        node = nodes[name]
        node = nodes[name] = node.replace(inputs=tuple(renamed.get(each, each) for each in node.inputs))
        if _is_grouped(node, nodes):
            source, matrix = nodes[node.inputs[0]], node.op.matrix
            kernel, inputs = matrix, node.inputs
            if isinstance(source.op, PickChannels):
                kernel = np.zeros((nodes[source.inputs[0]].channels, node.channels), "float32")
                np.add.at(kernel, source.op.indices, matrix)  # a channel may be picked by several groups
                inputs = source.inputs
            nodes[name] = node.with_op(groups=1, kernel=kernel[None, None]).replace(inputs=inputs)
            _reorder(nodes, name, graph.only_reader(name), renamed)
        if name == cut:
            break
    return graph.with_nodes(nodes.values(), renamed)


def _reorder(nodes: dict[str, Node], name: str, reader: Node | None, renamed: dict[str, str]) -> None:
    """Compute the filters in the order in which a shuffle behind them would bring them."""
    node = nodes[name]
    if reader is not None and isinstance(reader.op, PickChannels) and reader.op.is_permutation(node.channels):
        order = reader.op.indices
        bias = None if node.op.bias is None else node.op.bias[order]
        nodes[name] = node.with_op(kernel=node.op.kernel[..., order], bias=bias)
        renamed[reader.name] = name
