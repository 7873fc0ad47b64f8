import dataclasses
import json
import math
import os

import keras
import numpy as np
import pytest
from training_runs import EPOCHS, Stop, assert_same, build, build_small, weights_and_state

from keras_condense import datasets
from keras_condense.files import locked
from keras_condense.layers import condensable_layers
from keras_condense.saving import load_model
from keras_condense.training import compile_model, train

pytestmark = pytest.mark.slow  # all of it, together


@pytest.fixture(scope="module")
def data():
    return datasets.load("digits", batch_size=256)


@pytest.fixture(scope="module")
def arrays():
    return datasets.load_arrays("digits", batch_size=256, image_size=8)


@pytest.fixture(scope="module")
def unbroken(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    train(build(), data, folder, epochs=EPOCHS, seed=1, verbose=0)
    return folder


@pytest.fixture(scope="module")
def unbroken_arrays(arrays, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken_arrays")
    train(build_small(), arrays, folder, epochs=EPOCHS, seed=1, verbose=0)
    return folder


@pytest.mark.parametrize("stops", [[(0, 2)], [(1, 0), (3, 5)]])
def test_a_resumed_run_ends_like_an_unbroken_one(data, unbroken, tmp_path, stops):
    for stop in stops:
        with pytest.raises(InterruptedError):
            train(build(), data, tmp_path, epochs=EPOCHS, seed=1, resume=True, callbacks=[Stop(*stop)], verbose=0)
        assert not (tmp_path / "model.keras").exists()
    train(build(), data, tmp_path, epochs=EPOCHS, seed=1, resume=True, verbose=0)
    assert_same(tmp_path, unbroken)


def test_a_resumed_run_on_arrays_ends_like_an_unbroken_one(arrays, unbroken_arrays, tmp_path):
    with pytest.raises(InterruptedError):
        train(build_small(), arrays, tmp_path, epochs=EPOCHS, seed=1, callbacks=[Stop(2, 3)], verbose=0)
    model = train(build_small(), arrays, tmp_path, epochs=EPOCHS, seed=1, resume=True, verbose=0)
    assert_same(tmp_path, unbroken_arrays)
    assert model.input_shape == (None, 8, 8, 1)  # the network, and not what feeds it
    rows = [line.rsplit(",", 1)[0] for line in (tmp_path / "log.csv").read_text().splitlines()]
    assert rows == [line.rsplit(",", 1)[0] for line in (unbroken_arrays / "log.csv").read_text().splitlines()]
    assert rows[0] == "epoch,accuracy,loss,val_accuracy,val_loss,condense_stage,connections_left"


def test_files_of_a_run_on_arrays_hold_the_network_alone(arrays, unbroken_arrays):
    for name in ("checkpoint.keras", "model.keras"):
        loaded = load_model(unbroken_arrays / name)
        assert loaded.count_params() == build_small().count_params()
        assert not any("images" in variable.path for variable in loaded.variables)
        assert int(loaded.optimizer.iterations) == EPOCHS * arrays.steps_per_epoch
    loss, accuracy = loaded.evaluate(*arrays.test_arrays(), verbose=0)
    last = (unbroken_arrays / "log.csv").read_text().splitlines()[-1].split(",")
    np.testing.assert_allclose([accuracy, loss], [float(last[3]), float(last[4])], rtol=1e-4)


class CountCalls(keras.layers.Layer):
    """Counts how often it is traced for training."""

    calls = 0

    def call(self, inputs, training=False):
        CountCalls.calls += bool(training)
        return inputs


def test_the_step_on_arrays_is_traced_once_and_validated_on_what_is_held_out(arrays, tmp_path):
    data = datasets.load_arrays("digits", batch_size=300, image_size=8, validation_fraction=0.1)
    seen = []

    class Validated(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            network = self.model.layers[-1]
            expected = network.evaluate(data.normalize(data.validation_images), data.validation_labels, verbose=0)
            seen.append((logs["val_loss"], logs["val_accuracy"]))
            np.testing.assert_allclose(seen[-1], expected, rtol=1e-4)

    image = keras.Input((8, 8, 1))
    model = keras.Model(image, build_small(input_tensor=CountCalls()(image))(image))
    CountCalls.calls = 0
    train(model, data, tmp_path, epochs=3, callbacks=[Validated()], verbose=0)
    assert CountCalls.calls == 1
    assert len(set(seen)) == 3


def test_a_log_ahead_of_its_checkpoint_is_cut(data, unbroken, tmp_path, monkeypatch):
    """A kill between the two leaves a row of an epoch that is repeated."""
    import keras_condense.training.run_folder as module

    save, saved = module.save_checkpoint, []

    def save_once(model, path, epochs):
        if saved:
            raise InterruptedError
        saved.append(path)
        save(model, path, epochs)

    monkeypatch.setattr(module, "save_checkpoint", save_once)
    with pytest.raises(InterruptedError):
        train(build(), data, tmp_path, epochs=EPOCHS, seed=1, verbose=0)
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3
    monkeypatch.undo()
    train(build(), data, tmp_path, epochs=EPOCHS, seed=1, resume=True, verbose=0)
    assert_same(tmp_path, unbroken)
    rows = [line.split(",")[0] for line in (tmp_path / "log.csv").read_text().splitlines()]
    assert rows == ["epoch", "1", "2", "3", "4"]


def test_the_end_is_condensed(unbroken):
    layers = condensable_layers(load_model(unbroken / "model.keras"))
    assert len(layers) == 2
    for layer in layers:
        assert layer.stage == layer.final_stage
        mask = np.repeat(np.asarray(layer.mask), layer.kernel.shape[-1] // layer.groups, 0)
        kept = np.asarray(layer.kernel)[0, 0].T.reshape(-1, layer.groups, layer.kernel.shape[-2]) != 0
        assert mask.mean() == kept.mean() == 1 / layer.condense_factor


def test_dropout_differs_between_epochs_and_seeds(data, unbroken, tmp_path):
    train(build(), data, tmp_path, epochs=EPOCHS, seed=2, verbose=0)
    pairs = zip(weights_and_state(tmp_path / "model.keras"), weights_and_state(unbroken / "model.keras"), strict=True)
    assert not all(np.array_equal(ours, theirs) for ours, theirs in pairs)


def test_the_learning_rate_falls_along_half_a_cosine():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, activation="softmax")])
    compile_model(model, steps=10, learning_rate=0.2)
    rates = [float(model.optimizer._learning_rate(step)) for step in range(11)]
    np.testing.assert_allclose(rates, [0.1 * (1 + math.cos(math.pi * step / 10)) for step in range(11)], atol=1e-7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, r"`steps` \(=0\) must be a positive integer"),
        ({"learning_rate": 0.0}, r"`learning_rate` \(=0.0\) must be a finite number above 0\. Use 0\.1"),
        ({"learning_rate": float("inf")}, r"`learning_rate` \(=inf\) must be"),
        ({"momentum": 1.0}, r"`momentum` \(=1.0\) must be a number in \[0, 1\)"),
        ({"weight_decay": -1e-4}, r"`weight_decay` \(=-0.0001\) must be a finite number, not negative"),
        ({"learning_rate": "0.1"}, r"`learning_rate` \(='0.1'\) must be"),
        ({"weight_decay": float("nan")}, r"`weight_decay` \(=nan\) must be"),
    ],
)
def test_arguments_out_of_range(options, message):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, activation="softmax")])
    with pytest.raises(ValueError, match=message):
        compile_model(model, **{"steps": 10, **options})


