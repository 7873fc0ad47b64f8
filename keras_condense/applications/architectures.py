"""Which of a constructor's arguments decide what weights fit its network, so that two calls can be compared."""

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_condense.applications.families import find_constructor
from keras_condense.applications.shared import SharedArguments

__all__ = ["OF_THE_CLASSIFIER", "architecture"]

# arguments of constructors that don't change which weights fit
_INDIFFERENT = {field.name for field in dataclasses.fields(SharedArguments)} | {"dropout_rate", "group_lasso"}
OF_THE_CLASSIFIER = frozenset({"classifier_condense_factor"})


def architecture(constructor: str, arguments: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the general constructor and the arguments that decide which weights fit, its own defaults included.

    Two ways of building the same network give the same result.

    Args:
        constructor: a function of `keras_condense.applications`.
        arguments: keyword arguments of it; those that don't matter here are left out of the result.

    Raises:
        ValueError: no such constructor.

    Example:
        >>> architecture("ResNeXt50", {"classes": 10}) == architecture("ResNeXt", {"stages": [3, 4, 6, 3]})
        True
    """
    function = find_constructor(constructor)
    general, fixed = getattr(function, "builds", (constructor, {}))
    known = _defaults(find_constructor(general))
    given = fixed | _defaults(function) | dict(arguments)
    left_out = _INDIFFERENT if arguments.get("include_top", True) else _INDIFFERENT | OF_THE_CLASSIFIER
    return general, {name: _plain(value) for name, value in (known | given).items() if name not in left_out}


def _defaults(function: Any) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {one.name: one.default for one in parameters if one.default is not one.empty}


def _plain(value: Any) -> Any:
    """Sequences and NumPy's numbers as tuples and Python's, to be compared."""
    if isinstance(value, (list, tuple, np.ndarray)):
        return tuple(_plain(one) for one in value)
    return value.item() if isinstance(value, np.generic) else value
