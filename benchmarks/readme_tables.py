"""Write the README's tables from results/*.csv; with `--check`, only say whether they are up to date.

A table stands between `<!-- table: NAME [column, column ...] -->` and `<!-- end -->`.
"""

import argparse
import pathlib
import re
import sys

import pandas as pd
from common import RESULTS

README = RESULTS.parent / "README.md"
MARKER = re.compile(r"(<!-- table: (?P<name>\w+) \[(?P<columns>[^\]]+)\] -->\n).*?(<!-- end -->)", re.DOTALL)
CONDITIONS = ("device", "threads", "versions", "date")


def table(name: str, columns: list[str]) -> str:
    """Markdown of some columns of one results file, and under it how it was measured."""
    frame = pd.read_csv(RESULTS / f"{name}.csv", dtype=str, keep_default_na=False)
    lines = [f"| {' | '.join(column.replace('_', ' ') for column in columns)} |", "|---" * len(columns) + "|"]
    lines += [f"| {' | '.join(row)} |" for row in frame[columns].to_numpy().tolist()]
    device, threads, versions, date = (frame[condition].iloc[0] for condition in CONDITIONS)
    return "\n".join(lines) + f"\n\n{device}; {threads} threads; {versions}; {date}; `results/{name}.csv`.\n"


def with_tables(text: str) -> str:
    """The README with every table made anew."""

    def replacement(match: re.Match) -> str:
        columns = [column.strip() for column in match["columns"].split(",")]
        return match[1] + table(match["name"], columns) + match[4]

    return MARKER.sub(replacement, text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if a table is out of date")
    arguments = parser.parse_args()
    text = README.read_text(encoding="utf-8")
    renewed = with_tables(text)
    if arguments.check:
        if renewed != text:
            print("README.md: its tables differ from results/*.csv; run `python benchmarks/readme_tables.py`")
        return int(renewed != text)
    pathlib.Path(README).write_text(renewed, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
