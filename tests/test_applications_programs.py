"""The programs in applications/: a whole run on digits, and what ordinary mistakes end in."""

import pathlib
import re
import runpy
import sys

import pytest

pytestmark = pytest.mark.slow  # all of it, together


PROGRAMS = pathlib.Path(__file__).parent.parent / "applications"


@pytest.fixture
def run(monkeypatch):
    """Run a program as the shell does, but in this process."""

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", ["main.py", *map(str, arguments)])
        runpy.run_path(str(PROGRAMS / name / "main.py"), run_name="__main__")

    return run


def error_of(run, *arguments):
    """The line that a failing run leaves; given to `sys.exit`, it goes to stderr, and the exit code is 1."""
    with pytest.raises(SystemExit) as ended:
        run(*arguments)
    assert isinstance(ended.value.code, str)
    assert re.fullmatch("error: .+", ended.value.code), ended.value.code
    return ended.value.code


@pytest.mark.slow
def test_digits_to_the_table_and_once_more(run, tmp_path, capsys):
    run("digits", "--epochs", 2, "--output", tmp_path)
    rows = {row.split()[1]: row.split() for row in capsys.readouterr().out.splitlines() if row.startswith("│")}
    assert list(rows) == ["masked", "condensed", "tflite"]
    assert len({row[3] for row in rows.values()}) == 1  # the accuracies
    assert all(float(row[5]) < 1e-4 for row in rows.values())  # the largest differences
    names = {
        "card.json",
        "checkpoint.keras",
        "condensed.keras",
        "digits.tflite",
        "log.csv",
        "model.keras",
        "settings.json",
    }
    assert {path.name for path in tmp_path.iterdir()} == names
    assert "holds one already. Resume it" in error_of(run, "digits", "--epochs", 2, "--output", tmp_path)
    assert "epochs (=1, first 2)" in error_of(run, "digits", "--epochs", 1, "--output", tmp_path, "--resume")


def test_digits_into_a_file(run, tmp_path):
    (tmp_path / "run").touch()
    assert "`folder` (=" in error_of(run, "digits", "--output", tmp_path / "run")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--epochs", 0], "`epochs` (=0) must be a positive integer"), (["--seed", -1], "Seed must be between 0 and")],
)
def test_digits_with_bad_numbers(run, tmp_path, arguments, message):
    assert message in error_of(run, "digits", *arguments, "--output", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_cifar10_with_bad_numbers(run, tmp_path):
    error = error_of(run, "cifar10", "--train", "--batch-size", 0, "--output", tmp_path / "run")
    assert "`batch_size` (=0) must be a positive integer" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--network", "CondenseNet87"], "invalid choice: 'CondenseNet87'"), (["--epochs", "many"], "invalid int value")],
)
def test_cifar10_with_what_its_usage_excludes(run, capsys, arguments, message):
    with pytest.raises(SystemExit) as ended:
        run("cifar10", *arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_cifar10_names_its_networks(run, capsys):
    with pytest.raises(SystemExit) as ended:
        run("cifar10", "--help")
    assert ended.value.code == 0
    assert "{CondenseNet50,CondenseNet74,CondenseNet86" in "".join(capsys.readouterr().out.split())
