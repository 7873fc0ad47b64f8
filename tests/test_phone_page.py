"""The page of applications/phone_page: built, and used in a headless Chromium as on a phone."""

import base64
import importlib
import io
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from phone_pictures import OWN_MEAN, OWN_STD, check_answers, image_of_cells, pixels, problem_files, save, scores
from PIL import Image
from sklearn.datasets import load_sample_image

import keras_condense as kc

pytestmark = pytest.mark.slow  # all of it, together

PAGE = pathlib.Path(__file__).parent.parent / "applications" / "phone_page"
PICTURES = 12
RING = [[0.5 + 0.17 * np.sin(turn), 0.45 - 0.3 * np.cos(turn)] for turn in np.linspace(0, 2 * np.pi, 20)]
BAR = [[0.3, 0.5], [0.3, 0.7]]


@pytest.fixture(scope="module")
def chromium():
    for name in ("node", "npm", "chromium"):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed: the page was not tried in a browser (apt install npm chromium)")
    if not (PAGE / "node_modules" / "playwright-core").exists():
        done = subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=PAGE, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"npm could not fetch LiteRT.js and playwright-core: {done.stderr.strip()[-200:]}")
    return shutil.which("chromium")


@pytest.fixture(scope="module")
def build():
    """The program, as a module."""
    sys.path.insert(0, str(PAGE))
    yield importlib.import_module("build")
    sys.path.remove(str(PAGE))
    for name in ("build", "page_networks"):
        del sys.modules[name]


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """A network of a user's own, of logits."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Conv2D(8, 3, strides=2, activation="relu"), keras.layers.GlobalAveragePooling2D()]
    model = keras.Sequential([keras.Input((24, 24, 3)), *layers, keras.layers.Dense(3)])
    path = tmp_path_factory.mktemp("own") / "my network.keras"
    model.save(path)
    return path


@pytest.fixture(scope="module")
def page(chromium, build, mine, tmp_path_factory):
    """The folder of the page, with the two networks and the user's own."""
    folder = tmp_path_factory.mktemp("page")
    output = folder / "built"
    build.main(
        ["--output", str(output), "--digits", str(folder / "digits"), "--epochs", "1"]
        + ["--network", str(mine), "--labels", "red,green,blue"]
        + ["--mean", *map(str, OWN_MEAN), "--std", *map(str, OWN_STD)]
    )
    return output


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Paths of test images, and their pixels."""
    folder = tmp_path_factory.mktemp("digits")
    images = kc.datasets.load_arrays("digits").test_images[:PICTURES, ..., 0]
    return {save(folder, number, image): image for number, image in enumerate(images)}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Photographs of other proportions than the network's images."""
    folder = tmp_path_factory.mktemp("photographs")
    return {
        save(folder, name, image): image for name in ("flower", "china") for image in [load_sample_image(f"{name}.jpg")]
    }


@pytest.fixture(scope="module")
def cifar10(tmp_path_factory):
    """Paths of test images, and their pixels; none where CIFAR-10 is not at hand."""
    data_dir = os.environ.get("KERAS_CONDENSE_TFDS")
    if not data_dir:
        return {}
    import tensorflow_datasets as tfds

    folder = tmp_path_factory.mktemp("cifar10")
    examples = tfds.as_numpy(tfds.load("cifar10", split=f"test[:{PICTURES}]", data_dir=data_dir, download=False))
    return {save(folder, number, example["image"]): example["image"] for number, example in enumerate(examples)}


@pytest.fixture(scope="module")
def handwriting(tmp_path_factory):
    """A dark digit on light paper, and where its ink is in the middle square."""
    noise = np.random.default_rng(0).integers(-8, 9, (320, 400))
    digit = kc.datasets.load_arrays("digits", image_size=8).test_images[3, ..., 0] > 100
    ink = np.zeros((320, 320), bool)
    ink[60:220, 90:250] = np.kron(digit, np.ones((20, 20), bool))
    pixels = 210 + noise
    pixels[:, 40:360][ink] = 40
    return save(tmp_path_factory.mktemp("handwriting"), "paper", pixels.astype("uint8")), ink


@pytest.fixture(scope="module")
def white(tmp_path_factory):
    return save(tmp_path_factory.mktemp("white"), "white", np.full((32, 32, 3), 255, "uint8"))


@pytest.fixture(scope="module")
def problems(page, tmp_path_factory):
    """Files that can't be used, and the input of the page that they are given to."""
    return problem_files(page / "networks", tmp_path_factory.mktemp("problems"))


@pytest.fixture(scope="module")
def alone(page, mine, tmp_path_factory):
    """Files that are opened without a .json: one of the page's own, and the user's, which normalizes or does not."""
    folder = tmp_path_factory.mktemp("alone")
    card = kc.Card(("red", "green", "blue"), (24, 24, 3), OWN_MEAN * 3, OWN_STD)
    for preprocessing in ("outside", "inside"):
        path = folder / f"{preprocessing}.tflite"
        kc.export_tflite(kc.saving.load_model(mine), path, target="wasm", card=card, preprocessing=preprocessing)
    shipped = page / "networks" / "digits.tflite"
    return {"shipped": str(shipped)} | {path.stem: str(path) for path in folder.iterdir()}


