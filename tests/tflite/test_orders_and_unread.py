"""Channels in another order, and channels that nobody reads: what is moved and computed, and that outputs are equal."""

import dataclasses

import numpy as np
import pytest
from graphs import ARM64, Builder, assert_equivalent, assert_unchanged, computed, only, operators, with_costs
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_condense.tflite import operators as ops
from keras_condense.tflite.operators import Convolution, Depthwise
from keras_condense.tflite.passes import carry_orders, compose_norms, drop_unread, keep_pixels, swish_by_tanh

tf = pytest.importorskip("tensorflow")


# --- orders --------------------------------------------------------------------------------------------------------
def test_a_shuffle_is_carried_into_a_pick():
    b = Builder()
    x = b.shuffle(b.convolution(b.input(6, 6, 8), 16, groups=4), 4)
    x = b.relu(b.depthwise(x, bias=True))
    graph = b.graph(b.convolution(b.index(x, b.random.integers(0, 16, 8)), 8, groups=4))
    carried = only(carry_orders, graph)
    assert operators(carried) == ["convolution", "depthwise", "relu", "pick_channels", "convolution"]
    assert_equivalent(carried, graph)


def test_residual_sums_keep_one_order():
    """MobileNetV2's: all sums of a stage are in the order in which its convolutions make them."""
    b = Builder()
    x = b.shuffle(b.convolution(b.input(6, 6, 8), 16, groups=4), 4)
    for _ in range(2):
        y = b.shuffle(b.convolution(b.index(b.affine(x), b.random.integers(0, 16, 16)), 16, groups=4), 4)
        x = b.sum(x, y)
    graph = b.graph(b.dense(b.mean(x), 3))
    carried = only(carry_orders, graph)
    assert operators(carried).count("pick_channels") == 2
    assert_equivalent(carried, graph)


def test_sums_of_two_orders_are_put_in_one():
    b = Builder()
    image = b.input(6, 6, 8)
    x, y = (b.shuffle(b.convolution(image, 16, groups=groups), groups) for groups in (2, 4))
    graph = b.graph(b.dense(b.mean(b.sum(b.depthwise(x), y)), 3))
    assert_equivalent(only(carry_orders, graph), graph)


def test_an_output_has_its_own_order():
    b = Builder()
    x = b.depthwise(b.shuffle(b.convolution(b.input(6, 6, 8), 16, groups=4), 4))
    graph = b.graph(x, b.mean(x))
    assert_equivalent(only(carry_orders, graph), graph)


@pytest.mark.parametrize("kind", ["layer", "grouped", "pixel", "product", "limit", "concatenation", "reshape", "twice"])
def test_whatever_reads_an_order(kind):
    b = Builder()
    image = b.input(6, 6, 8)
    x = b.shuffle(b.convolution(image, 16, groups=4), 4)
    match kind:
        case "layer":
            y = b.add(ops.KerasCall(lambda tensors: [tensors[0] * np.arange(16, dtype="float32")]), [x], b.shape(x))
        case "grouped":
            y = b.convolution(x, 16, 3, groups=2)
        case "pixel":
            y = b.add(ops.Mean(keepdims=True), [x], (1, 1, 16))
            y = b.add(ops.Multiply(), [x, y], b.shape(x))
        case "product":
            y = b.add(ops.Multiply(), [x, b.convolution(image, 16)], b.shape(x))
        case "limit":
            y = b.add(ops.Maximum(b.normal(16)), [x], b.shape(x))
        case "concatenation":
            y = b.concatenate(x, image, x)
        case "reshape":
            y = b.add(ops.Reshape(), [b.mean(x)], (1, 1, 16))
            y = b.convolution(y, 4)
        case "twice":
            y = b.shuffle(b.relu(x), 2)
    graph = b.graph(b.mean(b.convolution(y, 5)))
    assert_equivalent(only(carry_orders, graph, with_costs({"shuffle": {"outputs": 1e3}})), graph)


# --- unread channels -----------------------------------------------------------------------------------------------
def test_unread_channels_are_dropped():
    """The filters of a 1x1 convolution, and the windows behind them, that no group picks."""
    b = Builder()
    x = b.depthwise(b.relu(b.convolution(b.input(6, 6, 8), 16, bias=True)), bias=True)
    graph = b.graph(b.mean(b.convolution(b.index(x, [3, 5, 5, 9]), 4, groups=2)))
    dropped = only(drop_unread, graph)
    assert [n.channels for n in dropped if isinstance(n.op, (Convolution, Depthwise))] == [3, 3, 4]
    assert_equivalent(dropped, graph)


def test_groups_keep_as_many_filters_each():
    b = Builder()
    x = b.convolution(b.input(6, 6, 8), 16, groups=4, name="conv")  # 4 filters a group
    graph = b.graph(b.mean(b.convolution(b.index(x, [0, 1, 2, 4]), 4, groups=2)))
    dropped = only(drop_unread, graph)
    assert dropped["conv"].channels == 12
    assert dropped["conv"].op.groups == 4
    assert_equivalent(dropped, graph)


@pytest.mark.parametrize(("fill", "kept"), [(False, [6, 12]), (True, [8, 16])])
def test_lanes_are_filled_where_a_part_of_them_is_slow(fill, kept):
    """Six filters as eight, and three of each of four groups as four, in lanes of four."""
    b = Builder()
    x = b.convolution(b.input(6, 6, 8), 16, name="conv")
    x = b.convolution(b.index(x, [0, 1, 2, 3, 4, 5, 5, 5]), 32, groups=4, name="grouped")
    read = [0, 1, 2, 8, 9, 10, 16, 17, 18, 24, 25, 26]
    graph = b.graph(b.mean(b.convolution(b.index(x, read), 4, groups=2)))
    target = dataclasses.replace(ARM64, lanes={"float32": 4}, fill_lanes=fill)
    dropped = only(drop_unread, graph, target)
    assert [dropped[name].channels for name in ("conv", "grouped")] == kept
    assert_equivalent(dropped, graph)


