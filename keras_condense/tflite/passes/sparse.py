"""Learned groups as sparse convolutions: no index, no shuffle, no group is left to execute.

XNNPACK keeps images channels-first where a part of a network consists of 1x1 convolutions that are mostly zeros, 3x3
depthwise convolutions and sums, begins with a 3x3 convolution of stride 2 on three channels, and ends in a mean or a
`depth_to_space`. There a 1x1 convolution skips its zeros and works on 32 pixels at a time, however few filters a group
has. This pass writes the beginning of a network in these operators:

- index and shuffle: nothing; the next kernel has its rows permuted.
- batch norm and ReLU: a diagonal 1x1 convolution of the channels that somebody reads.
- grouped 1x1 convolution: a 1x1 convolution, zero outside the groups.
- grouped 3x3 convolution: a depthwise one of each pair of input and filter, and a 1x1 convolution that sums.
- concatenation: a store as wide as the last of a chain of concatenations, zero where nothing has been written. Each
  new piece comes out of its convolution at its place in a store of zeros and is added.
- 2x2 average pooling: a depthwise 3x3 convolution of stride 2 with four weights of 1/4.
"""

import dataclasses

import numpy as np

from keras_condense.tflite.graph import Graph, Names, Node

__all__ = ["lower_to_sparse", "sparse_cuts"]

_PAD_ONE = ((1, 1), (1, 1))
# the share of zeros among the weights of all 1x1 convolutions above which XNNPACK goes channels-first
_ENOUGH_ZEROS = 2 / 3


def _is_stem(node: Node) -> bool:
    """Whether a convolution can begin a channels-first part: 3x3, stride 2, padding 1, three input channels."""
    return (
        node.op == "convolution"
        and node["kernel"].shape[:3] == (3, 3, 3)
        and node["strides"] == (2, 2)
        and node["padding"] == _PAD_ONE
        and node["dilation"] == (1, 1)
        and node["groups"] == 1
    )


def _is_supported(node: Node, graph: dict[str, Node]) -> bool:
    if node.op in ("relu", "hard_swish", "index", "concatenate"):
        return len(node.shape) == 3
    if node.op == "affine":
        return True
    if node.op == "add":
        return len(node.inputs) == 2 and len(node.shape) == 3 and all(graph[i].shape == node.shape for i in node.inputs)
    if node.op == "average_pool":
        height, width = graph[node.inputs[0]].shape[:2]
        return node["size"] == (2, 2) and height % 2 == 0 and width % 2 == 0
    if node.op == "mean":
        return True
    if node.op == "convolution" and node["strides"] == (1, 1) and node["dilation"] == (1, 1):
        window = node["kernel"].shape[:2]
        return (window, node["padding"]) in (((1, 1), ((0, 0), (0, 0))), ((3, 3), _PAD_ONE))
    return False


def sparse_cuts(graph: Graph) -> list[str]:
    """Where a channels-first beginning of the network may end, from the shortest to the longest.

    Args:
        graph: a simplified network.

    Returns:
        Names of pooling or mean nodes such that everything before them is supported and nothing else reads it.
    """
    by_name, readers = graph.by_name(), graph.readers()
    stem = next((node for node in graph if _is_stem(node)), None)
    if stem is None or by_name[stem.inputs[0]].op != "input":
        return []
    inside, cuts = {stem.name}, []
    for node in graph:
        if node.op == "input" or node.name in inside:
            continue
        if not (set(node.inputs) <= inside and _is_supported(node, by_name)):
            continue
        inside.add(node.name)
        if node.op in ("average_pool", "mean"):
            before = inside - {node.name}
            read_outside = any(reader.name not in inside for name in before for reader in readers[name])
            if not read_outside and not before & set(graph.outputs.values()):
                cuts.append(node.name)
    return cuts


