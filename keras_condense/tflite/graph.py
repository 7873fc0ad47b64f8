"""The intermediate form of a network between Keras and the converter: nodes in order, weights as NumPy arrays.

Every node has one output, an image (height, width, channels) or a vector, of batch 1. The operators:

| operator | attributes | weights |
|---|---|---|
| input | dtype | |
| convolution | strides, padding ((top, bottom), (left, right)), dilation, groups, relu | kernel, bias |
| depthwise | strides, padding, relu | kernel (height, width, channels[, outputs a channel]), bias |
| affine | relu | scale, shift (channels) |
| relu, hard_swish | | |
| index | | indices: output channel i is input channel indices[i] |
| pad | padding: zeros around an image | |
| concatenate | | |
| add | | |
| average_pool | size (strides are the same, no padding) | |
| mean | (over height and width) | |
| dense | | kernel, bias |
| layer | call: a function of a list of tensors that calls a Keras layer; position: which of its outputs; variables | |

The operators that only a lowering makes (`emission.py` lists them) move data into layouts that the kernels like.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

__all__ = ["Graph", "Names", "Node"]


@dataclasses.dataclass(frozen=True, eq=False)  # arrays don't compare to one truth value
class Node:
    """One operator.

    Attributes:
        name: unique in its graph; the Keras layer's name where there is one.
        op: the operator, see the module's table.
        inputs: names of the nodes it reads.
        shape: of the output, without the batch.
        attributes: what the operator needs to know.
        weights: what was learned.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    attributes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    weights: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __getitem__(self, key: str) -> Any:
        """An attribute or a weight."""
        return self.attributes[key] if key in self.attributes else self.weights[key]

    def get(self, key: str, default: Any = None) -> Any:
        """An attribute or a weight, or `default`."""
        return self[key] if key in self.attributes or key in self.weights else default

    def replace(self, **changes: Any) -> "Node":
        """A copy with other fields; `attributes` and `weights` are merged into those that are there."""
        for field in ("attributes", "weights"):
            if field in changes:
                changes[field] = {**getattr(self, field), **changes[field]}
        return dataclasses.replace(self, **changes)

    @property
    def channels(self) -> int:
        """The size of the last axis."""
        return self.shape[-1]


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

    def by_name(self) -> dict[str, Node]:
        """The nodes by their names."""
        return {node.name: node for node in self.nodes}

    def readers(self) -> dict[str, list[Node]]:
        """For each node's name, the nodes that read it; an output of the network counts as none."""
        readers: dict[str, list[Node]] = {node.name: [] for node in self.nodes}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                readers[name].append(node)
        return readers

    def only_reader(self, name: str) -> Node | None:
        """The one node that reads `name`, or None if several do or its value leaves the network."""
        readers = self.readers()[name]
        return readers[0] if len(readers) == 1 and name not in self.outputs.values() else None

    def with_nodes(self, nodes: Iterable[Node], renamed: Mapping[str, str] | None = None) -> "Graph":
        """A graph of other nodes, where reading a name of `renamed` means reading another.

        Nodes that no output needs are left out, inputs of the network stay.
        """
        renamed = renamed or {}

        def actual(name: str) -> str:
            while name in renamed:
                name = renamed[name]
            return name

        nodes = [dataclasses.replace(node, inputs=tuple(map(actual, node.inputs))) for node in nodes]
        outputs = {key: actual(name) for key, name in self.outputs.items()}
        needed = set(outputs.values())
        for node in reversed(nodes):
            if node.name in needed:
                needed.update(node.inputs)
        return Graph(tuple(node for node in nodes if node.name in needed or node.op == "input"), outputs)


class Names:
    """Names for the nodes that a rewriting adds to a graph: none that a node has, whatever its layers are called.

    Every name that is made up comes from here.

    Example:
        >>> names = Names(Graph((Node("image", "input", (), (2,)), Node("image_rows", "relu", ("image",), (2,))), {}))
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