def test_zero_rows_of_kernels_read_nothing():
    b = Builder()
    x = b.convolution(b.input(6, 6, 8), 6, name="conv")
    y = b.convolution(b.depthwise(x), 4)
    b.nodes[y].op.kernel[:, :, [0, 4]] = 0
    z = b.dense(b.mean(y), 3)
    b.nodes[z].op.kernel[1] = 0
    graph = b.graph(z)
    dropped = only(drop_unread, graph)
    assert dropped["conv"].channels == 4
    assert dropped[y].channels == 3
    assert_equivalent(dropped, graph)


def test_what_others_read_stays():
    b = Builder()
    x = b.convolution(b.input(6, 6, 8), 16)
    few = b.index(x, [1, 2])
    for other in (x, b.concatenate(few, x), b.sum(x, x), b.convolution(x, 4, 3, groups=4), b.mean(x)):
        graph = b.graph(few, other)
        assert_unchanged(only(drop_unread, graph), graph)


@pytest.mark.parametrize("other", ["input", "layer"])
def test_a_pick_reads_all_that_is_added_to_what_stays(other):
    """The input of a network, or a layer's output, keeps all channels, and so does a pick that comes after it."""
    b = Builder()
    x = b.input(6, 6, 8)
    if other == "layer":
        x = b.add(ops.KerasCall(lambda tensors: [tensors[0] * 2]), [x], (6, 6, 8))
    y = b.index(b.convolution(x, 16, bias=True), b.random.integers(0, 16, 8))
    graph = b.graph(b.mean(b.convolution(b.index(b.sum(x, y), [6, 1, 6, 2]), 4, groups=2)))
    assert_equivalent(only(drop_unread, graph), graph)


def test_a_network_of_zeros_keeps_a_channel():
    b = Builder()
    y = b.convolution(b.convolution(b.input(6, 6, 8), 6), 4)
    b.nodes[y].op.kernel[:] = 0
    graph = b.graph(y)
    dropped = only(drop_unread, graph)
    assert [node.channels for node in dropped if node.inputs] == [1, 4]
    image = np.ones((1, 6, 6, 8), "float32")
    np.testing.assert_array_equal(computed(dropped, [image])["y0"], computed(graph, [image])["y0"])


@settings(derandomize=True, deadline=None, max_examples=30)
@given(
    groups=st.sampled_from([1, 2, 4]),
    picks=st.integers(1, 4),
    residual=st.booleans(),
    activation=st.sampled_from(["relu", "hard_swish"]),
    seed=st.integers(0, 999),
)
def test_any_chain(groups, picks, residual, activation, seed):
    b = Builder(seed)
    x = b.convolution(b.input(5, 5, 6), 8, groups=2)
    for _ in range(3):
        y = b.shuffle(b.convolution(b.index(x, b.random.integers(0, 8, picks * groups)), 8, groups=groups), groups)
        y = getattr(b, activation)(b.depthwise(y, bias=True))
        x = b.sum(x, y) if residual else y
    graph = b.graph(b.mean(b.convolution(b.index(x, b.random.integers(0, 8, 4)), 3)))
    for each in ((drop_unread,), (carry_orders,), (drop_unread, carry_orders), (carry_orders, drop_unread)):
        other = graph
        for one in each:
            other = only(one, other, with_costs({"shuffle": {"outputs": 1e3}}))
        assert_equivalent(other, graph)


# --- small ones ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("relu", [False, True])
def test_swish_by_a_tangent(relu):
    b = Builder()
    x = b.convolution(b.input(6, 6, 8), 16, bias=True, relu=relu)
    x = b.add(ops.Swish(), [x], b.shape(x))
    x = b.add(ops.Swish(), [b.sum(x, x)], b.shape(x))  # a sum is not halved
    graph = b.graph(x)
    target = with_costs({"swish": {"outputs": 10.0}, "swish_of_half": {"outputs": 7.0}})
    halved = only(swish_by_tanh, graph, target)
    expected = ["convolution", "swish" if relu else "swish_of_half", "add", "swish"]
    assert operators(halved) == expected
    assert_equivalent(halved, graph)
    unknown = with_costs({"swish": {}, "swish_of_half": {}})
    assert_unchanged(only(swish_by_tanh, graph, unknown), graph)


def test_norms_of_norms_are_one():
    b = Builder()
    x = b.affine(b.affine(b.affine(b.input(4, 4, 3))), relu=True)
    graph = b.graph(b.affine(x))
    composed = only(compose_norms, graph)
    assert operators(composed) == ["affine", "affine"]  # not across a ReLU
    assert_equivalent(composed, graph)


def test_a_mean_that_is_reshaped_to_a_pixel_is_one():
    b = Builder()
    x = b.input(4, 4, 6)
    pixel = b.add(ops.Reshape(), [b.mean(x)], (1, 1, 6))
    graph = b.graph(b.convolution(pixel, 3))
    kept = only(keep_pixels, graph)
    assert operators(kept) == ["mean", "convolution"]
    assert_equivalent(kept, graph)
    other = b.graph(b.add(ops.Reshape(), [b.mean(x)], (1, 2, 3)))
    assert_unchanged(only(keep_pixels, other), other)
