"""Run and time .tflite files.

This file stands alone: it needs NumPy and one of ai-edge-litert, tflite-runtime (2.14 runs on Python <= 3.11 with
NumPy < 2) or TensorFlow, but neither Keras nor the rest of the package. A device that only runs networks can copy it:

    python runtime.py condensenet86.tflite
"""

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import logging
import os
import pathlib
import stat
import struct
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping

import numpy as np

__all__ = [
    "RUNTIMES",
    "TFLiteBenchmark",
    "benchmark_tflite",
    "check_tflite",
    "operators_outside_xnnpack",
    "run_tflite",
]

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class _Runtime:
    """A package that can run .tflite files."""

    module: str
    distribution: str | None  # None: the module knows its version (TensorFlow comes in several distributions)

    def is_installed(self) -> bool:
        return importlib.util.find_spec(self.module.split(".")[0]) is not None

    def version(self) -> str:
        if self.distribution is None:
            return importlib.import_module(self.module.split(".")[0]).__version__
        return importlib.metadata.version(self.distribution)

    def interpreter_class(self) -> type:
        module = importlib.import_module(self.module)
        return module.lite.Interpreter if self.module == "tensorflow" else module.Interpreter


# in order of preference
RUNTIMES = {
    "ai-edge-litert": _Runtime("ai_edge_litert.interpreter", "ai-edge-litert"),
    "tflite-runtime": _Runtime("tflite_runtime.interpreter", "tflite-runtime"),
    "tensorflow": _Runtime("tensorflow", None),
}


@contextlib.contextmanager
def native_output_logged() -> Iterator[None]:
    """Send what C++ code writes to standard error to this module's log, at level DEBUG.

    Converter and interpreter report on their own progress there, out of reach of Python's logging.
    """
    with contextlib.suppress(AttributeError, OSError, ValueError):
        sys.stderr.flush()
    try:
        saved = os.dup(2)
    except OSError:  # a process without standard error has nothing to keep quiet
        yield
        return
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            file.seek(0)
            for line in file.read().decode(errors="replace").splitlines():
                logger.debug(line)


# --- is it a whole file? -------------------------------------------------------------------------------------------
# Older interpreters follow offsets without looking and crash the process on a file that was cut short, so every
# offset is followed here first. Tables of the TFLite schema, by field number: ("table", name), ("tables", name) for a
# vector of tables, ("vector", bytes per item), ("string", 1) for UTF-8. Fields that are missing here are plain numbers
# inside the table. A table named "" is one whose own extent is checked only.
_SCHEMA = {
    "Model": {
        1: ("tables", "OperatorCode"),
        2: ("tables", "SubGraph"),
        3: ("vector", 1),
        4: ("tables", "Buffer"),
        5: ("vector", 4),
        6: ("tables", "Metadata"),
        7: ("tables", "SignatureDef"),
    },
    "OperatorCode": {1: ("string", 1)},
    "SubGraph": {
        0: ("tables", "Tensor"),
        1: ("vector", 4),
        2: ("vector", 4),
        3: ("tables", "Operator"),
        4: ("string", 1),
    },
    "Tensor": {
        0: ("vector", 4),
        3: ("string", 1),
        4: ("table", "QuantizationParameters"),
        6: ("table", "Sparsity"),
        7: ("vector", 4),
        9: ("tables", ""),
    },
    "QuantizationParameters": {
        0: ("vector", 4),
        1: ("vector", 4),
        2: ("vector", 4),
        3: ("vector", 8),
        5: ("table", ""),
    },
    "Sparsity": {0: ("vector", 4), 1: ("vector", 4), 2: ("tables", "")},
    "Operator": {
        1: ("vector", 4),
        2: ("vector", 4),
        4: ("table", ""),
        5: ("vector", 1),
        7: ("vector", 1),
        8: ("vector", 4),
        12: ("table", ""),
    },
    "Buffer": {0: ("vector", 1)},
    "Metadata": {0: ("string", 1)},
    "SignatureDef": {0: ("tables", "TensorMap"), 1: ("tables", "TensorMap"), 2: ("string", 1)},
    "TensorMap": {0: ("string", 1)},
    "": {},
}


_MOST_TABLES = 1_000_000  # as flatbuffers' own verifier has it


