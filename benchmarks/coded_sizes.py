"""What files weigh as they are stored, zipped and entropy-coded: whole, with shared weights, and pruned before that.

SqueezeNet stands beside the sizes of SqueezeNet with Deep Compression (arXiv 1602.07360, table 2). Its weights here are
random, drawn as the authors draw them, for a training on ImageNet is out of reach: sizes alone are compared, and those
of trained weights, most of which are small, are smaller. Pruned is the smallest two thirds of each kernel, the share
of the paper. CondenseNet-50 is trained, and its error is that of the whole test set; no training follows the sharing.
Instructions are those that the table of costs for arm64 gives.

    python benchmarks/coded_sizes.py squeezenet    # results/coded_sizes.csv
    python benchmarks/coded_sizes.py condensenet --data-dir ~/tensorflow_datasets    # results/coded_sizes_trained.csv
"""

import argparse
import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from accuracy import CALIBRATION_IMAGES, PACKAGES, error
from common import print_rows, write_results
from rich.progress import track

import keras_condense as kc
from keras_condense.applications.pretrained import find_weights
from keras_condense.tflite.lowering import lower_model
from keras_condense.tflite.preparation import prepared

PRUNED = 0.67
# of SqueezeNet: numbers of the file, whether pruned, bits, and the published size in MB
SQUEEZENET = (
    (None, False, None, "4.8"),
    ("float16", False, None, ""),
    ("int8", False, None, ""),
    (None, False, 5, ""),
    (None, True, None, ""),
    (None, True, 8, "0.66"),
    (None, True, 6, "0.47"),
    (None, True, 5, ""),
    ("int8", True, None, ""),
    ("int8", True, 5, ""),
)
# of CondenseNet-50: numbers of the file, bits, and whether the model shares weights before it is exported
CONDENSENET = (
    (None, None, False),
    ("int8", None, False),
    (None, 5, False),
    (None, 4, False),
    (None, 3, False),
    ("int8", 5, False),
    (None, 5, True),
    (None, 4, True),
    (None, None, True),
)


def pruned(model: keras.Model) -> keras.Model:
    """A copy without the weights of the least magnitude of each kernel."""
    copy = keras.models.clone_model(model)
    kernels = [
        np.where(np.abs(w) < np.quantile(np.abs(w), PRUNED), 0, w) if w.ndim > 1 else w for w in model.get_weights()
    ]
    copy.set_weights(kernels)
    return copy


def sizes(content: bytes) -> dict:
    """Columns of a file's sizes."""
    size = kc.coded_size(content)
    return {"stored_bytes": size.stored, "zipped_bytes": size.zipped, "entropy_bytes": size.entropy}


def row_of(network: str, quantize: str | None, form: str, bits: int | None) -> dict:
    """The columns that say what a row is of."""
    return {"network": network, "numbers": quantize or "float32", "weights": form, "bits": bits or ""}


def of_squeezenet() -> list[dict]:
    """A row for each form of SqueezeNet."""
    keras.utils.set_random_seed(0)
    whole = kc.applications.SqueezeNet(weights=None, input_shape=(224, 224, 3))
    images = np.random.default_rng(0).normal(size=(8, 224, 224, 3)).astype("float32")
    models, rows = {False: whole, True: pruned(whole)}, []
    for quantize, is_pruned, bits, published in track(SQUEEZENET, description="SqueezeNet"):
        calibration = images if quantize == "int8" else None
        content = kc.export_tflite(
            models[is_pruned], quantize=quantize, representative_data=calibration, share_weights=bits
        )
        form = f"random, {PRUNED:.0%} pruned" if is_pruned else "random"
        rows.append(row_of("SqueezeNet", quantize, form, bits) | sizes(content) | {"published_mb": published})
    return rows


def of_condensenet(data_dir: str | None) -> list[dict]:
    """A row for each form of the trained CondenseNet-50, with its error."""
    model = kc.condense(kc.applications.CondenseNet50(weights="cifar10", classes=10))
    data, rows = kc.datasets.load_arrays("cifar10", data_dir=data_dir), []
    normalize = find_weights("CondenseNet50", "cifar10").preprocessing.normalize
    images, calibration = normalize(data.test_images), normalize(data.train_images[:CALIBRATION_IMAGES])
    for quantize, bits, is_shared in track(CONDENSENET, description="CondenseNet-50"):
        network = kc.share_weights(model, bits or 5) if is_shared else model
        given = calibration if quantize == "int8" else None
        content = kc.export_tflite(network, quantize=quantize, representative_data=given, share_weights=bits)
        form = "trained" + (", shared by the model" if is_shared else "")
        form += ", norms folded" if is_shared and bits is None else ""
        row = row_of("CondenseNet50", quantize, form, bits or (5 if is_shared else None)) | sizes(content)
        row["error"] = f"{error(kc.run_tflite(content, images), data.test_labels):.2f}"
        if quantize is None:
            lowering = lower_model(prepared(network), "arm64", share_weights=bits, is_shared=is_shared)
            row["million_instructions"] = f"{lowering.totals[lowering.chosen] / 1e6:.2f}"
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=("squeezenet", "condensenet"))
    parser.add_argument("--data-dir", help="of tensorflow-datasets (default: ~/tensorflow_datasets)")
    arguments = parser.parse_args()
    is_trained = arguments.network == "condensenet"
    found = of_condensenet(arguments.data_dir) if is_trained else of_squeezenet()
    columns = dict.fromkeys(column for row in found for column in row)
    rows = [dict.fromkeys(columns, "") | row for row in found]
    path = write_results(
        "coded_sizes_trained" if is_trained else "coded_sizes", rows, threads=1, packages=(*PACKAGES, "scikit-learn")
    )
    print_rows(rows, str(path), width=200)


if __name__ == "__main__":
    main()
