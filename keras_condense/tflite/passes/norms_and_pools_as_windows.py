"""Norms and average poolings become depthwise convolutions, where these are cheaper.

A norm with a ReLU is a window of one pixel; two operators are one, and in int8 numbers are rounded once and each
channel has a scale of its own. An average is a window of equal weights: the pooling itself leaves XNNPACK in int8.
"""

import math

import numpy as np

from keras_condense.tflite.graph import Graph, Names, Node
from keras_condense.tflite.operators import Affine, AveragePool, Dense, Depthwise, KerasCall, Reshape
from keras_condense.tflite.schemes import Scheme
from keras_condense.tflite.targets import Target, node_cost

__all__ = ["as_window", "run"]


def run(graph: Graph, target: Target, scheme: Scheme) -> Graph:
    """Write norms and average poolings as depthwise convolutions; in float32 that was counted to be dearer."""
    if scheme.arithmetic == "float32":
        return graph
    by_name, nodes, names = graph.by_name(), [], Names(graph)
    for node in graph:
        if scheme.has_ranges and isinstance(node.op, Affine):
            # between product and sum there is no range
            nodes += [node] if _is_folded(by_name[node.inputs[0]]) else _as_image(node, names)
            continue
        window = as_window(node) if node.is_image else None
        if window is not None and not scheme.few_weights:  # else the window would stay in float32
            inputs = [by_name[name] for name in node.inputs]
            costs = (node_cost(each, inputs, target, scheme.arithmetic) for each in (window, node))
            if scheme.has_ranges:  # a pooling gives its input's
                node = window
            else:
                node = min(zip(costs, (window, node), strict=True), key=lambda pair: pair[0])[1]
        nodes.append(node)
    return graph.with_nodes(nodes)


def _is_folded(source: Node) -> bool:
    """Whether the converter folds a norm into what it reads: a kernel that the lowering has no window for."""
    return isinstance(source.op, Dense) or (isinstance(source.op, KerasCall) and bool(source.op.variables))


def _as_image(norm: Node, names: Names) -> list[Node]:
    """A norm as a depthwise convolution; of vectors, or rows of them, with an image made of them and taken apart."""
    if norm.is_image:
        return [as_window(norm)]
    shape = (1, math.prod(norm.shape[:-1]), norm.channels)
    image, window = names.new(f"{norm.name}_image"), names.new(f"{norm.name}_window")
    return [
        Node(image, Reshape(), norm.inputs, shape, norm.layer),
        as_window(norm.replace(name=window, inputs=(image,), shape=shape)),
        Node(norm.name, Reshape(), (window,), norm.shape, norm.layer),
    ]


def as_window(node: Node) -> Node | None:
    """The same as a depthwise convolution, or None for what is none."""
    match node.op:
        case Affine(scale, shift, relu, ceiling):
            return node.replace(op=Depthwise(scale[None, None], shift, relu, ceiling))
        case AveragePool(size):
            kernel = np.full((*size, node.channels), 1 / math.prod(size), "float32")
            return node.replace(op=Depthwise(kernel, strides=size))
    return None
