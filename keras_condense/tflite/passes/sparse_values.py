"""Where the images of a sparse part lie: which rows hold which channels, and which places wait for what is to come."""

import dataclasses

import numpy as np

from keras_condense.tflite.graph import Graph, Node
from keras_condense.tflite.operators import ConcatenateChannels, Convolution, PickChannels

__all__ = ["Place", "Value", "needed_channels", "pairs_apart", "places_in_stores"]


@dataclasses.dataclass(frozen=True)
class Value:
    """An image as it lies in memory: channel c of the network is row `rows[c]` of node `name`, `width` rows wide.

    A row of -1 was never written, since nobody needs it. `alone` says that all rows of no channel are zero.
    """

    name: str
    rows: np.ndarray
    width: int
    alone: bool = True


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a piece of a concatenation belongs: from row `offset` of a store of `width` rows."""

    offset: int
    width: int


def pairs_apart(filters: int, groups: int) -> np.ndarray:
    """An order in which two neighbours share a group and four don't.

    Neighbouring filters that read the same inputs are computed together. XNNPACK's kernel for pairs takes a fifth fewer
    instructions than the one for fours, which it chooses wherever fours are there to be found.
    """
    per_group = filters // groups
    if groups < 2 or filters % groups or per_group % 2:
        return np.arange(filters)
    return np.arange(filters).reshape(groups, per_group // 2, 2).transpose(1, 0, 2).ravel()


def needed_channels(inside: list[Node], cut: str) -> dict[str, np.ndarray]:
    """For each node the channels that some reader reads."""
    by_name = {node.name: node for node in inside}
    needed = {node.name: np.full(node.channels, node.name == cut) for node in inside}
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
                case Convolution():
                    needed[name][:] = True
                case _:
                    needed[name] |= mine
    return needed


def places_in_stores(inside: list[Node], graph: Graph) -> tuple[dict[str, int], dict[str, Place]]:
    """How wide the store of each concatenation is, and the place in one of each piece that nobody else reads."""
    names, readers, by_name = {node.name for node in inside}, graph.readers(), graph.by_name()
    widths: dict[str, int] = {}
    places: dict[str, Place] = {}
    for node in reversed(inside):
        if not isinstance(node.op, ConcatenateChannels):
            continue
        following = (r for r in readers[node.name] if isinstance(r.op, ConcatenateChannels))
        longer = [widths[r.name] for r in following if r.inputs[0] == node.name and r.name in names]
        width = max([node.channels, *longer])
        widths[node.name] = width
        offset = 0
        for name in node.inputs:
            source = by_name[name]
            if offset and isinstance(source.op, Convolution) and len(readers[name]) == 1:
                places[name] = Place(offset, width)
            offset += source.channels
    return widths, places
