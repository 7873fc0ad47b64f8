"""Whose images batch norms take their statistics of, where several devices share each batch."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops

from keras_condense.layers import BatchNormalization
from keras_condense.layers.fake_quantization import QuantizedBatchNormalization
from keras_condense.training.several import share_of_process
from keras_condense.validation import check_choice, listed

__all__ = ["batch_norm_statistics", "check_batch_norms", "normalized_apart"]

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
        >>> images = np.array([[1], [3], [10], [14]], "float32")
        >>> outputs, mean, variance = normalized_apart(images, 2, axis=1, epsilon=0.0)
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
def batch_norm_statistics(model: keras.Model, kind: str | None) -> Iterator[None]:
    """Train batch norms, within the block, by the statistics of each device's images or of the whole batch.

    `train(batch_norms=kind)` does so itself. This is for `fit`, and for loops of one's own with PyTorch's
    DistributedDataParallel; the block is around the whole training.

    - "synchronized": mean and variance are those of the whole batch, of all devices and processes together, as one
      device computes them. A layer's devices wait for each other, in the forward and in the backward pass.
    - "local": those of each device's own images. On JAX, what is kept for inference is their mean over the devices;
      elsewhere each device keeps its own.

    Args:
        model: its batch norms, those of nested models too.
        kind: "local", "synchronized", or None for what the backend does by itself: "synchronized" on JAX, "local" on
            PyTorch, and as each layer says on TensorFlow. Where one device trains, all are the same.

    Raises:
        ValueError: another kind, or batch norms that compute otherwise than Keras' do.

    Example:
        >>> import numpy as np
        >>> norm = keras.layers.BatchNormalization()
        >>> model = keras.Sequential([keras.Input((3,)), norm])
        >>> model.compile("sgd", "mse")
        >>> images = np.ones((4, 3), "float32")
        >>> with batch_norm_statistics(model, "synchronized"):
        ...     history = model.fit(images, images, verbose=0)
    """
    devices = check_batch_norms(model, kind)
    if kind is None or devices == 1:
        yield
        return
    backend, norms = keras.backend.backend(), _batch_norms(model)
    traced, model.train_function = model.train_function, None  # which has the layers as they were
    if backend == "jax":  # which would take the trace of an equal function that it has seen before
        model.__dict__["train_step"] = functools.partial(model.train_step)
    for layer in norms:  # whose attributes stay as they are, for they stand in files
        if (kind, backend) == (LOCAL, "jax"):
            layer.__dict__["call"] = _local_call(layer, devices)
        elif (kind, backend) == (SYNCHRONIZED, "torch"):
            layer.__dict__["_moments"] = functools.partial(_moments_of_processes, layer)
        elif backend == "tensorflow" and layer.synchronized != (kind == SYNCHRONIZED):
            layer.__dict__["_moments"] = functools.partial(_moments_of_replicas, layer, kind == SYNCHRONIZED)
    try:
        yield
    finally:
        model.train_function = traced
        model.__dict__.pop("train_step", None)
        for layer in norms:
            layer.__dict__.pop("call", None)
            layer.__dict__.pop("_moments", None)


def check_batch_norms(model: keras.Model, kind: str | None) -> int:
    """How many devices share each batch; ValueError where their batch norms can't be of a kind."""
    check_choice("batch_norms", kind, (None, *KINDS), "Use 'local' where devices should not wait.")
    backend = keras.backend.backend()
    devices = _processes_on_torch() if backend == "torch" else share_of_process(model).replicas
    if devices == 1 or kind is None:
        return devices
    norms = _batch_norms(model)
    if masked := [layer.name for layer in norms if _is_masked(layer)]:
        raise ValueError(
            f"`batch_norms` (={kind!r}) must be left out for batch norms that get a mask, as {listed(masked)} of model "
            f"{model.name!r} do."
        )
    other = [layer.name for layer in norms if type(layer).call not in _KNOWN or getattr(layer, "renorm", False)]
    if other and (kind, backend) in ((LOCAL, "jax"), (SYNCHRONIZED, "torch")):
        raise ValueError(
            f"`batch_norms` (={kind!r}) must be for batch norms that compute as Keras' do, without `renorm`, and "
            f"{listed(other)} of model {model.name!r} may not. Leave `batch_norms` out."
        )
    return devices


def _is_masked(layer: keras.layers.BatchNormalization) -> bool:
    return any(
        getattr(tensor, "_keras_mask", None) is not None
        for node in layer._inbound_nodes
        for tensor in node.input_tensors
    )


def _batch_norms(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    return [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]


def _processes_on_torch() -> int:
    import torch

    is_shared = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if is_shared else 1


def _check_inputs(layer: keras.layers.BatchNormalization, mask: Any) -> None:
    if mask is not None:
        raise ValueError(
            f"`batch_norms` must be left out for inputs with a mask, and batch norm {layer.name!r} got one."
        )


def _local_call(layer: keras.layers.BatchNormalization, devices: int):
    """What computes in place of `layer.call` on JAX, where one program is written for all devices."""
    as_it_was = layer.call

    def call(inputs, training=None, mask=None):
        if not (training and layer.trainable) or getattr(layer, "frozen", False):
            return as_it_was(inputs, training=training, mask=mask)
        _check_inputs(layer, mask)
        if inputs.shape[0] % devices:
            raise ValueError(
                f"`inputs` of batch norm {layer.name!r} (shape {tuple(inputs.shape)}) must be a batch that the "
                f"{devices} devices divide. Choose such a batch size, and leave out the last images that fill no batch."
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


def _moments_of_replicas(
    layer: keras.layers.BatchNormalization, synchronized: bool, inputs: Any, mask: Any
) -> tuple[Any, Any]:
    """Mean and variance of each channel over this replica's images, or over all replicas', on TensorFlow."""
    _check_inputs(layer, mask)
    return ops.moments(inputs, layer._reduction_axes, synchronized=synchronized)


def _moments_of_processes(layer: keras.layers.BatchNormalization, inputs: Any, mask: Any) -> tuple[Any, Any]:
    """Mean and variance of each channel over the batches of all processes, of one size, on PyTorch."""
    _check_inputs(layer, mask)
    axes, mean_of_processes = layer._reduction_axes, _mean_of_processes()
    mean = mean_of_processes(inputs.mean(axes, keepdim=True))
    variance = mean_of_processes((inputs - mean).square().mean(axes))
    return mean.reshape(variance.shape), variance


@functools.cache
def _mean_of_processes() -> Callable:
    """A function of PyTorch: the mean over processes, whose gradient is the mean of their gradients."""
    import torch

    def mean(values):
        summed = values.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(summed)
        return summed / torch.distributed.get_world_size()

    class Mean(torch.autograd.Function):
        @staticmethod
        def forward(context, values):
            return mean(values)

        @staticmethod
        def backward(context, gradient):
            return mean(gradient)

    return Mean.apply
