"""Runs a function that uses tensorflow-model-optimization in a process of its own, and exchanges arrays with it.

Importing it makes `tf.keras` mean tf_keras for the whole process, and no other test should see that.

    def quantized(arrays, folder):            # in a module of the tests, at its top level
        import tensorflow_model_optimization as tfmot
        ...
        return {"ranges": ...}

    ranges = in_tfmot_process(quantized, {"images": images}, folder=tmp_path)["ranges"]

The function gets the arrays and a folder, where the calling test may have saved models (`.keras`) and finds what the
function saved. It imports tensorflow-model-optimization itself, inside; its module is imported there, too.
"""

import importlib
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent


def in_tfmot_process(
    function: Callable[[dict[str, np.ndarray], pathlib.Path], dict[str, np.ndarray]],
    arrays: dict[str, np.ndarray],
    folder: pathlib.Path,
    timeout: float = 300,
) -> dict[str, np.ndarray]:
    """What `function(arrays, folder)` returns, computed in another process.

    Args:
        function: at the top level of a module in `tests/`.
        arrays: what it gets.
        folder: an existing folder for the exchange.
        timeout: seconds until the process is ended.

    Raises:
        AssertionError: it failed; the text is what it wrote.
    """
    np.savez(folder / "given.npz", **arrays)
    paths = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"TF_USE_LEGACY_KERAS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, __file__, function.__module__, function.__name__, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-6000:]}"
    with np.load(folder / "returned.npz") as returned:
        return dict(returned)


def main(module: str, function: str, folder: str) -> None:
    with np.load(pathlib.Path(folder, "given.npz")) as given:
        arrays = dict(given)
    returned = getattr(importlib.import_module(module), function)(arrays, pathlib.Path(folder))
    np.savez(pathlib.Path(folder, "returned.npz"), **returned)


if __name__ == "__main__":
    main(*sys.argv[1:])
