"""What an epoch shows: against its own definition, the same for `load` and `load_arrays`, on every machine."""

import dataclasses
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from made_images import arrays, made_of

from keras_condense import datasets
from keras_condense.datasets import Augmentation, examples
from keras_condense.datasets.pipeline import training_batches
from keras_condense.datasets.preparing import Prepared
from keras_condense.datasets.request import Request
from keras_condense.layers import AugmentedImages

pytestmark = pytest.mark.slow  # all of it, together


def numbered(size=37, shape=(5, 4, 1)):
    """Images whose label is their index."""
    images = np.random.default_rng(0).integers(0, 256, (size, *shape), dtype="uint8")
    return examples.InMemory(images, np.arange(size))


def stream(source, first=0, last=3, *, batch_size=8, drop_remainder=False, augmentation=None, seed=0):
    prepared = Prepared(
        request=Request(name="numbered", batch_size=batch_size, drop_remainder=drop_remainder, seed=seed),
        name="numbered",
        location="numbered",
        train=source,
        test=source,
        validation=None,
        class_names=(),
        image_shape=source.images.shape[1:],
        mean=(0.0,),
        std=(1 / 255,),  # gives raw pixel values
        augmentation=augmentation,
    )
    return training_batches(prepared, tf.data.Dataset.range(first, last))


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits")


# `load` and `load_arrays`


