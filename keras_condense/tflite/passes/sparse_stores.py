"""Which pieces of a chain of concatenations lie in one part, a store that is filled piece by piece.

A piece joins a store by a sum of all the store's rows, and then a layer that reads both reads one part. A piece that
stays a part of its own costs nothing where it is made; each layer that reads it computes all its filters, or all the
channels that it reads, once more and adds them. Pieces of one store follow each other, so the cheapest division is
found from the first piece to the last.
"""

import dataclasses

import numpy as np

from keras_condense.tflite.graph import Graph, Node
from keras_condense.tflite.operators import Affine, ConcatenateChannels, Convolution, PickChannels, Relu
from keras_condense.tflite.passes.sparse_values import Place
from keras_condense.tflite.targets import Target

__all__ = ["Stores", "planned"]


@dataclasses.dataclass
class Stores:
    """What is stored together.

    Attributes:
        places: for each concatenation and each of its inputs by their names, the store of the input (a number) and its
            place in it; inputs of no store are left out.
    """

    places: dict[tuple[str, str], tuple[int, Place]] = dataclasses.field(default_factory=dict)

    def place_of(self, concatenation: str, name: str) -> tuple[int, Place] | None:
        """The store and the place in it of a concatenation's input."""
        return self.places.get((concatenation, name))

    def only_place(self, name: str) -> Place | None:
        """The one place where a piece is written, if it has one."""
        places = {place for (_, piece), (_, place) in self.places.items() if piece == name}
        return places.pop() if len(places) == 1 else None


@dataclasses.dataclass(frozen=True)
class _Piece:
    concatenation: str  # the first that it is in
    name: str
    channels: int
    is_placed: bool  # whether it is computed right where it belongs


def planned(inside: list[Node], graph: Graph, target: Target, arithmetic: str, in_one: bool = False) -> Stores:
    """Divide the pieces of each chain of concatenations among stores, as cheaply as possible or in one."""
    stores, names, number = Stores(), {node.name for node in inside}, 0
    by_name, readers = graph.by_name(), graph.readers()
    costs = _Costs.of(target, arithmetic)
    for chain in _chains(inside):
        first = chain[0]
        pieces = [
            _Piece(
                node.name,
                name,
                by_name[name].channels,
                isinstance(by_name[name].op, Convolution) and name in names and len(readers[name]) == 1,
            )
            for node in chain
            for name in (node.inputs if node is first else node.inputs[1:])
        ]
        if len({piece.name for piece in pieces}) < len(pieces):  # one image twice
            continue
        members = [[i for i, p in enumerate(pieces) if p.concatenation == node.name] for node in chain]
        reads = [_numbers_summed(node, readers, names) for node in chain]
        # what one part more costs from the concatenation of each piece on
        dearer = np.cumsum([costs.sum_of(1) * count for count in reads][::-1])[::-1]
        since = [dearer[at] for at, of_node in enumerate(members) for _ in of_node]
        for begin, end in [(0, len(pieces))] if in_one else _divided(pieces, since, costs):
            width = sum(piece.channels for piece in pieces[begin:end])
            offset = 0
            for piece in pieces[begin:end]:
                if end - begin > 1:
                    stores.places[piece.concatenation, piece.name] = (number, Place(offset, width))
                offset += piece.channels
            number += 1
    return stores


@dataclasses.dataclass(frozen=True)
class _Costs:
    """Of one number, in a 1x1 convolution and in a sum, and of a weight."""

    output: float
    weight: float
    add: float

    @classmethod
    def of(cls, target: Target, arithmetic: str) -> "_Costs":
        return cls(
            target.cost(("sparse_pointwise", {"outputs": 1.0}), arithmetic),
            target.cost(("sparse_pointwise", {"singles": 1.0}), arithmetic),
            target.cost(("sparse_add", {"outputs": 1.0}), arithmetic),
        )

    def sum_of(self, numbers: int) -> float:
        """So many numbers computed and added to others."""
        return numbers * (self.output + self.add)


def _chains(inside: list[Node]) -> list[list[Node]]:
    """Concatenations of which each begins with the one before it, all on images of one size."""
    chains: dict[str, list[Node]] = {}
    for node in inside:
        if isinstance(node.op, ConcatenateChannels):
            chain = chains.pop(node.inputs[0], [])
            chains[node.name] = [*chain, node]
    return list(chains.values())


def _numbers_summed(node: Node, readers: dict[str, list[Node]], names: set[str]) -> int:
    """How many numbers of a pixel have to be computed once more where a layer reads one part more."""
    total = 0
    for reader in readers[node.name]:
        channels = node.channels
        while reader.name in names and isinstance(reader.op, (PickChannels, Affine, Relu)):
            channels = min(channels, reader.channels)
            following = readers[reader.name]
            if len(following) != 1:
                break
            reader = following[0]
        if reader.name in names and isinstance(reader.op, Convolution):
            total += min(channels, reader.channels)
    return total


def _divided(pieces: list[_Piece], since: list[float], costs: _Costs) -> list[tuple[int, int]]:
    """Where stores begin and end, for the least cost."""
    best: list[tuple[float, list[tuple[int, int]]]] = [(0.0, [])]
    for end in range(1, len(pieces) + 1):
        choices = []
        for begin in range(end):
            cost, before = best[begin]
            of_store = _store_cost(pieces[begin:end], costs) + (since[begin] if begin else 0.0)
            choices.append((cost + of_store, [*before, (begin, end)]))
        best.append(min(choices, key=lambda choice: choice[0]))
    return best[-1][1]


def _store_cost(pieces: list[_Piece], costs: _Costs) -> float:
    """What it costs a pixel to keep pieces in one store, beyond what it costs to make each by itself."""
    if len(pieces) == 1:
        return 0.0
    width = sum(piece.channels for piece in pieces)
    cost = (len(pieces) - 1) * width * costs.add
    for piece in pieces:
        if piece.is_placed:
            cost += (width - piece.channels) * costs.output
        else:
            cost += width * costs.output + piece.channels * costs.weight
    return cost