@pytest.mark.parametrize("options", [{"classes": 9}, {"input_shape": (16, 16, 3)}, {"input_shape": (32, 32, 1)}])
def test_a_model_that_does_not_fit_the_data(data, tmp_path, options):
    with pytest.raises(ValueError, match="must map images of"):
        train(build(**options), data, tmp_path / "run", epochs=1, verbose=0)
    assert not (tmp_path / "run").exists()


def test_a_folder_in_use(data, tmp_path):
    with locked(tmp_path), pytest.raises(ValueError, match="one process at a time"):
        train(build(), data, tmp_path, epochs=1, verbose=0)
    assert not os.listdir(tmp_path)


def test_an_existing_run(data, unbroken):
    with pytest.raises(ValueError, match="must be empty to begin a run, and holds one already"):
        train(build(), data, unbroken, epochs=EPOCHS, seed=1, verbose=0)
    with pytest.raises(ValueError, match=r"these differ: seed \(=2, first 1\)\. Resume with"):
        train(build(), data, unbroken, epochs=EPOCHS, seed=2, resume=True, verbose=0)
    with pytest.raises(ValueError, match=r"these differ: batch_size \(=9, first 256\)"):
        train(build(), dataclasses.replace(data, batch_size=9), unbroken, epochs=EPOCHS, seed=1, resume=True, verbose=0)


