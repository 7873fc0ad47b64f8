"""`resize="photographs"`: boxes out of the files' own pixels and the middle of the others, against Pillow and NumPy."""

import io

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from imagenet_images import draw
from made_images import made_of
from PIL import Image
from tfds_prepared import prepare

import keras_condense as kc
from keras_condense import datasets
from keras_condense.applications.preprocessing import IMAGENET, Preprocessing
from keras_condense.datasets import Augmentation
from keras_condense.datasets.decoding import decode_with_pillow, read_image
from keras_condense.datasets.drawing import Drawing
from keras_condense.datasets.photographs import box_in_file
from keras_condense.datasets.pixels import fit_pixels
from keras_condense.predicting import predict

SIDE = 32
BOXES = Augmentation(pad=0, flip=True, scale=(0.08, 1.0))
UNCHANGED = {"mean": (0.0,) * 3, "std": (1 / 255,) * 3}  # so that batches hold pixels


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 1000))
def test_boxes_have_area_and_ratio_of_torchvision(height, width, seed):
    drawing = Drawing(20, (1000, 1000, 3), seed, Augmentation(pad=0, scale=(0.08, 0.5)))
    for row in drawing.epoch(0):
        top, left, tall, wide = box_in_file(row, drawing.image_shape, (height, width))
        area, ratio = row[4] * row[5] / 1000**2, row[5] / row[4]
        # RandomResizedCrop.get_params; a box of the file's whole height or width is left, where it draws again
        expected_wide = round(np.sqrt(height * width * area * ratio))
        expected_tall = round(np.sqrt(height * width * area / ratio))
        assert abs(tall - min(max(expected_tall, 1), height)) <= 1
        assert abs(wide - min(max(expected_wide, 1), width)) <= 1
        assert 0 <= top <= height - tall
        assert 0 <= left <= width - wide
        assert abs(top - row[1] / (1000 - row[4]) * (height - tall)) <= 1
    in_graph = box_in_file(tf.constant(row), drawing.image_shape, tf.constant((height, width)), tf.experimental.numpy)
    np.testing.assert_array_equal(in_graph, (top, left, tall, wide))


def picture(number):
    return draw(90 + 7 * number, 120 - 5 * number, number)


