"""Weights of pytorchcv's networks as those of ours: for each family, which layer's weights stand under which name.

A family is a few patterns of our layers' names with the name of PyTorch's module. How a kind of layer is converted
(axes, statistics, index layers) is known once, in `_CONVERSIONS`.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_condense.drop_plans import inputs_left
from keras_condense.layers import BatchNormalization, CondenseDense, GroupConv2D, LearnedConnections, LearnedGroupConv2D
from keras_condense.masks import expanded_kernel

__all__ = ["FAMILIES", "convert"]

EPSILON = 1e-5  # of PyTorch's batch norms
_SHOWN = 3  # names of weights in a message

# (pattern of our layer's name, name of PyTorch's module). {stage} is the number `block` of the pattern less one: our
# stem is stage 1 where a name counts it.
Names = tuple[tuple[str, str], ...]


def _densenet(arguments: Mapping[str, Any]) -> Names:
    layer = r"conv(?P<block>\d+)_block(?P<unit>\d+)"
    unit = "features.stage{stage}.unit{unit}"
    if arguments["bottleneck"]:
        parts = (("0_bn", "conv1.bn"), ("1_conv", "conv1.conv"), ("1_bn", "conv2.bn"), ("2_conv", "conv2.conv"))
    else:
        parts = (("0_bn", "conv.bn"), ("2_conv", "conv.conv"))
    return (
        ("conv1_conv", "features.init_block.conv" if arguments["stem"] == "imagenet" else "features.init_block"),
        ("conv1_bn", "features.init_block.bn"),
        *((f"{layer}_{ours}", f"{unit}.{theirs}") for ours, theirs in parts),
        (r"pool(?P<block>\d+)_(?P<part>bn|conv)", "features.stage{block}.trans{block}.conv.{part}"),
        ("bn", "features.post_activ.bn"),
        ("predictions", "output"),
    )


def _condensenet(arguments: Mapping[str, Any]) -> Names:
    return (
        ("stem_conv", "features.init_block.conv"),
        (
            r"block(?P<block>\d+)_layer(?P<unit>\d+)_(?P<number>[12])_(?P<part>bn|conv)",
            "features.stage{block}.unit{unit}.conv{number}.{part}",
        ),
        ("bn", "features.post_activ.bn"),
        ("predictions", "output.linear"),
    )


def _resnext(arguments: Mapping[str, Any]) -> Names:
    block = r"conv(?P<block>\d+)_block(?P<unit>\d+)"
    unit = "features.stage{stage}.unit{unit}"
    return (
        (r"conv1_(?P<part>bn|conv)", "features.init_block.conv.{part}"),
        (rf"{block}_0_(?P<part>bn|conv)", f"{unit}.identity_conv.{{part}}"),
        (rf"{block}_(?P<number>\d)_(?P<part>bn|conv)", f"{unit}.body.conv{{number}}.{{part}}"),
        ("predictions", "output"),
    )


def _shufflenet(arguments: Mapping[str, Any]) -> Names:
    kinds = {"1": "compress", "2": "dw", "3": "expand"}
    return (
        (r"stem_(?P<part>bn|conv)", "features.init_block.{part}"),
        *(
            (
                rf"stage(?P<block>\d+)_unit(?P<unit>\d+)_{number}_(?P<part>bn|conv)",
                f"features.stage{{stage}}.unit{{unit}}.{kind}_{{part}}{number}",
            )
            for number, kind in kinds.items()
        ),
        ("predictions", "output"),
    )


# the fire modules between two poolings
_FIRES = {"1.0": ((2, 3, 4), (5, 6, 7, 8), (9,)), "1.1": ((2, 3), (4, 5), (6, 7, 8, 9))}


def _squeezenet(arguments: Mapping[str, Any]) -> Names:
    return (
        ("conv1", "features.init_block.conv"),
        *(
            (f"fire{fire}_{ours}", f"features.stage{stage}.unit{unit}.{theirs}.conv")
            for stage, fires in enumerate(_FIRES[arguments["version"]], start=1)
            for unit, fire in enumerate(fires, start=1)
            for ours, theirs in (("squeeze1x1", "squeeze"), ("expand1x1", "expand1x1"), ("expand3x3", "expand3x3"))
        ),
        ("conv10", "output.final_conv"),
    )


FAMILIES: Mapping[str, Callable[[Mapping[str, Any]], Names]] = {
    "CondenseNet": _condensenet,
    "DenseNet": _densenet,
    "ResNeXt": _resnext,
    "ShuffleNet": _shufflenet,
    "SqueezeNet": _squeezenet,
}
_CLASSIFIER = "output."  # the names of every classifier begin with it

# PyTorch's name of a weight, ours, and the order of its axes
_CONVOLUTION = (("weight", "kernel", (2, 3, 1, 0)), ("bias", "bias", (0,)))
_CONVERSIONS: Mapping[type, tuple[tuple[str, str, tuple[int, ...]], ...]] = {
    BatchNormalization: (
        ("weight", "gamma", (0,)),
        ("bias", "beta", (0,)),
        ("running_mean", "moving_mean", (0,)),
        ("running_var", "moving_variance", (0,)),
    ),
    keras.layers.Conv2D: _CONVOLUTION,
    GroupConv2D: _CONVOLUTION,
    LearnedGroupConv2D: _CONVOLUTION,
    keras.layers.DepthwiseConv2D: (("weight", "kernel", (2, 3, 0, 1)), ("bias", "bias", (0,))),
    keras.layers.Dense: (("weight", "kernel", (1, 0)), ("bias", "bias", (0,))),
    CondenseDense: (("weight", "kernel", (1, 0)), ("bias", "bias", (0,))),
}
_UNREAD = {"gamma": 1.0, "beta": 0.0, "moving_mean": 0.0, "moving_variance": 1.0}  # of channels that no group reads


class _Pending(NamedTuple):
    """A weight of a layer and the name in the file of what it is to become."""

    layer: keras.Layer
    attribute: str
    key: str
    axes: tuple[int, ...]
    index_key: str  # of the vector that says which inputs the module reads


def convert(
    model: keras.Model, state: Mapping[str, np.ndarray], constructor: str, arguments: Mapping[str, Any], described: str
) -> None:
    """Give a network the weights of a file of pytorchcv; nothing is changed unless all of them fit.

    A CondenseNet comes out masked at its last stage: the groups' inputs that the file's index layers name are left.

    Args:
        model: what `constructor` built, with the classifier or without it.
        state: the file's arrays by their names.
        constructor: a key of `FAMILIES`.
        arguments: the constructor's, as `architectures.architecture` gives them.
        described: what to call the file in a message.

    Raises:
        ValueError: weights that are missing, of another shape, or of no layer; index layers that no mask can be made
            of. The message names them.
    """
    pending = _pending(model, FAMILIES[constructor](arguments))
    _check_names(pending, state, described)
    problems, values = [], []
    # an index that is wrong is wrong for the batch norm before it too: first the layers that can say why
    for weight in sorted(pending, key=lambda weight: not isinstance(weight.layer, LearnedConnections)):
        try:
            values += _values(weight, state)
        except ValueError as error:
            problems.append(f"{weight.key!r}: {str(error).rstrip('.')}")
    if problems:
        raise _unfit(described, f"{_some(problems, '; ')}")
    for variable, value in values:
        variable.assign(value)


def _pending(model: keras.Model, names: Names) -> list[_Pending]:
    pending = []
    for layer in model.layers:
        if type(layer) not in _CONVERSIONS:
            continue
        module = _module(layer.name, names)
        index_key = f"{module.rpartition('.')[0]}.index"
        for their_name, attribute, axes in _CONVERSIONS[type(layer)]:
            if getattr(layer, attribute, None) is not None:
                pending.append(_Pending(layer, attribute, f"{module}.{their_name}", axes, index_key))
    return pending


def _module(name: str, names: Names) -> str:
    for pattern, template in names:
        if match := re.fullmatch(pattern, name):
            parts = match.groupdict()
            return template.format(**parts, stage=int(parts.get("block", 0)) - 1)
    raise KeyError(name)  # a family that lacks a pattern: ours to fix, and a test sees it


def _check_names(pending: list[_Pending], state: Mapping[str, np.ndarray], described: str) -> None:
    needed = {weight.key: None for weight in pending}
    needed |= {weight.index_key: None for weight in pending if isinstance(weight.layer, LearnedConnections)}
    missing = [key for key in needed if key not in state]
    has_classifier = any(key.startswith(_CLASSIFIER) for key in needed)
    surplus = [
        key
        for key in state
        if key not in needed
        and not key.endswith(".num_batches_tracked")  # which counts a training's batches
        and (has_classifier or not key.startswith(_CLASSIFIER))
    ]
    parts = [f"it lacks {_some(map(repr, missing))}"] if missing else []
    parts += [f"it has {_some(map(repr, surplus))} too many"] if surplus else []
    if parts:
        raise _unfit(described, " and ".join(parts))


def _some(texts: Any, separator: str = ", ") -> str:
    texts = list(texts)
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return separator.join(texts[:_SHOWN]) + more


def _unfit(described: str, reason: str) -> ValueError:
    return ValueError(
        f"{described} must hold the weights of this very network, which they don't fit ({reason}). "
        "Pass the arguments of the network that was saved."
    )


def _values(weight: _Pending, state: Mapping[str, np.ndarray]) -> list[tuple[Any, np.ndarray]]:
    """The variables that a weight of the file sets, and their values; ValueError if it does not fit."""
    layer, attribute = weight.layer, weight.attribute
    variable, value = getattr(layer, attribute), state[weight.key]
    if value.dtype.kind != "f":
        raise ValueError(f"of {value.dtype}, not of floats")
    if value.ndim != len(weight.axes):
        raise ValueError(f"of shape {value.shape}, not of {len(weight.axes)} axes")
    value = value.transpose(weight.axes).astype("float32")
    if attribute == "moving_variance":
        # only the sum of variance and epsilon counts, and ours is keras.applications' in some families
        value = np.maximum(value + (EPSILON - layer.epsilon), 0)
    index = state.get(weight.index_key)
    if index is not None and index.dtype.kind != "i":
        raise ValueError(f"its index is of {index.dtype}, not of integers")
    if isinstance(layer, LearnedConnections) and attribute == "kernel":
        groups, inputs = layer.mask.shape
        value, mask = expanded_kernel(value, index, inputs, groups)
        _check_shape(value, variable)
        left = inputs_left(inputs, layer.final_stage, layer.plan)
        if index.size != groups * left:
            raise ValueError(f"a group has {index.size // groups} of {inputs} inputs left, and ours {left}")
        return [(variable, value), (layer.mask, mask)]
    if isinstance(layer, BatchNormalization) and index is not None:
        value = _of_all_channels(value, index, variable.shape[0], _UNREAD[attribute])
    _check_shape(value, variable)
    return [(variable, value)]


def _check_shape(value: np.ndarray, variable: Any) -> None:
    if value.shape != tuple(variable.shape):
        raise ValueError(f"of shape {value.shape}, not {tuple(variable.shape)}, once its axes are in Keras' order")


def _of_all_channels(value: np.ndarray, index: np.ndarray, channels: int, unread: float) -> np.ndarray:
    """The file normalises after the index layer, which copies a channel to each group that reads it; we before it."""
    if index.shape != value.shape or index.min() < 0 or index.max() >= channels:
        raise ValueError(f"of {value.size} channels, for an index of {index.size} of {channels}")
    every = np.full(channels, unread, "float32")
    every[index] = value
    if not np.array_equal(every[index], value):
        raise ValueError("copies of one channel differ, of which a masked network has but one")
    return every
