"""A norm of a norm is one: `s2 (s1 x + b1) + b2` is `s1 s2 x + s2 b1 + b2`, as in rescaled and normalised pixels."""

from keras_condense.tflite.graph import Graph
from keras_condense.tflite.operators import Affine
from keras_condense.tflite.schemes import Scheme
from keras_condense.tflite.targets import Target

__all__ = ["run"]


def run(graph: Graph, target: Target, scheme: Scheme) -> Graph:
    """Make one norm of two that follow each other."""
    nodes, renamed = graph.by_name(), {}
    for node in graph:
        source = nodes[renamed.get(node.inputs[0], node.inputs[0])] if isinstance(node.op, Affine) else None
        if source is None or not isinstance(source.op, Affine) or source.op.relu:
            continue
        if graph.only_reader(node.inputs[0]) is None:
            continue
        first, second = source.op, node.op
        shift = second.scale.astype("float64") * first.shift + second.shift
        joined = {"scale": first.scale * second.scale, "shift": shift.astype("float32")}
        nodes[source.name] = source.with_op(**joined, relu=second.relu, ceiling=second.ceiling)
        renamed[node.name] = source.name
    return graph.with_nodes(nodes.values(), renamed)
