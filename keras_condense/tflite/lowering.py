"""Which of several equal networks is the cheapest on a target, and why."""

import dataclasses
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping

import keras

from keras_condense.keras_graphs import is_readable
from keras_condense.layers import ChannelIndex, ChannelShuffle, FakeQuantize, GroupConv2D
from keras_condense.text_tables import render
from keras_condense.tflite.calibration import Rows
from keras_condense.tflite.converter import convert_graph
from keras_condense.tflite.frontend import read_model
from keras_condense.tflite.graph import Graph, Node
from keras_condense.tflite.operators import Dense, Input, KerasCall
from keras_condense.tflite.passes import (
    CHANNELS_LAST,
    SIMPLIFYING,
    dense,
    drop_unread,
    norms_and_pools_as_windows,
    run_all,
    sparse,
)
from keras_condense.tflite.runtime import benchmark_tflite
from keras_condense.tflite.schemes import FLOAT32, Scheme
from keras_condense.tflite.sharing import Sharing, share
from keras_condense.tflite.signature import inputs_of, output_names
from keras_condense.tflite.targets import SHOWN_UNITS, Target, graph_costs, targets, this_machine

__all__ = [
    "MEASURE",
    "Lowering",
    "candidates",
    "cheapest",
    "cost_by_table",
    "is_lowered",
    "lower_model",
    "lowering_targets",
    "measured",
]

logger = logging.getLogger(__name__)

MEASURE = "measure"

# a special beginning only pays as long as it is short: where one is dearer by this factor, longer ones are too
_TOO_LONG = 1.2


def lowering_targets() -> tuple[str, ...]:
    """What a network can be lowered for."""
    return (*targets(), MEASURE)


@dataclasses.dataclass(frozen=True)
class Lowering:
    """A network as it is exported, and what else was considered.

    Attributes:
        target: what it was chosen for.
        unit: of the costs: "instructions" or "picoseconds".
        chosen: the name of the candidate that was taken.
        graphs: the candidates by their names.
        totals: the cost of each candidate.
        layers: for each layer of the model, its cost in each candidate; empty where candidates were timed whole.
        source: the network as it was read.
        sharing: what was done to its weights, where they share values.
    """

    target: str
    unit: str
    chosen: str
    graphs: Mapping[str, Graph]
    totals: Mapping[str, float]
    layers: Mapping[str, Mapping[str, float]]
    source: Graph
    sharing: Sharing | None = None

    @property
    def graph(self) -> Graph:
        """The network as it was chosen."""
        return self.graphs[self.chosen]

    @property
    def cost(self) -> float:
        """What the network costs as it was chosen."""
        return self.totals[self.chosen]

    def __str__(self) -> str:
        from rich.table import Table

        unit, scale = SHOWN_UNITS[self.unit]
        table = Table(title=f"{self.target}: {self.chosen} (costs in {unit})", title_justify="left", show_footer=True)
        table.add_column("layer", footer="total")
        for name, total in self.totals.items():
            style = "bold" if name == self.chosen else ""
            table.add_column(name, footer=f"{total / scale:.3f}", justify="right", style=style)
        for layer, costs in self.layers.items():
            if any(costs.values()):
                table.add_row(layer, *(f"{costs.get(name, 0.0) / scale:.3f}" for name in self.totals))
        return render(table, width=160)


def candidates(
    graph: Graph, target: Target, scheme: Scheme = FLOAT32, cost: Callable[[Graph], float] = lambda candidate: 0.0
) -> Iterator[tuple[str, Graph, float]]:
    """The forms of a network that are considered; all compute the same.

    Args:
        graph: as `read_model` read it.
        target: decides how single operators are lowered.
        scheme: what numbers the file holds; no candidate makes that less exact.
        cost: of a form; those that can't be the cheapest any more are not built. By default all are.

    Yields:
        A name, the form and its cost.
    """
    simple, lowest = run_all(SIMPLIFYING, graph, target, scheme), math.inf

    def considered(series: Iterable[tuple[str, Graph]]) -> Iterator[tuple[str, Graph, float]]:
        """A longer and longer part of the network in one special form."""
        nonlocal lowest
        for name, candidate in series:
            total = cost(candidate)
            lowest = min(lowest, total)
            yield name, candidate, total
            if total > _TOO_LONG * lowest:
                break

    plain = norms_and_pools_as_windows.run(simple, target, scheme) if scheme.has_ranges else simple
    yield from considered([("one to one", plain)])
    yield from considered([("channels last", run_all(CHANNELS_LAST, simple, target, scheme))])
    if scheme.zeros:
        yield from considered(
            (f"dense to {cut}", run_all((drop_unread, *CHANNELS_LAST), dense.run(simple, cut), target, scheme))
            for cut in dense.cuts(simple)
        )
    if scheme.sparse:
        yield from _with_sparse_parts(simple, target, scheme, considered, lowest)


