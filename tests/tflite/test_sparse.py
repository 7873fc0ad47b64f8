"""Learned groups as sparse convolutions: equal outputs, in TensorFlow and in the interpreter, at every cut."""

import numpy as np
import pytest
import tflite_networks as networks
from graphs import Builder, assert_equivalent, computed, copied, operators, simplify
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_condense.applications import CondenseNet
from keras_condense.conversion import condense
from keras_condense.tflite import operators as ops
from keras_condense.tflite.frontend import read_model
from keras_condense.tflite.passes import sparse
from keras_condense.tflite.runtime import native_output_logged, run_tflite
from keras_condense.tflite.tracing import emit

tf = pytest.importorskip("tensorflow")


def stem(b, size=16, filters=8, **arguments):
    return b.convolution(b.input(size, size, 3), filters, 3, 2, padding=((1, 1), (1, 1)), **arguments)


def layer(b, x, growth, groups, factor, bottleneck=4, indices=None, bias=False):
    """What `condense` makes of one layer, before the concatenation."""
    channels, middle = b.shape(x)[-1], bottleneck * growth
    if indices is None:
        indices = b.random.integers(0, channels, max(channels // factor, 1) * groups)
    y = b.affine(b.index(x, indices), relu=True)
    y = b.affine(b.shuffle(b.convolution(y, middle, groups=groups, bias=bias), groups), relu=True)
    return b.convolution(y, growth, 3, groups=groups, bias=bias)


def network(size=16, blocks=((2, 8), (1, 8)), groups=4, factor=4, bottleneck=4, bias=False, seed=0):
    b = Builder(seed)
    x = stem(b, size, 2 * blocks[0][1], bias=bias)
    for number, (count, growth) in enumerate(blocks):
        if number:
            x = b.pool(x)
        for _ in range(count):
            x = b.concatenate(x, layer(b, x, growth, groups, factor, bottleneck, bias=bias))
    return b.graph(b.dense(b.mean(b.affine(x, relu=True)), 5))


def assert_every_cut_equivalent(graph, cuts=None):
    """Lower at each cut and compare; gives the lowered graphs."""
    graph = simplify(graph)
    found = sparse.cuts(graph)
    assert found
    assert cuts is None or len(found) == cuts
    lowered = [sparse.run(graph, cut) for cut in found]
    for other, cut in zip(lowered, found, strict=True):
        assert other is not graph, cut
        assert_equivalent(other, graph)
        assert other[cut].shape == graph[cut].shape
    return lowered


def executed(graph, image):
    """What the interpreter computes from a converted graph."""
    converter_input = tf.TensorSpec(image.shape, "float32", "image")
    module = tf.Module()
    module.serve = tf.function(lambda x: emit(graph, [x]), input_signature=[converter_input], autograph=False)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.serve.get_concrete_function()], module)
    converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    with native_output_logged():
        content = converter.convert()
    return run_tflite(content, image)


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


# --- what is written where -----------------------------------------------------------------------------------------
def end(b, x):
    return b.graph(b.mean(x))


