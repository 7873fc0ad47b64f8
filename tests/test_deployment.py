"""The comparison of a network's forms: what it refuses. Its table is that of the digits program's test."""

import keras
import numpy as np
import pytest

from keras_condense.deployment import compare_deployed

IMAGES, LABELS = np.zeros((2, 3), "float32"), np.zeros(2, int)


@pytest.fixture
def model():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])


@pytest.mark.parametrize("bad", ["m", None, 3], ids=repr)
def test_what_is_no_model(model, bad):
    for name, forms in (("masked", (bad, model)), ("condensed", (model, bad))):
        with pytest.raises(ValueError, match=rf"`{name}` \(=.*\) must be a Keras model\. Load a saved one"):
            compare_deployed(*forms, "model.tflite", IMAGES, LABELS)


@pytest.mark.parametrize("bad", [None, 3], ids=repr)
def test_what_is_no_path(model, bad):
    with pytest.raises(ValueError, match=r"`tflite_path` \(=.*\) must be a string or a path\. Give"):
        compare_deployed(model, model, bad, IMAGES, LABELS)


@pytest.mark.parametrize(("images", "labels"), [(IMAGES, LABELS[:1]), (IMAGES[:0], LABELS[:0])])
def test_images_and_labels_that_do_not_fit(model, images, labels):
    with pytest.raises(ValueError, match=r"must be equal in number, and not empty\. Give the test set's"):
        compare_deployed(model, model, "model.tflite", images, labels)
