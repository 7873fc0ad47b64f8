"""Two networks side by side, as the files that phones get: what each weighs, costs and takes, and how good it is."""

import dataclasses
import os
import statistics
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_condense.compared_rows import compared_rows
from keras_condense.condensation import check_condensable
from keras_condense.datasets import Dataset, ImageArrays
from keras_condense.keras_graphs import student_of
from keras_condense.layers import condensable_layers
from keras_condense.profiling import profile_model
from keras_condense.text_tables import render
from keras_condense.tflite import CodedSize, benchmark_tflite, coded_size, export_tflite, run_tflite
from keras_condense.tflite.export import check_exportable
from keras_condense.tflite.lowering import cost_by_table
from keras_condense.tflite.preparation import check_ranges, is_aware, prepared
from keras_condense.tflite.runtime.files import load_file
from keras_condense.tflite.schemes import INT8_BY_RANGES, SCHEMES, Scheme
from keras_condense.tflite.targets import targets
from keras_condense.validation import check_choice, check_positive_integer, shown

__all__ = ["ComparedNetwork", "NetworkComparison", "accuracy_of", "compare", "kilobytes"]

_ROUNDS, _WARMUP = 5, 3
_CALIBRATION_ROWS = 300
# how costs in the unit of a table are written, and how many of the table's that is
_UNITS = {"instructions": ("million instructions", 1e6), "picoseconds": ("ms", 1e9)}

File = str | os.PathLike | bytes


@dataclasses.dataclass(frozen=True)
class ComparedNetwork:
    """One of the two networks; what is not known is None.

    Attributes:
        name: what it is called in the table.
        parameters: trainable weights as `profile_model` counts them; None for a file.
        macs: multiply-adds of one row, as it counts them; None for a file.
        size: bytes of the file as stored, zipped, and under an ideal entropy coder.
        cost: of one inference by the target's table, in its unit; None for a file, and for a model without a graph.
        uncounted: the layers that are in no table, as dense ones, and count as 0 in `cost`.
        milliseconds: of one inference here: the median of five rounds, in which both networks run in turn.
        accuracy: share of the rows whose class is the label's; None without data.
    """

    name: str
    parameters: int | None
    macs: int | None
    size: CodedSize
    cost: float | None
    uncounted: tuple[str, ...]
    milliseconds: float
    accuracy: float | None


@dataclasses.dataclass(frozen=True)
class NetworkComparison:
    """Two networks side by side; `print` it for a table.

    Attributes:
        original: the first.
        compressed: the second.
        rows: how many rows accuracy and agreement are of; 0 without data.
        agreement: the share of rows of which both files say the same class; None without data.
        target: whose table `cost` is by.
        unit: of `cost`: "instructions" or "picoseconds".
        quantize: what numbers the second file holds; None for float32, or a file that was given.
        runtime: what timed the files, and its version.
        threads: of the interpreter.
    """

    original: ComparedNetwork
    compressed: ComparedNetwork
    rows: int
    agreement: float | None
    target: str
    unit: str
    quantize: str | None
    runtime: str
    threads: int

    def __str__(self) -> str:
        from rich.table import Table

        first, second = self.original, self.compressed
        unit, scale = _UNITS[self.unit]
        table = Table("", *(name for name in (first.name, second.name)), "ratio", title_justify="left")
        for column in table.columns[1:]:
            column.justify = "right"
        for title, value, form in (
            ("parameters", lambda side: side.parameters, "{:,}".format),
            ("multiply-adds", lambda side: side.macs, "{:,}".format),
            ("file", lambda side: side.size.stored, kilobytes),
            ("file, zipped", lambda side: side.size.zipped, kilobytes),
            ("file, entropy-coded", lambda side: side.size.entropy, kilobytes),
            (f"{unit}, {self.target}, by table", lambda side: side.cost, lambda cost: f"{cost / scale:,.3f}"),
            ("ms here", lambda side: side.milliseconds, "{:,.3f}".format),
        ):
            pair = value(first), value(second)
            ratio = None if None in pair or not pair[0] else f"{pair[1] / pair[0]:.3f}"
            table.add_row(title, *("-" if each is None else form(each) for each in pair), ratio or "-")
        pair = first.accuracy, second.accuracy
        lost = "-" if None in pair else f"{100 * (pair[1] - pair[0]):+.2f} points"
        table.add_row("accuracy", *("-" if each is None else f"{each:.2%}" for each in pair), lost)
        table.add_row("same class", "", "-" if self.agreement is None else f"{self.agreement:.2%}", "")
        of_rows = f"{self.rows:,} rows" if self.rows else "no data"
        numbers = f"; {second.name!r} is of {self.quantize}" if self.quantize else ""
        notes = [f"{of_rows}; {self.runtime}, {self.threads} thread{'s' * (self.threads > 1)}{numbers}"]
        for side in (first, second):
            if side.uncounted:
                notes.append(f"{side.name}: in no table, and counted as 0: {', '.join(side.uncounted)}")
        return "\n".join([render(table, width=120), *notes])


