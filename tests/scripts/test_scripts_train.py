import errno
import importlib.util
import json
import os
import pathlib
import shutil
import signal
import sys
import time

import backend_forks
import forked
import keras
import numpy as np
import pytest
import train
from tiny_run import RUN, SCRIPTS, TINY

from keras_condense.saving import load_model

pytestmark = pytest.mark.slow  # all of it, together


def assert_same_run(folder, finished):
    """The same weights, masks and optimizer state to the last bit, and the same files and log."""
    model, expected = load_model(folder / "model.keras"), load_model(finished / "model.keras")
    for ours, theirs in zip(model.variables, expected.variables, strict=True):
        if ours.name != "seed_generator_state":
            np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs), err_msg=ours.path)
    for ours, theirs in zip(model.optimizer.variables, expected.optimizer.variables, strict=True):
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs), err_msg=ours.path)
    masks = [np.asarray(variable) for variable in model.variables if variable.name == "mask"]
    assert len(masks) == 2
    assert all(mask.mean() == 0.5 for mask in masks)
    assert sorted(os.listdir(folder)) == ["card.json", "checkpoint.keras", "log.csv", "model.keras", "settings.json"]
    logs = [(path / "log.csv").read_text().splitlines() for path in (folder, finished)]
    ours, theirs = ([line.rsplit(",", 1)[0] for line in log] for log in logs)  # but for the seconds
    assert ours == theirs


def is_in_epoch(number):
    return lambda output, folder: f"Epoch {number}/" in output.read_text()


def is_writing_checkpoint(output, folder):
    return folder.exists() and any(name.startswith(".checkpoint") for name in os.listdir(folder))


def start_and_kill(folder, moment, delay=0.0):
    """Run train.py --resume in a process of its own and kill it at a moment."""
    output = folder.parent / "output.txt"
    arguments = (*RUN, "--output", folder, "--resume")
    process = forked.start(SCRIPTS / "train.py", *arguments, folder=folder.parent, output=output)
    try:
        deadline = time.monotonic() + 240
        while not moment(output, folder):
            assert process.exitcode is None, output.read_text()
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.002)  # a checkpoint takes longer to write
        time.sleep(delay)
    finally:
        process.kill()
        process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (folder / "model.keras").exists()


@pytest.mark.slow
def test_killed_runs_end_like_an_unbroken_one(finished, tmp_path):
    folder = tmp_path / "run"
    start_and_kill(folder, is_in_epoch(1), delay=0.5)
    assert not (folder / "checkpoint.keras").exists()
    start_and_kill(folder, is_writing_checkpoint)
    start_and_kill(folder, is_in_epoch(3), delay=0.3)
    assert (folder / "checkpoint.keras").exists()
    (folder / ".checkpoint.abcd_123.keras").write_bytes(b"half")  # whatever the second kill left
    assert train.main([*RUN, "--output", str(folder), "--resume"]) == 0
    assert_same_run(folder, finished)


