"""What a network costs on a target, before and after some of its convolutions learned groups and were condensed.

No model is built for it: the convolutions of the graph that was read are replaced by what `condense` makes of them, and
the cheapest form of that graph is found as an export finds it.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_condense import masks
from keras_condense.condensation import condensed
from keras_condense.layers import LearnedConnections
from keras_condense.tflite.converter import convert_graph, convert_model
from keras_condense.tflite.frontend import read_model
from keras_condense.tflite.graph import Graph, Names, Node
from keras_condense.tflite.lowering import MEASURE, cheapest, is_lowered, lowering_targets, measured
from keras_condense.tflite.operators import Convolution, Dense, KerasCall, PickChannels, shuffled
from keras_condense.tflite.passes import AS_CONVERTED, run_all
from keras_condense.tflite.preparation import in_float32
from keras_condense.tflite.runtime import benchmark_tflite
from keras_condense.tflite.schemes import SCHEMES
from keras_condense.tflite.signature import inputs_of, output_names
from keras_condense.tflite.targets import Target, graph_costs, targets, this_machine
from keras_condense.validation import check_choice

__all__ = ["Costs", "GroupCosts", "Plan", "check_target"]

# groups and condense factor of each layer that learns groups, by the layer's own name
Plan = Mapping[str, tuple[int, int]]


@dataclasses.dataclass(frozen=True)
class Costs:
    """What a network costs by a table.

    Attributes:
        total: of the whole network.
        layers: of each layer, by its own name.
    """

    total: float
    layers: Mapping[str, float]


def check_target(target: Any, quantize: Any, *, needed: bool) -> None:
    """Raise ValueError unless costs can be told; without a target there are none unless they are `needed`."""
    if target is not None:
        check_choice("target", target, lowering_targets(), 'Use "arm64" for phones.')
    check_choice("quantize", quantize, tuple(SCHEMES), "Leave it out for float32.")
    if quantize is not None and target is None and not needed:
        raise ValueError(
            f"`quantize` (={quantize!r}) must come with a `target`, whose costs are told in these numbers. Give "
            'target="arm64".'
        )
    if target == MEASURE and SCHEMES[quantize].needs_data:
        raise ValueError(
            f"`quantize` (={quantize!r}) must be left out with target={MEASURE!r}, since files are timed without data "
            f"to calibrate with. Use one of {', '.join(map(repr, targets()))}."
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Condensed:
    """What a convolution becomes.

    Attributes:
        kept: the inputs that it reads, group after group.
        op: the convolution of groups.
        lost: the share of the importance, the sum of |kernel|, that is dropped.
    """

    kept: np.ndarray
    op: Convolution
    lost: float


class GroupCosts:
    """What files of a model cost, without learned groups and with them.

    Args:
        model: functional or sequential, with known sizes. Layers of it that learn already count as if they had
            reached their last stage.
        target: one of `lowering_targets()`. With "measure", shares are times on the interpreter here, and what layers
            cost is read off the table of this machine, or of arm64 where it has none.
        quantize: what numbers the files hold; None for float32.
    """

    def __init__(self, model: keras.Model, target: str, quantize: str | None = None):
        if any(isinstance(layer, LearnedConnections) for layer in model._flatten_layers()):
            model = condensed(model, finish=True, compile=False)
        self.scheme = SCHEMES[quantize]
        self._model = in_float32(model)
        self._is_timed = target == MEASURE
        self.table: Target = (this_machine() or targets()["arm64"]) if self._is_timed else targets()[target]
        self._graph = read_model(self._model, inputs_of(self._model).names, output_names(self._model))
        self._known: dict[tuple, Costs] = {}
        self._condensed: dict[tuple, Condensed] = {}

    @functools.cached_property
    def now(self) -> Costs:
        """Of the model's own file, which is that of TensorFlow's converter unless it is lowered."""
        if is_lowered(self._model, self.scheme):
            return self.of({})
        form = run_all(AS_CONVERTED, self._graph, self.table, self.scheme)
        return _by_layer(form, graph_costs(form, self.table, self.scheme.arithmetic))

    def of(self, plan: Plan, *, sparse: bool = True) -> Costs:
        """Of the cheapest file that has learned groups in these layers, condensed by the kernels as they are.

        Args:
            plan: groups and condense factor by the layers' names.
            sparse: False leaves out forms with sparse kernels, which take long to try where windows have groups.
        """
        key = (sparse, *sorted(plan.items()))
        if key not in self._known:
            scheme = self.scheme if sparse else dataclasses.replace(self.scheme, sparse=False)
            lowering = cheapest(self._with_learned_groups(plan), self.table, scheme)
            costs = graph_costs(lowering.graph, self.table, self.scheme.arithmetic)
            self._known[key] = _by_layer(lowering.graph, costs)
        return self._known[key]

    def share(self, plan: Plan) -> float:
        """The cost of the file with learned groups as a share of that of the model's own file."""
        if not plan:
            return 1.0
        if not self._is_timed:
            return self.of(plan).total / self.now.total
        return measured(self._with_learned_groups(plan), self.scheme, self._timed).cost / self._timed_now

    def lost(self, layer: str, groups: int, condense_factor: int) -> float:
        """The share of a layer's importance, the sum of |kernel|, that its last stage drops."""
        node = next(node for node in self._graph if node.layer == layer and isinstance(node.op, Convolution))
        return self._condense(node, groups, condense_factor).lost

    def _condense(self, node: Node, groups: int, condense_factor: int) -> Condensed:
        key = (node.name, groups, condense_factor)
        if key not in self._condensed:
            if not np.isfinite(node.op.kernel).all():
                raise ValueError(
                    f"The kernel of layer {node.layer!r} must be finite, and holds NaN or infinity: the training has "
                    "diverged. Load an earlier checkpoint."
                )
            self._condensed[key] = _condensed(node.op, groups, condense_factor)
        return self._condensed[key]

    def _with_learned_groups(self, plan: Plan) -> Graph:
        """The graph with what `condense` makes of the convolutions that have learned groups; names of layers stay."""
        names, nodes, by_name = Names(self._graph), [], self._graph.by_name()
        for node in self._graph:
            if node.layer not in plan or not isinstance(node.op, Convolution):
                nodes.append(node)
                continue
            groups, condense_factor = plan[node.layer]
            small, pixels = self._condense(node, groups, condense_factor), by_name[node.inputs[0]].shape[:-1]
            index, convolution = names.new(f"{node.name}_index"), names.new(f"{node.name}_groups")
            shuffle = PickChannels(shuffled(node.channels, groups))
            nodes += [
                Node(index, PickChannels(small.kept), node.inputs, (*pixels, len(small.kept)), node.layer),
                Node(convolution, small.op, (index,), node.shape, node.layer),
                Node(node.name, shuffle, (convolution,), node.shape, node.layer),
            ]
        return Graph(tuple(nodes), self._graph.outputs)

    @functools.cached_property
    def _timed_now(self) -> float:
        if is_lowered(self._model, self.scheme):
            return measured(self._graph, self.scheme, self._timed).cost
        return _time(convert_model(self._model, self.scheme))

    def _timed(self, graph: Graph) -> float:
        return _time(convert_graph(graph, self._model, self.scheme))

    @property
    def unpriced(self) -> tuple[str, ...]:
        """The layers that no table knows, such as dense ones, and which count as nothing."""
        known = self.table.costs["float32"]
        unknown = (
            node for node in self._graph if isinstance(node.op, (Dense, KerasCall)) and node.op.kind not in known
        )
        return tuple(dict.fromkeys(node.layer for node in unknown))


def _time(content: bytes) -> float:
    return 1e9 * benchmark_tflite(content, runs=20, warmup=5).minimum_ms


def _by_layer(graph: Graph, costs: Mapping[str, float]) -> Costs:
    layers: dict[str, float] = {}
    for node in graph:
        layers[node.layer] = layers.get(node.layer, 0.0) + costs[node.name]
    return Costs(sum(costs.values()), layers)


def _condensed(op: Convolution, groups: int, condense_factor: int) -> Condensed:
    """What the last stage leaves of a convolution without training in between: its inputs, and it itself."""
    everything = np.ones((groups, op.kernel.shape[-2]))
    importance = masks.importance(op.kernel, groups)
    mask = masks.drop_due(everything, importance, condense_factor - 1, condense_factor)
    filters = op.kernel.shape[-1]
    bias = None if op.bias is None else op.bias[shuffled(filters, filters // groups)]  # by group
    kernel = masks.condensed_kernel(op.kernel, mask)
    left = float((importance * mask).sum() / max(importance.sum(), np.finfo("float64").tiny))
    return Condensed(
        masks.kept_inputs(mask), dataclasses.replace(op, kernel=kernel, bias=bias, groups=groups), 1 - left
    )
