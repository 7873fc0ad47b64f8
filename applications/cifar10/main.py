"""CIFAR-10 with trained weights: evaluate, condense, export, compare, and show what the network says of twelve images.

Without options it takes CondenseNet-50 as it comes with the package and needs no training. `--train` trains a network
first, by the short recipe (60 epochs, hours on two CPU cores) or the paper's 300 epochs
(section 4.1 of the paper, which reports 5.06 % test error of CondenseNet-86).

    python applications/cifar10/main.py --data-dir ~/tensorflow_datasets
    python applications/cifar10/main.py --train --recipe paper --network CondenseNet86
"""

import argparse
import pathlib
import sys

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

import keras_condense as kc

NETWORKS = [name for name in kc.applications.__all__ if name.startswith("CondenseNet") and name[-2:].isdigit()]
SHOWN = 12


def trained(settings: argparse.Namespace, data: kc.datasets.Dataset, output: pathlib.Path) -> keras.Model:
    """Train the network, or go on with a run that was killed."""
    keras.utils.set_random_seed(settings.seed)
    recipe = kc.training.recipe_of(settings.recipe, epochs=settings.epochs)
    return kc.training.train(
        getattr(kc.applications, settings.network)(
            weights=None, input_shape=data.image_shape, classes=len(data.class_names)
        ),
        data,
        output,
        recipe=recipe,
        learning_rate=recipe.learning_rate * settings.batch_size / 64,
        seed=settings.seed,
        resume=settings.resume,
    )


def examples(path: pathlib.Path, data: kc.datasets.Dataset, images: np.ndarray, labels: np.ndarray) -> Table:
    """What the exported network says of a few test images: their labels, its best class and the score."""
    table = Table(
        "image", "label", "says", "score", "", title=f"{SHOWN} test images, {path.name}", title_justify="left"
    )
    places = np.linspace(0, len(images) - 1, SHOWN).astype(int)
    for place, scores in zip(places, kc.run_tflite(path, images[places]), strict=True):
        label, best = int(labels[place]), int(scores.argmax())
        right = "" if best == label else "wrong"
        table.add_row(str(place), data.class_names[label], data.class_names[best], f"{scores[best]:.2f}", right)
    return table


def main(arguments: list[str] | None = None) -> kc.deployment.DeploymentReport:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, default="CondenseNet50", help="default: %(default)s")
    parser.add_argument("--data-dir", help="where tensorflow-datasets keeps CIFAR-10; downloaded there at first")
    parser.add_argument("--output", type=pathlib.Path, help="default: runs/cifar10-NETWORK")
    training = parser.add_argument_group("training")
    training.add_argument("--train", action="store_true", help="train the network in place of taking its weights")
    training.add_argument("--recipe", choices=list(kc.training.RECIPES), default="short", help="default: %(default)s")
    training.add_argument("--epochs", type=int, help="default: the recipe's")
    training.add_argument("--batch-size", type=int, default=64, help="default: %(default)s")
    training.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    training.add_argument("--resume", action="store_true", help="go on with a run that was killed")
    settings = parser.parse_args(arguments)
    output = settings.output or pathlib.Path("runs", f"cifar10-{settings.network.lower()}")

    model = None
    if not settings.train:  # before the images are read: not every network comes with weights
        model = getattr(kc.applications, settings.network)(weights="cifar10")
    data = kc.datasets.load("cifar10", batch_size=settings.batch_size, data_dir=settings.data_dir, seed=settings.seed)
    if model is None:
        model = trained(settings, data, output)
    output.mkdir(parents=True, exist_ok=True)

    small = kc.condense(model)
    card = kc.Card.of(data)
    kc.saving.save_model(small, output / "condensed.keras", card)
    kc.export_tflite(small, output / "cifar10.tflite", card=card)

    images, labels = data.test_arrays()
    report = kc.compare_deployed(model, small, output / "cifar10.tflite", images, labels)
    print(report)
    Console().print(examples(output / "cifar10.tflite", data, images, labels))
    return report


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
