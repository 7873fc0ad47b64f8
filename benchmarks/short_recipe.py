"""What goes into the short recipe: trials of a few epochs, each one change away from another, on a validation split.

A trial trains a CondenseNet of 4-4-4 layers on 45,000 CIFAR-10 training images scaled to 16x16, by a `Recipe`, and is
judged on the 5,000 training images that were held out. The test images are never looked at. Trials of an equal `cost`
(epochs, those on small crops counted by their pixels) can be compared.

Every finished trial is added to short_recipe.csv at once, and what stands there already is not run again.

    python benchmarks/short_recipe.py
    python benchmarks/short_recipe.py --trials paper "linear decay"
"""

import argparse
import dataclasses
import os
import pathlib
import tempfile
import time

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from common import RESULTS, conditions, read_rows, write_rows

import keras_condense as kc
from keras_condense.training import RECIPES, Recipe, train

STAGES, GROWTH_RATES = (4, 4, 4), (8, 16, 32)
IMAGE_SIZE, VALIDATION = 16, 0.1
PACKAGES = ("keras-condense", "keras", "tensorflow")


@dataclasses.dataclass(frozen=True)
class Trial:
    """A recipe and the batch size it is tried with."""

    recipe: Recipe
    batch_size: int = 64


def trials(epochs: int) -> dict[str, Trial]:
    """The trials by name; `epochs` is their common cost."""
    paper = dataclasses.replace(RECIPES["paper"], epochs=epochs)

    def with_(batch_size: int = 64, **changes) -> Trial:
        return Trial(dataclasses.replace(paper, **changes), batch_size)

    small = (0.75, 1 / 3)
    longer = round(epochs / (1 - small[1] * (1 - small[0] ** 2)))
    combined = {"decay": "linear", "weight_decay": 5e-4}
    return {
        "paper": with_(),
        "linear decay": with_(decay="linear"),
        "weight decay 3e-4": with_(weight_decay=3e-4),
        "weight decay 6e-4": with_(weight_decay=6e-4),
        "learning rate 0.2": with_(learning_rate=0.2),
        "learning rate 0.05": with_(learning_rate=0.05),
        "batch 128, learning rate 0.2": with_(128, learning_rate=0.2),
        "label smoothing 0.1": with_(label_smoothing=0.1),
        "label smoothing 0.05": with_(label_smoothing=0.05),
        "alternate flips": with_(alternate_flips=True),
        "small crops": with_(small_crops=small, epochs=longer),
        "last drop at 0.33": with_(last_drop=0.33),
        "last drop at 0.67": with_(last_drop=0.67),
        "linear, weight decay 5e-4": with_(**combined),
        "linear, weight decay 5e-4, alternate flips": with_(**combined, alternate_flips=True),
        "linear, weight decay 5e-4, small crops": with_(**combined, small_crops=small, epochs=longer),
    }


def run(trial: Trial, seed: int, data_dir: str | None) -> dict:
    """Train by `trial` and return its row's figures."""
    data = kc.datasets.load_arrays(
        "cifar10",
        batch_size=trial.batch_size,
        image_size=IMAGE_SIZE,
        augment=kc.datasets.Augmentation(pad=2, flip=True),  # the paper's 4 of 32, in proportion
        validation_fraction=VALIDATION,
        seed=seed,
        data_dir=data_dir,
    )
    keras.utils.set_random_seed(seed)
    model = kc.applications.CondenseNet(
        STAGES, GROWTH_RATES, stem_strides=1, input_shape=data.image_shape, classes=10, weights=None
    )
    epochs = trial.recipe.epochs
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        model = train(model, data, folder, recipe=trial.recipe, seed=seed, verbose=2)
    seconds = time.perf_counter() - start
    held_out = data.normalize(data.validation_images), data.validation_labels

    accuracy = model.evaluate(*held_out, batch_size=500, verbose=0, return_dict=True)["accuracy"]
    crop, share = trial.recipe.small_crops or (1.0, 0.0)
    cost = epochs - trial.recipe.small_epochs * (1 - crop**2) if share else epochs
    return {
        "epochs": epochs,
        "cost": f"{cost:.1f}",
        "validation_error": f"{100 * (1 - accuracy):.2f}",
        "seconds": f"{seconds:.0f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="of tensorflow-datasets (default: ~/tensorflow_datasets)")
    parser.add_argument("--epochs", type=int, default=8, help="the cost of a trial (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each, seeds 0, 1, ... (default: %(default)s)")
    parser.add_argument("--trials", nargs="+", metavar="NAME", help=", ".join(map(repr, trials(8))))
    parser.add_argument("--output", type=pathlib.Path, default=RESULTS / "short_recipe.csv")
    arguments = parser.parse_args()
    table = trials(arguments.epochs)
    for seed in range(arguments.seeds):
        for name in arguments.trials or table:
            key = {"trial": name, "seed": str(seed), "base_epochs": str(arguments.epochs)}
            if any(row.items() >= key.items() for row in read_rows(arguments.output)):
                continue
            keras.utils.clear_session()
            trial = table[name]
            row = key | {"batch_size": trial.batch_size} | run(trial, seed, arguments.data_dir)
            row |= conditions(threads=len(os.sched_getaffinity(0)), packages=PACKAGES)
            write_rows(arguments.output, read_rows(arguments.output) + [row])
            print(row, flush=True)


if __name__ == "__main__":
    main()
