"""Learned groups with channels last: equal outputs in TensorFlow and the interpreter, and the operators aimed at."""

import numpy as np
import pytest
from graphs import (
    Builder,
    assert_equivalent,
    computed,
    copied,
    lower_channels_last,
    only,
    operators,
    simplify,
    with_costs,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_condense.tflite import operators as ops
from keras_condense.tflite.passes import (
    block_pixels,
    group_reactivations,
    keep_rows,
    limit_instead_of_norm,
    pick_first,
    split_windows,
)
from keras_condense.tflite.runtime import native_output_logged, run_tflite
from keras_condense.tflite.tracing import emit

tf = pytest.importorskip("tensorflow")

# a depthwise convolution that costs nothing is always chosen, and one that costs much never
FREE_WINDOWS = with_costs({"depthwise": {}, "convolution": {}, "add": {}})
DEAR_WINDOWS = with_costs({"depthwise": {"outputs": 1e6}})


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


def assert_unchanged(rewritten, graph):
    assert [(node.name, node.op.kind, node.inputs) for node in rewritten] == [
        (node.name, node.op.kind, node.inputs) for node in graph
    ]


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


# --- norm and index ------------------------------------------------------------------------------------------------
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


# --- few filters per group -----------------------------------------------------------------------------------------
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


# --- reactivations -------------------------------------------------------------------------------------------------
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


def test_sums_of_a_residual_network_stay_images():
    b = Builder()
    x = b.input(4, 4, 8)
    y = b.sum(x, b.convolution(x, 8))
    graph = b.graph(b.convolution(b.index(y, [7, 2, 6]), 4), b.sum(y, b.convolution(y, 8)))
    rows = only(keep_rows, graph)
    assert_equivalent(rows, graph)
    assert [node.shape for node in rows if isinstance(node.op, ops.Add)] == [(4, 4, 8)] * 2


@pytest.mark.parametrize("relu", [True, False])
def test_split_convolution_beside_a_store_of_rows_keeps_its_relu(relu):
    b = Builder()
    x = b.input(8, 8, 8)
    store = b.concatenate(x, b.convolution(x, 12, 3, groups=4, relu=relu))
    graph = b.graph(b.index(store, [19, 3, 12, 9]))
    split = lower_channels_last(graph, FREE_WINDOWS)
    assert operators(split).count("depthwise") == 3
    assert_equivalent(split, graph)


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


@pytest.mark.parametrize("suffix", ["_maximum", "_minimum"])
def test_limits_beside_a_layer_of_their_name(suffix):
    b = Builder()
    x = b.input(4, 4, 8)
    y = b.affine(x, relu=True, name="bn")
    z = b.affine(b.convolution(x, 8), name=f"bn{suffix}")
    graph = b.graph(b.convolution(y, 4), z)
    assert_equivalent(only(limit_instead_of_norm, graph), graph)


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
