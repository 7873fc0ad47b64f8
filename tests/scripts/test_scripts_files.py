"""The scripts that turn one file into another, or read one."""

import csv
import errno
import os
import pathlib
import sys
import types

import benchmark
import condense
import convert_weights
import describe
import evaluate
import export_tflite
import keras
import numpy as np
import pytest

import keras_condense as kc

pytestmark = pytest.mark.slow  # all of it, together


MAINS = [module.main for module in (benchmark, condense, convert_weights, describe, evaluate, export_tflite)]


@pytest.mark.parametrize("main", MAINS)
def test_help_has_examples(main, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(["--help"])
    assert exit_info.value.code == 0
    assert "examples:\n  python scripts/" in capsys.readouterr().out


@pytest.mark.parametrize("main", MAINS)
def test_missing_arguments_are_wrong_usage(main):
    with pytest.raises(SystemExit) as exit_info:
        main([])
    assert exit_info.value.code == 2


def accuracy(capsys, *argv):
    capsys.readouterr()
    assert evaluate.main([str(argument) for argument in argv]) == 0
    output = capsys.readouterr().out
    assert "of 360 test images of digits" in output
    return float(output.split("accuracy ")[1].split()[0])


def test_masked_condensed_and_exported_are_equally_accurate(finished, small, capsys):
    masked = accuracy(capsys, finished / "model.keras")
    # counted here with NumPy
    images, labels = kc.datasets.load("digits").test_arrays()
    outputs = keras.models.load_model(finished / "model.keras").predict(images, verbose=0)
    assert masked == pytest.approx(np.mean(outputs.argmax(1) == labels), abs=1e-4)
    assert accuracy(capsys, small / "condensed.keras") == masked
    assert accuracy(capsys, small / "condensed.tflite") == masked


def test_int8_is_calibrated_on_the_data_set(small, tmp_path, capsys):
    path = tmp_path / "int8.tflite"
    arguments = [str(small / "condensed.keras"), str(path), "--quantize", "int8", "--calibration-images", "20"]
    assert export_tflite.main(arguments) == 0
    assert abs(accuracy(capsys, path) - accuracy(capsys, small / "condensed.tflite")) < 0.1


def test_export_compares_the_file_with_the_model_unless_told_not_to(small, tmp_path, capsys):
    arguments = [str(small / "condensed.keras"), str(tmp_path / "model.tflite")]
    assert export_tflite.main(arguments) == 0
    assert "compared with the model: 2 inputs, " in capsys.readouterr().err
    assert export_tflite.main([*arguments, "--no-verify"]) == 0
    assert "compared" not in capsys.readouterr().err


def test_export_reports_what_it_chose_for_a_target(small, tmp_path, capsys):
    path = tmp_path / "laptop.tflite"
    assert export_tflite.main([str(small / "condensed.keras"), str(path), "--target", "x86_64", "--report"]) == 0
    captured = capsys.readouterr()
    assert "x86_64: " in captured.out
    assert "costs in milliseconds" in captured.out
    assert "outside XNNPACK: " in captured.err
    content = kc.export_tflite(
        keras.models.load_model(small / "condensed.keras"),
        target="x86_64",
        card=kc.load_card(small / "condensed.keras"),
    )
    assert path.read_bytes() == content


def test_benchmark_times_files_in_turn(small, tmp_path, capsys, monkeypatch):
    order = []
    original = kc.benchmark_tflite
    monkeypatch.setattr(kc, "benchmark_tflite", lambda path, **options: order.append(path) or original(path, **options))
    one, other = str(small / "condensed.tflite"), str(tmp_path / "other.tflite")
    pathlib.Path(other).write_bytes((small / "condensed.tflite").read_bytes())
    results = tmp_path / "results.csv"
    assert benchmark.main([one, other, "--runs", "3", "--rounds", "2", "--csv", str(results)]) == 0
    assert order == [one, other, one, other]
    assert "median ms" in capsys.readouterr().out
    with open(results, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == [one, other]
    for row in rows:
        assert int(row["bytes"]) == os.path.getsize(one)
        assert 0 < float(row["minimum_ms"]) <= float(row["median_ms"])
        assert row["runtime"] in ("ai-edge-litert", "tflite-runtime", "tensorflow")
        assert row["threads"] == "1"
        assert all(row[name] for name in ("runtime_version", "keras_condense", "python", "device", "date"))


def test_describe_counts_the_published_network(tmp_path, capsys):
    table = tmp_path / "layers.csv"
    assert describe.main(["condensenet50", "--condensed", "--csv", str(table)]) == 0
    output = capsys.readouterr().out
    assert "214,186" in output  # the authors' program on CondenseNet-50
    assert "27,182,592" in output or "27,183" in output
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(int(row["parameters"]) for row in rows) == 214_186
    assert rows[0]["output_shape"] == "32x32x16"


def test_describe_reads_a_file(small, capsys):
    assert describe.main([str(small / "condensed.keras")]) == 0
    parameters = kc.profile_model(keras.models.load_model(small / "condensed.keras")).parameters
    assert f"{parameters:,}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "shape"),
    [
        (["condensenet50"], (32, 32, 16)),
        (["densenet", "--stages", "1-1"], (230, 230, 3)),
        (["densenet", "--stages", "1-1", "--input-shape", "16x16x1"], (16, 16, 64)),
        (["squeezenet"], (111, 111, 96)),
        (["mobilenet"], (112, 112, 32)),
    ],
)
def test_describe_takes_images_of_the_networks_own_size(argv, shape, tmp_path):
    table = tmp_path / "layers.csv"
    assert describe.main([*argv, "--csv", str(table)]) == 0
    with open(table, newline="") as file:
        assert next(csv.DictReader(file))["output_shape"] == "x".join(map(str, shape))


def test_describe_shows_all_networks(tmp_path, capsys, monkeypatch):
    families = {name: kc.applications.zoo.families()[name] for name in ("condensenet", "mobilenet")}
    few = {name: types.SimpleNamespace(figures=family.figures[:1]) for name, family in families.items()}
    monkeypatch.setattr(kc.applications.zoo, "families", lambda: few)
    table = tmp_path / "zoo.csv"
    assert describe.main(["--all", "--csv", str(table)]) == 0
    output = capsys.readouterr().out
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["network"] for row in rows] == [family.figures[0].network for family in few.values()]
    for row in rows:
        assert row["network"] in output
        assert f"{int(row['parameters']):,}" in output
        assert row["file_bytes"] == ""


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["CondenseNet86", "--all"], "not allowed with"),
        (["--all", "--condensed"], "argument --all: not allowed with argument --condensed"),
        (["--all", "--input-shape", "32x32x3"], "argument --all: not allowed with argument --input-shape"),
        (["--all", "--stages", "2-2"], "argument --all: not allowed with argument --stages"),
        (["CondenseNet86", "--file-sizes"], "argument --file-sizes: not allowed without argument --all"),
    ],
)
def test_options_that_contradict_each_other_are_wrong_usage(argv, message, capsys):
    with pytest.raises(SystemExit) as exit_info:
        describe.main(argv)
    assert exit_info.value.code == 2
    assert message in capsys.readouterr().err


