"""Swish by a hyperbolic tangent, which takes half of a sigmoid's instructions.

With h = x / 2, x sigmoid(x) = h + h tanh(h). The convolution before it gives h at once, with half of its weights, which
is exact.
"""

from keras_condense.tflite.graph import Graph
from keras_condense.tflite.operators import Convolution, Depthwise, Swish, SwishOfHalf
from keras_condense.tflite.schemes import Scheme
from keras_condense.tflite.targets import Target

__all__ = ["run"]


def run(graph: Graph, target: Target, scheme: Scheme) -> Graph:
    """Write swishes behind convolutions in tangents, where that is cheaper."""
    sizes = {"outputs": 1.0}
    before, after = (target.cost((op.kind, sizes), scheme.arithmetic) for op in (Swish, SwishOfHalf))
    if scheme.arithmetic != "float32" or not 0 < after < before:
        return graph
    nodes = graph.by_name()
    for node in graph:
        source = nodes[node.inputs[0]] if isinstance(node.op, Swish) else None
        if source is None or not isinstance(source.op, (Convolution, Depthwise)):
            continue
        if source.op.relu or graph.only_reader(source.name) is None:
            continue
        bias = None if source.op.bias is None else source.op.bias / 2
        nodes[source.name] = source.with_op(kernel=source.op.kernel / 2, bias=bias)
        nodes[node.name] = node.replace(op=SwishOfHalf())
    return graph.with_nodes(nodes.values())
