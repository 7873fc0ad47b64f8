"""`train(teacher=...)`: resumed like an unbroken run, with a teacher that sees the same images and is left alone."""

import csv
import json

import keras
import numpy as np
import pytest
from training_runs import Stop, assert_same

from keras_condense import datasets
from keras_condense.layers import LearnedGroupConv2D, condensable_layers
from keras_condense.training import Recipe, train

pytestmark = pytest.mark.slow  # all of it, together

OPTIONS = {"epochs": 2, "seed": 1, "verbose": 0}


def dense(classes=10):
    keras.utils.set_random_seed(3)
    layers = [keras.layers.Conv2D(8, 3, activation="relu"), keras.layers.GlobalAveragePooling2D()]
    return keras.Sequential([keras.Input((8, 8, 1)), *layers, keras.layers.Dense(classes, activation="softmax")])


def learning():
    keras.utils.set_random_seed(5)
    layers = [keras.layers.Conv2D(8, 3, activation="relu"), LearnedGroupConv2D(8, 1, groups=2, condense_factor=2)]
    layers += [keras.layers.Dropout(0.2), keras.layers.GlobalAveragePooling2D()]
    return keras.Sequential([keras.Input((8, 8, 1)), *layers, keras.layers.Dense(10, activation="softmax")])


@pytest.fixture(scope="module")
def arrays():
    return datasets.load_arrays("digits", batch_size=360, image_size=8)


@pytest.fixture(scope="module")
def unbroken(arrays, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    teacher = dense()
    before = teacher.get_weights()
    model = train(learning(), arrays, folder, teacher=teacher, **OPTIONS)
    for one, other in zip(teacher.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert teacher.trainable
    assert all(layer.stage == layer.final_stage for layer in condensable_layers(model))
    return folder


def test_a_resumed_run_ends_like_an_unbroken_one(arrays, unbroken, tmp_path):
    with pytest.raises(InterruptedError):
        train(learning(), arrays, tmp_path, teacher=dense(), callbacks=[Stop(1, 1)], **OPTIONS)
    train(learning(), arrays, tmp_path, teacher=dense(), resume=True, **OPTIONS)
    assert_same(tmp_path, unbroken)
    with open(unbroken / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    for row in rows:  # an l2 term is in the gradient alone
        expected = 0.5 * float(row["val_student_loss"]) + 0.5 * float(row["val_distillation_loss"])
        assert float(row["val_loss"]) == pytest.approx(expected, rel=1e-4)


def test_another_teacher_or_none_is_refused(arrays, unbroken):
    other = dense()
    other.layers[0].kernel.assign(2 * other.layers[0].kernel)
    for teacher in (other, None):
        with pytest.raises(ValueError, match=r"these differ: teacher_checksum \(="):
            train(learning(), arrays, unbroken, teacher=teacher, resume=True, **OPTIONS)
    assert "teacher_checksum" in json.loads((unbroken / "settings.json").read_text())


def test_crops_of_a_data_set(tmp_path):
    data = datasets.load("digits", batch_size=360, image_size=8)
    options = OPTIONS | {"recipe": Recipe(epochs=2, small_crops=(0.75, 0.5))}
    model = train(learning(), data, tmp_path / "run", teacher=dense(), **options)
    assert model.input_shape == (None, 8, 8, 1)
    assert all(layer.stage == layer.final_stage for layer in condensable_layers(model))
    layers = [keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")]
    teacher = keras.Sequential([keras.Input((8, 8, 1)), *layers])
    with pytest.raises(ValueError, match="must take images of any size to be trained on small crops"):
        train(learning(), data, tmp_path / "other", teacher=teacher, **options)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ("self", r"`teacher` \(='self'\) must be a trained Keras model"),
        (3, r"`teacher` \(=3\) must be a Keras model"),
        (dense(classes=9), r"`teacher` .* must have the outputs of the student"),
    ],
)
def test_what_is_no_teacher(arrays, tmp_path, teacher, message):
    with pytest.raises(ValueError, match=message):
        train(learning(), arrays, tmp_path / "run", teacher=teacher, **OPTIONS)
    assert not (tmp_path / "run").exists()
