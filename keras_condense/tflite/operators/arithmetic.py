"""Operators that compute number by number, and averages."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from keras_condense.tflite.operators.base import Features, Operator, Shape

__all__ = ["Add", "Affine", "AveragePool", "HardSwish", "Input", "KerasCall", "Maximum", "Mean", "Minimum", "Relu"]


@dataclasses.dataclass(frozen=True, eq=False)
class Input(Operator):
    """What the network is given."""

    kind: ClassVar[str] = "input"

    dtype: str = "float32"


@dataclasses.dataclass(frozen=True, eq=False)
class KerasCall(Operator):
    """A layer without an operator of its own, as Keras calls it.

    Attributes:
        call: a function of a list of tensors that gives the layer's outputs.
        position: which of them it is.
        variables: the layer's.
    """

    kind: ClassVar[str] = "layer"

    call: Callable[[list[Any]], list[Any]]
    position: int = 0
    variables: tuple[Any, ...] = ()

    def emit(self, tf: Any, inputs: list[Any], shape: Shape) -> Any:
        return self.call(inputs)[self.position]


@dataclasses.dataclass(frozen=True, eq=False)
class Affine(Operator):
    """`scale * x + shift` for each channel: a batch norm in inference."""

    kind: ClassVar[str] = "affine"

    scale: np.ndarray
    shift: np.ndarray
    relu: bool = False

    def emit(self, tf: Any, inputs: list[Any], shape: Shape) -> Any:
        outputs = inputs[0] * tf.constant(self.scale) + tf.constant(self.shift)
        return tf.nn.relu(outputs) if self.relu else outputs


@dataclasses.dataclass(frozen=True, eq=False)
class Relu(Operator):
    """max(x, 0)."""

    kind: ClassVar[str] = "relu"

    def emit(self, tf: Any, inputs: list[Any], shape: Shape) -> Any:
        return tf.nn.relu(inputs[0])


@dataclasses.dataclass(frozen=True, eq=False)
class HardSwish(Operator):
    """x min(max(x + 3, 0), 6) / 6."""

    kind: ClassVar[str] = "hard_swish"

    def emit(self, tf: Any, inputs: list[Any], shape: Shape) -> Any:
        # in the order in which the converter knows it again
        return inputs[0] * tf.nn.relu6(inputs[0] + 3.0) * (1.0 / 6.0)


@dataclasses.dataclass(frozen=True, eq=False)
class Add(Operator):
    """The sum of images of one shape; `sparse` as for `Convolution`."""

    kind: ClassVar[str] = "add"

    relu: bool = False
    sparse: bool = False

    def emit(self, tf: Any, inputs: list[Any], shape: Shape) -> Any:
        total = inputs[0]
        for other in inputs[1:]:
            total = total + other
        return tf.nn.relu(total) if self.relu else total

    def features(self, inputs: Sequence[Shape], shape: Shape, lanes: int) -> Features:
        return "sparse_add" if self.sparse else self.kind, {"outputs": math.prod(shape) * (len(inputs) - 1)}


@dataclasses.dataclass(frozen=True, eq=False)
class _Limit(Operator):
    """A limit for each channel of an image, or for each row: computed pixel by pixel, or row by row."""

    limit: np.ndarray

    def features(self, inputs: Sequence[Shape], shape: Shape, lanes: int) -> Features:
        of_rows = self.limit.ndim > 1
        steps = shape[0] if of_rows else math.prod(shape) // shape[-1]
        return "row_maximum" if of_rows else "maximum", {"outputs": math.prod(shape), "steps": steps}


@dataclasses.dataclass(frozen=True, eq=False)
class Maximum(_Limit):
    """max(x, limit)."""

    kind: ClassVar[str] = "maximum"

    def emit(self, tf: Any, inputs: list[Any], shape: Shape) -> Any:
        return tf.maximum(inputs[0], tf.constant(self.limit))


@dataclasses.dataclass(frozen=True, eq=False)
class Minimum(_Limit):
    """min(x, limit)."""

    kind: ClassVar[str] = "minimum"

    def emit(self, tf: Any, inputs: list[Any], shape: Shape) -> Any:
        return tf.minimum(inputs[0], tf.constant(self.limit))


@dataclasses.dataclass(frozen=True, eq=False)
class _Average(Operator):
    """Its cost grows with what it reads."""

    def features(self, inputs: Sequence[Shape], shape: Shape, lanes: int) -> Features:
        return self.kind, {"inputs": sum(map(math.prod, inputs))}


@dataclasses.dataclass(frozen=True, eq=False)
class AveragePool(_Average):
    """The average of windows that don't overlap, without padding."""

    kind: ClassVar[str] = "average_pool"

    size: tuple[int, int] = (2, 2)

    def emit(self, tf: Any, inputs: list[Any], shape: Shape) -> Any:
        return tf.nn.avg_pool2d(inputs[0], self.size, self.size, "VALID")


@dataclasses.dataclass(frozen=True, eq=False)
class Mean(_Average):
    """The average over height and width: a vector."""

    kind: ClassVar[str] = "mean"

    def emit(self, tf: Any, inputs: list[Any], shape: Shape) -> Any:
        return tf.reduce_mean(inputs[0], axis=[1, 2])
