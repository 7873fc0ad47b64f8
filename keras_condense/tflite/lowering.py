"""Which way of writing a network down is the cheapest on a target, and why."""

import dataclasses
import io
from collections.abc import Callable, Iterator, Mapping

from keras_condense.tflite.costs import TARGETS, graph_costs
from keras_condense.tflite.graph import Graph
from keras_condense.tflite.passes.channels_last import ARM64, X86_64, lower_channels_last
from keras_condense.tflite.passes.dense import dense_cuts, lower_to_dense
from keras_condense.tflite.passes.simplify import simplify
from keras_condense.tflite.passes.sparse import lower_to_sparse, sparse_cuts

__all__ = ["LOWERING_TARGETS", "Lowering", "candidates", "lower"]

LOWERING_TARGETS = (*TARGETS, "measure")


@dataclasses.dataclass(frozen=True)
class Lowering:
    """A network as it is written down, and what else was considered.

    Attributes:
        target: what it was chosen for.
        chosen: the name of the candidate that was taken.
        graphs: the candidates by their names.
        totals: the cost of each candidate.
        layers: for each layer of the model, its cost in each candidate; empty where candidates were timed whole.
    """

    target: str
    chosen: str
    graphs: Mapping[str, Graph]
    totals: Mapping[str, float]
    layers: Mapping[str, Mapping[str, float]]

    @property
    def graph(self) -> Graph:
        """The network as it was chosen."""
        return self.graphs[self.chosen]

    def __str__(self) -> str:
        from rich.console import Console
        from rich.table import Table

        unit, scale = {"arm64": ("million instructions", 1e6)}.get(self.target, ("milliseconds", 1e9))
        table = Table(title=f"{self.target}: {self.chosen} (costs in {unit})", title_justify="left", show_footer=True)
        table.add_column("layer", footer="total")
        for name, total in self.totals.items():
            style = "bold" if name == self.chosen else ""
            table.add_column(name, footer=f"{total / scale:.3f}", justify="right", style=style)
        for layer, costs in self.layers.items():
            if any(costs.values()):
                table.add_row(layer, *(f"{costs.get(name, 0.0) / scale:.3f}" for name in self.totals))
        text = io.StringIO()
        Console(file=text, width=160).print(table)
        return text.getvalue().rstrip()


def candidates(
    graph: Graph,
    target: str = "arm64",
    *,
    quantize: str | None = None,
    costs: Mapping[str, float] | None = None,
) -> Iterator[Iterator[tuple[str, Graph]]]:
    """Every way of writing a network down that is considered; all compute the same.

    Args:
        graph: as `read_model` read it.
        target: decides how single operators are written down; "measure" as for x86_64.
        quantize: how the file will be quantized, as for `export_tflite`; no candidate makes that less exact.
        costs: what decides in place of the target, as `passes.channels_last.ARM64`.

    Yields:
        Series of names and graphs; in each a longer and longer beginning of the network is written down in the same
        special way.
    """
    costs = costs or (ARM64 if target == "arm64" else X86_64)
    simple = simplify(graph)
    # Limits leave activations with the ranges from before their norm, a different one for each channel, where int8 has
    # one for all, and add up in a bias what float16 rounds. With quantize="dynamic" the converter leaves weights of
    # fewer than 1024 numbers in float32.
    last = {"limits": quantize is None, "few_weights": 1024 if quantize == "dynamic" else 0}

    def beginnings(way, cuts, rewrite):
        for cut in cuts:
            beginning = rewrite(simple, cut)
            if beginning is not simple:
                yield f"{way} to {cut}", lower_channels_last(beginning, costs, **last)

    yield iter([("one to one", simple)])
    yield iter([("channels last", lower_channels_last(simple, costs, **last))])
    if quantize != "dynamic":
        yield beginnings("dense", dense_cuts(simple), lower_to_dense)
    if quantize is None:  # others can't be stored sparse
        yield beginnings("sparse", sparse_cuts(simple), lower_to_sparse)


def lower(
    graph: Graph,
    target: str,
    *,
    quantize: str | None = None,
    timed: Callable[[Graph], float] | None = None,
) -> Lowering:
    """Choose the cheapest candidate: by the target's table of costs, or by timing each on the interpreter at hand.

    Args:
        graph: as `read_model` read it.
        target: one of `LOWERING_TARGETS`.
        quantize: how the file will be quantized.
        timed: for "measure", a function that converts a graph, runs it, and returns its cost in picoseconds.

    Returns:
        A `Lowering`, with a readable `str`.
    """
    graphs, totals, costs = {}, {}, {}
    for series in candidates(graph, target, quantize=quantize):
        for name, candidate in series:
            if target == "measure":
                totals[name] = timed(candidate)
            else:
                costs[name] = graph_costs(candidate, target)
                totals[name] = sum(costs[name].values())
            graphs[name] = candidate
            # special ways only pay at a network's beginning: one that is too long is dearer, and so is a longer one
            if totals[name] > 1.2 * min(totals.values()):
                break
    layers = _by_layer([node.name for node in graph if node.op != "input"], costs)
    return Lowering(target, min(totals, key=totals.get), graphs, totals, layers)


def _by_layer(names: list[str], costs: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Costs of lowered nodes, gathered under the layer they were made from: `conv_taps` belongs to `conv`."""
    layers: dict[str, dict[str, float]] = {name: {} for name in names}
    longest_first = sorted(names, key=len, reverse=True)
    for candidate, by_node in costs.items():
        for node, cost in by_node.items():
            layer = next((name for name in longest_first if node == name or node.startswith(f"{name}_")), node)
            of_layer = layers.setdefault(layer, {})
            of_layer[candidate] = of_layer.get(candidate, 0.0) + cost
    return layers
