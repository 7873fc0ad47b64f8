"""Each rewriting alone: outputs stay equal, and operators go where, and only where, that can be proven."""

import keras
import numpy as np
import pytest
import tflite_networks as networks
from graphs import Builder, assert_equivalent, only, operators, simplify
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_condense.tflite.frontend import read_model
from keras_condense.tflite.passes import (
    compose_picks,
    fold_norms,
    fold_pads,
    fold_permutations,
    fuse_relu,
    merge_pointwise,
)

pytest.importorskip("tensorflow")


def rewritten(each, graph, expected):
    """The rewritten graph, if its outputs are equal and its operators are as expected."""
    other = simplify(graph) if each is None else only(each, graph)
    assert_equivalent(other, graph)
    assert sorted(operators(other)) == sorted(expected)
    assert {node.name: node.shape for node in other}.items() <= {node.name: node.shape for node in graph}.items()
    return other


# --- zeros around images -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("stride", [1, 2])
def test_pad_before_convolution(padding, stride):
    b = Builder()
    y = b.convolution(b.pad(b.input(8, 8, 3), ((1, 0), (2, 3))), 4, 3, stride, padding=padding)
    rewritten(fold_pads, b.graph(y), ["convolution"])


def test_pad_before_depthwise():
    b = Builder()
    rewritten(fold_pads, b.graph(b.depthwise(b.pad(b.input(6, 6, 3)), bias=True)), ["depthwise"])


def test_pad_before_convolution_with_dilation():
    b = Builder()
    x = b.pad(b.input(8, 8, 3), ((2, 2), (2, 2)))
    y = b.convolution(x, 4, 3, dilation=2, padding="valid")
    rewritten(fold_pads, b.graph(y), ["convolution"])


def test_one_pad_of_two_is_folded():
    b = Builder()
    y = b.convolution(b.pad(b.pad(b.input(6, 6, 3))), 4, 3)
    rewritten(fold_pads, b.graph(y), ["pad", "convolution"])


def test_pad_stays_where_another_reads_it():
    b = Builder()
    x = b.pad(b.input(6, 6, 3))
    y, z = b.convolution(x, 4, 3), b.convolution(x, 4, 3)
    rewritten(fold_pads, b.graph(y, z), ["pad", "convolution", "convolution"])
    rewritten(fold_pads, b.graph(y, x), ["pad", "convolution"])
    rewritten(fold_pads, b.graph(b.relu(b.pad(y))), ["pad", "convolution", "relu"])


# --- indices -------------------------------------------------------------------------------------------------------
def test_index_of_index():
    b = Builder()
    x = b.index(b.input(3, 3, 4), [3, 1, 0, 0, 2])
    x = b.index(b.index(x, [4, 4, 0]), [2, 0, 1, 2])
    other = rewritten(compose_picks, b.graph(x), ["pick_channels"])
    np.testing.assert_array_equal(other[x].op.indices, [3, 2, 2, 3])


def test_shuffles_that_undo_each_other():
    b = Builder()
    x = b.input(3, 3, 12)
    rewritten(compose_picks, b.graph(b.relu(b.shuffle(b.shuffle(x, 3), 4))), ["relu"])
    rewritten(compose_picks, b.graph(b.shuffle(b.shuffle(x, 3), 3)), ["pick_channels"])
    rewritten(compose_picks, b.graph(b.shuffle(b.shuffle(x, 3), 4)), [])  # the input itself leaves


def test_index_of_everything_goes_and_of_a_part_stays():
    b = Builder()
    x = b.input(3, 3, 4)
    rewritten(compose_picks, b.graph(b.relu(b.index(x, range(4)))), ["relu"])
    rewritten(compose_picks, b.graph(b.relu(b.index(x, range(3)))), ["pick_channels", "relu"])


def test_index_that_others_read_stays_beside_the_composed_one():
    b = Builder()
    first = b.index(b.input(3, 3, 4), [2, 1, 0])
    y, z = b.index(first, [0, 2]), b.relu(first)
    rewritten(compose_picks, b.graph(y, z), ["pick_channels", "pick_channels", "relu"])
    rewritten(compose_picks, b.graph(y, first), ["pick_channels", "pick_channels"])


def test_relu_keeps_indices_apart():
    b = Builder()
    x = b.index(b.relu(b.index(b.input(3, 3, 4), [2, 1, 0])), [0, 2])
    rewritten(compose_picks, b.graph(x), ["pick_channels", "relu", "pick_channels"])


@given(st.integers(0, 10**6))
@settings(max_examples=15)
def test_chains_of_indices(seed):
    random = np.random.default_rng(seed)
    b = Builder(seed)
    x = b.input(2, 2, int(random.integers(1, 7)))
    read = []
    for _ in range(random.integers(1, 6)):
        channels = b.shape(x)[-1]
        is_permutation = random.random() < 0.5
        indices = (
            random.permutation(channels) if is_permutation else random.integers(0, channels, random.integers(1, 7))
        )
        x = b.index(x, indices)
        if random.random() < 0.3:
            read.append(b.relu(x))
    graph = b.graph(x, *read)
    other = only(compose_picks, graph)
    assert_equivalent(other, graph)
    assert not any(
        other[node.inputs[0]].op.kind == "pick_channels" for node in other if node.op.kind == "pick_channels"
    )


