"""Channels are picked before they are normalised or averaged, if nobody else reads the others."""

import math

from keras_condense.tflite.graph import Graph, Node
from keras_condense.tflite.operators import Affine, FakeQuantized, HardSwish, Mean, PickChannels, Relu, rows_features
from keras_condense.tflite.schemes import Scheme
from keras_condense.tflite.targets import Target

__all__ = ["run"]


def run(graph: Graph, target: Target, scheme: Scheme) -> Graph:
    """Move picks before norms, activations and averages."""
    nodes = graph.by_name()
    for name in reversed(list(nodes)):  # a pick that moved is met again in its new place
        node = nodes[name]
        source = nodes[node.inputs[0]] if isinstance(node.op, PickChannels) else None
        if (
            source is None
            or not isinstance(source.op, (Affine, FakeQuantized, Relu, HardSwish, Mean))
            or graph.only_reader(source.name) is None
        ):
            continue
        if not isinstance(source.op, Mean) and not _pays(node, source, target, scheme):
            continue
        indices, shape = node.op.indices, (*nodes[source.inputs[0]].shape[:-1], node.channels)
        # the names change places, so that whoever reads the pick reads the norm
        pick = Node(source.name, PickChannels(indices), source.inputs, shape, node.layer)
        moved = source.replace(name=node.name, inputs=(source.name,), shape=node.shape)
        if isinstance(source.op, Affine):
            moved = moved.with_op(scale=source.op.scale[indices], shift=source.op.shift[indices])
        nodes[pick.name], nodes[moved.name] = pick, moved
        graph = graph.with_nodes(nodes.values())
    return graph


def _pays(pick: Node, norm: Node, target: Target, scheme: Scheme) -> bool:
    """Whether normalising what is picked is cheaper than picking what is normalised."""
    before, after = (target.cost(("affine", {"outputs": math.prod(n.shape)}), scheme.arithmetic) for n in (norm, pick))
    if len(norm.shape) == 3:  # normalising before means an image from the rows of a store and rows from the image
        before += 2 * target.cost(rows_features(norm.shape), scheme.arithmetic)
    return after <= before
