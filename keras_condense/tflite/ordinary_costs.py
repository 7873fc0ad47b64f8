"""What a network would cost if its convolutions of groups were ordinary ones: what it was before groups were learned.

Only shapes count, so that the kernels of this network hold nothing.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from keras_condense.tflite.graph import Graph, Node
from keras_condense.tflite.lowering import Lowering
from keras_condense.tflite.operators import Convolution, PickChannels
from keras_condense.tflite.passes import AS_CONVERTED, run_all
from keras_condense.tflite.schemes import Scheme
from keras_condense.tflite.targets import graph_costs, targets

__all__ = ["Dearer", "dearer_than_ordinary"]


@dataclasses.dataclass(frozen=True)
class Dearer:
    """A network that costs more than one of ordinary convolutions.

    Attributes:
        cost: of the network as it was lowered.
        ordinary: of the one of ordinary convolutions, as TensorFlow's converter has it.
        layers: what each layer with groups costs more, the most first.
    """

    cost: float
    ordinary: float
    layers: Mapping[str, float]


def dearer_than_ordinary(lowering: Lowering, scheme: Scheme) -> Dearer | None:
    """Compare a lowered network with that of ordinary convolutions of the same inputs and filters.

    Args:
        lowering: what was chosen by a target's table.
        scheme: what numbers the file holds.

    Returns:
        How much dearer it is, and by which layers; None if it is not.
    """
    target = targets()[lowering.target]
    ordinary, parts = _ordinary(lowering.source)
    ordinary = run_all(AS_CONVERTED, ordinary, target, scheme)
    costs = graph_costs(ordinary, target, scheme.arithmetic)
    total = sum(costs.values())
    if lowering.cost <= total:
        return None
    more = dict.fromkeys(parts.values(), 0.0)
    for node in ordinary:
        if node.layer in more:
            more[node.layer] -= costs[node.name]
    for layer, of_layer in lowering.layers.items():
        if parts.get(layer) in more:
            more[parts[layer]] += of_layer.get(lowering.chosen, 0.0)
    dearer = sorted(((cost, layer) for layer, cost in more.items() if cost > 0), reverse=True)
    return Dearer(lowering.cost, total, {layer: cost for cost, layer in dearer})


def _ordinary(graph: Graph) -> tuple[Graph, dict[str, str]]:
    """The network of ordinary convolutions; and for each layer beside or with groups, the convolution that it is of."""
    nodes, renamed, parts = graph.by_name(), {}, {}
    for node in graph:
        if not isinstance(node.op, Convolution) or node.op.groups == 1:
            continue
        source, inputs, around = nodes[node.inputs[0]], node.inputs, [node]
        if isinstance(source.op, PickChannels) and graph.only_reader(source.name) is not None:
            inputs, source = source.inputs, nodes[source.inputs[0]]
            around.append(nodes[node.inputs[0]])
        kernel = np.broadcast_to(np.float32(1), (*node.op.window, source.channels, node.channels))
        nodes[node.name] = node.with_op(kernel=kernel, groups=1).replace(inputs=inputs)
        if (shuffle := _shuffle_behind(node, graph)) is not None:
            renamed[shuffle.name] = node.name
            around.append(shuffle)
        parts |= {part.layer: node.layer for part in around}
    return graph.with_nodes(nodes.values(), renamed), parts


def _shuffle_behind(node: Node, graph: Graph) -> Node | None:
    """The reordering of a convolution's filters, which an ordinary one does without."""
    reader = graph.only_reader(node.name)
    is_shuffle = reader is not None and isinstance(reader.op, PickChannels)
    return reader if is_shuffle and reader.op.is_permutation(node.channels) else None
