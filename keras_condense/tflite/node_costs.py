"""What each operator of a file costs by its target's table, as Google's Model Explorer reads it.

The table knows nodes of a lowered network, and the converter makes operators of them: of some several, of others a part
of a neighbour's. Which operator came from which node is read off a second conversion, whose names tell it. It may have
its operators in another order, so that both are followed from their outputs.
"""

import dataclasses
import functools
import json
import math
import os
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from keras_condense.files import check_writable
from keras_condense.tflite.calibration import Rows
from keras_condense.tflite.converter import convert_graph
from keras_condense.tflite.graph import Graph
from keras_condense.tflite.lowering import MEASURE, Lowering
from keras_condense.tflite.schemes import Scheme
from keras_condense.tflite.targets import graph_costs, targets
from keras_condense.tflite.tracing import SCOPE

__all__ = ["check_node_costs", "model_explorer_data", "operator_costs"]

_WITH_KERNEL = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
_CHANGE_NUMBERS = ("DEQUANTIZE", "QUANTIZE")
_FREE = (*_CHANGE_NUMBERS, "DENSIFY", "RESHAPE")  # done once, or beside what costs

# how costs in the unit of a table are written: in which unit, how many of the table's that is, digits behind the point
_UNITS = {"instructions": ("instructions", 1, 0), "picoseconds": ("microseconds", 1e6, 3)}

_COLORS = ({"stop": 0, "bgColor": "#ffffff"}, {"stop": 1, "bgColor": "#d7301f"})  # from white to red


def check_node_costs(node_costs: str | os.PathLike, path: str | os.PathLike | None, target: str) -> pathlib.Path:
    """Return where the costs are to be written; ValueError, before any work, where they can't be."""
    if target == MEASURE:
        raise ValueError(
            f"`node_costs` needs a table of costs, and `target` (={MEASURE!r}) has none, since it times whole files. "
            f"Use one of {', '.join(map(repr, targets()))}."
        )
    found = check_writable(node_costs)
    if found.suffix != ".json":
        raise ValueError(f"`node_costs` (={str(found)!r}) must end in '.json', as Model Explorer wants it. Name it so.")
    if path is not None and os.path.realpath(path) == os.path.realpath(found):
        raise ValueError(f"`node_costs` (={str(found)!r}) must be another file than `path`. Name it otherwise.")
    return found


def model_explorer_data(
    content: bytes, lowering: Lowering | None, model: keras.Model, scheme: Scheme, rows: Rows | None = None
) -> str:
    """The costs of a file's operators as custom node data for Model Explorer.

    Args:
        content: the file, made of what was chosen.
        lowering: what was chosen, by a table of costs.
        model: the model it was read from.
        scheme: what numbers the file holds.
        rows: to calibrate with, where the scheme needs them.

    Returns:
        JSON: for the graph by its name, a value for each operator by its first output's name, by which Model Explorer
        finds it whichever adapter read the file.

    Raises:
        ValueError: a model that was not lowered.
    """
    if lowering is None:
        raise ValueError(
            f"`node_costs` needs a network that is lowered by a table of costs, and `model` (={model.name!r}) has no "
            "graph with layers to lower, condensed ones or 1x1 convolutions that are mostly zeros. Leave it out."
        )
    target, file = targets()[lowering.target], _File(content)
    unit, scale, digits = _UNITS[target.unit]
    costs = operator_costs(content, lowering.graph, model, scheme, rows, target.name)
    results = {
        file.names[operator.outputs[0]]: {"value": round(cost / scale, digits)}
        for operator, cost in zip(file.operators, costs, strict=True)
    }
    data = {"name": f"{unit} on {target.name}, by table", "results": results, "gradient": _COLORS}
    return json.dumps({file.graph: data}, indent=1) + "\n"


def operator_costs(
    content: bytes, graph: Graph, model: keras.Model, scheme: Scheme, rows: Rows | None, target: str
) -> list[float]:
    """What each operator of a file's main graph costs, in the order of the file and in the unit of the target's table.

    A node's cost is that of the operator that multiplies by its kernel, or else shared among its operators by what they
    write. What became a part of another node's operators counts there. The sum is that of the nodes.
    """
    file = _File(content)
    twin = _File(convert_graph(graph, model, scheme, rows, scoped=True))
    ours = {theirs: number for number, theirs in _matched(file, twin).items()}
    made = {
        name: [ours[number] for number in numbers if number in ours]
        for name, numbers in _operators_of_nodes(twin, graph).items()
    }
    costs = [0.0] * len(file.operators)
    for name, cost in graph_costs(graph, targets()[target], scheme.arithmetic).items():
        for number, share in _shares(file, _nearest(graph, name, made) if cost else ()):
            costs[number] += cost * share
    return costs


