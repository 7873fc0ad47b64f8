"""What tensorflow-model-optimization has to be told of layers that it does not know, to quantize whole networks."""

from typing import Any

__all__ = ["annotated", "problems_of"]

# they only move what they get, which lies on the grid of numbers that it was quantized to already
_MOVES = {
    "AlphaDropout", "ChannelIndex", "ChannelShuffle", "Cropping1D", "GaussianDropout", "GaussianNoise", "Identity",
    "MaxPooling1D", "MaxPooling3D", "RepeatVector", "UpSampling1D", "UpSampling3D", "ZeroPadding3D",
}  # fmt: skip
# they compute something new, whose range is to be measured
_COMPUTES = {
    "Average", "AveragePooling3D", "BatchNormalization", "ChannelScatterAdd", "Dot", "ELU", "GroupNormalization",
    "LayerNormalization", "Maximum", "Minimum", "Multiply", "Normalization", "PReLU", "Rescaling", "Resizing",
    "Subtract", "UnitNormalization",
}  # fmt: skip
# layers with a kernel: the name of its weight
_KERNELS = {"Conv2D": "kernel", "Conv2DTranspose": "kernel", "DepthwiseConv2D": "depthwise_kernel", "Dense": "kernel"}
# those that a batch norm behind them becomes a part of
_FOLDING = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Dense")
# activations that tensorflow-model-optimization knows inside layers with a kernel; `Activation` may be relu6, too
_KNOWN_ACTIVATIONS = {"relu", "swish", "gelu", "linear", "softmax", "sigmoid", "tanh"}


def _kind(layer: Any) -> str:
    return type(layer).__name__


def _activation(layer: Any) -> str:
    return getattr(getattr(layer, "activation", None), "__name__", "")


class _Neighbours:
    """Which layers feed a layer, and which it feeds, within a model."""

    def __init__(self, model: Any):
        self.feeding: dict[int, list[Any]] = {}
        self.fed: dict[int, list[Any]] = {}
        self.calls: dict[int, int] = {}
        for nodes in model._nodes_by_depth.values():
            for node in nodes:
                self.calls[id(node.layer)] = self.calls.get(id(node.layer), 0) + 1
                for tensor in node.keras_inputs:
                    feeding = tensor._keras_history.layer
                    self.feeding.setdefault(id(node.layer), []).append(feeding)
                    self.fed.setdefault(id(feeding), []).append(node.layer)
        self._outputs = {id(tensor._keras_history.layer) for tensor in model.outputs}

    def before(self, layer: Any) -> Any:
        """The one layer that feeds a layer and nothing else, or None."""
        feeding = self.feeding.get(id(layer), [])
        alone = len(feeding) == 1 and self.after(feeding[0]) is layer and self.calls[id(layer)] == 1
        return feeding[0] if alone else None

    def after(self, layer: Any) -> Any:
        """The one layer that takes what a layer gives, or None."""
        fed = self.fed.get(id(layer), [])
        return fed[0] if len(fed) == 1 and id(layer) not in self._outputs and self.calls[id(layer)] == 1 else None


def problems_of(model: Any, registry: Any) -> list[tuple[Any, str]]:
    """The layers that can't be quantized, and why.

    Args:
        model: a functional or sequential model of tf_keras.
        registry: what tensorflow-model-optimization knows of layers.
    """
    problems = []
    for layer in model.layers:
        kind = _kind(layer)
        if hasattr(layer, "layers"):
            problems.append((layer, "is a model inside the model"))
        elif kind not in _MOVES | _COMPUTES | {"InputLayer", "SeparableConv2D"} and not registry.supports(layer):
            problems.append((layer, "is a layer that it has no quantizer for"))
        elif kind == "SeparableConv2D" and _activation(layer) not in _KNOWN_ACTIVATIONS:
            problems.append((layer, f"has an activation (={_activation(layer)}) inside; put that behind it"))
    return problems


def annotated(model: Any, registry: Any) -> Any:
    """`model` with every layer annotated for quantization; it has no problems by `registry`."""
    import tf_keras
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
        default_8bit_quantize_configs as configs,
    )
    from tensorflow_model_optimization.quantization.keras import quantize_annotate_layer

    neighbours = _Neighbours(model)

    def config_of(layer: Any) -> Any:
        """A new configuration for each layer, since some are changed later; None for the usual one."""
        kind = _kind(layer)
        if kind in _MOVES:
            return configs.NoOpQuantizeConfig()
        if kind == "Activation" and _activation(layer) not in _KNOWN_ACTIVATIONS | {"relu6"}:
            return configs.Default8BitOutputQuantizeConfig()
        if kind in _KERNELS and _activation(layer) not in _KNOWN_ACTIVATIONS:
            usual = type(registry.get_quantize_config(layer))
            return usual([_KERNELS[kind]], [], quantize_output=True)  # the kernel, and what the activation gives
        if kind not in _COMPUTES:
            return None
        before, after = neighbours.before(layer), neighbours.after(layer)
        is_norm = kind == "BatchNormalization"
        if is_norm and before is not None and _kind(before) in _FOLDING and _activation(before) == "linear":
            return None  # becomes a part of the convolution
        if after is not None and (
            _kind(after) == "ReLU" or (_kind(after) == "Activation" and _activation(after) == "relu")
        ):
            return configs.NoOpQuantizeConfig()  # what the ReLU leaves of it is measured
        return configs.Default8BitOutputQuantizeConfig()

    def clone(layer: Any) -> Any:
        return quantize_annotate_layer(layer, config_of(layer))

    return tf_keras.models.clone_model(model, clone_function=clone)