# Operators by their number in the schema: how many inputs they need, and how many of these may not be left out. The
# interpreters look for them without asking whether they are there. Others need one.
_TWO = (0, 3, 4, 9, 18, 23, 34, 36, 39, 40, 41, 42, 48, 49, 54, 55, 56, 57, 58, 61, 62, 63, 69, 70, 71, 72, 74, 78, 79)
_TWO += (81, 82, 84, 86, 89, 90, 91, 94, 95, 97, 99, 100, 105, 107, 126, 128, 130, 156)  # ADD, CONV_2D, GATHER, ...
_THREE = (37, 38, 60, 64, 65, 67, 96, 102, 122, 123)  # SLICE, TRANSPOSE_CONV, ...
_NEEDED_INPUTS = dict.fromkeys(_TWO, 2) | dict.fromkeys(_THREE, 3) | {45: 4, 85: 4}  # STRIDED_SLICE, ONE_HOT


class _Broken(Exception):
    """An offset leads out of the file, or a number out of what it counts."""


def _read(data: bytes, format: str, position: int) -> int:
    if not 0 <= position <= len(data) - struct.calcsize(format):
        raise _Broken
    return struct.unpack_from(format, data, position)[0]


class _Checker:
    """Follows every offset of a file once.

    Several offsets may lead to one table, and vectors may overlap, so that the tables that an interpreter will make can
    be as many as the square of the file's size. Each table is checked once, and their number is computed.
    """

    def __init__(self, data: bytes):
        self._data = data
        self._tables: dict[tuple[int, str], int] = {}  # position and kind: tables, itself and below
        self._vectors: dict[tuple[int, str], int] = {}
        self._strings: set[int] = set()
        self._bytes_left = len(data)  # vectors and strings that don't overlap have no more

    def _field(self, position: int, number: int) -> int:
        """Where a table's field stands, or 0 if it was left out."""
        vtable = position - _read(self._data, "<i", position)
        slot = 4 + 2 * number
        offset = _read(self._data, "<H", vtable + slot) if slot + 2 <= _read(self._data, "<H", vtable) else 0
        if offset >= max(_read(self._data, "<H", vtable + 2), 1):
            raise _Broken
        return position + offset if offset else 0

    def table(self, position: int, kind: str) -> int:
        """Check a table and all below it, and return how many tables these are."""
        key = position, kind
        if key not in self._tables:
            self._tables[key] = self._checked_table(position, kind)
            if self._tables[key] > _MOST_TABLES:
                raise _Broken
        return self._tables[key]

    def _checked_table(self, position: int, kind: str) -> int:
        data = self._data
        vtable = position - _read(data, "<i", position)
        vtable_bytes, table_bytes = _read(data, "<H", vtable), _read(data, "<H", vtable + 2)
        if vtable_bytes < 4 or vtable + vtable_bytes > len(data) or position + table_bytes > len(data):
            raise _Broken
        count = 1
        for number, (form, of) in _SCHEMA[kind].items():
            at = self._field(position, number)
            if not at:
                continue
            target = at + _read(data, "<I", at)
            if form == "table":
                count += self.table(target, of)
            elif form == "tables":
                count += self._vector(target, of)
            elif form == "string":
                self._string(target)
            else:
                self._length(target, of)
        if kind == "Buffer" and self._field(position, 1) and self._field(position, 2):
            # weights that stand behind the flatbuffer (files above 2 GB)
            offset, size = (_read(data, "<Q", self._field(position, number)) for number in (1, 2))
            if offset > 1 and offset + size > len(data):
                raise _Broken
        return count

    def _length(self, position: int, item_bytes: int) -> int:
        """The number of items of a vector, which are all in the file."""
        length = _read(self._data, "<I", position)
        if position + 4 + length * item_bytes > len(self._data):
            raise _Broken
        return length

    def _spend(self, count: int) -> None:
        self._bytes_left -= count
        if self._bytes_left < 0:
            raise _Broken

    def _string(self, position: int) -> None:
        if position not in self._strings:
            self._strings.add(position)
            length = self._length(position, 1)
            self._spend(length)
            try:
                self._data[position + 4 : position + 4 + length].decode()
            except UnicodeDecodeError as error:
                raise _Broken from error

    def _vector(self, position: int, of: str) -> int:
        """Check a vector of tables, and return how many tables it leads to."""
        key = position, of
        if key not in self._vectors:
            length = self._length(position, 4)
            self._spend(4 * length)
            items = range(position + 4, position + 4 + 4 * length, 4)
            self._vectors[key] = sum(self.table(item + _read(self._data, "<I", item), of) for item in items)
        return self._vectors[key]

    def model(self) -> None:
        """Check the whole file, and then that what it counts is there: tensors, operators' codes, their inputs."""
        model = _read(self._data, "<I", 0)
        self.table(model, "Model")
        codes = [self._code(table) for table in self._items(model, 1)]
        subgraphs = self._items(model, 2)
        if not subgraphs:
            raise _Broken
        checked = set()
        for subgraph in set(subgraphs):
            tensors = len(self._items(subgraph, 0))
            for number in (1, 2):  # its inputs and outputs
                self._tensors(subgraph, number, 0, tensors)
            for operator in set(self._items(subgraph, 3)) - checked:
                checked.add(operator)
                index = self._field(operator, 0)
                code = _read(self._data, "<I", index) if index else 0
                if code >= len(codes):
                    raise _Broken
                inputs, needed = self._tensors(operator, 1, -1, tensors), _NEEDED_INPUTS.get(codes[code], 0)
                self._tensors(operator, 2, 0, tensors)
                if len(inputs) < needed or (inputs[:needed] < 0).any():
                    raise _Broken

    def _items(self, position: int, number: int) -> list[int]:
        """Where the tables of a field that is a vector of tables stand."""
        at = self._field(position, number)
        if not at:
            return []
        vector = at + _read(self._data, "<I", at)
        first, length = vector + 4, _read(self._data, "<I", vector)
        return [item + _read(self._data, "<I", item) for item in range(first, first + 4 * length, 4)]

    def _tensors(self, position: int, number: int, lowest: int, tensors: int) -> np.ndarray:
        """The tensors that a field lists, each at least `lowest` and below their number."""
        at = self._field(position, number)
        if not at:
            return np.zeros(0, "int32")
        vector = at + _read(self._data, "<I", at)
        length = _read(self._data, "<I", vector)
        self._spend(4 * length)
        listed = np.frombuffer(self._data, "<i4", length, vector + 4)
        if length and (listed.min() < lowest or listed.max() >= tensors):
            raise _Broken
        return listed

    def _code(self, position: int) -> int:
        """Which operator it is; small numbers stand in a field of a byte, which came first."""
        byte, word = self._field(position, 0), self._field(position, 3)
        return max(_read(self._data, "<b", byte) if byte else 0, _read(self._data, "<i", word) if word else 0)


