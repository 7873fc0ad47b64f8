"""Outputs of a .tflite model."""

import os
from collections.abc import Mapping

import numpy as np

from .files import load_file
from .interpreters import check_positive, choose_runtime, make_interpreter

__all__ = ["run_tflite", "tensors_of"]


def _details(interpreter) -> tuple[dict[str, dict], dict[str, dict]]:
    """Input and output tensors by name: the signature's names if the file has exactly one, else the tensors'."""
    if len(interpreter.get_signature_list()) == 1:
        runner = interpreter.get_signature_runner()
        return dict(runner.get_input_details()), dict(runner.get_output_details())
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    return {detail["name"]: detail for detail in inputs}, {detail["name"]: detail for detail in outputs}


def tensors_of(path_or_bytes: str | os.PathLike | bytes) -> tuple[dict[str, dict], dict[str, dict]]:
    """Input and output tensors of a .tflite model by name, as interpreters describe them: "shape", "dtype", ...

    Raises:
        ValueError: a file that is missing, truncated or no model; no runtime.
    """
    data, name = load_file(path_or_bytes)
    return _details(make_interpreter(data, name, choose_runtime(None), 1))


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
        if array.dtype == np.uint8 and np.issubdtype(details[name]["dtype"], np.floating):
            raise ValueError(
                f"`inputs` for {name!r} are pixels of uint8, and the model takes {np.dtype(details[name]['dtype'])}. "
                "Normalize them as it was trained (`load_card(path).inputs(pixels)`), export it with "
                "preprocessing='inside', or, if it does so itself, convert them with `astype('float32')`."
            )
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
        ValueError: a file that is missing, truncated or no model; inputs of another shape or name; outputs that are not
            one row for one row of inputs; no runtime.

    Example:
        >>> run_tflite(b"", np.zeros((1, 2)))
        Traceback (most recent call last):
        ...
        ValueError: 'model' (0 bytes) must be a TensorFlow Lite model...
    """
    check_positive("threads", threads, "Use 1 for a figure that can be compared.")
    data, name = load_file(path_or_bytes)
    interpreter = make_interpreter(data, name, choose_runtime(runtime), threads)
    input_details, output_details = _details(interpreter)
    for key, detail in output_details.items():
        if len(detail["shape"]) == 0 or detail["shape"][0] != 1:
            raise ValueError(
                f"{name!r} must give one row for one row of inputs, and its output {key!r} has the shape "
                f"{tuple(map(int, detail['shape']))}. Let the model keep the batch axis."
            )
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
