"""The networks of the page: what is known of each, and where they come from."""

import dataclasses
import pathlib
import runpy

import numpy as np

import keras_condense as kc
from keras_condense.tflite.runtime import RUNTIMES, check_tflite

__all__ = ["Description", "Network", "cifar10", "digits", "own", "read_labels"]

APPLICATIONS = pathlib.Path(__file__).resolve().parent.parent
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# The digits were 32x32 bitmaps, cut to the ink, of which the 4x4 pixels of each of 8x8 cells were counted.
INK_OF_DIGITS = {"bitmap": 32, "cells": 8}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Description:
    """What the page has to know of a network, in a JSON file beside its .tflite.

    Attributes:
        title: what the page calls it.
        labels: one for each output.
        input_shape: (height, width, 1 or 3).
        mean: of each channel, subtracted from the scaled pixels.
        std: of each channel, by which the difference is divided.
        scale: by which pixels, of 0..255, are multiplied first.
        channel_order: "rgb" or "bgr".
        crop_fraction: how much of the largest middle of a picture is taken.
        ink: how images of handwriting were made, or None for images of anything else.
        activation: "softmax" for what the page must do to the outputs to get probabilities, None if they are some.
    """

    title: str
    labels: tuple[str, ...]
    input_shape: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float = 1 / 255
    channel_order: str = "rgb"
    crop_fraction: float = 1.0
    ink: dict[str, int] | None = None
    activation: str | None = None


@dataclasses.dataclass(frozen=True)
class Network:
    """A network of the page: the name of its files, the .tflite and what is known of it."""

    name: str
    content: bytes
    description: Description


def digits(run: pathlib.Path, epochs: int) -> Network:
    """The network of applications/digits; `run` is the folder of its training, which goes on where it was killed."""
    condensed = run / "condensed.keras"
    if not condensed.exists():
        print(f"training the digits network in {run}", flush=True)
        program = runpy.run_path(str(APPLICATIONS / "digits" / "main.py"))
        program["main"](["--epochs", str(epochs), "--output", str(run), "--resume"])
    data = kc.datasets.load_arrays("digits")
    return Network(
        "digits",
        kc.export_tflite(kc.saving.load_model(condensed), target="wasm"),
        Description(
            title="Digits",
            labels=data.class_names,
            input_shape=data.image_shape,
            mean=data.mean,
            std=data.std,
            ink=INK_OF_DIGITS,
        ),
    )


def cifar10() -> Network:
    """CondenseNet-50 with the weights that come with the package."""
    model = kc.applications.CondenseNet50(weights="cifar10")
    how = kc.applications.pretrained.find_weights("CondenseNet50", "cifar10").preprocessing
    return Network(
        "cifar10",
        kc.export_tflite(model, target="wasm"),
        Description(
            title="CIFAR-10",
            labels=CIFAR10,
            input_shape=(how.size, how.size, 3),
            mean=how.mean,
            std=how.std,
            scale=how.scale,
            channel_order=how.channel_order,
            crop_fraction=how.crop_fraction,
        ),
    )


def own(path: pathlib.Path, labels: tuple[str, ...], mean: list[float], std: list[float]) -> Network:
    """A user's .tflite, or a .keras model that is exported."""
    content = path.read_bytes() if path.suffix == ".tflite" else exported(path)
    check_tflite(content, path.name)
    input_shape = checked_shape(content, path.name, len(labels))
    for option, values in (("--mean", mean), ("--std", std)):
        if len(values) not in (1, input_shape[-1]):
            raise ValueError(
                f"`{option}` (={values}) must be one number, or one for each of the {input_shape[-1]} channels that "
                f"{path.name} takes. Give those that its images were normalised with."
            )
    mean, std = (tuple(values * (input_shape[-1] // len(values))) for values in (mean, std))
    tried = np.random.default_rng(0).normal(size=(4, *input_shape)).astype("float32")
    scores = kc.run_tflite(content, tried)
    are_probabilities = scores.min() >= 0 and np.allclose(scores.sum(axis=-1), 1, atol=1e-3)
    if not are_probabilities:
        print(f"{path.name}: its outputs are no probabilities, and the page shows their softmax")
    activation = None if are_probabilities else "softmax"
    return Network(
        path.stem,
        content,
        Description(title=path.stem, labels=labels, input_shape=input_shape, mean=mean, std=std, activation=activation),
    )


def exported(path: pathlib.Path) -> bytes:
    return kc.export_tflite(kc.saving.load_model(path), target="wasm")


def checked_shape(content: bytes, name: str, labels: int) -> tuple[int, ...]:
    """The shape of the one image that a file takes; ValueError unless it gives a number for each label of it."""
    interpreter = RUNTIMES["ai-edge-litert"].interpreter_class()(model_content=content)
    sides = [
        [(np.dtype(tensor["dtype"]).name, *map(int, tensor["shape"])) for tensor in tensors]
        for tensors in (interpreter.get_input_details(), interpreter.get_output_details())
    ]
    inputs, outputs = sides
    if len(inputs) != 1 or len(inputs[0]) != 5 or inputs[0][:2] != ("float32", 1) or inputs[0][-1] not in (1, 3):
        raise ValueError(
            f"`--network` (={name!r}) must take one image, float32 (1, height, width, 1 or 3), and takes {inputs}. "
            "Give a network of images."
        )
    if len(outputs) != 1 or outputs[0] != ("float32", 1, labels):
        raise ValueError(
            f"`--network` (={name!r}) gives {outputs}, and `--labels` has {labels} labels. Give one label for each "
            "output, in the order in which it was trained."
        )
    return inputs[0][2:]


def read_labels(text: str) -> tuple[str, ...]:
    """Labels of a file, one a line, or joined by commas."""
    path = pathlib.Path(text)
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else text.split(",")
    labels = tuple(line.strip() for line in lines if line.strip())
    if len(labels) < 2:
        raise ValueError(
            f"`--labels` (={text!r}) must be a file with a label on each line, or labels joined by commas. "
            "Write for instance cat,dog."
        )
    return labels
