"""Class scores of files: what computes them, and whether they can be such."""

import argparse
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import command_line

if TYPE_CHECKING:
    import numpy as np

    import keras_condense as kc


def read_file(
    arguments: argparse.Namespace, card: "kc.Card | None" = None
) -> tuple[Callable[["np.ndarray"], "np.ndarray"], tuple | None]:
    """Return what computes class scores of images, and (height, width, channels) if it can be told."""
    import keras_condense as kc
    from keras_condense.saving import load_model

    if arguments.model.endswith(".tflite"):
        command_line.check_file(arguments.model, ".tflite")
        if card is not None and card.takes_pixels:
            from keras_condense.tflite.pixels import pixels_of

            return lambda images: kc.run_tflite(
                arguments.model, pixels_of(images, card), threads=arguments.threads
            ), None
        return lambda images: kc.run_tflite(arguments.model, images, threads=arguments.threads), None
    model = load_model(arguments.model)
    shape = command_line.image_shape_of(model, arguments.model)
    return lambda images: model.predict(images, verbose=0), shape


def shown(batches: Iterable, steps: int) -> Iterable:
    from rich.progress import track

    return track(batches, "evaluating", steps, transient=True, disable=not sys.stdout.isatty())


def check_scores(outputs: Any, classes: int) -> None:
    import numpy as np

    shape = getattr(outputs, "shape", None)
    if shape is None or shape[1:] != (classes,):
        found = f"{len(outputs)} outputs" if shape is None else f"outputs of shape {shape[1:]}"
        raise ValueError(
            f"`model` gives {found}, and the data set has {classes} classes. "
            "Choose the data set that it was trained on."
        )
    if not np.isfinite(outputs).all():
        raise ValueError("`MODEL` gives scores that are NaN or infinite. Check that it was trained to the end.")
