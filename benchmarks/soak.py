"""Kills one of two processes that train together, at random moments, and looks whether anything is lost.

    python benchmarks/soak.py --kills 100

Each run is killed several times, started again each time, and must end with the log and the weights of an unbroken one,
to the last bit; after every kill its checkpoint must be that of the unbroken run at the same batch. Two processes on
this machine's CPU, with JAX; `results/soak.csv` has a row for each kill. Everything that processes import is imported
once, before they are forked.
"""

import argparse
import csv
import io
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator

os.environ |= {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")  # compiling takes longer than the training

import h5py
import jax
import keras
import numpy as np
from common import write_results

import keras_condense as kc

sys.modules["tensorflow"] = None  # which Keras would import in each process, to set its seed

KILLS_OF_A_RUN = 4
SAVE_FREQ = 5
PATIENCE = 60.0  # seconds in which a process must end when the other one is killed


class KeepCheckpoints(keras.callbacks.Callback):
    """Copies every checkpoint of a run, named by where it was written."""

    def __init__(self, checkpoint: pathlib.Path, folder: pathlib.Path):
        super().__init__()
        self._checkpoint, self._folder = checkpoint, folder

    def on_train_batch_begin(self, batch, logs=None):
        if self._checkpoint.exists():
            shutil.copy(self._checkpoint, self._folder / f"{place(self._checkpoint)}.keras")


def train(folder: pathlib.Path, epochs: int, number: int, port: int, kept: pathlib.Path | None) -> None:
    """What each of two processes does: a run in which CondenseNet drops connections and units."""
    with kc.training.process_group(f"localhost:{port}", 2, number, timeout=PATIENCE):
        keras.utils.set_random_seed(0)
        data = kc.datasets.load_arrays("digits", batch_size=90, image_size=8, validation_fraction=0.07)
        options = {"groups": 2, "condense_factor": 2, "stem_strides": 1, "dropout_rate": 0.1, "classes": 10}
        model = kc.applications.CondenseNet((1,), (4,), input_shape=data.image_shape, **options)
        keep = [KeepCheckpoints(folder / "checkpoint.keras", kept)] if kept and not number else []
        options = {"epochs": epochs, "learning_rate": 0.05, "save_freq": SAVE_FREQ, "callbacks": keep}
        kc.training.train(model, data, folder, resume=True, verbose=0, **options)


def start(folder: pathlib.Path, epochs: int, kept: pathlib.Path | None = None) -> list[int]:
    """The process ids of two processes that train in `folder`, in which each writes what it says."""
    with socket.socket() as one:
        one.bind(("localhost", 0))
        port = one.getsockname()[1]
    found = []
    for number in range(2):
        pid = os.fork()
        if pid:
            found.append(pid)
            continue
        with open(folder.with_name(f"{folder.name}-{number}.txt"), "a") as said:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
        try:
            train(folder, epochs, number, port, kept)
            os._exit(0)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", flush=True)
            os._exit(1)
    return found


def ended(pid: int, patience: float) -> int | None:
    """The status of a process that ends within so many seconds; None of one that does not, which is killed."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        if (status := os.waitpid(pid, os.WNOHANG))[0]:
            return status[1]
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def place(checkpoint: pathlib.Path) -> str:
    """Where a checkpoint was written: epochs and steps."""
    with zipfile.ZipFile(checkpoint) as archive:
        progress = json.loads(archive.read("progress.json"))
    return f"{progress['epochs']}-{progress['steps']}"


def weights(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Every number that a `.keras` file holds, the optimizer's too."""
    found: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
        file.visititems(lambda name, item: found.update({name: item[()]} if isinstance(item, h5py.Dataset) else {}))
    return found


def same(first: pathlib.Path, second: pathlib.Path) -> bool:
    """Whether two files hold the same weights, to the last bit."""
    ours, theirs = weights(first), weights(second)
    return ours.keys() == theirs.keys() and all(np.array_equal(ours[name], theirs[name]) for name in ours)


def log(folder: pathlib.Path) -> list[list[str]]:
    """The rows of a run's log, without what they took."""
    with open(folder / "log.csv", newline="") as file:
        return [row[:-1] for row in csv.reader(file)]


def soak(folder: pathlib.Path, kills: int, epochs: int, seed: int) -> Iterator[dict]:
    """Kill `kills` times; a row for each.

    Raises:
        RuntimeError: a process failed by itself, hung, or a run ended otherwise than the unbroken one.
    """
    jax.config.update("jax_compilation_cache_dir", str(folder / "cache"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    chance, kept, unbroken = random.Random(seed), folder / "kept", folder / "unbroken"
    kept.mkdir()
    _finish(start(unbroken, epochs, kept), unbroken)  # compiles
    began = time.monotonic()
    _finish(start(folder / "timed", epochs), folder / "timed")
    whole = time.monotonic() - began
    for run in range(-(-kills // KILLS_OF_A_RUN)):
        current, left = folder / f"run{run}", min(KILLS_OF_A_RUN, kills - run * KILLS_OF_A_RUN)
        while left:
            row = _kill(current, epochs, chance, whole)
            if row is None:  # it was done before: again, and sooner
                shutil.rmtree(current)
                whole *= 0.8
                continue
            left -= 1
            checkpoint = current / "checkpoint.keras"
            row["checkpoint"] = place(checkpoint) if checkpoint.exists() else "none"
            wanted = kept / f"{row['checkpoint']}.keras"
            if checkpoint.exists() and wanted.name != f"{epochs}-0.keras" and not same(checkpoint, wanted):
                raise RuntimeError(f"The checkpoint {row['checkpoint']} of {current} differs from the unbroken run's.")
            yield {"run": run, **row}
        _finish(start(current, epochs), current)
        if log(current) != log(unbroken) or not same(current / "model.keras", unbroken / "model.keras"):
            raise RuntimeError(f"{current} ended otherwise than the unbroken run.")


def _finish(processes: list[int], folder: pathlib.Path) -> None:
    statuses = [ended(pid, 10 * PATIENCE) for pid in processes]
    if any(status != 0 for status in statuses):
        said = [folder.with_name(f"{folder.name}-{number}.txt").read_text()[-2000:] for number in range(2)]
        raise RuntimeError(f"Processes ended with {statuses}, after saying {said}")


def _kill(folder: pathlib.Path, epochs: int, chance: random.Random, whole: float) -> dict | None:
    """Start a run and kill one of its processes; None where both were done before."""
    processes, number, after = start(folder, epochs), chance.randrange(2), chance.uniform(0, whole)
    until = time.monotonic() + after
    while time.monotonic() < until:
        time.sleep(0.005)
    os.kill(processes[number], signal.SIGKILL)
    if os.waitpid(processes[number], 0)[1] == 0:
        ended(processes[1 - number], PATIENCE)
        return None
    began = time.monotonic()
    status = ended(processes[1 - number], 2 * PATIENCE)
    if status is None:
        raise RuntimeError(f"Process {1 - number} of {folder} did not end within {2 * PATIENCE} s of the other one.")
    waited = time.monotonic() - began
    return {"process": number, "killed_after_s": f"{after:.2f}", "other_ended_after_s": f"{waited:.2f}"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, metavar="N", help="default: %(default)s")
    parser.add_argument("--epochs", type=int, default=10, metavar="N", help="of each run (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the moments and processes")
    parser.add_argument("--dry-run", action="store_true", help="write nothing")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for row in soak(pathlib.Path(folder), arguments.kills, arguments.epochs, arguments.seed):
            rows.append(row)
            print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    if not arguments.dry_run:
        print(write_results("soak", rows, threads=1, packages=("jax", "keras", "numpy")))
    print(f"{len(rows)} kills, and every run ended like the unbroken one")
    return 0


if __name__ == "__main__":
    sys.exit(main())