def compare(
    original: keras.Model | File,
    compressed: keras.Model | File,
    data: tuple[Any, Any] | Dataset | ImageArrays | None = None,
    *,
    target: str = "arm64",
    quantize: str | None = None,
    threads: int = 1,
    runs: int = 10,
    names: Sequence[str] = ("original", "compressed"),
) -> NetworkComparison:
    """Say what a compressed network saves beside the original one, and what it loses.

    Keras models are exported for it, so that all but parameters, multiply-adds and the costs by table is of the files
    that ship: sizes, times on this machine, and, with data, accuracy and how often both say the same class.

    Args:
        original: a built Keras model, exported in float32; or a .tflite file, by its path or content.
        compressed: the same, exported as `quantize` says. A model with learned layers must have reached the last stage.
            Of a Distiller the student is taken, on both sides.
        data: rows and labels to measure on, as both networks take them: `(x, y)`, x (rows, ...) and y (rows,) class
            numbers; or a data set of this package, whose test images are taken. None measures neither accuracy nor
            agreement.
        target: "arm64", "x86_64" or "wasm": what models are exported for, and whose table gives the costs.
        quantize: of the compressed model's file: None, "float16", "dynamic" or "int8", as `export_tflite` has them;
            "int8" is calibrated with up to 300 rows of `data`, evenly spread, but for a model of `quantize_aware`,
            which has its ranges from its training.
        threads: of the interpreter.
        runs: timed inferences in each of five rounds, in which both files run in turn.
        names: what the two are called in the table.

    Returns:
        A `NetworkComparison`, with a readable `str`. What can't be known, as a file's multiply-adds, is None, and a
        dash in the table.

    Raises:
        ValueError: an argument out of range; what is no Keras model and no .tflite file; what `export_tflite` refuses;
            `quantize` with a file, or "int8" without data; data that does not fit both networks, is empty or not
            finite, or labels that are no classes of theirs. All of it before anything is exported or run.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
        >>> x, y = np.eye(4, dtype="float32"), [0, 1, 2, 0]
        >>> comparison = compare(model, model, (x, y))
        >>> comparison.agreement, comparison.original.parameters, comparison.rows
        (1.0, 15, 4)
    """
    check_choice("target", target, tuple(targets()), 'Leave it out for phones ("arm64").')
    check_choice("quantize", quantize, tuple(SCHEMES), "Leave it out for float32.")
    check_positive_integer("threads", threads, "Use 1 to compare with published figures.")
    check_positive_integer("runs", runs, "Use 10.")
    _check_names(names)
    networks = [_checked("original", original), _checked("compressed", compressed)]
    if quantize is not None and not isinstance(networks[1], keras.Model):
        raise ValueError(
            f"`quantize` (={quantize!r}) is for a Keras model, and `compressed` is a file, whose numbers are what they "
            "are. Leave it out, or give the model."
        )
    schemes = [_scheme(network, each) for network, each in zip(networks, (None, quantize), strict=True)]
    needs_data = any(scheme.needs_data for scheme in schemes)
    if needs_data and data is None:
        raise ValueError(f"`data` must be given with quantize={quantize!r}, to calibrate with. Give (x, y).")
    x, y = (None, None) if data is None else compared_rows(data, networks)
    calibration = None
    if needs_data:
        calibration = x[np.unique(np.linspace(0, len(x) - 1, _CALIBRATION_ROWS).astype(int))]
    files = [
        export_tflite(
            network,
            target=target,
            quantize=scheme.name,
            representative_data=calibration if scheme.needs_data else None,
        )
        if isinstance(network, keras.Model)
        else network
        for network, scheme in zip(networks, schemes, strict=True)
    ]
    outputs = [None if x is None else run_tflite(file, x, threads=threads) for file in files]
    times: list[list[float]] = [[], []]
    for _ in range(_ROUNDS):
        for file, milliseconds in zip(files, times, strict=True):
            benchmark = benchmark_tflite(file, runs=runs, warmup=_WARMUP, threads=threads)
            milliseconds.append(benchmark.median_ms)
    rows = []
    for name, network, scheme, file, of_rows, milliseconds in zip(
        names, networks, schemes, files, outputs, times, strict=True
    ):
        parameters, macs, cost, uncounted = _costs(network, target, scheme)
        accuracy = None if of_rows is None else accuracy_of(of_rows, y)
        median = statistics.median(milliseconds)
        rows.append(ComparedNetwork(name, parameters, macs, coded_size(file), cost, uncounted, median, accuracy))
    return NetworkComparison(
        *rows,
        rows=0 if x is None else len(x),
        agreement=None if x is None else float(np.mean(outputs[0].argmax(axis=-1) == outputs[1].argmax(axis=-1))),
        target=target,
        unit=targets()[target].unit,
        quantize=quantize,
        runtime=f"{benchmark.runtime} {benchmark.runtime_version}",
        threads=threads,
    )