def test_a_run_killed_after_its_last_epoch_is_finished(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    (folder / "model.keras").unlink()
    assert train.main([*RUN, "--output", str(folder), "--resume"]) == 0
    assert_same_run(folder, finished)


def test_the_end_tells_the_next_commands(finished, capsys):
    assert train.main([*RUN, "--output", str(finished), "--resume"]) == 0
    output = capsys.readouterr().out
    assert "test accuracy 0." in output
    for script in ("condense", "export_tflite", "evaluate", "benchmark"):
        assert f"python scripts/{script}.py" in output
        assert (SCRIPTS / f"{script}.py").exists()


def contents(folder):
    return {path.name: path.read_bytes() for path in pathlib.Path(folder).iterdir()}


def test_an_existing_run_is_not_overwritten(finished, fails):
    before = contents(finished)
    assert "Resume it" in fails(train.main, *RUN, "--output", finished)
    assert contents(finished) == before


def test_another_models_folder_is_not_overwritten(fails, tmp_path):
    (tmp_path / "model.keras").write_bytes(b"somebody's")
    assert "must be empty" in fails(train.main, *RUN, "--output", tmp_path)
    assert "no settings.json" in fails(train.main, *RUN, "--output", tmp_path, "--resume")
    assert contents(tmp_path) == {"model.keras": b"somebody's"}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--seed", "4"], "seed (=4, first 3)"),
        (["--dropout-rate", "0.2"], "dropout_rate (=0.2, first 0.3)"),
        (["--epochs", "3"], "epochs (=3, first 4)"),
        (["--batch-size", "32"], "batch_size (=32, first 64)"),
        (["--no-augment"], "no_augment (=True, first False)"),
    ],
)
def test_a_run_is_not_resumed_with_other_settings(finished, fails, options, named):
    before = contents(finished)
    assert named in fails(train.main, *RUN, *options, "--output", finished, "--resume")
    assert contents(finished) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dataset", "digitz"], "`name` (='digitz') must be"),
        (["--network", "CondenseNet87"], "`network` (='CondenseNet87') must be a name"),
        (["--network", "DenseNet121", "--stages", "1-1"], "has no option"),
        (["--growth-rates", "4-4-4"], "must be as long as `stages`"),
        (["--groups", "3"], "must be divisible by `groups` (=3)"),
        (["--epochs", "0"], "`epochs` (=0) must be a positive integer"),
        (["--batch-size", "0"], "`batch_size` (=0) must be a positive integer"),
        (["--learning-rate", "-1"], "`learning_rate` (=-1.0) must be a finite number above 0"),
        (["--learning-rate", "nan"], "`learning_rate` (=nan) must be a finite number"),
        (["--momentum", "1"], "`momentum` (=1.0) must be"),
        (["--weight-decay", "-1"], "`weight_decay` (=-1.0) must be"),
        (["--validation-fraction", "1"], "`validation_fraction` (=1.0) must be"),
        (["--seed", "-1"], "`seed` (=-1) must"),
    ],
)
def test_bad_arguments_are_named_before_anything_is_written(fails, tmp_path, options, message):
    folder = tmp_path / "run"
    assert message in fails(train.main, *TINY, "--output", folder, *options)
    assert not folder.exists()


@pytest.mark.parametrize("argv", [["--stages", "4-x"], ["--epochs", "many"], ["--no-such-flag"]])
def test_wrong_usage_is_exit_code_two(argv):
    with pytest.raises(SystemExit) as exit_info:
        train.main(argv)
    assert exit_info.value.code == 2


def test_an_output_folder_that_cannot_be_made(fails, tmp_path):
    (tmp_path / "file").write_text("")
    assert "a place where one can be made" in fails(train.main, *TINY, "--output", tmp_path / "file" / "run")


def test_a_full_disk_keeps_the_last_checkpoint(finished, fails, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    (folder / "model.keras").unlink()
    before = contents(folder)

    def full(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))

    monkeypatch.setattr(os, "replace", full)
    message = fails(train.main, *RUN, "--output", folder, "--resume")
    assert "No space left on device" in message
    assert contents(folder) == before


