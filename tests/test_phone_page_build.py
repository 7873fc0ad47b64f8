"""The program that builds the page of applications/phone_page, and what mistakes end in."""

import importlib
import pathlib
import subprocess
import sys

import keras
import pytest

import keras_condense as kc

PAGE = pathlib.Path(__file__).parent.parent / "applications" / "phone_page"


@pytest.fixture
def build(monkeypatch):
    """The program, as a module."""
    monkeypatch.syspath_prepend(str(PAGE))
    yield importlib.import_module("build")
    for name in ("build", "page_networks"):
        del sys.modules[name]


@pytest.fixture
def mine(tmp_path):
    """A network of a user's own, of three outputs."""
    keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(3)]).save(
        tmp_path / "my.keras"
    )
    return tmp_path / "my.keras"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--network", "{folder}/bad.tflite"],
            "`--labels` and `--mean` and `--std` must be given with `--network` .* which has no card. Save it with one",
        ),
        (
            ["--network", "{folder}/bad.tflite", "--labels", "a,b"],
            "`--mean` and `--std` must be given with `--network` .* which has no card",
        ),
        (["--mean", "0", "--std", "1"], "`--network` must be given with `--mean` and `--std`. Name the file"),
        (["--network", "no.tflite", "{rest}"], r"`--network` \(='no.tflite'\) must be an existing file"),
        (["--network", "{folder}/notes.txt", "{rest}"], r"notes.txt'\) must end in .tflite or .keras"),
        (["--network", "{folder}/digits.tflite", "{rest}"], "must not be called digits: the page has such a file"),
        (["--network", "{folder}/bad.tflite", "{rest}"], r"'bad.tflite' \(4 bytes\) must be a TensorFlow Lite model"),
        (["--output", "{folder}/notes.txt"], "must be a folder, and is a file"),
        (
            ["--network", "{folder}/bad.tflite", "--labels", "a", "--mean", "0", "--std", "1"],
            r"`--labels` \(='a'\) must be a file with a label on each line, or labels joined by commas",
        ),
        (
            ["--network", "{folder}/bad.tflite", "--labels", "a,b", "--mean", "nan", "--std", "1"],
            r"`--mean` \(=\[nan\]\) and `--std` \(=\[1.0\]\) must be numbers, and --std above 0",
        ),
    ],
)
def test_mistakes_end_before_anything_is_written(build, monkeypatch, tmp_path, arguments, message):
    monkeypatch.setattr(build, "litert_packages", lambda: tmp_path)
    for name in ("notes.txt", "digits.tflite", "bad.tflite"):
        (tmp_path / name).write_bytes(b"four")
    rest = ["--labels", "a,b,c", "--mean", "0", "--std", "1"]
    given = [
        part.format(folder=tmp_path) for argument in arguments for part in (rest if "rest" in argument else [argument])
    ]
    if "--output" not in given:
        given += ["--output", str(tmp_path / "page")]
    with pytest.raises(ValueError, match=message):
        build.main(given)
    assert not (tmp_path / "page").exists()


@pytest.mark.parametrize(
    ("labels", "mean", "message"),
    [
        (("a", "b"), [0.5], r"'my.keras'\) gives .*, and has 2 labels. Give one label for each"),
        (("a", "b", "c"), [0.5, 0.4], r"`--mean` \(=\[0.5, 0.4\]\) must be one number, or one for each of the 3"),
    ],
)
def test_a_network_and_what_is_said_of_it_must_fit(build, mine, labels, mean, message):
    with pytest.raises(ValueError, match=message):
        build.own(mine, build.Said(labels, mean, [1.0]))


def test_a_network_of_something_else_than_images(build, tmp_path):
    keras.Sequential([keras.Input((5,)), keras.layers.Dense(2)]).save(tmp_path / "dense.keras")
    with pytest.raises(ValueError, match=r"must take one image, float32 \(1, height, width, 1 or 3\), and takes"):
        build.own(tmp_path / "dense.keras", build.Said(("a", "b"), [0.0], [1.0]))


def test_without_npm_the_program_says_what_to_install(build, monkeypatch, tmp_path):
    (tmp_path / "package.json").write_text((PAGE / "package.json").read_text())
    monkeypatch.setattr(build, "HERE", tmp_path)
    monkeypatch.setattr(build.shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match=r"`npm` must be installed to fetch LiteRT.js, and is not. Install Node.js"):
        build.litert_packages()


