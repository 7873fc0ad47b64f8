"""The intermediate form of a network between Keras and the converter: operators in order, weights as NumPy arrays."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from keras_condense.tflite.operators import Input, Operator, Shape

__all__ = ["Graph", "Names", "Node"]


@dataclasses.dataclass(frozen=True, eq=False)  # operators hold arrays, which don't compare to one truth value
class Node:
    """An operator in its place.

    Attributes:
        name: unique in its graph; the Keras layer's name where there is one.
        op: what it computes.
        inputs: names of the nodes it reads.
        shape: of the output, without the batch.
        layer: name of the Keras layer that it computes, or is a part of.
    """

    name: str
    op: Operator
    inputs: tuple[str, ...]
    shape: Shape
    layer: str = ""

    def replace(self, **changes: Any) -> "Node":
        """A copy with other fields."""
        return dataclasses.replace(self, **changes)

    def with_op(self, **changes: Any) -> "Node":
        """A copy whose operator has other attributes."""
        return self.replace(op=dataclasses.replace(self.op, **changes))

    @property
    def channels(self) -> int:
        """The size of the last axis."""
        return self.shape[-1]

    @property
    def is_image(self) -> bool:
        """Whether its value is an image (height, width, channels)."""
        return len(self.shape) == 3


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in an order in which each comes after those it reads; a rewriting returns a new graph.

    Attributes:
        nodes: all operators.
        outputs: names of the nodes whose values leave the network, by the output's name.
    """

    nodes: tuple[Node, ...]
    outputs: Mapping[str, str]

    def __post_init__(self):
        seen: set[str] = set()
        for node in self.nodes:
            missing = set(node.inputs) - seen
            if node.name in seen or missing:
                raise ValueError(
                    f"Node {node.name!r} must have a name of its own and come after what it reads; "
                    f"{'its name is taken' if node.name in seen else f'{sorted(missing)} come later'}. "
                    "Sort the rewritten nodes."
                )
            seen.add(node.name)
        for key, name in self.outputs.items():
            if name not in seen:
                raise ValueError(
                    f"Output {key!r} must be the value of a node; there is none called {name!r}. Name one of the nodes."
                )

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __getitem__(self, name: str) -> Node:
        """The node of that name."""
        return self.by_name()[name]

    @property
    def inputs(self) -> list[Node]:
        """The nodes that are what the network is given."""
        return [node for node in self.nodes if isinstance(node.op, Input)]

    def by_name(self) -> dict[str, Node]:
        """The nodes by their names, in a dict of the caller's own."""
        return {node.name: node for node in self.nodes}

    def readers(self) -> dict[str, list[Node]]:
        """For each node's name, the nodes that read it; an output of the network counts as none."""
        return dict(self._readers)

    @functools.cached_property
    def _readers(self) -> dict[str, list[Node]]:
        readers: dict[str, list[Node]] = {node.name: [] for node in self.nodes}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                readers[name].append(node)
        return readers

    def only_reader(self, name: str) -> Node | None:
        """The one node that reads `name`, or None if several do or its value leaves the network."""
        readers = self._readers[name]
        return readers[0] if len(readers) == 1 and name not in self.outputs.values() else None

    def without(self, kind: type[Operator]) -> "Graph":
        """The graph without operators of one input and of that kind: their readers read what they do."""
        removed = {node.name: node.inputs[0] for node in self.nodes if isinstance(node.op, kind)}
        return self.with_nodes((node for node in self.nodes if node.name not in removed), removed)

    def with_nodes(self, nodes: Iterable[Node], renamed: Mapping[str, str] | None = None) -> "Graph":
        """A graph of other nodes, where reading a name of `renamed` means reading another.

        Nodes that no output needs are left out, inputs of the network stay.
        """
        renamed = renamed or {}

        def actual(name: str) -> str:
            while name in renamed:
                name = renamed[name]
            return name

        nodes = [node.replace(inputs=tuple(map(actual, node.inputs))) for node in nodes]
        outputs = {key: actual(name) for key, name in self.outputs.items()}
        needed = set(outputs.values())
        for node in reversed(nodes):
            if node.name in needed:
                needed.update(node.inputs)
        kept = (node for node in nodes if node.name in needed or isinstance(node.op, Input))
        return Graph(tuple(kept), outputs)


class Names:
    """Names for the nodes that a rewriting adds to a graph: none that a node has, whatever its layers are called.

    Every name that is made up comes from here.

    Example:
        >>> from keras_condense.tflite.operators import Relu
        >>> names = Names(Graph((Node("image", Input(), (), (2,)), Node("image_rows", Relu(), ("image",), (2,))), {}))
        >>> names.new("image_order"), names.new("image_rows"), names.new("image_rows")
        ('image_order', 'image_rows_', 'image_rows__')
    """

    def __init__(self, graph: Graph):
        self._taken = {node.name for node in graph}

    def new(self, wanted: str) -> str:
        """`wanted`, or something like it if that is taken; it is taken from now on."""
        while wanted in self._taken:
            wanted += "_"
        self._taken.add(wanted)
        return wanted

    def release(self, name: str) -> None:
        """Let the node of that name be written anew, and keep it."""
        self._taken.discard(name)
