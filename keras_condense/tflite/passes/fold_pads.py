"""Zeros around an image move into the padding of the convolution that alone reads it."""

from keras_condense.tflite.graph import Graph
from keras_condense.tflite.operators import Convolution, Depthwise, Pad
from keras_condense.tflite.schemes import Scheme
from keras_condense.tflite.targets import Target

__all__ = ["run"]


def run(graph: Graph, target: Target, scheme: Scheme) -> Graph:
    """Fold zeros into the next convolution."""
    nodes, renamed = graph.by_name(), {}
    for node in graph:
        reader = graph.only_reader(node.name) if isinstance(node.op, Pad) else None
        if reader is None or not isinstance(reader.op, (Convolution, Depthwise)):
            continue
        padding = tuple(
            (before + more_before, after + more_after)
            for (before, after), (more_before, more_after) in zip(reader.op.padding, node.op.padding, strict=True)
        )
        nodes[reader.name] = nodes[reader.name].with_op(padding=padding)
        renamed[node.name] = node.inputs[0]
    return graph.with_nodes(nodes.values(), renamed)