def _with_sparse_parts(
    simple: Graph, target: Target, scheme: Scheme, considered: Callable, lowest: float
) -> Iterator[tuple[str, Graph, float]]:
    """One part of the network after another as sparse convolutions, each as long as is cheapest."""
    form, name, best, started = simple, "sparse", lowest, set()  # where parts began, or ended
    while region := next((each for each in sparse.regions(form) if each.start not in started), None):
        started.add(region.start)
        written: dict[str, tuple[Graph, str]] = {}

        def series(form=form, name=name, region=region, written=written) -> Iterator[tuple[str, Graph]]:
            # "to" alone is from the beginning
            begin = "" if isinstance(form[region.start].op, Input) else f" from {region.start}"
            for end in region.ends:
                part = sparse.run(form, region, end, target, scheme)
                if part is not form:
                    written[called := f"{name}{begin} to {end}"] = part, end
                    yield called, run_all(CHANNELS_LAST, part, target, scheme)

        for called, candidate, total in considered(series()):
            yield called, candidate, total
            if total < best:
                best, name, (form, last) = total, called, written[called]
                started.add(last)


def _shortlist(
    graph: Graph, target: Target, scheme: Scheme, cost: Callable[[Graph], float]
) -> tuple[dict[str, Graph], dict[str, float]]:
    """Candidates and their costs."""
    found = list(candidates(graph, target, scheme, cost))
    return {name: candidate for name, candidate, _ in found}, {name: total for name, _, total in found}


def cheapest(graph: Graph, target: Target, scheme: Scheme = FLOAT32) -> Lowering:
    """Choose the cheapest candidate by the target's table of costs.

    Args:
        graph: as `read_model` read it.
        target: the processor.
        scheme: what numbers the file holds.

    Returns:
        A `Lowering`, with a readable `str`.
    """
    by_node = {}

    def cost(candidate: Graph) -> float:
        by_node[id(candidate)] = graph_costs(candidate, target, scheme.arithmetic)
        return sum(by_node[id(candidate)].values())

    graphs, totals = _shortlist(graph, target, scheme, cost)
    layers: dict[str, dict[str, float]] = {node.layer: {} for node in graph if node.inputs}
    for name, candidate in graphs.items():
        for node in candidate:
            of_layer = layers.setdefault(node.layer, {})
            of_layer[name] = of_layer.get(name, 0.0) + by_node[id(candidate)][node.name]
    return Lowering(target.name, target.unit, min(totals, key=totals.get), graphs, totals, layers, graph)


def measured(graph: Graph, scheme: Scheme, timed: Callable[[Graph], float]) -> Lowering:
    """Choose the fastest candidate by running each.

    Args:
        graph: as `read_model` read it.
        scheme: what numbers the file holds.
        timed: converts a graph, runs it, and returns its time in picoseconds.

    Returns:
        A `Lowering`. Single operators are lowered by the rules of the processor at hand; on one that is not known, by
        those of each that is.
    """
    here = this_machine()
    graphs, totals = {}, {}
    for target in [here] if here else targets().values():
        of_target = _shortlist(graph, target, scheme, timed)
        suffix = "" if here else f", {target.name}"
        graphs |= {f"{name}{suffix}": candidate for name, candidate in of_target[0].items()}
        totals |= {f"{name}{suffix}": total for name, total in of_target[1].items()}
    return Lowering(MEASURE, "picoseconds", min(totals, key=totals.get), graphs, totals, {}, graph)


def _is_sparse(layer: keras.layers.Layer) -> bool:
    """Whether a layer has a 1x1 kernel, and more zeros in it than other numbers."""
    kernel = getattr(layer, "kernel", None) if isinstance(layer, keras.layers.Conv2D) else None
    if isinstance(layer, keras.layers.SeparableConv2D):
        kernel = layer.pointwise_kernel
    if kernel is None or tuple(kernel.shape[:2]) != (1, 1):
        return False
    return bool((keras.ops.convert_to_numpy(kernel) == 0).mean() > 0.5)


