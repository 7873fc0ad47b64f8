"""Learned groups as sparse convolutions: equal outputs, in TensorFlow and in the interpreter, at every cut."""

import numpy as np
import pytest
import tflite_networks as networks
from graphs import Builder, assert_equivalent, computed, copied, operators, simplify
from hypothesis import given, settings
from hypothesis import strategies as st
from sparse_networks import assert_every_end_equivalent, ends, executed, network, sparse_stem, stem, written

from keras_condense.applications import CondenseNet
from keras_condense.condensation import condense
from keras_condense.tflite import operators as ops
from keras_condense.tflite.frontend import read_model
from keras_condense.tflite.passes import sparse

tf = pytest.importorskip("tensorflow")


# --- networks ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("growth_per_group", [1, 2, 4])
@pytest.mark.parametrize("groups", [2, 4, 8])
def test_groups_and_growth(groups, growth_per_group):
    factor = {2: 8, 4: 2, 8: 4}[groups]
    blocks = ((2, groups * growth_per_group), (1, 2 * groups * growth_per_group))
    graph = network(32 if groups == 4 else 16, blocks, groups, factor, bias=groups == 4, seed=groups)
    assert_every_end_equivalent(graph, count=2)


def test_reactivated_features_and_hard_swish():
    """A layer of CondenseNetV2: what it makes also updates what was there."""
    b = Builder()
    x = stem(b, 16, 8)
    for _ in range(2):
        channels = b.shape(x)[-1]
        y = b.hard_swish(b.affine(b.index(x, b.random.integers(0, channels, channels))))
        y = b.hard_swish(b.affine(b.shuffle(b.convolution(y, 16, groups=4), 4)))
        new = b.convolution(y, 4, 3, groups=4)
        update = b.convolution(b.relu(b.affine(new)), channels)
        x = b.concatenate(b.sum(x, update), new)
    assert_every_end_equivalent(b.graph(b.dense(b.mean(b.affine(b.pool(x), relu=True)), 5)), count=2)


@pytest.mark.parametrize(("size", "blocks"), [(24, ((1, 4), (2, 4), (1, 8))), (16, ((3, 4),)), (32, ((1, 4),) * 4)])
def test_blocks_and_sizes(size, blocks):
    assert_every_end_equivalent(network(size, blocks, 4, 4), count=len(blocks))


@given(
    st.sampled_from([2, 4, 8]),
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([1, 2, 4]),
    st.lists(st.integers(1, 2), min_size=1, max_size=2),
    st.booleans(),
    st.integers(0, 10**6),
)
@settings(max_examples=15)
def test_any_block(groups, factor, per_group, bottleneck, counts, bias, seed):
    blocks = [(count, groups * per_group) for count in counts]
    graph = simplify(network(8, blocks, groups, factor, bottleneck, bias, seed))
    for _, other in written(graph):
        assert_equivalent(other, graph)


def test_condensed_network_of_the_zoo():
    """From Keras to the interpreter."""
    model = CondenseNet((2, 2), (8, 16), groups=8, condense_factor=8, weights=None, input_shape=(32, 32, 3), classes=5)
    model = networks.randomize(condense(model, finish=True))
    graph = simplify(read_model(model, ["image"], ["classes"]))
    image = networks.images(1, 32, 32, 3)
    assert [graph[end].op.kind for end in ends(graph)] == ["average_pool", "mean"]
    for _, other in written(graph):
        actual = computed(other, [image])["classes"]
        assert networks.relative_difference(actual, networks.reference(model, image)) < 1e-5
    actual = executed(other, image)
    assert networks.relative_difference(actual, networks.reference(model, image)) < 1e-4


@pytest.mark.parametrize("groups", [2, 8])
def test_in_the_interpreter(groups):
    graph = simplify(network(16, ((2, 16), (1, 16)), groups, 4, bias=True))
    image = np.random.default_rng(0).normal(size=(1, 16, 16, 3)).astype("float32")
    expected = computed(graph, [image])["y0"]
    for _, other in written(graph):
        assert other is not graph
        assert networks.relative_difference(executed(other, image), expected) < 1e-4


def test_no_gather_or_group_is_left():
    lowered = assert_every_end_equivalent(network())[-1]
    kinds = {"convolution", "depthwise", "add", "mean", "concatenate_channels", "dense"}
    assert set(operators(lowered)) <= kinds  # parts are joined behind the mean
    assert all(node.op.groups == 1 for node in lowered if isinstance(node.op, ops.Convolution))


