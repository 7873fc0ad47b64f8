"""What a layer becomes in the other library, before it is made there."""

import dataclasses
from typing import Any

import numpy as np

__all__ = ["Function", "Part", "Plan"]


@dataclasses.dataclass(frozen=True)
class Function:
    """An activation, by Keras 3's name of it."""

    name: str


@dataclasses.dataclass(frozen=True)
class Part:
    """A regularizer or constraint: the module that has it, its class there, and its arguments."""

    module: str
    kind: str
    config: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Plan:
    """A layer to be made: its class, its arguments (`Function`s and `Part`s among them), and its weights if it has any.

    Name and `trainable` are not among the arguments.
    """

    kind: str
    config: dict[str, Any]
    weights: list[np.ndarray] | None = None
