r"""Pack the weights of a finished training run into the package, and note down what made them.

The weights of `runs/<run>/model.keras` become `keras_condense/applications/weights/<name>.weights.h5`: float32, every
dropped connection an exact zero that compression removes. results/trainings.csv gets a row: recipe, seed, seconds,
device, and the file's SHA-256, which belongs into a row of `keras_condense.applications.pretrained_table`.

    python scripts/train.py --dataset cifar10 --network CondenseNet50 --recipe short --on-device --mixed-precision \
        --no-validation --output runs/condensenet50
    python benchmarks/package_weights.py runs/condensenet50 CondenseNet50 --command "python scripts/train.py ..."
"""

import argparse
import hashlib
import json
import os
import pathlib
import tempfile

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import h5py
import keras
from common import RESULTS, conditions, read_rows, write_rows

import keras_condense as kc
from keras_condense.files import replacing

WEIGHTS = pathlib.Path(kc.__file__).parent / "applications" / "weights"
TRAININGS = RESULTS / "trainings.csv"
PACKAGES = ("keras-condense", "keras", "tensorflow")
RECIPE = ("epochs", "batch_size", "learning_rate", "decay", "weight_decay", "label_smoothing", "last_drop")
RECIPE += ("small_crops", "alternate_flips", "seed")
WORTH_COMPRESSING = 4096  # bytes; the index of a compressed array takes about half of that


def save_compressed(model: keras.Model, path: pathlib.Path) -> None:
    """Write a model's weights as `save_weights` does, every large array compressed, groups in HDF5's compact form."""
    with tempfile.TemporaryDirectory() as folder:
        whole = pathlib.Path(folder, "whole.weights.h5")
        model.save_weights(whole)
        with (
            replacing(path) as packed,
            h5py.File(whole, "r") as source,
            h5py.File(packed, "w", libver="latest") as target,
        ):
            _copy(source, target)


def _copy(source: h5py.Group, target: h5py.Group) -> None:
    target.attrs.update(source.attrs)
    for name, item in source.items():
        if isinstance(item, h5py.Group):
            _copy(item, target.create_group(name))
        elif item.nbytes >= WORTH_COMPRESSING:
            target.create_dataset(name, data=item[()], compression="gzip", compression_opts=9, shuffle=True)
        else:
            target.create_dataset(name, data=item[()])


def trained_network(folder: pathlib.Path, constructor: str) -> keras.Model:
    """The trained network in float32, whatever it was trained in.

    Raises:
        ValueError: the run is not finished, or trained another network.
    """
    trained = kc.saving.load_model(folder / "model.keras")
    network = getattr(kc.applications, constructor)(
        weights=None, input_shape=trained.input_shape[1:], classes=trained.output_shape[-1]
    )
    network.set_weights(trained.get_weights())
    for layer in kc.layers.condensable_layers(network):
        if layer.stage != layer.final_stage:
            raise ValueError(f"layer {layer.name!r} must be in its last stage, and is in {layer.stage}. Train on.")
    return network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="of a finished run of scripts/train.py")
    parser.add_argument("constructor", help="the network's name in keras_condense.applications")
    parser.add_argument("--command", required=True, help="what was typed to train it")
    arguments = parser.parse_args()
    settings = json.loads((arguments.folder / "settings.json").read_text())
    seconds = sum(float(row["seconds"]) for row in read_rows(arguments.folder / "log.csv"))
    network = trained_network(arguments.folder, arguments.constructor)
    path = WEIGHTS / f"{arguments.constructor.lower()}-{settings['dataset']}.weights.h5"
    path.parent.mkdir(exist_ok=True)
    save_compressed(network, path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    key = {"network": arguments.constructor, "data_set": settings["dataset"]}
    row = key | {name: settings[name] for name in RECIPE}
    row |= {"mixed_precision": settings.get("mixed_precision", False), "seconds": f"{seconds:.0f}"}
    row |= {"command": arguments.command, "sha256": sha256, "file_bytes": path.stat().st_size}
    row |= conditions(threads=os.cpu_count(), packages=PACKAGES)
    write_rows(TRAININGS, [other for other in read_rows(TRAININGS) if not other.items() >= key.items()] + [row])
    print(f"{path}: {path.stat().st_size:,} bytes, SHA-256 {sha256}")


if __name__ == "__main__":
    main()