def test_a_broken_checkpoint_is_named_and_kept(finished, fails, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    whole = (folder / "checkpoint.keras").read_bytes()
    (folder / "checkpoint.keras").write_bytes(whole[: len(whole) // 2])
    before = contents(folder)
    message = fails(train.main, *RUN, "--output", folder, "--resume")
    assert "checkpoint.keras" in message
    assert "truncated" in message
    assert contents(folder) == before


def test_settings_are_readable(finished):
    settings = json.loads((finished / "settings.json").read_text())
    assert settings["stages"] == [1, 1]
    assert not {"output", "resume", "verbose", "data_dir"} & settings.keys()


SMALL = [*TINY, "--stages", "1", "--growth-rates", "4", "--epochs", "2", "--image-size", "8", "--batch-size", "180"]


@pytest.fixture(scope="module")
def on_device(tmp_path_factory):
    """The folder of a run of bfloat16 with the images on the device."""
    folder = tmp_path_factory.mktemp("on_device") / "run"
    assert train.main([*SMALL, "--on-device", "--mixed-precision", "--output", str(folder)]) == 0
    return folder


def test_mixed_precision_ends_in_float32(on_device, capsys):
    assert keras.config.dtype_policy().name == "float32"  # of this process, as before
    model = load_model(on_device / "model.keras")
    policies = [layer.dtype_policy.name for layer in model.layers]
    assert policies[-1] == "float32"
    assert set(policies[1:-1]) == {"mixed_bfloat16"}
    assert {weight.dtype for weight in model.trainable_variables} == {"float32"}
    assert model(np.zeros((1, 8, 8, 1), "float32")).dtype.name == "float32"
    assert len((on_device / "log.csv").read_text().splitlines()) == 3
    assert sorted(os.listdir(on_device)) == ["card.json", "checkpoint.keras", "log.csv", "model.keras", "settings.json"]


def test_precision_and_device_are_settings(on_device, finished, fails, tmp_path):
    shutil.copytree(on_device, tmp_path / "run")
    assert train.main([*SMALL, "--output", str(tmp_path / "run"), "--resume"]) == 0  # which the run knows
    assert contents(tmp_path / "run").keys() == contents(on_device).keys()
    before = contents(finished)
    for flag, name in (("--mixed-precision", "mixed_precision"), ("--on-device", "on_device")):
        assert f"{name} (=True, first False)" in fails(train.main, *RUN, flag, "--output", finished, "--resume")
    assert contents(finished) == before
    assert keras.config.dtype_policy().name == "float32"


def test_tensorboard_is_shown_a_run_that_goes_on(tmp_path):
    pytest.importorskip("matplotlib")
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder = tmp_path / "run"
    assert train.main([*SMALL, "--tensorboard", "--output", str(folder)]) == 0
    assert train.main([*SMALL, "--epochs", "3", "--resume", "--output", str(folder)]) == 0  # which has a folder
    steps = {}
    for part in ("train", "validation", "connections", "run"):
        found = accumulators.EventAccumulator(str(folder / "tensorboard" / part), purge_orphaned_data=False).Reload()
        steps |= {(part, tag): [event.step for event in found.Tensors(tag)] for tag in found.Tags()["tensors"]}
    tags = {"loss", "accuracy", "learning_rate", "condense_stage", "connections_left"}
    for tag in [("train", f"epoch_{name}") for name in tags] + [("validation", "epoch_accuracy")]:
        assert steps[tag] == [0, 1, 2]
    assert steps["connections", "connections"] == [0, 1, 3]
    assert steps["run", "run"] == steps["run", "cost"] == [0]
    assert "tensorboard" not in json.loads((folder / "settings.json").read_text())


def test_tensorboard_that_is_missing_is_named_before_anything_is_written(fails, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    message = fails(train.main, *SMALL, "--tensorboard", "--output", tmp_path / "run")
    assert 'pip install "keras-condense[tensorboard]"' in message
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_train_without_tensorflow(backend, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    command = [SCRIPTS / "train.py", *SMALL, "--output", tmp_path / "run"]
    (done,) = backend_forks.run(backend, [backend_forks.Program(command, tmp_path)])
    assert done.code == 0, done.output
    assert "test accuracy 0." in done.output
    assert "python scripts/export_tflite.py" in done.output
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["on_device"]
    assert load_model(tmp_path / "run" / "checkpoint.keras").input_shape == (None, 8, 8, 1)


def test_sizes_that_are_none_say_how_they_are_written(capsys):
    with pytest.raises(SystemExit):
        train.main(["--image-size", "96x"])
    assert "'96x' must be integers, joined by dashes for blocks (4-4-4) and by an x" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["all"], "`--distribute` (='all') must be 'auto', or three words: host and port of the first process"),
        (["10.0.0.1:1", "two", "0"], "must be 'auto', or three words"),
        (["10.0.0.1:1", "2", "0"], "Keras' backend (='tensorflow') must be 'jax' to train in several processes. Set"),
    ],
)
def test_devices_that_can_not_be_shared_by(words, message, tmp_path, capsys):
    assert train.main(["--output", str(tmp_path / "none"), "--distribute", *words]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_options_of_long_runs_are_known_when_it_goes_on(tmp_path, capsys):
    output = ["--output", str(tmp_path / "run"), "--resume", "--verbose", "0"]
    options = ["--save-freq", "5", "--scale-learning-rate", "--batch-size", "128", "--epochs", "1"]
    assert train.main([*TINY, *output, *options, "--distribute", "auto"]) == 0
    assert train.main([*output, "--epochs", "2"]) == 0  # the folder knows the rest
    assert len((tmp_path / "run" / "log.csv").read_text().splitlines()) == 3
    capsys.readouterr()