@pytest.fixture(scope="module")
def seen(chromium, page, digits, photographs, cifar10, handwriting, white, problems, alone, tmp_path_factory):
    """All that the page showed, in one run of the browser."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    folder = os.environ.get("PHONE_PAGE_SCREENSHOTS")
    other = tmp_path_factory.mktemp("second")
    second = [
        shutil.copy(page / "networks" / f"my network.{ending}", other / f"x.{ending}") for ending in ("tflite", "json")
    ]
    job = {
        "chromium": chromium,
        "serve": [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(page), port],
        "pictures": [*photographs, *cifar10, *digits],
        "handwriting": handwriting[0],
        "white": white,
        "lines": [RING, BAR],
        "second": [str(path) for path in second],
        "alone": alone,
        "problems": problems,
        "screenshots": folder,
    }
    done = subprocess.run(
        ["node", str(PAGE / "in_browser.mjs")], input=json.dumps(job), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


# --- what a viewer sees -----------------------------------------------------------------------------------------------
def test_digits_are_answered_as_in_python(page, digits, seen):
    for (path, image), expected in zip(
        digits.items(), scores(page, "digits", np.stack(list(digits.values()))[..., None]), strict=True
    ):
        panel = seen["pictures"]["of"][path][0]
        np.testing.assert_array_equal(pixels(panel)[..., 0], image)
        check_answers(panel, expected)


def test_cifar10_is_answered_as_in_python(page, cifar10, seen):
    if not cifar10:
        pytest.skip("KERAS_CONDENSE_TFDS does not name a folder in which TFDS prepared cifar10")
    for (path, image), expected in zip(
        cifar10.items(), scores(page, "cifar10", np.stack(list(cifar10.values()))), strict=True
    ):
        panel = seen["pictures"]["of"][path][1]
        np.testing.assert_array_equal(pixels(panel), image)
        check_answers(panel, expected)


def test_labels_are_those_of_the_data_sets(page, cifar10):
    named = {"digits": list("0123456789")}
    if cifar10:
        import tensorflow_datasets as tfds

        named["cifar10"] = (
            tfds.builder("cifar10", data_dir=os.environ["KERAS_CONDENSE_TFDS"]).info.features["label"].names
        )
    for name, labels in named.items():
        assert json.loads((page / "networks" / f"{name}.json").read_text())["labels"] == labels


def test_photographs_are_cut_and_resized_as_by_tensorflow(page, photographs, seen):
    for path, image in photographs.items():
        height, width, _ = image.shape
        left = (width - height) // 2
        middle = image[:, left : left + height]
        for number, (name, size) in enumerate((("digits", 16), ("cifar10", 32))):
            panel = seen["pictures"]["of"][path][number]
            expected = tf.image.resize(middle, (size, size), antialias=True).numpy()
            if name == "digits":
                expected = tf.image.rgb_to_grayscale(expected).numpy()
            assert np.abs(pixels(panel) - expected).max() < 1.6  # both round, and gray twice
            check_answers(panel, scores(page, name, pixels(panel)[None, ..., : expected.shape[-1]])[0])


def test_a_drawing_becomes_an_image_as_those_of_the_digits_were_made(page, seen):
    digits, cifar10 = seen["drawing"]["said"]
    canvas = Image.open(io.BytesIO(base64.b64decode(seen["drawing"]["canvas"].split(",")[1]))).convert("L")
    drawn = np.asarray(canvas)
    assert 0.05 < (drawn > 127).mean() < 0.3
    assert np.abs(pixels(digits)[..., 0] - image_of_cells(drawn > 127)).max() < 1.1
    assert pixels(digits)[0].any()  # cut to the ink
    assert pixels(digits)[-1].any()
    expected = tf.image.resize(drawn[..., None], (32, 32), antialias=True).numpy()
    assert np.abs(pixels(cifar10) - expected).max() < 1.1
    check_answers(digits, scores(page, "digits", pixels(digits)[None, ..., :1])[0])
    check_answers(cifar10, scores(page, "cifar10", pixels(cifar10)[None])[0])


def test_dark_handwriting_on_paper_becomes_such_an_image_too(page, handwriting, seen):
    digits, cifar10 = seen["pictures"]["handwriting"]
    assert np.abs(pixels(digits)[..., 0] - image_of_cells(handwriting[1])).max() < 1.1
    assert pixels(cifar10).max() > 190  # which sees the paper
    check_answers(digits, scores(page, "digits", pixels(digits)[None, ..., :1])[0])


def test_paper_without_ink_is_said_to_have_none(seen):
    digits, cifar10 = seen["pictures"]["no_ink"]
    assert (digits["time"], digits["answers"]) == ("No ink found", [])
    assert len(cifar10["answers"]) == 5


def test_two_networks_side_by_side_and_one_of_the_users_own(page, seen):
    first, second = seen["comparing"]["same"]
    assert first["network"] == second["network"] == "CIFAR-10"
    assert first["answers"] == second["answers"]
    first, second = seen["comparing"]["own"]
    assert (first["network"], second["network"]) == ("CIFAR-10", "my network")
    assert pixels(second).shape == (24, 24, 3)
    check_answers(second, scores(page, "my network", pixels(second)[None])[0])


def test_files_opened_alone_say_by_their_cards_what_they_take_and_give(page, alone, seen):
    panels = seen["comparing"]["alone"]
    image = pixels(panels["shipped"])
    check_answers(panels["shipped"], scores(page, "digits", image[None, ..., :1])[0])
    image = pixels(panels["outside"])
    expected = scores(page, "my network", image[None])[0]
    check_answers(panels["outside"], expected)
    np.testing.assert_array_equal(pixels(panels["inside"]), image)
    (row,) = kc.run_tflite(alone["inside"], image[None])
    check_answers(panels["inside"], dict(zip(expected, np.exp(row) / np.exp(row).sum(), strict=True)))
    assert panels["inside"]["answers"][0][0] == panels["outside"]["answers"][0][0]


def test_milliseconds_are_shown_for_each_network(seen):
    panels = [panel for said in seen["pictures"]["of"].values() for panel in said]
    assert all(0 < float(panel["time"].removesuffix(" ms")) < 5000 for panel in panels)


def test_the_camera_is_looked_at_until_something_else_is_chosen(seen):
    assert len(seen["camera"]["second"]["answers"]) == 5
    assert pixels(seen["camera"]["second"]).std() > 5
    assert seen["camera"]["after"] == "ended"


def test_the_page_works_without_a_network_once_it_was_loaded(seen):
    assert seen["offline"]["said"] == "The page now works without a network."
    assert [panel["answers"] for panel in seen["offline"]["drawn"]] == [
        panel["answers"] for panel in seen["drawing"]["said"]
    ]


def test_nothing_comes_from_elsewhere_nothing_fails_and_a_phone_shows_it_all(seen):
    assert len(seen["origins"]) == 1
    assert seen["failures"] == []
    assert seen["drawing"]["widths"] == [320, 390]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("text", "notes.png is no picture that this browser can read. Choose a PNG, a JPEG or a WebP."),
        ("network_as_picture", "a JPEG or a WebP, and networks under Open a network."),
        ("unknown", "notes.tflite is no .tflite file. Open one that export_tflite wrote."),
        ("only_json", "digits.json came without its .tflite. Open both together."),
        (
            "no_labels",
            "bare.tflite has no card that says what it takes and gives. Export it with export_tflite(..., card=card), "
            "or open it together with the .json that build.py --network wrote.",
        ),
        ("cut", 'target="wasm").'),
        ("no_json", "The .json of odd.tflite is no JSON. Open the one that build.py --network wrote."),
        (
            "other_size",
            "digits.tflite takes float32 1 x 16 x 16 x 1, and its .json says float32 1 x 32 x 32 x 3. "
            "Write both anew with build.py --network.",
        ),
        (
            "few_labels",
            "few.tflite gives float32 1 x 3, and its .json has 2 labels. Write both anew with build.py --network.",
        ),
        ("no_mean", "The .json of mean.tflite lacks input_shape, or mean and std of each channel."),
        (
            "other_card",
            "swapped.tflite takes float32 1 x 24 x 24 x 3, and its card says float32 1 x 16 x 16 x 1. Export it again "
            "with its card.",
        ),
        ("empty_card", "The card of empty.tflite has no labels. Export it again with its card."),
        ("torn_card", "The card of torn.tflite is no JSON. Export it again with its card."),
        ("no_camera", "No camera was found. Connect one and choose Camera again. Or choose File"),
        ("insecure", "The camera needs a page from https or from localhost. Open the page from there."),
        ("no_simd", "This browser has no WebAssembly SIMD, which the networks run on. Update it;"),
    ],
)
def test_a_problem_is_told_with_its_fix(seen, name, message):
    assert message in seen["problems"][name]


def test_a_camera_that_is_refused_is_told_and_the_page_goes_on_after_problems(seen):
    assert seen["camera"]["denied"].startswith("The camera was not allowed. Allow it for this page")
    assert float(seen["problems"]["after"][1]) > 0


def test_the_page_holds_all_networks_and_lists_what_a_browser_keeps(page):
    index = json.loads((page / "networks" / "index.json").read_text())
    assert [entry["title"] for entry in index] == ["Digits", "CIFAR-10", "my network"]
    text = (page / "files.js").read_text()
    kept = json.loads(text[text.index("[") : text.rindex("]") + 1])
    assert {"networks/my%20network.tflite", "archive.js"} <= set(kept)
    assert all((page / name.replace("%20", " ")).exists() for name in kept)
