"""Neighbouring pixels, or neighbouring groups, become further filters of a group, until it fills a register.

A 3x3 convolution with 4 filters per group, for instance, becomes a 3x4 convolution of stride (1, 2) with 8: a quarter
of its weights are zero, where merging two groups makes half of them zero.
"""

import math

import numpy as np

from keras_condense.tflite.graph import Graph, Names, Node
from keras_condense.tflite.operators import Convolution, Shape, UnblockPixels, convolution_features
from keras_condense.tflite.schemes import Scheme
from keras_condense.tflite.targets import Target

__all__ = ["Block", "block_cost", "blocks", "is_plain", "run"]

Block = tuple[tuple[int, int], int]  # rows and columns of pixels, and how many groups become one

_PIXELS = ((1, 1), (1, 2), (2, 1), (2, 2), (1, 4), (2, 4), (4, 2))


def is_plain(node: Node) -> bool:
    """Whether a node is a grouped convolution of every pixel."""
    op = node.op
    return isinstance(op, Convolution) and op.strides == op.dilation == (1, 1) and op.groups > 1


def _kernel_shape(node: Node, block: Block) -> Shape:
    """The shape of a kernel whose filters also compute a block."""
    height, width, inputs, filters = node.op.kernel.shape
    (rows, columns), merged = block
    return height + rows - 1, width + columns - 1, inputs * merged, filters * rows * columns


def block_cost(node: Node, block: Block, target: Target, scheme: Scheme) -> float:
    """The cost of a convolution whose filters also compute a block."""
    (rows, columns), merged = block
    height, width, channels = node.shape
    kernel, shape = _kernel_shape(node, block), (height // rows, width // columns, channels * rows * columns)
    computed = convolution_features(kernel, node.op.groups // merged, shape, target.lanes_of(scheme.arithmetic))
    costs = [target.cost(computed, scheme.arithmetic)]
    if rows * columns > 1:
        moved = UnblockPixels((rows, columns)).features([shape], node.shape, target.lanes_of(scheme.arithmetic))
        costs.append(target.cost(moved, scheme.arithmetic))
    return sum(costs)


def blocks(node: Node, scheme: Scheme) -> list[Block]:
    """The blocks of pixels and groups that the filters of a grouped convolution can compute."""
    # pixels of a 1x1 convolution share no input: blocks gain nothing there
    sizes = _PIXELS if node.op.window != (1, 1) else _PIXELS[:1]
    sizes = [size for size in sizes if node.shape[0] % size[0] == 0 and node.shape[1] % size[1] == 0]
    merges = [merged for merged in range(1, node.op.groups + 1) if node.op.groups % merged == 0]
    choices = [(size, merged) for size in sizes for merged in merges]
    is_small = node.op.kernel.size < scheme.few_weights
    return [choice for choice in choices if not is_small or math.prod(_kernel_shape(node, choice)) < scheme.few_weights]


def run(graph: Graph, target: Target, scheme: Scheme) -> Graph:
    """Let the filters of grouped convolutions compute blocks of pixels and of groups."""
    nodes, names = [], Names(graph)
    for node in graph:
        if not is_plain(node):
            nodes.append(node)
            continue
        size, merged = min(blocks(node, scheme), key=lambda block: block_cost(node, block, target, scheme))
        wider = node if merged == 1 else _merged_groups(node, merged)
        if size == (1, 1):
            nodes.append(wider)
        else:
            blocked = _blocked_pixels(wider, size, names.new(f"{node.name}_blocks"))
            nodes += [blocked, Node(node.name, UnblockPixels(size), (blocked.name,), node.shape, node.layer)]
    return graph.with_nodes(nodes)


def _merged_groups(node: Node, merged: int) -> Node:
    """The same convolution with `merged` groups as one, zero where they were apart."""
    kernel, filters = node.op.kernel, node.channels // node.op.groups
    height, width, inputs, _ = kernel.shape
    wide = np.zeros((height, width, merged, inputs, node.channels), "float32")
    for filter_ in range(node.channels):
        wide[:, :, filter_ // filters % merged, :, filter_] = kernel[..., filter_]
    wide = wide.reshape(height, width, merged * inputs, node.channels)
    return node.with_op(groups=node.op.groups // merged, kernel=wide)


def _blocked_pixels(node: Node, size: tuple[int, int], name: str) -> Node:
    """A strided convolution that makes each block of pixels at once; the block is the fastest part of its channels."""
    rows, columns = size
    height, width, inputs, filters = node.op.kernel.shape
    kernel = np.zeros((height + rows - 1, width + columns - 1, inputs, filters, rows, columns), "float32")
    for row in range(rows):
        for column in range(columns):
            kernel[row : row + height, column : column + width, :, :, row, column] = node.op.kernel
    bias = None if node.op.bias is None else np.repeat(node.op.bias, rows * columns)
    shape = (node.shape[0] // rows, node.shape[1] // columns, filters * rows * columns)
    blocked = node.with_op(kernel=kernel.reshape(*kernel.shape[:3], -1), bias=bias, strides=size)
    return blocked.replace(name=name, shape=shape)
