"""What Python says of the pictures that tests/test_phone_page.py shows to the page."""

import io
import json
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import keras_condense as kc
from keras_condense.applications.pretrained import find_weights

OWN_MEAN, OWN_STD = (0.5,), (0.2, 0.3, 0.4)  # of the user's own network


def save(folder, name, pixels):
    path = folder / f"{name}.png"
    Image.fromarray(pixels).save(path)
    return str(path)


def normalized(name, images):
    """Images as a network takes them, by what the package, or the test itself, says of it."""
    if name == "cifar10":
        return find_weights("CondenseNet50", "cifar10").preprocessing.normalize(images)
    data = kc.datasets.load_arrays("digits")
    mean, std = (data.mean, data.std) if name == "digits" else (OWN_MEAN, OWN_STD)
    return (np.float32(images) / 255 - np.float32(mean)) / np.float32(std)


def scores(page, name, images):
    """What Python says of uint8 images: probabilities of the labels."""
    rows = kc.run_tflite(page / "networks" / f"{name}.tflite", normalized(name, images))
    if name == "my network":
        rows = np.exp(rows) / np.exp(rows).sum(axis=-1, keepdims=True)
    labels = json.loads((page / "networks" / f"{name}.json").read_text())["labels"]
    return [dict(zip(labels, row, strict=True)) for row in rows]


def check_answers(panel, expected):
    """The five best labels, their probabilities, and the same in per cent."""
    answers = {label: float(value) for label, value, _ in panel["answers"]}
    assert list(answers) == sorted(answers, key=answers.get, reverse=True)
    best = sorted(expected.values(), reverse=True)[:5]
    np.testing.assert_allclose(list(answers.values()), best, atol=1e-4)
    np.testing.assert_allclose(list(answers.values()), [expected[label] for label in answers], atol=1e-4)
    for _, value, text in panel["answers"]:
        assert float(text.removesuffix(" %")) == pytest.approx(100 * float(value), abs=0.11)


def pixels(panel):
    height, width, values = panel["seen"]
    image = np.reshape(values, (height, width, 4))
    assert (image[..., 3] == 255).all()
    return image[..., :3].astype("uint8")


def image_of_cells(ink):
    """What the images of digits were made of handwriting by: a 32x32 bitmap of the ink, counted in 8x8 cells."""
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    side = max(np.ptp(rows), np.ptp(columns)) + 1
    padded = np.pad(ink, side)
    top = side + (rows[0] + rows[-1] + 1 - side) / 2
    left = side + (columns[0] + columns[-1] + 1 - side) / 2
    places = (np.arange(32) + 0.5) * side / 32
    bitmap = padded[np.ix_((top + places).astype(int), (left + places).astype(int))]
    cells = np.rint(bitmap.reshape(8, 4, 8, 4).sum(axis=(1, 3)) * (255 / 16))
    return tf.image.resize(cells[..., None], (16, 16), antialias=True).numpy()[..., 0]


def with_part(content, card):
    """A .tflite file with another card: its text, in the archive behind the file."""
    end = content.index(b"PK\x03\x04")
    file = io.BytesIO(content[:end])
    with zipfile.ZipFile(file, "a") as archive:
        if card is not None:
            archive.writestr("card.json", card)
    return file.getvalue()


def problem_files(networks, folder):
    """Files that the page can't use, and its input that they are given to, by what is wrong with them."""
    good = (networks / "my network.tflite").read_bytes()
    description = json.loads((networks / "my network.json").read_text())
    with zipfile.ZipFile(networks / "digits.tflite") as archive:
        card_of_digits = archive.read("card.json")

    def written(name, content):
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(folder / name)

    def both(name, content, changed):
        return [written(f"{name}.tflite", content), written(f"{name}.json", json.dumps(description | changed))]

    named = {
        "text": ("choose", [written("notes.png", "no picture")]),
        "network_as_picture": ("choose", [str(networks / "my network.tflite")]),
        "unknown": ("open", [written("notes.tflite", "no network at all")]),
        "only_json": ("open", [str(networks / "digits.json")]),
        "no_labels": ("open", [written("bare.tflite", with_part(good, None))]),
        "other_card": ("open", [written("swapped.tflite", with_part(good, card_of_digits))]),
        "empty_card": ("open", [written("empty.tflite", with_part(good, "{}"))]),
        "torn_card": ("open", [written("torn.tflite", with_part(good, '{"class_names": ["a'))]),
        "cut": ("open", both("cut", good[: len(good) // 3], {})),
        "no_json": ("open", [written("odd.tflite", good), written("odd.json", "{title: odd}")]),
        "other_size": ("open", [str(networks / "digits.tflite"), str(networks / "cifar10.json")]),
        "few_labels": ("open", both("few", good, {"labels": ["a", "b"]})),
        "no_mean": ("open", both("mean", good, {"mean": [0.5]})),
    }
    return {name: {"input": element, "files": files} for name, (element, files) in named.items()}