def test_what_npm_says_is_told(build, monkeypatch, tmp_path):
    (tmp_path / "package.json").write_text((PAGE / "package.json").read_text())
    monkeypatch.setattr(build, "HERE", tmp_path)
    monkeypatch.setattr(build.shutil, "which", lambda name: name)
    failed = subprocess.CompletedProcess([], 1, stdout="", stderr="npm error\nnetwork  unreachable\n")
    monkeypatch.setattr(build.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(OSError, match=r"must fetch LiteRT.js, and failed: npm error network unreachable Connect to"):
        build.litert_packages()


def test_labels_of_a_file(build, tmp_path):
    (tmp_path / "labels.txt").write_text("Füchse\n\n dachs, groß \n", encoding="utf-8")
    assert build.read_labels(str(tmp_path / "labels.txt")) == ("Füchse", "dachs, groß")
    assert build.read_labels("a, b,c") == ("a", "b", "c")


def test_one_number_stands_for_every_channel(build, mine):
    description = build.own(mine, build.Said(("a", "b", "c"), [0.5], [0.1, 0.2, 0.3])).description
    assert (description.mean, description.std) == ((0.5, 0.5, 0.5), (0.1, 0.2, 0.3))
    assert (description.input_shape, description.activation) == ((8, 8, 3), "softmax")


CARD = kc.Card(("a", "b", "c"), (8, 8, 3), (0.5, 0.4, 0.3), (0.1, 0.2, 0.3))


@pytest.fixture(params=["keras", "outside", "inside"])
def carded(request, mine):
    """A network with its card, as .keras, or as a .tflite that takes what the model takes, or pixels."""
    model = kc.saving.load_model(mine)
    path = mine.with_name("carded.keras" if request.param == "keras" else "carded.tflite")
    if request.param == "keras":
        kc.saving.save_model(model, path, CARD)
    else:
        kc.export_tflite(model, path, card=CARD, preprocessing=request.param)
    return path, request.param == "inside"


def test_a_network_with_a_card_needs_no_options(build, carded):
    path, takes_pixels = carded
    assert build.check(build.parser().parse_args(["--network", str(path)])) is None
    network = build.own(path)
    said = network.description
    assert (said.title, said.labels, said.input_shape) == ("carded", CARD.class_names, CARD.image_shape)
    assert (said.mean, said.std, said.takes_pixels) == (CARD.mean, CARD.std, takes_pixels)
    path.with_suffix(".tflite").write_bytes(network.content)  # what goes to the page says it by itself
    assert kc.load_card(path.with_suffix(".tflite")).class_names == CARD.class_names


def test_options_that_a_card_makes_needless_are_refused(build, carded):
    settings = build.parser().parse_args(["--network", str(carded[0]), "--labels", "x,y,z"])
    with pytest.raises(ValueError, match=r"`--labels` must not be given .*, whose card says what it takes"):
        build.check(settings)


def test_a_network_without_a_card_gets_that_of_the_options(build, mine):
    network = build.own(mine, build.Said(("x", "y", "z"), [0.5], [0.25]))
    (mine.parent / "x.tflite").write_bytes(network.content)
    assert kc.load_card(mine.parent / "x.tflite") == kc.Card(("x", "y", "z"), (8, 8, 3), (0.5,) * 3, (0.25,) * 3)


def test_pixels_without_a_card_that_says_so_are_refused(build, mine):
    content = kc.export_tflite(kc.saving.load_model(mine), card=CARD, preprocessing="inside")
    bare = mine.with_name("bare.tflite")
    bare.write_bytes(content[: content.index(b"PK\x03\x04")])
    with pytest.raises(ValueError, match=r"must take one image, float32 .* one that takes uint8 needs a card"):
        build.own(bare, build.Said(("a", "b", "c"), [0.5], [0.25]))


@pytest.mark.parametrize(
    ("resize", "cut"), [("stretch", ("stretch", 1)), ("crop", ("crop", 1)), ("photographs", ("crop", 0.875))]
)
def test_a_card_says_how_much_of_a_picture_is_seen(build, resize, cut):
    card = kc.Card(("a", "b"), (8, 8, 3), (0.5,) * 3, (0.5,) * 3, resize=resize)
    described = sys.modules["page_networks"].Description.of("mine", card)
    assert (described.resize, described.crop_fraction) == cut
