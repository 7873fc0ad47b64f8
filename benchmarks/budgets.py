"""Learned groups within a budget in networks of keras.applications: the share that was predicted, and the one counted.

Weights are random, so that what is read by nobody is what chance leaves; every layer is condensed at once by magnitude.
Predictions are those of `explain_learn_groups`, from tables of costs; counts are of the files that are exported.

    python benchmarks/budgets.py --counter "python arm_cost.py count"
"""

import argparse
import os
import pathlib
import tempfile
import time

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from common import RESULTS, conditions, print_rows, read_rows, write_rows
from operator_costs import counted
from rich.progress import track

import keras_condense as kc

NETWORKS = ("MobileNet", "MobileNetV2", "ResNet50", "EfficientNetB0")
SIZE, BUDGET, TARGET = 96, 0.6, "arm64"


def million_instructions(command: str, model: keras.Model) -> float:
    """Of the model's file, as it is exported for the target."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "network.tflite")
        kc.export_tflite(model, path, target=TARGET, verify=False)
        return counted(command, path) / 1e6


def measured(name: str, budget: float, counter: str) -> dict:
    """A row of the table: what was predicted for a network, and what its files take."""
    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, name)(weights=None, input_shape=(SIZE, SIZE, 3))
    start = time.perf_counter()
    layers = kc.explain_learn_groups(model, budget=budget, target=TARGET)
    seconds = time.perf_counter() - start
    small = kc.condense(kc.learn_groups(model, budget=budget, target=TARGET), finish=True)
    now, after = million_instructions(counter, model), million_instructions(counter, small)
    return {
        "network": name,
        "input": f"{SIZE}x{SIZE}",
        "target": TARGET,
        "budget": budget,
        "layers_learned": len(layers.learned),
        "layers_left": len(layers.left),
        "seconds": f"{seconds:.1f}",
        "predicted_million_instructions": f"{layers.now:.1f}",
        "predicted_condensed": f"{layers.after:.1f}",
        "counted_million_instructions": f"{now:.1f}",
        "counted_condensed": f"{after:.1f}",
        "predicted_share": f"{layers.share:.3f}",
        "counted_share": f"{after / now:.3f}",
        "difference": f"{layers.share / (after / now) - 1:+.1%}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counter", required=True, help="command that counts instructions, see operator_costs.py")
    parser.add_argument("--networks", nargs="+", default=NETWORKS, help="of keras.applications (default: %(default)s)")
    parser.add_argument(
        "--budget", type=float, default=BUDGET, help="the share that may be left (default: %(default)s)"
    )
    arguments = parser.parse_args()
    rows = [
        measured(name, arguments.budget, arguments.counter)
        for name in track(arguments.networks, description="networks")
    ]
    path = RESULTS / "budgets.csv"
    kept = [row for row in read_rows(path) if row["network"] not in arguments.networks]
    beside = conditions(threads=1, packages=("keras-condense", "keras", "tensorflow", "ai-edge-litert"))
    write_rows(path, kept + [row | beside for row in rows])
    print_rows(rows, str(path))


if __name__ == "__main__":
    main()
