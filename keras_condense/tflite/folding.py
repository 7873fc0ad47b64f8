"""Batch norms that the converter cannot fold, since a shuffle stands between them and their convolution."""

import keras
import numpy as np
from keras import ops

from keras_condense.layers import ChannelShuffle, GroupConv2D

__all__ = ["fold_shuffled_batch_norms"]


def _consumers(model: keras.Model) -> dict[int, list]:
    """The graph's nodes that read each tensor, by the tensor's id; an output of the model counts as a reader."""
    readers = {id(tensor): [None] for tensor in model.outputs}
    for operation in model.operations:
        for node in operation._inbound_nodes:
            for tensor in node.input_tensors:
                readers.setdefault(id(tensor), []).append(node)
    return readers


def _only_reader(layer: keras.layers.Layer, readers: dict[int, list]) -> keras.layers.Layer | None:
    """The layer that alone reads `layer`'s output, if `layer` is used once and so is its output."""
    nodes = layer._inbound_nodes
    if len(nodes) != 1 or len(nodes[0].output_tensors) != 1:
        return None
    found = readers.get(id(nodes[0].output_tensors[0]), [])
    return found[0].operation if len(found) == 1 and found[0] is not None else None


def _is_foldable(layer) -> bool:
    return (
        isinstance(layer, keras.layers.BatchNormalization)
        and len(layer._inbound_nodes) == 1
        and layer.axis in (-1, len(layer._inbound_nodes[0].input_tensors[0].shape) - 1)
        and layer.scale
        and layer.center
    )


def fold_shuffled_batch_norms(model: keras.Model) -> dict[int, np.ndarray]:
    """Scale kernels so that a batch norm behind a convolution and a shuffle only has to add.

    Batch norm in inference is `scale * x + shift` per channel. Where x is a shuffled convolution, the scale moves back
    through the shuffle into the kernel's filters; the batch norm keeps a scale of exactly one, which the converter
    drops, and the shift.

    Args:
        model: a functional or sequential model, nested ones included; it is only read. Others have no graph to look at.

    Returns:
        New values by `id(variable)`; what is not in it stays. Layers that are used more than once, or whose output is
        read elsewhere as well, are left alone.

    Example:
        >>> import keras
        >>> inputs = keras.Input((4, 4, 2))
        >>> convolution, norm = GroupConv2D(4, 1, groups=2), keras.layers.BatchNormalization(gamma_initializer="zeros")
        >>> model = keras.Model(inputs, norm(ChannelShuffle(2)(convolution(inputs))))
        >>> bool(np.any(fold_shuffled_batch_norms(model)[id(convolution.kernel)]))
        False
    """
    values: dict[int, np.ndarray] = {}
    if isinstance(model, keras.Sequential):
        model = model._functional
    if not hasattr(model, "operations"):
        return values
    readers = _consumers(model)
    for convolution in model.layers:
        if isinstance(convolution, keras.Model):
            values |= fold_shuffled_batch_norms(convolution)
        if not isinstance(convolution, (GroupConv2D, keras.layers.Conv2D)):
            continue
        if convolution.activation is not keras.activations.linear:
            continue
        shuffle = _only_reader(convolution, readers)
        norm = _only_reader(shuffle, readers) if isinstance(shuffle, ChannelShuffle) else None
        if not _is_foldable(norm):
            continue
        gamma, beta, mean, variance = (
            ops.convert_to_numpy(weight).astype("float64")
            for weight in (norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)
        )
        scale = gamma / np.sqrt(variance + norm.epsilon)
        # output channel d G + g of the shuffle is its input channel g (channels / G) + d
        unshuffled_scale = scale.reshape(-1, shuffle.groups).T.ravel()
        kernel = ops.convert_to_numpy(convolution.kernel).astype("float64")
        folded = [
            (convolution.kernel, kernel * unshuffled_scale),
            (norm.gamma, np.ones_like(gamma)),
            (norm.beta, beta - mean * scale),
            (norm.moving_mean, np.zeros_like(mean)),
            # 1 - epsilon, rounded to float32, plus epsilon rounds to exactly 1
            (norm.moving_variance, np.full_like(variance, np.float32(1) - np.float32(norm.epsilon))),
        ]
        if convolution.use_bias:
            bias = ops.convert_to_numpy(convolution.bias).astype("float64")
            folded.append((convolution.bias, bias * unshuffled_scale))
        values |= {id(variable): value.astype("float32") for variable, value in folded}
    return values
