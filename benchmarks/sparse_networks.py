"""Networks of keras.applications with sparse 1x1 kernels beside their dense selves: instructions, loads, stores, times.

Weights are random and batch norms hold the statistics of noise, as in `learn_groups.py`. Kernels are sparse by learned
groups, condensed by magnitude, or by pruning 1x1 weights of plain layers, one by one or in pairs of neighbouring
filters. In trained networks groups agree more on what they need: then fewer channels are read, and less is computed.

Instructions, loads and stores are those of an emulated core where a counter is given: no phone was timed. The times are
this machine's, of the files that `export_tflite` makes for x86_64, and those of pages, where a timer is given, of the
files for wasm; both files of a network run in turn.

    python benchmarks/sparse_networks.py --counter "python arm_cost.py count"
    python benchmarks/sparse_networks.py --timer "node benchmarks/web_time.mjs FOLDER"
"""

import argparse
import dataclasses
import os
import pathlib
import statistics
import tempfile
from collections.abc import Callable

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from common import print_rows, write_results
from learn_groups import SHAPE, gather_statistics, outputs, randomized
from operator_costs import printed
from phone_networks import difference
from rich.progress import track

import keras_condense as kc
from keras_condense.tflite import benchmark_tflite

ROUNDS, RUNS = 5, 15


@dataclasses.dataclass(frozen=True)
class Sparse:
    """How a network's 1x1 kernels become sparse: by learned groups, or by leaving out small weights.

    Attributes:
        network: of keras.applications.
        groups: of the learned groups, and their condense factor; 0 for none.
        pruned: the share of weights left out.
        together: neighbouring filters that keep the same inputs.
    """

    network: str
    groups: int = 0
    pruned: float = 0.0
    together: int = 1

    def __str__(self) -> str:
        if self.groups:
            return f"{self.network}, learned groups, G = C = {self.groups}"
        how = "one by one" if self.together == 1 else f"in groups of {self.together} filters"
        return f"{self.network}, {self.pruned:.0%} of 1x1 weights pruned {how}"

    def made(self, images: np.ndarray) -> keras.Model:
        model = randomized(self.network)
        gather_statistics(model, images)
        if not self.groups:
            prune(model, self.pruned, self.together)
            return model
        learning = kc.learn_groups(model, groups=self.groups, condense_factor=self.groups)
        for layer in kc.layers.condensable_layers(learning):
            layer.condense_to(layer.final_stage)
        gather_statistics(learning, images)
        return kc.condense(learning)


NETWORKS = (
    Sparse("MobileNetV2", groups=4),
    Sparse("MobileNet", groups=4),
    Sparse("MobileNet", groups=8),
    Sparse("MobileNet", pruned=0.9),
    Sparse("MobileNet", pruned=0.9, together=2),
    Sparse("MobileNetV3Small", groups=4),
    Sparse("MobileNetV3Large", groups=4),
    Sparse("EfficientNetB0", groups=4),
    Sparse("EfficientNetV2B0", groups=4),
)


def prune(model: keras.Model, share: float, together: int) -> None:
    """Leave out the least weights of each 1x1 convolution of an image."""
    for layer in model.layers:
        plain = type(layer) is keras.layers.Conv2D and layer.kernel_size == (1, 1)
        if not plain or tuple(layer.output.shape[1:3]) == (1, 1):
            continue
        kernel, *bias = layer.get_weights()
        importance = np.abs(kernel[0, 0]).reshape(kernel.shape[2], -1, together).sum(axis=2)
        kept = np.repeat(importance >= np.quantile(importance, share), together, axis=1)
        layer.set_weights([kernel * kept, *bias])


def printed_of(command: str, content: bytes) -> list[str]:
    """The words that a command prints of a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "network.tflite")
        path.write_bytes(content)
        return printed(command, path)


def counts(command: str | None, content: bytes) -> dict[str, float]:
    """Millions of instructions, and of loads and stores where the counter prints them as fifth and sixth word."""
    if command is None:
        return {}
    line = printed_of(command, content)
    places = {"instructions": 1, "loads": 4, "stores": 5}
    return {name: float(line[place]) for name, place in places.items() if place < len(line)}


def times(files: dict[str, bytes], milliseconds: Callable[[bytes], float], where: str = "") -> dict:
    """Columns of the median times of rounds in which each file runs once."""
    taken: dict[str, list[float]] = {name: [] for name in files}
    for _ in range(ROUNDS):
        for name, content in files.items():
            taken[name].append(milliseconds(content))
    of_dense, of_sparse = (statistics.median(taken[name]) for name in ("dense", "sparse"))
    columns = {"ms_dense": f"{of_dense:.2f}", "ms": f"{of_sparse:.2f}", "time_ratio": f"{of_sparse / of_dense:.3f}"}
    return {where + name: value for name, value in columns.items()}


def measured(network: Sparse, counter: str | None, timer: str | None) -> dict:
    """A row of the table."""
    images = np.random.default_rng(1).uniform(0, 255, (4, *SHAPE)).astype("float32")
    model = network.made(images)
    dense = getattr(keras.applications, network.network)(weights=None, input_shape=SHAPE, classifier_activation=None)
    files = {"dense": kc.export_tflite(dense, verify=False), "sparse": kc.export_tflite(model)}
    row = {
        "network": str(network),
        "difference": difference(kc.run_tflite(files["sparse"], images), outputs(model, images)),
        "file_bytes_dense": len(files["dense"]),
        "file_bytes": len(files["sparse"]),
    }
    counted = {name: counts(counter, content) for name, content in files.items()}
    for what in counted["sparse"]:
        row |= {f"million_{what}_dense": f"{counted['dense'][what]:.1f}"}
        row |= {f"million_{what}": f"{counted['sparse'][what]:.1f}"}
    if counter:
        row["instruction_ratio"] = f"{counted['sparse']['instructions'] / counted['dense']['instructions']:.3f}"
    files["sparse"] = kc.export_tflite(model, target="x86_64", verify=False)
    row |= times(files, lambda content: benchmark_tflite(content, runs=RUNS).median_ms)
    if timer:
        files["sparse"] = kc.export_tflite(model, target="wasm", verify=False)
        row |= times(files, lambda content: float(printed_of(timer, content)[1]), "web_")
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counter", help="command that counts instructions, see operator_costs.py; left out without")
    parser.add_argument("--timer", help="command that times files in a page's runtime; left out without")
    arguments = parser.parse_args()
    rows = [
        measured(network, arguments.counter, arguments.timer) for network in track(NETWORKS, description="networks")
    ]
    packages = ("keras-condense", "keras", "tensorflow", "ai-edge-litert")
    path = write_results("sparse_networks", rows, threads=1, packages=packages)
    print_rows(rows, str(path), width=200)


if __name__ == "__main__":
    main()
