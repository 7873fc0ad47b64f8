"""Learned groups with channels last: equal outputs in TensorFlow and the interpreter, and the operators aimed at."""

import numpy as np
import pytest
from graphs import (
    Builder,
    assert_equivalent,
    assert_unchanged,
    computed,
    copied,
    lower_channels_last,
    only,
    operators,
    simplify,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_condense.tflite import operators as ops
from keras_condense.tflite.passes import (
    keep_rows,
)
from keras_condense.tflite.runtime import native_output_logged, run_tflite
from keras_condense.tflite.tracing import emit

tf = pytest.importorskip("tensorflow")


def layer(b, x, growth, groups, factor, bias=False, window=3):
    """What `condense` makes of one layer, with inputs that are read twice and inputs that nobody reads."""
    channels = b.shape(x)[-1]
    indices = b.random.integers(0, channels, max(channels // factor, 1) * groups)
    y = b.index(b.affine(x, relu=True), indices)
    y = b.affine(b.shuffle(b.convolution(y, 4 * growth, groups=groups, bias=bias), groups), relu=True)
    return b.convolution(y, growth, window, groups=groups, bias=bias)


def network(size=8, blocks=((2, 8), (1, 16)), groups=4, factor=4, bias=False, seed=0, outputs_inside=False):
    b = Builder(seed)
    x = b.convolution(b.input(size, size, 3), 2 * blocks[0][1], 3, bias=bias)
    outputs = []
    for number, (count, growth) in enumerate(blocks):
        if number:
            x = b.pool(x)
        for _ in range(count):
            y = layer(b, x, growth, groups, factor, bias)
            x = b.concatenate(x, y)
            outputs += [x, y] if outputs_inside else []
    y = b.mean(b.affine(x, relu=True))
    y = b.index(y, b.random.permutation(b.shape(y)[-1])[::2])
    return b.graph(*outputs, b.dense(y, 5))


def executed(graph, image):
    """What the interpreter computes from a converted graph, and its operators."""
    module = tf.Module()
    signature = [tf.TensorSpec(image.shape, "float32", "image")]
    module.serve = tf.function(lambda x: emit(graph, [x]), input_signature=signature, autograph=False)
    with native_output_logged():
        function = module.serve.get_concrete_function()
        content = tf.lite.TFLiteConverter.from_concrete_functions([function], module).convert()
    return run_tflite(content, image)


# --- whole networks ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("groups", [2, 4, 8])
def test_groups_and_factors(groups, factor):
    blocks = ((2, groups), (1, 2 * groups))
    graph = simplify(network(8, blocks, groups, factor, bias=factor == 4, seed=groups))
    lowered = lower_channels_last(graph)
    assert_equivalent(lowered, graph)
    assert "affine" not in operators(lowered) or factor < groups  # where repeats make normalising late dearer
    picks = [node for node in lowered if isinstance(node.op, ops.PickChannels) and node.is_image]
    assert all(
        isinstance(lowered[node.inputs[0]].op, ops.Convolution) for node in picks
    )  # shuffles, which are no gathers


@settings(derandomize=True, deadline=None, max_examples=20)
@given(
    size=st.integers(4, 9),
    growth=st.integers(1, 5),
    groups=st.sampled_from([1, 2, 3, 4]),
    factor=st.integers(1, 8),
    bias=st.booleans(),
    outputs_inside=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_network(size, growth, groups, factor, bias, outputs_inside, seed):
    blocks = ((2, growth * groups), (2, growth * groups))
    graph = simplify(network(size, blocks, groups, factor, bias, seed, outputs_inside))
    assert_equivalent(lower_channels_last(graph), graph)


@pytest.mark.parametrize(("size", "groups"), [(8, 4), (7, 8)])
def test_interpreter_computes_the_same(size, groups):
    graph = simplify(network(size, ((2, 8), (1, 16)), groups))
    lowered = lower_channels_last(graph)
    image = np.random.default_rng(1).normal(size=(1, size, size, 3)).astype("float32")
    expected = computed(graph, [image])["y0"]
    np.testing.assert_allclose(executed(lowered, image), expected, atol=1e-5 * np.abs(expected).max())


def test_lowering_is_repeatable():
    first, second = (lower_channels_last(simplify(network())) for _ in range(2))
    assert_unchanged(first, second)
    for node, other in zip(first, second, strict=True):
        for key, value in copied(node.op).items():
            np.testing.assert_array_equal(value, getattr(other.op, key))


def test_network_without_groups_stays_as_it_is():
    b = Builder()
    x = b.relu(b.convolution(b.input(8, 8, 3), 8, 3, 2, bias=True))
    graph = b.graph(b.dense(b.mean(b.concatenate(x, b.depthwise(x))), 5))
    assert operators(lower_channels_last(graph)) == operators(graph)


# --- layouts -------------------------------------------------------------------------------------------------------
def test_rows_are_joined_and_gathered():
    b = Builder()
    x = b.input(4, 3, 6)
    store = b.concatenate(x, b.convolution(b.index(x, [5, 0, 0]), 2))
    graph = b.graph(b.convolution(b.index(store, [7, 2, 6]), 2))
    rows = only(keep_rows, graph)
    assert_equivalent(rows, graph)
    assert [op for op in operators(rows) if op != "transpose"] == [
        "pick_rows",
        "convolution",
        "concatenate_rows",
        "pick_rows",
        "convolution",
    ]


def test_sums_of_a_residual_network_stay_images():
    b = Builder()
    x = b.input(4, 4, 8)
    y = b.sum(x, b.convolution(x, 8))
    graph = b.graph(b.convolution(b.index(y, [7, 2, 6]), 4), b.sum(y, b.convolution(y, 8)))
    rows = only(keep_rows, graph)
    assert_equivalent(rows, graph)
    assert [node.shape for node in rows if isinstance(node.op, ops.Add)] == [(4, 4, 8)] * 2


def test_store_that_is_an_output_read_as_image_and_read_twice():
    b = Builder()
    x = b.input(4, 4, 3)
    first = b.concatenate(x, b.convolution(x, 2))
    second = b.concatenate(first, b.index(first, [4, 1]), first)
    graph = b.graph(second, b.pool(first), b.index(second, [9, 0]), b.relu(b.index(first, [1, 1])))
    assert_equivalent(only(keep_rows, graph), graph)


def test_concatenations_that_nobody_indexes_stay():
    b = Builder()
    x = b.input(4, 4, 4)
    graph = b.graph(b.shuffle(b.concatenate(x, b.convolution(x, 4)), 2))
    assert_unchanged(only(keep_rows, graph), graph)


def test_vectors_are_indexed_as_they_are():
    b = Builder()
    graph = b.graph(b.index(b.concatenate(b.mean(b.input(2, 2, 3)), b.mean(b.input(2, 2, 2))), [4, 0]))
    assert_unchanged(only(keep_rows, graph), graph)


def test_names_that_are_taken():
    b = Builder()
    x = b.convolution(b.input(4, 4, 4), 4, name="image")
    y = b.convolution(x, 4, name="image_rows")
    graph = b.graph(b.index(x, [3, 0, 1]), y)
    assert_equivalent(only(keep_rows, graph), graph)
