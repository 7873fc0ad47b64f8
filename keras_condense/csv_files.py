"""Rows of figures in CSV files."""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

from keras_condense.files import write_text

__all__ = ["read_rows", "write_rows"]


def write_rows(path: str | os.PathLike, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows to a CSV file, whole or not at all.

    Args:
        path: the file; its folder exists.
        rows: at least one, each a value for every column. The header is the last one's keys, and behind them those that
            only others have; a value that a row lacks is left empty.

    Raises:
        OSError: the disk is full; what stood at `path` is still there.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "log.csv")
        ...     write_rows(path, [{"epoch": 1, "loss": 0.5}])
        ...     read_rows(path)
        [{'epoch': '1', 'loss': '0.5'}]
    """
    text = io.StringIO()
    columns = dict.fromkeys(column for row in (rows[-1], *rows) for column in row)
    writer = csv.DictWriter(text, fieldnames=list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_rows(path: str | os.PathLike) -> list[dict[str, str]]:
    """Return the rows of a CSV file by the names in its header, every cell a string.

    Raises:
        OSError: no such file.
        ValueError, csv.Error: it holds something else.
    """
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
