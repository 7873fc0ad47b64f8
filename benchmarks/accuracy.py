"""The error of every packaged network on the whole test set, in every form: Keras, condensed, and each .tflite.

results/accuracy.csv has one row per network: the published error, ours, what its training took (from trainings.csv),
and the error of the .tflite in float32, float16, dynamic range and int8. results/accuracy_forms.csv has one row per
form: error, file size, instructions of one inference on an emulated Cortex-A76, and milliseconds here.

    python benchmarks/accuracy.py --data-dir ~/tensorflow_datasets --counter "python arm_cost.py count"
"""

import argparse
import os
import pathlib
import tempfile

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from common import RESULTS, read_rows, write_results
from operator_costs import counted
from rich.progress import track

import keras_condense as kc
from keras_condense.applications.pretrained import WEIGHTS, PretrainedWeights
from keras_condense.applications.zoo import published

SCHEMES = {"float32": None, "float16": "float16", "dynamic": "dynamic", "int8": "int8"}
PACKAGES = ("keras-condense", "keras", "tensorflow", "ai-edge-litert")
CALIBRATION_IMAGES = 200


def error(scores: np.ndarray, labels: np.ndarray) -> float:
    """Per cent of the images whose highest score is another class'."""
    return 100 * float(np.mean(scores.argmax(axis=1) != labels))


def published_error(row: PretrainedWeights) -> str:
    """What the paper prints for a network and a data set, per cent; empty where it prints nothing."""
    printed = next((known.error for known in published() if known.constructor == row.constructor), "")
    parts = [part.strip() for part in printed.split("/")]
    return parts[0] if row.dataset == "cifar10" else parts[-1] if len(parts) > 1 else ""


def forms_of(row: PretrainedWeights, data, folder: pathlib.Path, counter: str | None) -> list[dict]:
    """A row for each form of one network."""
    model = getattr(kc.applications, row.constructor)(
        **row.arguments, weights=row.dataset, input_shape=data.image_shape, classes=row.classes
    )
    images, labels = row.preprocessing.normalize(data.test_images), data.test_labels
    small = kc.condense(model)
    profile = kc.profile_model(small)
    key = {"network": row.constructor, "data_set": row.dataset}
    rows = [
        key | {"form": form, "error": f"{error(network.predict(images, batch_size=250, verbose=0), labels):.2f}"}
        for form, network in (("masked, Keras", model), ("condensed, Keras", small))
    ]
    calibration = list(row.preprocessing.normalize(data.train_images[:CALIBRATION_IMAGES])[:, None])
    for scheme, quantize in SCHEMES.items():
        path = folder / f"{row.constructor}-{scheme}.tflite"
        kc.export_tflite(
            small, path, quantize=quantize, representative_data=calibration if quantize == "int8" else None
        )
        outputs = kc.run_tflite(path, images)
        timed = kc.benchmark_tflite(path)
        rows.append(
            key
            | {
                "form": f".tflite, {scheme}",
                "error": f"{error(outputs, labels):.2f}",
                "file_bytes": path.stat().st_size,
                "million_instructions": f"{counted(counter, path) / 1e6:.1f}" if counter else "",
                "ms_1_thread": f"{timed.median_ms:.2f}",
            }
        )
    columns = ("network", "data_set", "form", "error", "file_bytes", "million_instructions", "ms_1_thread")
    whole = [dict.fromkeys(columns, "") | each for each in rows]
    return [each | {"parameters": profile.parameters, "macs": profile.macs} for each in whole]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="of tensorflow-datasets (default: ~/tensorflow_datasets)")
    parser.add_argument("--counter", help="command that counts instructions, see operator_costs.py; left out without")
    arguments = parser.parse_args()
    packaged = [row for row in WEIGHTS if row.packaged]
    if not packaged:
        parser.exit(1, "error: no row of keras_condense.applications.pretrained.WEIGHTS is packaged.\n")
    trainings = {(row["network"], row["data_set"]): row for row in read_rows(RESULTS / "trainings.csv")}
    networks, forms = [], []
    with tempfile.TemporaryDirectory() as folder:
        for row in track(packaged, description="evaluating"):
            keras.utils.clear_session()
            data = kc.datasets.load_arrays(row.dataset, data_dir=arguments.data_dir)
            found = forms_of(row, data, pathlib.Path(folder), arguments.counter)
            forms += found
            training = trainings[row.constructor, row.dataset]
            network = {"network": row.constructor, "data_set": row.dataset, "published_error": published_error(row)}
            network |= {"error": found[0]["error"], "epochs": training["epochs"], "seconds": training["seconds"]}
            network |= {"training_device": training["device"], "test_images": data.test_size}
            network |= {
                f"{scheme}_error": form["error"]
                for scheme in SCHEMES
                for form in found
                if form["form"] == f".tflite, {scheme}"
            }
            networks.append(network)
    for name, rows in (("accuracy", networks), ("accuracy_forms", forms)):
        print(write_results(name, rows, threads=1, packages=PACKAGES))


if __name__ == "__main__":
    main()