@pytest.mark.parametrize(
    "options", [{}, {"crop_size": (12, 15)}, {"alternate_flips": True}], ids=["whole", "crops", "alternate"]
)
def test_both_paths_give_the_same_batches(options):
    arguments = {"seed": 11, "augment": Augmentation(pad=2, flip=True), "validation_fraction": 0.1}
    streamed, held = datasets.load("digits", **arguments), datasets.load_arrays("digits", **arguments)
    size = options.get("crop_size", (16, 16))
    layer = AugmentedImages(held.train_images, held.mean, held.std, 0 if "crop_size" in options else 2, size)
    for epoch in (0, 5):
        batches = list(streamed.training(epoch, epoch + 1, **options).as_numpy_iterator())
        draws = held.draws(epoch, **options)
        assert len(batches) == len(draws) + 1  # the last one of `load`, which is smaller
        for (images, labels), rows in zip(batches, draws, strict=False):
            np.testing.assert_array_equal(labels, held.train_labels[rows[:, 0]])
            np.testing.assert_allclose(images, ops.convert_to_numpy(layer(rows)), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(streamed.representative_data(9), held.representative_data(9))


# `tf.data`


@settings(derandomize=True, deadline=None, max_examples=12)
@given(
    batch_size=st.integers(1, 40),
    drop_remainder=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
    epoch=st.integers(0, 400),
)
def test_every_epoch_is_a_permutation(batch_size, drop_remainder, seed, epoch):
    source = numbered()
    batches = list(stream(source, epoch, epoch + 1, batch_size=batch_size, drop_remainder=drop_remainder, seed=seed))
    seen = [int(label) for _, labels in batches for label in labels]
    if drop_remainder:
        assert len(seen) == 37 // batch_size * batch_size
        assert len(set(seen)) == len(seen)
    else:
        assert sorted(seen) == list(range(37))
        assert len(batches) == -(-37 // batch_size)
    for images, labels in batches:
        np.testing.assert_allclose(images, source.images[labels], atol=1e-4)


def test_epochs_and_seeds_differ_and_repeat():
    def order(**arguments):
        return [int(label) for _, labels in stream(numbered(), **arguments) for label in labels]

    three = order(last=3)
    assert three == order(last=3)
    assert three[:37] != three[37:74] != three[74:]
    assert three != order(last=3, seed=1)


@pytest.mark.parametrize("first", [1, 2])
def test_a_resumed_stream_is_the_unbroken_streams_tail(digits, first):
    unbroken = digits.training(0, epochs=3).skip(first * digits.steps_per_epoch)
    resumed = digits.training(first, epochs=3)
    assert int(resumed.cardinality()) == (3 - first) * 23
    for one, other in zip(unbroken.as_numpy_iterator(), resumed.as_numpy_iterator(), strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


def test_the_endless_stream_says_that_it_is_endless(digits):
    endless = digits.training(2)
    assert int(endless.cardinality()) == tf.data.INFINITE_CARDINALITY
    ours, theirs = next(iter(endless)), next(iter(digits.training(2, epochs=3)))
    np.testing.assert_array_equal(ours[0], theirs[0])


def test_an_example_is_cropped_the_same_in_every_batch_size():
    crops = []
    for batch_size in (5, 37):
        images, labels = arrays(stream(numbered(), 4, 5, batch_size=batch_size, augmentation=Augmentation(2, True)))
        crops.append(images[np.argsort(labels)])
    np.testing.assert_array_equal(*crops)


def test_every_crop_is_a_window_of_the_padded_image():
    source, pad = numbered(200, (6, 5, 3)), 2
    images, labels = arrays(stream(source, 0, 1, augmentation=Augmentation(pad, flip=True)))
    padded = np.pad(source.images, [(0, 0), (pad, pad), (pad, pad), (0, 0)])
    found = set()
    for image, label in zip(images, labels, strict=True):
        matches = [
            (row, column, flipped)
            for row in range(2 * pad + 1)
            for column in range(2 * pad + 1)
            for flipped in (False, True)
            if np.allclose(image, padded[label, row : row + 6, column : column + 5][:, :: -1 if flipped else 1])
        ]
        assert len(matches) == 1
        found.update(matches)
    assert len(found) > 45  # of 50 equally likely ones, in 200 draws


@pytest.mark.parametrize("augmentation", [Augmentation(0, False), Augmentation(0, True), Augmentation(1, False)])
def test_augmentation_does_only_what_it_says(augmentation):
    source = numbered(100)
    images, labels = arrays(stream(source, 0, 1, augmentation=augmentation))
    plain = source.images[labels].astype("float32")
    same = np.isclose(images, plain, atol=1e-3).all((1, 2, 3))
    mirrored = np.isclose(images, plain[:, :, ::-1], atol=1e-3).all((1, 2, 3))
    if augmentation.pad:
        assert same.mean() < 0.4
    elif augmentation.flip:
        assert (same | mirrored).all()
        assert 0.3 < mirrored.mean() < 0.7
    else:
        assert same.all()


def test_the_border_is_black_before_normalisation():
    source = examples.InMemory(np.full((50, 4, 4, 1), 255, "uint8"), np.zeros(50, int))
    images, _ = arrays(stream(source, 0, 1, augmentation=Augmentation(2, False)))
    assert set(np.unique(np.round(images))) == {0.0, 255.0}
    data = datasets.load("digits", augment=Augmentation(4, False))
    assert float(arrays(data.train)[0].min()) == pytest.approx(-data.mean[0] / data.std[0])


def test_train_is_shuffled_anew_each_time_it_is_iterated():
    train, again = datasets.load("digits").train, datasets.load("digits").train
    first, second = arrays(train)[1], arrays(train)[1]
    assert not np.array_equal(first, second)
    assert np.array_equal(np.sort(first), np.sort(second))
    np.testing.assert_array_equal(arrays(again)[1], first)
    np.testing.assert_array_equal(arrays(again)[1], second)


class Recorder(keras.layers.Layer):
    """Remembers the sum of every training batch."""

    def __init__(self):
        super().__init__()
        self.sums = []
        self.factor = self.add_weight(shape=(), initializer="ones")

    def call(self, inputs, training=False):
        if training and isinstance(inputs, tf.Tensor) and hasattr(inputs, "numpy"):
            self.sums.append(float(tf.reduce_sum(inputs)))
        return keras.ops.mean(inputs, axis=(1, 2)) * self.factor


@pytest.mark.parametrize("first", [0, 1])
def test_fit_sees_exactly_the_streams_batches(digits, first):
    recorder = Recorder()
    model = keras.Sequential([recorder])
    model.compile("sgd", "mse", run_eagerly=True)
    fit_arguments = {"steps_per_epoch": digits.steps_per_epoch, "shuffle": False, "verbose": 0}
    model.fit(digits.training(first), initial_epoch=first, epochs=2, **fit_arguments)
    expected = [float(tf.reduce_sum(images)) for images, _ in digits.training(first, epochs=2)]
    np.testing.assert_allclose(recorder.sums[-len(expected) :], expected, rtol=1e-5)


# the draws


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 400), pad=st.integers(0, 4), flip=st.booleans())
def test_an_epoch_shows_images_once_in_any_crop(seed, epoch, pad, flip):
    data = made_of(seed=seed, augmentation=Augmentation(pad, flip))
    draws = data.draws(epoch)
    assert draws.shape == (4, 8, 4)
    assert draws.dtype == np.int32
    indices, rows, columns, flips = draws.reshape(-1, 4).T
    assert len(set(indices)) == 32
    assert set(indices) <= set(range(37))
    for offsets in (rows, columns):
        assert set(offsets) <= set(range(2 * pad + 1))
    assert set(flips) <= ({0, 1} if flip else {0})


def test_draws_repeat_and_differ_between_epochs_and_seeds():
    data = made_of()
    np.testing.assert_array_equal(data.draws(5), made_of().draws(5))
    for other in (data.draws(6), made_of(seed=1).draws(5)):
        assert not np.array_equal(data.draws(5), other)
    # by the example, whatever the batch
    by_index = {row[0]: row.tolist() for row in data.draws(5).reshape(-1, 4)}
    for row in made_of(batch_size=37).draws(5).reshape(-1, 4):
        assert by_index.get(row[0], row.tolist()) == row.tolist()


def test_draws_are_the_same_for_ever():
    """Or a run that goes on with another version of NumPy or of this package would see other batches."""
    assert made_of(seed=7).draws(3)[0, :3].tolist() == [[13, 3, 0, 0], [17, 0, 0, 1], [23, 4, 1, 0]]


def test_all_crops_are_equally_likely():
    data = dataclasses.replace(datasets.load_arrays("digits"), augmentation=Augmentation(1, True))
    rows, columns, flips = np.concatenate([data.draws(epoch).reshape(-1, 4)[:, 1:] for epoch in range(20)]).T
    counts = np.bincount(6 * rows + 2 * columns + flips, minlength=18)
    expected = counts.sum() / 18
    assert ((counts - expected) ** 2 / expected).sum() < 40.8  # chi squared of 17 degrees, one in a thousand


def test_flips_that_alternate_show_both_sides_of_every_image_in_two_epochs():
    data = made_of()
    sides = [dict(data.draws(epoch, alternate_flips=True).reshape(-1, 4)[:, [0, 3]].tolist()) for epoch in range(4)]
    for first, second in itertools.pairwise(sides):
        both = first.keys() & second.keys()
        assert both
        assert all(first[index] != second[index] for index in both)
    assert set(sides[0].values()) == {0, 1}
    assert not dataclasses.replace(data, augmentation=None).draws(1, alternate_flips=True)[..., 3].any()