# --- norms behind convolutions -------------------------------------------------------------------------------------
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_affine_behind_convolution(bias, relu):
    b = Builder()
    x = b.input(5, 5, 4)
    for y in (b.convolution(x, 8, 3, groups=2, bias=bias), b.depthwise(x, bias=bias)):
        op = b.nodes[y].op.kind
        rewritten(fold_norms, b.graph(b.affine(y, relu=relu)), [op])


@pytest.mark.parametrize("relu", [False, True])
def test_affine_behind_permutation(relu):
    b = Builder()
    x = b.convolution(b.input(5, 5, 4), 12, groups=4)
    rewritten(fold_norms, b.graph(b.affine(b.shuffle(x, 4), relu=relu)), ["convolution", "pick_channels"])
    order = b.index(x, np.random.default_rng(0).permutation(12))
    rewritten(fold_norms, b.graph(b.affine(order)), ["convolution", "pick_channels"])


@pytest.mark.parametrize("indices", [[0, 1, 2], [3, 1, 2, 1], [0, 0, 1, 2, 3]])
def test_affine_behind_an_index_that_is_no_permutation(indices):
    b = Builder()
    x = b.index(b.convolution(b.input(5, 5, 4), 4), indices)
    rewritten(fold_norms, b.graph(b.affine(x)), ["convolution", "pick_channels", "affine"])


def test_affine_behind_a_value_that_is_read_elsewhere():
    b = Builder()
    x = b.convolution(b.input(5, 5, 4), 4)
    y = b.affine(x)
    rewritten(fold_norms, b.graph(y, b.relu(x)), ["convolution", "affine", "relu"])
    rewritten(fold_norms, b.graph(y, x), ["convolution", "affine", "relu"][:2])


@pytest.mark.parametrize("which", ["convolution", "index"])
@pytest.mark.parametrize("leaves", [False, True])
def test_affine_behind_a_permutation_that_is_read_elsewhere(which, leaves):
    b = Builder()
    x = b.convolution(b.input(5, 5, 4), 4)
    order = b.shuffle(x, 2)
    y = b.affine(order)
    other = x if which == "convolution" else order
    others = [other] if leaves else [b.mean(other)]
    rewritten(
        fold_norms, b.graph(y, *others), ["convolution", "pick_channels", "affine", *([] if leaves else ["mean"])]
    )


def test_affine_behind_relu():
    b = Builder()
    x = b.input(5, 5, 4)
    rewritten(fold_norms, b.graph(b.affine(b.relu(b.convolution(x, 4)))), ["convolution", "relu", "affine"])
    rewritten(fold_norms, b.graph(b.affine(b.convolution(x, 4, relu=True))), ["convolution", "affine"])


def test_two_norms_on_one_another():
    b = Builder()
    first = b.affine(b.convolution(b.input(5, 5, 4), 4), relu=True)
    rewritten(fold_norms, b.graph(b.affine(first)), ["convolution", "affine"])


# --- ReLU ----------------------------------------------------------------------------------------------------------
def test_relu_behind_what_can_apply_it():
    b = Builder()
    x = b.input(5, 5, 4)
    for y in (b.convolution(x, 4), b.depthwise(x), b.affine(x)):
        rewritten(fuse_relu, b.graph(b.relu(y)), [b.nodes[y].op.kind])
        rewritten(fuse_relu, b.graph(b.relu(b.index(y, [3, 3, 0]))), [b.nodes[y].op.kind, "pick_channels"])
        rewritten(fuse_relu, b.graph(b.relu(b.relu(y))), [b.nodes[y].op.kind])


def test_relu_behind_what_cannot():
    b = Builder()
    x = b.input(6, 6, 4)
    for y in (b.pool(x), b.sum(x, x), b.concatenate(x, x), b.index(x, [0, 1])):
        rewritten(fuse_relu, b.graph(b.relu(y)), [b.nodes[y].op.kind, "relu"])
    rewritten(fuse_relu, b.graph(b.relu(x)), ["relu"])


@pytest.mark.parametrize("which", ["convolution", "index"])
@pytest.mark.parametrize("leaves", [False, True])
def test_relu_behind_a_value_that_is_read_elsewhere(which, leaves):
    b = Builder()
    x = b.convolution(b.input(5, 5, 4), 4)
    order = b.shuffle(x, 2)
    y = b.relu(order)
    other = x if which == "convolution" else order
    others = [other] if leaves else [b.mean(other)]
    rewritten(fuse_relu, b.graph(y, *others), ["convolution", "pick_channels", "relu", *([] if leaves else ["mean"])])


def test_relu_with_several_readers():
    b = Builder()
    x = b.relu(b.convolution(b.input(5, 5, 4), 4))
    rewritten(fuse_relu, b.graph(x, b.relu(x), b.mean(x)), ["convolution", "mean"])


