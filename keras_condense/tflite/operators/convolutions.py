"""Operators that multiply by kernels: convolutions and dense layers."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from keras_condense.tflite.operators.arithmetic import limited
from keras_condense.tflite.operators.base import Features, Operator, Shape

__all__ = ["NO_PADDING", "PAD_ONE", "Convolution", "Dense", "Depthwise", "convolution_features", "explicit_padding"]

Padding = tuple[tuple[int, int], tuple[int, int]]  # zeros above and below, left and right
NO_PADDING: Padding = ((0, 0), (0, 0))
PAD_ONE: Padding = ((1, 1), (1, 1))


def explicit_padding(size: int, kernel: int, stride: int, dilation: int, padding: str) -> tuple[int, int]:
    """Pixels before and after, as TensorFlow pads for "same"."""
    if padding == "valid":
        return (0, 0)
    total = max((math.ceil(size / stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return (total // 2, total - total // 2)


@dataclasses.dataclass(frozen=True, eq=False)
class _Kernel(Operator):
    """What operators with a kernel share: a bias and a ReLU that they apply to what they compute."""

    kernel: np.ndarray
    bias: np.ndarray | None = None
    relu: bool = False
    ceiling: float | None = None

    def _finish(self, tf: Any, outputs: Any) -> Any:
        if self.bias is not None:
            outputs = tf.nn.bias_add(outputs, tf.constant(self.bias))
        return limited(tf, outputs, self.relu, self.ceiling)


@dataclasses.dataclass(frozen=True, eq=False)
class _Window(_Kernel):
    """What moves a window over an image.

    Attributes:
        strides: down and across.
        padding: zeros around the image.
        dilation: down and across.
        sparse: whether it lies in a part that XNNPACK executes channels-first, skipping the kernel's zeros.
    """

    strides: tuple[int, int] = (1, 1)
    padding: Padding = NO_PADDING
    dilation: tuple[int, int] = (1, 1)
    sparse: bool = False

    @property
    def window(self) -> tuple[int, int]:
        """Height and width of the kernel."""
        return self.kernel.shape[:2]

    def _padded(self, tf: Any, image: Any) -> tuple[Any, str]:
        """The image and TensorFlow's own padding where that is the same, else with zeros around it."""
        # channels-first, XNNPACK wants to see the zeros of a stride that TensorFlow would pad by itself
        for name in ("valid", "same") if not self.sparse or self.strides == (1, 1) else ("valid",):
            sizes = zip(image.shape[1:3], self.window, self.strides, self.dilation, strict=True)
            if self.padding == tuple(explicit_padding(*axis, name) for axis in sizes):
                return image, name.upper()
        return tf.pad(image, [(0, 0), *self.padding, (0, 0)]), "VALID"


@dataclasses.dataclass(frozen=True, eq=False)
class Convolution(_Window):
    """A convolution of contiguous groups; the kernel is (height, width, inputs of a group, filters)."""

    kind: ClassVar[str] = "convolution"

    groups: int = 1

    @property
    def is_pointwise(self) -> bool:
        """Whether it is a 1x1 convolution of every pixel by itself."""
        return self.window == self.strides == (1, 1) and self.padding == NO_PADDING

    @property
    def matrix(self) -> np.ndarray:
        """The (inputs, filters) matrix of a 1x1 convolution, zero outside its groups."""
        inputs, filters = self.kernel.shape[2:]
        matrix = np.zeros((self.groups * inputs, filters), "float32")
        for members, channels, kernel in self.by_group():
            matrix[channels[:, None], members[None]] = kernel[0, 0]
        return matrix

    def by_group(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """For each group its filters, its input channels, and its (height, width, inputs, filters) kernel."""
        inputs, filters = self.kernel.shape[2:]
        per_group = filters // self.groups
        for group in range(self.groups):
            members = group * per_group + np.arange(per_group)
            yield members, group * inputs + np.arange(inputs), self.kernel[..., members]

    def emit(self, tf: Any, inputs: list[Any], shape: Shape) -> Any:
        kernel = tf.constant(self.kernel)
        image, padding = self._padded(tf, inputs[0])
        return self._finish(tf, tf.nn.conv2d(image, kernel, self.strides, padding, dilations=self.dilation))

    def features(self, inputs: Sequence[Shape], shape: Shape, lanes: int) -> Features:
        if self.sparse and self.window != (1, 1):
            return "sparse_stem", {"outputs": math.prod(shape)}
        if self.sparse:
            multiply_adds = float((self.kernel != 0).sum()) * math.prod(shape[:-1])
            kinds = {"paired": 0.0, "singles": 0.0}
            kinds["paired" if _is_paired(self.kernel) else "singles"] = multiply_adds
            return "sparse_pointwise", kinds | {"outputs": math.prod(shape)}
        return convolution_features(self.kernel.shape, self.groups, shape, lanes)


def _is_paired(kernel: np.ndarray) -> bool:
    """Whether XNNPACK computes two filters together: nine in ten of the numbers in pairs that have any are not zero."""
    kept = kernel.reshape(-1, kernel.shape[-1]) != 0
    pairs = kept[:, 0 : kept.shape[1] // 2 * 2 : 2] | kept[:, 1::2]
    return bool(kept.sum() >= 1.8 * max(pairs.sum(), 1))


def convolution_features(kernel: Shape, groups: int, shape: Shape, lanes: int) -> Features:
    """What the cost of a convolution with a kernel of this shape grows with; see `Operator.features`."""
    height, width, inputs, filters = kernel
    steps = math.ceil(filters / groups / lanes) * groups * math.prod(shape[:-1])
    return (
        "convolution" if height * width == 1 else "window_convolution",
        {
            # those that are computed, useful or not
            "multiply_adds": float(height * width * inputs * steps * lanes),
            "inputs": float(height * width * inputs * groups * math.prod(shape[:-1])),  # read, once a group
            "outputs": math.prod(shape),
            "steps": float(steps),  # runs through an inner loop over inputs
            # those of them whose filters don't fill the lanes
            "partial_steps": float(groups * math.prod(shape[:-1]) if filters // groups % lanes else 0),
        },
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Depthwise(_Window):
    """A window for each channel; the kernel is (height, width, channels)."""

    kind: ClassVar[str] = "depthwise"

    def emit(self, tf: Any, inputs: list[Any], shape: Shape) -> Any:
        kernel = tf.constant(self.kernel[..., None])
        image, padding = self._padded(tf, inputs[0])
        return self._finish(tf, tf.nn.depthwise_conv2d(image, kernel, [1, *self.strides, 1], padding))

    def features(self, inputs: Sequence[Shape], shape: Shape, lanes: int) -> Features:
        outputs = math.prod(shape)
        features = {"multiply_adds": float(math.prod(self.window) * outputs), "outputs": outputs}
        if self.sparse:  # channels-first: rows of pixels are begun and ended one by one
            kind = f"sparse_depthwise_{self.window[0]}x{self.window[1]}_stride_{self.strides[0]}"
            return kind, {"outputs": outputs, "rows": float(outputs / shape[1])}
        return self.kind, features


@dataclasses.dataclass(frozen=True, eq=False)
class Dense(_Kernel):
    """A matrix product; the kernel is (inputs, units)."""

    kind: ClassVar[str] = "dense"

    def emit(self, tf: Any, inputs: list[Any], shape: Shape) -> Any:
        return self._finish(tf, inputs[0] @ tf.constant(self.kernel))

    def features(self, inputs: Sequence[Shape], shape: Shape, lanes: int) -> Features:
        return self.kind, {"multiply_adds": float(self.kernel.size), "outputs": math.prod(shape)}
