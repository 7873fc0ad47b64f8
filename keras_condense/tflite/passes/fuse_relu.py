"""The operator before a ReLU applies it, also across a pick, which only moves what it gets."""

from keras_condense.tflite.graph import Graph
from keras_condense.tflite.operators import Affine, Convolution, Depthwise, PickChannels, Relu
from keras_condense.tflite.schemes import Scheme
from keras_condense.tflite.targets import Target

__all__ = ["run"]

_FUSABLE = (Convolution, Depthwise, Affine)
_CEILING = 6.0  # the one that TensorFlow Lite's operators apply by themselves


def run(graph: Graph, target: Target, scheme: Scheme) -> Graph:
    """Fuse ReLUs with what they read."""
    nodes, renamed = graph.by_name(), {}
    for node in graph:
        if not isinstance(node.op, Relu):
            continue
        source = nodes[renamed.get(node.inputs[0], node.inputs[0])]
        if isinstance(source.op, PickChannels) and graph.only_reader(source.name) is not None:
            source = nodes[source.inputs[0]]
        fits = isinstance(source.op, _FUSABLE) and node.op.ceiling in (None, source.op.ceiling, _CEILING)
        if fits and graph.only_reader(source.name) is not None:
            ceiling = source.op.ceiling if node.op.ceiling is None else node.op.ceiling
            nodes[source.name] = source.with_op(relu=True, ceiling=ceiling)
            renamed[node.name] = node.inputs[0]
    return graph.with_nodes(nodes.values(), renamed)