def check_tflite(data: bytes, name: str = "model") -> None:
    """Raise unless `data` is a whole .tflite file: every offset in it leads to something inside it.

    Args:
        data: the file's content.
        name: what the message calls it.

    Raises:
        ValueError: empty, foreign or truncated content.

    Example:
        >>> check_tflite(b"PK and so on", "weights.zip")
        Traceback (most recent call last):
        ...
        ValueError: 'weights.zip' (12 bytes) must be a TensorFlow Lite model, and has not the mark "TFL3" ...
    """
    if data[4:8] != b"TFL3":
        raise ValueError(
            f'{name!r} ({len(data)} bytes) must be a TensorFlow Lite model, and has not the mark "TFL3" at bytes 4 to '
            "8. Give a file that `export_tflite` wrote."
        )
    try:
        _Checker(data).model()
    except _Broken as error:
        raise ValueError(
            f"{name!r} ({len(data)} bytes) must be a whole TensorFlow Lite model, and refers to what is not in it, or "
            "to the same bytes again and again. It was cut short or damaged: copy or export it again."
        ) from error


def _path(value: str | os.PathLike) -> str:
    path = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
    if not isinstance(path, str) or "\0" in path:
        raise ValueError(
            f"`path_or_bytes` (of type {type(value).__name__}) must be a path without null characters, or a file's "
            "content as bytes. Give what `export_tflite` wrote or returned."
        )
    return path


def _load(path_or_bytes: str | os.PathLike | bytes) -> tuple[bytes, str]:
    """The checked content, and a name for it."""
    if isinstance(path_or_bytes, (bytes, bytearray, memoryview)):
        data, name = bytes(path_or_bytes), "model"
    else:
        name = _path(path_or_bytes)
        try:
            # a pipe waits for somebody who writes to it, and a device may never end
            if not stat.S_ISREG(os.stat(name).st_mode):
                raise OSError(0, "it is no regular file")
            data = pathlib.Path(name).read_bytes()
        except OSError as error:
            raise ValueError(
                f"`path_or_bytes` (={name!r}) must be a .tflite file that can be read, and cannot "
                f"({error.strerror}). Check the path."
            ) from error
    check_tflite(data, name)
    return data, name


