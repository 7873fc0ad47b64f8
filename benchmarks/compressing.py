"""One trained network made smaller in each way, with the same training after it: error, bytes, instructions, time.

The parent is MobileNetV2 of width 0.5 or CondenseNet-50, on CIFAR-10 (`compression_parent.py`). Each method of
`compression_methods.py` goes on from its weights for as many epochs, by one recipe. Errors are those of the files on
the 10,000 test images, which nothing else looks at. Times are of the file and the parent's float32 file, in turn, in
one run.

Training goes on where it was stopped; what stands in compression.csv is not trained again. `--measure` counts and times
the files that are there, and trains nothing.

    python benchmarks/compressing.py --threads 2
    python benchmarks/compressing.py --threads 2 --parent CondenseNet-50
    python benchmarks/compressing.py --measure --counter "python arm_cost.py count"
"""

import argparse
import dataclasses
import os
import pathlib
import statistics
from collections.abc import Callable, Iterable

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from common import RESULTS, ROOT, conditions, print_rows, read_rows, write_rows
from compression_methods import METHODS, OF_CONDENSED, SHORT_TUNING, TUNING, Setting
from compression_parent import EPOCHS as PARENT_EPOCHS
from compression_parent import arrays, trained, trained_condensenet
from operator_costs import counted

import keras_condense as kc
from keras_condense.training import Recipe

PACKAGES = ("keras-condense", "keras", "tensorflow", "ai-edge-litert", "tensorflow-model-optimization")
ROUNDS = 15
TABLE = RESULTS / "compression.csv"


@dataclasses.dataclass(frozen=True)
class Parent:
    """A network that is compressed.

    Attributes:
        trained: makes it, of a seed, a folder for its run and the folder of the data.
        epochs: that it was trained for.
        tuning: the training of every method.
        methods: those that suit it.
        folder: of its runs, in that of all.
    """

    trained: Callable[[int, pathlib.Path, str | None], keras.Model]
    epochs: int
    tuning: Recipe
    methods: Iterable[str]
    folder: str = "."


PARENTS = {
    "MobileNetV2 0.5": Parent(trained, PARENT_EPOCHS, TUNING, METHODS),
    "CondenseNet-50": Parent(trained_condensenet, 60, SHORT_TUNING, OF_CONDENSED, "CondenseNet_50"),
}


def short(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)


def folder_of(seed: int, arguments: argparse.Namespace) -> pathlib.Path:
    return arguments.runs / PARENTS[arguments.parent].folder / f"seed{seed}"


def made(name: str, seed: int, arguments: argparse.Namespace) -> dict:
    """Train by a method, write its file, and give the figures that need no counter and no quiet machine."""
    runs = folder_of(seed, arguments)
    runs.mkdir(parents=True, exist_ok=True)
    parent = PARENTS[arguments.parent].trained(seed, runs / "parent", arguments.data_dir)
    data = arrays(seed, arguments.data_dir)
    setting = Setting(data, runs / short(name), seed, arguments.data_dir, PARENTS[arguments.parent].tuning)
    model, export = METHODS[name](parent, setting)
    path = runs / f"{short(name)}.tflite"
    kc.export_tflite(model, path, **export)
    scores = kc.run_tflite(path, data.normalize(data.test_images))
    small = kc.condense(model)
    coded = kc.coded_size(path)
    return {
        "test_error": f"{100 * (scores.argmax(axis=1) != data.test_labels).mean():.2f}",
        "parameters": sum(int(np.count_nonzero(weight)) for weight in small.trainable_weights),  # zeros are none
        "macs": kc.profile_model(small).macs,
        "file_bytes": coded.stored,
        "zipped_bytes": coded.zipped,
        "entropy_coded_bytes": coded.entropy,
    }


def measured(name: str, seed: int, arguments: argparse.Namespace) -> dict:
    """Instructions of a method's file, and its time beside the parent's, one after the other in each round."""
    files = [folder_of(seed, arguments) / f"{short(each)}.tflite" for each in ("parent", name)]
    rounds = [[kc.benchmark_tflite(file, runs=50, warmup=10).median_ms for file in files] for _ in range(ROUNDS)]
    of_parent, of_file = (statistics.median(times) for times in zip(*rounds, strict=True))
    instructions = f"{counted(arguments.counter, files[1]) / 1e6:.3f}" if arguments.counter else ""
    return {
        "million_instructions": instructions,
        "milliseconds": f"{of_file:.4f}",
        "time_to_parent": f"{of_file / of_parent:.3f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="of tensorflow-datasets (default: ~/tensorflow_datasets)")
    parser.add_argument("--parent", choices=PARENTS, default=next(iter(PARENTS)), help="default: %(default)s")
    parser.add_argument("--methods", nargs="+", choices=METHODS, help="by name (default: all that suit the parent)")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each (default: %(default)s)")
    parser.add_argument("--first-seed", type=int, default=0, help="they go on from it (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="of the training (default: one for each core)")
    parser.add_argument("--measure", action="store_true", help="count and time files, and train nothing")
    parser.add_argument("--counter", help="command that counts instructions, see operator_costs.py; left out without")
    parser.add_argument("--runs", type=pathlib.Path, default=ROOT / "runs" / "compression", help="of the checkpoints")
    arguments = parser.parse_args()
    if arguments.threads:
        tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
    parent = PARENTS[arguments.parent]
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        for name in arguments.methods or parent.methods:
            key = {"network": arguments.parent, "method": name, "seed": str(seed)}
            rows = read_rows(TABLE)
            row = next((row for row in rows if row.items() >= key.items()), None)
            if (row is None) == arguments.measure:
                continue
            keras.utils.clear_session()
            others = [other for other in rows if other is not row]
            if row is None:
                settings = {"parent_epochs": parent.epochs, "epochs": parent.tuning.epochs}
                unknown = dict.fromkeys(("million_instructions", "milliseconds", "time_to_parent"), "")
                row = key | settings | made(name, seed, arguments) | unknown
            else:
                row = row | measured(name, seed, arguments)
            write_rows(TABLE, [*others, row | conditions(threads=1, packages=PACKAGES)])
    print_rows(read_rows(TABLE), str(TABLE), width=200)


if __name__ == "__main__":
    main()
