"""Two 1x1 convolutions with nothing in between become one, where that takes fewer multiply-adds."""

from keras_condense.tflite.graph import Graph, Node
from keras_condense.tflite.operators import Convolution
from keras_condense.tflite.schemes import Scheme
from keras_condense.tflite.targets import Target

__all__ = ["run"]


def _is_pointwise(node: Node) -> bool:
    return isinstance(node.op, Convolution) and node.op.is_pointwise


def run(graph: Graph, target: Target, scheme: Scheme) -> Graph:
    """Merge pairs of 1x1 convolutions."""
    nodes = graph.by_name()
    for node in graph:
        if not _is_pointwise(node) or node.op.groups > 1:
            continue
        first = nodes[node.inputs[0]]
        alone = graph.only_reader(first.name) is not None
        if not alone or not _is_pointwise(first) or first.op.relu or first.op.bias is not None:
            continue
        matrix = first.op.matrix
        if matrix.shape[0] * node.channels > first.op.kernel.size + node.op.kernel.size:
            continue
        kernel = (matrix @ node.op.kernel[0, 0])[None, None]
        nodes[node.name] = node.with_op(kernel=kernel).replace(inputs=first.inputs)
    return graph.with_nodes(nodes.values())
