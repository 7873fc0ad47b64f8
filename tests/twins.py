"""Models of both libraries held against each other."""

import keras
import numpy as np
from keras import ops

import keras_condense as kc


def outputs(model, inputs):
    """The outputs of a model of either library by their places."""
    alone = isinstance(inputs, list) and len(inputs) == 1 and not isinstance(model.input, list)
    given = inputs[0] if alone else inputs
    return [ops.convert_to_numpy(y) for y in keras.tree.flatten(model(given, training=False))]


def assert_same(model, other, inputs, atol=1e-5):
    for ours, theirs in zip(outputs(other, inputs), outputs(model, inputs), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=atol, rtol=1e-5)


def there_and_back(model, inputs):
    """The twin, after it and what comes back were compared with the model."""
    twin = kc.interop.to_tf_keras(model)
    back = kc.interop.from_tf_keras(twin)
    assert_same(model, twin, inputs)
    assert_same(model, back, inputs)
    return twin, back


def with_statistics(model):
    """`model` with random statistics in its norms, which alone would hide how they are computed."""
    random = np.random.default_rng(0)
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(random.normal(size=layer.moving_mean.shape) * 0.2)
            layer.moving_variance.assign(random.uniform(0.5, 2, layer.moving_variance.shape))
    return model


def names(model):
    return [layer.name for layer in model.layers]
