"""What every benchmark shares: where results go, and what stands beside each figure."""

import csv
import datetime
import importlib.metadata
import io
import os
import pathlib
import platform

from keras_condense.files import write_text

RESULTS = pathlib.Path(__file__).resolve().parent.parent / "results"


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
    conditions = {
        "threads": threads,
        "device": device(),
        "versions": versions(*packages),
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
    }
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=[*rows[0], *conditions], lineterminator="\n")
    writer.writeheader()
    writer.writerows(row | conditions for row in rows)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.csv"
    write_text(path, text.getvalue())
    return path