def test_an_existing_run_on_arrays(data, arrays, unbroken_arrays):
    def resume(other):
        train(build_small(), other, unbroken_arrays, epochs=EPOCHS, seed=1, resume=True, verbose=0)

    with pytest.raises(ValueError, match=r"these differ: images_checksum \(='\w{8}', first '\w{8}'\)\. Resume with"):
        resume(dataclasses.replace(arrays, train_images=arrays.train_images[::-1]))
    with pytest.raises(ValueError, match=r"these differ: batches \(='tf.data', first 'arrays'\), steps_per_epoch"):
        resume(datasets.load("digits", batch_size=256, image_size=8))


@pytest.mark.parametrize("wrong", [None, (np.zeros((4, 8, 8, 1)), np.zeros(4))], ids=["None", "tuple"])
def test_data_of_another_kind(tmp_path, wrong):
    with pytest.raises(ValueError, match=r"`data` \(of type \w+\) must be a Dataset or ImageArrays\. Make it with"):
        train(build(), wrong, tmp_path / "run", epochs=1, verbose=0)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize(
    ("text", "message"), [("{", "can't be read"), ("[1]", "is not of one"), ('{"editor": 1}', "is not of one")]
)
def test_settings_of_something_else_are_refused_and_left(data, tmp_path, text, message, resume):
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(ValueError, match=rf"must be empty or hold a run, and its settings\.json {message}.* Choose"):
        train(build(), data, tmp_path, epochs=1, resume=resume, verbose=0)
    assert (tmp_path / "settings.json").read_text() == text


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_that_failed_in_its_first_epoch_does_not_block_its_folder(data, tmp_path, resume):
    with pytest.raises(InterruptedError):
        train(build(), data, tmp_path, epochs=1, learning_rate=9.0, callbacks=[Stop(0, 0)], verbose=0)
    assert sorted(os.listdir(tmp_path)) == ["card.json", "settings.json"]
    train(build(), data, tmp_path, epochs=1, learning_rate=0.1, resume=resume, verbose=0)
    assert json.loads((tmp_path / "settings.json").read_text())["learning_rate"] == 0.1
    assert (tmp_path / "model.keras").exists()


@pytest.mark.parametrize("folder", [None, 3, b"run"], ids=repr)
def test_a_folder_that_is_no_path(data, folder):
    with pytest.raises(ValueError, match=r"`folder` \(=.*\) must be a string or a path\. Give"):
        train(build(), data, folder, epochs=1, verbose=0)


def test_settings_may_be_tuples(data, unbroken, tmp_path):
    with pytest.raises(InterruptedError):
        train(build(), data, tmp_path, epochs=2, settings={"stages": (1, 1)}, callbacks=[Stop(1, 0)], verbose=0)
    with pytest.raises(InterruptedError):
        train(build(), data, tmp_path, epochs=2, settings={"stages": (1, 1)}, callbacks=[Stop(1, 0)], verbose=0,
              resume=True)  # fmt: skip
    assert json.loads((tmp_path / "settings.json").read_text())["stages"] == [1, 1]


def test_a_run_that_was_begun_before_some_settings_were_kept_goes_on(data, tmp_path):
    with pytest.raises(InterruptedError):
        train(build(), data, tmp_path, epochs=2, callbacks=[Stop(1, 0)], verbose=0)
    path = tmp_path / "settings.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({key: settings[key] for key in settings if key not in ("class_weights", "resize")}))
    with pytest.raises(ValueError, match=r"class_weights \(=True, first False\)"):
        train(build(), data, tmp_path, epochs=2, class_weights=True, resume=True, verbose=0)
    train(build(), data, tmp_path, epochs=2, resume=True, verbose=0)
    assert (tmp_path / "model.keras").exists()


def test_a_diverged_training_keeps_the_last_checkpoint(data, tmp_path):
    class Diverge(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if int(self.model.optimizer.iterations) == data.steps_per_epoch + 1:
                kernel = self.model.get_layer("stem_conv").kernel
                kernel.assign(np.full(kernel.shape, np.nan, "float32"))

    with pytest.raises(ValueError, match="The loss must be finite, and in epoch 2 it is not"):
        train(build(), data, tmp_path, epochs=2, callbacks=[Diverge()], verbose=0)
    model = load_model(tmp_path / "checkpoint.keras")
    assert int(model.optimizer.iterations) == data.steps_per_epoch
    assert all(np.isfinite(np.asarray(weight)).all() for weight in model.weights)
    assert sorted(os.listdir(tmp_path)) == ["card.json", "checkpoint.keras", "log.csv", "settings.json"]
