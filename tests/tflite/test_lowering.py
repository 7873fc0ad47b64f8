"""The choice among ways of writing a network down: every choice is exact, the report says what was considered."""

import logging

import keras
import numpy as np
import pytest
import tflite_networks as networks
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_condense as kc
from keras_condense.tflite import operators as ops
from keras_condense.tflite.frontend import read_model
from keras_condense.tflite.graph import Graph, Node
from keras_condense.tflite.lowering import candidates, cheapest, lowering_targets
from keras_condense.tflite.targets import graph_costs, node_cost, targets

pytestmark = pytest.mark.slow  # all of it, together


# float32 sums in another order; scales that move into a kernel and back cost a digit more
PARITY = 1e-4


def condensenet(groups=4, condense_factor=4, stem_strides=2, size=32, growth=8, seed=0):
    """A finished CondenseNet with random batch norms, negative scales too."""
    keras.utils.set_random_seed(seed)
    model = kc.applications.CondenseNet(
        (2, 2),
        (growth, 2 * growth),
        groups=groups,
        condense_factor=condense_factor,
        classifier_condense_factor=2,
        stem_strides=stem_strides,
        input_shape=(size, size, 3),
        classes=10,
        classifier_activation=None,
    )
    for layer in kc.layers.condensable_layers(model):
        layer.condense_to(layer.final_stage)
    return networks.randomize(model, seed)


def difference(content, model, size):
    rows = networks.images(2, size, size, 3)
    return networks.relative_difference(kc.run_tflite(content, rows), networks.reference(model, rows))


@pytest.mark.parametrize("target", lowering_targets())
@pytest.mark.parametrize("stem_strides", [1, 2])
def test_every_target_is_exact(target, stem_strides):
    model = condensenet(stem_strides=stem_strides)
    assert difference(kc.export_tflite(model, target=target), model, 32) < PARITY


@settings(derandomize=True, deadline=None, max_examples=6)
@given(
    groups=st.sampled_from([2, 4, 8]),
    condense_factor=st.sampled_from([2, 4, 8]),
    stem_strides=st.sampled_from([1, 2]),
    size=st.sampled_from([30, 32, 36]),
    seed=st.integers(0, 9),
)
@pytest.mark.slow
def test_every_candidate_is_exact(groups, condense_factor, stem_strides, size, seed):
    from keras_condense.tflite.converter import convert_graph

    model = condensenet(groups, condense_factor, stem_strides, size, seed=seed)
    small = kc.condense(model)
    for _, graph, _ in candidates(read_model(small, ["image"], ["logits"]), targets()["arm64"]):
        assert difference(convert_graph(graph, small), model, size) < PARITY


@pytest.mark.parametrize("target", ["arm64", "x86_64"])
def test_reactivated_network_is_exact(target):
    model = kc.applications.CondenseNetV2(
        (1, 2, 1, 2),
        (8, 8, 16, 32),
        groups=8,
        condense_factor=8,
        hidden_units=24,
        input_shape=(64, 64, 3),
        classes=10,
        classifier_activation=None,
    )
    for layer in kc.layers.condensable_layers(model):
        layer.condense_to(layer.final_stage)
    networks.randomize(model, 0)
    content = kc.export_tflite(model, target=target)
    assert difference(content, model, 64) < PARITY
    assert set(kc.benchmark_tflite(content, runs=1, warmup=1).undelegated) <= {"GATHER"}


def test_report_lists_layers_and_alternatives(capsys):
    kc.export_tflite(condensenet(), report=True)
    printed = capsys.readouterr().out
    for part in ("arm64: ", "one to one", "channels last", "sparse to ", "block1_layer1_1_conv", "total"):
        assert part in printed


def test_report_says_when_there_is_nothing_to_lower(capsys):
    kc.export_tflite(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]), report=True)
    assert "exported layer by layer" in capsys.readouterr().out


def test_unknown_target_is_refused_before_a_file_is_written(tmp_path):
    path = tmp_path / "model.tflite"
    with pytest.raises(ValueError, match=r"`target` \(='riscv'\) must be one of 'arm64', 'wasm', 'x86_64', 'measure'"):
        kc.export_tflite(condensenet(), path, target="riscv")
    assert not path.exists()


def test_same_model_gives_same_bytes():
    assert kc.export_tflite(condensenet()) == kc.export_tflite(condensenet())


@pytest.mark.parametrize("quantize", ["float16", "dynamic"])
def test_quantized_files_agree_roughly(quantize):
    model = condensenet()
    # half precision keeps three digits, int8 weights two
    assert difference(kc.export_tflite(model, quantize=quantize), model, 32) < 0.1


def test_log_names_operators_outside_xnnpack(caplog):
    model = condensenet()
    with caplog.at_level(logging.INFO, "keras_condense.tflite"):
        content = kc.export_tflite(model)
    outside = kc.benchmark_tflite(content, runs=1, warmup=1).undelegated
    assert outside, "the network is too small to have an index of rows"
    assert f"{model.name}: outside XNNPACK: {len(outside)} of " in caplog.text
    assert f"{outside.count('GATHER')} GATHER" in caplog.text


