"""Handwritten digits, from nothing to a .tflite file: build, train, condense, export, compare.

A CondenseNet of 12 dense layers learns its groups while it trains; three quarters of its 1x1 connections are gone at
the end. Then the trained network, the condensed one and the exported file go through the whole test set.

    python applications/digits/main.py
    python applications/digits/main.py --epochs 2 --output runs/try
"""

import argparse
import pathlib
import sys

import keras

import keras_condense as kc


def build(image_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """A CondenseNet for small images: three blocks of four layers, groups and condense factor 4."""
    return kc.applications.CondenseNet(
        stages=(4, 4, 4),
        growth_rates=(8, 16, 32),
        stem_strides=1,
        input_shape=image_shape,
        classes=classes,
        name="condensenet_digits",
    )


def main(arguments: list[str] | None = None) -> kc.deployment.DeploymentReport:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument(
        "--output", type=pathlib.Path, default=pathlib.Path("runs/digits-application"), help="default: %(default)s"
    )
    parser.add_argument("--resume", action="store_true", help="go on with a run that was killed")
    settings = parser.parse_args(arguments)

    keras.utils.set_random_seed(settings.seed)
    data = kc.datasets.load("digits", batch_size=64, seed=settings.seed)
    model = kc.training.train(
        build(data.image_shape, len(data.class_names)),
        data,
        settings.output,
        epochs=settings.epochs,
        resume=settings.resume,
        settings={"seed": settings.seed},
    )

    small = kc.condense(model)
    card = kc.Card.of(data)
    kc.saving.save_model(small, settings.output / "condensed.keras", card)
    kc.export_tflite(small, settings.output / "digits.tflite", card=card)

    report = kc.compare_deployed(model, small, settings.output / "digits.tflite", *data.test_arrays())
    print(report)
    return report


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
