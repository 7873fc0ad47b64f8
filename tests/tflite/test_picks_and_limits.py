"""Channels are picked first, and norms become limits, where that is equal and cheaper."""

import numpy as np
import pytest
from graphs import (
    Builder,
    assert_equivalent,
    computed,
    only,
    operators,
    with_costs,
)

from keras_condense.tflite import operators as ops
from keras_condense.tflite.passes import (
    keep_rows,
    limit_instead_of_norm,
    pick_first,
)

tf = pytest.importorskip("tensorflow")


def test_only_what_is_read_is_normalised():
    b = Builder()
    x = b.index(b.affine(b.input(5, 4, 8), relu=True), [6, 1, 1, 3])
    graph = b.graph(x)
    moved = only(pick_first, graph)
    assert operators(moved) == ["pick_channels", "affine"]
    assert moved[x].shape == (5, 4, 4)
    assert_equivalent(moved, graph)


def test_index_moves_before_a_mean_and_its_norm():
    b = Builder()
    graph = b.graph(b.dense(b.index(b.mean(b.affine(b.input(3, 3, 6), relu=True)), [5, 2]), 3))
    moved = only(pick_first, graph)
    assert operators(moved) == ["pick_channels", "affine", "mean", "dense"]
    assert_equivalent(moved, graph)


def test_index_stays_behind_a_norm_that_others_read():
    b = Builder()
    x = b.affine(b.input(5, 4, 8))
    graph = b.graph(b.index(x, [6, 1]), x)
    assert operators(only(pick_first, graph)) == ["affine", "pick_channels"]


def test_index_that_repeats_much_stays_behind_a_norm():
    b = Builder()
    graph = b.graph(b.index(b.affine(b.input(5, 4, 4)), [0, 1, 2, 3] * 4))
    assert operators(only(pick_first, graph)) == ["affine", "pick_channels"]


@pytest.mark.parametrize(
    ("indices", "expected"),
    [([5, 2], ["pick_channels", "mean", "relu"]), ([5, 2] * 4, ["mean", "relu", "pick_channels"])],
)
def test_index_of_a_vector_moves_where_it_reads_less(indices, expected):
    b = Builder()
    graph = b.graph(b.index(b.relu(b.mean(b.input(3, 3, 6))), indices))
    moved = only(pick_first, graph)
    assert operators(moved) == expected
    assert_equivalent(moved, graph)


@pytest.mark.parametrize("scale", [[1, 2], [-1, -0.5], [0.5, -2], [0, 1], [0, -1], [1e-30, 1]])
@pytest.mark.parametrize("after", ["convolution", "grouped", "mean"])
def test_limit_instead_of_norm(scale, after):
    b = Builder()
    x = b.input(4, 3, 2)
    norm = ops.Affine(np.array(scale, "float32"), np.array([-0.3, 0.4], "float32"), relu=True)
    x = b.add(norm, [x], (4, 3, 2))
    y = b.dense(b.mean(x), 3) if after == "mean" else b.convolution(x, 4, groups=1 + (after == "grouped"), bias=True)
    graph = b.graph(y)
    limited = only(limit_instead_of_norm, graph)
    assert_equivalent(limited, graph)
    expected = ["maximum"] * (max(scale) >= 0) + ["minimum"] * (min(scale) < 0)
    assert operators(limited)[: len(expected)] == expected


def test_one_channel_without_scale_and_shift_counts_as_nothing():
    b = Builder()
    norm = ops.Affine(np.zeros(2, "float32"), np.array([-1, 0], "float32"), relu=True)
    x = b.add(norm, [b.input(2, 2, 2)], (2, 2, 2))
    limited = only(limit_instead_of_norm, b.graph(b.convolution(x, 3)))
    assert np.all(computed(limited, [b.normal(1, 2, 2, 2)])["y0"] == 0)


@pytest.mark.parametrize("cost_of_row", [0.0, 19.0, 21.0])
def test_limits_of_picked_channels_are_applied_to_rows_where_that_is_cheaper(cost_of_row):
    b = Builder()
    x = b.convolution(b.input(4, 5, 3), 6)
    x = b.index(b.concatenate(x, b.convolution(x, 2)), [7, 0, 3, 3, 5, 2])
    graph = only(limit_instead_of_norm, b.graph(b.convolution(b.affine(x, relu=True), 4, groups=2)))
    # 20 pixels of an image against 6 rows
    costs = {"maximum": {"steps": 6.0}, "row_maximum": {"steps": cost_of_row}}
    rows = only(keep_rows, graph, with_costs(costs))
    assert_equivalent(rows, graph)
    shapes = [node.shape for node in rows if isinstance(node.op, (ops.Maximum, ops.Minimum))]
    assert shapes == [(6, 4, 5) if cost_of_row < 20 else (4, 5, 6)] * 2
    assert operators(rows).count("transpose") == 3  # two new pieces become rows, one image is read


@pytest.mark.parametrize("case", ["no relu", "padding", "two readers", "output", "large shift"])
def test_norm_stays(case):
    b = Builder()
    x = b.affine(b.input(4, 4, 2), relu=case != "no relu")
    if case == "large shift":
        b.nodes[x].op.shift[0] = 100
    y = b.convolution(x, 2, 3 if case == "padding" else 1)
    outputs = {"two readers": [b.sum(y, x)], "output": [y, x]}.get(case, [y])
    graph = b.graph(*outputs)
    assert operators(only(limit_instead_of_norm, graph)) == operators(graph)


@pytest.mark.parametrize("suffix", ["_maximum", "_minimum"])
def test_limits_beside_a_layer_of_their_name(suffix):
    b = Builder()
    x = b.input(4, 4, 8)
    y = b.affine(x, relu=True, name="bn")
    z = b.affine(b.convolution(x, 8), name=f"bn{suffix}")
    graph = b.graph(b.convolution(y, 4), z)
    assert_equivalent(only(limit_instead_of_norm, graph), graph)
