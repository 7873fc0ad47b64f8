"""The single operators that `operator_costs.py` measures, of the sizes that the networks have."""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from keras_condense.tflite import operators as ops
from keras_condense.tflite.graph import Graph, Node

RANDOM = np.random.default_rng(0)


@dataclasses.dataclass(frozen=True)
class Case:
    """An operator of one size; in a chain, `output` may depend on its place."""

    op: ops.Operator
    shape: tuple[int, ...]
    output: tuple[int, ...] | Callable[[int], tuple[int, ...]]
    reads: int = 1  # how often it reads the one before it
    reads_image: bool = False

    @property
    def is_sparse(self) -> bool:
        """Whether its weights are stored without their zeros."""
        return getattr(self.op, "sparse", False)

    @property
    def is_stem(self) -> bool:
        """Whether a channels-first part begins with it."""
        return self.is_sparse and getattr(self.op, "strides", None) == (2, 2) and self.shape[2] == 3


def normal(*shape):
    return RANDOM.normal(size=shape).astype("float32")


def convolution(size, channels, filters, groups=1, window=(1, 1)):
    kernel = normal(*window, channels // groups, filters)
    padding = tuple(ops.explicit_padding(size, side, 1, 1, "same") for side in window)
    op = ops.Convolution(kernel, normal(filters), relu=True, padding=padding, groups=groups)
    return Case(op, (size, size, channels), (size, size, filters))


def sparse(size, channels, share, together=2):
    """A 1x1 convolution that keeps `share` of its weights, in pairs of filters or one by one."""
    case = convolution(size, channels, channels)
    kept = np.repeat(RANDOM.random((channels, channels // together)) < share, together, axis=1)
    return dataclasses.replace(case, op=dataclasses.replace(case.op, kernel=case.op.kernel * kept, sparse=True))


def stem(size, filters):
    """What begins a channels-first part of so many pixels."""
    op = ops.Convolution(normal(3, 3, 3, filters), normal(filters), strides=(2, 2), padding=ops.PAD_ONE, sparse=True)
    return Case(op, (2 * size, 2 * size, 3), (size, size, filters))


def strided(size, channels, window):
    """A depthwise convolution of stride 2 of a channels-first part."""

    def output(number):  # each halves what the one before it gave, and a half pixel is one
        side = -(-size // 2 ** (number + 1))
        return (side, side, channels)

    case = depthwise(size, channels, window, sparse=True, relu=False, strides=(2, 2))
    return dataclasses.replace(case, output=output)


def turned(size, channels):
    return same(ops.Turn(), size, channels)


def spread(size):
    """Twelve channels as pixels of three."""
    return Case(ops.DepthToSpace(2), (size, size, 12), (2 * size, 2 * size, 3))


def depthwise(size, channels, window, **arguments):
    padding = ((window // 2, window // 2),) * 2
    arguments = {"relu": True} | arguments
    return same(ops.Depthwise(normal(window, window, channels), normal(channels), padding=padding, **arguments), size)


def same(op, size, channels=None):
    """An operator whose output has the shape of its input."""
    shape = (size, size, channels or op.kernel.shape[-1])
    return Case(op, shape, shape)


def affine(size, channels):
    return same(ops.Affine(normal(channels), normal(channels), relu=True), size, channels)


def pick_channels(size, channels):
    return same(ops.PickChannels(RANDOM.integers(0, channels, channels)), size, channels)


def shuffle(size, channels, groups=8):
    return same(ops.PickChannels(ops.shuffled(channels, groups)), size, channels)


def pick_rows(size, channels):
    shape = (channels, size * size)
    return Case(ops.PickRows(RANDOM.integers(0, channels, channels)), shape, shape)


def transpose(size, channels):
    return Case(ops.Transpose((0, 2, 1)), (size * size, channels), (channels, size * size))


def back(size, channels):
    """An image from rows."""
    return Case(ops.Transpose((0, 2, 1)), (channels, size * size), (size * size, channels))


def moved(first, second, *others):
    """What makes an image of blocks of pixels, and rows of rows of blocks."""
    shape = (first, others[1], second, others[2], others[0])
    return Case(ops.Transpose((0, 1, 4, 2, 5, 3)), (first, second, *others), shape)


def limit(size, channels):
    return same(ops.Maximum(normal(channels)), size, channels)


def limit_rows(size, channels):
    shape = (channels, size, size)
    return Case(ops.Maximum(normal(channels, 1, 1)), shape, shape)


def add(size, channels):
    return dataclasses.replace(same(ops.Add(), size, channels), reads_image=True)


def average_pool(size, channels):
    def output(number):  # each halves what the one before it gave
        return (size >> (number + 1), size >> (number + 1), channels)

    return Case(ops.AveragePool((2, 2)), (size, size, channels), output)


def pooled_by_windows(size, channels):
    """The same by a depthwise convolution."""
    case = average_pool(size, channels)
    return dataclasses.replace(case, op=ops.Depthwise(np.full((2, 2, channels), 0.25, "float32"), strides=(2, 2)))


def concatenation(size, channels):
    def output(number):  # each joins the one before it with itself
        return (channels << (number + 1), size, size)

    return Case(ops.ConcatenateRows(), (channels, size, size), output, reads=2)


def joined_channels(size, channels):
    def output(number):
        return (size, size, channels << (number + 1))

    return Case(ops.ConcatenateChannels(), (size, size, channels), output, reads=2)


def cases() -> Iterator[Case]:
    """Operators of the sizes that the networks have."""
    for groups in (4, 8):
        yield convolution(56, 64, 64, groups)
        yield convolution(56, 32, 64, groups)
        yield convolution(56, 64, 64, groups, window=(3, 3))
        yield shuffle(56, 64, groups)
    for size, width in ((112, 32), (56, 64), (56, 88), (28, 128), (14, 256), (7, 1024)):
        yield limit(size, width)
        yield limit_rows(size, width)
    # groups whose filters don't fill the lanes
    for size, inputs in ((28, 8), (14, 32), (7, 128)):
        for groups, filters in ((4, 4), (4, 6), (8, 12), (2, 24)):
            yield convolution(size, inputs * groups, filters * groups, groups)
    for size, width in ((32, 16), (32, 48), (32, 72), (16, 64)):
        for groups in (1, 2):
            yield convolution(size, width, 32, groups)
    for size, inputs in ((28, 8), (14, 32)):
        for groups, filters in ((8, 2), (8, 4), (4, 12), (4, 16)):
            yield convolution(size, inputs * groups, filters * groups, groups, window=(3, 3))
    # what blocks of pixels make of groups
    for size, inputs, filters in ((32, 8, 16), (16, 8, 16), (16, 16, 16), (8, 32, 32)):
        for window in ((3, 4), (4, 4), (4, 6)):
            yield convolution(size, 4 * inputs, 4 * filters, 4, window)
    for size, width in ((32, 32), (28, 24), (14, 64), (16, 32)):
        yield shuffle(size, width, 4)
        yield limit(size, width)
    # to rows and back; at 32x32 pixels the numbers of a pixel are a page apart
    for size, width in ((32, 16), (32, 32), (32, 72), (56, 48), (16, 48), (16, 128), (8, 256)):
        yield transpose(size, width)
        yield back(size, width)
    for size, width in ((32, 8), (16, 16), (28, 32), (8, 32)):
        for block in ((1, 2), (2, 2), (2, 4)):
            down, across = size // block[0], size // block[1]
            yield moved(down, across, width, *block)
            yield moved(width, block[0], block[1], down, across)
    for size, width in ((32, 16), (28, 64), (14, 128)):
        yield joined_channels(size, width)
    # sparse parts are beginnings, of large images
    for size, width in ((112, 32), (56, 64), (28, 128)):
        for share in (0.05, 0.2):
            yield sparse(size, width, share)
        for share in (0.02, 0.05, 0.2):
            yield sparse(size, width, share, together=1)
        yield Case(ops.Add(sparse=True), (size, size, width), (size, size, width), reads=2)
        yield stem(size, width)
        for window in (3, 5):
            yield depthwise(size, width, window, sparse=True, relu=False)
            yield strided(size, width, window)
        yield turned(size, width)
        yield same(ops.Sigmoid(), size, width)
        yield same(ops.Swish(), size, width)
        yield same(ops.SwishOfHalf(), size, width)
        yield spread(size)
    yield turned(224, 3)
    for size, width in ((14, 480), (7, 960)):
        for window in (3, 5):
            yield depthwise(size, width, window, sparse=True, relu=False)
        for share, together in ((0.05, 1), (0.1, 1), (0.25, 2)):
            yield sparse(size, width, share, together)
    for size, width in ((28, 128), (14, 256)):
        for groups in (1, 4, 8):
            yield convolution(size, width, width, groups)
            yield convolution(size, width, width // 4, groups, window=(3, 3))
        yield depthwise(size, width, 1)
        yield depthwise(size, width, 3)
        yield affine(size, width)
        yield add(size, width)
        yield same(ops.HardSwish(), size, width)
        yield average_pool(4 * size, width // 4)
        yield pooled_by_windows(4 * size, width // 4)
        yield concatenation(size, width)
        yield pick_channels(size, width)
        yield shuffle(size, width)
        yield pick_rows(size, width)
        yield transpose(size, width)
        yield back(size, width)
        for share in (0.02, 0.2):
            yield sparse(size, width, share)


def row_of(case: Case) -> str:
    """The row of the table that a case is measured for."""
    output = case.output(0) if callable(case.output) else case.output
    return case.op.features([case.shape] * case.reads, output, 1)[0]


def _one_more_stem(case: Case, number: int, total: str) -> list[Node]:
    """A stem of an image of its own, since XNNPACK pads one for each, and its sum with what came before."""
    image = "image" if total == "image" else f"image{number}"
    stem = Node(f"operator{number}", case.op, (image,), case.output)
    if total == "image":
        return [stem]
    both = (total, stem.name)
    return [
        Node(image, ops.Input(), (), case.shape),
        stem,
        Node(f"between{number}", ops.Add(sparse=True), both, case.output),
    ]


def network(case: Case, repeats: int) -> Graph:
    """A chain of one operator; in a sparse part, between a stem and a mean."""
    shape = case.shape
    if case.is_stem:
        nodes = [Node("image", ops.Input(), (), shape)]
    elif case.is_sparse:
        size = shape[0]
        stem = ops.Convolution(normal(3, 3, 3, 8), strides=(2, 2), padding=ops.PAD_ONE)
        spread = np.zeros((1, 1, 8, shape[2]), "float32")
        spread[0, 0, np.arange(shape[2]) % 8, np.arange(shape[2])] = 1
        nodes = [
            Node("image", ops.Input(), (), (2 * size, 2 * size, 3)),
            Node("stem", stem, ("image",), (size, size, 8)),
            Node("spread", ops.Convolution(spread, sparse=True), ("stem",), shape),
        ]
    else:
        nodes = [Node("image", ops.Input(), (), shape)]
    for number in range(repeats):
        output = case.output(number) if callable(case.output) else case.output
        if (
            not callable(case.output) and not case.is_stem and nodes[-1].shape != shape
        ):  # another shape of as many numbers, or of others
            before, fitted = nodes[-1], ops.Reshape()
            if isinstance(case.op, ops.Convolution):
                times = -(-shape[2] // before.shape[2])
                joined = ops.ConcatenateChannels()
                if times > 1:
                    wide = (*before.shape[:2], times * before.shape[2])
                    nodes.append(Node(f"wide{number}", joined, (before.name,) * times, wide))
                fitted = ops.Slice()
            nodes.append(Node(f"fitted{number}", fitted, (nodes[-1].name,), shape))
        if isinstance(case.op, (ops.PickChannels, ops.Turn)):  # the converter makes one of two that follow each other
            nodes.append(Node(f"between{number}", ops.Maximum(normal(shape[2])), (nodes[-1].name,), shape))
        if case.is_stem:
            nodes += _one_more_stem(case, number, nodes[-1].name)
            continue
        inputs = (nodes[-1].name,) * case.reads + (("image",) if case.reads_image else ())
        nodes.append(Node(f"operator{number}", case.op, inputs, output))
    if case.is_stem:  # which a 1x1 convolution of few weights follows, or XNNPACK sees no part to take
        kernel = np.eye(nodes[-1].shape[2], dtype="float32")[None, None]
        nodes.append(Node("last", ops.Convolution(kernel, sparse=True), (nodes[-1].name,), nodes[-1].shape))
    if case.is_sparse:
        nodes.append(Node("mean", ops.Mean(), (nodes[-1].name,), (nodes[-1].shape[2],)))
    return Graph(tuple(nodes), {"y": nodes[-1].name})
