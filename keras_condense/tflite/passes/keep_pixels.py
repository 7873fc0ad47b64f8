"""A mean that is reshaped to an image of one pixel keeps its axes, as squeeze-and-excitation has it."""

from keras_condense.tflite.graph import Graph
from keras_condense.tflite.operators import Mean, Reshape
from keras_condense.tflite.schemes import Scheme
from keras_condense.tflite.targets import Target

__all__ = ["run"]


def run(graph: Graph, target: Target, scheme: Scheme) -> Graph:
    """Let means give images of one pixel where these are what is read."""
    nodes, renamed = graph.by_name(), {}
    for node in graph:
        source = nodes[node.inputs[0]] if isinstance(node.op, Reshape) else None
        if source is None or not isinstance(source.op, Mean) or graph.only_reader(source.name) is None:
            continue
        if node.shape == (1, 1, source.channels):
            nodes[source.name] = source.with_op(keepdims=True).replace(shape=node.shape)
            renamed[node.name] = source.name
    return graph.with_nodes(nodes.values(), renamed)
