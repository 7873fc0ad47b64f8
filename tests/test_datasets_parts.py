"""The parts of several processes are together the batches of one, of every kind of examples, from any batch on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_images import paint
from tfds_prepared import prepare

from keras_condense import datasets
from keras_condense.datasets import examples
from keras_condense.datasets.parts import Part

SMALL = {"batch_size": 12, "image_size": 8, "drop_remainder": True, "seed": 3}


@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 4), st.integers(0, 3), st.integers(1, 3))
def test_parts_are_together_the_whole_in_order(size, in_part, of, first, repeats):
    batch_size = in_part * of
    whole = np.arange(size * repeats)[first * batch_size :]
    parts = [Part(first, number, of, repeats).rows(size, batch_size) for number in range(of)]
    assert sorted(np.concatenate(parts)) == whole.tolist()
    full = len(whole) // batch_size * batch_size  # of the last batch parts may differ in size
    batches = [part[: full // of].reshape(-1, in_part) for part in parts]
    np.testing.assert_array_equal(np.concatenate(batches, 1).ravel(), whole[:full])


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """Each data set, and whether it is to be held in memory."""
    folder = tmp_path_factory.mktemp("kinds")
    for part, count in (("train", 17), ("test", 7)):
        for name in ("a", "b"):
            (folder / "files" / part / name).mkdir(parents=True)
            for number in range(count):
                paint(folder / "files" / part / name / f"{number}.png", seed=number)
    tfds = pytest.importorskip("tensorflow_datasets")
    rng = np.random.default_rng(0)

    def made(count):
        for number in range(count):
            image = rng.integers(0, 256, (20 + number % 3, 20, 3), dtype="uint8")
            yield {"image": image, "label": number % 2}

    features = {
        "image": tfds.features.Image(shape=(None, None, 3)),
        "label": tfds.features.ClassLabel(names=["a", "b"]),
    }
    prepare(folder, "streamed", "1.0.0", features, {"train": made(40), "test": made(7)}, ("image", "label"))
    return {
        "memory": (("digits", {}), True),
        "files": ((folder / "files", {}), False),
        "stream": (("streamed", {"data_dir": folder, "download": False}), False),
    }


@pytest.fixture(params=["memory", "files", "stream"])
def data(request, kinds, monkeypatch):
    (name, options), held = kinds[request.param]
    if not held:
        monkeypatch.setattr(examples, "IN_MEMORY_BYTES", 0)
    loaded = datasets.load(name, **SMALL, **options)
    kind = {"memory": examples.InMemory, "files": examples.ImageFiles, "stream": examples.Stream}[request.param]
    assert isinstance(loaded._prepared.train, kind)
    return loaded


def joined(parts):
    """The batches of several pipelines, each of their parts side by side."""
    for batches in zip(*parts, strict=True):
        yield tuple(np.concatenate(values) for values in zip(*batches, strict=True))


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        for value, wanted in zip(one, other, strict=True):
            np.testing.assert_array_equal(value, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("of", [2, 3])
def test_workers_see_together_what_one_sees(data, of):
    assert_same(joined([data.training(1, 3, part=(number, of)) for number in range(of)]), data.training(1, 3))


@pytest.mark.slow
def test_an_epoch_goes_on_at_any_batch(data):
    for step in (0, 1, data.steps_per_epoch - 1):
        rest = data.training(1, 3, initial_step=step)
        assert int(rest.cardinality()) == 2 * data.steps_per_epoch - step
        assert_same(rest, data.training(1, 3).skip(step))
        assert_same(
            joined([data.training(1, 2, initial_step=step, part=(number, 2)) for number in (0, 1)]),
            data.training(1, 2).skip(step),
        )


@pytest.mark.slow
def test_what_validates_counts_alike(data):
    (one,) = [[data.held_out()]]
    images = np.concatenate([labels for _, labels in one[0]])
    for of in (2, 3):
        parts = [list(data.held_out((number, of), devices=6)) for number in range(of)]
        assert len({tuple(len(labels) for _, labels in part) for part in parts}) == 1
        assert all(len(labels) % (6 // of) == 0 for part in parts for _, labels in part)
        shown = np.concatenate([labels for part in parts for _, labels in part])
        assert len(shown) % len(images) == 0
        np.testing.assert_array_equal(np.bincount(shown), np.bincount(images) * (len(shown) // len(images)))


@pytest.mark.parametrize("part", [(0, 0), (2, 2), (-1, 2), (0.0, 2), "01", None, (0, 1, 2), (True, 2)])
def test_parts_are_checked(part):
    data = datasets.load("digits", **SMALL)
    with pytest.raises(ValueError, match=r"must be .number, of., integers with 0 <= number < of"):
        data.training(part=part)


def test_batches_that_parts_do_not_divide():
    data = datasets.load("digits", batch_size=64, image_size=8)
    with pytest.raises(ValueError, match=r"batches are of 64 and the last one of 29\. Load the data .* of 64 and"):
        data.training(part=(0, 2))
    with pytest.raises(ValueError, match=r"must divide each batch, and batches are of 64 and the last one of 64"):
        data.held_out((0, 3))
    with pytest.raises(ValueError, match=r"`initial_step` .=23. must be below the 23 steps of an epoch"):
        data.training(initial_step=23)
