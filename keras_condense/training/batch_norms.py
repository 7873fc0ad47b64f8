"""Whose images batch norms take their statistics of, where several devices share each batch."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from keras_condense.layers import BatchNormalization
from keras_condense.layers.fake_quantization import QuantizedBatchNormalization
from keras_condense.validation import listed

__all__ = ["KINDS", "check_batch_norms", "normalized_apart", "statistics_of"]

LOCAL, SYNCHRONIZED = KINDS = "local", "synchronized"
_KNOWN = {kind.call for kind in (keras.layers.BatchNormalization, BatchNormalization, QuantizedBatchNormalization)}


def normalized_apart(
    inputs: Any, devices: int, *, axis: int, epsilon: float, scale: Any = 1.0, offset: Any = 0.0
) -> tuple[Any, Any, Any]:
    """Normalize each device's rows of a batch by their own mean and variance.

    Nothing is summed across devices but what is kept of the statistics, their means, for which no layer waits.

    Args:
        inputs: a batch, whose rows the devices share in order.
        devices: how many there are; they divide the rows.
        axis: of the channels.
        epsilon: added to the variance.
        scale: of each channel, after normalizing.
        offset: of each channel, after scaling.

    Returns:
        The normalized batch, and the mean and the variance of each channel: those of one device, in the mean.

    Example:
        >>> import numpy as np
        >>> outputs, mean, variance = normalized_apart(np.array([[1.0], [3.0], [10.0], [14.0]]), 2, axis=1, epsilon=0.0)
        >>> ops.convert_to_numpy(outputs).ravel().tolist()
        [-1.0, 1.0, -1.0, 1.0]
        >>> float(mean[0]), float(variance[0])
        (7.0, 2.5)
    """
    parts = ops.reshape(inputs, (devices, inputs.shape[0] // devices, *inputs.shape[1:]))
    channels = axis % len(inputs.shape) + 1
    others = [number for number in range(1, len(parts.shape)) if number != channels]
    along = [-1 if number == channels else 1 for number in range(len(parts.shape))]
    mean, variance = ops.moments(parts, others, keepdims=True)
    factor = ops.reshape(scale, along) * ops.rsqrt(variance + epsilon)
    outputs = parts * factor + (ops.reshape(offset, along) - mean * factor)
    kept = (ops.reshape(ops.mean(values, axis=0), (-1,)) for values in (mean, variance))
    return (ops.reshape(outputs, inputs.shape), *kept)


@contextlib.contextmanager
def statistics_of(model: keras.Model, kind: str | None, devices: int) -> Iterator[None]:
    """Train batch norms, within the block, by the statistics of each device's images or of the whole batch.

    Args:
        model: its batch norms, those of nested models too.
        kind: "local", "synchronized", or None for what the backend does by itself.
        devices: how many share each batch. Of one, both kinds are the same.
    """
    if kind is None or devices == 1 or (kind == SYNCHRONIZED and keras.backend.backend() == "jax"):
        yield  # JAX computes as one device would
        return
    norms = _batch_norms(model)
    if keras.backend.backend() == "jax":
        for layer in norms:
            layer.__dict__["call"] = _local_call(layer, devices)
    before = [layer.synchronized for layer in norms]
    if keras.backend.backend() == "tensorflow":
        for layer in norms:
            layer.synchronized = kind == SYNCHRONIZED
    try:
        yield
    finally:
        for layer, synchronized in zip(norms, before, strict=True):
            layer.synchronized = synchronized
            layer.__dict__.pop("call", None)


def check_batch_norms(model: keras.Model, kind: str | None, devices: int) -> None:
    """Raise ValueError where batch norms can't take the statistics of each device's images."""
    if kind != LOCAL or devices == 1 or keras.backend.backend() != "jax":
        return
    other = [layer.name for layer in _batch_norms(model) if type(layer).call not in _KNOWN or layer.renorm]
    if other:
        raise ValueError(
            f"`batch_norms` (='local') must be for batch norms that compute as Keras' do, without `renorm`, and "
            f"{listed(other)} of model {model.name!r} may not. Use 'synchronized'."
        )


def _batch_norms(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    return [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]


def _local_call(layer: keras.layers.BatchNormalization, devices: int):
    """What computes in place of `layer.call`."""
    as_it_was = layer.call

    def call(inputs, training=None, mask=None):
        learns = training and layer.trainable and not getattr(layer, "frozen", False)
        if not learns or inputs.shape[0] is None or inputs.shape[0] % devices:  # shapes alone are asked for
            return as_it_was(inputs, training=training, mask=mask)
        if mask is not None:
            raise ValueError(
                f"`batch_norms` (='local') must be for inputs without a mask, and {layer.name!r} got one. Use "
                "'synchronized'."
            )
        inputs = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        outputs, *statistics = normalized_apart(
            inputs,
            devices,
            axis=layer.axis,
            epsilon=layer.epsilon,
            scale=ops.cast(layer.gamma, inputs.dtype) if layer.scale else 1.0,
            offset=ops.cast(layer.beta, inputs.dtype) if layer.center else 0.0,
        )
        for moving, of_batch in zip((layer.moving_mean, layer.moving_variance), statistics, strict=True):
            moving.assign(moving * layer.momentum + ops.cast(of_batch, moving.dtype) * (1.0 - layer.momentum))
        return ops.cast(outputs, layer.compute_dtype)

    return call
