"""A network to condense, and how masked and condensed ones are compared."""

import keras
import numpy as np
from keras import ops

from keras_condense.layers import (
    BatchNormalization,
    CondenseDense,
    GroupConv2D,
    LearnedGroupConv2D,
    condensable_layers,
)

L = keras.layers


def finished(model):
    """`model` at its last stage, with every weight a random number, so that nothing is equal by chance."""
    rng = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign(rng.normal(size=weight.shape) * 0.5)
    for layer in condensable_layers(model):
        layer.condense_to(layer.final_stage)
    return model


def predict(model, *inputs, **options):
    outputs = model(inputs[0] if len(inputs) == 1 else list(inputs), training=False, **options)
    return keras.tree.map_structure(lambda y: ops.convert_to_numpy(ops.cast(y, "float32")), outputs)


def assert_same_outputs(masked, small, *inputs, atol=1e-5):
    # the same sums of float32, without the zeros and in another order
    ours, theirs = predict(small, *inputs), predict(masked, *inputs)
    keras.tree.assert_same_structure(ours, theirs)
    for a, b in zip(keras.tree.flatten(ours), keras.tree.flatten(theirs), strict=True):
        np.testing.assert_allclose(a, b, atol=atol, rtol=1e-5)


def assert_condensed(small):
    assert not condensable_layers(small)


def block(x, name, filters=8, groups=4):
    y = L.ReLU()(BatchNormalization(name=f"{name}_bn")(x))
    y = LearnedGroupConv2D(filters, 1, groups=groups, name=f"{name}_1")(y)
    y = GroupConv2D(8, 3, padding="same", groups=groups, name=f"{name}_2")(y)
    return L.Concatenate()([x, y])


def condense_net():
    x = image = keras.Input((8, 8, 8), name="image")
    for i in range(2):
        x = block(x, f"block{i}")
    x = L.GlobalAveragePooling2D()(L.Dropout(0.3)(x))
    return keras.Model(image, CondenseDense(3, name="top", activation="softmax")(x), name="net")
