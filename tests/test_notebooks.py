"""The notebooks run from top to bottom, each in an empty folder, and leave what they promise."""

import pathlib

import forked
import pytest

NOTEBOOKS = pathlib.Path(__file__).parent.parent / "docs" / "notebooks"
LEAVES = {
    "your_own_model": ["mine.tflite"],
    "photographs_to_phone": ["runs/pictures/pictures.tflite", "runs/pictures/card.json"],
    "reading_a_run": ["run.png", "connections.png", "cost.png", "exports.png"],
}


def test_all_notebooks_are_run():
    assert {path.stem for path in NOTEBOOKS.glob("*.py")} == LEAVES.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", LEAVES)
def test_a_notebook_runs(name, tmp_path):
    pytest.importorskip("tensorflow")
    output = tmp_path / "output.txt"
    code = forked.run(NOTEBOOKS / f"{name}.py", folder=tmp_path, output=output, timeout=300)
    assert code == 0, output.read_text()[-3000:]
    assert all((tmp_path / leaf).stat().st_size for leaf in LEAVES[name])
    if name == "photographs_to_phone":
        last = output.read_text().strip().splitlines()[-1]
        assert last.startswith("pictures/digit 7/")
        assert ": digit 7 " in last