# --- the interpreter -----------------------------------------------------------------------------------------------
def _check_positive(name: str, value: int, mend: str) -> None:
    is_integer = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not is_integer or not 1 <= value < 2**31:
        given = repr(value) if not is_integer or abs(value) < 2**64 else "a huge integer"
        raise ValueError(f"`{name}` (={given[:200]}) must be a positive integer below 2**31. {mend}")


def _choose_runtime(runtime: str | None) -> str:
    if runtime is not None and runtime not in RUNTIMES:
        raise ValueError(
            f"`runtime` (={runtime!r}) must be one of {', '.join(map(repr, RUNTIMES))}. "
            "Leave it out for the first that is installed."
        )
    for name in RUNTIMES if runtime is None else (runtime,):
        if RUNTIMES[name].is_installed():
            return name
    raise ValueError(
        f"`runtime` (={runtime!r}) must be installed, and is not. Run `pip install {runtime or 'ai-edge-litert'}`."
    )


def _interpreter(data: bytes, name: str, runtime: str, threads: int):
    with warnings.catch_warnings(), native_output_logged():
        warnings.simplefilter("ignore")  # TensorFlow recommends LiteRT, which was looked for first
        interpreter_class = RUNTIMES[runtime].interpreter_class()
        try:
            interpreter = interpreter_class(model_content=data, num_threads=int(threads))
            interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                f"{name!r} must be a model that {runtime} {RUNTIMES[runtime].version()} can run, and it refused: "
                f"{str(error).strip()} Export it again, or use a newer runtime."
            ) from error
    return interpreter


def _details(interpreter) -> tuple[dict[str, dict], dict[str, dict]]:
    """Input and output tensors by name: the signature's names if the file has exactly one, else the tensors'."""
    if len(interpreter.get_signature_list()) == 1:
        runner = interpreter.get_signature_runner()
        return dict(runner.get_input_details()), dict(runner.get_output_details())
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    return {detail["name"]: detail for detail in inputs}, {detail["name"]: detail for detail in outputs}


def _to_tensor(row: np.ndarray, detail: dict) -> np.ndarray:
    scale, zero_point = detail["quantization"]
    if scale and np.issubdtype(row.dtype, np.floating):
        limits = np.iinfo(detail["dtype"])
        row = np.clip(np.round(row / scale) + zero_point, limits.min, limits.max)
    return np.ascontiguousarray(row, detail["dtype"])


def _from_tensor(value: np.ndarray, detail: dict) -> np.ndarray:
    scale, zero_point = detail["quantization"]
    return (value.astype("float32") - zero_point) * np.float32(scale) if scale else value


def _as_array(name: str, values) -> np.ndarray:
    try:
        array = np.asarray(values)
    except ValueError:  # sequences of different lengths
        array = np.empty(0, object)
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"`inputs` for {name!r} must hold real numbers in an array, and is of dtype {array.dtype}. Convert it, for "
            'instance with `np.asarray(rows, "float32")`.'
        )
    return array


def _named_inputs(inputs, details: dict[str, dict]) -> dict[str, np.ndarray]:
    if not isinstance(inputs, Mapping):
        if len(details) != 1:
            raise ValueError(
                f"`inputs` must be a dict with an array for each of the model's inputs {sorted(details)}, and is a "
                f"{type(inputs).__name__}. Give {{name: array, ...}}."
            )
        inputs = {next(iter(details)): inputs}
    inputs = {name: _as_array(name, array) for name, array in inputs.items()}
    if set(inputs) != set(details):
        raise ValueError(
            f"`inputs` has the names {sorted(inputs)}, and the model's inputs are {sorted(details)}. "
            "Give an array for each of them."
        )
    for name, array in inputs.items():
        expected = tuple(int(size) for size in details[name]["shape"][1:])
        if array.ndim == 0 or array.shape[1:] != expected:
            raise ValueError(
                f"`inputs` for {name!r} has the shape {array.shape}, and the model expects (rows, "
                f"{', '.join(map(str, expected))}). Reshape or resize it."
            )
    if len({len(array) for array in inputs.values()}) > 1:
        raise ValueError(
            f"`inputs` must have the same number of rows, and has { {k: len(v) for k, v in inputs.items()} }. "
            "Cut them to the same length."
        )
    return inputs


