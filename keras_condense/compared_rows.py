"""Rows and their labels, checked against the networks that are measured on them."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_condense.datasets import Dataset, ImageArrays
from keras_condense.tflite.export import check_exportable
from keras_condense.tflite.runtime.running import tensors_of
from keras_condense.validation import shown

__all__ = ["compared_rows"]


def compared_rows(data: Any, networks: Sequence[keras.Model | bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and labels that fit classifiers.

    Args:
        data: `(x, y)`, or a data set of this package, whose test images are taken.
        networks: the original one and the compressed one: Keras models, or contents of .tflite files.

    Returns:
        x, (rows, ...), real numbers that are finite, and y, (rows,), class numbers.

    Raises:
        ValueError: anything else; networks that are no classifiers of such rows.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> x, y = compared_rows((np.ones((3, 4)), [[0], [1], [0]]), [model, model])
        >>> x.dtype, y.shape
        (dtype('float32'), (3,))
    """
    if isinstance(data, (Dataset, ImageArrays)):
        data = data.test_arrays()
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise ValueError(
            f"`data` (={shown(data)}) must be rows and their labels, (x, y), or a data set of this package. Give "
            "`(images, labels)`."
        )
    x, y = _array("x", data[0]), _array("y", data[1])
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if x.ndim < 2 or y.ndim != 1 or len(x) != len(y) or not len(x):
        raise ValueError(
            f"`data` must be x of (rows, ...) and y of (rows,), as many and at least one, and they are of {x.shape} "
            f"and {y.shape}. Give class numbers: of one-hot labels `y.argmax(axis=-1)`."
        )
    if y.dtype.kind not in "iu":
        raise ValueError(f"`data` must have class numbers for labels, and y is of {y.dtype}. Give integers.")
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        raise ValueError("`data` must be finite, and x has NaN or infinity. Remove those rows.")
    for name, network in zip(("original", "compressed"), networks, strict=True):
        _check_fit(name, *_signature(network), x, y)
    return x, y


def _array(name: str, values: Any) -> np.ndarray:
    try:
        array = np.asarray(values)
    except ValueError:  # sequences of different lengths
        array = np.empty(0, object)
    if array.dtype.kind not in "iuf":
        raise ValueError(
            f"`data` must hold real numbers, and {name} is of dtype {array.dtype}. Give NumPy arrays (x, y)."
        )
    return array.astype("float32") if array.dtype.kind == "f" else array


def _signature(network: keras.Model | bytes) -> tuple[list[tuple[tuple[int, ...], str]], list[tuple[int, ...]]]:
    """Shape and dtype of each input, and the shape of each output, without the batch."""
    if isinstance(network, keras.Model):
        inputs = check_exportable(network)
        outputs = [tuple(tensor.shape[1:]) for tensor in getattr(network, "outputs", None) or ()]
        return list(zip(inputs.shapes, inputs.dtypes, strict=True)), outputs
    inputs, outputs = tensors_of(network)
    takes = [
        # a file that quantizes its input is given floats
        (_shape(each), "float32" if each["quantization"][0] else np.dtype(each["dtype"]).name)
        for each in inputs.values()
    ]
    return takes, [_shape(each) for each in outputs.values()]


def _shape(tensor: dict[str, Any]) -> tuple[int, ...]:
    return tuple(map(int, tensor["shape"][1:]))


def _check_fit(name: str, inputs: list, outputs: list, x: np.ndarray, y: np.ndarray) -> None:
    if len(inputs) != 1 or len(outputs) != 1 or len(outputs[0]) != 1 or outputs[0][0] < 2:
        raise ValueError(
            f"`{name}` must be a classifier, of one input and one output of two classes or more, to be measured on "
            f"`data`, and has inputs {inputs} and outputs {outputs}. Leave `data` out."
        )
    ((shape, dtype),) = inputs
    if x.shape[1:] != shape or (x.dtype.kind == "f") != ("float" in dtype):
        raise ValueError(
            f"`data` must be rows of {shape} in {dtype}, as `{name}` takes them, and x is of {x.shape[1:]} in "
            f"{x.dtype}. Preprocess it as for training."
        )
    if y.min() < 0 or y.max() >= outputs[0][0]:
        raise ValueError(
            f"`data` must have labels in 0..{outputs[0][0] - 1}, the classes of `{name}`, and y goes from {y.min()} to "
            f"{y.max()}. Number the classes from 0."
        )