@dataclasses.dataclass(frozen=True)
class _Value:
    """An image as it lies in memory: channel c of the network is row `rows[c]` of node `name`, `width` rows wide.

    A row of -1 was never written, since nobody needs it. `alone` says that all rows of no channel are zero.
    """

    name: str
    rows: np.ndarray
    width: int
    alone: bool = True


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where a piece of a concatenation belongs: from row `offset` of a store of `width` rows."""

    offset: int
    width: int


class _Lowering:
    """Writes the nodes of a channels-first part; `values` says where each of the network's images lies."""

    def __init__(self, graph: Graph, inside: list[Node], cut: str):
        self.nodes: list[Node] = []
        self.values: dict[str, _Value] = {}
        self._graph, self._cut = graph.by_name(), cut
        self._needed = _needed_channels(inside, cut)
        self._widths, self._places = _places(inside, graph)
        self._names = Names(graph)

    def lower(self, node: Node) -> None:
        self._names.release(node.name)
        getattr(self, f"_{node.op}")(node)

    # --- building blocks -------------------------------------------------------------------------------------------
    def _emit(self, name: str, op: str, inputs: tuple[str, ...], shape: tuple[int, ...], attributes, weights) -> str:
        name = self._names.new(name)
        self.nodes.append(Node(name, op, inputs, shape, attributes, weights))
        return name

    def _pointwise(self, name: str, source: str, shape, kernel, bias=None, relu=False) -> str:
        """A 1x1 convolution of the rows of `source`; `kernel` is (rows in, rows out)."""
        attributes = {"strides": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1, "relu": relu}
        attributes["channels_first"] = True
        weights = {"kernel": np.asarray(kernel, "float32")[None, None]}
        if bias is not None:
            weights["bias"] = np.asarray(bias, "float32")
        return self._emit(name, "convolution", (source,), (*shape[:2], kernel.shape[1]), attributes, weights)

    def _depthwise(self, name: str, source: str, shape, kernel, stride: int = 1) -> str:
        attributes = {"strides": (stride, stride), "padding": _PAD_ONE, "relu": False, "channels_first": True}
        weights = {"kernel": np.asarray(kernel, "float32")}
        return self._emit(name, "depthwise", (source,), (*shape[:2], kernel.shape[2]), attributes, weights)

    def _place(self, node: Node, channels: int) -> _Place:
        """Where the outputs of a node go: to their place in a store, or to rows of their own."""
        return self._places.get(node.name, _Place(0, channels))

    def _keep(self, node: Node, name: str, rows, width: int, alone: bool = True) -> None:
        self.values[node.name] = _Value(name, np.asarray(rows), width, alone)

    # --- operators -------------------------------------------------------------------------------------------------
    def _index(self, node: Node) -> None:
        value = self.values[node.inputs[0]]
        rows = value.rows[node["indices"]]
        self._keep(node, value.name, rows, value.width, value.alone and bool(np.isin(value.rows, rows).all()))

    def _relu(self, node: Node) -> None:
        value = self.values[node.inputs[0]]
        self._emit(node.name, node.op, (value.name,), (*node.shape[:2], value.width), {}, {})
        self._keep(node, node.name, value.rows, value.width, value.alone)

    _hard_swish = _relu

    def _affine(self, node: Node) -> None:
        value, channels = self.values[node.inputs[0]], np.flatnonzero(self._needed[node.name])
        if not len(channels):  # an index behind a concatenation may read all of it but this
            channels = np.arange(1)
        kernel = np.zeros((value.width, len(channels)), "float32")
        kernel[value.rows[channels], np.arange(len(channels))] = node["scale"][channels]
        self._pointwise(node.name, value.name, node.shape, kernel, node["shift"][channels], node["relu"])
        rows = np.full(node.channels, -1)
        rows[channels] = np.arange(len(channels))
        self._keep(node, node.name, rows, len(channels))

    def _add(self, node: Node) -> None:
        values = [self.values[name] for name in node.inputs]
        if not np.array_equal(values[0].rows, values[1].rows) or values[0].width != values[1].width:
            values = [self._moved(value, node, i) for i, value in enumerate(values)]
        names = tuple(value.name for value in values)
        self._emit(node.name, "add", names, (*node.shape[:2], values[0].width), {"channels_first": True}, {})
        self._keep(node, node.name, values[0].rows, values[0].width, all(value.alone for value in values))

    def _moved(self, value: _Value, node: Node, number: int, place: _Place | None = None) -> _Value:
        """A value copied to rows in the order of its channels, from an offset in a wider store."""
        place = place or _Place(0, len(value.rows))
        kernel = np.zeros((value.width, place.width), "float32")
        written = np.flatnonzero(value.rows >= 0)
        kernel[value.rows[written], place.offset + written] = 1
        name = self._pointwise(f"{node.name}_copy{number}", value.name, node.shape, kernel)
        return _Value(name, place.offset + np.arange(len(value.rows)), place.width)

    def _convolution(self, node: Node) -> None:
        if _is_stem(node):
            self.nodes.append(node)
            self._keep(node, node.name, np.arange(node.channels), node.channels)
        elif node["kernel"].shape[:2] == (1, 1):
            self._pointwise_convolution(node)
        else:
            self._window_convolution(node)

    def _pointwise_convolution(self, node: Node) -> None:
        value, place = self.values[node.inputs[0]], self._place(node, node.channels)
        order = np.arange(node.channels)
        if place.width == node.channels:
            order = _pairs_apart(node.channels, node["groups"])
        rows = np.empty_like(order)
        rows[order] = np.arange(len(order))
        columns = place.offset + rows
        kernel = np.zeros((value.width, place.width), "float32")
        for filters, inputs, weights in _groups_of(node):
            # an index may bring the same row to a group twice: their weights add up
            np.add.at(kernel, (value.rows[inputs][:, None], columns[filters][None]), weights[0, 0])
        bias = np.zeros(place.width, "float32")
        bias[columns] = node.get("bias", 0.0)
        self._pointwise(node.name, value.name, node.shape, kernel, bias, node["relu"])
        self._keep(node, node.name, columns, place.width)

    def _window_convolution(self, node: Node) -> None:
        """A grouped 3x3 convolution: the shorter of two ways, both depthwise and then summed."""
        value = self.values[node.inputs[0]]
        inputs, groups, filters = value.rows.size, node["groups"], node.channels
        pairs, taps = inputs * filters // groups, 9 * filters
        if np.unique(value.rows).size < inputs:  # an index repeats a row, and each of its readers needs its own
            value = self._moved(value, node, 0)
        source, owners = (self._from_pairs if pairs <= taps else self._from_taps)(node, value)
        # owners[row] is the filter that a depthwise row belongs to, -1 for none
        place = self._place(node, filters)
        kernel = np.zeros((len(owners), place.width), "float32")
        used = np.flatnonzero(owners >= 0)
        kernel[used, place.offset + owners[used]] = 1
        bias = np.zeros(place.width, "float32")
        bias[place.offset + np.arange(filters)] = node.get("bias", 0.0)
        self._pointwise(node.name, source, node.shape, kernel, bias, node["relu"])
        self._keep(node, node.name, place.offset + np.arange(filters), place.width)

    def _from_pairs(self, node: Node, value: _Value) -> tuple[str, np.ndarray]:
        """A depthwise row for each pair of an input and a filter that reads it."""
        per_group = node.channels // node["groups"]
        source = value.name
        owners = np.full(per_group * value.width, -1)
        window = np.zeros((3, 3, per_group * value.width), "float32")
        for filters, inputs, weights in _groups_of(node):
            for copy, filter_ in enumerate(filters):
                rows = copy * value.width + value.rows[inputs]
                owners[rows] = filter_
                window[..., rows] = weights[..., copy]
        if per_group > 1:
            copies = np.tile(np.eye(value.width, dtype="float32"), per_group)
            source = self._pointwise(f"{node.name}_copies", source, node.shape, copies)
        return self._depthwise(f"{node.name}_windows", source, node.shape, window), owners

    def _from_taps(self, node: Node, value: _Value) -> tuple[str, np.ndarray]:
        """A row for each filter and each of the nine positions: first the sum over inputs, then the shift."""
        per_group = node.channels // node["groups"]
        owners = np.repeat(np.arange(node.channels).reshape(-1, per_group), 9, axis=0).ravel()
        kernel = np.zeros((value.width, len(owners)), "float32")
        window = np.zeros((3, 3, len(owners)), "float32")
        for group, (_, inputs, weights) in enumerate(_groups_of(node)):
            for position in range(9):
                columns = (group * 9 + position) * per_group + np.arange(per_group)
                kernel[value.rows[inputs][:, None], columns[None]] = weights[position // 3, position % 3]
                window[position // 3, position % 3, columns] = 1
        order = _pairs_apart(len(owners), node["groups"])
        source = self._pointwise(f"{node.name}_taps", value.name, node.shape, kernel[:, order])
        return self._depthwise(f"{node.name}_windows", source, node.shape, window[..., order]), owners[order]

    def _concatenate(self, node: Node) -> None:
        values, width = [self.values[name] for name in node.inputs], self._widths[node.name]
        offset, store = 0, None
        for number, (name, value) in enumerate(zip(node.inputs, values, strict=True)):
            count = self._graph[name].channels
            expected = offset + np.arange(count)
            is_in_place = value.width == width and np.array_equal(value.rows, expected) and value.alone
            if not is_in_place:
                value = self._moved(value, node, number, _Place(offset, width))
            if store is None:
                store = value.name
            else:
                last = number == len(values) - 1
                written = node.name if last else f"{node.name}_store{number}"
                shape, attributes = (*node.shape[:2], width), {"channels_first": True}
                store = self._emit(written, "add", (store, value.name), shape, attributes, {})
            offset += count
        self._keep(node, store, np.arange(node.channels), width)

    def _average_pool(self, node: Node) -> None:
        value = self.values[node.inputs[0]]
        window = np.zeros((3, 3, value.width), "float32")
        window[1:, 1:] = 0.25
        name = node.name if node.name != self._cut else f"{node.name}_rows"
        name = self._depthwise(name, value.name, node.shape, window, stride=2)
        self._keep(node, name, value.rows, value.width, value.alone)

    def _mean(self, node: Node) -> None:
        value = self.values[node.inputs[0]]
        name = self._emit(f"{node.name}_rows", "mean", (value.name,), (value.width,), {}, {})
        self._keep(node, name, value.rows, value.width, value.alone)

    # --- the end ---------------------------------------------------------------------------------------------------
    def leave(self, node: Node) -> None:
        """Give the last image its channels last again, under the node's own name."""
        value = self.values[node.name]
        if node.op == "mean":
            self._emit(node.name, "index", (value.name,), node.shape, {}, {"indices": value.rows})
            return
        height, width = node.shape[:2]
        quarter = -(-len(value.rows) // 4)
        kernel = np.zeros((value.width, 4 * quarter), "float32")
        kernel[value.rows, np.arange(len(value.rows))] = 1
        name = value.name
        if value.width != 4 * quarter or not np.array_equal(value.rows, np.arange(value.width)):
            name = self._pointwise(f"{node.name}_ordered", name, node.shape, kernel)
        # `depth_to_space` is an operator that ends a channels-first part; what it moves is moved back
        spread = (2 * height, 2 * width, quarter)
        name = self._emit(f"{node.name}_spread", "depth_to_space", (name,), spread, {"block": 2}, {})
        parts = (height, 2, width, 2, quarter)
        name = self._emit(f"{node.name}_parts", "reshape", (name,), parts, {}, {})
        gathered = (height, width, 2, 2, quarter)
        name = self._emit(f"{node.name}_order", "transpose", (name,), gathered, {"order": (0, 1, 3, 2, 4, 5)}, {})
        name = self._emit(f"{node.name}_image", "reshape", (name,), (height, width, 4 * quarter), {}, {})
        self._emit(node.name, "slice", (name,), node.shape, {"begin": (0, 0, 0), "size": node.shape}, {})


def _groups_of(node: Node):
    """For each group of a convolution: its filters, its input channels, and its (height, width, in, filters) kernel."""
    groups, kernel = node["groups"], node["kernel"]
    per_group, inputs = node.channels // groups, kernel.shape[2]
    for group in range(groups):
        filters = group * per_group + np.arange(per_group)
        yield filters, group * inputs + np.arange(inputs), kernel[..., filters]


def _pairs_apart(filters: int, groups: int) -> np.ndarray:
    """An order in which two neighbours share a group and four don't.

    Neighbouring filters that read the same inputs are computed together. XNNPACK's kernel for pairs takes a fifth fewer
    instructions than the one for fours, which it chooses wherever fours are there to be found.
    """
    per_group = filters // groups
    if groups < 2 or filters % groups or per_group % 2:
        return np.arange(filters)
    return np.arange(filters).reshape(groups, per_group // 2, 2).transpose(1, 0, 2).ravel()


def _needed_channels(inside: list[Node], cut: str) -> dict[str, np.ndarray]:
    """For each node the channels that some reader reads."""
    by_name = {node.name: node for node in inside}
    needed = {node.name: np.full(node.channels, node.name == cut) for node in inside}
    for node in reversed(inside):
        offset, mine = 0, needed[node.name]
        for name in node.inputs:
            if name not in by_name:
                continue
            channels = by_name[name].channels
            if node.op == "index":
                needed[name][node["indices"][mine]] = True
            elif node.op == "concatenate":
                needed[name] |= mine[offset : offset + channels]
                offset += channels
            elif node.op == "convolution":
                needed[name][:] = True
            else:
                needed[name] |= mine
    return needed


def _places(inside: list[Node], graph: Graph) -> tuple[dict[str, int], dict[str, _Place]]:
    """How wide the store of each concatenation is, and the place in one of each piece that nobody else reads."""
    names, readers = {node.name for node in inside}, graph.readers()
    widths: dict[str, int] = {}
    places: dict[str, _Place] = {}
    for node in reversed(inside):
        if node.op != "concatenate":
            continue
        following = [r for r in readers[node.name] if r.op == "concatenate" and r.inputs[0] == node.name]
        longer = [widths[reader.name] for reader in following if reader.name in names]
        width = max([node.channels, *longer])
        widths[node.name] = width
        offset = 0
        for name in node.inputs:
            source = graph[name]
            if offset and source.op == "convolution" and len(readers[name]) == 1:
                places[name] = _Place(offset, width)
            offset += source.channels
    return widths, places


def lower_to_sparse(graph: Graph, cut: str) -> Graph:
    """Write the network up to `cut` in operators that XNNPACK executes channels-first, skipping zeros.

    Args:
        graph: a simplified network.
        cut: one of `sparse_cuts(graph)`.

    Returns:
        The new graph, equal in its outputs; `graph` itself if too few weights are zero.
    """
    by_name = graph.by_name()
    needed, inside = {cut}, []
    for node in reversed(graph.nodes):
        if node.name in needed and node.op != "input":
            inside.append(node)
            needed.update(node.inputs)
    inside.reverse()
    lowering = _Lowering(graph, inside, cut)
    for node in inside:
        lowering.lower(node)
    lowering.leave(by_name[cut])
    kernels = [n["kernel"] for n in lowering.nodes if n.op == "convolution" and n["kernel"].shape[:2] == (1, 1)]
    zeros = sum(int(np.sum(kernel == 0)) for kernel in kernels)
    if zeros <= _ENOUGH_ZEROS * sum(kernel.size for kernel in kernels):
        return graph
    written = {node.name for node in inside}
    inputs = [node for node in graph if node.op == "input"]
    rest = [node for node in graph if node.op != "input" and node.name not in written]
    return graph.with_nodes([*inputs, *lowering.nodes, *rest])
