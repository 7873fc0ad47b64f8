"""What test_backends.py runs in a process of its own: `KERAS_BACKEND=... python backend_run.py FOLDER`.

Trains, condenses, saves and loads the same network from the same weights and batches on any backend, without
TensorFlow where that is not the backend, which comes first: it writes the starting weights, and the others begin with
them. Then it does the same with a whole run of `keras_condense.training.train`, which the others also resume where
TensorFlow left it.
"""

import contextlib
import json
import os
import pathlib
import shutil
import sys

if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
    sys.modules["tensorflow"] = None  # any import of it fails

import keras
import numpy as np
from keras import ops

import keras_condense as kc
from keras_condense.applications import CondenseNet
from keras_condense.callbacks import CondenseSchedule, learned_layers
from keras_condense.condensation import condense
from keras_condense.datasets import PHOTOGRAPHS, load_arrays
from keras_condense.distillation import distill
from keras_condense.layers import BatchNormalization, ChannelShuffle, CondenseDense, GroupConv2D, LearnedGroupConv2D
from keras_condense.profiling import profile_model
from keras_condense.training import train

NOT_ALWAYS_NEEDED = ("tensorflow", "tf_keras")  # packages that are imported where they are used only


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


class Stop(keras.callbacks.Callback):
    """Ends a run after its first epoch, or at a batch of the second, like a lost machine."""

    def __init__(self, batch=0):
        super().__init__()
        self.batch = batch

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == (1, self.batch):
            raise InterruptedError


@keras.saving.register_keras_serializable("backend_run")
class CountTraces(keras.layers.Layer):
    """Counts how often it is called for training: by a compiled step while it is traced."""

    count = 0

    def call(self, inputs, training=False):
        CountTraces.count += bool(training)
        return inputs


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
    same = keras.models.load_model(folder / "tensorflow-condensed.keras")
    settings = [kc.compressions.PrunedWeights(0.7), kc.compressions.RoundedWeights(2)]
    lost = kc.sensitivity(same, (x, y), settings=settings)
    results["sensitivity"] = np.array([lost.baseline, *(row.accuracy for row in lost.rows)])
    before = small.evaluate(x, y, verbose=0)
    after = small.fit(x, y, batch_size=24, epochs=3, verbose=0).history["loss"][-1]
    assert after < before, (after, before)

    # with a teacher
    student = network()
    student.load_weights(folder / "start.weights.h5")
    student.compile(
        keras.optimizers.SGD(0.05, momentum=0.9), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    distiller = distill(student, model, temperature=2)
    history = distiller.fit(x, y, batch_size=6, epochs=3, shuffle=False, verbose=0, callbacks=[CondenseSchedule()])
    results["distillation_losses"] = np.array(history.history["distillation_loss"])
    assert history.history["condense_stage"] == list(results["stages"])
    results["taught"] = predict(distiller, x)
    np.testing.assert_array_equal(predict(distiller.teacher, x), results["trained"])
    distiller.save(folder / f"{backend}-distiller.keras")
    loaded = keras.models.load_model(folder / f"{backend}-distiller.keras")
    np.testing.assert_array_equal(predict(loaded, x), results["taught"])
    goes_on = [each.fit(x, y, batch_size=24, verbose=0).history["loss"] for each in (distiller, loaded)]
    np.testing.assert_allclose(*goes_on, rtol=1e-6)
    results["shared"] = shared_weights(x, y)

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


def shared_weights(x, y):
    """What a network with shared weights computes once it is trained; begun by NumPy."""
    random = np.random.default_rng(1)
    layers = [keras.layers.Conv2D(8, 3, kernel_regularizer="l2"), keras.layers.DepthwiseConv2D(2)]
    layers += [keras.layers.Flatten(), keras.layers.Dense(3, kernel_regularizer="l2")]
    model = keras.Sequential([keras.Input((6, 6, 8)), *layers])
    model.set_weights([random.normal(0, 0.2, w.shape) * (random.random(w.shape) < 0.8) for w in model.weights])
    shared = kc.share_weights(model, 3)
    shared.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    shared.fit(x, y, batch_size=6, epochs=3, shuffle=False, verbose=0)
    trained = predict(shared, x)
    np.testing.assert_allclose(predict(condense(shared), x), trained, atol=1e-5)
    assert all(len(np.unique(w)) == 8 for w in condense(shared).get_weights() if w.ndim > 1)
    return trained


def small_condensenet():
    image = keras.Input((8, 8, 1))
    return CondenseNet(
        (1,), (4,), groups=2, condense_factor=2, stem_strides=1, classes=10, input_tensor=CountTraces()(image)
    )


def check_dropout_goes_on(folder, data):
    """A resumed run draws what an unbroken one does."""

    def weights_of(name, **options):
        keras.utils.set_random_seed(2)
        layers = [keras.layers.Flatten(), keras.layers.Dropout(0.5), keras.layers.Dense(10, activation="softmax")]
        model = keras.Sequential([keras.Input((8, 8, 1)), *layers])
        return train(
            model, data, folder / name, epochs=2, resume=True, validate=False, verbose=0, **options
        ).get_weights()

    unbroken = weights_of("unbroken")
    for batch in (0, 4):  # between epochs, and within one
        with contextlib.suppress(InterruptedError):
            weights_of(f"stopped{batch}", save_freq=3, callbacks=[Stop(batch)])
        for weight, other in zip(weights_of(f"stopped{batch}"), unbroken, strict=True):
            np.testing.assert_array_equal(weight, other)


def masks(model):
    return {f"mask/{layer.name}": ops.convert_to_numpy(layer.mask) for layer in learned_layers(model)}


def run(folder, reference):
    """Runs on arrays: a whole one, one that is stopped after its first epoch, and the end of TensorFlow's such run."""
    backend = keras.backend.backend()
    keras.utils.set_random_seed(1)
    data = load_arrays("digits", batch_size=180, image_size=8, augment=PHOTOGRAPHS)

    def run_in(name, **options):
        model = small_condensenet()
        if (folder / "run-start.weights.h5").exists():
            model.load_weights(folder / "run-start.weights.h5")
        else:
            model.save_weights(folder / "run-start.weights.h5")
        train_options = {"epochs": 2, "learning_rate": 0.05, "resume": True, "verbose": 0} | options
        return train(model, data, folder / name, **train_options)

    losses = Losses()
    model = run_in(f"{backend}-run", callbacks=[losses])
    images, _ = data.test_arrays()
    results = {"losses": np.array(losses.losses), "trained": predict(model, images), **masks(model)}
    results["traces"] = np.array(CountTraces.count)
    results["draws"] = data.draws(0)
    try:
        run_in(f"{backend}-stopped", callbacks=[Stop()])
    except InterruptedError:
        assert not (folder / f"{backend}-stopped" / "model.keras").exists()
    check_dropout_goes_on(folder / f"{backend}-dropout", data)
    if not reference:
        shutil.copytree(folder / "tensorflow-stopped", folder / f"{backend}-resumes-tensorflow")
        model = run_in(f"{backend}-resumes-tensorflow")
        results |= {f"resumed/{name}": mask for name, mask in masks(model).items()}
        results["resumed/trained"] = predict(model, images)
    np.savez(folder / f"{backend}-run.npz", **results)


if __name__ == "__main__":
    backend, place = keras.backend.backend(), pathlib.Path(sys.argv[1])
    main(place, reference=backend == "tensorflow")
    keras.utils.clear_session()
    run(place, reference=backend == "tensorflow")
    print(json.dumps({"backend": backend} | {name: sys.modules.get(name) is not None for name in NOT_ALWAYS_NEEDED}))
