"""What the networks for ImageNet do to images and class scores, beside Keras."""

import inspect

import keras
import numpy as np
import pytest
from networks import THREE_PARTS

from keras_condense.applications import imagenet as imagenet_functions


@pytest.mark.parametrize("shape", [(2, 5, 4, 3), (5, 4, 3)])
def test_preprocessing_equals_keras(shape):
    x = np.random.default_rng(0).integers(0, 256, shape).astype("float32")
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # the authors' numbers
    np.testing.assert_allclose(imagenet_functions.preprocess_input(x.copy()), (x / 255 - mean) / std, atol=1e-5)
    np.testing.assert_array_equal(
        imagenet_functions.preprocess_input(x.copy()), keras.applications.densenet.preprocess_input(x.copy())
    )
    tensor = imagenet_functions.preprocess_input(keras.ops.convert_to_tensor(x))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(tensor), (x / 255 - mean) / std, atol=1e-5)
    first = imagenet_functions.preprocess_input(np.moveaxis(x, -1, -3).copy(), data_format="channels_first")
    np.testing.assert_allclose(np.moveaxis(first, -3, -1), (x / 255 - mean) / std, atol=1e-5)


def test_preprocessing_refuses_what_it_would_spoil():
    for x, arguments in (
        (np.ones((8, 8, 1), "float32"), {}),
        (np.ones((8, 3), "float32"), {}),
        (np.ones((8, 8, 3), "float32"), {"data_format": "channels_first"}),
        (np.ones((8, 8, 3), "float32"), {"data_format": "NHWC"}),
        ([[1.0]], {}),
    ):
        with pytest.raises(ValueError, match=THREE_PARTS):
            imagenet_functions.preprocess_input(x, **arguments)


def test_decoding_names_the_best_first(monkeypatch, tmp_path):
    names = {str(i): [f"n{i:08d}", f"class_{i}"] for i in range(1000)}
    monkeypatch.setattr(inspect.getmodule(keras.applications.imagenet_utils.decode_predictions), "CLASS_INDEX", names)
    scores = np.zeros((2, 1000))
    scores[0, [3, 5]] = 0.2, 0.7
    scores[1, 9] = 1.0
    decoded = imagenet_functions.decode_predictions(scores, top=2)
    assert decoded[0] == [("n00000005", "class_5", 0.7), ("n00000003", "class_3", 0.2)]
    assert decoded[1][0] == ("n00000009", "class_9", 1.0)
    with pytest.raises(ValueError, match=THREE_PARTS):
        imagenet_functions.decode_predictions(scores[0])
