"""Operations on tensors, such as `x + y`, as layers that both libraries have."""

import math
from typing import Any

import numpy as np

from keras_condense.interop.graphs import Call, Tensor, Unexpressed
from keras_condense.interop.plans import Function, Plan

__all__ = ["plan_of_operation", "plan_of_tf_operation"]

_MERGES = {"add": "Add", "subtract": "Subtract", "multiply": "Multiply", "maximum": "Maximum", "minimum": "Minimum"}

# operations without arguments of their own, by the name of the activation that they are
_ACTIVATIONS = {
    "relu", "relu6", "sigmoid", "silu", "tanh", "elu", "selu", "gelu", "softplus", "softsign", "softmax",
    "hard_sigmoid", "hard_silu", "leaky_relu", "log_softmax",
}  # fmt: skip

# the arguments of an operation with which it is the activation of its name
_DEFAULTS = {"axis": -1, "approximate": False, "alpha": 1.0, "negative_slope": 0.2}


def _merged(kind: str, x: Tensor, y: Tensor) -> tuple[Plan, list[Tensor]]:
    if len(x.shape) != len(y.shape):
        raise Unexpressed(f"combines shapes of different ranks, {x.shape} and {y.shape}; reshape one of them first")
    if x.dtype != y.dtype:
        raise Unexpressed(f"combines {x.dtype} and {y.dtype}; cast one of them first")
    return Plan(_MERGES[kind], {"dtype": x.dtype}), [x, y]


def _scaled(x: Tensor, out: Tensor, scale: Any, offset: Any) -> tuple[Plan, list[Tensor]]:
    """`x * scale + offset`."""
    if "float" not in x.dtype or x.dtype != out.dtype:
        raise Unexpressed(f"computes with a number and {x.dtype}; only those on floating-point tensors are handed over")
    if x.shape != out.shape:
        raise Unexpressed(f"makes {out.shape} of {x.shape} with a constant, which no layer does")
    scale, offset = (value.item() if value.size == 1 else value.tolist() for value in (scale, offset))
    return Plan("Rescaling", {"scale": scale, "offset": offset, "dtype": x.dtype}), [x]


def _number(value: Any) -> np.ndarray:
    try:
        array = np.asarray(value, "float64")
    except (TypeError, ValueError) as error:
        raise Unexpressed("has an argument that is neither a tensor of the graph nor a number") from error
    return array


def _arithmetic(kind: str, x: Any, y: Any, out: Tensor) -> tuple[Plan, list[Tensor]]:
    """What stands for `x + y` and the like, of two tensors or of a tensor and a constant."""
    if isinstance(x, Tensor) and isinstance(y, Tensor):
        if kind == "divide":
            raise Unexpressed("divides one tensor by another, which no layer does")
        return _merged(kind, x, y)
    one, zero = np.float64(1), np.float64(0)
    if isinstance(y, Tensor):  # a constant comes first
        constant = _number(x)
        if kind == "subtract":
            return _scaled(y, out, -one, constant)
        if kind == "divide":
            raise Unexpressed("divides a constant by a tensor, which no layer does")
        x, y = y, constant
    constant = _number(y)
    if kind in ("add", "subtract"):
        return _scaled(x, out, one, constant if kind == "add" else -constant)
    if kind in ("multiply", "divide"):
        return _scaled(x, out, constant if kind == "multiply" else 1 / constant, zero)
    if constant.size == 1 and (kind, constant.item()) == ("maximum", 0):
        return Plan("ReLU", {"dtype": x.dtype}), [x]
    raise Unexpressed(f"is a {kind} with a constant, which no layer does")


def _reshaped(x: Tensor, out: Tensor) -> tuple[Plan, list[Tensor]]:
    sizes = (*x.shape[1:], *out.shape[1:])
    if x.shape[0] != out.shape[0] or None in sizes or math.prod(x.shape[1:]) != math.prod(out.shape[1:]):
        raise Unexpressed("reshapes over the batch, or to sizes that are not known; use a `Reshape` layer")
    return Plan("Reshape", {"target_shape": out.shape[1:], "dtype": x.dtype}), [x]


def _permuted(x: Tensor, axes: Any) -> tuple[Plan, list[Tensor]]:
    axes = tuple(axes) if axes is not None else tuple(reversed(range(len(x.shape))))
    axes = tuple(axis % len(x.shape) for axis in axes)
    if axes[0] != 0:
        raise Unexpressed("moves the batch to another axis, which no layer does")
    return Plan("Permute", {"dims": axes[1:], "dtype": x.dtype}), [x]