def run_tflite(
    path_or_bytes: str | os.PathLike | bytes,
    inputs: np.ndarray | Mapping[str, np.ndarray],
    *,
    threads: int = 1,
    runtime: str | None = None,
) -> np.ndarray | dict[str, np.ndarray]:
    """Run a .tflite model of batch 1 on every row of `inputs`.

    Args:
        path_or_bytes: the model, a file or its content.
        inputs: (rows, ...) array; for a model of several inputs a dict of them, keyed by the names in its signature.
            Floats are quantized where the model's input is.
        threads: number of threads.
        runtime: "ai-edge-litert", "tflite-runtime" or "tensorflow"; None for the first of them that is installed.

    Returns:
        (rows, ...) array, float where the model's output is quantized; for a model of several outputs a dict of them.

    Raises:
        ValueError: a file that is missing, truncated or no model; inputs of another shape or name; no runtime.

    Example:
        >>> run_tflite(b"", np.zeros((1, 2)))
        Traceback (most recent call last):
        ...
        ValueError: 'model' (0 bytes) must be a TensorFlow Lite model...
    """
    _check_positive("threads", threads, "Use 1 for a figure that can be compared.")
    data, name = _load(path_or_bytes)
    interpreter = _interpreter(data, name, _choose_runtime(runtime), threads)
    input_details, output_details = _details(interpreter)
    inputs = _named_inputs(inputs, input_details)
    rows = len(next(iter(inputs.values()))) if inputs else 1
    outputs = {
        key: np.empty((rows, *detail["shape"][1:]), "float32" if detail["quantization"][0] else detail["dtype"])
        for key, detail in output_details.items()
    }
    for row in range(rows):
        for key, detail in input_details.items():
            interpreter.set_tensor(detail["index"], _to_tensor(inputs[key][row : row + 1], detail))
        try:
            interpreter.invoke()
        except RuntimeError as error:
            raise ValueError(
                f"`inputs` must hold what {name!r} can compute with, and row {row} is refused: {str(error).strip()} "
                "Look at its values, for instance for an index that is out of range."
            ) from error
        for key, detail in output_details.items():
            outputs[key][row] = _from_tensor(interpreter.get_tensor(detail["index"]), detail)[0]
    return next(iter(outputs.values())) if len(outputs) == 1 else outputs


def _operators(interpreter) -> tuple[int, tuple[str, ...] | None]:
    """How many operators the model has, and the names of those that no delegate took (None if it cannot be told)."""
    if not hasattr(interpreter, "_get_ops_details"):
        return 0, None
    details = interpreter._get_ops_details()
    delegates = [detail for detail in details if detail["op_name"] == "DELEGATE"]
    operators = [detail for detail in details if detail["op_name"] != "DELEGATE"]
    # The list keeps the operators that a delegate replaced. They are those that lie between its outputs and inputs.
    producer = {tensor: detail for detail in operators for tensor in detail["outputs"].tolist()}
    taken = set()
    for delegate in delegates:
        given, wanted = set(delegate["inputs"].tolist()), delegate["outputs"].tolist()
        while wanted:
            tensor = wanted.pop()
            if tensor in producer and tensor not in given and producer[tensor]["index"] not in taken:
                taken.add(producer[tensor]["index"])
                wanted += producer[tensor]["inputs"].tolist()
    return len(operators), tuple(detail["op_name"] for detail in operators if detail["index"] not in taken)


def _described(operators: int, undelegated: tuple[str, ...] | None) -> str:
    if undelegated is None:
        return "not known"
    counts = {name: undelegated.count(name) for name in sorted(set(undelegated))}
    listed = ", ".join(f"{count} {name}" for name, count in counts.items())
    return f"{len(undelegated)} of {operators} operators" + (f" ({listed})" if listed else "")


def operators_outside_xnnpack(path_or_bytes: str | os.PathLike | bytes) -> str:
    """Which operators XNNPACK leaves to the interpreter's own, slower kernels, in words.

    Args:
        path_or_bytes: the model, a file or its content.

    Returns:
        For instance "43 of 382 operators (43 GATHER)", or "not known" with a runtime that cannot tell.

    Raises:
        ValueError: a file that is missing, truncated or no model; no runtime.
    """
    data, name = _load(path_or_bytes)
    return _described(*_operators(_interpreter(data, name, _choose_runtime(None), 1)))


