"""Small networks of every family: whatever a test asks of all constructors, it asks of these; and how they fail."""

import contextlib
import dataclasses
import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

import keras
import pytest

from keras_condense.applications import (
    CondenseNet,
    CondenseNetLight,
    CondenseNetV2,
    DenseNet,
    MobileNet,
    ResNeXt,
    ShuffleNet,
    SparseDenseNet,
    SqueezeNet,
    families,
)

# what came, what was expected, how to fix it
THREE_PARTS = re.compile(r"`.+` \(.+\) .*must .+\. .+\.", re.DOTALL)


@contextlib.contextmanager
def shapes_only() -> Iterator[None]:
    """What is built within has weights of known shapes and no values, which takes a third of the time.

    Layers can be condensed and counted within: each reading of a weight draws it anew.
    """
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:
        keras.utils.clear_session(free_memory=False)  # or Keras would draw all of them at its next trace


def calls_of(general: Callable[..., keras.Model], monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The arguments with which named networks will call the general constructor, which builds nothing from now on."""
    calls = []
    family = families.FAMILIES[general.__module__.rpartition(".")[2]]
    monkeypatch.setitem(family.constructors, general.__name__, lambda **arguments: calls.append(arguments))
    return calls


@dataclasses.dataclass(frozen=True)
class Network:
    """A small network: how to build it, the channels of its features, how often it halves, its smallest image."""

    build: Callable[..., keras.Model]
    channels: int
    shrinks_by: int
    min_size: int
    default_size: int

    @property
    def side(self) -> int:
        """Height and width of images that suit any test: small, and large enough for the network."""
        return max(16, self.min_size)


NETWORKS = {
    "densenet-cifar": Network(functools.partial(DenseNet, (2, 2), 4, stem="cifar"), 16, 2, 2, 32),
    "densenet-imagenet": Network(functools.partial(DenseNet, (1, 1), 4), 10, 8, 8, 224),
    "densenet-plain": Network(
        functools.partial(DenseNet, (2, 1), 4, bottleneck=False, compression=1.0, dropout_rate=0.2, stem="cifar"),
        28, 2, 2, 32,
    ),
    "condensenet-cifar": Network(functools.partial(CondenseNet, (2, 1), (4, 8), stem_strides=1), 24, 2, 2, 32),
    "condensenet-imagenet": Network(
        functools.partial(CondenseNet, (1, 1, 1), (8, 8, 16), groups=8, condense_factor=4, dropout_rate=0.1,
                          group_lasso=1e-5, classifier_condense_factor=2),
        48, 8, 7, 224,
    ),
    "condensenet-light": Network(
        functools.partial(CondenseNetLight, (1, 2), 4, dropout_rate=0.1, classifier_condense_factor=2), 16, 2, 2, 32
    ),
    "condensenet-v2": Network(
        functools.partial(CondenseNetV2, (1, 1), (8, 8), groups=4, condense_factor=4, hidden_units=8,
                          hard_swish_from_block=2, squeeze_excitation_from_block=2),
        32, 4, 3, 224,
    ),
    "resnext": Network(functools.partial(ResNeXt, (1, 1), cardinality=4, bottleneck_width=2), 512, 8, 1, 224),
    "sparse-densenet": Network(functools.partial(SparseDenseNet, (2, 1), 4), 28, 2, 2, 32),
    "squeezenet": Network(functools.partial(SqueezeNet, bypass="complex"), 512, 16, 21, 227),
    "shufflenet": Network(functools.partial(ShuffleNet, 3, 0.25, squeeze_excitation=True, stages=(1, 2)),
                          120, 16, 1, 224),
    "mobilenet": Network(functools.partial(MobileNet, 0.25, weights=None), 256, 32, 32, 224),
}  # fmt: skip