def _pooled(kind: str, x: Tensor, axis: Any, keepdims: bool) -> tuple[Plan, list[Tensor]]:
    axes = (axis,) if isinstance(axis, int) else tuple(axis or ())
    axes = sorted(each % len(x.shape) for each in axes)
    if len(x.shape) != 4 or axes != [1, 2] or "float" not in x.dtype:
        raise Unexpressed(f"takes the {kind} over axes {axis}; only height and width of images are handed over")
    name = {"mean": "GlobalAveragePooling2D", "max": "GlobalMaxPooling2D"}[kind]
    return Plan(name, {"keepdims": bool(keepdims), "data_format": "channels_last", "dtype": x.dtype}), [x]


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))


def plan_of_operation(call: Call) -> tuple[Plan, Any]:
    """What stands for an operation of `keras.ops` in a graph, and the tensors that it is called with.

    Raises:
        Unexpressed: it has no counterpart.
    """
    operation, out = call.layer, call.outputs[0]
    kind = _snake(type(operation).__name__)
    if not type(operation).__module__.startswith("keras.src.ops.") or len(call.outputs) != 1:
        raise Unexpressed("is an operation without a layer of its own")
    kind = {"true_divide": "divide"}.get(kind, kind)
    args = [*call.args, *call.kwargs.values()]
    x = args[0] if args else None
    if kind in (*_MERGES, "divide") and len(args) == 2:
        return _arithmetic(kind, *args, out)
    if kind == "concatenate" and isinstance(x, (list, tuple)) and all(isinstance(t, Tensor) for t in x):
        return Plan("Concatenate", {"axis": operation.axis, "dtype": out.dtype}), list(x)
    if not isinstance(x, Tensor) or len(args) != 1:
        raise Unexpressed("is called with arguments that no layer takes")
    if kind == "negative":
        return _scaled(x, out, np.float64(-1), np.float64(0))
    if kind == "square":
        return _merged("multiply", x, x)
    if kind in ("reshape", "squeeze", "expand_dims"):
        return _reshaped(x, out)
    if kind == "transpose":
        return _permuted(x, operation.axes)
    if kind in ("mean", "max"):
        return _pooled(kind, x, operation.axis, operation.keepdims)
    if kind in _ACTIVATIONS and all(vars(operation).get(name, value) == value for name, value in _DEFAULTS.items()):
        return Plan("Activation", {"activation": Function(kind), "dtype": x.dtype}), x
    raise Unexpressed("is an operation without a layer of its own")


# --- operations in graphs of tf_keras, by TensorFlow's names of them --------------------------------------------------
_OF_TENSORFLOW = {
    "math.add": "add", "__operators__.add": "add", "math.subtract": "subtract", "math.multiply": "multiply",
    "math.truediv": "divide", "math.divide": "divide", "math.maximum": "maximum", "math.minimum": "minimum",
    "nn.relu": "relu", "nn.relu6": "relu6", "math.sigmoid": "sigmoid", "nn.sigmoid": "sigmoid", "nn.silu": "silu",
    "math.tanh": "tanh", "nn.tanh": "tanh", "nn.elu": "elu", "nn.selu": "selu", "concat": "concatenate",
    "reshape": "reshape", "math.negative": "negative",
}  # fmt: skip


def plan_of_tf_operation(call: Call) -> tuple[Plan, Any]:
    """What stands for an operation of TensorFlow in a graph of tf_keras, and the tensors that it is called with.

    Raises:
        Unexpressed: it has no counterpart.
    """
    symbol, out = getattr(call.layer, "symbol", None), call.outputs[0]
    kind = _OF_TENSORFLOW.get(symbol or "")
    kwargs = {name: value for name, value in call.kwargs.items() if name != "name"}
    args = [*call.args, *kwargs.values()]
    if kind in (*_MERGES, "divide") and len(args) == 2:
        return _arithmetic(kind, *args, out)
    if kind == "concatenate" and len(args) == 2 and isinstance(args[1], int):
        return Plan("Concatenate", {"axis": args[1], "dtype": out.dtype}), list(args[0])
    if kind == "reshape" and isinstance(args[0], Tensor):
        return _reshaped(args[0], out)
    if kind == "negative" and len(args) == 1:
        return _scaled(args[0], out, np.float64(-1), np.float64(0))
    if kind in _ACTIVATIONS and len(args) == 1:
        return Plan("Activation", {"activation": Function(kind), "dtype": out.dtype}), args[0]
    raise Unexpressed(f"is TensorFlow's operation {symbol or type(call.layer).__name__}, without a layer of its own")