@dataclasses.dataclass(frozen=True)
class TFLiteBenchmark:
    """What one run of `benchmark_tflite` measured.

    Attributes:
        model: the file's name.
        model_bytes: its size.
        runtime: "ai-edge-litert", "tflite-runtime" or "tensorflow".
        runtime_version: its version.
        threads: number of threads.
        runs: number of timed inferences of one row.
        median_ms: median of their times, milliseconds.
        minimum_ms: the shortest.
        spread_ms: the third quartile less the first.
        operators: number of operators of the model.
        undelegated: names of those that XNNPACK did not take, in the model's order; None where the runtime cannot tell.
    """

    model: str
    model_bytes: int
    runtime: str
    runtime_version: str
    threads: int
    runs: int
    median_ms: float
    minimum_ms: float
    spread_ms: float
    operators: int
    undelegated: tuple[str, ...] | None

    def __str__(self) -> str:
        outside = _described(self.operators, self.undelegated)
        rows = {
            "model": f"{self.model} ({self.model_bytes:,} bytes)",
            "runtime": f"{self.runtime} {self.runtime_version}, {self.threads} thread{'s' * (self.threads > 1)}",
            "latency": f"{self.median_ms:.3f} ms median of {self.runs} runs",
            "spread": f"{self.spread_ms:.3f} ms between the quartiles, {self.minimum_ms:.3f} ms minimum",
            "outside XNNPACK": outside,
        }
        return "\n".join(f"{key:<16}{value}" for key, value in rows.items())


def benchmark_tflite(
    path_or_bytes: str | os.PathLike | bytes,
    *,
    runs: int = 50,
    warmup: int = 10,
    threads: int = 1,
    runtime: str | None = None,
) -> TFLiteBenchmark:
    """Time a .tflite model on this machine, one row at a time, on random inputs (fixed seed).

    Args:
        path_or_bytes: the model, a file or its content.
        runs: number of timed inferences.
        warmup: number of inferences before them.
        threads: number of threads.
        runtime: "ai-edge-litert", "tflite-runtime" or "tensorflow"; None for the first of them that is installed.

    Returns:
        The times, what ran them, and which operators XNNPACK left to the interpreter's own, slower kernels; counted in
        the main graph, not inside the bodies of loops.

    Raises:
        ValueError: a file that is missing, truncated or no model; numbers that are not positive; no runtime.

    Example:
        >>> print(benchmark_tflite("condensenet86.tflite"))  # doctest: +SKIP
        model           condensenet86.tflite (2,208,440 bytes)
        runtime         ai-edge-litert 2.3.0, 1 thread
        latency         5.120 ms median of 50 runs
        spread          0.033 ms between the quartiles, 5.080 ms minimum
        outside XNNPACK 43 of 382 operators (43 GATHER)
    """
    _check_positive("runs", runs, "Use 50.")
    _check_positive("warmup", warmup, "Use 10: the first inferences are slower.")
    _check_positive("threads", threads, "Use 1 for a figure that can be compared.")
    data, name = _load(path_or_bytes)
    chosen = _choose_runtime(runtime)
    interpreter = _interpreter(data, name, chosen, threads)
    random = np.random.default_rng(0)
    for detail in interpreter.get_input_details():
        is_float = np.issubdtype(detail["dtype"], np.floating)
        values = random.uniform(-1, 1, detail["shape"]) if is_float else np.zeros(detail["shape"])
        interpreter.set_tensor(detail["index"], values.astype(detail["dtype"]))
    times = []
    for _ in range(warmup + runs):
        start = time.perf_counter()
        try:
            interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                f"{name!r} must be a model that can compute with zeros and small random numbers, and can't: "
                f"{str(error).strip()} Export it again."
            ) from error
        times.append(1e3 * (time.perf_counter() - start))
    quartiles = np.percentile(times[warmup:], (25, 50, 75))
    operators, undelegated = _operators(interpreter)
    return TFLiteBenchmark(
        model=name,
        model_bytes=len(data),
        runtime=chosen,
        runtime_version=RUNTIMES[chosen].version(),
        threads=int(threads),
        runs=int(runs),
        median_ms=float(quartiles[1]),
        minimum_ms=float(min(times[warmup:])),
        spread_ms=float(quartiles[2] - quartiles[0]),
        operators=operators,
        undelegated=undelegated,
    )


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(benchmark_tflite(argument))
