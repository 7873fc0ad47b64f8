"""Any Keras model with sparse 1x1 kernels: what `export_tflite` makes of it, beside what any converter would."""

import keras
import numpy as np
import pytest
from graphs import Builder, assert_equivalent, only, operators, with_costs
from keras import layers

import keras_condense as kc
from keras_condense.tflite.converter import convert_model
from keras_condense.tflite.frontend import read_model
from keras_condense.tflite.lowering import candidates, lower_model
from keras_condense.tflite.passes import dense, norms_and_pools_as_windows
from keras_condense.tflite.schemes import SCHEMES
from keras_condense.tflite.targets import graph_costs, targets

tf = pytest.importorskip("tensorflow")


def mobile_network(pruned=0.0, separable=False):
    """Two blocks between a stem and a classifier; a share of the 1x1 weights is zero."""
    random = np.random.default_rng(0)
    image = keras.Input((32, 32, 3), name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(layers.Conv2D(16, 3, 2, "same", use_bias=False)(x)))
    for strides in (1, 2):
        if separable:
            x = layers.SeparableConv2D(32, 3, strides=strides, padding="same")(x)
        else:
            x = layers.Conv2D(32, 1, use_bias=False)(layers.DepthwiseConv2D(3, strides, padding="same")(x))
        x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    model = keras.Model(image, layers.Flatten()(layers.Conv2D(10, 1, name="scores")(x)))
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            count = layer.gamma.shape[0]
            layer.set_weights([random.uniform(0.5, 1.5, count), *random.normal(0, 0.3, (2, count)), np.ones(count)])
        kernel = getattr(layer, "pointwise_kernel", None) if separable else getattr(layer, "kernel", None)
        if kernel is not None and tuple(kernel.shape[:2]) == (1, 1) and layer.name != "scores":
            kernel.assign(random.normal(size=kernel.shape) * (random.random(kernel.shape) >= pruned))
    return model


@pytest.mark.parametrize("separable", [False, True])
def test_pruned_plain_layers_are_lowered(separable):
    model = mobile_network(0.9, separable)
    lowering = lower_model(model, "arm64")
    assert lowering is not None
    assert any(name.startswith("sparse") for name in lowering.graphs)
    images = np.random.default_rng(1).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    expected = keras.ops.convert_to_numpy(model(images, training=False))
    for form in (kc.export_tflite(model), kc.export_tflite(model, target="x86_64")):
        np.testing.assert_allclose(kc.run_tflite(form, images), expected, atol=1e-4 * np.ptp(expected))


def test_dense_models_are_exported_as_they_are():
    model = mobile_network()
    assert lower_model(model, "arm64") is None
    assert kc.export_tflite(model, verify=False) == convert_model(model)
    assert lower_model(mobile_network(0.9), "arm64", SCHEMES["int8"]) is None  # no zeros are skipped there


@pytest.mark.parametrize("target", targets())
@pytest.mark.parametrize("quantize", [None, "int8"])
def test_never_dearer_than_the_dense_network_with_zeros(target, quantize):
    """By the target's table: the stock conversion is one of the forms."""
    learning = kc.learn_groups(mobile_network(), groups=4, condense_factor=4)
    small = kc.condense(learning, finish=True)
    scheme = SCHEMES[quantize]
    lowering = lower_model(small, target, scheme)
    stock = read_model(learning_without_groups(small), ["image"], ["scores"])
    forms = {name: form for name, form, _ in candidates(stock, targets()[target], scheme)}
    cost = sum(graph_costs(forms["one to one"], targets()[target], scheme.arithmetic).values())
    assert min(lowering.totals.values()) <= cost * (1 + 1e-9)


@pytest.mark.parametrize(("target", "paired"), [("arm64", True), ("wasm", False)])
def test_filters_alike_are_neighbours_where_that_is_cheaper(target, paired):
    """WebAssembly computes pairs number by number."""
    small = kc.condense(kc.learn_groups(mobile_network(), groups=4, condense_factor=4), finish=True)
    forms = candidates(read_model(small, ["image"], ["scores"]), targets()[target])
    graph = [form for name, form, _ in forms if name.startswith("sparse")][-1]
    kernels = [node for node in graph if is_pointwise(node) and node.op.sparse and node.op.kernel.shape[3] >= 16]
    features = [node.op.features([], node.shape, 16)[1] for node in kernels]
    assert features
    assert sum(each["paired"] > 0 for each in features) == (len(features) if paired else 0)


def learning_without_groups(small):
    """The condensed network with ordinary layers, zero where groups read nothing."""
    graph = read_model(small, ["image"], ["scores"])
    plain = mobile_network()
    kernels = iter([node.op.kernel for node in dense.run(graph, graph.nodes[-1].name) if is_pointwise(node)])
    for layer in plain.layers:
        if type(layer) is layers.Conv2D and layer.kernel_size == (1, 1):
            layer.kernel.assign(next(kernels))
    return plain


def is_pointwise(node):
    return node.op.kind == "convolution" and node.op.window == (1, 1)


def test_networks_that_make_much_of_rounding_are_no_mistakes(caplog):
    """A network whose outputs change as much with the last bit of its inputs is exported, with a warning."""
    image = keras.Input((8,), name="numbers")
    x = layers.Dense(16, name="first")(image)
    outputs = layers.Lambda(lambda y: keras.ops.sin(y * 3e3), output_shape=(16,))(x)
    model = keras.Model(image, outputs)
    with caplog.at_level("WARNING"):
        kc.export_tflite(model)
    assert not caplog.records or "makes much of rounding" in caplog.text


def test_costs_of_norms_and_pools_decide_their_form():
    b = Builder()
    x = b.pool(b.affine(b.input(8, 8, 6), relu=True))
    graph = b.graph(b.mean(x), b.affine(b.mean(x)))
    cheap = {"depthwise": {"outputs": 1e-6}}
    dear = {"depthwise": {"outputs": 1e6}}
    for costs, expected in ((cheap, ["depthwise", "depthwise"]), (dear, ["affine", "average_pool"])):
        made = only(norms_and_pools_as_windows, graph, with_costs(costs), SCHEMES["int8"])
        assert operators(made)[:2] == expected
        assert_equivalent(made, graph)


def test_grouped_settings_of_blocks_are_exported():
    """Groups of blocks by themselves, and of the 3x3 apart from those of the 1x1."""
    model = kc.applications.CondenseNet(
        (1, 1), (8, 16), groups=(4, 1), condense_factor=(2, 4), bottleneck_factor=(4, 2), window_groups=4,
        stem_strides=4, input_shape=(64, 64, 3), classes=4, weights=None,
    )  # fmt: skip
    small = kc.condense(model, finish=True)
    images = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype("float32")
    expected = keras.ops.convert_to_numpy(small(images, training=False))
    for target in ("arm64", "x86_64"):
        actual = kc.run_tflite(kc.export_tflite(small, target=target), images)
        np.testing.assert_allclose(actual, expected, atol=1e-5)
