"""What the programs in benchmarks/ share."""

import pathlib
import shutil

import pytest

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture
def common(benchmark_program):
    return benchmark_program("common")


def test_another_package_than_the_sources_is_not_measured(common, tmp_path):
    sources, package = ROOT / "keras_condense" / "tflite" / "targets", tmp_path / "package"
    shutil.copytree(sources, package)
    common.check_package(package, sources)
    (package / "arm64.json").write_text("{}")
    (package / "x86_64.json").unlink()
    with pytest.raises(SystemExit, match=r"must be that of .*, and 2 files differ, such as arm64\.json\. Run `make"):
        common.check_package(package, sources)
