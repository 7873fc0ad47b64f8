"""Which of several equal networks is the cheapest on a target, and why."""

import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping

import keras

from keras_condense.layers import ChannelIndex, ChannelShuffle, GroupConv2D
from keras_condense.text_tables import render
from keras_condense.tflite.converter import convert_graph
from keras_condense.tflite.frontend import is_readable, read_model
from keras_condense.tflite.graph import Graph
from keras_condense.tflite.passes import CHANNELS_LAST, SIMPLIFYING, dense, run_all, sparse
from keras_condense.tflite.runtime import benchmark_tflite
from keras_condense.tflite.schemes import FLOAT32, Scheme
from keras_condense.tflite.signature import inputs_of, output_names
from keras_condense.tflite.targets import Target, graph_costs, targets, this_machine

__all__ = ["MEASURE", "Lowering", "candidates", "cheapest", "lower_model", "lowering_targets", "measured"]

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
    """

    target: str
    unit: str
    chosen: str
    graphs: Mapping[str, Graph]
    totals: Mapping[str, float]
    layers: Mapping[str, Mapping[str, float]]

    @property
    def graph(self) -> Graph:
        """The network as it was chosen."""
        return self.graphs[self.chosen]

    def __str__(self) -> str:
        from rich.table import Table

        unit, scale = ("million instructions", 1e6) if self.unit == "instructions" else ("milliseconds", 1e9)
        table = Table(title=f"{self.target}: {self.chosen} (costs in {unit})", title_justify="left", show_footer=True)
        table.add_column("layer", footer="total")
        for name, total in self.totals.items():
            style = "bold" if name == self.chosen else ""
            table.add_column(name, footer=f"{total / scale:.3f}", justify="right", style=style)
        for layer, costs in self.layers.items():
            if any(costs.values()):
                table.add_row(layer, *(f"{costs.get(name, 0.0) / scale:.3f}" for name in self.totals))
        return render(table, width=160)


def candidates(graph: Graph, target: Target, scheme: Scheme = FLOAT32) -> Iterator[Iterator[tuple[str, Graph]]]:
    """Every form of a network that is considered; all compute the same.

    Args:
        graph: as `read_model` read it.
        target: decides how single operators are lowered.
        scheme: what numbers the file holds; no candidate makes that less exact.

    Yields:
        Series of names and graphs; in each a longer and longer beginning of the network has the same special form.
    """
    simple = run_all(SIMPLIFYING, graph, target, scheme)

    def beginnings(form: str, way) -> Iterator[tuple[str, Graph]]:
        for cut in way.cuts(simple):
            beginning = way.run(simple, cut)
            if beginning is not simple:
                yield f"{form} to {cut}", run_all(CHANNELS_LAST, beginning, target, scheme)

    yield iter([("one to one", simple)])
    yield iter([("channels last", run_all(CHANNELS_LAST, simple, target, scheme))])
    if scheme.zeros:
        yield beginnings("dense", dense)
    if scheme.sparse:
        yield beginnings("sparse", sparse)


def _shortlist(
    graph: Graph, target: Target, scheme: Scheme, cost: Callable[[Graph], float]
) -> tuple[dict[str, Graph], dict[str, float]]:
    """Candidates and their costs; those that can't win any more are not built."""
    graphs, totals = {}, {}
    for series in candidates(graph, target, scheme):
        for name, candidate in series:
            graphs[name], totals[name] = candidate, cost(candidate)
            if totals[name] > _TOO_LONG * min(totals.values()):
                break
    return graphs, totals


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
    return Lowering(target.name, target.unit, min(totals, key=totals.get), graphs, totals, layers)


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
    return Lowering(MEASURE, "picoseconds", min(totals, key=totals.get), graphs, totals, {})


def lower_model(
    model: keras.Model, target: str, scheme: Scheme = FLOAT32, rows=None, outputs: list[str] | None = None
) -> Lowering | None:
    """Lower a model with layers of this package.

    Args:
        model: condensed, in float32.
        target: one of `lowering_targets()`.
        scheme: what numbers the file holds.
        rows: to calibrate with, where candidates are timed and the scheme needs them.
        outputs: names for the model's outputs, flattened; by default their own.

    Returns:
        What was chosen; None for a model without our layers or without a graph, which is exported as it is.
    """
    ours = (ChannelIndex, ChannelShuffle, GroupConv2D)
    if not any(isinstance(layer, ours) for layer in model._flatten_layers(include_self=False)):
        return None
    if not is_readable(model):
        logger.warning(
            "%s: exported layer by layer, which phones execute slower: it has no graph, or a `call` of its own. Build "
            "it with `keras.Model(inputs, outputs)`.",
            model.name,
        )
        return None
    graph = read_model(model, inputs_of(model).names, outputs or output_names(model))
    if target != MEASURE:
        return cheapest(graph, targets()[target], scheme)

    def timed(candidate: Graph) -> float:
        content = convert_graph(candidate, model, scheme, rows)
        return 1e9 * benchmark_tflite(content, runs=20, warmup=5).minimum_ms

    return measured(graph, scheme, timed)