def encode(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def turned(image):
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode(image, "jpeg", quality=95, exif=exif)


KINDS = {
    "jpeg.jpg": lambda image: encode(image, "jpeg", quality=95),
    "progressive.jpg": lambda image: encode(image, "jpeg", quality=95, progressive=True),
    "gray.jpg": lambda image: encode(image.convert("L"), "jpeg", quality=95),
    "trailing.jpg": lambda image: encode(image, "jpeg", quality=95) + b"\0more",
    "turned.jpg": turned,
    "png.png": lambda image: encode(image, "png"),
    "palette.png": lambda image: encode(image.convert("P"), "png"),
    "webp.webp": lambda image: encode(image, "webp", lossless=True),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of every kind, two of each, of which those of the test set are others."""
    folder = tmp_path_factory.mktemp("photographs")
    for part, first in (("train", 0), ("test", 2)):
        for label, name in enumerate(("a", "b")):
            (folder / part / name).mkdir(parents=True)
            for ending, made in KINDS.items():
                (folder / part / name / ending).write_bytes(made(picture(first + label)))
    return folder


def pixels_of(path):
    return decode_with_pillow(path.read_bytes())


def load(folder, **options):
    return datasets.load(folder, **({"image_size": SIDE, "batch_size": 4, "resize": "photographs"} | options))


def assert_near(shown, expected, path):
    """Nothing but rounding where files are decoded by the same means; else colours, at a box's sides."""
    differences = np.abs(shown - expected)
    is_jpeg = path.suffix == ".jpg"
    assert differences.max() <= (16 if is_jpeg else 1.01), path.name
    assert differences.mean() <= (1.5 if is_jpeg else 0.5), path.name


@pytest.mark.parametrize("crop_size", [None, (24, 20)])
def test_boxes_are_cut_out_of_the_files_and_resized_as_pillow_does_it(folder, crop_size):
    data = load(folder, augment=BOXES, **UNCHANGED)
    assert data.augmentation is BOXES
    paths = sorted((folder / "train").rglob("*.*"))
    batches = list(data.training(2, 3, crop_size))
    shown, labels = (np.concatenate(values) for values in zip(*batches, strict=True))
    rows = data._prepared.drawing(crop_size).epoch(2)
    size = crop_size or (SIDE, SIDE)
    assert shown.shape[1:] == (*size, 3)
    for image, label, row in zip(shown, labels, rows, strict=True):
        path = paths[row[0]]
        pixels = pixels_of(path)
        top, left, height, width = box_in_file(row, data.image_shape, pixels.shape[:2])
        box = Image.fromarray(pixels[top : top + height, left : left + width])
        expected = np.asarray(box.resize(size[::-1], Image.Resampling.BILINEAR))[:, :: -1 if row[3] else 1]
        assert label == ("a", "b").index(path.parent.name)
        assert_near(image, expected, path)
    assert set(rows[:, 3]) == {0, 1}


def test_the_middle_is_that_of_the_evaluation(folder):
    how = Preprocessing(size=SIDE, mean=IMAGENET.mean, std=IMAGENET.std)
    data = load(folder, augment=False, validation_fraction=0.3, **UNCHANGED)
    paths = sorted((folder / "test").rglob("*.*"))
    shown, _ = data.test_arrays()
    for image, path in zip(shown, paths, strict=True):
        expected = datasets.evaluation_crop(pixels_of(path), how)
        assert_near(image, expected, path)
        if path.name in ("jpeg.jpg", "progressive.jpg", "gray.jpg"):  # decoded as Pillow does
            assert np.abs(image - expected).max() <= 1.01
        np.testing.assert_allclose(read_image(str(path), (SIDE, SIDE, 3), "photographs"), expected, atol=16)
    trained = np.concatenate([images for images, _ in data.training(0, 1)])
    train = sorted((folder / "train").rglob("*.*"))
    rows = data._prepared.drawing().epoch(0)
    assert len(rows) == data.train_size == 11
    names = [str(path) for path in data._prepared.train.paths]
    assert set(names) < set(map(str, train))
    for image, row in zip(trained, rows, strict=True):
        path = train[list(map(str, train)).index(names[row[0]])]
        assert_near(image, datasets.evaluation_crop(pixels_of(path), how), path)


@settings(max_examples=30, deadline=None)
@given(st.integers(20, 90), st.integers(20, 90), st.integers(1, 60))
def test_pixels_in_numpy_are_those_of_the_evaluation(height, width, size):
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype="uint8")
    how = Preprocessing(size=size, mean=IMAGENET.mean, std=IMAGENET.std)
    found = fit_pixels(pixels[None], (size, size, 3), "photographs")[0]
    np.testing.assert_allclose(found, datasets.evaluation_crop(pixels, how).astype(int), atol=1)


def test_a_middle_of_other_proportions():
    pixels = np.arange(40, dtype="uint8")[None, :, None] + np.zeros((40, 1, 1), "uint8")
    found = fit_pixels(pixels[None], (14, 28, 1), "photographs")[0]  # to 32x32, of which 28 columns
    np.testing.assert_allclose(found[0, :, 0], (np.arange(2, 30) + 0.5) * 40 / 32 - 0.5, atol=0.51)


def test_gray_and_light(folder):
    gray = load(folder, channels=1, augment=BOXES, mean=(0.0,), std=(1 / 255,))
    colours = load(folder, augment=BOXES, **UNCHANGED)
    for (one, _), (three, _) in zip(gray.training(0, 1), colours.training(0, 1), strict=True):
        np.testing.assert_allclose(one[..., 0], three.numpy() @ np.array((0.2989, 0.587, 0.114)), atol=2)
    usual = load(folder, **UNCHANGED)
    assert usual.augmentation == datasets.IMAGENET
    rows = usual._prepared.drawing().epoch(0)[:4]
    bright = load(folder, augment=Augmentation(0, scale=(0.08, 1), brightness=0.4), **UNCHANGED)
    np.testing.assert_array_equal(bright._prepared.drawing().epoch(0)[:4, :6], rows[:, :6])
    dark = next(iter(bright.training(0, 1)))[0]
    expected = next(iter(colours.training(0, 1)))[0] * rows[:, 6, None, None, None] / 1000
    np.testing.assert_allclose(dark, np.clip(expected, 0, 255), atol=1e-3)


def test_records_of_tensorflow_datasets(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    images = [picture(number) for number in range(6)]
    features = {
        "image": tfds.features.Image(encoding_format="jpeg"),
        "label": tfds.features.ClassLabel(names=["a", "b"]),
    }

    def made(numbers):
        for number in numbers:
            yield {"image": io.BytesIO(encode(images[number], "jpeg", quality=95)), "label": number % 2}

    splits = {"train": made(range(4)), "test": made([4, 5])}
    prepare(tmp_path, "jpegs", "1.0.0", features, splits, ("image", "label"))
    data = load("jpegs", augment=BOXES, data_dir=tmp_path, download=False, batch_size=2, **UNCHANGED)
    ((shown, labels), (rest, _)) = data.training(1, 2)
    again, others = (list(data.training(1, 2, part=(number, 2))) for number in (0, 1))
    np.testing.assert_array_equal(np.concatenate([again[0][0], others[0][0]]), shown)
    np.testing.assert_array_equal(next(iter(data.training(1, 2, initial_step=1)))[0], rest)
    assert shown.shape == (2, SIDE, SIDE, 3)
    assert labels.dtype == tf.int32
    how = Preprocessing(size=SIDE, mean=IMAGENET.mean, std=IMAGENET.std)
    found = {}  # the stream's own order
    for image, label in zip(*data.test_arrays(), strict=True):
        found[int(label)] = image
    for label, number in ((0, 4), (1, 5)):
        pixels = decode_with_pillow(encode(images[number], "jpeg", quality=95))
        np.testing.assert_allclose(found[label], datasets.evaluation_crop(pixels, how).astype(int), atol=1.01)


def test_parts_and_runs_that_go_on_see_the_same(folder):
    data = load(folder, seed=5)
    whole = list(data.training(1, 2))
    parts = [data.training(1, 2, initial_step=1, part=(number, 2)) for number in (0, 1)]
    for (images, labels), one, other in zip(whole[1:], *parts, strict=True):
        np.testing.assert_array_equal(np.concatenate([one[0], other[0]]), images)
        np.testing.assert_array_equal(np.concatenate([one[1], other[1]]), labels)


def test_a_card_says_how_it_is_seen(folder):
    import keras

    data = load(folder)
    card = kc.Card.from_json(kc.Card.of(data).to_json())
    assert card.resize == data.resize == "photographs"
    layers = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2, activation="softmax")]
    model = keras.Sequential([keras.Input(data.image_shape), *layers])
    files = [str(path) for path in sorted((folder / "test").rglob("*.*")) if path.suffix == ".png"]
    paths = sorted((folder / "test").rglob("*.*"))
    predictions = predict(model, files, card=card)
    evaluated = model.predict(data.test, verbose=0)[[paths.index(p) for p in paths if p.suffix == ".png"]]
    found = [dict(zip(p.labels, p.probabilities, strict=True)) for p in predictions]
    np.testing.assert_allclose([[of["a"], of["b"]] for of in found], evaluated, atol=0.01)


