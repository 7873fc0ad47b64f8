"""A convolution of one group, or a dense layer, reads its channels in the order that they have before a shuffle."""

import numpy as np

from keras_condense.tflite.graph import Graph
from keras_condense.tflite.operators import Convolution, Dense, PickChannels
from keras_condense.tflite.schemes import Scheme
from keras_condense.tflite.targets import Target

__all__ = ["run"]


def run(graph: Graph, target: Target, scheme: Scheme) -> Graph:
    """Fold permutations into the kernels that read them."""
    nodes = graph.by_name()
    for node in graph:
        if not isinstance(node.op, (Convolution, Dense)) or getattr(node.op, "groups", 1) > 1:
            continue
        source = nodes[node.inputs[0]]
        if not isinstance(source.op, PickChannels) or not source.op.is_permutation(source.channels):
            continue
        before = nodes[source.inputs[0]]
        if before.channels == source.channels:
            kernel = np.empty_like(node.op.kernel)
            kernel[..., source.op.indices, :] = node.op.kernel
            nodes[node.name] = node.with_op(kernel=kernel).replace(inputs=(before.name,))
    return graph.with_nodes(nodes.values())
