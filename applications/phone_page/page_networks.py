"""The networks of the page: what is known of each, and where they come from."""

import dataclasses
import pathlib
import runpy
from typing import Any

import numpy as np

import keras_condense as kc
from keras_condense.datasets.pixels import EVALUATED_SHARE
from keras_condense.tflite.metadata import with_card
from keras_condense.tflite.runtime import RUNTIMES, check_tflite

__all__ = ["Description", "Network", "Said", "cifar10", "digits", "own", "read_labels"]

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
        takes_pixels: whether the network normalizes by itself, and takes pixels from 0 to 255 as uint8.
        crop_fraction: how much of the largest middle of a picture is taken.
        resize: "crop" to the middle of the network's proportions, or "stretch", as the network's training had it.
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
    takes_pixels: bool = False
    crop_fraction: float = 1.0
    resize: str = "crop"
    ink: dict[str, int] | None = None
    activation: str | None = None

    @classmethod
    def of(cls, title: str, card: kc.Card, **others: Any) -> "Description":
        """What a card says, and what only the page asks for."""
        return cls(
            title=title,
            labels=card.class_names,
            input_shape=card.image_shape,
            mean=card.mean,
            std=card.std,
            takes_pixels=card.takes_pixels,
            **(cut_as(card.resize) | others),
        )


def cut_as(resize: str) -> dict[str, Any]:
    """What the page is told of a card's `resize`."""
    if resize == "photographs":
        return {"resize": "crop", "crop_fraction": EVALUATED_SHARE}
    return {"resize": resize}


@dataclasses.dataclass(frozen=True)
class Network:
    """A network of the page: the name of its files, the .tflite and what is known of it."""

    name: str
    content: bytes
    description: Description


@dataclasses.dataclass(frozen=True)
class Said:
    """What the options say of a network without a card: its labels, and the mean and std of one or each channel."""

    labels: tuple[str, ...]
    mean: list[float]
    std: list[float]


def digits(run: pathlib.Path, epochs: int) -> Network:
    """The network of applications/digits; `run` is the folder of its training, which goes on where it was killed."""
    condensed = run / "condensed.keras"
    if not condensed.exists():
        print(f"training the digits network in {run}", flush=True)
        program = runpy.run_path(str(APPLICATIONS / "digits" / "main.py"))
        program["main"](["--epochs", str(epochs), "--output", str(run), "--resume"])
    card = kc.Card.of(kc.datasets.load_arrays("digits"))
    content = kc.export_tflite(kc.saving.load_model(condensed), target="wasm", card=card)
    return Network("digits", content, Description.of("Digits", card, resize="crop", ink=INK_OF_DIGITS))


def cifar10() -> Network:
    """CondenseNet-50 with the weights that come with the package."""
    model = kc.applications.CondenseNet50(weights="cifar10")
    how = kc.applications.pretrained.find_weights("CondenseNet50", "cifar10").preprocessing
    card = kc.Card(CIFAR10, (how.size, how.size, 3), how.mean, how.std, dataset="cifar10")
    content = kc.export_tflite(model, target="wasm", card=card)
    return Network("cifar10", content, Description.of("CIFAR-10", card, crop_fraction=how.crop_fraction, resize="crop"))


def own(path: pathlib.Path, said: Said | None = None) -> Network:
    """A user's .tflite, or a .keras model that is exported, together with its card.

    Args:
        path: of the file.
        said: what it takes and gives, for a file without a card.
    """
    card = kc.load_card(path)
    content = path.read_bytes() if path.suffix == ".tflite" else exported(path, card)
    check_tflite(content, path.name)
    inputs, outputs = tensors_of(content)
    check_image(path.name, inputs, "uint8" if card and card.takes_pixels else "float32")
    if card is None:
        card = card_of(path.name, said, inputs[0][2:])
        if path.suffix == ".keras":
            content = with_card(content, card, path.stem)
    check_scores(path.name, outputs, len(card.class_names))
    pixels = np.random.default_rng(0).integers(0, 256, (4, *card.image_shape)).astype("uint8")
    scores = kc.run_tflite(content, card.inputs(pixels))
    are_probabilities = scores.min() >= 0 and np.allclose(scores.sum(axis=-1), 1, atol=1e-3)
    if not are_probabilities:
        print(f"{path.name}: its outputs are no probabilities, and the page shows their softmax")
    activation = None if are_probabilities else "softmax"
    return Network(path.stem, content, Description.of(path.stem, card, activation=activation))


def exported(path: pathlib.Path, card: kc.Card | None) -> bytes:
    return kc.export_tflite(kc.saving.load_model(path), target="wasm", card=card)


def card_of(name: str, said: Said, image_shape: tuple[int, ...]) -> kc.Card:
    """The card of a network that came without one."""
    channels = image_shape[-1]
    for option, values in (("--mean", said.mean), ("--std", said.std)):
        if len(values) not in (1, channels):
            raise ValueError(
                f"`{option}` (={values}) must be one number, or one for each of the {channels} channels that "
                f"{name} takes. Give those that its images were normalised with."
            )
    mean, std = (tuple(values * (channels // len(values))) for values in (said.mean, said.std))
    return kc.Card(said.labels, image_shape, mean, std)


def tensors_of(content: bytes) -> list[list[tuple]]:
    """Inputs and outputs of a file: (dtype, *shape) of each."""
    interpreter = RUNTIMES["ai-edge-litert"].interpreter_class()(model_content=content)
    return [
        [(np.dtype(tensor["dtype"]).name, *map(int, tensor["shape"])) for tensor in tensors]
        for tensors in (interpreter.get_input_details(), interpreter.get_output_details())
    ]


def check_image(name: str, inputs: list[tuple], dtype: str) -> None:
    """Raise ValueError unless a file takes one image."""
    if len(inputs) != 1 or len(inputs[0]) != 5 or inputs[0][:2] != (dtype, 1) or inputs[0][-1] not in (1, 3):
        raise ValueError(
            f"`--network` (={name!r}) must take one image, {dtype} (1, height, width, 1 or 3), and takes {inputs}. "
            "Give a network of images; one that takes uint8 needs a card, from export_tflite(..., card=card, "
            "preprocessing='inside')."
        )


def check_scores(name: str, outputs: list[tuple], labels: int) -> None:
    """Raise ValueError unless a file gives a number for each label."""
    if len(outputs) != 1 or outputs[0] != ("float32", 1, labels):
        raise ValueError(
            f"`--network` (={name!r}) gives {outputs}, and has {labels} labels. Give one label for each output, in the "
            "order in which it was trained."
        )


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
