"""Biases rounded to what a file holds: int32 counts of the input's step times the weights'."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_condense.keras_graphs import nodes_in_order
from keras_condense.layers import ChannelShuffle
from keras_condense.layers.fake_quantization import FakeQuantize, QuantizedBatchNormalization
from keras_condense.layers.quantized import QuantizedKernel
from keras_condense.tflite.operators import shuffled

__all__ = ["round_biases"]

_LARGEST_WEIGHT = 127


def round_biases(model: keras.Model) -> None:
    """Move biases, and offsets of batch norms, to the nearest that the int8 file can hold.

    A file adds a bias as an integer number of (step of the input) x (step of the filter's weights), which is some
    hundredths of a step of the output. Where a later batch norm enlarges small differences, as in densely connected
    networks, these would be seen. Training moves the biases again; `QuantizeSchedule` calls this at its end.

    Args:
        model: made by `quantize_aware`, with its ranges known. Its biases change by half a count at most.

    Example:
        See `quantize_aware`, which calls it where it is given data.
    """
    graph = _Graph(model)
    for node in graph.nodes:
        layer, step = node.operation, graph.step_of(node)
        if step is None or graph.calls[id(layer)] != 1:
            continue
        if isinstance(layer, QuantizedKernel):
            norm, order = graph.norm_of(node)
            scales = step * layer.kernel_scales()
            if norm is None:
                if layer.use_bias:
                    _move(layer.bias, _array(layer.bias), scales)
            elif graph.calls[id(norm)] == 1:
                bias = _array(layer.bias) if layer.use_bias else 0.0
                _round_norm(norm, scales if order is None else scales[order], bias)
        elif isinstance(layer, QuantizedBatchNormalization) and id(layer) not in graph.folded:
            _round_norm(layer, np.full(layer.moving_mean.shape, step / _LARGEST_WEIGHT), 0.0)


def _round_norm(norm: keras.layers.BatchNormalization, scales: np.ndarray, bias: Any) -> None:
    """Move the offset of a batch norm whose input counts in `scales`."""
    if not norm.center:
        return
    factor = 1.0 / np.sqrt(_array(norm.moving_variance) + norm.epsilon)
    if norm.scale:
        factor = factor * _array(norm.gamma)
    _move(norm.beta, _array(norm.beta) + (bias - _array(norm.moving_mean)) * factor, scales * np.abs(factor))


def _move(variable: keras.Variable, bias: np.ndarray, count: np.ndarray) -> None:
    """Change a variable by what `bias`, which it is a summand of, lacks to a whole number of counts."""
    with np.errstate(divide="ignore", invalid="ignore"):
        rounded = np.where(count > 0, np.round(bias / count) * count, bias)
    variable.assign(_array(variable) + (rounded - bias))


def _array(variable: keras.Variable) -> np.ndarray:
    return ops.convert_to_numpy(variable).astype("float64")


class _Graph:
    """The calls of a flat model, by the tensors between them."""

    def __init__(self, model: keras.Model):
        self.nodes = list(nodes_in_order(model))
        self._made_by = {id(tensor): node for node in self.nodes for tensor in node.outputs}
        self._readers: dict[int, list[Any]] = {}
        self.calls: dict[int, int] = {}
        for node in self.nodes:
            self.calls[id(node.operation)] = self.calls.get(id(node.operation), 0) + 1
            for tensor in node.input_tensors:
                self._readers.setdefault(id(tensor), []).append(node)
        self.folded = {id(norm) for norm in self._folded_norms()}

    def _folded_norms(self) -> Iterator[Any]:
        for node in self.nodes:
            if isinstance(node.operation, QuantizedKernel) and (norm := self.norm_of(node)[0]) is not None:
                yield norm

    def step_of(self, node: Any) -> float | None:
        """The step of the numbers that a call gets; None where they are not rounded, or of no range."""
        tensor = node.input_tensors[0]
        while (source := self._made_by.get(id(tensor))) is not None:
            if isinstance(source.operation, FakeQuantize):
                return source.operation.scale if source.operation.is_calibrated else None
            if not source.input_tensors or isinstance(source.operation, (QuantizedKernel, QuantizedBatchNormalization)):
                return None
            tensor = source.input_tensors[0]  # numbers that are copied have the range of what they are copied from
        return None

    def norm_of(self, node: Any) -> tuple[keras.layers.BatchNormalization | None, np.ndarray | None]:
        """The batch norm that a convolution is computed with, and the order in which it gets the filters."""
        order, channels = None, node.outputs[0].shape[-1]
        while len(readers := self._readers.get(id(node.outputs[0]), [])) == 1:
            (node,) = readers
            if isinstance(node.operation, QuantizedBatchNormalization):
                return node.operation, order
            if not isinstance(node.operation, ChannelShuffle):
                break
            indices = shuffled(channels, node.operation.groups)
            order = indices if order is None else order[indices]
        return None, None
