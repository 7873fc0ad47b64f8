"""Operators that compute number by number, and averages."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from keras_condense.tflite.operators.base import Features, Operator, Shape

__all__ = [
    "Add",
    "Affine",
    "AveragePool",
    "FakeQuantized",
    "HardSwish",
    "Input",
    "KerasCall",
    "Maximum",
    "Mean",
    "Minimum",
    "Multiply",
    "Relu",
    "Sigmoid",
    "Swish",
    "SwishOfHalf",
    "limited",
]


_FEW_CHANNELS = 8  # of which a SIMD register is not full, or few are


def limited(tf: Any, outputs: Any, relu: bool, ceiling: float | None) -> Any:
    """What a fused ReLU makes of `outputs`: nothing, max(x, 0), or min(max(x, 0), ceiling)."""
    if not relu:
        return outputs
    if ceiling == 6:
        return tf.nn.relu6(outputs)  # which the converter knows
    outputs = tf.nn.relu(outputs)
    return outputs if ceiling is None else tf.minimum(outputs, ceiling)


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
    ceiling: float | None = None

    def emit(self, tf: Any, inputs: list[Any], shape: Shape) -> Any:
        outputs = inputs[0]
        if (self.scale != 1).any():
            outputs = outputs * tf.constant(self._repeated(self.scale, shape))
        if self.shift.any():
            outputs = outputs + tf.constant(self._repeated(self.shift, shape))
        return limited(tf, outputs, self.relu, self.ceiling)

    def _repeated(self, values: np.ndarray, shape: Shape) -> np.ndarray:
        """One number where all are equal, a row of pixels where they are few: runs of three numbers take long."""
        if (values == values[0]).all():
            return values[0]
        return np.tile(values, (shape[1], 1)) if len(shape) == 3 and len(values) < _FEW_CHANNELS else values


@dataclasses.dataclass(frozen=True, eq=False)
class FakeQuantized(Operator):
    """Numbers rounded to the 256 of a range: the converter makes it the range of what it reads, and no operator."""

    kind: ClassVar[str] = "range"

    minimum: float
    maximum: float

    def emit(self, tf: Any, inputs: list[Any], shape: Shape) -> Any:
        return tf.quantization.fake_quant_with_min_max_args(inputs[0], self.minimum, self.maximum)


@dataclasses.dataclass(frozen=True, eq=False)
class Relu(Operator):
    """max(x, 0), or min(max(x, 0), ceiling)."""

    kind: ClassVar[str] = "relu"

    ceiling: float | None = None

    def emit(self, tf: Any, inputs: list[Any], shape: Shape) -> Any:
        return limited(tf, inputs[0], True, self.ceiling)


@dataclasses.dataclass(frozen=True, eq=False)
class Sigmoid(Operator):
    """1 / (1 + exp(-x))."""

    kind: ClassVar[str] = "sigmoid"

    def emit(self, tf: Any, inputs: list[Any], shape: Shape) -> Any:
        return tf.sigmoid(inputs[0])


@dataclasses.dataclass(frozen=True, eq=False)
class Swish(Operator):
    """x sigmoid(x)."""

    kind: ClassVar[str] = "swish"

    def emit(self, tf: Any, inputs: list[Any], shape: Shape) -> Any:
        return inputs[0] * tf.sigmoid(inputs[0])


@dataclasses.dataclass(frozen=True, eq=False)
class SwishOfHalf(Operator):
    """x sigmoid(x), given x / 2."""

    kind: ClassVar[str] = "swish_of_half"

    def emit(self, tf: Any, inputs: list[Any], shape: Shape) -> Any:
        return inputs[0] + inputs[0] * tf.tanh(inputs[0])


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
    ceiling: float | None = None
    sparse: bool = False

    def emit(self, tf: Any, inputs: list[Any], shape: Shape) -> Any:
        total = inputs[0]
        for other in inputs[1:]:
            total = total + other
        return limited(tf, total, self.relu, self.ceiling)

    def features(self, inputs: Sequence[Shape], shape: Shape, lanes: int) -> Features:
        return "sparse_add" if self.sparse else self.kind, {"outputs": math.prod(shape) * (len(inputs) - 1)}


@dataclasses.dataclass(frozen=True, eq=False)
class Multiply(Operator):
    """The product of two images of one shape, or of an image and one number for each of its channels (1, 1, channels).

    Its cost is that of a sum.
    """

    kind: ClassVar[str] = "multiply"

    sparse: bool = False

    def emit(self, tf: Any, inputs: list[Any], shape: Shape) -> Any:
        return inputs[0] * inputs[1]

    def features(self, inputs: Sequence[Shape], shape: Shape, lanes: int) -> Features:
        return "sparse_add" if self.sparse else "add", {"outputs": math.prod(shape)}


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
    """The average over height and width: a vector, or an image of one pixel."""

    kind: ClassVar[str] = "mean"

    keepdims: bool = False

    def emit(self, tf: Any, inputs: list[Any], shape: Shape) -> Any:
        return tf.reduce_mean(inputs[0], axis=[1, 2], keepdims=self.keepdims)
