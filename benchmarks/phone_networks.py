"""Exported networks on one core: instructions on an emulated Cortex-A76, and milliseconds here, all in one run.

CondenseNets as `export_tflite` writes them for each target, beside what TensorFlow's converter makes of the condensed
network one to one and of the masked one, and the networks of keras.applications that a user would pick instead.
Weights are random: time does not depend on them, and untrained masks read more different inputs than trained ones.
Each file's outputs are compared with what Keras computes, here and, with a runner, on the emulated core.

    python benchmarks/phone_networks.py imagenet --counter "python arm_cost.py count" --runner "python arm_cost.py run"
    python benchmarks/phone_networks.py cifar
    python benchmarks/phone_networks.py mobile
"""

import argparse
import concurrent.futures
import contextlib
import functools
import io
import os
import pathlib
import shlex
import statistics
import subprocess
import tempfile
import time

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from common import print_rows, write_results
from operator_costs import counted
from rich.progress import track

import keras_condense as kc


def condensing(name: str, negative: float = 0.0, **arguments) -> keras.Model:
    """A CondenseNet in its last stage, with batch norms as after training.

    Trained scales are positive: after 200 epochs of the digits application none of 2,176 is below 0.5. A share that is
    `negative` costs operators of its own.
    """
    model = getattr(kc.applications, name)(classifier_activation=None, **arguments)
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            channels = layer.gamma.shape[0]
            signs = random.choice([-1, 1], channels, p=[negative, 1 - negative])
            spread = random.normal(0, 0.3, (2, channels))
            layer.set_weights([random.uniform(0.5, 1.5, channels) * signs, *spread, random.uniform(0.5, 2, channels)])
    for layer in kc.layers.condensable_layers(model):
        layer.condense_to(layer.final_stage)
    return model


def masked_dense(model: keras.Model) -> keras.Model:
    """The network with its masks multiplied into ordinary convolutions: what is run without `condense`."""

    def replaced(layer):
        config = layer.get_config()
        if isinstance(layer, kc.layers.LearnedGroupConv2D):
            for name in ("groups", "group_lasso", *layer.plan_config()):
                del config[name]
            return keras.layers.Conv2D.from_config(config)
        if isinstance(layer, kc.layers.CondenseDense):
            for name in layer.plan_config():
                del config[name]
            return keras.layers.Dense.from_config(config)
        return type(layer).from_config(config)

    dense = keras.models.clone_model(model, clone_function=replaced)
    for old, new in zip(model.layers, dense.layers, strict=True):
        if isinstance(old, kc.layers.LearnedConnections):
            new.set_weights([old.masked_kernel(), *([old.bias] if old.use_bias else [])])
        else:
            new.set_weights(old.get_weights())
    return dense


def converted(model: keras.Model) -> bytes:
    """What a user of TensorFlow writes."""
    with contextlib.redirect_stdout(io.StringIO()):  # Keras lists every variable
        return tf.lite.TFLiteConverter.from_keras_model(model).convert()


def condensenet_files(name: str):
    """A CondenseNet in all its forms: label, content, model, seconds to export."""
    model = condensing(name)
    for target in ("arm64", "x86_64"):
        start = time.perf_counter()
        content = kc.export_tflite(model, target=target)
        yield f"{name}, export_tflite for {target}", content, model, time.perf_counter() - start
    yield f"{name}, one to one", converted(kc.condense(model)), model, None
    if not any(isinstance(layer, kc.layers.SparseFeatureReactivation) for layer in model.layers):
        yield f"{name}, masked", converted(masked_dense(model)), model, None


def shufflenet_files(**arguments):
    model = condensing("ShuffleNet", **arguments)
    label = ", ".join(["ShuffleNet", *(f"{key} {value}" for key, value in arguments.items())])
    for target in ("arm64", "x86_64"):
        yield f"{label}, export_tflite for {target}", kc.export_tflite(model, target=target), model, None
    yield f"{label}, one to one", converted(model), model, None


def application_files(name: str, shape: tuple[int, int, int], classes: int, **arguments):
    label = ", ".join([name, *(f"{key} {value}" for key, value in arguments.items())])
    model = getattr(keras.applications, name)(weights=None, input_shape=shape, classes=classes, **arguments)
    yield label, kc.export_tflite(model), model, None


def difference(outputs: np.ndarray, expected: np.ndarray) -> str:
    """The largest difference, relative to the largest expected value."""
    return f"{np.abs(outputs - expected).max() / np.abs(expected).max():.1e}"


