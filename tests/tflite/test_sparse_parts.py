"""Parts of any network in sparse convolutions: depthwise windows, sums, squeeze-and-excitation, any beginning."""

import numpy as np
import pytest
from graphs import ARM64, Builder, assert_equivalent, operators, simplify
from sparse_networks import assert_every_end_equivalent, ends

from keras_condense.tflite import operators as ops
from keras_condense.tflite.passes import sparse
from keras_condense.tflite.schemes import FLOAT32

tf = pytest.importorskip("tensorflow")


def windows(b, x, size, stride, padding="same", relu=True):
    """A depthwise convolution with a bias and a ReLU6."""
    height, width, channels = b.shape(x)
    if padding == "same":
        padding = tuple(ops.explicit_padding(side, size, stride, 1, "same") for side in (height, width))
    kernel, bias = b.normal(size, size, channels), b.normal(channels)
    op = ops.Depthwise(kernel, bias, relu, 6.0 if relu else None, (stride, stride), padding)
    sides = [(n + sum(p) - size) // stride + 1 for n, p in zip((height, width), padding, strict=True)]
    return b.add(op, [x], (*sides, channels))


def pointwise(b, x, filters, groups=4, relu=False, shuffled=True):
    """Picked channels, a grouped convolution and a shuffle, as `condense` makes of learned groups."""
    channels = b.shape(x)[-1]
    picked = b.index(x, b.random.integers(0, channels, max(channels // 4, 1) * groups))
    y = b.convolution(picked, filters, groups=groups, bias=True)
    y = b.shuffle(y, groups) if shuffled else y
    return b.add(ops.Relu(6.0), [y], b.shape(y)) if relu else y


def excited(b, x, units=4):
    """Squeeze-and-excitation."""
    channels = b.shape(x)[-1]
    y = b.add(ops.Reshape(), [b.mean(x)], (1, 1, channels))
    y = b.relu(b.convolution(y, units, bias=True))
    y = b.convolution(y, channels, bias=True)
    y = b.add(ops.Affine(np.ones(channels, "float32"), np.full(channels, 3, "float32")), [y], b.shape(y))
    y = b.add(ops.Relu(6.0), [y], b.shape(y))
    y = b.add(ops.Affine(np.full(channels, 1 / 6, "float32"), np.zeros(channels, "float32")), [y], b.shape(y))
    return b.add(ops.Multiply(), [x, y] if units % 2 else [y, x], b.shape(x))


def inverted_residuals(b, x, size=3, stride=2, activation="relu", excite=False):
    """Two blocks of MobileNetV2 or V3, the second with a residual sum."""
    for step in (stride, 1):
        before = x
        y = windows(b, pointwise(b, x, 32, relu=True), size, step)
        if activation != "relu":
            op = {"hard_swish": ops.HardSwish(), "swish": ops.Swish(), "sigmoid": ops.Sigmoid()}[activation]
            y = b.add(op, [y], b.shape(y))
        if excite:
            y = excited(b, y, 3 + step)
        x = pointwise(b, y, 16)
        if b.shape(x) == b.shape(before):
            x = b.sum(before, x)
    return x


@pytest.mark.parametrize("activation", ["relu", "hard_swish", "swish", "sigmoid"])
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("image", [32, 36, 34])  # behind two strides, an odd size for the last
@pytest.mark.parametrize("excite", [False, True])
def test_inverted_residuals(image, size, activation, excite):
    """Images are turned where TensorFlow's zeros are at the bottom."""
    b = Builder(image + size)
    x = b.convolution(b.input(image, image, 3), 16, 3, 2, bias=True)
    x = inverted_residuals(b, x, size, 2, activation, excite)
    graph = simplify(b.graph(b.dense(b.mean(x), 5)))
    lowered = assert_every_end_equivalent(graph)
    assert "turn" in operators(lowered[-1])
    assert sparse.regions(graph)[0].ends[-1] == graph[next(n.inputs[0] for n in graph if n.op.kind == "dense")].name


@pytest.mark.parametrize(("height", "width"), [(18, 16), (17, 16), (17, 19)])
def test_one_turn_fits_both_axes_or_the_part_ends(height, width):
    b = Builder()
    x = windows(b, pointwise(b, b.convolution(b.input(height, width, 3), 16, 3, 2), 16), 3, 2)
    assert_every_end_equivalent(b.graph(b.mean(pointwise(b, x, 16))))


def test_mixed_paddings_end_the_part():
    """Zeros above at one stride and below at the next: no turn makes both what XNNPACK lays out."""
    b = Builder()
    x = pointwise(b, b.convolution(b.input(32, 32, 3), 16, 3, 2, padding=((1, 0), (1, 0))), 16)
    y = windows(b, x, 3, 2, ((0, 1), (0, 1)))
    graph = simplify(b.graph(b.mean(pointwise(b, y, 16))))
    assert sparse.regions(graph)[0].ends == (graph[x].inputs[0],) or sparse.regions(graph)[0].ends == (x,)
    assert_every_end_equivalent(graph)


def test_zeros_above_need_no_turn():
    b = Builder()
    x = windows(b, pointwise(b, b.convolution(b.input(32, 32, 3), 16, 3, 2, padding=((1, 0), (1, 0))), 16), 5, 2,
                ((2, 1), (2, 1)))  # fmt: skip
    lowered = assert_every_end_equivalent(b.graph(b.mean(pointwise(b, x, 16))))
    assert "turn" not in operators(lowered[-1])


@pytest.mark.parametrize("channels", [12, 20, 24, 44])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_part_may_begin_in_the_middle(channels, stride):
    b = Builder(channels)
    x = b.convolution(b.input(16, 16, 5), channels, 3, bias=True, relu=True)
    y = windows(b, pointwise(b, x, 32), 3, stride)
    y = pointwise(b, y, channels)
    y = b.sum(y, x) if stride == 1 else y
    z = b.add(ops.KerasCall(lambda tensors: [tensors[0] * 2]), [y], b.shape(y))
    graph = simplify(b.graph(b.mean(z), x))
    assert_every_end_equivalent(graph)
    assert sparse.regions(graph)[0].start == x


def test_two_parts():
    """Each is written where the other is, too."""
    b = Builder()
    x = pointwise(b, b.convolution(b.input(32, 32, 3), 16, 3, 2), 16)
    x = b.add(ops.KerasCall(lambda tensors: [tensors[0] * 2]), [x], b.shape(x))
    graph = simplify(b.graph(b.dense(b.mean(pointwise(b, windows(b, pointwise(b, x, 32), 3, 2), 16)), 4)))
    first, second = sparse.regions(graph)
    once = sparse.run(graph, first, first.ends[-1], ARM64, FLOAT32)
    again = next(region for region in sparse.regions(once) if region.start == second.start)
    assert_equivalent(sparse.run(once, again, again.ends[-1], ARM64, FLOAT32), graph)


def test_pixels_that_are_left_are_read_by_dense_layers():
    """A convolution would be taken for a part of the channels-first one, which then has no end."""
    b = Builder()
    x = pointwise(b, b.convolution(b.input(16, 16, 3), 16, 3, 2), 16)
    pixel = b.add(ops.Mean(keepdims=True), [x], (1, 1, 16))
    head = b.convolution(pixel, 6, bias=True)
    graph = simplify(b.graph(b.add(ops.Reshape(), [head], (6,))))
    lowered = assert_every_end_equivalent(graph)[-1]
    assert [node.op.kind for node in lowered if node.inputs and lowered[node.inputs[0]].op.kind == "mean"] == ["dense"]
    b.nodes[head] = b.nodes[head].replace(op=ops.HardSwish(), shape=(1, 1, 16))
    graph = simplify(b.graph(head))  # which XNNPACK would take, too
    assert all(graph[end].op.kind != "mean" for end in ends(graph))


def test_zeros_of_any_origin_are_skipped():
    """Kernels pruned at random have no groups; those pruned in pairs are read in pairs."""
    b = Builder()
    x = b.convolution(b.input(32, 32, 3), 16, 3, 2, bias=True)
    for together in (1, 2):
        y = b.convolution(windows(b, x, 3, 1), 32, bias=True)
        kernel = b.nodes[y].op.kernel
        kernel *= np.repeat(b.random.random((1, 1, kernel.shape[2], 32 // together)) < 0.15, together, axis=3)
        x = y
    assert_every_end_equivalent(b.graph(b.mean(x)))


def test_squeezed_pixels_are_widened_by_zeros_where_weights_would_be_too_few():
    b = Builder()
    x = excited(b, pointwise(b, b.convolution(b.input(16, 16, 3), 16, 3, 2), 16), 16)
    lowered = assert_every_end_equivalent(b.graph(b.mean(x)))[-1]
    widths = [n.channels for n in lowered if n.op.kind == "convolution" and n.shape[:2] == (1, 1)]
    assert max(widths) > 16


def test_one_convolution_in_the_middle_is_no_part():
    """Getting in and out costs more than it saves; DenseNets have dozens of them."""
    b = Builder()
    x = b.convolution(b.input(16, 16, 5), 24, 3)
    assert ends(b.graph(b.mean(b.convolution(b.convolution(x, 24, groups=4), 8, 3)))) == []


@pytest.mark.parametrize(("size", "groups"), [(1, 4), (3, 1)])
def test_other_convolutions_of_a_pixel_stay(size, groups):
    """Behind a vector that two layers read: one of groups, and one whose window is larger than the pixel."""
    b = Builder()
    x = pointwise(b, b.convolution(b.input(16, 16, 3), 16, 3, 2), 16)
    vector = b.mean(x)
    pixel = b.add(ops.Reshape(), [vector], (1, 1, 16))
    y = b.add(ops.Reshape(), [b.convolution(pixel, 8, size, groups=groups)], (8,))
    graph = simplify(b.graph(y, b.dense(vector, 3)))
    for region in sparse.regions(graph):
        for end in region.ends:
            assert_equivalent(sparse.run(graph, region, end, ARM64, FLOAT32), graph)
    assert_equivalent(sparse._with_dense_heads(graph), graph)
