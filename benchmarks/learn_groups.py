"""Learned groups put into networks of keras.applications: what they save, how exactly, and how long it takes.

Weights are random, batch norms hold the statistics of the images; every 1x1 convolution that can learns groups,
G = C = 4, and is condensed at once by magnitude: sizes and multiply-adds do not depend on the training.

    python benchmarks/learn_groups.py --counter "python arm_cost.py count"
"""

import argparse
import os
import pathlib
import statistics
import tempfile
import time

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from common import write_results
from operator_costs import counted
from phone_networks import difference
from rich.console import Console
from rich.progress import track
from rich.table import Table

import keras_condense as kc

NETWORKS = ("MobileNetV2", "ResNet50", "DenseNet121", "EfficientNetV2B0")
SHAPE = (224, 224, 3)


def randomized(name: str) -> keras.Model:
    """A network of keras.applications whose batch norms scale and shift at random, some with negative scales.

    The scales are small, for deep random networks of scales about 1 amplify rounding a hundredfold.
    """
    model = getattr(keras.applications, name)(weights=None, input_shape=SHAPE, classifier_activation=None)
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            channels = layer.gamma.shape[0]
            layer.gamma.assign(random.uniform(0.2, 0.5, channels) * random.choice([-1, 1], channels, p=[0.2, 0.8]))
            layer.beta.assign(random.normal(0, 0.3, channels))
    return model


def gather_statistics(model: keras.Model, images: np.ndarray) -> None:
    """Give batch norms the statistics of these images, as training does; else signals die out on their way."""
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    model(images, training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def outputs(model: keras.Model, images: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(images, training=False))


def million_instructions(command: str | None, content: bytes) -> str:
    if command is None:
        return ""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "network.tflite")
        path.write_bytes(content)
        return f"{counted(command, path) / 1e6:.1f}"


def measured(name: str, runs: int, counter: str | None) -> dict:
    """A row of the table: the network before, with learned groups, condensed, and as a file."""
    images = np.random.default_rng(1).uniform(0, 255, (4, *SHAPE)).astype("float32")
    model = randomized(name)
    gather_statistics(model, images)
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        learning = kc.learn_groups(model)
        seconds.append(time.perf_counter() - start)
    layers = kc.explain_learn_groups(model)
    before_training = difference(outputs(learning, images), outputs(model, images))
    for layer in kc.layers.condensable_layers(learning):
        layer.condense_to(layer.final_stage)
    gather_statistics(learning, images)
    masked, small = outputs(learning, images), kc.condense(learning)
    before, after = kc.profile_model(model), kc.profile_model(small)
    dense_file, file = kc.export_tflite(model), kc.export_tflite(small)
    return {
        "network": name,
        "layers_learned": len(layers.learned),
        "layers_left": len(layers.left),
        "parameters": before.parameters,
        "parameters_condensed": after.parameters,
        "macs": before.macs,
        "macs_condensed": after.macs,
        "macs_ratio": f"{after.macs / before.macs:.3f}",
        "difference_before_training": before_training,
        "difference_condensed": difference(outputs(small, images), masked),
        "difference_file": difference(kc.run_tflite(file, images), masked),
        "seconds": f"{statistics.median(seconds):.1f}",
        "fastest": f"{min(seconds):.1f}",
        "slowest": f"{max(seconds):.1f}",
        "runs": runs,
        "file_bytes": len(dense_file),
        "file_bytes_condensed": len(file),
        "million_instructions": million_instructions(counter, dense_file),
        "million_instructions_condensed": million_instructions(counter, file),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="calls of learn_groups for each (default: %(default)s)")
    parser.add_argument("--counter", help="command that counts instructions, see operator_costs.py; left out without")
    arguments = parser.parse_args()
    rows = [measured(name, arguments.runs, arguments.counter) for name in track(NETWORKS, description="networks")]
    packages = ("keras-condense", "keras", "tensorflow", "ai-edge-litert")
    path = write_results("learn_groups", rows, threads=os.cpu_count(), packages=packages)
    table = Table("", *(row["network"] for row in rows), title=str(path))
    for column in rows[0]:
        table.add_row(column.replace("_", " "), *(str(row[column]) for row in rows))
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
