"""A pick of a pick reads its channels directly, and a pick of all channels in their order is none."""

import numpy as np

from keras_condense.tflite.graph import Graph, Node
from keras_condense.tflite.operators import PickChannels
from keras_condense.tflite.schemes import Scheme
from keras_condense.tflite.targets import Target

__all__ = ["run"]


def run(graph: Graph, target: Target, scheme: Scheme) -> Graph:
    """Make one pick of several, and none of those that change nothing."""
    nodes: dict[str, Node] = {}
    renamed: dict[str, str] = {}
    for node in graph:
        if isinstance(node.op, PickChannels):
            source = nodes[renamed.get(node.inputs[0], node.inputs[0])]
            indices = node.op.indices
            if isinstance(source.op, PickChannels):
                indices, source = source.op.indices[indices], nodes[source.inputs[0]]
            if np.array_equal(indices, np.arange(source.channels)):
                renamed[node.name] = source.name
            node = node.replace(inputs=(source.name,), op=PickChannels(indices))
        else:
            node = node.replace(inputs=tuple(renamed.get(name, name) for name in node.inputs))
        nodes[node.name] = node
    return graph.with_nodes(nodes.values(), renamed)
