"""Learned groups in XNNPACK's usual layout, channels last, without moving single numbers about.

What a condensed network asks for around its convolutions costs more than they do: picking channels moves 4 bytes at a
time, and so does a shuffle; a batch norm with a ReLU is two operators or a slow one; a convolution with few filters
per group fills a part of a SIMD register. Each function here removes one of these, and changes nothing where it can't:

| function | |
|---|---|
| `move_index_before` | channels are picked first; only what is read is normalised and averaged |
| `limit_instead_of_norm` | relu(scale x + shift) becomes a maximum or minimum, the rest moves into the next kernel |
| `split_windows` | depthwise and dense convolutions, which read shuffled channels where they are |
| `block_pixels` | neighbouring pixels become filters, until a group fills a SIMD register |
| `group_reactivations` | a 1x1 convolution whose groups reach few outputs each computes these, and rows are added up |
| `keep_rows` | concatenations keep their channels as rows of an array; an index copies rows, a limit may limit them |
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from keras_condense.tflite.emission import shuffle_groups
from keras_condense.tflite.graph import Graph, Names, Node

__all__ = [
    "ARM64",
    "X86_64",
    "block_pixels",
    "group_reactivations",
    "keep_rows",
    "limit_instead_of_norm",
    "lower_channels_last",
    "move_index_before",
    "split_windows",
]

# What LiteRT 2.3 takes, in instructions on a Cortex-A76, and in the same proportions by time on an x86-64 with AVX-512:
# for each number that a transposition, a shuffle or a norm writes, for each multiply-add, and for each number and tap
# of a depthwise "window", for each number of a row that is copied or added to another's. So many "filters" of a group
# are computed together; a group whose filters are no multiple of that takes longer by "remainder". Limits are applied
# to rows of at least "limited_rows" pixels, where one number a row is faster than one a channel.
ARM64: Mapping[str, float] = {
    "transpose": 1.3,
    "shuffle": 2.7,
    "norm": 3.0,
    "multiply": 0.36,
    "window": 0.85,
    "copy": 0.57,
    "sum": 1.0,
    "filters": 8,
    "limited_rows": 196,
    "remainder": 1.5,
}
X86_64: Mapping[str, float] = {
    "transpose": 4.6,
    "shuffle": 10.0,
    "norm": 5.2,
    "multiply": 0.35,
    "window": 0.85,
    "copy": 2.5,
    "sum": 2.2,
    "filters": 16,
    "limited_rows": 784,
    "remainder": 1.5,
}

# A limit adds `shift` to the next bias and takes it away again, which costs digits if the shift is large.
_LARGEST_SHIFT = 16.0
# operators that treat each channel by itself
_CHANNEL_BY_CHANNEL = ("affine", "relu", "hard_swish", "mean")
_PIXEL_BLOCKS = ((1, 1), (1, 2), (2, 1), (2, 2), (1, 4), (2, 4), (4, 2))


def _is_image(node: Node) -> bool:
    return len(node.shape) == 3


def _picks(node: Node, source: Node) -> bool:
    """Whether a node picks channels of an image; a shuffle is a transposition, which is as good as it gets."""
    return node.op == "index" and _is_image(node) and shuffle_groups(node["indices"], source.channels) is None


# --- norm and index ------------------------------------------------------------------------------------------------
def move_index_before(graph: Graph, costs: Mapping[str, float] = ARM64) -> Graph:
    """Pick channels before they are normalised or averaged, if nobody else reads the others."""
    nodes = graph.by_name()
    for name in reversed(list(nodes)):  # an index that moved is met again in its new place
        node = nodes[name]
        source = nodes[node.inputs[0]] if node.op == "index" else None
        if (
            source is None
            or source.op not in ("affine", "relu", "hard_swish", "mean")
            or graph.only_reader(source.name) is None
        ):
            continue
        # normalising before means an image from the rows of a store and rows from the image
        before = source.channels * (costs["norm"] + 2 * costs["transpose"])
        if source.op != "mean" and node.channels * costs["norm"] > before:
            continue
        indices, shape = node["indices"], (*nodes[source.inputs[0]].shape[:-1], node.channels)
        # the names change places, so that whoever reads the index reads the norm
        index = Node(source.name, "index", source.inputs, shape, {}, {"indices": indices})
        weights = {key: value[indices] for key, value in source.weights.items()}
        moved = dataclasses.replace(source, name=node.name, inputs=(source.name,), shape=node.shape, weights=weights)
        nodes[index.name], nodes[moved.name] = index, moved
        graph = graph.with_nodes(nodes.values())
    return graph


def _reached(graph: Graph, node: Node) -> Node | None:
    """The convolution or dense layer that alone reads a norm, directly or through a mean."""
    reader = graph.only_reader(node.name)
    if reader is not None and reader.op == "mean":
        reader = graph.only_reader(reader.name)
        return reader if reader is not None and reader.op == "dense" else None
    if reader is None or reader.op != "convolution" or reader["padding"] != ((0, 0), (0, 0)):
        return None
    return reader


def limit_instead_of_norm(graph: Graph) -> Graph:
    """Write relu(scale x + shift) before a convolution without padding as a limit to x.

    It is `scale * max(x, -shift / scale) + shift`, with a minimum where the scale is negative. Scale and shift move
    into the kernel and bias of the next convolution.
    """
    nodes, renamed, names = {}, {}, Names(graph)
    rewritten: dict[str, Node] = {}
    for node in graph:
        node = rewritten.get(node.name, node)
        reader = _reached(graph, node) if node.op == "affine" and node["relu"] else None
        scale, shift = (node[key].astype("float64") for key in ("scale", "shift")) if reader else (None, None)
        if reader is None or np.abs(shift).max(initial=0) > _LARGEST_SHIFT:
            nodes[node.name] = node
            continue
        reader, used = rewritten.get(reader.name, reader), scale != 0
        limits = np.divide(-shift, scale, out=np.zeros_like(scale), where=used)
        if np.abs(limits).max(initial=0) > 1e30:
            nodes[node.name] = node
            continue
        rewritten[reader.name] = _scaled_inputs(reader, scale, np.where(used, shift, np.maximum(shift, 0)))
        limits, source = limits.astype("float32"), node.inputs[0]
        for op, mine, other in (("maximum", scale >= 0, -np.inf), ("minimum", scale < 0, np.inf)):
            if mine.any():
                name = names.new(f"{node.name}_{op}")
                limit = np.where(mine, limits, np.float32(other))
                nodes[name] = Node(name, op, (source,), node.shape, {}, {"limit": limit})
                source = name
        renamed[node.name] = source
    return graph.with_nodes(nodes.values(), renamed)


def _scaled_inputs(node: Node, scale: np.ndarray, shift: np.ndarray) -> Node:
    """A convolution or dense layer of `scale * input + shift`, written as one of the input."""
    kernel = node["kernel"].astype("float64")
    if node.op == "dense":
        kernel, bias = kernel * scale[:, None], shift @ kernel
    else:
        filters = node.channels // node["groups"]
        owners = np.arange(node.channels) // filters  # the group of each filter
        by_group = [values.reshape(node["groups"], -1)[owners].T for values in (scale, shift)]
        kernel, bias = kernel * by_group[0], np.sum(kernel * by_group[1], axis=(0, 1, 2))
    bias = bias + node.get("bias", 0.0)
    return node.replace(weights={"kernel": kernel.astype("float32"), "bias": bias.astype("float32")})


# --- few filters per group -----------------------------------------------------------------------------------------
def _blocked_cost(node: Node, block: tuple[int, int], merged: int, costs: Mapping[str, float]) -> float:
    """Instructions of a convolution whose filters also compute a block of pixels and `merged` groups as one."""
    height, width, channels = node.shape
    window = node["kernel"].shape
    groups, pixels = node["groups"] // merged, block[0] * block[1]
    filters = channels // groups * pixels
    padded = -(-filters // costs["filters"]) * costs["filters"]
    padded *= costs["remainder"] if filters % costs["filters"] else 1
    taps = (window[0] + block[0] - 1) * (window[1] + block[1] - 1) * window[2] * merged
    moved = costs["transpose"] * height * width * channels if pixels > 1 else 0
    return height * width / pixels * groups * padded * taps * costs["multiply"] + moved


def _weights(node: Node, block: tuple[int, int], merged: int) -> int:
    """How many weights a convolution has whose filters also compute a block of pixels and `merged` groups as one."""
    height, width, inputs, filters = node["kernel"].shape
    (rows, columns), pixels = block, block[0] * block[1]
    return (height + rows - 1) * (width + columns - 1) * inputs * merged * filters * pixels


def _choices(node: Node, few_weights: int = 0) -> list[tuple[tuple[int, int], int]]:
    """The blocks of pixels, and the numbers of groups to merge, that a grouped convolution can have."""
    # pixels of a 1x1 convolution share no input: blocks gain nothing there
    blocks = _PIXEL_BLOCKS if node["kernel"].shape[:2] != (1, 1) else _PIXEL_BLOCKS[:1]
    blocks = [b for b in blocks if node.shape[0] % b[0] == 0 and node.shape[1] % b[1] == 0]
    choices = [(b, m) for b in blocks for m in range(1, node["groups"] + 1) if node["groups"] % m == 0]
    is_small = node["kernel"].size < few_weights
    return [choice for choice in choices if not is_small or _weights(node, *choice) < few_weights]


def _is_plain(node: Node) -> bool:
    plain = node.op == "convolution" and node["strides"] == (1, 1) and node["dilation"] == (1, 1)
    return plain and node["groups"] > 1


def split_windows(graph: Graph, costs: Mapping[str, float] = ARM64) -> Graph:
    """Write grouped convolutions with few filters a group as depthwise ones, and 1x1 ones that sum.

    There is one of each for the first filter of all groups, one for the second, and so on. They may read their channels
    in any order, so a shuffle before them is not executed.
    """
    by_name, nodes, names = graph.by_name(), [], Names(graph)
    for node in graph:
        window = node["kernel"].shape[:2] if node.op == "convolution" else (1, 1)
        if not _is_plain(node) or window == (1, 1):
            nodes.append(node)
            continue
        source, groups, filters = by_name[node.inputs[0]], node["groups"], node.channels
        order = np.arange(source.channels)
        moved = 0.0
        if source.op == "index" and np.array_equal(np.sort(source["indices"]), order) and source.channels == len(order):
            before = by_name[source.inputs[0]]
            if before.channels == len(order) and graph.only_reader(source.name) is not None:
                order, source = source["indices"], before
                moved = costs["shuffle"] * node.shape[0] * node.shape[1] * len(order)
        pairs = len(order) * filters // groups
        computed = -(-filters // costs["filters"]) * costs["filters"]
        per_pixel = pairs * (window[0] * window[1] * costs["window"] + computed * costs["multiply"])
        others = min(_blocked_cost(node, *choice, costs) for choice in _choices(node))
        if node.shape[0] * node.shape[1] * per_pixel < others + moved:
            nodes += _split(node, source.name, order, names)
        else:
            nodes.append(node)
    return graph.with_nodes(nodes)


def _split(node: Node, source: str, order: np.ndarray, names: Names) -> list[Node]:
    """For the first, second ... filter of all groups, a depthwise convolution and a 1x1 one that sums; and their sum.

    Input j of the grouped convolution is channel `order[j]` of `source`.
    """
    kernel, groups, filters = node["kernel"], node["groups"], node.channels
    height, width, inputs, _ = kernel.shape
    per_group, channels = filters // groups, inputs * groups
    nodes, sums = [], []
    for number in range(per_group):
        windows = np.zeros((height, width, channels), "float32")
        summing = np.zeros((channels, filters), "float32")
        for group in range(groups):
            mine, read = group * per_group + number, order[group * inputs : (group + 1) * inputs]
            windows[:, :, read] = kernel[..., mine]
            summing[read, mine] = 1
        windowed, summed = (names.new(f"{node.name}_{part}{number}") for part in ("windows", "sums"))
        attributes = {"strides": (1, 1), "padding": node["padding"], "relu": False}
        shape = (*node.shape[:2], channels)
        nodes.append(Node(windowed, "depthwise", (source,), shape, attributes, {"kernel": windows}))
        attributes = {**node.attributes, "padding": ((0, 0), (0, 0)), "groups": 1}
        weights = {**node.weights, "kernel": summing[None, None]}
        if per_group > 1:  # a bias and a ReLU belong to the sum
            attributes["relu"] = False
            if number > 0:
                weights.pop("bias", None)
        nodes.append(Node(summed, "convolution", (windowed,), node.shape, attributes, weights))
        sums.append(summed)
    if per_group == 1:
        return [*nodes[:-1], dataclasses.replace(nodes[-1], name=node.name)]
    return [*nodes, Node(node.name, "add", tuple(sums), node.shape, {"relu": node["relu"]})]


def block_pixels(graph: Graph, costs: Mapping[str, float] = ARM64, *, few_weights: int = 0) -> Graph:
    """Compute neighbouring pixels, or neighbouring groups, as further filters of a group, until it fills a register.

    A 3x3 convolution with 4 filters per group, for instance, becomes a 3x4 convolution of stride (1, 2) with 8: a
    quarter of its weights are zero, where merging two groups makes half of them zero. A convolution of fewer
    weights than `few_weights` keeps fewer.
    """
    nodes, names = [], Names(graph)
    for node in graph:
        if not _is_plain(node):
            nodes.append(node)
            continue
        block, merged = min(_choices(node, few_weights), key=lambda choice: _blocked_cost(node, *choice, costs))
        if (block, merged) == ((1, 1), 1):
            nodes.append(node)
        elif block == (1, 1):
            nodes.append(_merged_groups(node, merged))
        else:
            blocked = _blocked_pixels(_merged_groups(node, merged), block, names.new(f"{node.name}_blocks"))
            nodes += [blocked, Node(node.name, "unblock", (blocked.name,), node.shape, {"block": block}, {})]
    return graph.with_nodes(nodes)


def _merged_groups(node: Node, merged: int) -> Node:
    """The same convolution with `merged` groups as one, zero where they were apart."""
    kernel, filters = node["kernel"], node.channels // node["groups"]
    height, width, inputs, _ = kernel.shape
    wide = np.zeros((height, width, merged, inputs, node.channels), "float32")
    for filter_ in range(node.channels):
        wide[:, :, filter_ // filters % merged, :, filter_] = kernel[..., filter_]
    wide = wide.reshape(height, width, merged * inputs, node.channels)
    return node.replace(attributes={"groups": node["groups"] // merged}, weights={"kernel": wide})


def _blocked_pixels(node: Node, block: tuple[int, int], name: str) -> Node:
    """A strided convolution that makes each block of pixels at once; the block is the fastest part of its channels."""
    rows, columns = block
    height, width, inputs, filters = node["kernel"].shape
    kernel = np.zeros((height + rows - 1, width + columns - 1, inputs, filters, rows, columns), "float32")
    for row in range(rows):
        for column in range(columns):
            kernel[row : row + height, column : column + width, :, :, row, column] = node["kernel"]
    weights = {"kernel": kernel.reshape(*kernel.shape[:3], -1)}
    if node.get("bias") is not None:
        weights["bias"] = np.repeat(node["bias"], rows * columns)
    shape = (node.shape[0] // rows, node.shape[1] // columns, filters * rows * columns)
    changed = node.replace(attributes={"strides": block}, weights=weights)
    return dataclasses.replace(changed, name=name, shape=shape)


# --- reactivations -------------------------------------------------------------------------------------------------
def group_reactivations(graph: Graph, costs: Mapping[str, float] = ARM64) -> Graph:
    """Write what is added to a store of rows as a group convolution and a sum of rows, where that is cheaper.

    A condensed reactivation reaches each output from some of its groups of inputs, and is zero for the others. Groups
    that are computed by themselves give their outputs in rows of their own; the rows that belong to one output are
    then added up. Some groups are better computed as one, with zeros, since then fewer rows meet in an output.
    """
    stores, nodes, names = _stores(graph), [], Names(graph)
    for node in graph:
        reader = graph.only_reader(node.name)
        linear = node.op == "convolution" and not node["relu"] and node.get("bias") is None
        if not linear or reader is None or reader.op != "add" or reader.name not in stores or node["groups"] > 1:
            nodes.append(node)
            continue
        choices = [(_dense_cost(node, costs), [node])]
        if node["kernel"].shape[:2] == (1, 1):
            groups = _input_groups(node["kernel"][0, 0])
            merges = [m for m in range(1, len(groups)) if len(groups) % m == 0]
            choices += [_grouped(node, _joined(groups, merged), costs, names) for merged in merges]
        nodes += min(choices, key=lambda choice: choice[0])[1]
    return graph.with_nodes(nodes)


def _input_groups(matrix: np.ndarray) -> list[np.ndarray]:
    """Inputs that reach the same outputs; one group of all if the groups are of different sizes."""
    members: dict[bytes, list[int]] = {}
    for number, row in enumerate(matrix != 0):
        members.setdefault(row.tobytes(), []).append(number)
    groups = [np.array(group) for group in members.values()]
    return groups if len({len(group) for group in groups}) == 1 else [np.arange(len(matrix))]


def _joined(groups: list[np.ndarray], merged: int) -> list[np.ndarray]:
    return [np.concatenate(groups[first : first + merged]) for first in range(0, len(groups), merged)]


def _dense_cost(node: Node, costs: Mapping[str, float]) -> float:
    per_output = node["kernel"].shape[2] * costs["multiply"] + costs["transpose"]
    return node.shape[0] * node.shape[1] * node.channels * per_output


def _grouped(
    node: Node, groups: list[np.ndarray], costs: Mapping[str, float], names: Names
) -> tuple[float, list[Node]]:
    """A reactivation computed in groups of inputs: its cost, and its nodes."""
    matrix, (height, width, channels) = node["kernel"][0, 0], node.shape
    reached = [np.flatnonzero((matrix[group] != 0).any(axis=0)) for group in groups]
    widest = max(map(len, reached))
    filters = widest + (min(map(len, reached)) == widest)  # one at least stays zero
    kernel = np.zeros((1, 1, len(groups[0]), len(groups) * filters), "float32")
    sources: list[list[int]] = [[] for _ in range(channels)]
    empty = 0
    for number, (group, outputs) in enumerate(zip(groups, reached, strict=True)):
        first = number * filters
        kernel[0, 0, :, first : first + len(outputs)] = matrix[np.ix_(group, outputs)]
        for position, output in enumerate(outputs):
            sources[output].append(first + position)
        empty = first + len(outputs) if len(outputs) < filters else empty
    rounds = max(map(len, sources))
    picks = np.array([source + [empty] * (rounds - len(source)) for source in sources]).T
    order = np.concatenate(groups)
    ordered, outputs = names.new(f"{node.name}_order"), names.new(f"{node.name}_groups")
    attributes = {"groups": len(groups)}
    grouped = node.replace(attributes=attributes, weights={"kernel": kernel})
    shape = (height, width, kernel.shape[3])
    nodes = [
        Node(ordered, "index", node.inputs, (height, width, len(order)), {}, {"indices": order}),
        dataclasses.replace(grouped, name=outputs, inputs=(ordered,), shape=shape),
        Node(node.name, "sum_of_rows", (outputs,), node.shape, {}, {"picks": picks}),
    ]
    padded = -(-filters // costs["filters"]) * costs["filters"] * len(groups)
    cost = padded * (len(groups[0]) * costs["multiply"]) + shape[2] * costs["transpose"]
    cost += len(order) * costs["shuffle"] + rounds * channels * (costs["copy"] + costs["sum"])
    return height * width * cost, nodes


# --- layouts -------------------------------------------------------------------------------------------------------
class _Layouts:
    """Writes nodes; an image is there as an image (height, width, channels), as rows (channels, height, width) or both.

    What only moves data is written when it is asked for, in the layout in which it is asked for.
    """

    def __init__(self, graph: Graph, limited_rows: float):
        self.nodes: list[Node] = []
        self._graph, self._names = graph.by_name(), Names(graph)
        self._lazy = _stores(graph) | {node.name for node in graph if node.op in ("unblock", "sum_of_rows")}
        picks = {n.name for n in graph if n.op == "index" and _picks(n, self._graph[n.inputs[0]])}
        self._lazy |= picks | _limited(graph, picks, limited_rows)
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
        if node.op == "unblock":
            self._unblock(node, name)
        else:
            self._emit(name, "transpose", (self.rows(name),), node.shape, {"order": (0, 2, 3, 1)})
        self._images.add(name)

    def rows(self, name: str) -> str:
        """The node that holds `name` as rows."""
        if name not in self._rows:
            node, written = self._graph[name], self._names.new(f"{name}_rows")
            shape = (node.shape[2], *node.shape[:2])
            lazy = node.op if name in self._lazy else None
            if lazy == "unblock":
                self._unblock_rows(node, written)
            elif lazy == "index":
                source, weights = self.rows(node.inputs[0]), {"indices": node["indices"]}
                self._emit(written, "gather", (source,), shape, {"axis": 1}, weights)
            elif lazy in ("maximum", "minimum"):
                limit = {"limit": node["limit"][:, None, None]}
                self._emit(written, lazy, (self.rows(node.inputs[0]),), shape, {}, limit)
            elif lazy == "concatenate":
                self._emit(written, "join", tuple(map(self.rows, node.inputs)), shape, {"axis": 1})
            elif lazy == "add":
                self._emit(written, "add", tuple(map(self.rows, node.inputs)), shape, {"relu": node.get("relu", False)})
            elif lazy == "sum_of_rows":
                self._sum_of_rows(node, written, shape)
            else:
                self.image(name)
                self._emit(written, "transpose", (name,), shape, {"order": (0, 3, 1, 2)})
            self._rows[name] = written
        return self._rows[name]

    def _sum_of_rows(self, node: Node, name: str, shape: tuple[int, ...]) -> None:
        """The rows that each round of picks names, added up."""
        source, picked = self.rows(node.inputs[0]), []
        for number, indices in enumerate(node["picks"]):
            last = len(node["picks"]) == 1
            picked.append(name if last else self._names.new(f"{name}_{number}"))
            self._emit(picked[-1], "gather", (source,), shape, {"axis": 1}, {"indices": indices})
        if len(picked) > 1:
            self._emit(name, "add", tuple(picked), shape, {})

    def _unblock(self, node: Node, name: str) -> None:
        """Blocks of pixels as an image."""
        self.image(node.inputs[0])
        split, ordered, parts = self._names.new(f"{name}_parts"), self._names.new(f"{name}_order"), _parts(node)
        self._emit(split, "reshape", node.inputs, parts, {})
        shape = (parts[0], parts[3], parts[1], parts[4], parts[2])
        self._emit(ordered, "transpose", (split,), shape, {"order": (0, 1, 4, 2, 5, 3)})
        self._emit(name, "reshape", (ordered,), node.shape, {})

    def _unblock_rows(self, node: Node, name: str) -> None:
        """Blocks of pixels as rows.

        In two transpositions that both end in another axis than they began with, since XNNPACK moves whatever keeps
        its last axis slowly, run by run.
        """
        blocks = self.rows(node.inputs[0])
        height, width, channels, rows, columns = _parts(node)
        split, ordered = self._names.new(f"{name}_parts"), self._names.new(f"{name}_order")
        self._emit(split, "reshape", (blocks,), (channels, rows, columns, height, width), {})
        shape = (channels, height, rows, width, columns)
        self._emit(ordered, "transpose", (split,), shape, {"order": (0, 1, 4, 2, 5, 3)})
        self._emit(name, "reshape", (ordered,), (channels, *node.shape[:2]), {})

    def _emit(self, name, op, inputs, shape, attributes, weights=None) -> None:
        self.nodes.append(Node(name, op, inputs, tuple(shape), attributes, weights or {}))


def _parts(node: Node) -> tuple[int, ...]:
    """Blocks down and across, channels, and the rows and columns of a block."""
    (height, width, channels), (rows, columns) = node.shape, node["block"]
    return height // rows, width // columns, channels, rows, columns


def _stores(graph: Graph) -> set[str]:
    """Concatenations, and sums between them, that are worth keeping as rows: an index reads one of their chain."""
    by_name = graph.by_name()
    chained: dict[str, set[str]] = {
        node.name: set() for node in graph if node.op in ("concatenate", "add") and _is_image(node)
    }
    for node in graph:
        for name in node.inputs if node.name in chained else ():
            if name in chained:
                chained[node.name].add(name)
                chained[name].add(node.name)
    picked = {node.inputs[0] for node in graph if node.op == "index" and _picks(node, by_name[node.inputs[0]])}
    stores: set[str] = set()
    for name in chained:
        if name in picked and name not in stores:
            chain, following = set(), [name]
            while following:
                member = following.pop()
                if member not in chain:
                    chain.add(member)
                    following += chained[member]
            # sums alone, as in a residual network, are read as images by others
            if any(by_name[member].op == "concatenate" for member in chain):
                stores |= chain
    return stores


def _limited(graph: Graph, rows: set[str], smallest: float) -> set[str]:
    """Limits to picked rows of at least so many pixels: with one limit a row they are faster than to images."""
    limited: set[str] = set()
    for node in graph:
        picked = node.op in ("maximum", "minimum") and node.inputs[0] in rows | limited
        if picked and node.shape[0] * node.shape[1] >= smallest:
            limited.add(node.name)
    return limited


def keep_rows(graph: Graph, costs: Mapping[str, float] = ARM64) -> Graph:
    """Keep what an index reads as rows, one for each channel, and join, copy and limit whole rows."""
    layouts = _Layouts(graph, costs["limited_rows"])
    for node in graph:
        layouts.write(node)
    for name in graph.outputs.values():
        layouts.image(name)
    return graph.with_nodes(layouts.nodes)


def lower_channels_last(
    graph: Graph, costs: Mapping[str, float] = ARM64, *, limits: bool = True, few_weights: int = 0
) -> Graph:
    """Write what learned groups need in operators that XNNPACK executes well with channels last.

    Args:
        graph: a simplified network; parts of it may be lowered already.
        costs: of the target, such as `ARM64`.
        limits: whether norms may become limits.
        few_weights: convolutions of fewer weights than this keep fewer, and no convolution is split.

    Returns:
        The new graph, equal in its outputs.
    """
    graph = move_index_before(graph, costs)
    graph = limit_instead_of_norm(graph) if limits else graph
    graph = group_reactivations(graph, costs)
    graph = graph if few_weights else split_windows(graph, costs)
    return keep_rows(block_pixels(graph, costs, few_weights=few_weights), costs)
