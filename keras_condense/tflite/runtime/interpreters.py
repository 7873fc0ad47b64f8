"""The packages that run .tflite files, and interpreters made by one of them."""

import dataclasses
import importlib.metadata
import importlib.util
import warnings
from typing import Any

import numpy as np

from .native_output import native_output_logged

__all__ = ["RUNTIMES", "Runtime", "check_positive", "choose_runtime", "make_interpreter"]


@dataclasses.dataclass(frozen=True)
class Runtime:
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
    "ai-edge-litert": Runtime("ai_edge_litert.interpreter", "ai-edge-litert"),
    "tflite-runtime": Runtime("tflite_runtime.interpreter", "tflite-runtime"),
    "tensorflow": Runtime("tensorflow", None),
}


def check_positive(name: str, value: int, fix: str) -> None:
    """Raise ValueError unless `value` is a positive integer that native code can hold; `fix` says what to give."""
    is_integer = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not is_integer or not 1 <= value < 2**31:
        given = repr(value) if not is_integer or abs(value) < 2**64 else "a huge integer"
        raise ValueError(f"`{name}` (={given[:200]}) must be a positive integer below 2**31. {fix}")


def choose_runtime(runtime: str | None) -> str:
    """The runtime of that name, or the first that is installed; ValueError if there is none."""
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


def make_interpreter(data: bytes, name: str, runtime: str, threads: int) -> Any:
    """An interpreter of a model's content, its tensors allocated; ValueError if the runtime refuses `name`."""
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