def test_a_file_that_was_cut_off_is_named(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(3):
            (tmp_path / name / f"{number}.jpg").write_bytes(KINDS["jpeg.jpg"](picture(number)))
    data = load(tmp_path, test_fraction=0.4)
    path = data._prepared.train.paths[0]
    with open(path, "rb+") as file:
        file.truncate(700)
    with pytest.raises(
        tf.errors.OpError, match=r"must be an image that can be decoded, and can't .*Fix or remove it"
    ) as e:
        list(data.training(0, 1))
    assert str(path) in str(e.value)


def test_what_is_refused(folder, tmp_path):
    held = made_of()
    held.save(tmp_path / "made.npz")
    for name in ("digits", tmp_path / "made.npz"):
        with pytest.raises(
            ValueError, match=r"`resize` .='photographs'. must be 'stretch' or 'crop' for .* are arrays"
        ):
            load(name)
    with pytest.raises(ValueError, match=r"`resize` .* held in memory .*Use `load`, or 'crop'"):
        datasets.load_arrays(folder, image_size=SIDE, resize="photographs")
    with pytest.raises(ValueError, match=r"`image_size` .=None. must be given with resize='photographs'.*Use 224"):
        load(folder, image_size=None)
    with pytest.raises(ValueError, match=r"`augment` .with pad=4. must have a pad of 0 .*datasets\.IMAGENET"):
        load(folder, augment=Augmentation())
