"""From the model that a user has to the one that is exported: condensed, and in float32."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_condense.condensation import condensed
from keras_condense.layers import ChannelIndex, ChannelScatterAdd, FakeQuantize, QuantizedKernel, stand_ins
from keras_condense.layers.quantized import plain_layer
from keras_condense.rewriting import Replacement, check_rewritable, copied, rewrite

__all__ = ["check_model", "check_ranges", "in_float32", "is_aware", "made_anew", "prepared"]

_OTHERS = ("float16", "bfloat16", "float64")


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


def is_aware(model: keras.Model) -> bool:
    """Whether a model has the ranges that its int8 file computes in."""
    return any(isinstance(layer, FakeQuantize) for layer in model._flatten_layers())


def check_ranges(model: keras.Model, quantize: str | None, with_ranges: str, has_data: bool) -> None:
    """Raise unless a model that has ranges is exported with them.

    Args:
        model: made by `quantize_aware`.
        quantize: what was asked for.
        with_ranges: the scheme that takes them.
        has_data: whether there are data to calibrate with.

    Raises:
        ValueError: another scheme; data, which would make other ranges; a range that nothing is known of.
    """
    if quantize != with_ranges:
        raise ValueError(
            f"`quantize` (={quantize!r}) must be {with_ranges!r} for `model` (={model.name!r}), which was made by "
            "`quantize_aware` for it. Export the model that it was made of for another."
        )
    if has_data:
        raise ValueError(
            f"`representative_data` was given, and `model` (={model.name!r}) has its ranges from its training. Leave "
            "it out, or give it to `calibrate_ranges` to have others."
        )
    for layer in model._flatten_layers():
        if isinstance(layer, FakeQuantize) and not layer.is_calibrated:
            raise ValueError(
                f"Layer {layer.name!r} of `model` (={model.name!r}) must know the range of its numbers, and has seen "
                "none. Train the model, or call `keras_condense.calibrate_ranges(model, data)`."
            )


def in_float32(model: keras.Model) -> keras.Model:
    """`model` computing in float32, which is what .tflite kernels compute in; itself if it does so already.

    Raises:
        ValueError: it can't be built anew, or a part of it that computes in another precision can't.
    """
    # a functional model computes nothing itself, a sequential one casts what it is given
    if not _other_precision(model, include_self=isinstance(model, keras.Sequential)):
        return model
    if not getattr(model, "inputs", None):
        raise ValueError(
            f"`model` (={model.name!r}) computes in {model.compute_dtype}, and a subclassed model must compute in "
            'float32 to be exported. Build it with `dtype="float32"` and copy the weights with `set_weights`.'
        )
    check_rewritable(model)
    made = rewrite(model, _in_float32, compile=False, policy="float32")
    if left := _other_precision(made, include_self=True):
        raise ValueError(
            f"Layer {left[0].name!r} of `model` (={model.name!r}) must compute in float32 to be exported, and still "
            f"computes in {left[0].compute_dtype} when it is made anew. Build the model in float32 and copy the "
            "weights with `set_weights`."
        )
    return made


def _other_precision(model: keras.Model, include_self: bool) -> list[keras.layers.Layer]:
    """The layers that compute in floating point other than float32."""
    layers = model._flatten_layers(include_self=include_self)
    inputs = keras.layers.InputLayer  # which computes nothing
    return [layer for layer in layers if layer.compute_dtype in _OTHERS and not isinstance(layer, inputs)]


def _in_float32(layer: keras.layers.Layer) -> Replacement | None:
    if not any(part.compute_dtype in _OTHERS for part in layer._flatten_layers()):
        return None
    return [(copied(layer, _with_float32(layer.get_config())), layer.get_weights())]


def _with_float32(config: Any) -> Any:
    """A configuration, and those of layers in it, whose policies of other precision are float32."""
    if isinstance(config, (list, tuple)):
        return type(config)(map(_with_float32, config))
    if not isinstance(config, dict):
        return config
    return {
        key: "float32" if key == "dtype" and _is_other_policy(value) else _with_float32(value)
        for key, value in config.items()
    }


def _is_other_policy(value: Any) -> bool:
    if isinstance(value, dict):  # as Keras writes policies down
        value = value.get("config", {}).get("name")
    name = getattr(value, "name", value)
    return isinstance(name, str) and name.removeprefix("mixed_") in _OTHERS


def prepared(model: keras.Model) -> keras.Model:
    """The model to export: condensed if layers of it stand for others, and in float32."""
    if stand_ins(model):
        model = condensed(model, compile=False)
    if any(isinstance(layer, QuantizedKernel) for layer in model._flatten_layers()):
        model = rewrite(model, _with_rounded_kernel, compile=False)
    return in_float32(model)


def _with_rounded_kernel(layer: keras.layers.Layer) -> Replacement | None:
    return plain_layer(layer) if isinstance(layer, QuantizedKernel) else None


def made_anew(model: keras.Model) -> keras.Model:
    """`model` as `in_float32` copies it, in its own precision: it computes the same if its layers can be copied."""
    return rewrite(model, lambda layer: None, compile=False)
