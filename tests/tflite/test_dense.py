"""Learned groups as ordinary convolutions of all channels: equal outputs, and nothing is picked any more."""

import numpy as np
import pytest
from graphs import X86_64, Builder, assert_equivalent, lower_channels_last, operators
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_condense.tflite.operators import AveragePool, Convolution
from keras_condense.tflite.passes import dense


def blocks(builder, count, channels=8, groups=2, picks=6):
    """Blocks of one layer that picks channels, repeats some, and ends in a pooling."""
    x = builder.convolution(builder.input(2 << count, 2 << count, 3), channels)
    for _ in range(count):
        indices = builder.random.integers(0, builder.shape(x)[-1], picks)
        new = builder.convolution(builder.index(builder.affine(x, relu=True), indices), 4, groups=groups, bias=True)
        x = builder.pool(builder.concatenate(x, new))
    return builder.graph(x)


def test_cuts_are_where_blocks_end():
    graph = blocks(Builder(), 3)
    pools = [node.name for node in graph if isinstance(node.op, AveragePool)]
    assert dense.cuts(graph) == pools
    builder = Builder()
    x = builder.pool(builder.convolution(builder.input(8, 8, 3), 4))
    assert dense.cuts(builder.graph(x)) == []
    x = builder.convolution(x, 4, groups=2)
    last = builder.relu(x)
    assert dense.cuts(builder.graph(last)) == [last]  # all of it, where no pooling follows


def test_only_what_comes_before_the_cut_is_rewritten():
    graph = blocks(Builder(), 3)
    for number, cut in enumerate(dense.cuts(graph), 1):
        lowered = dense.run(graph, cut)
        assert operators(lowered).count("pick_channels") == 3 - number
        assert [node.op.groups for node in lowered if isinstance(node.op, Convolution)] == [1] * (1 + number) + [2] * (
            3 - number
        )
        assert_equivalent(lowered, graph)


def test_kernel_holds_each_weight_where_its_channel_is():
    builder = Builder()
    x = builder.input(2, 2, 3)
    y = builder.convolution(builder.index(x, [2, 0, 2, 2]), 2, groups=2, name="conv")
    graph = builder.graph(builder.pool(y))
    (a, c), (b, d) = graph["conv"].op.kernel[0, 0]  # a, b: first filter, of channels 2 and 0; c, d: second, of 2 and 2
    lowered = dense.run(graph, dense.cuts(graph)[0])
    np.testing.assert_allclose(lowered["conv"].op.kernel[0, 0], [[b, 0], [0, 0], [a, c + d]], rtol=1e-6)


@pytest.mark.parametrize("change", ["window", "strides", "plain"])
def test_other_convolutions_stay(change):
    builder = Builder()
    x = builder.input(8, 8, 4)
    x = x if change == "plain" else builder.index(x, [3, 1, 0, 0])
    groups = 1 if change == "plain" else 2
    y = builder.convolution(x, 4, 3 if change == "window" else 1, 2 if change == "strides" else 1, groups=groups)
    graph = builder.graph(builder.pool(y))
    assert dense.cuts(graph) == []


@settings(derandomize=True, deadline=None, max_examples=15)
@given(
    count=st.integers(1, 2),
    groups=st.sampled_from([1, 2, 4]),
    factor=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_equal_outputs_after_all_passes(count, groups, factor, seed):
    graph = blocks(Builder(seed), count, groups=groups, picks=factor * groups)
    for cut in dense.cuts(graph):
        assert_equivalent(lower_channels_last(dense.run(graph, cut), X86_64), graph, seed)
