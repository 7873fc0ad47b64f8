"""The installed command: each verb is a script."""

import pathlib
import re
import subprocess
import sys

import main
import pytest

SCRIPTS = pathlib.Path(main.__file__).parent


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["pytest"])
    monkeypatch.setattr(sys, "path", list(sys.path))


def test_every_script_is_a_verb():
    scripts = {path.stem for path in SCRIPTS.glob("*.py") if "def parser()" in path.read_text()}
    assert {name for name, _ in main.VERBS.values()} == scripts


@pytest.mark.parametrize("verb", main.VERBS)
def test_help_speaks_of_the_verb(verb, capsys):
    with pytest.raises(SystemExit) as ended:
        main.main([verb, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert f"usage: keras-condense {verb}" in text
    assert "scripts/" not in text
    assert re.search(rf"^  (KERAS_BACKEND=\w+ )?keras-condense {verb}", text, re.MULTILINE)


def test_what_can_be_done(capsys):
    assert main.main([]) == 2
    assert main.main(["--help"]) == 0
    captured = capsys.readouterr()
    assert captured.out == captured.err
    assert all(verb in captured.out for verb in main.VERBS)
    assert main.main(["trian"]) == 2
    assert "'trian' is no verb of keras-condense. Did you mean 'train'?" in capsys.readouterr().err
    assert main.main(["zzz"]) == 2
    assert "Choose one of train, condense" in capsys.readouterr().err
    assert main.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("keras-condense ")


def test_photographs_are_named(finished, tmp_path, capsys):
    from keras.utils import save_img

    from keras_condense import datasets

    data = datasets.load_arrays("digits")
    image = tmp_path / "a.png"
    save_img(image, data.test_images[0], scale=False)
    assert main.main(["predict", str(finished / "model.keras"), str(image), "--top", "2"]) == 0
    assert re.fullmatch(rf"{re.escape(str(image))}: \d [\d.]+%, \d [\d.]+%\n", capsys.readouterr().out)
    assert main.main(["predict", str(finished / "log.csv"), str(image)]) == 1
    assert "must end in '.keras' or '.tflite'" in capsys.readouterr().err


def test_it_is_installed_with_its_scripts():
    """What `pip install` makes: an entry point, and the scripts beside it."""
    done = subprocess.run([sys.executable, "-m", "pip", "show", "-f", "keras-condense"], capture_output=True, text=True)
    if "keras_condense_scripts" not in done.stdout:
        pytest.skip("the package is not installed from a wheel")
    assert "keras_condense_scripts/train.py" in done.stdout
    assert "bin/keras-condense" in done.stdout
