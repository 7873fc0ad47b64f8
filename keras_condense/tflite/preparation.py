"""From the model that a user has to the one that is exported: condensed, and in float32."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_condense.condensation import condense
from keras_condense.layers import ChannelIndex, ChannelScatterAdd, LearnedConnections

__all__ = ["check_model", "in_float32", "prepared"]


def check_model(model: Any) -> None:
    """Raise unless a model can be exported.

    Raises:
        ValueError: no Keras model, another backend than TensorFlow, a model that is not built, NaN or infinity in a
            weight, indices that lead out of what they index.
    """
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"`model` (={model!r}) must be a keras.Model. Load a saved one with `keras.saving.load_model(path)`."
        )
    if keras.config.backend() != "tensorflow":
        raise ValueError(
            f"`model` runs on the Keras backend {keras.config.backend()!r}, and export needs 'tensorflow'. Save it "
            "with `model.save('model.keras')` and export it in a process started with KERAS_BACKEND=tensorflow."
        )
    if not model.built:
        raise ValueError(
            f"`model` (={model.name!r}) must be built, and has no weights yet. Begin it with a `keras.Input`, or "
            "call it on a batch first."
        )
    for layer in model._flatten_layers():
        if isinstance(layer, (ChannelIndex, ChannelScatterAdd)):
            layer.check_indices()  # `set_weights` takes any
    for variable in model.variables:
        values = ops.convert_to_numpy(variable)
        if values.dtype.kind not in "iub" and not np.isfinite(values.astype("float32")).all():
            raise ValueError(
                f"Weight {variable.path!r} of `model` must be finite, and has NaN or infinity. Export a checkpoint "
                "from before the training diverged."
            )


def in_float32(model: keras.Model) -> keras.Model:
    """`model` computing in float32, which is what .tflite kernels compute in; itself if it does so already."""
    if all(layer.compute_dtype in (None, "float32") for layer in model._flatten_layers(include_self=False)):
        return model
    if not getattr(model, "inputs", None):
        raise ValueError(
            f"`model` (={model.name!r}) computes in {model.compute_dtype}, and a subclassed model must compute in "
            'float32 to be exported. Build it with `dtype="float32"` and copy the weights with `set_weights`.'
        )

    def with_float32(layer: keras.layers.Layer) -> keras.layers.Layer:
        return type(layer).from_config(layer.get_config() | {"dtype": "float32"})

    clone = keras.models.clone_model(model, clone_function=with_float32, recursive=True)
    clone.set_weights(model.get_weights())
    return clone


def prepared(model: keras.Model) -> keras.Model:
    """The model to export: condensed if it is masked, and in float32."""
    if any(isinstance(layer, LearnedConnections) for layer in model._flatten_layers()):
        model = condense(model)
    return in_float32(model)
