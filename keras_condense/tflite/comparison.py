"""Whether a file computes what its model computes: both are run on the same inputs."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_condense.keras_graphs import functional_form, is_graph, nodes_in_order
from keras_condense.tflite.calibration import Rows
from keras_condense.tflite.runtime import RUNTIMES, run_tflite

__all__ = [
    "GIVEN_ROWS",
    "TOLERANCE",
    "Difference",
    "Outputs",
    "compare",
    "file_outputs",
    "first_call_that_differs",
    "model_outputs",
    "rows_for",
    "stacked",
]

# How far an output may be off, in units of what its channel spans over all inputs and places. Each number is a sum of
# float32, whose rounding grows with what is added up and not with what comes out, so that a small number beside large
# ones says little: the least unit is a tenth of its input's largest, and a hundredth of the largest of all. Sums in
# another order are seen to differ by 1e-6 of the largest number, scales that move into a kernel and back cost a digit
# more.
TOLERANCE = 1e-4
_LEAST_UNIT, _LEAST_OF_ALL = 0.1, 0.01

# Integers and truth values can't be a little off; where two numbers are about equal, one of so many may be another.
_MAY_DIFFER = 1e-3

# of the inputs that a user gave, so many are enough to tell one network from another
GIVEN_ROWS = 8

Outputs = dict[str, np.ndarray]


# --- what goes in ----------------------------------------------------------------------------------------------------
def _random(
    shape: Sequence[int], dtype: str, random: np.random.Generator, row: int, highest: int, scale: float
) -> np.ndarray:
    if dtype == "bool":
        return random.random(shape) < 0.5
    if np.issubdtype(dtype, np.integer):
        return random.integers(0, min(highest, np.iinfo(dtype).max) + 1, shape).astype(dtype)
    # images come normalised, or in [0, scale], where logarithms and roots are numbers too
    return (random.uniform(0, scale, shape) if row % 2 else random.normal(size=shape)).astype(dtype)


def rows_for(
    names: Sequence[str],
    shapes: Sequence[Sequence[int]],
    dtypes: Sequence[str],
    given: Rows | None = None,
    *,
    highest: int = 255,
    scales: Sequence[float] | None = None,
) -> Rows:
    """Inputs to compare on: two random ones, always the same, and the first of those that the user gave.

    Args:
        names: the model's inputs.
        shapes: their shapes without the batch.
        dtypes: their dtypes.
        given: the user's rows, if there are any.
        highest: of the random integers, which may be what a layer looks up in a table.
        scales: for each input the highest of the random numbers of every second row: of pixels, where the model itself
            normalises them. By default 1.

    Returns:
        For each row an array of batch 1 for each input.

    Example:
        >>> rows = rows_for(["image", "token"], [(8, 8, 3), ()], ["float32", "int32"])
        >>> len(rows), rows[0]["image"].shape, rows[0]["token"].shape
        (2, (1, 8, 8, 3), (1,))
    """
    random = np.random.default_rng(0)
    rows = [
        {
            name: _random((1, *shape), dtype, random, row, highest, scale)
            for name, shape, dtype, scale in zip(names, shapes, dtypes, scales or [1.0] * len(names), strict=True)
        }
        for row in range(2)
    ]
    return rows + list(given or ())[:GIVEN_ROWS]


# --- what comes out --------------------------------------------------------------------------------------------------
def stacked(rows: Rows) -> dict[str, np.ndarray]:
    """Rows as one batch."""
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def model_outputs(
    model: keras.Model, structure: Any, name: Callable[[Any], list[str]], rows: Rows, *, at_once: bool = False
) -> Outputs:
    """What a Keras model computes in inference, by the names of its outputs; its state stays as it is.

    Args:
        model: the model.
        structure: how its inputs are nested.
        name: gives names to its nested outputs, flattened.
        rows: an array of batch 1 for each input, in the order of the model's inputs.
        at_once: as one batch, which is faster than row by row, as the file computes.
    """
    parts = []
    for inputs in [stacked(rows)] if at_once else rows:
        tensors = [ops.convert_to_tensor(array) for array in inputs.values()]
        with keras.StatelessScope():
            outputs = model(keras.tree.pack_sequence_as(structure, tensors), training=False)
        arrays = map(ops.convert_to_numpy, keras.tree.flatten(outputs))
        parts.append(dict(zip(name(outputs), arrays, strict=True)))
    return stacked(parts)


def file_outputs(content: bytes, names: Sequence[str], rows: Rows) -> Outputs:
    """What a file computes, by the names of its outputs.

    It runs on ai-edge-litert if that is installed, else on the interpreter in TensorFlow, which made the file.
    """
    runtime = "ai-edge-litert" if RUNTIMES["ai-edge-litert"].is_installed() else "tensorflow"
    outputs = run_tflite(content, stacked(rows), runtime=runtime)
    return outputs if isinstance(outputs, dict) else {names[0]: outputs}


@dataclasses.dataclass(frozen=True)
class Difference:
    """How far one output of a file is from the model's.

    Attributes:
        output: its name.
        largest: the largest difference, in units of what the channel spans (of a tenth of the largest of its input and
            a hundredth of the largest of all at least); infinite where the file has NaN or infinity and the model a
            number. Of integers and truth values, the share that differs, or 0 if it is at most one in a thousand.
        rms: the root mean square difference, in units of the output's own.
        same_class: of classifiers' outputs, the share of rows whose highest number is in the same place.
        finite: the share of the model's numbers that are finite; the others are not compared.
        is_exact: whether it holds integers or truth values.
    """

    output: str
    largest: float
    rms: float
    same_class: float | None
    finite: float
    is_exact: bool = False

    def __str__(self) -> str:
        if self.is_exact:
            return f"{self.output}: {self.largest:.1%} of its numbers differ"
        text = f"{self.output}: {self.largest:.1e} of its range, rms {self.rms:.2%}"
        return text if self.same_class is None else f"{text}, same class in {self.same_class:.0%} of inputs"


def _ratios(parts: Any, wholes: Any) -> np.ndarray:
    """Parts of wholes; nothing of nothing is 0, and something of it infinite."""
    parts, wholes = np.asarray(parts), np.asarray(wholes)
    of_nothing = np.where(parts > 0, np.inf, 0.0)
    return np.divide(parts, wholes, out=of_nothing, where=wholes > 0)


def _units(wanted: np.ndarray, finite: np.ndarray) -> np.ndarray:
    """For each number what its channel spans over all rows and places: at least a tenth of its row's largest number and
    a hundredth of the largest of all, at most that.
    """
    numbers = np.where(finite, wanted, 0.0)
    places, within_row = tuple(range(max(wanted.ndim - 1, 1))), tuple(range(1, wanted.ndim))
    span = numbers.max(axis=places, keepdims=True) - numbers.min(axis=places, keepdims=True)
    largest = np.abs(numbers).max(axis=within_row, keepdims=True)
    units = np.maximum(np.maximum(span, _LEAST_UNIT * largest), _LEAST_OF_ALL * largest.max())
    units = np.minimum(units, largest.max())
    return np.broadcast_to(units, wanted.shape)


def compare(actual: Outputs, expected: Outputs) -> list[Difference]:
    """How far each output is from what is expected.

    Example:
        >>> difference, = compare({"y": np.array([[1.0, 4.04], [3.0, 0.0]])}, {"y": np.array([[1.0, 4.0], [3.0, 0.0]])})
        >>> print(difference)
        y: 1.0e-02 of its range, rms 0.78%, same class in 100% of inputs
    """
    differences = []
    for name, wanted in expected.items():
        is_exact = wanted.dtype.kind in "biu"
        got, wanted = actual[name].astype("float64"), wanted.astype("float64")
        if got.shape != wanted.shape or not wanted.size:
            apart = np.inf if got.shape != wanted.shape else 0.0
            differences.append(Difference(name, apart, apart, None, 1.0, is_exact))
            continue
        if is_exact:
            share = float(np.mean(got != wanted))
            differences.append(Difference(name, share if share > _MAY_DIFFER else 0.0, share, None, 1.0, True))
            continue
        finite = np.isfinite(wanted)
        with np.errstate(invalid="ignore"):  # infinity less infinity
            apart, size = np.abs(got - wanted)[finite], np.abs(wanted[finite])
        # NaN of the file where the model has a number must not get lost in a maximum
        apart = np.where(np.isfinite(apart), apart, np.inf)
        is_classes = wanted.ndim == 2 and wanted.shape[1] > 1 and finite.all()
        same = float(np.mean(got.argmax(axis=1) == wanted.argmax(axis=1))) if is_classes else None
        # in units of the largest, or squares of large numbers overflow
        unit = size.max(initial=0.0) or 1.0
        rms = _ratios(*(np.sqrt(np.mean((x / unit) ** 2)) if x.size else 0.0 for x in (apart, size)))
        largest = _ratios(apart, _units(wanted, finite)[finite]).max(initial=0.0)
        differences.append(Difference(name, float(largest), float(rms), same, float(finite.mean())))
    return differences


# --- where it begins -------------------------------------------------------------------------------------------------
def first_call_that_differs(model: keras.Model, output: int, differs: Callable[[keras.Model], bool]) -> Any | None:
    """The first call of a layer whose outputs a file gets wrong, found by bisection over those that an output needs.

    Args:
        model: the model whose file is wrong.
        output: the number of the output that differs.
        differs: whether the file of a part of it, from the inputs to one layer, is wrong.

    Returns:
        The call (Keras' node); None if the model has no graph, or no part of it alone is wrong.
    """
    if not is_graph(model):
        return None
    functional = functional_form(model)
    needed, nodes = {id(functional.outputs[output])}, []
    for node in reversed(list(nodes_in_order(model))):
        if needed & {id(tensor) for tensor in node.outputs}:
            needed |= {id(tensor) for tensor in node.input_tensors}
            nodes.insert(0, node)

    def is_wrong(number: int) -> bool:
        try:
            return differs(keras.Model(functional.input, nodes[number].outputs))
        except Exception:  # a part that can't be exported says nothing
            return False

    low, high = 0, len(nodes) - 1
    if high < 0 or not is_wrong(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_wrong(middle) else (middle + 1, high)
    return nodes[high]