# --- all of them ---------------------------------------------------------------------------------------------------
# --- 1x1 convolutions ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("bias", [False, True])
def test_pointwise_convolutions_become_one(groups, bias):
    b = Builder()
    y = b.convolution(b.convolution(b.input(4, 4, 8), 16, groups=groups), 16, bias=bias, relu=True)
    other = rewritten(merge_pointwise, b.graph(y), ["convolution"])
    assert [node.op.kernel.shape for node in other if node.inputs] == [(1, 1, 8, 16)]


@pytest.mark.parametrize("first", [{"bias": True}, {"relu": True}, {"size": 3}, {"stride": 2}])
def test_pointwise_convolution_stays_behind_more_than_a_product(first):
    b = Builder()
    y = b.convolution(b.convolution(b.input(4, 4, 8), 16, **first), 16)
    rewritten(merge_pointwise, b.graph(y), ["convolution", "convolution"])


def test_pointwise_convolutions_that_are_cheaper_apart_stay():
    b = Builder()
    narrow = b.convolution(b.convolution(b.input(4, 4, 8), 2), 8)
    grouped = b.convolution(b.convolution(b.input(4, 4, 8), 16), 16, groups=2)
    read = b.convolution(b.input(4, 4, 8), 16)
    graph = b.graph(narrow, grouped, b.convolution(read, 16), read)
    rewritten(merge_pointwise, graph, ["convolution"] * 6)


@pytest.mark.parametrize("size", [1, 3])
def test_convolution_reads_channels_in_the_order_before_a_shuffle(size):
    b = Builder()
    x = b.shuffle(b.input(4, 4, 6), 2)
    rewritten(fold_permutations, b.graph(b.convolution(x, 5, size)), ["convolution"])
    rewritten(fold_permutations, b.graph(b.convolution(x, 5, size), x), ["convolution", "pick_channels"])
    rewritten(fold_permutations, b.graph(b.convolution(x, 4, size, groups=2)), ["convolution", "pick_channels"])
    rewritten(
        fold_permutations,
        b.graph(b.convolution(b.index(x, [0, 0, 1]), 5)),
        ["convolution", "pick_channels", "pick_channels"],
    )


def test_condensed_layer():
    """Index, norm and ReLU of the inputs stay; the norm behind the shuffle and its ReLU go."""
    b = Builder()
    x = b.input(5, 5, 8)
    y = b.relu(b.affine(b.index(x, [0, 0, 7, 2])))
    y = b.relu(b.affine(b.shuffle(b.convolution(y, 8, groups=2), 2)))
    y = b.convolution(b.pad(y), 4, 3, groups=2, padding="valid")
    other = rewritten(
        None,
        b.graph(b.concatenate(x, y)),
        ["pick_channels", "affine", "convolution", "pick_channels", "convolution", "concatenate_channels"],
    )
    assert [node.op.relu for node in other if node.op.kind in ("affine", "convolution")] == [True, True, False]


@pytest.mark.parametrize("use_bias", [False, True])
def test_condensed_network(use_bias):
    model = networks.condensed(use_bias=use_bias)
    graph = read_model(model, ["image"], ["logits"])
    assert_equivalent(simplify(graph), graph)
    count = operators(simplify(graph)).count
    # a layer keeps its first norm and its second index; a block has two layers, and one norm ends the network
    assert (count("affine"), count("pick_channels"), count("relu"), count("convolution")) == (5, 8, 0, 9)


def test_densely_connected_network_of_keras():
    model = keras.applications.DenseNet121(input_shape=(32, 32, 3), weights=None, classes=5)
    graph = read_model(networks.randomize(model), ["image"], ["probabilities"])
    other = simplify(graph)
    assert_equivalent(other, graph)
    assert "relu" not in operators(other)


@given(st.integers(0, 10**6))
@settings(max_examples=20)
def test_random_graphs(seed):
    """Any order of operators, with any values read twice or leaving the network."""
    random = np.random.default_rng(seed)
    b = Builder(seed)
    values = [b.input(4, 4, 4)]
    for _ in range(12):
        x = values[-1] if random.random() < 0.75 else values[random.integers(len(values))]
        channels = b.shape(x)[-1]
        kind = random.choice(["convolution", "depthwise", "affine", "relu", "index", "shuffle", "pad", "sum"])
        if kind == "convolution":
            x = b.convolution(
                x,
                4,
                int(random.integers(1, 4)),
                groups=int(random.choice([1, channels])) if channels in (1, 2, 4) else 1,
            )
        elif kind == "index":
            x = b.index(x, random.integers(0, channels, random.integers(1, 6)))
        elif kind == "shuffle":
            x = b.index(x, random.permutation(channels))
        elif kind == "sum":
            x = b.sum(x, x)
        else:
            x = getattr(b, kind)(x)
        values.append(x)
    outputs = [values[-1], *random.choice(values, 2)]
    graph = b.graph(*dict.fromkeys(map(str, outputs)))
    other = simplify(graph)
    assert_equivalent(other, graph)
    assert len(other.nodes) <= len(graph.nodes)
