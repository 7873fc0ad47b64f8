"""Networks without learned groups, and how those that learn them are compared."""

import keras
import numpy as np
from keras import ops

import keras_condense as kc
from keras_condense.layers import condensable_layers

L = keras.layers


def randomized(model):
    """`model` with random biases and batch norms, so that nothing is equal by chance.

    Some scales are negative. They are small, for deep random networks of scales about 1 amplify rounding a hundredfold.
    """
    rng = np.random.default_rng(0)
    for layer in model._flatten_layers():
        if isinstance(layer, L.BatchNormalization):
            channels = layer.gamma.shape[0]
            layer.gamma.assign(rng.uniform(0.2, 0.5, channels) * rng.choice([-1, 1], channels, p=[0.2, 0.8]))
            layer.beta.assign(rng.normal(0, 0.3, channels))
            layer.moving_mean.assign(rng.normal(0, 0.3, channels))
            layer.moving_variance.assign(rng.uniform(0.5, 2, channels))
        elif getattr(layer, "bias", None) is not None:
            layer.bias.assign(rng.normal(0, 0.3, layer.bias.shape))
    return model


def finished(model):
    for layer in condensable_layers(model):
        layer.condense_to(layer.final_stage)
    return model


def predict(model, *inputs, **options):
    outputs = model(inputs[0] if len(inputs) == 1 else list(inputs), **({"training": False} | options))
    return keras.tree.map_structure(lambda y: ops.convert_to_numpy(ops.cast(y, "float32")), outputs)


def assert_same_outputs(actual, expected, tolerance=1e-6):
    """Relative to the largest output."""
    keras.tree.assert_same_structure(actual, expected)
    for a, b in zip(keras.tree.flatten(actual), keras.tree.flatten(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(np.abs(b).max(), 1e-6))


def assert_unchanged_then_condensed(model, *inputs, **arguments):
    """Outputs are the model's, and after condensing all at once the condensed network's are the masked one's."""
    expected = predict(model, *inputs)
    learning = kc.learn_groups(model, **arguments)
    assert condensable_layers(learning)
    assert_same_outputs(predict(learning, *inputs), expected)
    masked = predict(finished(learning), *inputs)
    small = kc.condense(learning)
    assert not condensable_layers(small)
    assert_same_outputs(predict(small, *inputs), masked, tolerance=1e-5)
    return learning


def network(name="net"):
    """Pointwise convolutions before and after batch norms, a depthwise one, a shortcut."""
    x = image = keras.Input((8, 8, 3), name="image")
    x = y = L.ReLU()(L.BatchNormalization(name="stem_bn")(L.Conv2D(8, 3, strides=2, name="stem")(x)))
    y = L.BatchNormalization(name="expand_bn")(L.Conv2D(16, 1, use_bias=False, name="expand")(y))
    y = L.DepthwiseConv2D(3, padding="same", name="depthwise")(L.Activation("relu6")(y))
    y = L.Conv2D(8, 1, name="project")(L.BatchNormalization(name="depthwise_bn")(y))
    x = L.GlobalAveragePooling2D()(L.Dropout(0.5, seed=1)(L.Add()([x, y])))
    return randomized(keras.Model(image, L.Dense(3, activation="softmax", name="top")(x), name=name))