@pytest.mark.parametrize("repeats", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("filters", [4, 16])
def test_window_convolution_behind_an_index(groups, filters, repeats):
    b = Builder()
    x = stem(b)
    indices = b.random.integers(0, 4, 8) if repeats else b.random.permutation(8)
    y = b.convolution(b.index(x, indices), filters, 3, groups=groups, bias=True)
    assert_every_cut_equivalent(end(b, b.concatenate(x, y, layer(b, x, 16, 8, 8))))


def test_pointwise_convolution_behind_an_index_with_repeats():
    b = Builder()
    y = b.convolution(b.index(stem(b), [0, 0, 0, 1, 7, 7, 1, 0]), 32, groups=4)
    assert_every_cut_equivalent(end(b, y))


@pytest.mark.parametrize("count", [4, 6, 8])
def test_concatenation_that_begins_with_a_part_of_a_store(count):
    """As many rows as the store has, in the right order, but the rows behind them hold something already."""
    b = Builder()
    x = stem(b)
    x = b.concatenate(x, b.convolution(x, 8, groups=4))
    part = b.index(x, range(count))
    assert_every_cut_equivalent(end(b, b.concatenate(part, b.convolution(part, 16 - count, 1))))


def test_concatenation_that_ends_with_a_part_of_a_store():
    b = Builder()
    x = stem(b)
    x = b.concatenate(x, b.convolution(x, 8, groups=4))
    y = b.convolution(x, 8, groups=8)
    assert_every_cut_equivalent(end(b, b.concatenate(y, b.index(x, range(8, 16)))))


def test_concatenation_of_parts_behind_relu_and_pool():
    b = Builder()
    x = stem(b)
    x = b.concatenate(x, b.convolution(x, 8, groups=4))
    part = b.pool(b.relu(b.index(x, range(8))))
    assert_every_cut_equivalent(end(b, b.concatenate(part, b.convolution(part, 8, groups=4))))


def test_concatenation_of_three():
    b = Builder()
    x = stem(b)
    first, second = b.convolution(x, 4, groups=4, bias=True), layer(b, x, 8, 4, 2)
    x = b.concatenate(x, first, second)
    x = b.concatenate(x, layer(b, x, 4, 4, 4))
    assert_every_cut_equivalent(end(b, x))


def test_concatenation_whose_first_input_is_new():
    b = Builder()
    x = stem(b)
    y = b.concatenate(layer(b, x, 4, 4, 4), x)
    assert_every_cut_equivalent(end(b, b.concatenate(b.convolution(y, 8, groups=4), y, b.relu(y))))


def test_concatenation_of_a_value_with_itself():
    b = Builder()
    x = stem(b)
    y = b.convolution(x, 4, groups=4)
    assert_every_cut_equivalent(end(b, b.concatenate(x, y, y, x)))


def test_concatenations_that_branch():
    """Two chains grow from one store, with different widths."""
    b = Builder()
    x = stem(b)
    x = b.concatenate(x, b.convolution(x, 8, groups=4))
    short = b.concatenate(x, b.convolution(x, 4, groups=2, relu=True))
    long = b.concatenate(x, b.convolution(x, 16, groups=8))
    both = b.concatenate(short, long)
    assert_every_cut_equivalent(end(b, b.affine(both, relu=True)))


def test_concatenation_that_is_read_by_a_convolution_a_pool_and_a_concatenation():
    b = Builder()
    x = stem(b, 16)
    x = b.concatenate(x, layer(b, x, 8, 4, 4))
    pooled = b.pool(x)
    x = b.pool(b.concatenate(x, layer(b, x, 8, 4, 4)))
    assert_every_cut_equivalent(end(b, b.concatenate(x, pooled)))


def test_convolution_with_two_readers():
    b = Builder()
    x = stem(b)
    y = b.convolution(x, 8, groups=8, bias=True)
    x = b.concatenate(x, y)
    assert_every_cut_equivalent(end(b, b.concatenate(x, b.convolution(y, 8, groups=4))))


@pytest.mark.parametrize("relu", [False, True])
def test_stem_with_bias(relu):
    b = Builder()
    x = stem(b, bias=True, relu=relu)
    assert_every_cut_equivalent(end(b, b.concatenate(b.convolution(x, 8, groups=8), x)))


def test_sums():
    b = Builder()
    x = stem(b)
    y, z = b.convolution(x, 8, groups=4), b.convolution(x, 8, groups=8)
    same = b.sum(y, y)
    other = b.sum(b.index(y, [7, 6, 5, 4, 3, 2, 1, 0]), b.shuffle(z, 2))
    repeated = b.sum(b.index(y, [0, 0, 1, 1, 2, 2, 3, 3]), z)
    assert_every_cut_equivalent(end(b, b.concatenate(same, other, repeated, b.sum(x, same))))


def test_sum_of_stores():
    b = Builder()
    x = stem(b)
    x = b.concatenate(x, b.convolution(x, 8, groups=4))
    x = b.sum(x, b.relu(x))
    assert_every_cut_equivalent(end(b, b.concatenate(x, b.convolution(x, 8, groups=8))))


def test_relu_of_an_index():
    b = Builder()
    x = stem(b)
    y = b.relu(b.index(x, [3, 3, 0, 1, 7, 2, 3, 6]))
    assert_every_cut_equivalent(end(b, b.concatenate(x, b.convolution(y, 8, groups=4), y)))


@pytest.mark.parametrize("first", [2, 4])
def test_shuffles_of_two_kinds(first):
    b = Builder()
    x = b.convolution(stem(b), 16, groups=8)
    x = b.affine(b.shuffle(b.relu(b.shuffle(x, first)), 8))
    assert_every_cut_equivalent(end(b, b.convolution(b.shuffle(x, 16 // first), 8, 3, groups=8)))


def test_channels_that_nobody_reads():
    b = Builder()
    x = stem(b)
    y = b.affine(b.concatenate(x, b.convolution(x, 8, groups=4)), relu=True)
    lowered = assert_every_cut_equivalent(end(b, b.convolution(b.index(y, [12, 1, 1, 5]), 8, groups=4)))
    assert lowered[0][y].channels == 3


def test_a_concatenated_value_that_nobody_reads():
    """An index takes nothing of the norm's channels."""
    b = Builder()
    x = stem(b)
    unread = b.affine(b.relu(x))
    x = b.index(b.concatenate(x, unread, b.convolution(x, 8, groups=4)), [0, 5, 23, 16])
    assert_every_cut_equivalent(end(b, b.convolution(x, 16, groups=4)))


def test_pooled_channels_that_are_no_multiple_of_four():
    b = Builder()
    x = stem(b, filters=6)
    x = b.pool(b.concatenate(x, b.convolution(x, 3, groups=3), b.convolution(x, 6, groups=6)))
    assert_every_cut_equivalent(b.graph(x), cuts=1)


def test_names_that_are_taken():
    b = Builder()
    x = stem(b, size=16)
    x = b.convolution(x, 16, groups=8, name="c_windows")
    x = b.convolution(x, 8, 3, groups=4, name="c")
    x = b.pool(b.convolution(x, 16, groups=8, name="c_copies"))
    assert_every_cut_equivalent(b.graph(b.relu(b.convolution(x, 4, 1, name=f"{x}_rows"))))


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
