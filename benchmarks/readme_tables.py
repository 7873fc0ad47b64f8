"""Write the README's tables from results/*.csv; with `--check`, only say whether they are up to date.

A table stands between `<!-- table: NAME [column, column ...] -->` and `<!-- end -->`. It has all rows of
results/NAME.csv, or those that `where COLUMN: value | value ...`, after the brackets, chooses by one of its columns.
"""

import argparse
import pathlib
import re
import sys

import pandas as pd
from common import RESULTS

README = RESULTS.parent / "README.md"
MARKER = re.compile(
    r"(?P<begin><!-- table: (?P<name>\w+) \[(?P<columns>[^\]]+)\](?:\s+where (?P<key>\w+):(?P<values>.+?))?\s+-->\n)"
    r".*?(?P<end><!-- end -->)",
    re.DOTALL,
)
CONDITIONS = ("device", "threads", "versions", "date")


def readable(cell: str) -> str:
    """A cell as people read it: large integers with commas."""
    return f"{int(cell):,}" if cell.isdigit() and len(cell) > 4 else cell


def table(name: str, columns: list[str], key: str | None = None, values: list[str] | None = None) -> str:
    """Markdown of some columns of one results file, and under it how it was measured.

    Args:
        name: the file's name without its suffix.
        columns: the columns to show.
        key: a column by which rows are chosen, or None for all rows.
        values: its values in the chosen rows, in the order of the table.

    Raises:
        ValueError: the file is missing, or no row has one of the values.
    """
    path = RESULTS / f"{name}.csv"
    if not path.is_file():
        raise ValueError(f"results/{name}.csv is missing; run the program in benchmarks/ that writes it")
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    if missing := set(columns) - set(frame):
        raise ValueError(
            f"results/{name}.csv lacks the columns {', '.join(sorted(missing))}; instructions need --counter"
        )
    if key is not None:
        if missing := set(values) - set(frame[key]):
            raise ValueError(f"results/{name}.csv has no row whose {key} is {', '.join(sorted(missing))}")
        frame = frame.set_index(key, drop=False).loc[values]
    lines = [f"| {' | '.join(column.replace('_', ' ') for column in columns)} |", "|---" * len(columns) + "|"]
    lines += [f"| {' | '.join(map(readable, row))} |" for row in frame[columns].to_numpy().tolist()]
    device, threads, versions, date = (frame[condition].iloc[0] for condition in CONDITIONS)
    return "\n".join(lines) + f"\n\n{device}; {threads} threads; {versions}; {date}; `results/{name}.csv`.\n"


def with_tables(text: str) -> str:
    """The README with every table made anew."""

    def split(text: str, separator: str) -> list[str]:
        return [part.strip() for part in text.split(separator)]

    def replacement(match: re.Match) -> str:
        values = None if match["key"] is None else split(match["values"], "|")
        made = table(match["name"], split(match["columns"], ","), match["key"], values)
        return match["begin"] + made + match["end"]

    return MARKER.sub(replacement, text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if a table is out of date")
    arguments = parser.parse_args()
    text = README.read_text(encoding="utf-8")
    try:
        renewed = with_tables(text)
    except ValueError as error:
        print(f"README.md: {error}")
        return 1
    if arguments.check:
        if renewed != text:
            print("README.md: its tables differ from results/*.csv; run `python benchmarks/readme_tables.py`")
        return int(renewed != text)
    pathlib.Path(README).write_text(renewed, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
