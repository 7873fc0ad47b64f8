"""Which convolutions can learn groups, and the layers that do so in their place."""

import functools
from collections.abc import Callable

import keras
import numpy as np

from keras_condense.choosing import Choice, common_arguments, unfit_to_mask
from keras_condense.layers import GroupConv2D, LearnedGroupConv2D, PrunedConv2D, SparseFeatureReactivation
from keras_condense.layers.convolution import CONVOLUTION_ARGUMENTS
from keras_condense.layers.stand_in import KERNEL_ARGUMENTS
from keras_condense.rewriting import Replacement

__all__ = ["FACTORS", "fixed_choice", "free_choice", "learning_layer", "possible_factors", "saves_nothing"]

# Groups and condense factors that are tried for each layer where a budget decides. With fewer groups than the condense
# factor some inputs would be read by no group: that would be a network of fewer channels.
FACTORS = tuple((groups, factor) for groups in (2, 4, 8) for factor in (2, 4, 8) if groups >= factor)

# convolutions that have no groups to learn, and why
_OTHER_KINDS = {
    (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D): "is depthwise: each filter reads a single input",
    (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D): "is separable: it is two convolutions in one",
    (
        keras.layers.Conv1DTranspose,
        keras.layers.Conv2DTranspose,
        keras.layers.Conv3DTranspose,
    ): "is a transposed convolution",
    (keras.layers.Conv1D, keras.layers.Conv3D): "does not convolve in two dimensions",
}
_ORDINARY_KINDS = (keras.layers.Conv2D, GroupConv2D)
_LEARNED_KINDS = (LearnedGroupConv2D, SparseFeatureReactivation, PrunedConv2D)
_CONVOLUTIONS = (*_ORDINARY_KINDS, *_LEARNED_KINDS, *(kind for kinds in _OTHER_KINDS for kind in kinds))
# arguments that an ordinary convolution and a learned one have in common; an initializer or a function is handed on as
# it is, whether Keras could save it or not
_SHARED_ARGUMENTS = (*CONVOLUTION_ARGUMENTS, *KERNEL_ARGUMENTS)


def fixed_choice(groups: int, condense_factor: int) -> Choice:
    """How convolutions are chosen that all learn so many groups: by default those with a 1x1 kernel."""
    return _choice(
        functools.partial(_indivisible, groups=groups, condense_factor=condense_factor),
        _not_pointwise,
        "convolutions with a 1x1 kernel",
    )


def free_choice() -> Choice:
    """How convolutions are chosen whose groups and condense factors are free: by default all."""
    return _choice(_has_no_factors, lambda layer: None, "all convolutions")


def _choice(too_small: Callable, default: Callable, default_in_words: str) -> Choice:
    return Choice(
        kinds=_CONVOLUTIONS,
        things="convolutions",
        can="learn groups",
        unfit=_unfit,
        default=default,
        too_small=too_small,
        default_in_words=default_in_words,
        explained_by="explain_learn_groups",
    )


def possible_factors(layer: keras.layers.Layer) -> list[tuple[int, int]]:
    """The pairs (groups, condense factor) of `FACTORS` that divide a convolution's filters and inputs."""
    inputs, filters = layer.kernel.shape[2:]
    return [(groups, factor) for groups, factor in FACTORS if filters % groups == 0 and inputs % factor == 0]


def _has_no_factors(layer: keras.layers.Layer) -> str | None:
    inputs, filters = layer.kernel.shape[2:]
    if possible_factors(layer):
        return None
    return f"reads {inputs} and gives {filters} channels, and both must be even numbers"


def _unfit(layer: keras.layers.Layer, holder: str | None) -> str | None:
    """Why a layer has no groups to learn, whoever chooses it; None if it has."""
    for kinds, reason in _OTHER_KINDS.items():
        if isinstance(layer, kinds):
            return reason
    if isinstance(layer, PrunedConv2D):
        return "is pruned already"
    if isinstance(layer, _LEARNED_KINDS):
        return "learns its groups already"
    return unfit_to_mask(layer, holder, _ORDINARY_KINDS, "learned groups")


def _indivisible(layer: keras.layers.Layer, groups: int, condense_factor: int) -> str | None:
    """Why a convolution is too small for so many groups, or does not divide into them; None if it does."""
    for count, things, argument, divisor in (
        (layer.kernel.shape[2], "inputs", "condense_factor", condense_factor),
        (layer.filters, "filters", "groups", groups),
    ):
        if count < divisor:
            return f"is too small: it has {count} {things}, and `{argument}` is {divisor}"
        if count % divisor:
            return f"has {count} {things}, which `{argument}` (={divisor}) does not divide"
    return None


def _not_pointwise(layer: keras.layers.Layer) -> str | None:
    height, width = layer.kernel_size
    if (height, width) == (1, 1):
        return None
    return f"has a {height}x{width} kernel, and `where` chooses 1x1 kernels by default"


def saves_nothing(target: str, quantize: str | None = None) -> str:
    """The reason of a layer that a target's table calls no cheaper.

    Example:
        >>> saves_nothing("arm64"), saves_nothing("arm64", "int8")
        ("saves nothing on 'arm64'", "saves nothing on 'arm64' in int8")
    """
    return f"saves nothing on {target!r}" + (f" in {quantize}" if quantize else "")


def learning_layer(layer: keras.layers.Layer, groups: int, condense_factor: int, group_lasso: float) -> Replacement:
    """The layer that computes what a convolution computes and learns its groups."""
    arguments = common_arguments(layer, _SHARED_ARGUMENTS)
    learned = LearnedGroupConv2D(**arguments, groups=groups, condense_factor=condense_factor, group_lasso=group_lasso)
    mask = np.ones((groups, layer.kernel.shape[2]))
    return [(learned, [*layer.get_weights(), mask])]
