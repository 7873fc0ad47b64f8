"""What users install: all files of the package, and a description that an index can show."""

import email
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKED = ("keras_condense", "scripts", "setup.py", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("sources")
    for name in PACKED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    command = [sys.executable, "setup.py", "--quiet", "bdist_wheel"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = (folder / "dist").glob("*.whl")
    return zipfile.ZipFile(path)


def test_a_wheel_holds_every_file_of_the_package(wheel):
    files = [path for path in (ROOT / "keras_condense").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    names = {str(path.relative_to(ROOT)) for path in files} - {"keras_condense/tflite/README.md"}  # for who writes it
    assert {name for name in wheel.namelist() if name.startswith("keras_condense/")} == names
    scripts = {f"keras_condense_scripts/{path.name}" for path in (ROOT / "scripts").glob("*.py")}
    assert {name for name in wheel.namelist() if name.startswith("keras_condense_scripts/")} == scripts
    suffixes = {pathlib.Path(name).suffix for name in names}
    assert {".typed", ".json", ".h5", ".md"} < suffixes


def test_the_description_is_the_readme_without_what_an_index_lacks(wheel):
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = email.message_from_bytes(wheel.read(name))
    assert metadata["Description-Content-Type"] == "text/markdown"
    description = metadata.get_payload()
    assert description.startswith("# keras_condense\n")
    assert "make quickstart" in description
    assert "](https://arxiv.org/abs/1711.09224)" in description
    for absent in ("<!--", "![", "](docs/", "](C"):
        assert absent not in description
