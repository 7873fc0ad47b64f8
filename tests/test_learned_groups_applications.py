"""Networks of keras.applications, and of our own, with learned groups."""

import keras
import numpy as np
import pytest
from learning_networks import assert_same_outputs, assert_unchanged_then_condensed, finished, predict, randomized
from networks import NETWORKS
from tensors import array

import keras_condense as kc
from keras_condense.layers import condensable_layers

pytestmark = pytest.mark.slow  # all of it, together


pytest.importorskip("tensorflow")

L = keras.layers

APPLICATIONS = {
    # constructor, its arguments, learned and left convolutions, and the layer up to which it is exported (None: all):
    # the converter takes most of the time, and later blocks are of the same kinds as those before
    "MobileNetV2": ({"alpha": 0.35, "input_shape": (32, 32, 3)}, 34, 18, None),
    "ResNet50": ({"input_shape": (64, 64, 3)}, 36, 17, "conv3_block2_out"),
    "DenseNet121": ({"input_shape": (64, 64, 3)}, 61, 59, "pool3_relu"),
    "EfficientNetV2B0": ({"input_shape": (64, 64, 3), "include_preprocessing": False}, 69, 22, "block4b_add"),
}


def gather_statistics(model, images):
    """Give batch norms the statistics of these images, as training does; else signals die out on their way."""
    norms = [layer for layer in model.layers if isinstance(layer, L.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    model(images, training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def differ(outputs):
    """Whether the outputs of two images do: otherwise any two networks would be equal."""
    return np.abs(outputs[0] - outputs[1]).max() > 0.05 * np.abs(outputs).max()


@pytest.mark.parametrize("name", ["condensenet-v2", "resnext", "squeezenet"])
def test_networks_of_our_own(name):
    network = NETWORKS[name]
    model = randomized(network.build(input_shape=(network.side, network.side, 3), classes=4))
    x = array(4, network.side, network.side, 3)
    gather_statistics(model, x)
    layers = kc.explain_learn_groups(model)
    learned_before = {layer.name for layer in condensable_layers(model)}
    assert {name for name, reason in layers.left.items() if reason == "learns its groups already"} == learned_before
    learning = assert_unchanged_then_condensed(model, x)
    assert {layer.name for layer in condensable_layers(learning)} == learned_before | set(layers.learned)


@pytest.mark.parametrize(
    "name", [name if name == "MobileNetV2" else pytest.param(name, marks=pytest.mark.slow) for name in APPLICATIONS]
)
def test_networks_of_keras_applications(name):
    pytest.importorskip("tensorflow")
    arguments, learned, left, last = APPLICATIONS[name]
    constructor = getattr(keras.applications, name)
    model = randomized(constructor(weights=None, classes=7, classifier_activation=None, **arguments))
    layers = kc.explain_learn_groups(model)
    assert (len(layers.learned), len(layers.left)) == (learned, left)
    x = array(8, *arguments["input_shape"])
    gather_statistics(model, x)
    learning = kc.learn_groups(model)
    expected = predict(model, x)
    assert differ(expected)
    assert_same_outputs(predict(learning, x), expected, tolerance=1e-5)
    before = kc.profile_model(model)
    assert kc.profile_model(learning).macs == before.macs

    finished(learning)
    gather_statistics(learning, x)
    masked = predict(learning, x)
    assert differ(masked)
    small = kc.condense(learning)
    saved = sum(row.macs * 3 // 4 for row in before.layers if row.name in layers.learned)  # three connections of four
    assert kc.profile_model(small).macs == kc.profile_model(learning).macs == before.macs - saved
    assert_same_outputs(predict(small, x), masked, tolerance=1e-4)
    if last is not None:
        learning, small = (keras.Model(model.input, model.get_layer(last).output) for model in (learning, small))
    content = kc.export_tflite(small, verify=False)  # it is compared here, with the masked model itself
    assert_same_outputs(kc.run_tflite(content, x[:1]), predict(learning, x[:1]), tolerance=1e-4)