def accuracy_of(outputs: np.ndarray, labels: np.ndarray) -> float:
    """The share of rows whose largest output is the label's."""
    return float(np.mean(outputs.argmax(axis=-1) == labels))


def kilobytes(count: int) -> str:
    """Bytes as tables have them.

    Example:
        >>> kilobytes(1234567)
        '1,234.6 kB'
    """
    return f"{count / 1e3:,.1f} kB"


def _check_names(names: Any) -> None:
    given = [] if isinstance(names, str) or not isinstance(names, Sequence) else list(names)
    if len(given) != 2 or not all(isinstance(name, str) and name for name in given) or given[0] == given[1]:
        raise ValueError(
            f"`names` (={shown(names)}) must be two different names for the table. Leave it out for 'original' and "
            "'compressed'."
        )


def _checked(name: str, network: Any) -> keras.Model | bytes:
    """A model that can be exported, or the content of a file that is whole."""
    network = student_of(network)
    if isinstance(network, keras.Model):
        check_exportable(network)
        if condensable_layers(network):
            check_condensable(network)
        return network
    if not isinstance(network, (str, os.PathLike, bytes)):
        raise ValueError(
            f"`{name}` (={shown(network)}) must be a Keras model, or a .tflite file by its path or content. Load a "
            "saved model with `saving.load_model`."
        )
    return load_file(network)[0]


def _scheme(network: keras.Model | bytes, quantize: str | None) -> Scheme:
    """What numbers a network's file holds; ValueError for a model that was trained for others."""
    if isinstance(network, keras.Model) and is_aware(network):
        check_ranges(network, quantize, INT8_BY_RANGES.name, has_data=False)
        return INT8_BY_RANGES
    return SCHEMES[quantize]


def _costs(
    network: keras.Model | bytes, target: str, scheme: Scheme
) -> tuple[int | None, int | None, float | None, tuple[str, ...]]:
    """Parameters, multiply-adds, the cost by table, and what it leaves out."""
    if not isinstance(network, keras.Model):
        return None, None, None, ()
    by_table = cost_by_table(prepared(network), target, scheme)
    if by_table is None:
        return None, None, None, ()
    profile = profile_model(network)
    cost, uncounted = by_table
    return profile.parameters, profile.macs, cost or None, uncounted  # of nothing that is in a table