def _operators_of_nodes(file: "_File", graph: Graph) -> dict[str, list[int]]:
    """For each node the numbers of its operators, as the names in the file tell them."""
    nodes = [node.name for node in graph]
    made: dict[str, list[int]] = {name: [] for name in nodes}
    for number, operator in enumerate(file.operators):
        names = ";".join(file.names[tensor] for tensor in operator.outputs)
        for scope in dict.fromkeys(re.findall(rf"(?:^|[;/]){SCOPE}(\d+)/", names)):
            made[nodes[int(scope)]].append(number)
    for output, tensor in file.outputs.items():  # these have names of their own
        number = file.makers.get(tensor)
        while number is not None and file.operators[number].kind in _CHANGE_NUMBERS:
            number = file.makers.get(file.operators[number].inputs[0])
        if number is not None and not any(number in numbers for numbers in made.values()):
            made[graph.outputs[output]].append(number)
    return made


def _nearest(graph: Graph, name: str, made: dict[str, list[int]]) -> list[int]:
    """The operators of a node, or of the nearest that reads it, or that it reads, where it has none of its own."""
    if made[name]:
        return made[name]
    readers, by_name, queue, seen = graph.readers(), graph.by_name(), [name], {name}
    for each in queue:
        if made[each]:
            return made[each]
        beside = [*(node.name for node in readers[each]), *by_name[each].inputs]
        queue += [other for other in beside if other not in seen]
        seen.update(beside)
    return []


def _shares(file: "_File", numbers: Sequence[int]) -> Iterator[tuple[int, float]]:
    """How much of a node's cost each of its operators has."""
    kinds = {number: file.operators[number].kind for number in numbers}
    chosen = (
        [number for number, kind in kinds.items() if kind in _WITH_KERNEL]
        or [number for number, kind in kinds.items() if kind not in _FREE]
        or list(numbers)
    )
    written = {number: file.written(number) for number in chosen}
    for number, count in written.items():
        yield number, count / sum(written.values())


def _matched(file: "_File", twin: "_File") -> dict[int, int]:
    """For each operator that an output needs, the same one in a file that differs in names and order alone."""
    found: dict[int, int] = {}
    pairs = [(tensor, twin.outputs[name]) for name, tensor in file.outputs.items()]
    while pairs:
        one, other = pairs.pop()
        number, theirs = file.makers.get(one), twin.makers.get(other)
        if number in found or number is theirs is None:
            continue
        same = number is not None and theirs is not None and file.operators[number].is_like(twin.operators[theirs])
        if not same:
            raise ValueError(
                f"`node_costs` needs a second conversion with the same operators, and it differs at "
                f"{file.names[one]!r}. Leave it out."
            )
        found[number] = theirs
        pairs += zip(file.operators[number].inputs, twin.operators[theirs].inputs, strict=True)
    return found


@dataclasses.dataclass(frozen=True)
class _FileOperator:
    """An operator as it stands in a file: its kind, and the numbers of its tensors, -1 for none."""

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def is_like(self, other: "_FileOperator") -> bool:
        """Whether it may be the same one in another file."""
        return (self.kind, len(self.inputs), len(self.outputs)) == (other.kind, len(other.inputs), len(other.outputs))


class _File:
    """The main graph of a .tflite file: who computes what.

    Attributes:
        graph: its name.
        operators: in their order.
        names: of the tensors.
        makers: for each tensor that is computed, the number of the operator that does.
        outputs: of the signature, by name.
    """

    def __init__(self, content: bytes):
        from tensorflow.lite.python import schema_py_generated as schema

        model = schema.Model.GetRootAs(content)
        main = self._main = model.Subgraphs(0)
        codes = [model.OperatorCodes(number) for number in range(model.OperatorCodesLength())]
        kinds = [_kinds()[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())] for code in codes]
        self.graph = main.Name().decode()
        self.names = [main.Tensors(number).Name().decode() for number in range(main.TensorsLength())]
        listed = [main.Operators(number) for number in range(main.OperatorsLength())]
        self.operators = [
            _FileOperator(kinds[each.OpcodeIndex()], _tensors(each, "Inputs"), _tensors(each, "Outputs"))
            for each in listed
        ]
        self.makers = {tensor: number for number, operator in enumerate(self.operators) for tensor in operator.outputs}
        signature = model.SignatureDefs(0)
        outputs = [signature.Outputs(number) for number in range(signature.OutputsLength())]
        self.outputs = {each.Name().decode(): each.TensorIndex() for each in outputs}

    def written(self, number: int) -> int:
        """How many numbers an operator writes."""
        tensors = (self._main.Tensors(tensor) for tensor in self.operators[number].outputs)
        return sum(math.prod(map(tensor.Shape, range(tensor.ShapeLength()))) for tensor in tensors)


def _tensors(operator: Any, which: str) -> tuple[int, ...]:
    return tuple(map(getattr(operator, which), range(getattr(operator, f"{which}Length")())))


@functools.cache
def _kinds() -> dict[int, str]:
    """The names of the operators by their numbers."""
    from tensorflow.lite.python import schema_py_generated as schema

    return {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
