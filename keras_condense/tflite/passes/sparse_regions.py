"""Which parts of a network XNNPACK can execute channels-first, and where they may begin and end."""

import dataclasses
import itertools

from keras_condense.tflite.graph import Graph, Node
from keras_condense.tflite.operators import (
    NO_PADDING,
    PAD_ONE,
    Add,
    Affine,
    AveragePool,
    ConcatenateChannels,
    Convolution,
    Depthwise,
    HardSwish,
    Mean,
    Multiply,
    PickChannels,
    Relu,
    Reshape,
    Sigmoid,
    Swish,
)

__all__ = ["SMALLEST_ENTRANCE", "UNARY", "Region", "is_stem", "is_turned", "regions"]

UNARY = (Relu, HardSwish, Sigmoid, Swish)

_BOTH_WAYS = frozenset((False, True))
# convolutions that skip zeros, for which it may pay to enter in the middle of a network and to leave again
_FEWEST = 2
# channels that one convolution at the entrance takes in
SMALLEST_ENTRANCE = 12


@dataclasses.dataclass(frozen=True)
class Region:
    """A part of a network.

    Attributes:
        start: the one node outside that it reads.
        nodes: those inside, in order.
        ends: nodes inside, from the first to the last, that all of those before them lead to alone.
    """

    start: str
    nodes: tuple[Node, ...]
    ends: tuple[str, ...]

    def until(self, end: str) -> list[Node]:
        """The nodes that `end` needs."""
        needed, inside = {end}, []
        for node in reversed(self.nodes):
            if node.name in needed:
                inside.append(node)
                needed.update(node.inputs)
        return inside[::-1]


def is_stem(node: Node) -> bool:
    """Whether a convolution can begin a channels-first part: 3x3, stride 2, three input channels."""
    op = node.op
    return (
        isinstance(op, Convolution)
        and op.kernel.shape[:3] == (3, 3, 3)
        and op.strides == (2, 2)
        and op.dilation == (1, 1)
        and op.groups == 1
        and not op.sparse
    )


def _ways(node: Node, source: Node) -> frozenset[bool]:
    """Whether windows lie where XNNPACK lays them: in the image as it is (False), turned by 180 degrees (True).

    Channels-first, there are as many zeros above as below: at stride 2 the first window begins half a window outside.
    TensorFlow's "same" has the first zeros at the bottom, where a turned image begins.
    """
    op, ways = node.op, set(_BOTH_WAYS)
    for axis in (0, 1):
        size, out, window, stride = source.shape[axis], node.shape[axis], op.window[axis], op.strides[axis]
        before = op.padding[axis][0]
        after = (out - 1) * stride + window - size - before  # zeros that the last window reaches; less than 0 for none
        half = window // 2
        if (size - 1) // stride + 1 != out:
            return frozenset()
        ways &= {way for way, zeros in ((False, before), (True, after)) if zeros == half}
    return frozenset(ways)


def is_turned(nodes: list[Node], graph: Graph) -> bool:
    """Whether a part of the network needs its images turned by 180 degrees."""
    ways, by_name = _BOTH_WAYS, graph.by_name()
    for node in nodes:
        if isinstance(node.op, (Depthwise, Convolution)):
            ways &= _ways(node, by_name[node.inputs[0]])
    return False not in ways


def _is_supported(node: Node, sources: list[Node]) -> bool:
    op = node.op
    same = all(source.shape == node.shape for source in sources)
    if getattr(op, "sparse", False):  # of a part that is written already
        return False
    match op:
        case Relu(ceiling):
            return node.is_image and ceiling in (None, 6)
        case HardSwish() | Sigmoid() | Swish() | PickChannels() | ConcatenateChannels() | Affine():
            return node.is_image
        case Mean():
            return True
        case Add():
            return node.is_image and same
        case Multiply():
            return node.is_image
        case AveragePool(size):
            height, width = sources[0].shape[:2]
            return size == (2, 2) and height % 2 == 0 and width % 2 == 0
        case Depthwise():
            return op.window in ((3, 3), (5, 5)) and op.strides in ((1, 1), (2, 2)) and op.dilation == (1, 1)
        case Convolution() if op.strides == op.dilation == (1, 1):
            if op.window == (3, 3):  # of one group, what is read for each filter would be too much
                return op.padding == PAD_ONE and op.groups > 1
            return op.window == (1, 1) and op.padding == NO_PADDING
    return False


