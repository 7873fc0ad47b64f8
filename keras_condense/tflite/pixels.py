"""Networks that take pixels as they are: scaling and normalization as their first layer."""

import keras
import numpy as np

from keras_condense.cards import Card
from keras_condense.keras_graphs import functional_form, is_graph, run_through_graph

__all__ = ["PIXELS", "check_card", "pixels_of", "taking_pixels"]

PIXELS = "pixels"  # what their input is called


def check_card(model: keras.Model, card: Card) -> None:
    """Raise ValueError unless a card can be that of a model: one image in, as many scores out as it has names."""
    if not isinstance(card, Card):
        raise ValueError(f"`card` (of type {type(card).__name__}) must be a Card. Make it with `Card.of(data)`.")
    given = [tuple(tensor.shape[1:]) for tensor in (*(model.inputs or ()), *(model.outputs or ()))]
    expected = [card.image_shape, (len(card.class_names),)]
    fits = len(given) == 2 and all(
        len(shape) == len(wanted) and all(side in (None, want) for side, want in zip(shape, wanted, strict=True))
        for shape, wanted in zip(given, expected, strict=True)
    )
    if not fits:
        raise ValueError(
            f"`card` must be that of `model` (={model.name!r}), and says that it maps images of {expected[0]} to "
            f"{expected[1][0]} scores, where the model has inputs and outputs of {given}. Take the card of the run "
            "that the model is from, or leave it out."
        )


def taking_pixels(model: keras.Model, card: Card) -> keras.Model:
    """A model of the same layers and weights that normalizes pixels itself.

    Args:
        model: a functional or sequential classifier.
        card: says how it was trained to see pixels.

    Returns:
        A model that takes uint8, (batch, height, width, channels), from 0 to 255.

    Raises:
        ValueError: a model without a graph.
    """
    if not is_graph(model):
        raise ValueError(
            f"`model` (={model.name!r}) must be functional or sequential for preprocessing='inside'. Build it with "
            "`keras.Model(inputs, outputs)`."
        )
    mean, std = (np.asarray(values, "float64") for values in (card.mean, card.std))
    pixels = keras.Input(card.image_shape, dtype="uint8", name=PIXELS)
    rescaling = keras.layers.Rescaling((1 / (255 * std)).tolist(), (-mean / std).tolist(), name="normalization")
    outputs = run_through_graph(
        functional_form(model),
        rescaling(pixels),
        replace=lambda layer: layer,
        call=lambda layer, *args, **kwargs: layer(*args, **kwargs),
    )
    return keras.Model(pixels, outputs, name=model.name)


def pixels_of(rows: np.ndarray, card: Card) -> np.ndarray:
    """The pixels that images were before they were normalized; pixels are left as they are.

    Example:
        >>> card = Card(("cat", "dog"), (1, 2, 1), (0.5,), (0.25,))
        >>> pixels = np.array([3, 255], "uint8").reshape(1, 1, 2, 1)
        >>> pixels_of(card.inputs(pixels), card).ravel()
        array([  3, 255], dtype=uint8)
    """
    rows = np.asarray(rows)
    if rows.dtype == np.uint8:
        return rows
    mean, std = (np.asarray(values, "float64") for values in (card.mean, card.std))
    return np.clip(np.rint(255 * (rows * std + mean)), 0, 255).astype("uint8")
