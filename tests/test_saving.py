import errno
import os
import zipfile

import keras
import numpy as np
import pytest

from keras_condense.applications import CondenseNet
from keras_condense.layers import LearnedGroupConv2D
from keras_condense.saving import load_model, save_model


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    model = CondenseNet((1,), (4,), stem_strides=1, input_shape=(4, 4, 1), classes=2, condense_factor=2)
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


@pytest.fixture
def saved(model, tmp_path):
    save_model(model, tmp_path / "model.keras")
    return tmp_path / "model.keras"


def test_a_model_comes_back_with_masks_and_optimizer(model, tmp_path):
    learned = next(layer for layer in model.layers if isinstance(layer, LearnedGroupConv2D))
    learned.condense_to(learned.final_stage)
    model.fit(np.ones((4, 4, 4, 1)), np.zeros(4), verbose=0)
    save_model(model, tmp_path / "model.keras")
    loaded = load_model(str(tmp_path / "model.keras"))
    assert [variable.path for variable in loaded.weights] == [variable.path for variable in model.weights]
    for ours, theirs in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
    assert loaded.get_layer(learned.name).stage == learned.final_stage
    assert int(loaded.optimizer.iterations) == 1
    assert os.listdir(tmp_path) == ["model.keras"]


def test_keras_alone_loads_it(saved, model):
    images = np.random.default_rng(0).normal(size=(2, 4, 4, 1))
    loaded = keras.models.load_model(saved)
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), model.predict(images, verbose=0))


@pytest.mark.parametrize("name", ["model.h5", "model", "model.keras.zip"])
def test_another_suffix_is_refused(model, tmp_path, name):
    for call in (lambda path: save_model(model, path), load_model):
        with pytest.raises(ValueError, match=r"must end in '\.keras'\. Name it so"):
            call(tmp_path / name)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("bad", [None, "model.keras", keras.layers.Dense(1)])
def test_what_is_no_model_is_not_saved(bad, tmp_path):
    with pytest.raises(ValueError, match="must be a Keras model"):
        save_model(bad, tmp_path / "model.keras")
    assert not os.listdir(tmp_path)


def test_a_missing_folder_is_refused(model, tmp_path):
    with pytest.raises(ValueError, match="must be in an existing folder"):
        save_model(model, tmp_path / "none" / "model.keras")


def test_a_failed_write_keeps_what_was_there(model, saved, monkeypatch):
    before = saved.read_bytes()

    def full(_self, path, **_kwargs):
        path.write_bytes(before[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(keras.Model, "save", full)
    with pytest.raises(OSError, match="No space left"):
        save_model(model, saved)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == ["model.keras"]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_file_is_named(saved, share):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"model\.keras'\) must be a whole Keras model file, and is truncated"):
        load_model(saved)


def test_a_flipped_byte_never_ends_in_another_error(saved):
    """Where a byte is changed, the file loads as it was or is refused by its name."""
    content = saved.read_bytes()
    expected = [np.asarray(weight) for weight in load_model(saved).weights]
    for position in np.random.default_rng(0).integers(0, len(content), 30).tolist():
        damaged = bytearray(content)
        damaged[position] ^= 0x55
        saved.write_bytes(damaged)
        try:
            loaded = load_model(saved)
        except ValueError as error:
            assert "model.keras" in str(error)  # noqa: PT017
        else:
            for weight, value in zip(loaded.weights, expected, strict=True):
                np.testing.assert_array_equal(np.asarray(weight), value)


def test_another_archive_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("document.xml", "<document/>")
    with pytest.raises(ValueError, match=r"an archive without config\.json, metadata\.json, model\.weights\.h5"):
        load_model(tmp_path / "model.keras")


def test_the_right_names_with_the_wrong_content_are_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        for member in ("config.json", "metadata.json", "model.weights.h5"):
            archive.writestr(member, "nothing")
    with pytest.raises(ValueError, match="must hold a model that this installation knows"):
        load_model(tmp_path / "model.keras")


def test_an_unknown_layer_is_named(tmp_path):
    class Strange(keras.layers.Layer):
        pass

    save_model(keras.Sequential([keras.Input((2,)), Strange()]), tmp_path / "model.keras")
    with pytest.raises(ValueError, match=r"knows, and loading it failed: .*Strange"):
        load_model(tmp_path / "model.keras")


@pytest.mark.parametrize("path", [None, 3])
def test_what_is_no_path_is_refused(model, path):
    for use in (load_model, lambda path: save_model(model, path)):
        with pytest.raises(ValueError, match=rf"`path` \(={path}\) must be a string or a path\. Give"):
            use(path)


def test_a_folder_of_that_name_is_refused(tmp_path):
    (tmp_path / "model.keras").mkdir()
    with pytest.raises(ValueError, match="must be a regular file, and is a folder"):
        load_model(tmp_path / "model.keras")