# --- where it may end ----------------------------------------------------------------------------------------------
def ends_of(b, *outputs):
    return ends(b.graph(*outputs))


def test_ends_are_pools_and_the_mean():
    graph = network(32, ((1, 4), (1, 4), (1, 4)))
    assert [graph[name].op.kind for name in ends(graph)] == ["average_pool", "average_pool", "mean"]


@pytest.mark.parametrize(
    ("size", "channels", "window", "stride", "padding"),
    [
        (16, 3, 3, 1, ((1, 1), (1, 1))),
        (16, 3, 3, 2, ((0, 0), (0, 0))),
        (16, 4, 3, 2, ((1, 1), (1, 1))),
        (16, 3, 5, 2, ((1, 1), (1, 1))),
    ],
)
def test_other_convolutions_are_no_stems(size, channels, window, stride, padding):
    """A part begins behind them."""
    b = Builder()
    x = b.convolution(b.input(size, size, channels), 12, window, stride, padding=padding)
    mean = b.mean(b.convolution(b.convolution(x, 12, groups=4), 12, groups=4))
    (region,) = sparse.regions(b.graph(mean))
    assert region.start == x
    assert region.ends == (mean,)


def test_odd_sizes_are_not_pooled():
    b = Builder()
    x = sparse_stem(b, 18)  # 9x9 behind the stem
    assert ends_of(b, b.mean(b.pool(x))) == [x]
    mean = b.mean(x)
    assert ends_of(b, mean) == [mean]


def test_other_pools_end_the_part():
    b = Builder()
    x = sparse_stem(b, 24)
    assert ends_of(b, b.mean(b.pool(x, 3))) == [x]


@pytest.mark.parametrize("kind", ["layer", "dilation", "stride", "5x5", "padding", "broadcast", "depthwise of 7x7"])
def test_unknown_operators_end_the_part(kind):
    b = Builder()
    x = sparse_stem(b, 32)
    if kind == "layer":
        y = b.add(ops.KerasCall(lambda tensors: [tensors[0] * 2]), [x], b.shape(x))
    elif kind == "depthwise of 7x7":
        y = b.add(ops.Depthwise(b.normal(7, 7, 8), padding=((3, 3), (3, 3))), [x], b.shape(x))
    elif kind == "broadcast":
        y = b.add(ops.Add(), [x, b.convolution(x, 8, 16, padding="valid")], b.shape(x))
    elif kind == "dilation":
        y = b.convolution(x, 8, 3, dilation=2)
    else:
        size, stride, padding = {"stride": (1, 2, "same"), "5x5": (5, 1, "same"), "padding": (3, 1, "valid")}[kind]
        y = b.convolution(x, 8, size, stride, padding=padding)
    assert ends_of(b, b.mean(y)) == [x]


def test_nothing_outside_reads_the_inside():
    b = Builder()
    x = sparse_stem(b, 32)
    pooled = b.pool(x)
    end = b.mean(pooled)
    assert ends_of(b, end) == [pooled, end]
    outside = b.add(ops.KerasCall(lambda tensors: tensors), [x], b.shape(x))
    assert ends_of(b, end, outside) == [x]
    assert ends_of(b, end, b.add(ops.KerasCall(lambda tensors: tensors), [pooled], b.shape(pooled))) == [pooled]
    assert ends_of(b, end, x) == [x]  # leaves the network
    assert ends_of(b, end, pooled) == [pooled]


def test_a_second_branch_is_not_cut_through():
    b = Builder()
    x = stem(b, 32)
    y, z = b.pool(x), b.pool(b.convolution(x, 8, groups=4))
    graph = b.graph(b.mean(y), b.mean(z))
    for _, other in written(graph):
        assert_equivalent(other, graph)


def test_the_input_may_be_read_elsewhere():
    b = Builder()
    x = stem(b)
    image = next(name for name, node in b.nodes.items() if not node.inputs)
    graph = b.graph(b.pool(b.convolution(x, 32, groups=8)), b.relu(image))
    assert_every_end_equivalent(graph, count=1)


def test_few_zeros_leave_the_graph_alone():
    b = Builder()
    graph = b.graph(b.mean(b.convolution(b.convolution(stem(b), 64, bias=True), 64)))
    assert ends(graph) == []
    graph = b.graph(b.mean(stem(b)))  # nothing that could be zero
    assert ends(graph) == []


def test_the_graph_is_not_changed():
    graph = simplify(network())
    before = [(node, copied(node.op)) for node in graph]
    list(written(graph))
    for node, attributes in before:
        assert all(np.array_equal(getattr(node.op, name), value) for name, value in attributes.items())
