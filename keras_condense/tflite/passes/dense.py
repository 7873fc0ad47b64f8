"""A beginning whose learned groups are ordinary 1x1 convolutions of all channels, zero for those they don't need.

Picking channels takes longer than the multiplications with zero where channels are few and images large: in a network's
first block on processors with wide registers. No rows are kept there, and nothing is moved.
"""

import numpy as np

from keras_condense.tflite.graph import Graph, Node
from keras_condense.tflite.operators import AveragePool, Convolution, PickChannels

__all__ = ["cuts", "run"]


def _picks(node: Node, by_name: dict[str, Node]) -> Node | None:
    """The pick whose channels a 1x1 convolution reads."""
    pointwise = isinstance(node.op, Convolution) and node.op.is_pointwise
    source = by_name[node.inputs[0]] if pointwise else None
    return source if source is not None and isinstance(source.op, PickChannels) else None


def cuts(graph: Graph) -> list[str]:
    """Where such a beginning may end, from the shortest to the longest.

    Args:
        graph: a simplified network.

    Returns:
        Names of pooling nodes with a 1x1 convolution of picked channels between them and the one before.
    """
    by_name, found, names = graph.by_name(), False, []
    for node in graph:
        found = found or _picks(node, by_name) is not None
        if isinstance(node.op, AveragePool) and found:
            names.append(node.name)
            found = False
    return names


def run(graph: Graph, cut: str) -> Graph:
    """Write the 1x1 convolutions of picked channels before `cut` as convolutions of all channels.

    Args:
        graph: a simplified network.
        cut: one of its `cuts`.

    Returns:
        The new graph, equal in its outputs.
    """
    nodes = graph.by_name()
    for name in list(nodes):
        if name == cut:
            break
        node = nodes[name]
        pick = _picks(node, nodes)
        if pick is None:
            continue
        kernel = np.zeros((nodes[pick.inputs[0]].channels, node.channels), "float32")
        np.add.at(kernel, pick.op.indices, node.op.matrix)  # a channel may be picked by several groups
        nodes[name] = node.with_op(groups=1, kernel=kernel[None, None]).replace(inputs=pick.inputs)
    return graph.with_nodes(nodes.values())
