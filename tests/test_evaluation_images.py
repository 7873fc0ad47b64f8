"""Images for evaluation against Pillow, with torchvision's rule for the sides, and TFDS' own reading."""

import io
import pathlib
import sys

import numpy as np
import pytest
from imagenet_images import KINDS, LABELS, draw, encoded, write
from PIL import Image
from tfds_prepared import prepare_cifar, prepare_imagenet

from keras_condense import datasets
from keras_condense.applications.preprocessing import CIFAR, IMAGENET, KERAS_MOBILENET, Preprocessing
from keras_condense.datasets import imagenet
from keras_condense.datasets.sources import tfds_names

tfds = pytest.importorskip("tensorflow_datasets")
SMALL = Preprocessing(size=28, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


def pillow_crop(image, shorter, size, resampling=Image.Resampling.BILINEAR):
    """What torchvision's Resize(shorter) and CenterCrop(size) do to a Pillow image."""
    width, height = image.size
    is_tall = width <= height
    sides = (shorter, int(shorter * height / width)) if is_tall else (int(shorter * width / height), shorter)
    image = image.convert("RGB").resize(sides, resampling)
    left, top = round((sides[0] - size) / 2.0), round((sides[1] - size) / 2.0)
    return np.asarray(image.crop((left, top, left + size, top + size)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imagenet")
    write(folder / "val")
    (folder / "train" / "n01440764").mkdir(parents=True)
    return folder


@pytest.mark.parametrize("inside", [False, True])
def test_a_folder_is_cropped_as_pillow_does(folder, inside):
    data = datasets.load_evaluation(folder / "val" if inside else folder, IMAGENET, batch_size=4)
    assert (data.size, len(data), len(data.class_names)) == (len(KINDS), 3, 1000)
    paths = sorted((folder / "val").glob("*/*"))
    batches = list(data)
    assert [len(images) for images, _ in batches] == [4, 4, 1]
    images, labels = (np.concatenate(part) for part in zip(*batches, strict=True))
    assert (images.dtype, images.shape, labels.dtype) == ("float32", (len(paths), 224, 224, 3), "int32")
    assert labels.tolist() == [LABELS[path.parent.name] for path in paths]
    for image, path in zip(images, paths, strict=True):
        expected = pillow_crop(Image.open(path), 256, 224)
        pixels = (image.astype("float64") * (0.229, 0.224, 0.225) + (0.485, 0.456, 0.406)) * 255
        np.testing.assert_allclose(pixels, np.rint(pixels), atol=1e-3)  # whole levels, as torchvision has them
        np.testing.assert_array_equal(np.rint(pixels), expected)


def test_a_second_pass_is_the_same(folder):
    data = datasets.load_evaluation(folder, SMALL, batch_size=9)
    (one,), (other,) = list(data), list(data)
    np.testing.assert_array_equal(one[0], other[0])
    next(iter(data))  # and one that is left


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize(("width", "height"), [(75, 50), (45, 80), (34, 31), (20, 27)])
def test_every_interpolation_is_pillows(interpolation, width, height):
    how = Preprocessing(size=29, mean=(0, 0, 0), std=(1, 1, 1), crop_fraction=0.9, interpolation=interpolation)
    image = draw(width, height, 5)
    expected = pillow_crop(image, 33, 29, Image.Resampling[interpolation.upper()])
    np.testing.assert_array_equal(datasets.evaluation_crop(np.asarray(image), how), expected)


def test_images_of_the_right_size_are_left_alone():
    image = np.asarray(draw(32, 32, 1))
    np.testing.assert_array_equal(datasets.evaluation_crop(image, CIFAR), image)


def test_the_weights_own_normalisation_is_used(folder):
    swapped = Preprocessing(size=28, mean=(1, 2, 3), std=(1, 2, 4), channel_order="bgr", scale=1.0)
    ((images, _),), ((others, _),) = (list(datasets.load_evaluation(folder, how)) for how in (SMALL, swapped))
    pixels = (images * SMALL.std + SMALL.mean) * 255
    np.testing.assert_allclose(others, (pixels[..., ::-1] - (1, 2, 3)) / (1, 2, 4), atol=1e-3)


def test_what_is_evaluated_is_said(folder):
    assert str(datasets.load_evaluation(folder, KERAS_MOBILENET)).splitlines() == [
        f"images         9 of {folder}, a folder for each class, 1,000 classes",
        "crop           shorter side resized to 256 (bilinear, antialiased), the middle 224x224 of it",
        "normalisation  (pixels * 0.00392157 - mean) / std, RGB, mean 0.5 0.5 0.5, std 0.5 0.5 0.5",
    ]


def test_labels_are_places_among_imagenets_sorted_classes():
    names = imagenet.imagenet_classes()
    assert list(names) == sorted(names)
    assert imagenet.has_imagenet_classes(names)
    assert not imagenet.has_imagenet_classes(names[::-1])
    assert tuple(tfds.builder("imagenet_v2").info.features["label"].names) == names
    assert not imagenet.has_imagenet_classes(tfds.builder("imagenet_resized/32x32").info.features["label"].names)


# TensorFlow Datasets


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A data_dir with `imagenet2012`, whose test images have no labels, `imagenet_v2` and `cifar10`."""
    folder = tmp_path_factory.mktemp("tfds")
    prepare_imagenet(folder, "imagenet2012", "5.1.0", {"train": [0, 1], "validation": [7, 999, 7], "test": [-1]})
    prepare_imagenet(folder, "imagenet_v2", "3.0.0", {"test": [3, 998]}, config="matched-frequency")
    prepare_cifar(folder, "cifar10", {"test": 5})
    prepare_cifar(folder, "only_train", {"train": 5})
    return folder


@pytest.mark.parametrize(
    ("name", "split", "count", "full_name"),
    [
        ("imagenet2012", "validation", 3, "imagenet2012/5.1.0"),
        ("imagenet_v2", "test", 2, "imagenet_v2/matched-frequency/3.0.0"),
        ("cifar10", "test", 5, "cifar10/3.0.2"),
    ],
)
def test_a_tfds_name(prepared, name, split, count, full_name):
    how = CIFAR if name == "cifar10" else SMALL
    data = datasets.load_evaluation(name, how, data_dir=prepared, download=False, batch_size=2)
    assert (data.size, data.part) == (count, f"split {split!r} as {full_name}")
    images, labels = (np.concatenate(part) for part in zip(*data, strict=True))
    theirs = tfds.load(name, data_dir=prepared, download=False, split=split, shuffle_files=False)
    theirs = list(theirs.as_numpy_iterator())
    assert labels.tolist() == [example["label"] for example in theirs]
    for image, example in zip(images, theirs, strict=True):
        original = example["image"]
        if name != "cifar10":  # TensorFlow decodes JPEG otherwise; the file's name says which image it was
            seed = int(example["file_name"])
            original = np.asarray(Image.open(io.BytesIO(encoded(draw(60 + seed, 50, seed)))))
        expected = pillow_crop(Image.fromarray(original), how.resize_to, how.size)
        np.testing.assert_array_equal(np.rint((image * how.std + how.mean) * 255), expected)
    assert len(data.class_names) == (2 if name == "cifar10" else 1000)


def test_labels_that_are_missing(prepared, monkeypatch):
    monkeypatch.setattr(tfds_names, "_EVALUATION_SPLITS", ("test",))
    data = datasets.load_evaluation("imagenet2012", SMALL, data_dir=prepared, download=False)
    with pytest.raises(ValueError, match=r"label in 0\.\.999 .*image 0 of imagenet2012/5\.1\.0.* has -1\. Choose"):
        list(data)


def test_a_record_that_was_cut_short(prepared, tmp_path):
    prepare_cifar(tmp_path, "cifar10", {"test": 5})
    (record,) = pathlib.Path(tmp_path).rglob("*.tfrecord*")
    record.write_bytes(record.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"'cifar10'\) must be whole in .*reading it failed \(.*prepare it again"):
        list(datasets.load_evaluation("cifar10", CIFAR, data_dir=tmp_path, download=False))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("imagenet2012", r"must be prepared in `data_dir` .*if download=False"),
        (
            "imagenet_v3",
            r"`name` \(='imagenet_v3'\) must be .* a name of .* an existing folder\. Did you mean 'imagenet_v2'",
        ),
        ("no/such/folder", r"`name` \(='no/such/folder'\) must be .* a name of .*spelling"),
        ("", r"`name` \(=''\) must be a name or a folder"),
        (None, r"`name` \(=None\) must be a name or a folder"),
        ("missing.npz", "must be an existing file"),
    ],
)
def test_names_that_are_none(name, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        datasets.load_evaluation(name, IMAGENET, data_dir=tmp_path, download=False)


def test_imagenet_must_be_downloaded_by_hand(tmp_path):
    with pytest.raises(ValueError, match=r"'imagenet2012'\) must be downloaded by hand.*tfds build imagenet2012"):
        datasets.load_evaluation("imagenet2012", IMAGENET, data_dir=tmp_path)


def test_a_data_set_of_training_images_alone(prepared):
    with pytest.raises(ValueError, match=r"'only_train'\) must be prepared with a split 'validation' or 'test'.*train"):
        datasets.load_evaluation("only_train", IMAGENET, data_dir=prepared, download=False)


def test_arguments_of_another_kind(folder):
    with pytest.raises(ValueError, match=r"`preprocessing` \(='imagenet'\) must be a Preprocessing\. Use one of"):
        datasets.load_evaluation(folder, "imagenet")
    with pytest.raises(ValueError, match=r"`batch_size` \(=0\) must be a positive integer"):
        datasets.load_evaluation(folder, IMAGENET, batch_size=0)


def test_a_name_needs_tensorflow_datasets_and_a_folder_all_classes(folder, tmp_path, monkeypatch):
    names = imagenet.imagenet_classes()
    for number, name in enumerate(names):
        (tmp_path / name).mkdir()
        if number in (0, 999):
            (tmp_path / name / "1.JPEG").write_bytes(encoded(draw(40, 40, number)))
    image = encoded(draw(40, 40, 0))
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match=r'pip install "keras-condense\[tfds\]"'):
        datasets.load_evaluation("imagenet_v2", SMALL)
    with pytest.raises(ValueError, match=r"a folder for each of ImageNet's 1000 classes.*missing; 3 were found\. Add"):
        datasets.load_evaluation(folder, SMALL)
    with pytest.raises(ValueError, match="must have images in every class folder"):
        datasets.load_evaluation(tmp_path, SMALL)
    for name in names:
        (tmp_path / name / "1.JPEG").write_bytes(image)
    data = datasets.load_evaluation(tmp_path, SMALL, batch_size=500)
    assert data.class_names == names
    assert np.concatenate([labels for _, labels in data]).tolist() == list(range(1000))
    (tmp_path / names[500]).rename(tmp_path / "n99999999")
    with pytest.raises(ValueError, match="must hold ImageNet's own 1000 classes, and its folders are others"):
        datasets.load_evaluation(tmp_path, SMALL)


# folders of other layouts


def flat(folder):
    (folder / "val").mkdir()
    draw(40, 40, 0).save(folder / "val" / "ILSVRC2012_val_00000001.JPEG")


def flat_beside_classes(folder):
    write(folder)
    draw(40, 40, 0).save(folder / "ILSVRC2012_val_00000001.JPEG")


def only_train(folder):
    write(folder / "train")


def unknown_class(folder):
    write(folder)
    (folder / "n01440764").rename(folder / "n99999999")


def class_by_name(folder):
    write(folder / "val")
    (folder / "val" / "n01440764").rename(folder / "val" / "tench")


def class_by_number(folder):
    write(folder)
    for number, name in enumerate(LABELS):
        (folder / name).rename(folder / str(number))


def empty_class(folder):
    write(folder)
    (folder / "n01443538").mkdir()


@pytest.mark.parametrize(
    ("lay_out", "message"),
    [
        (flat, r"1 images lie outside of any, such as 'ILSVRC2012_val_00000001.JPEG'.*ground truth, which is not read"),
        (flat_beside_classes, r"1 images lie outside of any"),
        (only_train, r"must hold the validation images in a folder named 'val' beside 'train', and has none"),
        (unknown_class, r"must hold classes among ImageNet's 1000, and n99999999 is none\. Remove"),
        (class_by_name, r"val'\) must hold folders named by WordNet numbers, such as n01440764, and holds tench\. "),
        (class_by_number, r"named by WordNet numbers.*and holds 0, 1, 2\. "),
        (empty_class, r"must have images in every class folder, and there are none in \['n01443538'\]"),
        (lambda folder: None, r"must hold a folder of images for each class, and it holds none"),
    ],
)
def test_other_layouts(lay_out, message, tmp_path):
    lay_out(tmp_path)
    with pytest.raises(ValueError, match=message):
        datasets.load_evaluation(tmp_path, IMAGENET)


@pytest.mark.parametrize("content", [b"", b"no image", encoded(draw(300, 300, 0))[:2000]])
def test_a_broken_image_is_named(content, tmp_path):
    write(tmp_path)
    (tmp_path / "n01443537" / "broken.JPEG").write_bytes(content)
    data = datasets.load_evaluation(tmp_path, SMALL, batch_size=2)
    with pytest.raises(ValueError, match=rf"broken.JPEG' \({len(content):,} bytes\) must be an image .*Copy it again"):
        list(data)


def test_an_image_that_is_gone(tmp_path):
    write(tmp_path)
    data = datasets.load_evaluation(tmp_path, SMALL)
    next((tmp_path / "n01440764").iterdir()).unlink()
    with pytest.raises(ValueError, match=r"must be a file that can be read, and it can't \(No such file"):
        list(data)


# arrays


def test_arrays_and_digits_are_resized_and_normalised(tmp_path):
    digits = datasets.load_arrays("digits")
    digits.save(tmp_path / "digits.npz")
    for name in ("digits", tmp_path / "digits.npz"):
        data = datasets.load_evaluation(name, CIFAR, batch_size=100)
        images, labels = (np.concatenate(part) for part in zip(*data, strict=True))
        assert (images.shape, data.class_names) == ((360, 32, 32, 3), digits.class_names)
        np.testing.assert_array_equal(labels, digits.test_labels)
        expected = pillow_crop(Image.fromarray(digits.test_images[7, ..., 0]), 32, 32)
        np.testing.assert_array_equal(np.rint((images[7] * CIFAR.std + CIFAR.mean) * 255), expected)
