import sys

import pytest
from tiny_run import RUN, SCRIPTS

sys.path.insert(0, str(SCRIPTS))  # as `python scripts/train.py` has it: the scripts import their sibling


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The folder of an unbroken run."""
    import train

    folder = tmp_path_factory.mktemp("unbroken") / "run"
    assert train.main([*RUN, "--output", str(folder)]) == 0
    return folder


@pytest.fixture(scope="session")
def small(finished, tmp_path_factory):
    """A folder with condensed.keras and condensed.tflite of that run."""
    import condense
    import export_tflite

    folder = tmp_path_factory.mktemp("condensed")
    model, network = str(folder / "condensed.keras"), str(folder / "condensed.tflite")
    assert condense.main([str(finished / "model.keras"), model]) == 0
    assert export_tflite.main([model, network]) == 0
    return folder


@pytest.fixture
def fails(capsys):
    """Run a script in this process and check that it fails as a script should; returns its one line on stderr."""

    def check(main, *argv):
        capsys.readouterr()
        assert main([str(argument) for argument in argv]) == 1
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith("error: ")
        return lines[0]

    return check
