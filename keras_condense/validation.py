"""Checks of arguments. Every message says what came, what was expected, and how to fix it."""

import math
import numbers
import operator
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

__all__ = [
    "LARGEST_CHANNELS",
    "LARGEST_INTEGER",
    "LARGEST_SIDE",
    "as_index",
    "check_channel_constants",
    "check_choice",
    "check_divisible",
    "check_fraction",
    "check_not_negative",
    "check_padding",
    "check_positive_integer",
    "check_real",
    "check_weight_shape",
    "listed",
    "shown",
    "shown_text",
]

LARGEST_INTEGER = 2**31 - 1  # of an int32, in which the backends count
LARGEST_CHANNELS = 2**24  # filters, units, groups
LARGEST_SIDE = 2**14  # pixels: of an image, and so of kernels, strides and borders

_SHOWN = 200  # characters of a value in a message
_LISTED = 5  # names in a message


def shown(value: Any) -> str:
    """Return `repr(value)`, cut where it is longer than a message should be.

    Example:
        >>> shown(10**5000)
        'an integer of 16610 bits'
        >>> len(shown("a" * 10**6))
        203
    """
    try:
        text = repr(value)
    except ValueError:  # Python writes no integer of more than 4300 digits
        return f"an integer of {value.bit_length()} bits" if isinstance(value, int) else type(value).__name__
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def shown_text(error: BaseException) -> str:
    """Return an error's message on one line, cut where it is longer than a part of another message should be.

    Example:
        >>> shown_text(ValueError("no  number,  but a word."))
        'no number, but a word'
    """
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return text if len(text) <= 2 * _SHOWN else text[: 2 * _SHOWN] + "..."


def listed(names: Sequence[str]) -> str:
    """Return names as a message shows them, the first five of many.

    Example:
        >>> listed("ab"), listed("abcdefg")
        ("'a', 'b'", "'a', 'b', 'c', 'd', 'e' and 2 more")
    """
    return ", ".join(map(repr, names[:_LISTED])) + (f" and {len(names) - _LISTED} more" if names[_LISTED:] else "")


def as_index(value: Any) -> int | None:
    """Return an integer as an int, and None for everything else, `True` and `2.0` included."""
    if isinstance(value, (bool, np.bool_)):  # older NumPy takes its own for an index
        return None
    try:
        return operator.index(value)
    except TypeError:  # also from an array of several numbers
        return None


def check_positive_integer(name: str, value: Any, fix: str, *, largest: int = LARGEST_INTEGER) -> int:
    """Return `value` if it is an integer above zero.

    Args:
        name: the argument's name, for the message.
        value: what the caller gave.
        fix: a sentence that says how to fix it.
        largest: the largest value that makes sense.

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
        >>> check_positive_integer("groups", 10**12, "Use 4.")
        Traceback (most recent call last):
        ...
        ValueError: `groups` (=1000000000000) must be a positive integer, at most 2,147,483,647. Use 4.
    """
    number = as_index(value)
    if number is None or number < 1:
        raise ValueError(f"`{name}` (={shown(value)}) must be a positive integer. {fix}")
    if number > largest:
        raise ValueError(f"`{name}` (={shown(value)}) must be a positive integer, at most {largest:,}. {fix}")
    return number


def check_divisible(name: str, value: int, divisor_name: str, divisor: int, fix: str) -> None:
    """Raise ValueError unless `divisor` divides `value`.

    Example:
        >>> check_divisible("in_channels", 30, "condense_factor", 4, "Give the layer 28 or 32 inputs.")
        Traceback (most recent call last):
        ...
        ValueError: `in_channels` (=30) must be divisible by `condense_factor` (=4). Give the layer 28 or 32 inputs.
    """
    if value % divisor:
        raise ValueError(f"`{name}` (={shown(value)}) must be divisible by `{divisor_name}` (={divisor}). {fix}")


def check_fraction(name: str, value: Any, fix: str, *, below_one: bool = False) -> float:
    """Return `value` as a float if it lies in [0, 1] (in [0, 1) with `below_one`).

    Example:
        >>> check_fraction("dropout_rate", 1.5, "Use 0.1.")
        Traceback (most recent call last):
        ...
        ValueError: `dropout_rate` (=1.5) must be a number in [0, 1]. Use 0.1.
    """
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not (0 <= value <= 1) or (below_one and value == 1):
        raise ValueError(f"`{name}` (={shown(value)}) must be a number in [0, 1{')' if below_one else ']'}. {fix}")
    return float(value)


