import keras
import numpy as np
import pytest

from keras_condense.losses import SmoothedCrossentropy


@pytest.mark.parametrize("smoothing", [0.0, 0.05, 0.3])
def test_equal_to_keras_loss_of_one_hot_labels(smoothing):
    rng = np.random.default_rng(0)
    scores = keras.ops.softmax(rng.normal(size=(6, 5)).astype("float32"))
    labels = rng.integers(0, 5, (6, 1))
    expected = keras.losses.CategoricalCrossentropy(label_smoothing=smoothing)(np.eye(5)[labels[:, 0]], scores)
    for given in (labels, labels[:, 0]):
        np.testing.assert_allclose(float(SmoothedCrossentropy(smoothing)(given, scores)), float(expected), rtol=1e-6)


def test_saved_with_a_model(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, activation="softmax")])
    model.compile("sgd", SmoothedCrossentropy(0.2))
    model.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").loss.label_smoothing == 0.2


@pytest.mark.parametrize("smoothing", [-0.1, 1, "0.1", None, float("nan")])
def test_smoothing_out_of_range(smoothing):
    with pytest.raises(ValueError, match=r"`label_smoothing` \(=.*\) must be a number in \[0, 1\)"):
        SmoothedCrossentropy(smoothing)
