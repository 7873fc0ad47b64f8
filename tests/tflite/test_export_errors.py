"""What export_tflite refuses, before a file is touched; and disks that are full."""

import errno
import pathlib

import keras
import numpy as np
import pytest
import tflite_networks as networks

from keras_condense.tflite import export_tflite

tf = pytest.importorskip("tensorflow")


# Float32 sums of some hundred terms, in another order than Keras' own: 1e-6 is seen, and 1e-4 is the promise.
def with_nan():
    model = networks.condensed(blocks=((1, 8),))
    weights = model.get_layer("logits").get_weights()
    weights[0][2, 1] = np.nan
    model.get_layer("logits").set_weights(weights)
    return model


def of_any_size():
    inputs = keras.Input((None, None, 3), name="photo")
    return keras.Model(inputs, keras.layers.Conv2D(2, 3)(inputs))


def of_fixed_batch():
    inputs = keras.Input(batch_shape=(4, 8), name="rows")
    return keras.Model(inputs, keras.layers.Dense(2)(inputs))


REFUSED = [
    (lambda: "model.keras", r"`model` \(='model.keras'\) must be a keras.Model. Load a saved one"),
    (lambda: keras.Sequential([keras.layers.Dense(2)], name="late"), r"`model` \(='late'\) must be built"),
    (networks.Subclassed, "must be built"),
    (of_any_size, r"Input 'photo' of `model` has the shape \(None, None, None, 3\)"),
    (of_fixed_batch, r"Input 'rows' of `model` has the shape \(4, 8\), a fixed batch"),
    (with_nan, "Weight 'logits/kernel' of `model` must be finite"),
    (networks.with_missing_operator, "tf.Svd in layer 'decompose_3'. Replace the layer"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_unfit_model_is_refused_and_the_file_stays(make, message, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"before")
    with pytest.raises(ValueError, match=message):
        export_tflite(make(), path)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_other_backend_is_refused(monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="runs on the Keras backend 'jax', and export needs 'tensorflow'"):
        export_tflite(networks.masked())


def test_path_is_checked_before_the_work(tmp_path):
    with pytest.raises(ValueError, match="must be in an existing folder"):
        export_tflite(networks.masked(), tmp_path / "missing" / "model.tflite")


def test_full_temporary_folder_is_an_error_and_not_a_file_without_names(tmp_path, monkeypatch):
    from tensorflow.python.saved_model import save

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(save, "save", full)
    with pytest.raises(OSError, match=r"The temporary folder .* must have room"):
        export_tflite(networks.masked(), tmp_path / "model.tflite")
    assert list(tmp_path.iterdir()) == []


def test_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"before")

    def full(self, data):
        with open(self, "wb") as file:
            file.write(data[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left on device"):
            export_tflite(networks.masked(), path)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]
