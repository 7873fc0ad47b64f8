"""Concatenations keep their channels as rows of an array; picks copy rows, and a limit may limit them.

An image (height, width, channels) is then rows (channels, height, width).
"""

from keras_condense.tflite.graph import Graph, Names, Node
from keras_condense.tflite.operators import (
    IMAGE_TO_ROWS,
    ROWS_TO_IMAGE,
    Add,
    ConcatenateChannels,
    ConcatenateRows,
    Maximum,
    Minimum,
    Operator,
    PickChannels,
    PickRows,
    Reshape,
    Shape,
    SumOfPicks,
    Transpose,
    UnblockPixels,
)
from keras_condense.tflite.passes.stores import picks_an_image, stores
from keras_condense.tflite.schemes import Scheme
from keras_condense.tflite.targets import Target

__all__ = ["run"]


def run(graph: Graph, target: Target, scheme: Scheme) -> Graph:
    """Keep what a pick reads as rows, one for each channel, and join, copy and limit whole rows."""
    layouts = _Layouts(graph, target, scheme)
    for node in graph:
        layouts.write(node)
    for name in graph.outputs.values():
        layouts.image(name)
    return graph.with_nodes(layouts.nodes)


def _limited(graph: Graph, rows: set[str], target: Target, scheme: Scheme) -> set[str]:
    """Limits to picked rows that are faster with one limit a row than with one a channel."""
    limited: set[str] = set()
    for node in graph:
        if isinstance(node.op, (Maximum, Minimum)) and node.inputs[0] in rows | limited:
            of_rows = _as_rows(node.op).features(
                [], (node.channels, *node.shape[:2]), target.lanes_of(scheme.arithmetic)
            )
            of_image = node.op.features([], node.shape, target.lanes_of(scheme.arithmetic))
            if target.cost(of_rows, scheme.arithmetic) < target.cost(of_image, scheme.arithmetic):
                limited.add(node.name)
    return limited


def _as_rows(op: Maximum | Minimum) -> Maximum | Minimum:
    """The same limits, one a row."""
    return type(op)(op.limit[:, None, None])


class _Layouts:
    """Writes nodes; an image is there as an image (height, width, channels), as rows (channels, height, width) or both.

    What only moves data is written when it is asked for, in the layout in which it is asked for.
    """

    def __init__(self, graph: Graph, target: Target, scheme: Scheme):
        self.nodes: list[Node] = []
        self._graph, self._names = graph.by_name(), Names(graph)
        picks = {n.name for n in graph if n.inputs and picks_an_image(n, self._graph[n.inputs[0]])}
        pending = {node.name for node in graph if isinstance(node.op, (UnblockPixels, SumOfPicks))}
        self._lazy = stores(graph) | pending | picks | _limited(graph, picks, target, scheme)
        self._images: set[str] = set()
        self._rows: dict[str, str] = {}

    def write(self, node: Node) -> None:
        if node.name not in self._lazy:
            for name in node.inputs:
                self.image(name)
            self.nodes.append(node)
            self._images.add(node.name)

    def image(self, name: str) -> None:
        """Have `name` written as an image."""
        if name in self._images:
            return
        node = self._graph[name]
        if isinstance(node.op, UnblockPixels):
            self._unblock(node)
        else:
            self._emit(name, ROWS_TO_IMAGE, (self.rows(name),), node.shape, node)
        self._images.add(name)

    def rows(self, name: str) -> str:
        """The node that holds `name` as rows."""
        asked = [name]  # a stack, for chains longer than Python calls itself
        while asked:
            inputs = self._graph[asked[-1]].inputs if asked[-1] in self._lazy else ()
            missing = next((each for each in inputs if each not in self._rows), None)
            if asked[-1] in self._rows:
                asked.pop()
            elif missing is not None:
                asked.append(missing)
            else:
                self._have_rows(asked.pop())
        return self._rows[name]

    def _have_rows(self, name: str) -> None:
        """Write `name` as rows; the inputs of what only moves data are there as rows."""
        node, written = self._graph[name], self._names.new(f"{name}_rows")
        shape = (node.shape[2], *node.shape[:2])
        if name in self._lazy:
            self._write_rows(node, written, shape)
        else:
            self.image(name)
            self._emit(written, IMAGE_TO_ROWS, (name,), shape, node)
        self._rows[name] = written

    def _write_rows(self, node: Node, name: str, shape: Shape) -> None:
        """Compute a node from rows, as rows."""
        match node.op:
            case UnblockPixels():
                self._unblock_rows(node, name)
                return
            case SumOfPicks():
                self._sum_of_picks(node, name, shape)
                return
            case PickChannels(indices):
                op = PickRows(indices)
            case Maximum() | Minimum():
                op = _as_rows(node.op)
            case ConcatenateChannels():
                op = ConcatenateRows()
            case Add(relu, ceiling):
                op = Add(relu, ceiling)
        self._emit(name, op, tuple(map(self.rows, node.inputs)), shape, node)

    def _sum_of_picks(self, node: Node, name: str, shape: Shape) -> None:
        """The rows that each round of picks names, added up."""
        source, picked = self.rows(node.inputs[0]), []
        for number, indices in enumerate(node.op.picks):
            alone = len(node.op.picks) == 1
            picked.append(name if alone else self._names.new(f"{name}_{number}"))
            self._emit(picked[-1], PickRows(indices), (source,), shape, node)
        if len(picked) > 1:
            self._emit(name, Add(), tuple(picked), shape, node)

    def _unblock(self, node: Node) -> None:
        """Blocks of pixels as an image."""
        self.image(node.inputs[0])
        split, ordered = self._names.new(f"{node.name}_parts"), self._names.new(f"{node.name}_order")
        down, across, channels, rows, columns = node.op.parts(node.shape)
        self._emit(split, Reshape(), node.inputs, (down, across, channels, rows, columns), node)
        shape = (down, rows, across, columns, channels)
        self._emit(ordered, Transpose((0, 1, 4, 2, 5, 3)), (split,), shape, node)
        self._emit(node.name, Reshape(), (ordered,), node.shape, node)

    def _unblock_rows(self, node: Node, name: str) -> None:
        """Blocks of pixels as rows.

        In two transpositions that both end in another axis than they began with, since XNNPACK moves whatever keeps
        its last axis slowly, run by run.
        """
        blocks = self.rows(node.inputs[0])
        down, across, channels, rows, columns = node.op.parts(node.shape)
        split, ordered = self._names.new(f"{name}_parts"), self._names.new(f"{name}_order")
        self._emit(split, Reshape(), (blocks,), (channels, rows, columns, down, across), node)
        shape = (channels, down, rows, across, columns)
        self._emit(ordered, Transpose((0, 1, 4, 2, 5, 3)), (split,), shape, node)
        self._emit(name, Reshape(), (ordered,), (channels, *node.shape[:2]), node)

    def _emit(self, name: str, op: Operator, inputs: tuple[str, ...], shape: Shape, origin: Node) -> None:
        self.nodes.append(Node(name, op, inputs, tuple(shape), origin.layer))