def regions(graph: Graph) -> list[Region]:
    """The parts of a network that can be channels-first, those that skip no zeros left out.

    Args:
        graph: a simplified network.

    Returns:
        Parts that have no node in common, in order; each begins as early and reaches as far as it can.
    """
    found, taken = [], set()
    readers = graph.readers()
    for start in graph:
        if not start.is_image or start.name in taken:
            continue
        stem = next((node for node in readers[start.name] if is_stem(node)), None)
        if stem is None and start.channels < SMALLEST_ENTRANCE:
            continue
        region = _grown(graph, start, stem, readers)
        if region is not None:
            found.append(region)
            taken.update(node.name for node in region.until(region.ends[-1])[:-1])
            taken.add(start.name)
    return found


def _grown(graph: Graph, start: Node, stem: Node | None, readers: dict[str, list[Node]]) -> Region | None:
    """The part that begins behind `start`, or None."""
    by_name, outputs = graph.by_name(), set(graph.outputs.values())
    inside, nodes, ends, ways = {start.name}, [], [], _BOTH_WAYS
    waiting: dict[str, int] = {}  # nodes inside with readers that are not yet
    refused: set[str] = set()
    skipping = 0
    for node in graph:
        reads = [name for name in node.inputs if name in inside]
        if not reads:
            continue
        sources = [by_name[name] for name in node.inputs]
        fits = len(reads) == len(node.inputs)
        if stem is not None and start.name in reads:
            fits = fits and node is stem
        else:
            fits = fits and _is_supported(node, sources)
        if fits and isinstance(node.op, (Convolution, Depthwise)):
            fits = bool(ways & _ways(node, sources[0]))
        if not fits:
            refused.update(set(reads) - {start.name})
            if refused:
                break  # whatever comes later, some of it is read from outside
            continue
        if isinstance(node.op, (Convolution, Depthwise)):
            ways &= _ways(node, sources[0])
        inside.add(node.name)
        nodes.append(node)
        skipping += _skips_zeros(node)
        for name in set(reads) - {start.name}:
            waiting[name] -= 1
            if not waiting[name]:
                del waiting[name]
        is_closed = not waiting and node is not stem
        count = len(readers[node.name])
        if count or node.name in outputs:
            waiting[node.name] = count + (node.name in outputs)
        if is_closed and skipping >= (_FEWEST if stem is None else 1) and _can_end(node, readers):
            ends.append(node)
    kept = _worth_trying(ends)
    return Region(start.name, tuple(nodes), tuple(node.name for node in kept)) if kept else None


def _can_end(node: Node, readers: dict[str, list[Node]]) -> bool:
    """Whether XNNPACK goes back to channels last behind a node: of a pixel, where nothing could be channels-first."""
    if not isinstance(node.op, Mean):
        return node.is_image and node.shape[:2] != (1, 1)
    if not node.op.keepdims:
        return not any(isinstance(reader.op, Reshape) for reader in readers[node.name])
    dense = (op for op in (reader.op for reader in readers[node.name]) if not isinstance(op, PickChannels))
    return all(isinstance(op, Convolution) and op.is_pointwise and op.groups == 1 for op in dense)


def _skips_zeros(node: Node) -> bool:
    """Whether a 1x1 convolution has mostly zeros to skip."""
    op = node.op
    if not isinstance(op, Convolution) or not op.is_pointwise:
        return False
    return op.groups > 1 or bool((op.kernel == 0).mean() > 0.5)


def _worth_trying(ends: list[Node]) -> list[Node]:
    """Those after which images become smaller, and the last: a pooling itself, else what comes before."""
    kept = []
    for node, following in itertools.zip_longest(ends, ends[1:]):
        smaller = following is not None and following.shape[:-1] != node.shape[:-1]
        pools = isinstance(node.op, (AveragePool, Mean))
        if pools or following is None or (smaller and not isinstance(following.op, (AveragePool, Mean))):
            kept.append(node)
    return kept
