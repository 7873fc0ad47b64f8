"""Trained weights: which there are for a network. The rows stand in `pretrained_table`.

Two calls of constructors may mean the same network: `architectures` decides that.
"""

import functools
import types
from collections.abc import Mapping
from typing import Any

from keras_condense.applications.architectures import OF_THE_CLASSIFIER, architecture
from keras_condense.applications.pretrained_rows import CLASSES, KerasFiles, PretrainedWeights
from keras_condense.applications.pretrained_table import WEIGHTS
from keras_condense.validation import check_choice

__all__ = [
    "CLASSES",
    "WEIGHTS",
    "KerasFiles",
    "PretrainedWeights",
    "available",
    "find_weights",
    "weights_of",
]


def find_weights(
    constructor: str, dataset: str, arguments: Mapping[str, Any] = types.MappingProxyType({})
) -> PretrainedWeights:
    """Return the row of the weights for a network that were trained on a data set.

    Args:
        constructor: the function of `keras_condense.applications` that builds the network.
        dataset: "imagenet", "cifar10", "cifar100" or "svhn".
        arguments: what the constructor is called with. Of weights for several sizes of images, those for the size of
            `input_shape` are returned, and those for the largest images for any other size.

    Returns:
        A `PretrainedWeights`.

    Raises:
        ValueError: no such weights; the message says which there are.

    Example:
        >>> find_weights("ShuffleNet", "imagenet", {"groups": 8}).published_error
        34.06
        >>> find_weights("ResNeXt101", "cifar10")
        Traceback (most recent call last):
        ...
        ValueError: `dataset` (='cifar10') must be 'imagenet': weights of this network are published for nothing else...
    """
    check_choice("dataset", dataset, CLASSES, "Use the name of what the network was trained on.")
    rows = [row for row in _rows_of(constructor, arguments) if row.dataset == dataset]
    if not rows:
        names = weights_of(constructor, arguments)
        if names:
            expected = f"{' or '.join(map(repr, names))}: weights of this network are published for nothing else"
        else:
            expected = "left out, because no weights of this network are published"
        raise ValueError(f"`dataset` (={dataset!r}) must be {expected}. {available(constructor)}")
    shape = arguments.get("input_shape")
    sides = tuple(shape[:2]) if isinstance(shape, (tuple, list)) else ()
    return min(rows, key=lambda row: sides != (row.preprocessing.size,) * 2)  # the first one of several equal


def weights_of(constructor: str, arguments: Mapping[str, Any] = types.MappingProxyType({})) -> tuple[str, ...]:
    """Return the data sets for which there are weights of a network: possible values of its `weights`.

    Args:
        constructor: the function of `keras_condense.applications` that builds the network.
        arguments: what it is called with.

    Example:
        >>> weights_of("DenseNetBC100K12"), weights_of("CondenseNet50")
        (('cifar10', 'cifar100'), ('cifar10',))
        >>> weights_of("ShuffleNet", {"groups": 3, "width": 2.0})
        ()
    """
    rows = _rows_of(constructor, arguments)
    return tuple(dataset for dataset in CLASSES if any(row.dataset == dataset for row in rows))


def available(constructor: str) -> str:
    """Return a sentence that says which arguments of a constructor, or of the general one of it, have weights.

    Example:
        >>> available("SqueezeNet")
        "Weights are published for SqueezeNet(version='1.0') ('imagenet'), SqueezeNet(version='1.1') ('imagenet') and
        SqueezeNet(bypass='simple') ('imagenet')."
    """
    general, _ = architecture(constructor, {})
    networks: dict[str, list[str]] = {}
    for row in WEIGHTS:
        if _architecture_of(row)[0] == general:
            arguments = ", ".join(f"{name}={value!r}" for name, value in row.arguments.items())
            datasets = networks.setdefault(f"{row.constructor}({arguments})", [])
            if row.dataset not in datasets:
                datasets.append(row.dataset)
    if not networks:
        return f"No weights of a {constructor} are published; pass weights=None and train it."
    *most, last = (f"{network} ({', '.join(map(repr, datasets))})" for network, datasets in networks.items())
    return f"Weights are published for {', '.join(most)}{' and ' if most else ''}{last}."


def _rows_of(constructor: str, arguments: Mapping[str, Any]) -> list[PretrainedWeights]:
    general, wanted = architecture(constructor, arguments)
    left_out = set() if arguments.get("include_top", True) else OF_THE_CLASSIFIER
    return [row for row in WEIGHTS if _fits(row, general, wanted, left_out)]


def _fits(row: PretrainedWeights, general: str, wanted: dict[str, Any], left_out: set[str]) -> bool:
    its_general, has = _architecture_of(row)
    return its_general == general and {name: value for name, value in has.items() if name not in left_out} == wanted


@functools.cache
def _architecture_of(row: PretrainedWeights) -> tuple[str, dict[str, Any]]:
    return architecture(row.constructor, row.arguments)
