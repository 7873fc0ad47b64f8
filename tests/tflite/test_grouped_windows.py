"""Grouped convolutions of few filters a group: in blocks of pixels and groups, or split into depthwise ones."""

import pytest
from graphs import (
    DEAR_WINDOWS,
    FREE_WINDOWS,
    Builder,
    assert_equivalent,
    assert_unchanged,
    lower_channels_last,
    only,
    operators,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_condense.tflite import operators as ops
from keras_condense.tflite.passes import (
    block_pixels,
    keep_rows,
    split_windows,
)

tf = pytest.importorskip("tensorflow")


@pytest.mark.parametrize(
    ("size", "groups", "filters", "block", "groups_after"),
    [
        ((8, 8), 4, 32, None, 4),  # full registers
        ((8, 8), 8, 32, (1, 2), 8),
        ((8, 8), 4, 8, (2, 2), 4),
        ((7, 8), 4, 8, None, None),
        ((7, 7), 8, 32, None, 4),  # odd sizes have no blocks: groups are merged
        ((8, 7), 4, 16, (2, 1), 4),
    ],
)
def test_block_pixels(size, groups, filters, block, groups_after):
    b = Builder()
    x = b.convolution(b.input(*size, 8 * groups), filters, 3, groups=groups, bias=True, relu=True)
    graph = b.graph(x)
    blocked = only(block_pixels, graph)
    assert_equivalent(only(keep_rows, blocked), graph)
    convolution = next(node for node in blocked if isinstance(node.op, ops.Convolution))
    if groups_after:
        assert convolution.op.groups == groups_after
        assert [node.op.block for node in blocked if isinstance(node.op, ops.UnblockPixels)] == (
            [block] if block else []
        )


@settings(derandomize=True, deadline=None, max_examples=25)
@given(
    height=st.integers(2, 9),
    width=st.integers(2, 9),
    window=st.integers(1, 4),
    groups=st.sampled_from([2, 3, 4]),
    filters=st.integers(1, 4),
    padding=st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2),
    bias=st.booleans(),
)
def test_any_convolution_in_blocks(height, width, window, groups, filters, padding, bias):
    window = min(window, height, width)
    b = Builder()
    x = b.input(height, width, 2 * groups)
    x = b.convolution(x, filters * groups, window, groups=groups, padding=padding, bias=bias)
    graph = b.graph(b.relu(x))
    assert_equivalent(only(keep_rows, only(block_pixels, graph)), graph)


@pytest.mark.parametrize("arguments", [{"groups": 1}, {"groups": 4, "stride": 2}])
def test_other_convolutions_stay(arguments):
    b = Builder()
    graph = b.graph(b.convolution(b.input(8, 8, 8), 4, 3, **arguments))
    assert_unchanged(only(block_pixels, graph), graph)


@pytest.mark.parametrize("relu", [True, False])
def test_split_convolution_beside_a_store_of_rows_keeps_its_relu(relu):
    b = Builder()
    x = b.input(8, 8, 8)
    store = b.concatenate(x, b.convolution(x, 12, 3, groups=4, relu=relu))
    graph = b.graph(b.index(store, [19, 3, 12, 9]))
    split = lower_channels_last(graph, FREE_WINDOWS)
    assert operators(split).count("depthwise") == 3
    assert_equivalent(split, graph)


@pytest.mark.parametrize("suffix", ["_blocks", "_windows0", "_sums0", "_sums1", "_rows", "_parts", "_blocks_rows"])
@pytest.mark.parametrize("split", [True, False])  # or in blocks
@pytest.mark.parametrize("before", [True, False])
def test_convolution_beside_a_layer_of_the_name_of_its_parts(suffix, split, before):
    b = Builder()
    x = b.input(4, 4, 8)
    others = [b.convolution(x, 8, name=f"conv{suffix}")] if before else []
    y = b.convolution(x, 8, 3, groups=4, name="conv")
    others += [] if before else [b.convolution(x, 8, name=f"conv{suffix}")]
    graph = b.graph(b.index(b.concatenate(x, y), [11, 3, 9]), *others)
    lowered = lower_channels_last(graph, FREE_WINDOWS if split else DEAR_WINDOWS)
    assert ("depthwise" in operators(lowered)) == split
    assert_equivalent(lowered, graph)


@pytest.mark.parametrize(("groups", "per_group"), [(4, 1), (4, 2), (2, 4)])
@pytest.mark.parametrize("shuffled", [True, False])
def test_split_windows_reads_shuffled_channels_where_they_are(groups, per_group, shuffled):
    build = Builder()
    random, channels, filters = build.random, 4 * groups, groups * per_group
    x = build.input(6, 5, channels)
    if shuffled:
        x = build.index(x, random.permutation(channels))
    graph = build.graph(build.convolution(x, filters, 3, groups=groups, bias=True, relu=True))
    split = only(split_windows, graph, FREE_WINDOWS)
    sums = ["depthwise", "convolution"] * per_group
    assert operators(split) == (sums if per_group == 1 else [*sums, "add"])
    assert_equivalent(split, graph)
