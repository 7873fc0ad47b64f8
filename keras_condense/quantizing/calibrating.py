"""The ranges of a model that computes in int8's numbers: read from inputs, and looked at."""

from typing import Any

import keras
import numpy as np

from keras_condense.keras_graphs import student_of
from keras_condense.layers.fake_quantization import FakeQuantize
from keras_condense.tflite.calibration import representative_rows
from keras_condense.tflite.signature import inputs_of

__all__ = ["calibrate_ranges", "fake_quantizers", "ranges_of"]

_BATCH = 50


def fake_quantizers(model: keras.Model) -> list[FakeQuantize]:
    """The layers of a model that round activations."""
    return [layer for layer in model._flatten_layers() if isinstance(layer, FakeQuantize)]


def _checked(model: Any) -> keras.Model:
    """The model whose ranges are meant: a Distiller's student."""
    model = student_of(model)
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"`model` (={model!r}) must be a Keras model made by `keras_condense.quantize_aware`. Load a saved one "
            'with `keras.saving.load_model("model.keras")`.'
        )
    return model


def ranges_of(model: keras.Model) -> dict[str, tuple[float, float]]:
    """The range of each rounded activation, by the name of its `FakeQuantize` layer; those that saw nothing left out.

    The layer that rounds an output of the model has the name of that output.

    Args:
        model: made by `quantize_aware`.

    Returns:
        For each name (least, largest).

    Raises:
        ValueError: no Keras model.

    Example:
        >>> from keras_condense import quantize_aware
        >>> model = keras.Sequential([keras.Input((2,), name="x"), keras.layers.ReLU(name="relu")])
        >>> model.add(keras.layers.Dense(2, kernel_initializer="ones", name="sum"))
        >>> ranges_of(quantize_aware(model, np.array([[-1.0, 3.0], [1.0, 1.0]], "float32")))
        {'x_range': (-1.0, 3.0), 'relu_range': (0.0, 3.0), 'sum': (0.0, 3.0)}
    """
    layers = fake_quantizers(_checked(model))
    return {layer.name: layer.range for layer in layers if layer.built and layer.is_calibrated}


def calibrate_ranges(model: keras.Model, data: Any) -> None:
    """Let the ranges of a model made by `quantize_aware` follow inputs, without training.

    All together count as one batch in a training that follows: its batch norms may give other numbers.

    Args:
        model: made by `quantize_aware`; its ranges change, its weights do not.
        data: some hundred inputs, preprocessed as for training: an array (rows, ...) or an iterable of batches, as
            `model.predict` takes them. At most 1000 rows are used.

    Raises:
        ValueError: a model without ranges; data that do not fit it, none, NaN or infinity.

    Example:
        See `quantize_aware`, which calls it where it is given data.
    """
    model = _checked(model)
    layers = fake_quantizers(model)
    if not layers:
        raise ValueError(
            f"`model` (={model.name!r}) must be made by `keras_condense.quantize_aware`, and has no "
            "ranges. Call that with the data."
        )
    inputs = inputs_of(model)
    rows = representative_rows(data, inputs, "data")
    for layer in layers:
        layer.observing = True
    try:
        for start in range(0, len(rows), _BATCH):
            batch = rows[start : start + _BATCH]
            arrays = [np.concatenate([row[name] for row in batch]) for name in inputs.names]
            model(keras.tree.pack_sequence_as(inputs.structure, arrays), training=False)
    finally:
        for layer in layers:
            layer.observing = False
    for layer in layers:
        layer.count_as_one_batch()
