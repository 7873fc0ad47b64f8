"""From a folder of photographs to a label: what a run knows of itself, and what later steps take from it."""

import json
import pathlib
import shutil

import condense
import evaluate
import export_tflite
import keras
import numpy as np
import predict
import pytest
import train

import keras_condense as kc
from keras_condense.training import TimeLeft

pytestmark = pytest.mark.slow  # all of it, together

TINY = ["--stages", "1-1", "--growth-rates", "4-4", "--groups", "2", "--condense-factor", "2", "--verbose", "2"]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Three classes that differ in colour, of many sizes."""
    folder, random = tmp_path_factory.mktemp("photographs") / "flowers", np.random.default_rng(0)
    for name, colour in (("daisy", (230, 230, 230)), ("rose", (200, 30, 50)), ("sunflower", (240, 200, 20))):
        (folder / name).mkdir(parents=True)
        for number in range(10):
            size = (*random.integers(20, 60, 2), 3)
            pixels = np.clip(random.normal(colour, 30, size), 0, 255).astype("uint8")
            keras.utils.save_img(folder / name / f"{number}.png", pixels, scale=False)
    return folder


@pytest.fixture(scope="module")
def run(photographs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "flowers"
    options = ["--dataset", str(photographs), *TINY, "--batch-size", "8", "--epochs", "2", "--output", str(folder)]
    assert train.main(options) == 0
    assert condense.main([str(folder / "model.keras"), str(folder / "condensed.keras")]) == 0
    return folder


def test_a_run_knows_what_it_is(run, photographs):
    card = kc.load_card(run)
    assert card.class_names == ("daisy", "rose", "sunflower")
    assert card.image_shape == (96, 96, 3)
    assert card.dataset == str(photographs.resolve())
    assert (card.train_size, card.validation_size, card.test_size) == (24, 0, 6)
    assert kc.load_card(run / "model.keras") == kc.load_card(run / "condensed.keras") == card
    settings = json.loads((run / "settings.json").read_text())
    assert (settings["recipe"], settings["image_size"]) == ("short", [96])


def test_resume_alone_goes_on_from_any_folder(run, tmp_path, monkeypatch, capsys, fails):
    shutil.copytree(run, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    assert train.main(["--resume", "--output", "run", "--epochs", "3"]) == 0
    log = (tmp_path / "run" / "log.csv").read_text().splitlines()
    assert len(log) == 4
    assert log[:3] == (run / "log.csv").read_text().splitlines()
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["epochs"] == 3
    assert "epochs (=2, first 3)" in fails(train.main, "--resume", "--output", "run", "--epochs", "2")
    assert "batch_size (=4, first 8)" in fails(train.main, "--resume", "--output", "run", "--batch-size", "4")


def test_augmenting_photographs_is_part_of_the_run(photographs, tmp_path, fails, capsys):
    options = ["--dataset", photographs, *TINY, "--batch-size", "8", "--epochs", "1", "--output", tmp_path / "run"]
    assert train.main([*map(str, options), "--augment", "photographs"]) == 0
    kept = json.loads((tmp_path / "run" / "settings.json").read_text())["augmentation"]
    expected = {"scale": [0.25, 1.0], "brightness": 0.4, "contrast": 0.4, "saturation": 0.4}
    assert {name: kept[name] for name in expected} == expected
    assert train.main(["--resume", "--output", str(tmp_path / "run"), "--epochs", "2"]) == 0
    kept = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert (kept["epochs"], kept["augment"]) == (2, "photographs")
    with pytest.raises(SystemExit):
        train.main(["--augment", "photographs", "--no-augment"])
    assert "not allowed with" in capsys.readouterr().err


@pytest.mark.parametrize("inside", ["", "run"])
def test_a_run_among_its_images_is_refused(photographs, inside, fails):
    before = sorted(photographs.iterdir())
    message = fails(train.main, "--dataset", photographs, *TINY, "--epochs", "1", "--output", photographs / inside)
    assert "must lie outside the folder of the images" in message
    assert sorted(photographs.iterdir()) == before


def test_renamed_classes_are_no_resumed_run(run, photographs, tmp_path, fails):
    shutil.copytree(photographs, tmp_path / "flowers")
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "flowers" / "daisy").rename(tmp_path / "flowers" / "wild daisy")
    options = ["--resume", "--output", tmp_path / "run", "--dataset", tmp_path / "flowers", "--epochs", "3"]
    assert "class_names_checksum" in fails(train.main, *options)


def test_int8_is_calibrated_on_the_runs_own_images(run, tmp_path, monkeypatch, fails):
    loaded = []
    original = kc.datasets.load
    monkeypatch.setattr(kc.datasets, "load", lambda name, **options: loaded.append(name) or original(name, **options))
    options = ["--quantize", "int8"]  # all 24 of them, for lack of a hundred
    assert export_tflite.main([str(run / "condensed.keras"), str(tmp_path / "a.tflite"), *options]) == 0
    assert loaded == [kc.load_card(run).dataset]
    kc.saving.save_model(kc.saving.load_model(run / "condensed.keras"), tmp_path / "plain.keras")
    message = fails(export_tflite.main, tmp_path / "plain.keras", tmp_path / "b.tflite", *options)
    assert "`--dataset` must be given for a network whose file does not say" in message
    assert not (tmp_path / "b.tflite").exists()


@pytest.mark.parametrize("where", ["inside", "outside"])
def test_the_whole_way(run, photographs, tmp_path, where, capsys, fails):
    file = tmp_path / "flowers.tflite"
    assert export_tflite.main([str(run / "condensed.keras"), str(file), "--preprocessing", where]) == 0
    capsys.readouterr()
    assert evaluate.main([str(run / "model.keras")]) == 0
    of_keras = capsys.readouterr().out
    table = tmp_path / "confusion.csv"
    options = ["--dataset", str(photographs), "--per-class", "--confusion", str(table)]
    assert evaluate.main([str(file), *options]) == 0
    assert capsys.readouterr().out.splitlines()[0] == of_keras.splitlines()[0]
    rows = [line.split(",") for line in table.read_text().splitlines()]
    assert [row[0] for row in rows] == ["class", "daisy", "rose", "sunflower"]
    assert sum(int(cell) for row in rows[1:] for cell in row[1:]) == 6
    assert "`--dataset` must be given" in fails(evaluate.main, file)  # a path of this machine goes to nobody
    image = photographs / "rose" / "0.png"
    assert predict.main([str(file), str(image)]) == 0
    of_file = capsys.readouterr().out
    assert predict.main([str(run / "model.keras"), str(image)]) == 0
    assert of_file.split()[:2] == capsys.readouterr().out.split()[:2]


def test_other_classes_are_refused(run, photographs, tmp_path, fails):
    shutil.copytree(photographs, tmp_path / "others")
    (tmp_path / "others" / "rose").rename(tmp_path / "others" / "peony")
    message = fails(evaluate.main, run / "model.keras", "--dataset", tmp_path / "others")
    assert "where those have 'rose', it has 'peony'" in message


def test_a_network_of_keras_learns_groups(photographs, tmp_path, fails):
    options = ["--dataset", str(photographs), "--image-size", "32", "--batch-size", "12", "--epochs", "3"]
    folder = tmp_path / "run"
    assert train.main([*options, "--learn-groups", "mobilenet", "--groups", "2", "--output", str(folder)]) == 0
    model = kc.saving.load_model(folder / "model.keras")
    learned = kc.layers.condensable_layers(model)
    assert learned
    assert {layer.groups for layer in learned} == {2}
    assert {layer.stage for layer in learned} == {layer.final_stage for layer in learned}
    assert model.output_shape == (None, 3)
    assert "must be a name in keras.applications" in fails(train.main, *options, "--learn-groups", "mobilenetv9")
    message = fails(train.main, *options, "--learn-groups", "mobilenet", "--stages", "4")
    assert "has no option --stages" in message


def test_a_mistyped_folder_is_called_that(fails, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert "an existing folder. Check the spelling" in fails(train.main, "--dataset", "photografs/")
    assert not pathlib.Path("runs").exists()


@pytest.mark.parametrize(
    ("seconds_of_a_batch", "printed"),
    [(0.001, ""), (1.0, "An epoch takes about 30 s; about 78 s left."), (60.0, "An epoch takes about 30 min; ")],
)
def test_the_time_left_is_said_once(seconds_of_a_batch, printed, monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr("keras_condense.training.time_left.time.perf_counter", lambda: clock[0])
    callback = TimeLeft(epochs=3)
    callback.set_params({"steps": 30, "epochs": 3})
    for epoch in range(2):
        callback.on_epoch_begin(epoch)
        for batch in range(30):
            clock[0] += seconds_of_a_batch + (100 if batch == 0 and epoch == 0 else 0)  # the step is compiled
            callback.on_train_batch_end(batch)
        callback.on_epoch_end(epoch)
    output = capsys.readouterr().out
    assert printed in output
    assert output.count("An epoch takes") <= 1
