"""Sizes of files as stored, zipped and entropy-coded, against the arrays that went into them."""

import io
import pathlib
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import entropy

import keras_condense as kc
from keras_condense.tflite.coded_size import entropy_bytes


def dense(kernel):
    model = keras.Sequential([keras.Input((len(kernel),)), keras.layers.Dense(kernel.shape[1], use_bias=False)])
    model.layers[0].set_weights([kernel.astype("float32")])
    return kc.export_tflite(model)


@pytest.mark.parametrize("values", [1, 2, 5, 30])
def test_few_values_weigh_their_entropy(values):
    kernel = np.random.default_rng(values).integers(1, values + 1, (200, 100)) / 8
    file = dense(kernel)
    size = kc.coded_size(file)
    assert size.stored == len(file)
    others = len(file) - 4 * kernel.size
    counts = np.unique(kernel, return_counts=True)[1]
    coded = entropy(counts, base=2) * kernel.size / 8 + 4 * len(counts)
    assert size.entropy == pytest.approx(others + coded, abs=40)  # a shape or two are constants, too


def test_all_different_values_are_stored():
    file = dense(np.random.default_rng(0).normal(size=(100, 100)))
    size = kc.coded_size(file)
    assert size.stored - 60 < size.entropy <= size.stored


def test_zipped_is_what_a_zip_program_makes(tmp_path):
    kernel = np.random.default_rng(0).normal(size=(100, 100)) * (np.random.default_rng(1).random((100, 100)) < 0.1)
    path = tmp_path / "pruned.tflite"
    path.write_bytes(dense(kernel))
    with zipfile.ZipFile(io.BytesIO(), "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.write(path, "model.tflite")
        packed = archive.infolist()[0].compress_size
    size = kc.coded_size(path)
    assert packed < size.zipped < packed + 200
    # 1,000 of 10,000 weights are left, of which each has a value of its own
    assert size.zipped < 0.25 * size.stored


def test_pruned_weights_weigh_less_zipped():
    image = keras.Input((8, 8, 32))
    model = keras.Model(image, keras.layers.Conv2D(64, 1, name="conv")(image))
    pruned = kc.condense(kc.prune_weights(model, 0.9), finish=True)
    sizes = [kc.coded_size(tf.lite.TFLiteConverter.from_keras_model(each).convert()) for each in (model, pruned)]
    assert abs(sizes[0].stored - sizes[1].stored) < 100
    assert sizes[1].zipped < 0.4 * sizes[0].zipped
    assert sizes[1].entropy < 0.5 * sizes[0].entropy


@pytest.mark.parametrize("array", [np.arange(100), np.repeat(np.int8([1, -3, 7]), [80, 15, 5]), np.zeros(4)])
def test_entropy_against_scipy(array):
    counts = np.unique(array, return_counts=True)[1]
    expected = np.ceil(entropy(counts, base=2) * array.size / 8 - 1e-9) + len(counts) * array.itemsize
    assert entropy_bytes(array) == expected


def test_wrong_files(tmp_path):
    with pytest.raises(ValueError, match="must be a TensorFlow Lite model"):
        kc.coded_size(b"PK and so on")
    with pytest.raises(ValueError, match=r"no\.tflite"):
        kc.coded_size(pathlib.Path("no.tflite"))
