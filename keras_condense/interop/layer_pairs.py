"""Which layer of tf_keras computes what a layer of Keras 3 does, and with which arguments.

Both libraries give their layers nearly the same configurations, so that arguments are handed over by their names. What
is here is where names or meanings differ. Initializers are left out: weights are handed over.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_condense import layers
from keras_condense.interop.graphs import Call, Tensor, Unexpressed
from keras_condense.interop.plans import Function, Part, Plan

__all__ = ["ACTIVATIONS", "OWN", "keras_plan", "tf_keras_plan"]

# layers of the same name that compute the same from the same arguments and weights
SAME = {
    "Activation", "ActivityRegularization", "Add", "AlphaDropout", "Average", "AveragePooling1D", "AveragePooling2D",
    "AveragePooling3D", "BatchNormalization", "Concatenate", "Conv1D", "Conv1DTranspose", "Conv2D", "Conv2DTranspose",
    "Conv3D", "Cropping1D", "Cropping2D", "Cropping3D", "Dense", "DepthwiseConv1D", "DepthwiseConv2D", "Dot", "Dropout",
    "ELU", "Flatten", "GaussianDropout", "GaussianNoise", "GlobalAveragePooling1D", "GlobalAveragePooling2D",
    "GlobalAveragePooling3D", "GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalMaxPooling3D", "GroupNormalization",
    "Identity", "LayerNormalization", "LeakyReLU", "MaxPooling1D", "MaxPooling2D", "MaxPooling3D", "Maximum", "Minimum",
    "Multiply", "Normalization", "PReLU", "Permute", "ReLU", "RepeatVector", "Rescaling", "Reshape", "Resizing",
    "SeparableConv1D", "SeparableConv2D", "Softmax", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D",
    "Subtract", "UnitNormalization", "UpSampling1D", "UpSampling2D", "UpSampling3D", "ZeroPadding1D", "ZeroPadding2D",
    "ZeroPadding3D",
}  # fmt: skip

# layers of this package that tf_keras gets as small layers of the same name (`tf_keras_layers`)
OWN: dict[type, Callable[[Any], dict[str, Any]]] = {
    layers.ChannelIndex: lambda layer: {"indices": _integers(layer.indices)},
    layers.ChannelScatterAdd: lambda layer: {"indices": _integers(layer.indices), "channels": layer.channels},
    layers.ChannelShuffle: lambda layer: {"groups": layer.groups},
}

# layers of this package that compute what Keras' own do
_STANDARD = {layers.GroupConv2D: "Conv2D", layers.BatchNormalization: "BatchNormalization"}

_RENAMED = {("LeakyReLU", "negative_slope"): "alpha"}  # (layer, Keras 3's name): tf_keras' name

# Arguments that only one library has, or keeps in a configuration, and the value with which both compute the same.
_ONE_SIDED = {
    "antialias": False, "groups": 1, "kernel_constraint": None, "kernel_regularizer": None, "noise_shape": None,
    "pad_to_aspect_ratio": False, "quantization_config": None, "renorm": False, "rms_scaling": False,
    "synchronized": False,
}  # fmt: skip
# arguments that tf_keras' layer takes, and leaves out of its configuration
_LOST = {("AlphaDropout", "noise_shape"), ("BatchNormalization", "synchronized")}
# arguments that mean nothing beside those values, or that the graph says
_IDLE = {"fill_mode", "fill_value", "renorm_clipping", "renorm_momentum", "batch_input_shape", "input_dim"}

_COMMON = {"name", "trainable", "dtype"}
_POLICIES = {"float16", "bfloat16", "float32", "float64", "mixed_float16", "mixed_bfloat16"}
_PARTS = {
    "regularizers": {"L1", "L2", "L1L2", "OrthogonalRegularizer"},
    "constraints": {"MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm"},
}

# TensorFlow's fused batch norm makes every epsilon at least this large
_LEAST_EPSILON = 1.001e-5

# Keras 3's name of an activation, and that of the same function in tf_keras.activations; "own" are in `tf_keras_layers`
ACTIVATIONS = {
    "elu": "elu", "exponential": "exponential", "gelu": "gelu", "hard_sigmoid": "own", "hard_silu": "own",
    "leaky_relu": "own", "linear": "linear", "log_softmax": "own", "mish": "mish", "relu": "relu", "relu6": "own",
    "selu": "selu", "sigmoid": "sigmoid", "silu": "swish", "softmax": "softmax", "softplus": "softplus",
    "softsign": "softsign", "tanh": "tanh",
}  # fmt: skip


def _integers(indices: Any) -> list[int]:
    return ops.convert_to_numpy(indices).tolist()


@functools.cache
def _accepted(kind: type) -> frozenset[str]:
    """The arguments that a class of layers takes by name, those that it hands on to its bases among them."""
    names: set[str] = set()
    for base in kind.__mro__:
        if "__init__" in vars(base) and base.__name__ != "Layer":
            parameters = inspect.signature(base.__init__).parameters
            names |= {name for name, parameter in parameters.items() if parameter.kind != parameter.VAR_KEYWORD}
            if all(parameter.kind != parameter.VAR_KEYWORD for parameter in parameters.values()):
                break
    return frozenset(names)


def _part(module: str, value: Any) -> Part | None:
    """A regularizer or constraint."""
    if value is None:
        return None
    kind = type(value).__name__
    if kind not in _PARTS[module] or type(value).__module__.split(".")[0] not in ("keras", "tf_keras"):
        raise Unexpressed(f"has one of its {module} (={kind}) that the other library has not")
    config = {
        name: each if isinstance(each, (str, bool)) else np.asarray(each).item()
        for name, each in value.get_config().items()
    }
    return Part(module, kind, config)


def _arguments(
    layer: Any, kind: str, target: type, activation: Callable[[Any], Function], names: dict[str, str]
) -> dict[str, Any]:
    """The arguments of a layer for a class of the other library.

    Args:
        layer: the layer.
        kind: the class' name.
        target: the class.
        activation: gives the `Function` of an activation.
        names: the other library's names of arguments, where they differ.

    Raises:
        Unexpressed: an argument that the other library has not, of a value that is not the usual one.
    """
    accepted, made = _accepted(target), {}
    for name, value in layer.get_config().items():
        if name in _COMMON or name in _IDLE or name.endswith("_initializer"):
            continue
        if name == "data_format" and value == "channels_first":
            raise Unexpressed("has its channels first, which TensorFlow does not compute on every processor")
        new = names.get(name, name)
        if new not in accepted:
            if name == "data_format" or (name in _ONE_SIDED and value == _ONE_SIDED[name]):
                continue
            if name == "activity_regularizer":  # which every layer takes
                accepted = accepted | {name}
            else:
                raise Unexpressed(f"has `{name}` (={value!r}), which the other library's {kind} has not")
        elif (kind, name) in _LOST and value != _ONE_SIDED[name]:
            raise Unexpressed(f"has `{name}` (={value!r}), which copies of it in tf_keras would lose")
        if name.endswith("_regularizer"):
            value = _part("regularizers", getattr(layer, name))
        elif name.endswith("_constraint"):
            value = _part("constraints", getattr(layer, name))
        elif name == "activation":
            value = activation(layer.activation)
        if value is not None:
            made[new] = tuple(value) if isinstance(value, (list, tuple)) else value
    regularizer = getattr(layer, "activity_regularizer", None)
    if regularizer is not None and "l1" not in made:  # an `ActivityRegularization` makes its own
        made["activity_regularizer"] = _part("regularizers", regularizer)
    return made


def _normalization(layer: Any) -> dict[str, Any]:
    """The mean and variance of a `Normalization` that has adapted or was given them."""
    mean, variance = (np.asarray(ops.convert_to_numpy(each)) for each in (layer.mean, layer.variance))
    kept = sorted(axis % mean.ndim for axis in layer.axis)
    shape = [mean.shape[axis] for axis in kept]
    return {"mean": mean.reshape(shape).tolist(), "variance": variance.reshape(shape).tolist()}


# --- from Keras 3 ----------------------------------------------------------------------------------------------------
def _activation_of_keras(function: Any) -> Function:
    name = getattr(function, "__name__", type(function).__name__)
    if isinstance(function, keras.layers.Layer):
        raise Unexpressed(f"has a layer (={name}) as its activation; put that behind it")
    if getattr(keras.activations, name, None) is not function or name not in ACTIVATIONS:
        raise Unexpressed(f"has an activation (={name}) that tf_keras has not")
    return Function(name)


def tf_keras_plan(call: Call, library: Any) -> Plan:
    """What stands in tf_keras for a layer of Keras 3.

    Args:
        call: a call of the layer.
        library: `tf_keras.layers`.

    Raises:
        Unexpressed: it has no counterpart.
    """
    layer = call.layer
    kind = _STANDARD.get(type(layer)) or type(layer).__name__
    _check_expressible(layer, kind, call)
    policy = layer.dtype_policy.name
    if policy not in _POLICIES:
        raise Unexpressed(f"has the dtype policy {policy!r}, which tf_keras has not")
    if type(layer) in OWN:
        return Plan(kind, OWN[type(layer)](layer) | {"dtype": policy})
    names = {name: new for (layer_kind, name), new in _RENAMED.items() if layer_kind == kind}
    arguments = _arguments(layer, kind, getattr(library, kind), _activation_of_keras, names) | {"dtype": policy}
    if kind == "Normalization":
        return Plan(kind, arguments | _normalization(layer))
    if kind == "BatchNormalization" and layer.epsilon < 1e-5:
        raise Unexpressed(
            f"has an `epsilon` (={layer.epsilon:g}) below 1e-5, which TensorFlow's fused batch norm would raise"
        )
    if kind == "Activation" and arguments["activation"] == Function("relu6"):  # as tensorflow-model-optimization has it
        return Plan("ReLU", {"max_value": 6.0, "dtype": policy})
    return Plan(kind, arguments, layer.get_weights())


def _check_expressible(layer: Any, kind: str, call: Call) -> None:
    if isinstance(layer, layers.LearnedConnections):
        raise Unexpressed("still learns its connections; call `keras_condense.condense` on the model first")
    if isinstance(layer, keras.Model):
        raise Unexpressed("is a model without a graph of layers")
    is_known = type(layer) in OWN or type(layer) in _STANDARD
    if not is_known and (type(layer).__module__.split(".")[0] != "keras" or kind not in SAME):
        raise Unexpressed("is of a class that tf_keras has no counterpart of")
    if call.kwargs or len(call.args) != 1:
        raise Unexpressed("is called with arguments beside its inputs")
    if getattr(layer, "quantization_mode", None) is not None:
        raise Unexpressed("holds quantized weights")
    if getattr(layer, "lora_enabled", False):
        raise Unexpressed("has a low-rank update; save and load the model, which merges it")
    if type(layer) is layers.GroupConv2D and isinstance(call.args[0], Tensor) and "float" not in call.args[0].dtype:
        raise Unexpressed(f"gets {call.args[0].dtype}, which tf_keras' Conv2D does not cast; put a `Rescaling` before")


# --- from tf_keras ---------------------------------------------------------------------------------------------------
_WRAPPERS = {
    "PruneLowMagnitude": "call `tfmot.sparsity.keras.strip_pruning` on the model first",
    "ClusterWeights": "call `tfmot.clustering.keras.strip_clustering` on the model first",
    "ClusterWeightsMHA": "call `tfmot.clustering.keras.strip_clustering` on the model first",
    "ClusterWeightsRNN": "call `tfmot.clustering.keras.strip_clustering` on the model first",
    "QuantizeAnnotate": "take the model that was annotated",
}
_QUANTIZED = {"QuantizeWrapper", "QuantizeWrapperV2", "QuantizeLayer", "QuantizeAwareActivation"}


# activations of tf.nn that are used as they are
_OF_TENSORFLOW = ("elu", "leaky_relu", "relu", "relu6", "selu", "sigmoid", "softplus", "softsign", "tanh")


def _activation_of_tf_keras(function: Any) -> Function:
    from keras_condense.interop import tf_keras_layers

    name = getattr(function, "__name__", type(function).__name__)
    for keras_name, tf_name in ACTIVATIONS.items():
        if tf_name == "own":
            known = getattr(tf_keras_layers, keras_name)
        else:
            known = getattr(tf_keras_layers.tf_keras.activations, tf_name)
        if function is known:
            return Function(keras_name)
    if name in _OF_TENSORFLOW and getattr(tf_keras_layers.tf.nn, name) is function:
        return Function(name)
    if name == "hard_sigmoid":
        raise Unexpressed("has tf_keras' hard_sigmoid, clip(0.2 x + 0.5); that of Keras 3 is relu6(x + 3) / 6")
    raise Unexpressed(f"has an activation (={name}) that Keras 3 has not")


def keras_plan(call: Call) -> Plan:
    """What stands in Keras 3 for a layer of tf_keras.

    Raises:
        Unexpressed: it has no counterpart.
    """
    from keras_condense.interop import tf_keras_layers

    layer, kind = call.layer, type(call.layer).__name__
    if kind in _WRAPPERS:
        raise Unexpressed(f"is wrapped for training; {_WRAPPERS[kind]}")
    if kind in _QUANTIZED:
        raise Unexpressed("emulates quantization, which Keras 3 has no layers for; convert it before it is quantized")
    policy = layer.dtype_policy.name
    if policy not in _POLICIES:
        raise Unexpressed(f"has the dtype policy {policy!r}, which Keras 3 has not")
    own = type(layer) in vars(tf_keras_layers).values()
    if not own and (type(layer).__module__.split(".")[0] != "tf_keras" or kind not in SAME):
        raise Unexpressed("is of a class that Keras 3 has no counterpart of")
    if call.kwargs or len(call.args) != 1:
        raise Unexpressed("is called with arguments beside its inputs")
    if own:
        config = {name: value for name, value in layer.get_config().items() if name not in _COMMON}
        return Plan(kind, config | {"dtype": policy})
    names = {new: name for (layer_kind, name), new in _RENAMED.items() if layer_kind == kind}
    target = getattr(keras.layers, kind)
    arguments = _arguments(layer, kind, target, _activation_of_tf_keras, names) | {"dtype": policy}
    if kind == "Normalization":
        return Plan(kind, arguments | _normalization(layer))
    if kind == "BatchNormalization":
        arguments |= _batch_norm_of_tf_keras(layer)
    if kind == "LeakyReLU":
        arguments["negative_slope"] = float(layer.alpha)
    if kind == "Conv2D" and layer.groups > 1:
        kind = "GroupConv2D"  # which trains many times faster
    return Plan(kind, arguments, layer.get_weights())


def _batch_norm_of_tf_keras(layer: Any) -> dict[str, Any]:
    """The axis, which tf_keras has as a list, and the epsilon that it computes with."""
    axis = layer.axis if isinstance(layer.axis, int) else list(layer.axis)
    if not isinstance(axis, int) and len(axis) != 1:
        raise Unexpressed(f"normalizes over several axes (={axis}), and Keras 3's over one")
    epsilon = _LEAST_EPSILON if layer.fused and layer.epsilon < 1e-5 else layer.epsilon
    return {"axis": axis if isinstance(axis, int) else axis[0], "epsilon": epsilon}