def test_file_larger_than_its_weights_explain_is_announced(caplog):
    model = condensenet(size=8, stem_strides=1, growth=32)
    with caplog.at_level(logging.WARNING, "keras_condense.tflite"):
        content = kc.export_tflite(model, target="x86_64")
    weights = 4 * kc.condense(model).count_params()
    assert len(content) > 1.15 * weights, "no zeros were stored"
    assert f"{len(content):,} bytes, {len(content) / weights:.2f} times its weights' {weights:,}" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, "keras_condense.tflite"):
        assert len(kc.export_tflite(model)) < 1.1 * weights
    assert not caplog.text


def test_cheapest_candidate_is_chosen():
    lowering = cheapest(read_model(kc.condense(condensenet(size=64)), ["image"], ["logits"]), targets()["arm64"])
    assert lowering.totals[lowering.chosen] == min(lowering.totals.values())
    for name, total in lowering.totals.items():
        assert sum(layer.get(name, 0.0) for layer in lowering.layers.values()) == pytest.approx(total)


def test_costs_of_a_layer_are_those_of_all_its_operators():
    """Whatever its operators are called: `conv` and `conv_2` are two layers."""
    inputs = keras.Input((8, 8, 8), name="image")
    x = inputs
    for name in ("conv", "conv_2", "conv_2_rows"):
        x = kc.layers.GroupConv2D(8, 3, padding="same", groups=4, name=name)(x)
    model = keras.Model(inputs, kc.layers.ChannelIndex([3, 1, 2, 7], name="pick")(x))
    layers = cheapest(read_model(model, ["image"], ["y"]), targets()["arm64"]).layers
    assert set(layers) == {"image", "conv", "conv_2", "conv_2_rows", "pick"}
    for costs in layers.values():
        assert costs["channels last"] == pytest.approx(layers["image"]["channels last"]) or costs["channels last"] > 0
    assert layers["conv"] == layers["conv_2"]


@pytest.mark.parametrize("target", targets().values(), ids=targets())
def test_table_of_costs_is_complete_and_positive(target):
    table = target.costs["float32"]
    assert {"convolution", "depthwise", "affine", "pick_channels", "pick_rows", "transpose"} <= set(table)
    assert all(cost >= 0 for features in table.values() for cost in features.values())
    assert target.unit in ("instructions", "picoseconds")
    assert target.machines


@pytest.mark.parametrize("target", targets().values(), ids=targets())
def test_limits_cost_by_image_or_by_row(target):
    def limit(shape, limits):
        return node_cost(Node("y", ops.Maximum(np.zeros(limits)), ("x",), shape), [], target)

    for kind, steps, cost in (
        ("maximum", 200, limit((10, 20, 8), (8,))),
        ("row_maximum", 8, limit((8, 10, 20), (8, 1, 1))),
    ):
        table = target.costs["float32"][kind]
        assert cost == pytest.approx(table["outputs"] * 1600 + table["steps"] * steps)


@pytest.mark.parametrize(
    ("order", "shape", "matrices", "conflicts"),
    [
        ((0, 3, 1, 2), (28, 28, 24), 1, 0),  # rows of an image
        ((0, 3, 1, 2), (32, 32, 24), 1, 2 / 3),  # whose rows are 4 KiB each, and a set of the cache keeps 8
        ((0, 2, 3, 1), (24, 32, 32), 1, 2 / 3),
        ((0, 2, 3, 1), (8, 32, 32), 1, 0),
        ((0, 1, 3, 2), (49, 4, 8), 49, 0),  # a shuffle
        ((0, 1, 4, 2, 5, 3), (14, 7, 8, 2, 4), 14 * 7 * 2, 0),  # blocks of pixels
        ((0, 2, 1, 3), (4, 5, 6), 0, 0),  # moves whole runs
        ((0, 1, 2, 3), (4, 5, 6), 0, 0),
    ],
)
def test_features_of_a_transposition(order, shape, matrices, conflicts):
    output = tuple(shape[axis - 1] for axis in order[1:])
    kind, features = ops.Transpose(order).features([shape], output, 1)
    outputs = np.prod(shape)
    assert kind == "transpose"
    expected = {"outputs": outputs, "matrices": matrices, "conflicts": outputs * conflicts}
    assert features == pytest.approx(expected)


def test_cost_is_the_sum_of_features_and_grows_with_the_image():
    target = targets()["arm64"]

    def convolution(size):
        op = ops.Convolution(np.ones((1, 1, 4, 16)), groups=2)
        return Node("y", op, ("x",), (size, size, 16)), Node("x", ops.Input(), (), (size, size, 8))

    node, image = convolution(10)
    features = {"multiply_adds": 100 * 4 * 16, "inputs": 100 * 8, "outputs": 100 * 16, "steps": 100 * 2}
    table = target.costs["float32"]["convolution"]
    expected = sum(table.get(name, 0.0) * value for name, value in features.items())
    assert node_cost(node, [image], target) == pytest.approx(expected)
    bigger, big_image = convolution(20)
    graph = Graph((big_image, bigger), {"y": "y"})
    assert graph_costs(graph, target)["y"] == pytest.approx(4 * expected)
