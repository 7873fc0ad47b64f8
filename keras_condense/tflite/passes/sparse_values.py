"""Where the images of a sparse part lie: in which parts, which rows hold which channels, and in which order."""

import dataclasses

import numpy as np

from keras_condense.tflite.graph import Node
from keras_condense.tflite.operators import ConcatenateChannels, Convolution, PickChannels

__all__ = ["Part", "Place", "Value", "alike_apart", "alike_in_pairs", "needed_channels"]


@dataclasses.dataclass(frozen=True)
class Part:
    """A node that holds some of an image's channels, and how many rows it has."""

    name: str
    width: int


@dataclasses.dataclass(frozen=True, eq=False)
class Value:
    """An image as it lies in memory: channel c of the network is row `row[c]` of part `part[c]`.

    A part of -1 was never written, since nobody needs it. `alone` says that all rows of no channel are zero.
    """

    parts: tuple[Part, ...]
    part: np.ndarray
    row: np.ndarray
    alone: bool = True

    @classmethod
    def of_rows(cls, name: str, row: np.ndarray, width: int) -> "Value":
        """An image in one part; a row of -1 was never written."""
        return cls((Part(name, width),), np.where(np.asarray(row) < 0, -1, 0), np.asarray(row))

    @property
    def channels(self) -> int:
        """How many channels the image has in the network."""
        return len(self.row)

    def members(self, number: int) -> np.ndarray:
        """The channels that are rows of a part."""
        return np.flatnonzero(self.part == number)

    def pick(self, indices: np.ndarray) -> "Value":
        """The image of some of the channels; parts of none of them are left out."""
        part, row = self.part[indices], self.row[indices]
        used = np.unique(part[part >= 0])
        renumbered = np.full(len(self.parts) + 1, -1)  # the last for the -1 of what was never written
        renumbered[used] = np.arange(len(used))
        everything = set(zip(self.part.tolist(), self.row.tolist(), strict=True))
        alone = self.alone and everything == set(zip(part.tolist(), row.tolist(), strict=True))
        return Value(tuple(self.parts[number] for number in used), renumbered[part], row, alone)

    def lies_like(self, other: "Value") -> bool:
        """Whether the channels of another image are the same rows of parts of the same widths."""
        widths = [[part.width for part in value.parts] for value in (self, other)]
        same_rows = np.array_equal(self.part, other.part) and np.array_equal(self.row, other.row)
        return widths[0] == widths[1] and same_rows

    def renamed(self, names: list[str], alone: bool | None = None) -> "Value":
        """An image that lies like this one, in other nodes."""
        parts = tuple(Part(name, part.width) for name, part in zip(names, self.parts, strict=True))
        return Value(parts, self.part, self.row, self.alone if alone is None else alone)

    def name_of(self, node: Node, number: int) -> str:
        """What the part of a node's output that is made of a part of this image is called."""
        return f"{node.name}_part{number}" if len(self.parts) > 1 else node.name

    @property
    def is_whole(self) -> bool:
        """Whether it lies in one part with a row for each channel, and no other."""
        return len(self.parts) == 1 and np.array_equal(np.sort(self.row), np.arange(self.parts[0].width))


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a piece of a concatenation belongs: from row `offset` of a store of `width` rows."""

    offset: int
    width: int


def alike_in_pairs(kernel: np.ndarray) -> np.ndarray:
    """An order of filters in which two neighbours read the same inputs, and the next two others.

    Neighbouring filters that read the same inputs are computed together. XNNPACK's kernel for pairs takes a fifth fewer
    instructions than the one for fours, which it chooses wherever fours are there to be found.

    Args:
        kernel: (inputs, filters), zero where a filter does not read an input.

    Returns:
        The filters in their new order: pairs first, taken from each set of filters alike in turn, then those left over.

    Example:
        >>> kernel = np.array([[1, 1, 1, 1, 0, 0, 0, 0, 1], [0, 0, 0, 0, 1, 1, 1, 1, 1]])
        >>> alike_in_pairs(kernel).tolist()
        [0, 1, 4, 5, 2, 3, 6, 7, 8]
    """
    alike = _alike(kernel)
    pairs: list[tuple[int, int, int]] = []  # the place within its set, the set's first filter, the pair's first
    left: list[int] = []
    followers = {}
    for members in alike:
        for place in range(0, len(members) - 1, 2):
            pairs.append((place, members[0], members[place]))
            followers[members[place]] = members[place + 1]
        if len(members) % 2:
            left.append(members[-1])
    ordered = [filter_ for *_, first in sorted(pairs) for filter_ in (first, followers[first])]
    return np.array(ordered + sorted(left), int)


def alike_apart(kernel: np.ndarray) -> np.ndarray:
    """An order of filters in which neighbours read different inputs, as far as there are different filters.

    In WebAssembly, XNNPACK's kernel for pairs computes number by number, the one for single filters four at a time: 280
    picoseconds a multiply-add against 50.

    Args:
        kernel: (inputs, filters), zero where a filter does not read an input.

    Returns:
        The filters in their new order: each set of filters alike is spread evenly.

    Example:
        >>> kernel = np.array([[1, 1, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1]])
        >>> alike_apart(kernel).tolist()
        [0, 4, 1, 2, 5, 3]
    """
    places = [(2 * place + 1, len(members)) for members in _alike(kernel) for place in range(len(members))]
    filters = [filter_ for members in _alike(kernel) for filter_ in members]
    return np.array(filters, int)[np.argsort([place / size for place, size in places], kind="stable")]


def _alike(kernel: np.ndarray) -> list[list[int]]:
    """Sets of filters that read the same inputs."""
    alike: dict[bytes, list[int]] = {}
    for filter_, reads in enumerate((kernel != 0).T):
        alike.setdefault(reads.tobytes(), []).append(filter_)
    return list(alike.values())


def needed_channels(inside: list[Node], end: str) -> dict[str, np.ndarray]:
    """For each node the channels that some reader reads."""
    by_name = {node.name: node for node in inside}
    needed = {node.name: np.full(node.channels, node.name == end) for node in inside}
    for node in reversed(inside):
        offset, mine = 0, needed[node.name]
        for name in node.inputs:
            if name not in by_name:
                continue
            channels = by_name[name].channels
            match node.op:
                case PickChannels(indices):
                    needed[name][indices[mine]] = True
                case ConcatenateChannels():
                    needed[name] |= mine[offset : offset + channels]
                    offset += channels
                case Convolution() if node.op.is_pointwise:
                    needed[name] |= (node.op.matrix != 0).any(axis=1)
                case Convolution():
                    needed[name][:] = True
                case _:
                    needed[name] |= mine
    return needed
