"""How long a .tflite model takes, and which of its operators XNNPACK executes."""

import dataclasses
import os
import time

import numpy as np

from .files import load_file
from .interpreters import RUNTIMES, check_positive, choose_runtime, make_interpreter

__all__ = ["TFLiteBenchmark", "benchmark_tflite", "operators_outside_xnnpack"]


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
    data, name = load_file(path_or_bytes)
    return _described(*_operators(make_interpreter(data, name, choose_runtime(None), 1)))


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
    check_positive("runs", runs, "Use 50.")
    check_positive("warmup", warmup, "Use 10: the first inferences are slower.")
    check_positive("threads", threads, "Use 1 for a figure that can be compared.")
    data, name = load_file(path_or_bytes)
    chosen = choose_runtime(runtime)
    interpreter = make_interpreter(data, name, chosen, threads)
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
