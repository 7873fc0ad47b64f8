"""Checks of arguments. Every message says what came, what was expected, and how to mend it."""

import math
import numbers
import operator
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

__all__ = [
    "check_channel_constants",
    "check_choice",
    "check_divisible",
    "check_fraction",
    "check_not_negative",
    "check_padding",
    "check_positive_integer",
]


def check_positive_integer(name: str, value: Any, mend: str) -> int:
    """Return `value` if it is an integer above zero.

    Args:
        name: the argument's name, for the message.
        value: what the caller gave.
        mend: a sentence that says how to mend it.

    Returns:
        `value` as an int.

    Raises:
        ValueError: for anything else, `True` and `2.0` included.

    Example:
        >>> check_positive_integer("groups", 4, "Use 4.")
        4
        >>> check_positive_integer("groups", 0, "Use 4.")
        Traceback (most recent call last):
        ...
        ValueError: `groups` (=0) must be a positive integer. Use 4.
    """
    try:
        number = operator.index(value)
    except TypeError:  # also from an array of several numbers
        number = 0
    if isinstance(value, bool) or number < 1:
        raise ValueError(f"`{name}` (={value!r}) must be a positive integer. {mend}")
    return number


def check_divisible(name: str, value: int, divisor_name: str, divisor: int, mend: str) -> None:
    """Raise ValueError unless `divisor` divides `value`.

    Example:
        >>> check_divisible("in_channels", 30, "condense_factor", 4, "Give the layer 28 or 32 inputs.")
        Traceback (most recent call last):
        ...
        ValueError: `in_channels` (=30) must be divisible by `condense_factor` (=4). Give the layer 28 or 32 inputs.
    """
    if value % divisor:
        raise ValueError(f"`{name}` (={value}) must be divisible by `{divisor_name}` (={divisor}). {mend}")


def check_fraction(name: str, value: Any, mend: str, *, below_one: bool = False) -> float:
    """Return `value` as a float if it lies in [0, 1] (in [0, 1) with `below_one`).

    Example:
        >>> check_fraction("dropout_rate", 1.5, "Use 0.1.")
        Traceback (most recent call last):
        ...
        ValueError: `dropout_rate` (=1.5) must be a number in [0, 1]. Use 0.1.
    """
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not (0 <= value <= 1) or (below_one and value == 1):
        raise ValueError(f"`{name}` (={value!r}) must be a number in [0, 1{')' if below_one else ']'}. {mend}")
    return float(value)


def check_not_negative(name: str, value: Any, mend: str, *, above_zero: bool = False) -> float:
    """Return `value` as a float if it is a finite number of at least 0 (above 0 with `above_zero`).

    Example:
        >>> check_not_negative("group_lasso", -1, "Use 0 for none.")
        Traceback (most recent call last):
        ...
        ValueError: `group_lasso` (=-1) must be a finite number, not negative. Use 0 for none.
    """
    try:
        number = float(value) if isinstance(value, numbers.Real) and not isinstance(value, bool) else math.nan
    except OverflowError:  # an integer beyond what a float holds
        number = math.inf
    if not 0 <= number < math.inf or (above_zero and number == 0):
        expected = "a finite number above 0" if above_zero else "a finite number, not negative"
        raise ValueError(f"`{name}` (={value!r}) must be {expected}. {mend}")
    return number


def check_padding(name: str, value: Any, mend: str) -> int:
    """Return `value` as an int if it is an integer of at least 0.

    Example:
        >>> check_padding("pad", -1, "Use 0 for none.")
        Traceback (most recent call last):
        ...
        ValueError: `pad` (=-1) must be a positive integer or 0. Use 0 for none.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__") or value.__index__() < 0:
        raise ValueError(f"`{name}` (={value!r}) must be a positive integer or 0. {mend}")
    return value.__index__()


def check_crop_size(crop_size: Any, image_shape: Sequence[int]) -> tuple[int, int]:
    """Return `crop_size` as a tuple if crops of (height, width) fit into the images.

    Example:
        >>> check_crop_size((24, 48), (32, 32, 3))
        Traceback (most recent call last):
        ...
        ValueError: `crop_size` (=(24, 48)) must be (height, width), at most the images' (32, 32). Use smaller crops.
    """
    sides = crop_size if isinstance(crop_size, (tuple, list)) and len(crop_size) == 2 else (0, 0)
    in_range = all(isinstance(side, int) and 0 < side <= most for side, most in zip(sides, image_shape, strict=False))
    if not in_range:
        raise ValueError(
            f"`crop_size` (={crop_size!r}) must be (height, width), at most the images' {tuple(image_shape[:2])}. "
            "Use smaller crops."
        )
    return tuple(crop_size)


def check_channel_constants(
    name: str, values: Any, channels: int, mend: str, *, above_zero: bool = False
) -> tuple[float, ...]:
    """Return `values` as floats if they are finite numbers, one a channel (all above 0 with `above_zero`).

    Example:
        >>> check_channel_constants("mean", [0.5, 0.4], 3, "Leave it out.")
        Traceback (most recent call last):
        ...
        ValueError: `mean` (=[0.5, 0.4]) must be a number for each of the images' 3 channels. Leave it out.
    """
    try:
        constants = np.asarray(values, "float64")
    except (TypeError, ValueError):  # no numbers, or sequences of different lengths
        constants = np.empty(0)
    if constants.shape != (channels,) or not np.isfinite(constants).all():
        raise ValueError(f"`{name}` (={values!r}) must be a number for each of the images' {channels} channels. {mend}")
    if above_zero and constants.min() <= 0:
        raise ValueError(f"`{name}` (={values!r}) must be above 0 in every channel. {mend}")
    return tuple(constants.tolist())


def check_choice(name: str, value: Any, choices: Iterable[Any], mend: str = "") -> Any:
    """Return `value` if it is one of `choices`.

    Example:
        >>> check_choice("quantize", "int4", (None, "int8"), "Leave it out for float32.")
        Traceback (most recent call last):
        ...
        ValueError: `quantize` (='int4') must be one of None, 'int8'. Leave it out for float32.
    """
    choices = tuple(choices)
    try:
        known = value in choices
    except ValueError:  # an array of several values
        known = False
    if not known:
        raise ValueError(f"`{name}` (={value!r}) must be one of {', '.join(map(repr, choices))}. {mend}".rstrip())
    return value