def differences(path: pathlib.Path, model: keras.Model, runner: str | None) -> dict[str, str]:
    """How far a file's outputs for a random image are from the model's, here and where `runner` runs it."""
    image = np.random.default_rng(1).normal(size=(1, *model.input_shape[1:])).astype("float32")
    expected = keras.ops.convert_to_numpy(model(image, training=False))
    found = {"difference": difference(kc.run_tflite(path, image), expected)}
    if runner:
        given, computed = path.with_suffix(".in.npy"), path.with_suffix(".out.npy")
        np.save(given, image)
        command = [*shlex.split(runner), str(path), str(given), str(computed)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        found["difference_on_arm"] = difference(np.load(computed), expected)
    return found


def files(which: str):
    """All files to compare; the first is what the others are measured by."""
    if which == "imagenet":
        for name in ("MobileNet", "MobileNetV2", "MobileNetV3Small", "MobileNetV3Large", "DenseNet121"):
            yield from application_files(name, (224, 224, 3), 1000)
        for name in ("CondenseNetImageNet74G8", "CondenseNetImageNet74G4"):
            yield from condensenet_files(name)
            model = condensing(name, negative=0.2)
            for target in ("arm64", "x86_64"):
                label = f"{name}, a fifth of the norms' scales negative, export_tflite for {target}"
                yield label, kc.export_tflite(model, target=target), model, None
        yield from condensenet_files("CondenseNetPhone")
    elif which == "mobile":
        for name in ("MobileNetV2", "MobileNet", "MobileNetV3Small", "MobileNetV3Large"):
            yield from application_files(name, (224, 224, 3), 1000)
        for name in ("CondenseNetV2A", "CondenseNetV2B", "CondenseNetV2C"):
            yield from condensenet_files(name)
        for groups in (1, 3, 8):
            yield from shufflenet_files(groups=groups)
    else:
        for alpha in (0.25, 0.5):
            yield from application_files("MobileNet", (32, 32, 3), 10, alpha=alpha)
        for name in ("CondenseNet50", "CondenseNet86", "CondenseNet122"):
            yield from condensenet_files(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=("imagenet", "cifar", "mobile"))
    parser.add_argument("--counter", help="command that counts instructions, see operator_costs.py; left out without")
    parser.add_argument("--runner", help="command that runs MODEL.tflite IN.npy OUT.npy on another core")
    parser.add_argument("--rounds", type=int, default=5, help="turns of all files (default: %(default)s)")
    arguments = parser.parse_args()
    rows, times = [], {}
    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        exported = track(files(arguments.which), description="exporting")
        for number, (label, content, model, seconds) in enumerate(exported):
            paths[label] = pathlib.Path(folder, f"{number}.tflite")
            paths[label].write_bytes(content)
            row = {"network": label, "file_bytes": len(content)}
            row["seconds_to_export"] = "" if seconds is None else f"{seconds:.1f}"
            rows.append(row | differences(paths[label], model, arguments.runner))
        for turn in track(range(arguments.rounds), description="timing"):
            for label, path in paths.items():
                for threads in (1, 2):
                    result = kc.benchmark_tflite(path, runs=20, warmup=5, threads=threads)
                    times.setdefault((label, threads), []).append(result.median_ms)
                    if turn == 0 and threads == 1:
                        row = next(row for row in rows if row["network"] == label)
                        row["outside_xnnpack"] = len(result.undelegated or ())
        if arguments.counter:
            count = functools.partial(counted, arguments.counter)
            with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:  # counts don't depend on other work
                counts = pool.map(count, [paths[row["network"]] for row in rows])
                for row, instructions in zip(rows, track(counts, total=len(rows), description="counting"), strict=True):
                    row["million_instructions"] = f"{instructions / 1e6:.1f}"
    first = rows[0]
    for row in rows:
        for threads in (1, 2):
            row[f"ms_{threads}_thread"] = f"{statistics.median(times[row['network'], threads]):.2f}"
        for column, ratio in (("ms_1_thread", "time_ratio"), ("million_instructions", "instruction_ratio")):
            if column in row:
                row[ratio] = f"{float(row[column]) / float(first[column]):.3f}"
    packages = ("keras-condense", "keras", "tensorflow", "ai-edge-litert")
    path = write_results(f"{arguments.which}_networks", rows, threads=1, packages=packages)
    print_rows(rows, str(path), width=200)


if __name__ == "__main__":
    main()
