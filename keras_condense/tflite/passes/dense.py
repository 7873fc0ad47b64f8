"""Learned groups as ordinary 1x1 convolutions that read all channels, and multiply those they don't need by zero.

Picking channels takes longer than the multiplications with zero where channels are few and images large: in a network's
first block on processors with wide registers. No rows are kept there, and nothing is moved.
"""

import dataclasses

import numpy as np

from keras_condense.tflite.graph import Graph, Node
from keras_condense.tflite.passes.simplify import is_pointwise, ungrouped

__all__ = ["dense_cuts", "lower_to_dense"]


def _picks(node: Node, by_name: dict[str, Node]) -> Node | None:
    """The index whose channels a 1x1 convolution reads."""
    source = by_name[node.inputs[0]] if is_pointwise(node) else None
    return source if source is not None and source.op == "index" else None


def dense_cuts(graph: Graph) -> list[str]:
    """Where a beginning without picked channels may end, from the shortest to the longest.

    Args:
        graph: a simplified network.

    Returns:
        Names of pooling nodes with a 1x1 convolution of picked channels between them and the one before.
    """
    by_name, cuts, found = graph.by_name(), [], False
    for node in graph:
        found = found or _picks(node, by_name) is not None
        if node.op == "average_pool" and found:
            cuts.append(node.name)
            found = False
    return cuts


def lower_to_dense(graph: Graph, cut: str) -> Graph:
    """Write the 1x1 convolutions of picked channels before `cut` as convolutions of all channels.

    Args:
        graph: a simplified network.
        cut: one of its `dense_cuts`.

    Returns:
        The new graph, equal in its outputs.
    """
    nodes = graph.by_name()
    for name in list(nodes):
        if name == cut:
            break
        node = nodes[name]
        index = _picks(node, nodes)
        if index is None:
            continue
        kernel = np.zeros((nodes[index.inputs[0]].channels, node.channels), "float32")
        np.add.at(kernel, index["indices"], ungrouped(node))  # a channel may be picked by several groups
        dense = node.replace(attributes={"groups": 1}, weights={"kernel": kernel[None, None]})
        nodes[name] = dataclasses.replace(dense, inputs=index.inputs)
    return graph.with_nodes(nodes.values())