@pytest.fixture
def broken(finished, small, tmp_path):
    """A folder of files that can't be read, and of ones that must not be touched."""
    model, network = (finished / "model.keras").read_bytes(), (small / "condensed.tflite").read_bytes()
    (tmp_path / "truncated.keras").write_bytes(model[: len(model) // 2])
    (tmp_path / "foreign.keras").write_bytes(b"%PDF-1.7 and so on")
    (tmp_path / "truncated.tflite").write_bytes(network[: len(network) // 2])
    (tmp_path / "foreign.tflite").write_bytes(model)
    (tmp_path / "out.keras").write_bytes(b"before")
    (tmp_path / "out.tflite").write_bytes(b"before")
    (tmp_path / "out.csv").write_bytes(b"before")
    return tmp_path


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize(
    ("main", "argv", "message"),
    [
        (condense.main, ["missing.keras", "out.keras"], "must be an existing file"),
        (condense.main, ["truncated.keras", "out.keras"], "truncated"),
        (condense.main, ["foreign.keras", "out.keras"], "of another kind"),
        (condense.main, ["truncated.keras", "no/such/out.keras"], "must be in an existing folder"),
        (condense.main, ["truncated.keras", "out.h5"], "must end in '.keras'"),
        (export_tflite.main, ["missing.keras", "out.tflite"], "must be an existing file"),
        (export_tflite.main, ["truncated.keras", "out.tflite"], "truncated"),
        (export_tflite.main, ["foreign.keras", "out.tflite"], "of another kind"),
        (export_tflite.main, ["foreign.keras", "no/such/out.tflite"], "must be in an existing folder"),
        (export_tflite.main, ["foreign.keras", "out.keras"], "must end in '.tflite'"),
        (benchmark.main, ["missing.tflite", "--csv", "out.csv"], "cannot (No such file"),
        (benchmark.main, ["truncated.tflite", "--csv", "out.csv"], "cut short"),
        (benchmark.main, ["foreign.tflite", "--csv", "out.csv"], "must be a TensorFlow Lite model"),
        (benchmark.main, ["foreign.tflite", "--rounds", "0"], "`rounds` (=0) must be a positive integer"),
        (evaluate.main, ["missing.tflite"], "must be an existing file"),
        (evaluate.main, ["truncated.tflite", "--dataset", "digits"], "cut short"),
        (evaluate.main, ["truncated.tflite"], "`--dataset` must be given"),
        (evaluate.main, ["truncated.keras"], "truncated"),
        (evaluate.main, ["out.csv"], "must end in '.keras'"),
        (describe.main, ["truncated.keras", "--csv", "out.csv"], "truncated"),
        (describe.main, ["CondenseNet87"], "must be a name in keras_condense.applications"),
        (describe.main, ["CondenseNet86", "--input-shape", "32x32"], "must be height, width and channels"),
    ],
)
def test_broken_files_are_one_line_and_nothing_is_touched(main, argv, message, broken, fails, monkeypatch):
    monkeypatch.chdir(broken)
    before = contents(broken)
    assert message in fails(main, *argv)
    assert contents(broken) == before


def test_unfinished_condensing_names_the_layer(tmp_path, fails):
    model = kc.applications.CondenseNet((1,), (4,), stem_strides=1, input_shape=(8, 8, 1), classes=2)
    model.save(tmp_path / "model.keras")
    for main, output in ((condense.main, "out.keras"), (export_tflite.main, "out.tflite")):
        message = fails(main, tmp_path / "model.keras", tmp_path / output)
        assert "Layer 'block1_layer1_1_conv' is in condensing stage 0" in message
    assert os.listdir(tmp_path) == ["model.keras"]
    assert condense.main([str(tmp_path / "model.keras"), str(tmp_path / "out.keras"), "--finish"]) == 0


def test_another_data_set_than_the_models(finished, fails, tmp_path):
    model = kc.applications.CondenseNet((1,), (4,), stem_strides=1, input_shape=(8, 8, 1), classes=2)
    model.save(tmp_path / "model.keras")
    assert "10 classes" in fails(evaluate.main, tmp_path / "model.keras", "--dataset", "digits")
    assert "`name` (='digitz')" in fails(evaluate.main, tmp_path / "model.keras", "--dataset", "digitz")


@pytest.mark.parametrize("failing", ["write", "rename"])
def test_a_full_disk_keeps_what_was_there(small, finished, failing, broken, fails, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def save_half(_model, path, **_kwargs):
        path.write_text("half")
        full()

    if failing == "rename":
        monkeypatch.setattr(os, "replace", full)
    else:
        monkeypatch.setattr(keras.Model, "save", save_half)
        monkeypatch.setattr(pathlib.Path, "write_bytes", full)
    before = contents(broken)
    assert "No space left" in fails(condense.main, finished / "model.keras", broken / "out.keras")
    assert "No space left" in fails(export_tflite.main, small / "condensed.keras", broken / "out.tflite")
    assert contents(broken) == before


def test_exporting_needs_tensorflow(small, fails, tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    message = fails(export_tflite.main, small / "condensed.keras", tmp_path / "out.tflite")
    assert "`KERAS_BACKEND` (='jax') must be 'tensorflow'" in message


def test_output_that_nobody_reads(monkeypatch, finished):
    """`script | head`: an unfinished action is no success, and one of which only the last words are lost is."""
    import command_line

    def broken(*_arguments, **_options):
        raise BrokenPipeError

    parser = describe.parser()
    monkeypatch.setattr(command_line, "_write_no_more", lambda: None)
    argv = [str(finished / "model.keras")]
    assert command_line.run(parser, broken, argv) == 141
    closed = types.SimpleNamespace(flush=broken)
    streams = {"stdout": closed, "stderr": sys.stderr}
    monkeypatch.setattr(command_line, "sys", types.SimpleNamespace(**streams, modules=sys.modules))
    assert command_line.run(parser, lambda arguments: None, argv) == 0


def test_errors_of_tensorflow_are_one_line(finished, capsys):
    import command_line
    import tensorflow as tf

    def broken_image(arguments):
        def read(_):
            raise ValueError("'a.png' must be an image that can be decoded, and can't. Fix or remove it.")

        for _ in tf.data.Dataset.range(1).map(lambda x: tf.numpy_function(read, [x], tf.uint8)):
            pass

    argv = [str(finished / "model.keras")]
    assert command_line.run(describe.parser(), broken_image, argv) == 1
    assert (
        capsys.readouterr().err == "error: 'a.png' must be an image that can be decoded, and can't. Fix or remove it.\n"
    )

    def full(arguments):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor\nof shape (3)")

    assert command_line.run(describe.parser(), full, argv) == 1
    assert capsys.readouterr().err == "error: OOM when allocating tensor\n"


def test_models_of_no_images_are_not_calibrated_with_some(tmp_path, fails):
    keras.Sequential([keras.Input((10,)), keras.layers.Dense(2)]).save(tmp_path / "vectors.keras")
    arguments = (tmp_path / "vectors.keras", tmp_path / "out.tflite", "--quantize", "int8", "--dataset", "digits")
    assert "must take one image (height, width, channels), and takes (None, 10)" in fails(
        export_tflite.main, *arguments
    )
    assert not (tmp_path / "out.tflite").exists()


def test_scores_that_are_no_numbers(tmp_path, fails):
    model = keras.Sequential([keras.Input((16, 16, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])
    model.set_weights([np.full(weight.shape, np.nan) for weight in model.get_weights()])
    model.save(tmp_path / "nan.keras")
    assert "gives scores that are NaN or infinite" in fails(
        evaluate.main, tmp_path / "nan.keras", "--dataset", "digits"
    )


def test_a_frozen_network_is_condensed(tmp_path, capsys):
    model = kc.applications.CondenseNet((1,), (4,), input_shape=(8, 8, 1), classes=2, stem_strides=1)
    model.trainable = False
    model.save(tmp_path / "frozen.keras")
    assert condense.main([str(tmp_path / "frozen.keras"), str(tmp_path / "small.keras"), "--finish"]) == 0
    assert "0 trainable weights, 0 after condensing: " in capsys.readouterr().out


def test_options_of_networks_say_nothing_beside_a_file(finished, fails):
    message = fails(describe.main, finished / "model.keras", "--classes", "5")
    assert "`--classes` must be left out with a file" in message
