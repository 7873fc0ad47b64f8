"""Parts of a network in sparse convolutions: no pick, no shuffle, no group is left to execute.

XNNPACK keeps images channels-first where a part of a network consists of 1x1 convolutions that are mostly zeros,
depthwise convolutions and what computes number by number. There a 1x1 convolution skips its zeros and works on 32
pixels at a time, however few filters a group has. A part begins with a 3x3 convolution of stride 2 on three channels
and ends in a mean or a `depth_to_space`; `sparse_borders.py` makes any image one that such a part can begin or end
with. `sparse_regions.py` finds the parts, `sparse_writer.py` writes them in these operators.
"""

import numpy as np

from keras_condense.tflite.graph import Graph, Names, Node
from keras_condense.tflite.operators import ConcatenateChannels, Convolution, Dense, Input, Mean, Reshape
from keras_condense.tflite.passes import compose_picks, fold_permutations
from keras_condense.tflite.passes.sparse_borders import enter, leave, stem
from keras_condense.tflite.passes.sparse_regions import Region, is_stem, is_turned, regions
from keras_condense.tflite.passes.sparse_writer import Form, SparseWriter, cost_of
from keras_condense.tflite.schemes import Scheme
from keras_condense.tflite.targets import Target

__all__ = ["regions", "run"]

# the share of zeros among the weights of all 1x1 convolutions above which XNNPACK goes channels-first
_ENOUGH_ZEROS = 2 / 3

# the cheapest that has enough zeros is taken, of the first row where one has
_FORMS = (
    (Form(), Form(one_store=True)),
    (Form(wide_pixels=True), Form(wide_pixels=True, one_store=True)),
)


def run(graph: Graph, region: Region, end: str, target: Target, scheme: Scheme) -> Graph:
    """Write a part of the network in operators that XNNPACK executes channels-first, skipping zeros.

    Args:
        graph: a simplified network.
        region: one of its `regions`.
        end: one of the region's.
        target: the processor, which decides between several ways to write the same.
        scheme: what numbers the file holds.

    Returns:
        The new graph, equal in its outputs; `graph` itself if too few weights are zero.
    """
    inside = region.until(end)
    for forms in _FORMS:
        tried = [_written(graph, region.start, inside, target, scheme, form) for form in forms]
        tried = [nodes for nodes in tried if _has_enough_zeros(nodes)]
        if tried:
            break
    else:
        return graph
    nodes = min(tried, key=lambda each: cost_of(each, target, scheme.arithmetic))
    written = {node.name for node in inside}
    rest = [node for node in graph if not isinstance(node.op, Input) and node.name not in written]
    made = graph.with_nodes(_in_order([*graph.inputs, *nodes, *rest]))
    for each in (compose_picks, fold_permutations):  # for the vector that a mean leaves
        made = each.run(made, target, scheme)
    return _with_dense_heads(made)


def _with_dense_heads(graph: Graph) -> Graph:
    """Let dense layers and not 1x1 convolutions read the pixels that are left.

    XNNPACK would take a convolution for more of the channels-first part, and then finds no end to it.
    """
    by_name, nodes, names = graph.by_name(), [], Names(graph)
    for node in graph:
        source = by_name[node.inputs[0]] if node.inputs else None
        if not (source is not None and isinstance(source.op, Reshape) and source.shape[:2] == (1, 1)):
            nodes.append(node)
            continue
        mean, op = by_name[source.inputs[0]], node.op
        is_dense = isinstance(op, Convolution) and op.is_pointwise and op.groups == 1
        if isinstance(mean.op, (Mean, ConcatenateChannels)) and is_dense:
            name = names.new(f"{node.name}_vector")
            dense = Dense(op.kernel[0, 0], op.bias, op.relu, op.ceiling)
            nodes.append(Node(name, dense, (mean.name,), (node.channels,), node.layer))
            nodes.append(Node(node.name, Reshape(), (name,), node.shape, node.layer))
        else:
            nodes.append(node)
    return graph.with_nodes(nodes)


def _written(graph: Graph, start: str, inside: list[Node], target: Target, scheme: Scheme, form: Form) -> list[Node]:
    turned = is_turned(inside, graph)
    writer = SparseWriter(graph, inside, target, scheme.arithmetic, turned, form)
    if is_stem(inside[0]):
        writer.begin(inside[0])
        writer.values[inside[0].name] = stem(writer, inside[0], turned)
        following = inside[1:]
    else:
        writer.values[start] = enter(writer, graph[start], turned)
        following = inside
    end = inside[-1]
    for node in following:
        if node is not end or not isinstance(end.op, Mean):
            writer.write(node)
    last = end.inputs[0] if isinstance(end.op, Mean) else end.name
    writer.begin(end)
    leave(writer, end, writer.values[last], turned)
    return writer.nodes


def _has_enough_zeros(nodes: list[Node]) -> bool:
    kernels = [node.op.kernel for node in nodes if isinstance(node.op, Convolution) and node.op.window == (1, 1)]
    zeros = sum(int(np.sum(kernel == 0)) for kernel in kernels)
    return zeros > _ENOUGH_ZEROS * sum(kernel.size for kernel in kernels)


def _in_order(nodes: list[Node]) -> list[Node]:
    """Nodes in an order in which each comes after those it reads."""
    by_name = {node.name: node for node in nodes}
    placed: dict[str, Node] = {}
    for first in nodes:
        asked = [first]  # a stack, for chains longer than Python calls itself
        while asked:
            missing = [by_name[name] for name in asked[-1].inputs if name not in placed]
            if missing:
                asked += missing
            else:
                node = asked.pop()
                placed.setdefault(node.name, node)
    return list(placed.values())
