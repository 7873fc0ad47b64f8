"""What test_backends.py runs in a process of its own: `KERAS_BACKEND=... python backend_run.py FOLDER [reference]`.

Trains, condenses, saves and loads the same network from the same weights and batches on any backend, without
TensorFlow where that is not the backend. With "reference" it writes the starting weights; the others begin with them.
"""

import json
import os
import pathlib
import sys

if os.environ["KERAS_BACKEND"] != "tensorflow":
    sys.modules["tensorflow"] = None  # any import of it fails

import keras
import numpy as np
from keras import ops

import keras_condense  # noqa: F401
from keras_condense.callbacks import CondenseSchedule, learned_layers
from keras_condense.conversion import condense
from keras_condense.layers import BatchNormalization, ChannelShuffle, CondenseDense, GroupConv2D, LearnedGroupConv2D
from keras_condense.profiling import profile_model


def network():
    x = image = keras.Input((6, 6, 8))
    x = LearnedGroupConv2D(16, 3, padding="same", groups=2, group_lasso=1e-3, use_bias=True, name="learned")(x)
    x = keras.layers.ReLU()(BatchNormalization(momentum=0.9, epsilon=1e-5)(x))
    x = GroupConv2D(8, 3, strides=2, padding="same", groups=2, name="grouped")(x)
    x = LearnedGroupConv2D(8, 2, dilation_rate=2, groups=4, condense_factor=2, activation="relu", name="dilated")(x)
    x = keras.layers.GlobalAveragePooling2D()(ChannelShuffle(2)(x))
    return keras.Model(image, CondenseDense(3, name="top")(x))


class Losses(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.losses = []

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(float(logs["loss"]))


def predict(model, x):
    return ops.convert_to_numpy(model(x, training=False))


def main(folder, reference):
    keras.utils.set_random_seed(0)
    backend = keras.backend.backend()
    x = np.random.default_rng(0).normal(size=(24, 6, 6, 8)).astype("float32")
    y = np.arange(24) % 3
    model = network()
    if reference:
        model.save_weights(folder / "start.weights.h5")
    model.load_weights(folder / "start.weights.h5")
    results = {"start": predict(model, x)}

    model.compile(
        keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    losses = Losses()
    history = model.fit(
        x, y, batch_size=6, epochs=3, shuffle=False, verbose=0, callbacks=[CondenseSchedule(), losses]
    ).history
    results["losses"] = np.array(losses.losses)
    results["stages"] = np.array(history["condense_stage"])
    results["connections"] = np.array(history["connections_left"])
    results["trained"] = predict(model, x)
    for layer in learned_layers(model):
        results[f"mask/{layer.name}"] = mask = ops.convert_to_numpy(layer.mask)
        kernel = ops.convert_to_numpy(layer.kernel)
        for f in range(kernel.shape[-1]):
            assert (kernel[..., mask[f % layer.groups] == 0, f] == 0).all(), "a dropped weight is not zero"
            assert layer.stage == layer.final_stage

    small = condense(model)
    np.testing.assert_allclose(predict(small, x), results["trained"], atol=1e-5)
    assert profile_model(small).macs == profile_model(model).macs
    for name, one in (("masked", model), ("condensed", small)):
        one.save(folder / f"{backend}-{name}.keras")
        loaded = keras.models.load_model(folder / f"{backend}-{name}.keras")
        np.testing.assert_array_equal(predict(loaded, x), predict(one, x))
    before = small.evaluate(x, y, verbose=0)
    after = small.fit(x, y, batch_size=24, epochs=3, verbose=0).history["loss"][-1]
    assert after < before, (after, before)

    # half precision
    keras.config.set_dtype_policy("mixed_bfloat16")
    half = network()
    half.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert np.isfinite(half.fit(x, y, epochs=1, verbose=0).history["loss"]).all()
    keras.config.set_dtype_policy("float32")

    if not reference:  # what the other backend saved
        for name in ("masked", "condensed"):
            foreign = keras.models.load_model(folder / f"tensorflow-{name}.keras")
            results[f"foreign/{name}"] = predict(foreign, x)
    np.savez(folder / f"{backend}.npz", **results)
    print(json.dumps({"backend": backend, "tensorflow": sys.modules.get("tensorflow") is not None}))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), reference=sys.argv[2:] == ["reference"])
