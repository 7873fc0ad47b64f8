"""Photographs in, labels and probabilities out."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np

from keras_condense.cards import Card, load_card
from keras_condense.datasets.decoding import read_image
from keras_condense.datasets.folders import is_image
from keras_condense.datasets.pixels import fit_pixels
from keras_condense.saving import load_model
from keras_condense.tflite import run_tflite
from keras_condense.validation import check_positive_integer, shown

__all__ = ["Prediction", "predict"]

_TOP = 5
_AT_ONCE = 64  # images that are held in memory together


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a classifier says of an image.

    Attributes:
        name: the file, or the image's number.
        labels: the best classes, the likeliest first.
        probabilities: of each of them.
    """

    name: str
    labels: tuple[str, ...]
    probabilities: tuple[float, ...]

    def __str__(self) -> str:
        scores = zip(self.labels, self.probabilities, strict=True)
        return f"{self.name}: " + ", ".join(f"{label} {probability:.1%}" for label, probability in scores)


def predict(
    model: keras.Model | str | os.PathLike,
    images: Any,
    *,
    card: Card | None = None,
    top: int = _TOP,
    threads: int = 1,
) -> list[Prediction]:
    """Name what photographs show.

    Images are turned upright, resized and normalized as those that the network was trained and evaluated on; its card
    says how.

    Args:
        model: a trained classifier, or the path of its `.keras` or `.tflite` file.
        images: files, folders of files, or arrays of uint8, (height, width) or (height, width, 1 or 3); one, or
            several in a list.
        card: what the network takes and gives; None for the card in its file.
        top: how many classes to name of each image.
        threads: for a `.tflite` file.

    Returns:
        A `Prediction` for each image, in order; folders give theirs sorted by name.

    Raises:
        ValueError: a file of another kind, or without a card where none is given; no images, or one that can't be
            decoded; a network that gives no probabilities.

    Example:
        >>> card = Card(("dark", "bright"), (2, 2, 1), (0.5,), (0.5,))
        >>> kernel = np.array([[-1.0, 1.0]])
        >>> outputs = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.GlobalAveragePooling2D()])
        >>> outputs.add(keras.layers.Dense(2, activation="softmax"))
        >>> outputs.layers[-1].set_weights([kernel, np.zeros(2)])
        >>> print(predict(outputs, np.full((4, 4), 255, "uint8"), card=card)[0])
        0: bright 88.1%, dark 11.9%
    """
    top = check_positive_integer("top", top, "Use 5.")
    threads = check_positive_integer("threads", threads, "Use 1.")
    card, scores = _card_and_scores(model, card, threads)
    named = _named(images)
    predictions = []
    for start in range(0, len(named), _AT_ONCE):
        part = named[start : start + _AT_ONCE]
        pixels = np.stack([read(card.image_shape, card.resize) for _, read in part])
        outputs = np.asarray(scores(pixels))
        _check_probabilities(outputs, card)
        best = np.argsort(-outputs, axis=1, kind="stable")[:, :top]
        for (name, _), order, row in zip(part, best, outputs, strict=True):
            labels = tuple(card.class_names[number] for number in order)
            predictions.append(Prediction(name, labels, tuple(row[order].tolist())))
    return predictions


def _card_and_scores(model: Any, card: Card | None, threads: int) -> tuple[Card, Callable]:
    """The card of a network, and what computes scores of pixels."""
    if isinstance(model, keras.Model):
        network, described = model, model.name
    else:
        network, described = None, os.fspath(model)
        if card is None:
            card = load_card(model)
    if card is None:
        raise ValueError(
            f"`card` must be given for {described!r}, which does not say what it takes and gives. Make one with "
            "`Card.of(data)`, from the data that it was trained on, and give it to `save_model` and `export_tflite`."
        )
    if network is None and described.endswith(".tflite"):
        return card, lambda pixels: run_tflite(described, card.inputs(pixels), threads=threads)
    network = load_model(described) if network is None else network
    return card, lambda pixels: network.predict(card.inputs(pixels), verbose=0)


def _named(images: Any) -> list[tuple[str, Callable[..., np.ndarray]]]:
    """Names of images, and what reads each as pixels of a shape."""
    several = images if isinstance(images, (list, tuple)) else [images]
    named = []
    for number, image in enumerate(several):
        if isinstance(image, (str, os.PathLike)):
            named += [(str(file), lambda *how, file=file: read_image(str(file), *how)) for file in _files(image)]
        else:
            pixels = _checked(image)
            named.append((str(number), lambda *how, pixels=pixels: fit_pixels(pixels[None], *how)[0]))
    if not named:
        raise ValueError("`images` must be files, folders or arrays, and there are none. Give at least one.")
    return named


def _files(path: str | os.PathLike) -> Iterable[pathlib.Path]:
    path = pathlib.Path(os.path.expanduser(path))
    if not path.is_dir():
        if not path.is_file():
            raise ValueError(f"`images` (={str(path)!r}) must be an image file or a folder of them. Check the name.")
        return [path]
    files = sorted(file for file in path.rglob("*") if file.is_file() and is_image(file))
    if not files:
        raise ValueError(f"`images` (={str(path)!r}) must be a folder of image files, and holds none. Check the name.")
    return files


def _checked(image: Any) -> np.ndarray:
    pixels = np.asarray(image)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[-1] not in (1, 3) or not pixels.size:
        raise ValueError(
            f"`images` must be files, or arrays of uint8, (height, width) or (height, width, 1 or 3), and one is "
            f"{shown(image) if pixels.dtype.kind in 'OUS' else f'{np.asarray(image).dtype} of {pixels.shape}'}. Give "
            "pixels as they are, from 0 to 255; several images in a list."
        )
    return pixels


def _check_probabilities(outputs: np.ndarray, card: Card) -> None:
    if outputs.shape[1:] != (len(card.class_names),):
        raise ValueError(
            f"`card` names {len(card.class_names)} classes, and the network gives outputs of {outputs.shape[1:]}. Take "
            "the card of the run that it is from."
        )
    sums = outputs.astype("float64").sum(axis=1)
    if not (np.isfinite(outputs).all() and outputs.min() > -0.01 and np.abs(sums - 1).max() < 0.05):
        raise ValueError(
            "`model` must give probabilities, and its outputs are not between 0 and 1 with a sum of 1. End it in a "
            "softmax."
        )
