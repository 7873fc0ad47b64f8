"""Reactivations computed by groups and added up as rows."""

import numpy as np
import pytest
from graphs import (
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
    group_reactivations,
)

tf = pytest.importorskip("tensorflow")


def reactivated(b, channels=48, growth=16, groups=4, kept=0.25, size=6):
    """A store whose channels a reactivation updates before new ones are joined, and an index that reads it."""
    x = b.concatenate(b.input(size, size, channels // 2), b.input(size, size, channels // 2))
    new = b.input(size, size, growth)
    kernel, reached = b.normal(1, 1, growth, channels), b.random.random((groups, channels)) < kept
    kernel *= np.tile(reached, (growth // groups, 1))  # input i belongs to group i mod G
    update = b.add(ops.Convolution(kernel), [new], (size, size, channels), name="update")
    store = b.concatenate(b.sum(x, update), new)
    picked = b.index(store, b.random.permutation(channels + growth)[: channels // 2 + 1])
    return b.graph(b.convolution(picked, 4), b.pool(store))


@settings(derandomize=True, deadline=None, max_examples=20)
@given(
    groups=st.sampled_from([1, 2, 4, 8]),
    per_group=st.integers(1, 4),
    channels=st.sampled_from([8, 24, 48]),
    kept=st.sampled_from([0.0, 0.1, 0.3, 1.0]),
    seed=st.integers(0, 99),
)
def test_any_reactivation(groups, per_group, channels, kept, seed):
    graph = reactivated(Builder(seed), channels, groups * per_group, groups, kept)
    assert_equivalent(lower_channels_last(graph), graph)


def test_reactivation_is_computed_by_groups_and_added_up_as_rows():
    graph = reactivated(Builder(), channels=128, growth=64, groups=8, kept=0.125)
    grouped = only(group_reactivations, graph)
    assert isinstance(grouped["update"].op, ops.SumOfPicks)
    convolution = grouped[grouped["update"].inputs[0]]
    assert convolution.op.groups in (2, 4, 8)
    # each output's picks name the filters that make it, or one that is always zero
    picks = grouped["update"].op.picks
    assert picks.shape[1] == 128
    zeros = np.flatnonzero((convolution.op.kernel == 0).all(axis=(0, 1, 2)))
    for output, sources in enumerate(picks.T):
        made = [source for source in sources if source not in zeros]
        columns = convolution.op.kernel[0, 0][:, made]
        assert np.isclose(np.abs(columns).sum(), np.abs(graph["update"].op.kernel[..., output]).sum())
    rows = lower_channels_last(graph)
    assert_equivalent(rows, graph)
    assert "sum_of_picks" not in operators(rows)
    assert operators(rows).count("pick_rows") == len(picks) + 1


def test_reactivation_of_few_inputs_stays_dense():
    graph = reactivated(Builder(), channels=24, growth=4, groups=2, kept=0.5)
    assert_unchanged(only(group_reactivations, graph), graph)
