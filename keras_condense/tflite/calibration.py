"""The inputs to calibrate an int8 file with."""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np

from keras_condense.tflite.signature import Inputs

__all__ = ["MAXIMUM_ROWS", "Rows", "representative_rows"]

Rows = list[dict[str, np.ndarray]]  # of each input an array of batch 1

# Ranges of activations settle within some hundred inputs, and a data set that repeats itself never ends.
MAXIMUM_ROWS = 1000


def _arrays(element: Any, inputs: Inputs, called: str) -> list[np.ndarray]:
    """One element of the data as an array for each input, as `keras.Model.predict` understands it."""
    names = inputs.names
    if isinstance(element, tuple):  # (x, y) or (x, y, sample_weight)
        element = element[0]
    if isinstance(element, Mapping):
        keys = next((keys for keys in (inputs.keys, names) if set(element) == set(keys)), None)
        if keys is None:
            raise ValueError(
                f"`{called}` has the names {sorted(element)}, and the model's inputs are {names}. "
                "Give an array for each of them."
            )
        element = [element[key] for key in keys]
    arrays = element if isinstance(element, list) else [element]
    if len(arrays) != len(names):
        raise ValueError(
            f"`{called}` has {len(arrays)} arrays per element, and the model has the inputs {names}. "
            "Give a list or a dict with an array for each of them."
        )
    return [keras.ops.convert_to_numpy(array) for array in arrays]


def _is_one_batch(data: Any, inputs: Inputs) -> bool:
    """Whether data are arrays with all rows, and no iterable of batches."""
    if isinstance(data, (np.ndarray, Mapping)) or keras.ops.is_tensor(data):
        return True
    several = len(inputs.names) > 1 and isinstance(data, list) and len(data) == len(inputs.names)
    return several and all(
        np.shape(array)[1:] == shape and not isinstance(array, (list, tuple, Mapping))
        for array, shape in zip(data, inputs.shapes, strict=True)
    )


def _checked(array: np.ndarray, name: str, shape: tuple[int, ...], dtype: str, called: str) -> np.ndarray:
    if dtype != "float64" and array.dtype == "float64":  # what NumPy makes by itself
        array = array.astype("float32")
    if array.ndim == 0 or array.shape[1:] != shape:
        raise ValueError(
            f"`{called}` for input {name!r} has the shape {array.shape}, and expects batches of shape "
            f"(rows, {', '.join(map(str, shape))}). Preprocess it as for training and keep the batch axis."
        )
    if array.dtype != dtype:
        raise ValueError(
            f"`{called}` for input {name!r} has the dtype {array.dtype}, and expects {dtype}. "
            "Preprocess it as for training."
        )
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        raise ValueError(f"`{called}` for input {name!r} must be finite, and has NaN or infinity. Remove those rows.")
    return array


def representative_rows(data: Any, inputs: Inputs, called: str = "representative_data") -> Rows:
    """Read and check the inputs to calibrate with.

    Args:
        data: what `keras.Model.predict` takes: an array (rows, ...), a list or dict of such arrays for several
            inputs; or an iterable of batches, each like that, or a tuple whose first item is. The first `MAXIMUM_ROWS`
            rows are used.
        inputs: the model's.
        called: the argument's name, for messages.

    Returns:
        For each row an array of batch 1 for each input, by the input's name.

    Raises:
        ValueError: nothing in it; a wrong number of arrays, name, shape or dtype; NaN or infinity.

    Example:
        >>> from keras_condense.tflite.signature import inputs_of
        >>> model = keras.Sequential([keras.Input((8, 8, 1), name="image"), keras.layers.Flatten()])
        >>> rows = representative_rows(np.zeros((3, 8, 8, 1), "float32"), inputs_of(model))
        >>> len(rows), rows[0]["image"].shape
        (3, (1, 8, 8, 1))
    """
    if isinstance(data, (str, bytes)) or not isinstance(data, Iterable):
        raise ValueError(
            f"`{called}` (={data!r}) must be an array or an iterable of batches. Give some hundred inputs."
        )
    batches = [data] if _is_one_batch(data, inputs) else data
    names, rows = inputs.names, []
    for element in batches:
        arrays = _arrays(element, inputs, called)
        arrays = [_checked(*each, called) for each in zip(arrays, names, inputs.shapes, inputs.dtypes, strict=True)]
        if len({len(array) for array in arrays}) > 1:
            raise ValueError(
                f"`{called}` has {[len(array) for array in arrays]} rows for the inputs {names}, and "
                "expects the same number for each. Cut them to the same length."
            )
        single = (
            {name: array[row : row + 1] for name, array in zip(names, arrays, strict=True)}
            for row in range(len(arrays[0]))
        )
        rows += itertools.islice(single, MAXIMUM_ROWS - len(rows))
        if len(rows) == MAXIMUM_ROWS:
            break
    if not rows:
        raise ValueError(f"`{called}` must have at least one row, and is empty. Give some hundred inputs.")
    return rows
