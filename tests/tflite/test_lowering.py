"""The choice among ways of writing a network down: every choice is exact, the report says what was considered."""

import itertools
import logging

import keras
import numpy as np
import pytest
import tflite_networks as networks
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_condense as kc
from keras_condense.tflite.costs import coefficients, graph_costs, node_cost
from keras_condense.tflite.frontend import read_model
from keras_condense.tflite.graph import Graph, Node
from keras_condense.tflite.lowering import LOWERING_TARGETS, candidates, lower

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
    for layer in kc.callbacks.learned_layers(model):
        layer.condense_to(layer.final_stage)
    return networks.randomize(model, seed)


def difference(content, model, size):
    rows = networks.images(2, size, size, 3)
    return networks.relative_difference(kc.run_tflite(content, rows), networks.reference(model, rows))


@pytest.mark.parametrize("target", LOWERING_TARGETS)
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
    from keras_condense.tflite.export import convert_graph

    model = condensenet(groups, condense_factor, stem_strides, size, seed=seed)
    small = kc.condense(model)
    for _, graph in itertools.chain.from_iterable(candidates(read_model(small, ["image"], ["logits"]))):
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
    for layer in kc.callbacks.learned_layers(model):
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
    assert "exported as it is" in capsys.readouterr().out


def test_unknown_target_is_refused_before_a_file_is_written(tmp_path):
    path = tmp_path / "model.tflite"
    with pytest.raises(ValueError, match=r"`target` \(='riscv'\) must be one of 'arm64', 'x86_64', 'measure'"):
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
    with caplog.at_level(logging.INFO, "keras_condense.tflite.export"):
        content = kc.export_tflite(model)
    outside = kc.benchmark_tflite(content, runs=1, warmup=1).undelegated
    assert outside, "the network is too small to have an index of rows"
    assert f"{model.name}: outside XNNPACK: {len(outside)} of " in caplog.text
    assert f"{outside.count('GATHER')} GATHER" in caplog.text


def test_file_larger_than_its_weights_explain_is_announced(caplog):
    model = condensenet(size=8, stem_strides=1, growth=32)
    with caplog.at_level(logging.WARNING, "keras_condense.tflite.export"):
        content = kc.export_tflite(model, target="x86_64")
    weights = 4 * kc.condense(model).count_params()
    assert len(content) > 1.15 * weights, "no zeros were stored"
    assert f"{len(content):,} bytes, {len(content) / weights:.2f} times its weights' {weights:,}" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, "keras_condense.tflite.export"):
        assert len(kc.export_tflite(model)) < 1.1 * weights
    assert not caplog.text


def test_cheapest_candidate_is_chosen():
    lowering = lower(read_model(kc.condense(condensenet(size=64)), ["image"], ["logits"]), "arm64")
    assert lowering.totals[lowering.chosen] == min(lowering.totals.values())
    for name, total in lowering.totals.items():
        assert sum(layer.get(name, 0.0) for layer in lowering.layers.values()) == pytest.approx(total)


@pytest.mark.parametrize("target", ["arm64", "x86_64"])
def test_table_of_costs_is_complete_and_positive(target):
    table = coefficients(target)
    assert {"convolution", "depthwise", "affine", "gather", "gather_rows", "transpose"} <= set(table)
    assert all(cost >= 0 for features in table.values() for cost in features.values())


@pytest.mark.parametrize("target", ["arm64", "x86_64"])
def test_limits_cost_by_image_or_by_row(target):
    def limit(shape, limits):
        node = Node("y", "maximum", ("x",), shape, {}, {"limit": np.zeros(limits)})
        return node_cost(node, [], target)

    for kind, steps, cost in (
        ("maximum", 200, limit((10, 20, 8), (8,))),
        ("row_maximum", 8, limit((8, 10, 20), (8, 1, 1))),
    ):
        table = coefficients(target)[kind]
        assert cost == pytest.approx(table["outputs"] * 1600 + table["steps"] * steps)


def test_cost_is_the_sum_of_features_and_grows_with_the_image():
    def convolution(size):
        attributes = {"strides": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 2, "relu": False}
        node = Node("y", "convolution", ("x",), (size, size, 16), attributes, {"kernel": np.ones((1, 1, 4, 16))})
        return node, Node("x", "input", (), (size, size, 8), {"dtype": "float32"})

    node, image = convolution(10)
    features = {"multiply_adds": 100 * 4 * 16, "outputs": 100 * 16, "steps": 100 * 2}
    table = coefficients("arm64")["convolution"]
    expected = sum(table.get(name, 0.0) * value for name, value in features.items())
    assert node_cost(node, [image], "arm64") == pytest.approx(expected)
    bigger, big_image = convolution(20)
    graph = Graph((big_image, bigger), {"y": "y"})
    assert graph_costs(graph, "arm64")["y"] == pytest.approx(4 * expected)