def check_not_negative(name: str, value: Any, fix: str, *, above_zero: bool = False) -> float:
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
        raise ValueError(f"`{name}` (={shown(value)}) must be {expected}. {fix}")
    return number


def check_padding(name: str, value: Any, fix: str) -> int:
    """Return `value` as an int if it is an integer from 0 to `LARGEST_SIDE`.

    Example:
        >>> check_padding("pad", -1, "Use 0 for none.")
        Traceback (most recent call last):
        ...
        ValueError: `pad` (=-1) must be a positive integer or 0. Use 0 for none.
    """
    number = as_index(value)
    if number is None or number < 0:
        raise ValueError(f"`{name}` (={shown(value)}) must be a positive integer or 0. {fix}")
    if number > LARGEST_SIDE:
        raise ValueError(f"`{name}` (={shown(value)}) must be a positive integer or 0, at most {LARGEST_SIDE:,}. {fix}")
    return number


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
    name: str, values: Any, channels: int, fix: str, *, above_zero: bool = False
) -> tuple[float, ...]:
    """Return `values` as floats if they are finite numbers, one a channel (all above 0 with `above_zero`).

    Example:
        >>> check_channel_constants("mean", [0.5, 0.4], 3, "Leave it out.")
        Traceback (most recent call last):
        ...
        ValueError: `mean` (=[0.5, 0.4]) must be a number for each of the images' 3 channels. Leave it out.
    """
    try:
        constants = np.asarray(values)
        # NumPy would read numbers out of strings, and drop the imaginary part of complex ones
        constants = constants.astype("float64") if constants.dtype.kind in "iufO" else np.empty(0)
    except (TypeError, ValueError, OverflowError):  # no numbers, sequences of different lengths, beyond a float
        constants = np.empty(0)
    if constants.shape != (channels,) or not np.isfinite(constants).all():
        raise ValueError(
            f"`{name}` (={shown(values)}) must be a number for each of the images' {channels} channels. {fix}"
        )
    if above_zero and constants.min() <= 0:
        raise ValueError(f"`{name}` (={shown(values)}) must be above 0 in every channel. {fix}")
    return tuple(constants.tolist())


def check_choice(name: str, value: Any, choices: Iterable[Any], fix: str = "") -> Any:
    """Return the one of `choices` that `value` equals.

    Example:
        >>> check_choice("quantize", "int4", (None, "int8"), "Leave it out for float32.")
        Traceback (most recent call last):
        ...
        ValueError: `quantize` (='int4') must be one of None, 'int8'. Leave it out for float32.
    """
    choices = tuple(choices)
    if not isinstance(value, (np.ndarray, complex)):  # which equal a number without being one
        for choice in choices:
            if value is choice or value == choice:
                return choice
    raise ValueError(f"`{name}` (={shown(value)}) must be one of {', '.join(map(repr, choices))}. {fix}".rstrip())


def check_real(name: str, dtype: Any) -> None:
    """Raise ValueError unless `dtype` is of real numbers; casting would drop the imaginary part of complex ones.

    Example:
        >>> check_real("inputs", "complex64")
        Traceback (most recent call last):
        ...
        ValueError: `inputs` (of dtype complex64) must be real numbers. Convert them, for instance to float32.
    """
    if any(kind in str(dtype) for kind in ("complex", "string")):
        raise ValueError(f"`{name}` (of dtype {dtype}) must be real numbers. Convert them, for instance to float32.")


def check_weight_shape(layer: str, shape: Iterable[int]) -> None:
    """Raise ValueError if a weight would have more elements than the backends can count, before memory is taken.

    Example:
        >>> check_weight_shape("conv", (3, 3, 64, 10**9))
        Traceback (most recent call last):
        ...
        ValueError: Layer 'conv' would have a weight of (3, 3, 64, 1000000000), and at most 2,147,483,647 elements ...
    """
    shape = tuple(shape)
    if math.prod(shape) > LARGEST_INTEGER:
        raise ValueError(
            f"Layer {layer!r} would have a weight of {shape}, and at most {LARGEST_INTEGER:,} elements can be counted. "
            "Give it fewer filters or inputs."
        )
