"""Does something with files in a process of its own, since native code may crash it or never return.

`outcomes` starts it; as a program it takes the name of an action, the seconds that a file may take, and a file that
lists the files.
"""

import contextlib
import faulthandler
import json
import os
import pathlib
import subprocess
import sys
import time


def read_tflite(path: str) -> str:
    """Run a model once, as `run_tflite` and `benchmark_tflite` do."""
    import importlib.util

    if "runtime" not in sys.modules:  # alone, as a device runs it: without TensorFlow it starts at once
        sys.path.append(str(pathlib.Path(importlib.util.find_spec("keras_condense").origin).parent / "tflite"))
    import runtime

    runtime.benchmark_tflite(path, runs=1, warmup=1)
    return "ran"


def read_image(path: str) -> str:
    """Look at an image's header, as a folder's are before all, and decode it."""
    from keras_condense.datasets import decoding

    size = decoding.header_size(path)
    try:
        image = decoding.read_image(path)
    except ValueError as error:
        if repr(path) not in str(error):
            raise AssertionError(f"{error} names no file") from error
        raise ValueError("`broken`") from error
    if size is None or image.shape != (*size, 3):
        raise AssertionError(f"{image.shape} after {size}")
    return f"{image.shape} {image.mean():.0f}"


def read_keras(path: str) -> str:
    """Load a model and name what came."""
    import numpy as np

    from keras_condense.saving import load_model

    model = load_model(path)
    return f"{sum(float(np.abs(np.asarray(weight, 'float64')).sum()) for weight in model.weights):.6g}"


ACTIONS = {"tflite": read_tflite, "image": read_image, "keras": read_keras}


def outcomes(action: str, paths: list[pathlib.Path], folder: pathlib.Path, seconds: float = 10) -> dict[str, str]:
    """Return what became of each file: "ok: ...", "ValueError: ...", "crash: ..." or "too slow"."""
    found = {}
    waiting = [str(path) for path in paths]
    while waiting:
        listing, results = folder / "listing.json", folder / "results.jsonl"
        listing.write_text(json.dumps(waiting))
        code = _run(action, seconds, listing, results, timeout=120 + seconds * len(waiting))
        done = [json.loads(line) for line in results.read_text().splitlines()]
        found |= dict(done)
        waiting = waiting[len(done) :]
        if waiting:  # the process ended within the next one
            found[waiting.pop(0)] = "too slow" if code == 1 else f"crash: {code}"
    return found


def _run(action: str, seconds: float, listing: pathlib.Path, results: pathlib.Path, timeout: float) -> int:
    """The exit code of this program in a process of its own: forked, or without TensorFlow if it needs none."""
    if action != "tflite":
        import forked  # of the tests, not beside this program

        places = {"folder": listing.parent, "output": results, "errors": os.devnull}
        return forked.run(__file__, action, seconds, listing, timeout=timeout, **places)
    command = [sys.executable, __file__, action, str(seconds), str(listing)]
    with open(results, "w") as output:
        done = subprocess.run(command, stdout=output, stderr=subprocess.DEVNULL, timeout=timeout, check=False)
    return done.returncode


def main(action: str, seconds: str, listing: str) -> None:
    """Run the action on every file, a line of JSON for each."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with contextlib.suppress(Exception):  # import what the action needs before the clock runs
        ACTIONS[action](os.devnull)
    for path in json.loads(pathlib.Path(listing).read_text()):
        faulthandler.dump_traceback_later(float(seconds), exit=True)
        start = time.perf_counter()
        try:
            outcome = f"ok: {ACTIONS[action](path)}"
        except Exception as error:
            outcome = f"{type(error).__name__}: {' '.join(str(error).split())}"
        faulthandler.cancel_dump_traceback_later()
        if time.perf_counter() - start > float(seconds):
            outcome = "too slow"
        print(json.dumps([path, outcome]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
