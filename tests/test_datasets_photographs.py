"""Random resized crops and changes of light, against TensorFlow's resizing, Pillow's enhancing and NumPy."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from made_images import arrays, made_of
from PIL import Image, ImageEnhance

from keras_condense import datasets
from keras_condense.augmenting import BOXED, recolored, shown_images, zoomed
from keras_condense.datasets import Augmentation
from keras_condense.datasets.drawing import Drawing, as_they_are
from keras_condense.layers import AugmentedImages

IN_PART = Augmentation(pad=0, flip=False, scale=(0.25, 0.5))


@settings(max_examples=20)
@given(pad=st.integers(0, 3), data=st.data())
def test_a_box_is_resized_as_tensorflow_resizes_it_alone(pad, data):
    images = np.random.default_rng(pad).integers(0, 256, (3, 7, 9, 3)).astype("float32")
    size = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    boxes = []
    for _ in images:
        height, width = data.draw(st.integers(1, 7 + 2 * pad)), data.draw(st.integers(1, 9 + 2 * pad))
        row, column = data.draw(st.integers(0, 7 + 2 * pad - height)), data.draw(st.integers(0, 9 + 2 * pad - width))
        boxes.append((row, column, data.draw(st.integers(0, 1)), height, width))
    padded = np.pad(images, [(0, 0), (pad, pad), (pad, pad), (0, 0)])
    expected = [
        tf.image.resize(image[row : row + height, column : column + width], size, antialias=True)
        for image, (row, column, _, height, width) in zip(padded, boxes, strict=True)
    ]
    expected = [image[:, :: -1 if box[2] else 1] for image, box in zip(expected, boxes, strict=True)]
    for library in (np, ops, tf.experimental.numpy):
        as_array = ops.convert_to_tensor if library is ops else library.asarray
        windows = zoomed(as_array(images), as_array(np.array(boxes, "float32")), pad, size, library)
        np.testing.assert_allclose(np.asarray(windows), expected, atol=2e-3)


@pytest.mark.parametrize("seed", range(5))
def test_light_changes_as_pillow_changes_it(seed):
    random = np.random.default_rng(seed)
    image, factors = random.integers(0, 256, (6, 5, 3), dtype="uint8"), random.uniform(0.5, 1.5, 3)
    expected, enhancers = Image.fromarray(image), (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for enhancer, factor in zip(enhancers, factors, strict=True):
        expected = enhancer(expected).enhance(factor)
    changed = recolored(image[None].astype("float32"), factors[None].astype("float32"))
    np.testing.assert_allclose(
        changed[0], np.asarray(expected, "float32"), atol=3.5
    )  # Pillow rounds after each of three


def test_without_boxes_and_light_nothing_changes():
    """The rows are longer, and what they show is the same."""
    plain, boxed = made_of(), made_of(augmentation=Augmentation(pad=2, flip=True, brightness=1e-9))
    draws = boxed.draws(3)
    np.testing.assert_array_equal(draws[..., :4], plain.draws(3))
    assert draws[0, 0, 4:].tolist() == [5, 4, 1000, 1000, 1000]
    rows = draws.reshape(-1, len(BOXED))
    images = plain.train_images[rows[:, 0]]
    shown = shown_images(images, rows, 2, (5, 4))
    np.testing.assert_allclose(shown, shown_images(images, rows[:, :4], 2, (5, 4)), atol=1e-3)


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), least=st.floats(0.02, 1), pad=st.integers(0, 3))
def test_boxes_lie_in_the_image_and_have_the_area_asked_for(seed, least, pad):
    drawing = Drawing(500, (60, 80, 3), seed, Augmentation(pad, flip=True, scale=(least, 1)))
    _, rows, columns, flips, heights, widths, *_ = drawing.epoch(1).T
    assert (rows >= 0).all()
    assert (columns >= 0).all()
    assert (rows + heights <= 60 + 2 * pad).all()
    assert (columns + widths <= 80 + 2 * pad).all()
    assert 0.3 < flips.mean() < 0.7
    shares = heights * widths / ((60 + 2 * pad) * (80 + 2 * pad))
    assert (shares <= 1).all()
    # a box of the most extreme ratio that is cut to the image keeps three quarters of its area; sides are rounded
    assert (shares >= 0.75 * least - 0.02).all()


def test_areas_are_spread_evenly_and_boxes_over_the_whole_image():
    drawing = Drawing(20_000, (200, 200, 3), 0, dataclasses.replace(IN_PART, brightness=0.4, saturation=0.2))
    _, rows, columns, _, heights, widths, brightness, contrast, saturation = drawing.epoch(0).T
    counts = np.histogram(heights * widths / 200**2, bins=10, range=(0.25, 0.5))[0]
    assert ((counts - 2000) ** 2 / 2000).sum() < 27.9  # chi squared of 9 degrees, one in a thousand
    ratios = np.log(widths / heights) / np.log(4 / 3)
    assert -1.05 < ratios.min() < -0.95 < 0.95 < ratios.max() < 1.05
    assert abs(np.mean(ratios)) < 0.02
    assert abs(np.mean(rows + heights / 2) - 100) < 1
    assert abs(np.mean(columns + widths / 2) - 100) < 1
    assert (brightness.min(), brightness.max()) == (600, 1400)
    assert set(contrast) == {1000}
    assert (saturation.min(), saturation.max()) == (800, 1200)
    assert abs(np.corrcoef(brightness, saturation)[0, 1]) < 0.03


def test_boxes_are_the_same_for_ever():
    drawing = Drawing(37, (50, 40, 3), 7, datasets.PHOTOGRAPHS)
    assert drawing.epoch(3)[0].tolist() == [13, 0, 0, 0, 50, 36, 796, 997, 634]


@pytest.mark.parametrize("crop_size", [None, (3, 2)])
def test_tf_data_and_the_layer_show_the_same(crop_size):
    options = {"augment": datasets.PHOTOGRAPHS, "batch_size": 32}
    held, streamed = datasets.load_arrays("digits", **options), datasets.load("digits", **options, drop_remainder=True)
    images, _ = arrays(streamed.training(2, 3, crop_size))
    layer = AugmentedImages(held.train_images, held.mean, held.std, 0, crop_size)
    rows = held.draws(2, crop_size)
    shown = ops.convert_to_numpy(layer(rows.reshape(-1, rows.shape[-1])))
    np.testing.assert_allclose(images, shown, atol=1e-4)
    assert images.shape[1:3] == (crop_size or (16, 16))


def test_a_run_trains_on_boxes_validates_on_whole_images_and_goes_on(tmp_path):
    from keras_condense import training

    def model():
        keras.utils.set_random_seed(0)
        return keras.Sequential(
            [
                keras.Input((16, 16, 1)),
                keras.layers.Conv2D(4, 3),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dense(10, activation="softmax"),
            ]
        )

    for kind, load in (("arrays", datasets.load_arrays), ("tf.data", datasets.load)):
        data = load("digits", augment=datasets.PHOTOGRAPHS, batch_size=360, seed=1)
        options = {"recipe": "short", "seed": 0, "verbose": 0}
        trained = training.train(model(), data, tmp_path / kind, epochs=2, **options)
        log = (tmp_path / kind / "log.csv").read_text().splitlines()
        held_out = float(log[-1].split(",")[log[0].split(",").index("val_loss")])
        assert held_out == pytest.approx(trained.evaluate(*data.test_arrays(), verbose=0)[0], rel=1e-3)
        training.train(trained, data, tmp_path / kind, epochs=3, resume=True, **options)
        plain = load("digits", batch_size=360, seed=1)
        with pytest.raises(ValueError, match="augmentation"):
            training.train(model(), plain, tmp_path / kind, epochs=4, resume=True, **options)


@pytest.mark.parametrize("row", [(0, 0, 0, 0, 4, 4, 1000, 1000), (0, 0, 0)])
def test_rows_of_another_length_are_refused(row):
    data = made_of()
    layer = AugmentedImages(data.train_images, data.mean, data.std)
    with pytest.raises(ValueError, match=r"\(batch, 4\), index, row, column, flip of each image, or \(batch, 9\)"):
        layer(np.array([row], "int32"))


def test_images_as_they_are_with_longer_rows():
    data = made_of()
    layer = AugmentedImages(data.train_images, data.mean, data.std, 2)
    rows = as_they_are(np.arange(6), BOXED, row=2, column=2, height=5, width=4)
    np.testing.assert_allclose(layer(rows), data.normalize(data.train_images[:6]), atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": 0.5}, r"`scale` \(=0\.5\) must be two numbers, \(least, most\)\. Use \(0\.25, 1\)"),
        ({"scale": (0, 1)}, r"`scale` \(=\(0, 1\)\) must be \(least, most\) in \(0, 1\]"),
        ({"scale": (0.5, 0.2)}, r"`scale` .* in this order"),
        ({"scale": (0.5, 2)}, r"`scale` .* in \(0, 1\]"),
        ({"scale": ("a", "b")}, r"`scale` .* must be two numbers"),
        ({"scale": (float("nan"), 1)}, r"`scale` .* in this order"),
        ({"ratio": (0, 1)}, r"`ratio` .* Use \(3 / 4, 4 / 3\)"),
        ({"ratio": None}, r"`ratio` .* must be two numbers"),
        ({"brightness": -0.1}, r"`brightness` \(=-0\.1\) must be a number in \[0, 1\]\. Use 0\.4, or 0"),
        ({"contrast": 2}, "`contrast`"),
        ({"saturation": "much"}, "`saturation`"),
    ],
)
def test_what_an_augmentation_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**arguments)
