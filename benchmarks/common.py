"""What every benchmark shares: where results go, what stands beside each figure, and how rows are shown."""

import datetime
import filecmp
import importlib.metadata
import os
import pathlib
import platform

from rich.console import Console
from rich.table import Table

import keras_condense
from keras_condense import csv_files

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
PICTURES = ROOT / "docs" / "pictures"


def check_package(package: pathlib.Path, sources: pathlib.Path) -> None:
    """End the program unless a package has the contents of the sources, whose date its figures will bear."""
    files = (path for path in sources.rglob("*") if path.suffix in (".py", ".json"))
    names = [str(path.relative_to(sources)) for path in files]
    _, different, missing = filecmp.cmpfiles(sources, package, names, shallow=False)
    if others := sorted(different + missing):
        raise SystemExit(
            f"error: `keras_condense` ({package}) must be that of {sources}, or other code would be measured, and "
            f"{len(others)} files differ, such as {others[0]}. Run `make install`, or set PYTHONPATH to {ROOT}."
        )


check_package(pathlib.Path(keras_condense.__file__).parent, ROOT / "keras_condense")


def device() -> str:
    """The processor's name and the number of cores at hand."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            name = next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{name}, {os.cpu_count()} cores"


def versions(*packages: str) -> str:
    """Names and versions of installed packages, for instance 'keras 3.15.1, numpy 2.4.6'."""
    return ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)


def conditions(*, threads: int, packages: tuple[str, ...]) -> dict:
    """What stands beside each figure: threads, device, versions and date.

    Args:
        threads: threads that the measured programs were given.
        packages: installed packages whose versions matter.
    """
    return {
        "threads": threads,
        "device": device(),
        "versions": versions(*packages),
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
    }


def write_rows(path: pathlib.Path, rows: list[dict]) -> None:
    """Write dicts with the same keys as a csv file; its folder is made if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    csv_files.write_rows(path, rows)


def read_rows(path: pathlib.Path) -> list[dict]:
    """The rows of a csv file, every cell a string; none if there is no file."""
    return csv_files.read_rows(path) if path.is_file() else []


def print_rows(rows: list[dict], title: str, width: int | None = None) -> None:
    """Print dicts with the same keys as a table.

    Args:
        rows: the table's rows.
        title: stands above it.
        width: of the lines, in characters; None for the terminal's.
    """
    table = Table(*(column.replace("_", " ") for column in rows[0]), title=title)
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console(width=width).print(table)


def write_results(name: str, rows: list[dict], *, threads: int, packages: tuple[str, ...]) -> pathlib.Path:
    """Write `results/<name>.csv`: the rows, and in each the versions, device, threads and date.

    Args:
        name: the file's name without its suffix.
        rows: dicts with the same keys.
        threads: threads that the measured programs were given.
        packages: installed packages whose versions matter.

    Returns:
        The file's path.
    """
    beside = conditions(threads=threads, packages=packages)
    path = RESULTS / f"{name}.csv"
    write_rows(path, [row | beside for row in rows])
    return path
