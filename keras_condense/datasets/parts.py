"""Which rows of a pass over examples one process reads."""

import dataclasses
import math
from typing import Any

import numpy as np

from keras_condense.validation import as_index, shown

__all__ = ["Part", "check_part", "repeats"]


@dataclasses.dataclass(frozen=True)
class Part:
    """The rows of a pass that are read: from one batch on, and of each batch one of several equal parts.

    The parts of all processes are together the batches of one, in the same order, without overlap or loss.

    Attributes:
        first_batch: the first one that is read.
        number: of the part, from 0.
        of: how many parts there are; they must divide each batch, and the last one, too.
        repeats: how often all examples come in the pass, one time after the other.

    Example:
        >>> Part(number=1, of=2).rows(size=10, batch_size=4).tolist()
        [2, 3, 6, 7, 9]
        >>> Part(first_batch=1).rows(size=10, batch_size=4).tolist()
        [4, 5, 6, 7, 8, 9]
    """

    first_batch: int = 0
    number: int = 0
    of: int = 1
    repeats: int = 1

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the pass."""
        return self == Part()

    def rows(self, size: int, batch_size: int, drop_remainder: bool = False) -> np.ndarray:
        """Return the places of the rows in a pass over `size` examples."""
        places = np.arange(size * self.repeats)
        if drop_remainder:  # here, since the parts of a smaller last batch may be whole ones
            places = places[: len(places) // batch_size * batch_size]
        batches, rows = np.divmod(places, batch_size)
        in_batch = np.minimum(len(places) - batches * batch_size, batch_size)  # the last one may be smaller
        return places[(batches >= self.first_batch) & (rows * self.of // in_batch == self.number)]


def repeats(size: int, devices: int) -> int:
    """How often so many examples must come for devices to divide them: each counts alike then, in means of any kind.

    Example:
        >>> repeats(101, devices=2), repeats(6, devices=4)
        (2, 2)
    """
    return devices // math.gcd(devices, size)


def check_part(part: Any, batch_size: int, last: int) -> tuple[int, int]:
    """Return (number, of) as integers; ValueError unless they are a part that divides batches, and the last one.

    Example:
        >>> check_part((1, 2), batch_size=64, last=64)
        (1, 2)
        >>> check_part((1, 2), batch_size=64, last=29)
        Traceback (most recent call last):
        ...
        ValueError: `part` (=(1, 2)) must divide each batch, and batches are of 64 and the last one of 29. ...
    """
    numbers = tuple(map(as_index, part)) if isinstance(part, (tuple, list)) else ()
    if len(numbers) != 2 or None in numbers or not 0 <= numbers[0] < numbers[1]:
        raise ValueError(
            f"`part` (={shown(part)}) must be (number, of), integers with 0 <= number < of. Use (0, 1) for all."
        )
    of = numbers[1]
    if batch_size % of or last % of:
        raise ValueError(
            f"`part` (={shown(part)}) must divide each batch, and batches are of {batch_size} and the last one of "
            f"{last}. Load the data with a `batch_size` of {max(batch_size // of, 1) * of} and `drop_remainder=True`."
        )
    return numbers
