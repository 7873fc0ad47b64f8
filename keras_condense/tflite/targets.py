"""Processors that networks are lowered for: a file each in `targets/`, and nothing about one stands anywhere else.

`benchmarks/operator_costs.py` measures the costs and writes the files. A new processor is a new file.
"""

import dataclasses
import functools
import importlib.resources
import json
import platform
from collections.abc import Mapping

from keras_condense.tflite.graph import Graph, Node
from keras_condense.tflite.operators import Features

__all__ = ["SHOWN_UNITS", "Target", "graph_costs", "node_cost", "targets", "this_machine"]

# how costs in the unit of a table are shown: in which unit, and how many of the table's that is
SHOWN_UNITS = {"instructions": ("million instructions", 1e6), "picoseconds": ("milliseconds", 1e9)}

FOLDER = importlib.resources.files("keras_condense.tflite").joinpath("targets")


@dataclasses.dataclass(frozen=True)
class Target:
    """A processor, and what XNNPACK takes on it.

    Attributes:
        name: what `export_tflite(target=...)` calls it.
        machines: what `platform.machine()` calls such processors.
        unit: of the costs, "instructions" or "picoseconds".
        lanes: for each arithmetic, the filters of a group that its convolutions compute together.
        costs: for each arithmetic ("float32", "dynamic", "int8") and each kind of operator, the cost of each of its
            features (`Operator.features`). Arithmetics that were not measured take those of float32.
        fill_lanes: whether convolutions of filters that don't fill the lanes take many times longer, so that unread
            filters are kept to fill them. In WebAssembly on x86-64 they do: XNNPACK leaves what pads its weights as it
            found it, and computes with that; denormal numbers are slow, and a page can't switch them off.
    """

    name: str
    machines: tuple[str, ...]
    unit: str
    lanes: Mapping[str, int]
    costs: Mapping[str, Mapping[str, Mapping[str, float]]]
    fill_lanes: bool = False

    def lanes_of(self, arithmetic: str = "float32") -> int:
        """Filters of a group that convolutions in this arithmetic compute together."""
        return self.lanes[arithmetic if arithmetic in self.costs else "float32"]

    def cost(self, features: Features, arithmetic: str = "float32") -> float:
        """What an operator costs.

        Args:
            features: its row of the table, and the sizes that its cost grows with (`Operator.features`).
            arithmetic: what it computes in; costs that were not measured are taken from float32's.

        Returns:
            The cost in the target's unit; 0 for what costs nothing or is in no table.
        """
        kind, sizes = features
        coefficients = self.costs.get(arithmetic, self.costs["float32"]).get(kind, {})
        return sum(coefficients.get(name, 0.0) * size for name, size in sizes.items())


@functools.cache
def targets() -> Mapping[str, Target]:
    """The processors that are known, by their names."""
    files = sorted((file for file in FOLDER.iterdir() if file.name.endswith(".json")), key=lambda file: file.name)
    known = [json.loads(file.read_text("utf-8")) for file in files]
    fields = {field.name for field in dataclasses.fields(Target)}
    made = [Target(**{key: value for key, value in each.items() if key in fields}) for each in known]
    machines = [machine for target in made for machine in target.machines]
    if twice := {machine for machine in machines if machines.count(machine) > 1}:
        raise ValueError(
            f"Machines must be of one processor each, and {sorted(twice)} are of several in {FOLDER}. Take them out of "
            "`machines` of all files but one."
        )
    return {target.name: target for target in made}


def this_machine() -> Target | None:
    """The processor that this process runs on, if it is known."""
    machine = platform.machine()
    return next((target for target in targets().values() if machine in target.machines), None)


def node_cost(node: Node, inputs: list[Node], target: Target, arithmetic: str = "float32") -> float:
    """The cost of an operator that reads `inputs`."""
    lanes = target.lanes_of(arithmetic)
    return target.cost(node.op.features([source.shape for source in inputs], node.shape, lanes), arithmetic)


def graph_costs(graph: Graph, target: Target, arithmetic: str = "float32") -> dict[str, float]:
    """The cost of each node of a graph, by its name."""
    by_name = graph.by_name()
    return {node.name: node_cost(node, [by_name[name] for name in node.inputs], target, arithmetic) for node in graph}
