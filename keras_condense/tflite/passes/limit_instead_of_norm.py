"""relu(scale x + shift) before a convolution without padding becomes a limit to x.

It is `scale * max(x, -shift / scale) + shift`, with a minimum where the scale is negative. Scale and shift move into
the kernel and bias of the next convolution.
"""

import numpy as np

from keras_condense.tflite.graph import Graph, Names, Node
from keras_condense.tflite.operators import NO_PADDING, Affine, Convolution, Dense, Maximum, Mean, Minimum
from keras_condense.tflite.schemes import Scheme
from keras_condense.tflite.targets import Target

__all__ = ["run"]

# A limit adds `shift` to the next bias and takes it away again, which costs digits if the shift is large.
_LARGEST_SHIFT = 16.0


def _reached(graph: Graph, node: Node) -> Node | None:
    """The convolution or dense layer that alone reads a norm, directly or through a mean."""
    reader = graph.only_reader(node.name)
    if reader is not None and isinstance(reader.op, Mean):
        reader = graph.only_reader(reader.name)
        return reader if reader is not None and isinstance(reader.op, Dense) else None
    if reader is None or not isinstance(reader.op, Convolution) or reader.op.padding != NO_PADDING:
        return None
    return reader


def run(graph: Graph, target: Target, scheme: Scheme) -> Graph:
    """Write norms as limits, where the scheme allows it."""
    if not scheme.limits:
        return graph
    nodes: dict[str, Node] = {}
    renamed, names = {}, Names(graph)
    rewritten: dict[str, Node] = {}
    for node in graph:
        node = rewritten.get(node.name, node)
        is_relu = isinstance(node.op, Affine) and node.op.relu and node.op.ceiling is None
        reader = _reached(graph, node) if is_relu else None
        if reader is None or np.abs(node.op.shift).max(initial=0) > _LARGEST_SHIFT:
            nodes[node.name] = node
            continue
        scale, shift = node.op.scale.astype("float64"), node.op.shift.astype("float64")
        reader, used = rewritten.get(reader.name, reader), scale != 0
        limits = np.divide(-shift, scale, out=np.zeros_like(scale), where=used)
        if np.abs(limits).max(initial=0) > 1e30:
            nodes[node.name] = node
            continue
        rewritten[reader.name] = _scaled_inputs(reader, scale, np.where(used, shift, np.maximum(shift, 0)))
        limits, source = limits.astype("float32"), node.inputs[0]
        for op, mine, other in ((Maximum, scale >= 0, -np.inf), (Minimum, scale < 0, np.inf)):
            if mine.any():
                name = names.new(f"{node.name}_{op.kind}")
                limit = np.where(mine, limits, np.float32(other))
                nodes[name] = Node(name, op(limit), (source,), node.shape, node.layer)
                source = name
        renamed[node.name] = source
    return graph.with_nodes(nodes.values(), renamed)


def _scaled_inputs(node: Node, scale: np.ndarray, shift: np.ndarray) -> Node:
    """A convolution or dense layer of `scale * input + shift`, written as one of the input."""
    kernel = node.op.kernel.astype("float64")
    if isinstance(node.op, Dense):
        kernel, bias = kernel * scale[:, None], shift @ kernel
    else:
        groups = node.op.groups
        owners = np.arange(node.channels) // (node.channels // groups)  # the group of each filter
        by_group = [values.reshape(groups, -1)[owners].T for values in (scale, shift)]
        kernel, bias = kernel * by_group[0], np.sum(kernel * by_group[1], axis=(0, 1, 2))
    bias = bias + (0.0 if node.op.bias is None else node.op.bias)
    return node.with_op(kernel=kernel.astype("float32"), bias=bias.astype("float32"))
