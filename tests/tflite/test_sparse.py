"""Learned groups as sparse convolutions: equal outputs, in TensorFlow and in the interpreter, at every cut."""

import numpy as np
import pytest
import tflite_networks as networks
from graphs import Builder, assert_equivalent, computed, copied, operators, simplify
from hypothesis import given, settings
from hypothesis import strategies as st
from sparse_networks import assert_every_cut_equivalent, executed, network, stem

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
    assert_every_cut_equivalent(graph, cuts=2)


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
    assert_every_cut_equivalent(b.graph(b.dense(b.mean(b.affine(b.pool(x), relu=True)), 5)), cuts=2)


@pytest.mark.parametrize(("size", "blocks"), [(24, ((1, 4), (2, 4), (1, 8))), (16, ((3, 4),)), (32, ((1, 4),) * 4)])
def test_blocks_and_sizes(size, blocks):
    assert_every_cut_equivalent(network(size, blocks, 4, 4), cuts=len(blocks))


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
    for cut in sparse.cuts(graph):
        assert_equivalent(sparse.run(graph, cut), graph)


def test_condensed_network_of_the_zoo():
    """From Keras to the interpreter."""
    model = CondenseNet((2, 2), (8, 16), groups=8, condense_factor=8, weights=None, input_shape=(32, 32, 3), classes=5)
    model = networks.randomize(condense(model, finish=True))
    graph = simplify(read_model(model, ["image"], ["classes"]))
    image = networks.images(1, 32, 32, 3)
    cuts = sparse.cuts(graph)
    assert [graph[cut].op.kind for cut in cuts] == ["average_pool", "mean"]
    for cut in cuts:
        actual = computed(sparse.run(graph, cut), [image])["classes"]
        assert networks.relative_difference(actual, networks.reference(model, image)) < 1e-5
    actual = executed(sparse.run(graph, cuts[-1]), image)
    assert networks.relative_difference(actual, networks.reference(model, image)) < 1e-4


@pytest.mark.parametrize("groups", [2, 8])
def test_in_the_interpreter(groups):
    graph = simplify(network(16, ((2, 16), (1, 16)), groups, 4, bias=True))
    image = np.random.default_rng(0).normal(size=(1, 16, 16, 3)).astype("float32")
    expected = computed(graph, [image])["y0"]
    for cut in sparse.cuts(graph):
        other = sparse.run(graph, cut)
        assert other is not graph
        assert networks.relative_difference(executed(other, image), expected) < 1e-4


def test_no_gather_or_group_is_left():
    lowered = assert_every_cut_equivalent(network())[-1]
    assert set(operators(lowered)) == {"convolution", "depthwise", "add", "mean", "pick_channels", "dense"}
    assert all(node.op.groups == 1 for node in lowered if isinstance(node.op, ops.Convolution))


# --- where it may end ----------------------------------------------------------------------------------------------
def cuts_of(b, *outputs):
    return sparse.cuts(b.graph(*outputs))


def test_cuts_are_pools_and_the_mean():
    graph = network(32, ((1, 4), (1, 4), (1, 4)))
    assert [graph[name].op.kind for name in sparse.cuts(graph)] == ["average_pool", "average_pool", "mean"]


@pytest.mark.parametrize(
    ("size", "channels", "window", "stride", "padding"),
    [
        (16, 3, 3, 1, ((1, 1), (1, 1))),
        (16, 3, 3, 2, ((0, 1), (0, 1))),
        (16, 4, 3, 2, ((1, 1), (1, 1))),
        (16, 3, 5, 2, ((1, 1), (1, 1))),
    ],
)
def test_no_cuts_without_a_stem(size, channels, window, stride, padding):
    b = Builder()
    x = b.convolution(b.input(size, size, channels), 8, window, stride, padding=padding)
    assert cuts_of(b, b.mean(x)) == []


def test_no_cuts_where_the_stem_reads_no_input():
    b = Builder()
    x = b.convolution(b.relu(b.input(16, 16, 3)), 8, 3, 2, padding=((1, 1), (1, 1)))
    assert cuts_of(b, b.mean(x)) == []


def test_odd_sizes_are_not_pooled():
    b = Builder()
    x = stem(b, 18)  # 9x9 behind the stem
    assert cuts_of(b, b.mean(b.pool(x))) == []
    assert cuts_of(b, b.mean(x)) != []


def test_other_pools_end_the_part():
    b = Builder()
    x = stem(b, 24)
    assert cuts_of(b, b.mean(b.pool(x, 3))) == []


@pytest.mark.parametrize("kind", ["layer", "depthwise", "stride", "5x5", "padding", "sum of three", "broadcast"])
def test_unknown_operators_end_the_part(kind):
    b = Builder()
    x = b.pool(stem(b, 32))
    if kind == "layer":
        y = b.add(ops.KerasCall(lambda tensors: [tensors[0] * 2]), [x], b.shape(x))
    elif kind == "depthwise":
        y = b.depthwise(x)
    elif kind == "sum of three":
        y = b.sum(x, x, x)
    elif kind == "broadcast":
        y = b.add(ops.Add(), [x, b.convolution(x, 8, 8, padding="valid")], b.shape(x))
    else:
        size, stride, padding = {"stride": (1, 2, "same"), "5x5": (5, 1, "same"), "padding": (3, 1, "valid")}[kind]
        y = b.convolution(x, 8, size, stride, padding=padding)
    assert cuts_of(b, b.mean(y)) == [x]


def test_nothing_outside_reads_the_inside():
    b = Builder()
    x = stem(b, 32)
    pooled = b.pool(x)
    end = b.mean(pooled)
    assert cuts_of(b, end) == [pooled, end]
    assert cuts_of(b, end, b.depthwise(x)) == []
    assert cuts_of(b, end, b.depthwise(pooled)) == [pooled]
    assert cuts_of(b, end, x) == []  # leaves the network
    assert cuts_of(b, end, pooled) == [pooled]


def test_a_second_branch_is_not_cut_through():
    b = Builder()
    x = stem(b, 32)
    y, z = b.pool(x), b.pool(b.convolution(x, 8, groups=4))
    graph = b.graph(b.mean(y), b.mean(z))
    for cut in sparse.cuts(graph):
        assert_equivalent(sparse.run(graph, cut), graph)


def test_the_input_may_be_read_elsewhere():
    b = Builder()
    x = stem(b)
    image = next(name for name, node in b.nodes.items() if not node.inputs)
    graph = b.graph(b.pool(b.convolution(x, 32, groups=8)), b.relu(image))
    assert_every_cut_equivalent(graph, cuts=1)


def test_few_zeros_leave_the_graph_alone():
    b = Builder()
    graph = b.graph(b.mean(b.convolution(b.convolution(stem(b), 64, bias=True), 64)))
    assert sparse.run(graph, sparse.cuts(graph)[0]) is graph
    graph = b.graph(b.mean(stem(b)))  # nothing that could be zero
    assert sparse.run(graph, sparse.cuts(graph)[0]) is graph


def test_the_graph_is_not_changed():
    graph = simplify(network())
    before = [(node, copied(node.op)) for node in graph]
    sparse.run(graph, sparse.cuts(graph)[-1])
    for node, attributes in before:
        assert all(np.array_equal(getattr(node.op, name), value) for name, value in attributes.items())
