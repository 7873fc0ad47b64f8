"""Scale and shift move into the convolution before them, also across a shuffle.

`scale * (kernel * x + bias) + shift` is a convolution with `scale * kernel` and `scale * bias + shift`; behind a
permutation, channel i of the norm belongs to filter `indices[i]`.
"""

import numpy as np

from keras_condense.tflite.graph import Graph
from keras_condense.tflite.operators import Affine, Convolution, Depthwise, PickChannels
from keras_condense.tflite.schemes import Scheme
from keras_condense.tflite.targets import Target

__all__ = ["run"]


def run(graph: Graph, target: Target, scheme: Scheme) -> Graph:
    """Fold norms into the convolutions before them, where the scheme allows it."""
    if not scheme.folds:
        return graph
    nodes, renamed = graph.by_name(), {}
    for node in graph:
        if not isinstance(node.op, Affine):
            continue
        source, order = nodes[node.inputs[0]], np.arange(node.channels)
        if isinstance(source.op, PickChannels) and graph.only_reader(source.name) is not None:
            order, source = source.op.indices, nodes[source.inputs[0]]
        is_permutation = np.array_equal(np.sort(order), np.arange(source.channels))
        foldable = isinstance(source.op, (Convolution, Depthwise)) and not source.op.relu and is_permutation
        if not foldable or graph.only_reader(source.name) is None:
            continue
        scale, shift = np.empty_like(node.op.scale), np.empty_like(node.op.shift)
        scale[order], shift[order] = node.op.scale, node.op.shift
        bias = (np.zeros_like(shift) if source.op.bias is None else source.op.bias) * scale + shift
        folded = {"kernel": source.op.kernel * scale, "bias": bias.astype("float32"), "relu": node.op.relu}
        folded |= {"ceiling": node.op.ceiling}
        nodes[source.name] = source.with_op(**folded)
        renamed[node.name] = node.inputs[0]
    return graph.with_nodes(nodes.values(), renamed)
