"""A beginning in sparse convolutions: no pick, no shuffle, no group is left to execute.

XNNPACK keeps images channels-first where a part of a network consists of 1x1 convolutions that are mostly zeros, 3x3
depthwise convolutions and sums, begins with a 3x3 convolution of stride 2 on three channels, and ends in a mean or a
`depth_to_space`. There a 1x1 convolution skips its zeros and works on 32 pixels at a time, however few filters a group
has. `sparse_writer.py` writes the beginning of a network in these operators.
"""

import numpy as np

from keras_condense.tflite.graph import Graph, Node
from keras_condense.tflite.operators import (
    NO_PADDING,
    PAD_ONE,
    Add,
    Affine,
    AveragePool,
    ConcatenateChannels,
    Convolution,
    HardSwish,
    Input,
    Mean,
    PickChannels,
    Relu,
)
from keras_condense.tflite.passes.sparse_writer import SparseWriter, is_stem

__all__ = ["cuts", "run"]

# the share of zeros among the weights of all 1x1 convolutions above which XNNPACK goes channels-first
_ENOUGH_ZEROS = 2 / 3


def _is_supported(node: Node, graph: dict[str, Node]) -> bool:
    op = node.op
    match op:
        case Relu() | HardSwish() | PickChannels() | ConcatenateChannels():
            return node.is_image
        case Affine() | Mean():
            return True
        case Add():
            same = all(graph[name].shape == node.shape for name in node.inputs)
            return len(node.inputs) == 2 and node.is_image and same
        case AveragePool(size):
            height, width = graph[node.inputs[0]].shape[:2]
            return size == (2, 2) and height % 2 == 0 and width % 2 == 0
        case Convolution() if op.strides == op.dilation == (1, 1):
            return (op.window, op.padding) in (((1, 1), NO_PADDING), ((3, 3), PAD_ONE))
    return False


def cuts(graph: Graph) -> list[str]:
    """Where a sparse beginning of the network may end, from the shortest to the longest.

    Args:
        graph: a simplified network.

    Returns:
        Names of pooling or mean nodes such that everything before them is supported and nothing else reads it.
    """
    by_name, readers = graph.by_name(), graph.readers()
    stem = next((node for node in graph if is_stem(node)), None)
    if stem is None or not isinstance(by_name[stem.inputs[0]].op, Input):
        return []
    inside, names = {stem.name}, []
    for node in graph:
        if isinstance(node.op, Input) or node.name in inside:
            continue
        if not (set(node.inputs) <= inside and _is_supported(node, by_name)):
            continue
        inside.add(node.name)
        if isinstance(node.op, (AveragePool, Mean)):
            before = inside - {node.name}
            read_outside = any(reader.name not in inside for name in before for reader in readers[name])
            if not read_outside and not before & set(graph.outputs.values()):
                names.append(node.name)
    return names


def run(graph: Graph, cut: str) -> Graph:
    """Write the network up to `cut` in operators that XNNPACK executes channels-first, skipping zeros.

    Args:
        graph: a simplified network.
        cut: one of its `cuts`.

    Returns:
        The new graph, equal in its outputs; `graph` itself if too few weights are zero.
    """
    needed, inside = {cut}, []
    for node in reversed(graph.nodes):
        if node.name in needed and not isinstance(node.op, Input):
            inside.append(node)
            needed.update(node.inputs)
    inside.reverse()
    writer = SparseWriter(graph, inside, cut)
    for node in inside:
        writer.write(node)
    writer.leave(graph[cut])
    kernels = [n.op.kernel for n in writer.nodes if isinstance(n.op, Convolution) and n.op.window == (1, 1)]
    zeros = sum(int(np.sum(kernel == 0)) for kernel in kernels)
    if zeros <= _ENOUGH_ZEROS * sum(kernel.size for kernel in kernels):
        return graph
    written = {node.name for node in inside}
    rest = [node for node in graph if not isinstance(node.op, Input) and node.name not in written]
    return graph.with_nodes([*graph.inputs, *writer.nodes, *rest])