def _has_layers_of_ours(model: keras.Model) -> bool:
    layers = model._flatten_layers(include_self=False)
    return any(isinstance(layer, (ChannelIndex, ChannelShuffle, FakeQuantize, GroupConv2D)) for layer in layers)


def _has_layers_to_lower(model: keras.Model, scheme: Scheme) -> bool:
    layers = model._flatten_layers(include_self=False)
    return _has_layers_of_ours(model) or (scheme.sparse and any(map(_is_sparse, layers)))


def is_lowered(model: keras.Model, scheme: Scheme = FLOAT32) -> bool:
    """Whether `lower_model` lowers a model, which is exported as it is otherwise."""
    return _has_layers_to_lower(model, scheme) and is_readable(model)


def lower_model(
    model: keras.Model,
    target: str,
    scheme: Scheme = FLOAT32,
    rows: Rows | None = None,
    outputs: list[str] | None = None,
    share_weights: int | None = None,
    *,
    is_shared: bool = False,
) -> Lowering | None:
    """Lower a model with layers of this package or ranges for int8, or with 1x1 convolutions that are mostly zeros.

    Args:
        model: condensed, in float32.
        target: one of `lowering_targets()`.
        scheme: what numbers the file holds.
        rows: to calibrate with, where candidates are timed and the scheme needs them.
        outputs: names for the model's outputs, flattened; by default their own.
        share_weights: have each kernel hold at most two to the power of this many values; any model is lowered then.
        is_shared: whether the model's layers share weights already: then norms stay beside them.

    Returns:
        What was chosen; None for a model without such layers or without a graph, which is exported as it is.

    Raises:
        ValueError: weights can't be shared, for the model has no graph, or no kernels.
    """
    if share_weights is None and not _has_layers_to_lower(model, scheme):
        return None
    if not is_readable(model):
        if share_weights is not None:
            raise ValueError(
                f"`model` (={model.name!r}) must have a graph for `share_weights` (={share_weights}), and is a "
                f"{type(model).__name__} with a `call` of its own. Build it with `keras.Model(inputs, outputs)`."
            )
        if not _has_layers_of_ours(model):
            return None
        logger.warning(
            "%s: exported layer by layer, which phones execute slower: it has no graph, or a `call` of its own. Build "
            "it with `keras.Model(inputs, outputs)`.",
            model.name,
        )
        return None
    graph = read_model(model, inputs_of(model).names, outputs or output_names(model))
    if share_weights is None:
        return _lower(graph, model, target, scheme, rows)
    scheme = dataclasses.replace(scheme, limits=False, folds=not is_shared)
    sharing = share(graph, share_weights, next(iter(targets().values())), scheme)
    return dataclasses.replace(_lower(sharing.shared, model, target, scheme, rows), sharing=sharing)


def _lower(graph: Graph, model: keras.Model, target: str, scheme: Scheme, rows: Rows | None) -> Lowering:
    if target != MEASURE:
        return cheapest(graph, targets()[target], scheme)

    def timed(candidate: Graph) -> float:
        content = convert_graph(candidate, model, scheme, rows)
        return 1e9 * benchmark_tflite(content, runs=20, warmup=5).minimum_ms

    return measured(graph, scheme, timed)


def cost_by_table(model: keras.Model, target: str, scheme: Scheme = FLOAT32) -> tuple[float, tuple[str, ...]] | None:
    """What the file of a model costs by a target's table, lowered or exported as it is.

    Args:
        model: condensed, in float32.
        target: one of `targets()`.
        scheme: what numbers the file holds.

    Returns:
        The cost in the target's unit, and the names of the layers with weights or images that are in no table and count
        as 0; None for a model without a graph.
    """
    lowering = lower_model(model, target, scheme)
    if lowering is not None:
        graph = lowering.graph
    elif is_readable(model):  # the converter folds and fuses what the simplifying passes do
        graph = read_model(model, inputs_of(model).names, output_names(model))
        graph = run_all(SIMPLIFYING, graph, targets()[target], scheme)
    else:
        return None
    costs = graph_costs(graph, targets()[target], scheme.arithmetic)
    uncounted = dict.fromkeys(node.layer for node in graph if not costs[node.name] and _is_large(node))
    return sum(costs.values()), tuple(uncounted)


def _is_large(node: Node) -> bool:
    """Whether an operator has weights, or is a foreign layer on images; a softmax of some classes is neither."""
    if isinstance(node.op, KerasCall):
        return bool(node.op.variables) or node.is_image
    return isinstance(node.op, Dense)
