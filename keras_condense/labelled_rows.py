"""Examples of a data set with their class numbers, checked against the classifier that is evaluated on them."""

import dataclasses
from typing import Any

import keras
import numpy as np

from keras_condense.datasets import Dataset, ImageArrays
from keras_condense.validation import check_positive_integer, shown

__all__ = ["LabelledRows", "classes_of", "labelled_rows"]

FEWEST = 10  # of fewer, one example is a tenth of the accuracy

_FIX = (
    "Give arrays `(x, y)`, or a data set with images held out: `datasets.load(..., validation_fraction=0.1)` or "
    "`datasets.load_arrays(..., validation_fraction=0.1)`."
)


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledRows:
    """What a classifier is evaluated on.

    Attributes:
        inputs: (examples, ...), as the model takes them.
        labels: (examples,), class numbers.
        available: how many examples there were before they were limited.
    """

    inputs: np.ndarray
    labels: np.ndarray
    available: int


def classes_of(model: keras.Model) -> int:
    """How many classes a model tells apart.

    Raises:
        ValueError: it has several inputs or outputs, or not one output for each of at least two classes.

    Example:
        >>> classes_of(keras.Sequential([keras.Input((3,)), keras.layers.Dense(10)]))
        10
    """
    outputs = [tuple(tensor.shape) for tensor in model.outputs]
    one_input = len(model.inputs) == 1
    if not one_input or len(outputs) != 1 or len(outputs[0]) != 2 or (outputs[0][1] or 0) < 2:
        inputs = "" if one_input else f"{len(model.inputs)} inputs and "
        raise ValueError(
            f"`model` (={model.name!r}) must be a classifier, with one input and one output of (batch, classes), at "
            f"least two, and has {inputs}outputs of {', '.join(map(str, outputs))}. Give a model that ends in a score "
            "for each class."
        )
    return outputs[0][1]


def labelled_rows(data: Any, model: keras.Model, rows: int | None = None) -> LabelledRows:
    """The examples to evaluate a classifier on.

    Args:
        data: arrays (x, y), y class numbers or one-hot rows; or a data set, of which the validation images are taken.
        model: the classifier.
        rows: at most so many, evenly spaced over all; None for all.

    Raises:
        ValueError: what can't be evaluated on; a data set without validation images.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> data = labelled_rows((np.zeros((40, 3)), np.arange(40) % 2), model, rows=10)
        >>> data.inputs.shape, data.available
        ((10, 3), 40)
    """
    classes = classes_of(model)
    if rows is not None and check_positive_integer("rows", rows, "Use 1000, or None for all.") < FEWEST:
        raise ValueError(f"`rows` (={rows}) must be at least {FEWEST}. Use 1000, or None for all.")
    if isinstance(data, (Dataset, ImageArrays)):
        inputs, labels, available = _validation(data, rows)
    elif isinstance(data, (tuple, list)) and len(data) == 2:
        inputs, labels = map(_array, data, ("x", "y"))
        if inputs.ndim == 0 or labels.ndim == 0 or len(inputs) != len(labels):
            raise ValueError(
                f"`data` must be arrays with as many labels as examples, and they are of {inputs.shape} and "
                f"{labels.shape}. Give the labels that belong to the examples."
            )
        available = len(inputs)
        chosen = _chosen(available, rows)
        inputs, labels = inputs[chosen], labels[chosen]
    else:
        raise ValueError(f"`data` (={shown(data)}) must be a pair of arrays or a data set of this package. {_FIX}")
    _check_inputs(inputs, model)
    return LabelledRows(inputs, _class_numbers(labels, classes), available)


def _chosen(available: int, rows: int | None) -> np.ndarray:
    """Which examples: files are often sorted by class, so that the first ones would show few of the classes."""
    if available < FEWEST:
        raise ValueError(
            f"`data` must have at least {FEWEST} examples, and has {available}: one would be too large a part of the "
            "accuracy. Give more."
        )
    return np.linspace(0, available - 1, min(rows or available, available)).astype(int)


def _validation(data: Dataset | ImageArrays, rows: int | None) -> tuple[np.ndarray, np.ndarray, int]:
    """The validation images of a data set, those that are not chosen read but not kept."""
    if not data.validation_size:
        raise ValueError(
            f"`data` (={data.name!r}) must have validation images, and has none: what is chosen by test images says "
            "too much of them afterwards. Load it with `validation_fraction=0.1`, and train on what is left; or give "
            "arrays `(x, y)`."
        )
    chosen = _chosen(data.validation_size, rows)
    if isinstance(data, ImageArrays):
        return data.normalize(data.validation_images[chosen]), data.validation_labels[chosen], data.validation_size
    kept, start = [], 0
    for images, labels in data.validation.as_numpy_iterator():
        here = chosen[(chosen >= start) & (chosen < start + len(labels))] - start
        kept.append((images[here], labels[here]))
        start += len(labels)
    return *map(np.concatenate, zip(*kept, strict=True)), data.validation_size


def _array(values: Any, name: str) -> np.ndarray:
    try:
        array = np.asarray(values)
    except (TypeError, ValueError):  # rows of several lengths
        array = np.asarray(None)
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        kind = f"an array of {array.dtype}" if isinstance(values, np.ndarray) else shown(values)
        raise ValueError(f"`{name}` of `data` must be an array of real numbers, and is {kind}. {_FIX}")
    return array


def _check_inputs(inputs: np.ndarray, model: keras.Model) -> None:
    expected = tuple(model.inputs[0].shape[1:])
    given = inputs.shape[1:]
    if len(given) != len(expected) or any(side not in (None, ours) for ours, side in zip(given, expected, strict=True)):
        raise ValueError(
            f"`data` must hold examples of {expected}, which `model` (={model.name!r}) takes, and they are of {given}. "
            "Give what it was trained on."
        )
    if not np.isfinite(inputs).all():
        raise ValueError(
            "`data` must be finite, and holds NaN or infinity. Give inputs prepared as the model was trained."
        )


def _class_numbers(labels: np.ndarray, classes: int) -> np.ndarray:
    """Class numbers of sparse or one-hot labels."""
    if labels.ndim == 2 and labels.shape[1] == classes:
        if not (np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all()):
            raise ValueError(
                "`data` has a label for each class, and they must be one-hot: a single 1 in each row, and zeros. Give "
                "the class numbers instead."
            )
        return labels.argmax(axis=1)
    numbers = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if numbers.ndim != 1:
        raise ValueError(
            f"`data` must have labels of (examples,) or one-hot ones of (examples, {classes}), and they are of "
            f"{labels.shape}. Give one class number an example."
        )
    wrong = ~np.isin(numbers, np.arange(classes))  # NaN and parts of numbers too
    if wrong.any():
        raise ValueError(
            f"`data` must have labels in 0..{classes - 1}, the model's classes, and has {numbers[wrong][0]}. Give "
            "the class numbers that it was trained on."
        )
    return numbers.astype(int)
