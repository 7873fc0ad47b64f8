"""Uneven classes: what their images count, and that they count so."""

import keras
import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

import keras_condense as kc
from keras_condense.training import train
from keras_condense.training.feeding import balanced_weights
from keras_condense.training.run_folder import read_log

pytest.importorskip("tensorflow")


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """Sixty images of one class, twenty of another, and three of a third; as a file."""
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [60, 20, 4])
    images = random.integers(0, 256, (84, 4, 4, 1)).astype("uint8")
    path = tmp_path_factory.mktemp("uneven") / "uneven.npz"
    np.savez(path, x_train=images, y_train=labels, x_test=images[::7], y_test=labels[::7])
    return path


def build():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4, 4, 1))
    return keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(inputs)))


@pytest.mark.parametrize("load", [kc.datasets.load, kc.datasets.load_arrays])
def test_weights_are_scikit_learns(uneven, load):
    data = load(uneven, batch_size=21)
    labels = np.repeat([0, 1, 2], [60, 20, 4])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(balanced_weights(data), expected, rtol=1e-6)


@pytest.mark.parametrize("load", [kc.datasets.load, kc.datasets.load_arrays])
@pytest.mark.parametrize("weighted", [True, False])
def test_rare_classes_count_more_in_the_loss(uneven, load, weighted, tmp_path):
    data, model = load(uneven, batch_size=21, augment=False), build()
    arrays = kc.datasets.load_arrays(uneven, batch_size=21)
    scores = model.predict(arrays.normalize(arrays.train_images), verbose=0)
    weights = balanced_weights(data)[arrays.train_labels] if weighted else np.ones(84)
    entropy = -np.log(scores[np.arange(84), arrays.train_labels])
    options = {"epochs": 1, "learning_rate": 1e-9, "weight_decay": 0.0, "verbose": 0, "recipe": "short"}
    train(model, data, tmp_path, class_weights=weighted, **options)
    (row,) = read_log(tmp_path / "log.csv")
    assert float(row["loss"]) == pytest.approx((weights * entropy).mean(), rel=1e-4)
    assert float(row["accuracy"]) == pytest.approx((scores.argmax(axis=1) == arrays.train_labels).mean(), rel=1e-4)


def test_weights_are_a_setting(uneven, tmp_path):
    data = kc.datasets.load_arrays(uneven, batch_size=21)
    options = {"epochs": 1, "recipe": "short", "verbose": 0}
    train(build(), data, tmp_path, class_weights=True, **options)
    with pytest.raises(ValueError, match=r"class_weights \(=False, first True\)"):
        train(build(), data, tmp_path, resume=True, **options)
    with pytest.raises(ValueError, match="`class_weights`"):
        train(build(), data, tmp_path, class_weights="balanced", **options)


@pytest.mark.parametrize("load", [kc.datasets.load, kc.datasets.load_arrays])
def test_the_best_network_is_saved_alone_and_frozen_layers_stay(uneven, load, tmp_path):
    keras.utils.set_random_seed(2)
    inputs = keras.Input((4, 4, 1))
    x = keras.layers.Conv2D(8, 1)(inputs)
    x = kc.layers.LearnedGroupConv2D(8, 1, groups=2, condense_factor=2, name="learned")(x)
    x = kc.layers.LearnedGroupConv2D(8, 1, groups=2, condense_factor=2, name="frozen", trainable=False)(x)
    outputs = keras.layers.Dense(3, activation="softmax")(keras.layers.GlobalAveragePooling2D()(x))
    model, best = keras.Model(inputs, outputs), kc.callbacks.BestCondensed("loss", path=tmp_path / "best.keras")
    options = {"epochs": 4, "recipe": "short", "learning_rate": 0.01, "verbose": 0}
    with pytest.warns(UserWarning, match="Frozen layers are not trained.*'frozen'"):
        train(model, load(uneven, batch_size=21), tmp_path / "run", callbacks=best, **options)
    saved = kc.saving.load_model(tmp_path / "best.keras")
    assert saved.input_shape == (None, 4, 4, 1)
    stages = {layer.name: layer.stage for layer in kc.layers.condensable_layers(saved)}
    assert stages == {"learned": 1, "frozen": 0}
    assert {layer.name: layer.stage for layer in kc.layers.condensable_layers(model)} == stages


def test_a_card_is_checked_before_a_folder_is_made(uneven, tmp_path):
    import dataclasses

    data = kc.datasets.load_arrays(uneven, batch_size=21)
    options = {"epochs": 1, "recipe": "short", "verbose": 0}
    with pytest.raises(ValueError, match="`class_names`"):
        train(build(), dataclasses.replace(data, class_names=("a", " ", "c")), tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()
    assert kc.Card.of(dataclasses.replace(data, class_names=(0, 1, 2))).class_names == ("0", "1", "2")
