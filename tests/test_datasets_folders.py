"""Folders of images, whole ones against Pillow, and those that can't be used."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf
from made_images import arrays, paint
from PIL import Image

from keras_condense import datasets
from keras_condense.datasets import Augmentation, decoding, examples, pixels
from keras_condense.datasets.pixels import fit_pixels


@pytest.fixture
def folder(tmp_path):
    """train and test, two classes, 3 and 2 images each."""
    for part, count in (("train", 3), ("test", 2)):
        for number, name in enumerate(("cat", "dog")):
            for i in range(count):
                paint(tmp_path / "pets" / part / name / f"{i}.png", seed=100 * number + i + 10 * (part == "test"))
    return tmp_path / "pets"


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_folder_with_train_and_test(folder, in_memory, monkeypatch):
    if not in_memory:
        monkeypatch.setattr(examples, "IN_MEMORY_BYTES", 0)
    data = datasets.load(folder, batch_size=4)
    assert data.class_names == ("cat", "dog")
    assert data.image_shape == (5, 6, 3)
    assert (data.train_size, data.test_size, data.steps_per_epoch) == (6, 4, 2)
    images, labels = data.test_arrays()
    assert labels.tolist() == [0, 0, 1, 1]
    files = [folder / "test" / name / f"{i}.png" for name in ("cat", "dog") for i in range(2)]
    pixels = np.stack([np.asarray(Image.open(file)) for file in files]) / 255
    expected = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(images, expected, atol=1e-5)
    assert data.augmentation == Augmentation(4, True)
    tail = [batch[0] for batch in data.training(0, epochs=2).skip(2).as_numpy_iterator()]
    for one, other in zip(tail, data.training(1, epochs=2).as_numpy_iterator(), strict=True):
        np.testing.assert_array_equal(one, other[0])


def test_file_and_memory_streams_are_the_same(folder, monkeypatch):
    held = arrays(datasets.load(folder).training(0, epochs=2))
    monkeypatch.setattr(examples, "IN_MEMORY_BYTES", 0)
    read = arrays(datasets.load(folder).training(0, epochs=2))
    np.testing.assert_array_equal(held[0], read[0])
    np.testing.assert_array_equal(held[1], read[1])


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_folder_as_arrays(folder, in_memory, monkeypatch):
    if not in_memory:
        monkeypatch.setattr(examples, "IN_MEMORY_BYTES", 0)
    ours, theirs = datasets.load_arrays(folder, batch_size=4), datasets.load(folder, batch_size=4)
    assert (ours.name, ours.class_names, ours.mean) == (theirs.name, theirs.class_names, theirs.mean)
    assert (ours.image_shape, ours.train_size, ours.steps_per_epoch) == ((5, 6, 3), 6, 1)
    for one, other in zip(ours.test_arrays(), theirs.test_arrays(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_imagenets_val_is_the_test_set(folder):
    (folder / "test").rename(folder / "val")
    assert datasets.load(folder).test_size == 4


def test_a_folder_of_classes_is_split_alike_for_every_seed(tmp_path):
    for number, name in enumerate(("a", "b")):
        for i in range(10):
            paint(tmp_path / name / f"{i}.png", seed=100 * number + i)
    data = datasets.load(tmp_path, test_fraction=0.3)
    assert (data.train_size, data.test_size) == (14, 6)
    images, labels = data.test_arrays()
    assert np.bincount(labels).tolist() == [3, 3]
    np.testing.assert_array_equal(datasets.load(tmp_path, test_fraction=0.3, seed=9).test_arrays()[0], images)
    assert not np.array_equal(datasets.load(tmp_path, test_fraction=0.3, split_seed=1).test_arrays()[0], images)
    with pytest.raises(ValueError, match=r"`test_fraction` asks for 1 of 20 .* at least one example of every class"):
        datasets.load(tmp_path, test_fraction=0.05)


def test_gray_rgb_alpha_and_other_formats_become_one_shape(tmp_path):
    for name in ("a", "b"):
        for i, (mode, ending) in enumerate([("L", "png"), ("RGB", "bmp"), ("RGBA", "png"), ("L", "jpg"), ("L", "GIF")]):
            paint(tmp_path / "train" / name / f"{i}.{ending}", mode=mode, size=(9, 7 + i))
            paint(tmp_path / "test" / name / f"{i}.{ending}", mode=mode, size=(9, 7 + i))
    for channels in (3, 1):
        data = datasets.load(tmp_path, image_size=8, channels=channels)
        assert data.image_shape == (8, 8, channels)
        assert data.test_arrays()[0].shape == (10, 8, 8, channels)
    with pytest.raises(ValueError, match=r"`image_size` \(=None\) must be given .* 5 sizes.*Give one"):
        datasets.load(tmp_path)


def test_foreign_files_are_left_out_with_a_warning(folder):
    (folder / "train" / "cat" / "notes.txt").write_text("cats")
    (folder / "train" / "cat" / ".hidden").write_text("cats")
    with pytest.warns(UserWarning, match=r"1 files in .* are left out.*notes\.txt"):
        data = datasets.load(folder)
    assert data.train_size == 6


# folders that can't be used


def break_images(folder, count):
    for i in range(count):
        path = paint(folder / "train" / "cat" / f"broken{i:02}.png")
        path.write_bytes([path.read_bytes()[:-30], b"", b"no image"][i % 3])


def test_broken_images_are_named_before_training(folder):
    break_images(folder, 12)
    with pytest.raises(ValueError, match=r"12 of its 22 can't: .*broken00\.png.*broken09\.png and 2 more\. Fix") as e:
        datasets.load(folder)
    assert "broken10" not in str(e.value)


def test_a_broken_image_of_a_folder_too_large_for_memory_is_named_when_it_is_read(folder, monkeypatch):
    monkeypatch.setattr(examples, "IN_MEMORY_BYTES", 0)
    path = folder / "train" / "cat" / "1.png"
    path.write_bytes(path.read_bytes()[:-30])
    read, read_image = [], examples.read_image
    monkeypatch.setattr(examples, "read_image", lambda *arguments: read.append(arguments) or read_image(*arguments))
    data = datasets.load(folder)
    assert not read  # no image was decoded to load the folder
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"cat/1\.png' must be an image that can be decoded"):
        list(data.train)
    with pytest.warns(UserWarning, match=r"1 of 10 images can't be decoded and are skipped: .*cat/1\.png\.$"):
        data = datasets.load(folder, skip_broken=True)
    assert sorted(arrays(data.train)[1].tolist()) == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("content", [b"", b"no image"])
def test_broken_headers_are_named_before_training_in_a_folder_of_any_size(folder, monkeypatch, content):
    monkeypatch.setattr(examples, "IN_MEMORY_BYTES", 0)
    (folder / "train" / "cat" / "1.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"1 of its 10 can't: .*cat/1\.png\. Fix"):
        datasets.load(folder)


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_a_header_tells_the_size_of_a_turned_image(tmp_path, kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((5, 9, 3), "uint8")).save(tmp_path / "turned", kind, exif=exif)
    assert (
        decoding.header_size(str(tmp_path / "turned"))
        == (9, 5)
        == decoding.read_image(str(tmp_path / "turned")).shape[:2]
    )


def test_broken_images_are_skipped_on_request_only(folder):
    break_images(folder, 3)
    with pytest.warns(UserWarning, match=r"3 of 13 images .* skipped: .*broken00\.png.*broken02\.png\.$"):
        data = datasets.load(folder, skip_broken=True)
    assert data.train_size == 6
    assert np.isfinite(arrays(data.train)[0]).all()


def test_a_class_of_broken_images_only(folder):
    for path in (folder / "train" / "dog").iterdir():
        path.write_bytes(b"no image")
    with (
        pytest.warns(UserWarning, match="3 of 10 images"),
        pytest.raises(ValueError, match=r"all those in \['dog'\] are broken\. Fix them or remove"),
    ):
        datasets.load(folder, skip_broken=True)


def test_an_empty_folder(tmp_path):
    with pytest.raises(ValueError, match=r"must hold a folder of images for each class, and it holds none\. Lay"):
        datasets.load(tmp_path)


def test_images_without_class_folders(tmp_path):
    paint(tmp_path / "0.png")
    with pytest.raises(ValueError, match=r"it holds images without class folders\. Lay"):
        datasets.load(tmp_path)


def test_class_folders_without_images(tmp_path):
    (tmp_path / "cat").mkdir()
    paint(tmp_path / "dog" / "0.png")
    with pytest.raises(ValueError, match=r"must have images in every class folder, .* none in \['cat'\]\. Add"):
        datasets.load(tmp_path)


def test_a_class_missing_in_test(folder):
    (folder / "test" / "dog").rename(folder / "test" / "dgo")
    with pytest.raises(ValueError, match=r"'test' lacks \['dog'\] and has \['dgo'\] in excess\. Add or remove"):
        datasets.load(folder)


def test_an_unreadable_folder(folder, monkeypatch):
    # permissions don't bind root, as whom containers run tests
    iterdir = pathlib.Path.iterdir

    def refuse(path):
        if path.name == "dog":
            raise PermissionError(13, "Permission denied", str(path))
        return iterdir(path)

    monkeypatch.setattr(pathlib.Path, "iterdir", refuse)
    with pytest.raises(ValueError, match=r"must be a folder that can be read, .* \(Permission denied\)\. Change") as e:
        datasets.load(folder)
    assert isinstance(e.value.__cause__, PermissionError)


def test_a_file_is_no_folder(tmp_path):
    with pytest.raises(ValueError, match="or an existing folder"):
        datasets.load(paint(tmp_path / "0.png"))


@pytest.mark.parametrize(("train", "test"), [("Training", "Testing"), ("TRAIN", "Valid"), ("train", "validation")])
def test_folders_of_splits_by_their_usual_names(folder, train, test):
    (folder / "train").rename(folder / train)
    (folder / "test").rename(folder / test)
    data = datasets.load(folder)
    assert (data.class_names, data.train_size, data.test_size) == (("cat", "dog"), 6, 4)


def test_a_split_that_is_not_read_is_named(folder):
    paint(folder / "val" / "cat" / "0.png", seed=50)
    with pytest.warns(UserWarning, match="'train' is read to train on and 'test' to test; val is not read"):
        assert datasets.load(folder).test_size == 4
    (folder / "val").rename(folder / "Val")
    (folder / "test").rename(folder / "notes")
    different = pytest.raises(ValueError, match="must have the same class folders in 'train' and 'Val'")
    with different, pytest.warns(UserWarning, match="notes is not read"):
        datasets.load(folder)


@pytest.mark.parametrize("link", [pathlib.Path.symlink_to, pathlib.Path.hardlink_to])
def test_an_image_of_both_parts_by_a_link(folder, link):
    image = folder / "test" / "cat" / "0.png"
    image.unlink()
    link(image, folder / "train" / "cat" / "0.png")
    with pytest.raises(ValueError, match=r"folder in which no image comes up twice, and .*test/cat/0\.png' is"):
        datasets.load(folder)


def test_a_class_too_small_for_both_parts(tmp_path):
    for number in range(30):
        paint(tmp_path / ("b" if number < 2 else "a") / f"{number}.png", seed=number)
    with pytest.raises(ValueError, match=r"every class, of which one has none of \[1\]\. Give another fraction"):
        datasets.load(tmp_path, test_fraction=0.2)


def test_large_images_are_fitted_a_few_at_a_time(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (7, 9, 8, 3), "uint8")
    whole = fit_pixels(images, (5, 12, 1))
    monkeypatch.setattr(pixels, "_AT_ONCE", 500)  # two images
    np.testing.assert_array_equal(fit_pixels(images, (5, 12, 1)), whole)
    assert fit_pixels(images[:0], (5, 12, 1)).shape == (0, 5, 12, 1)


def test_numbers_that_equal_the_right_ones(folder):
    data = datasets.load(folder, channels=np.int64(1), drop_remainder=np.bool_(True), batch_size=np.int64(4))
    assert (data.image_shape, data.steps_per_epoch, type(data.batch_size)) == ((5, 6, 1), 1, int)


def test_a_file_that_is_no_image_is_refused_without_names_of_operations():
    with pytest.raises(ValueError, match=r"is not \(Unknown image file format") as error:
        decoding.decode_image(b"no image at all", 3)
    assert "{{" not in str(error.value)
    assert "[Op" not in str(error.value)
