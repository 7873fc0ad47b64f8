"""Write the tables and figures of README.md and docs/ from results/*.csv; with `--check`, only say if they are right.

A table stands between `<!-- table: NAME [column, column ...] -->` and `<!-- end -->`. It has all rows of
results/NAME.csv, or those that `where COLUMN: value | value ...`, after the brackets, chooses by one of its columns.

A figure in a sentence stands between `<!-- figure: NAME [column] where COLUMN: value -->` and `<!-- end -->`. It may be
the `[least column]` or `[most column]` of the rows, and rounded: `[column .1f]`.

The name `overview` stands for the table that `overview.py` makes of several files.
"""

import argparse
import pathlib
import re
import sys

import overview
import pandas as pd
from common import RESULTS, ROOT

CHOICE = r"(?:\s+where (?P<key>\w+):(?P<values>.+?))?\s+-->"
TABLE = re.compile(
    rf"(?P<begin><!-- table: (?P<name>\w+) \[(?P<columns>[^\]]+)\]{CHOICE}\n).*?(?P<end><!-- end -->)", re.DOTALL
)
FIGURE = re.compile(
    r"(?P<begin><!-- figure: (?P<name>\w+) \[(?:(?P<which>least|most) )?(?P<column>\w+)(?: (?P<format>\.\df))?\]"
    rf"{CHOICE})[^<]*(?P<end><!-- end -->)",
    re.DOTALL,
)
CONDITIONS = ("device", "threads", "versions", "date")


def pages() -> list[pathlib.Path]:
    """The pages that show results."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def readable(cell: str) -> str:
    """A cell as people read it: large integers with commas."""
    return f"{int(cell):,}" if cell.isdigit() and len(cell) > 4 else cell


def rows_of(name: str, columns: list[str], key: str | None = None, values: list[str] | None = None) -> pd.DataFrame:
    """Rows of one results file.

    Args:
        name: the file's name without its suffix, or "overview".
        columns: columns that it must have.
        key: a column by which rows are chosen, or None for all rows.
        values: its values in the chosen rows, in the order of the table.

    Raises:
        ValueError: the file or a column is missing, or no row has one of the values.
    """
    if name == "overview":
        frame = pd.DataFrame(overview.rows())
    else:
        path = RESULTS / f"{name}.csv"
        if not path.is_file():
            raise ValueError(f"results/{name}.csv is missing; run the program in benchmarks/ that writes it")
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    if missing := set(columns) - set(frame):
        raise ValueError(
            f"results/{name}.csv lacks the columns {', '.join(sorted(missing))}; instructions need --counter"
        )
    if key is None:
        return frame
    if missing := set(values) - set(frame[key]):
        raise ValueError(f"results/{name}.csv has no row whose {key} is {', '.join(sorted(missing))}")
    return frame.set_index(key, drop=False).loc[values]


def table(name: str, columns: list[str], key: str | None = None, values: list[str] | None = None) -> str:
    """Markdown of some columns of one results file, and under it how it was measured; the arguments of `rows_of`."""
    frame = rows_of(name, columns, key, values)
    lines = [f"| {' | '.join(column.replace('_', ' ') for column in columns)} |", "|---" * len(columns) + "|"]
    lines += [f"| {' | '.join(map(readable, row))} |" for row in frame[columns].to_numpy().tolist()]
    device, threads, versions, date = (frame[condition].iloc[0] for condition in CONDITIONS)
    source = f"`results/{name}.csv`" if name != "overview" else "made by `benchmarks/overview.py`"
    return "\n".join(lines) + f"\n\n{device}; {threads} threads; {versions}; {date}; {source}.\n"


def figure(frame: pd.DataFrame, column: str, which: str | None, decimals: str | None) -> str:
    """One figure of some rows.

    Raises:
        ValueError: several rows, and nothing that says which of them.
    """
    cells = frame[column].tolist()
    if which is not None:
        cells = [(min if which == "least" else max)(cells, key=float)]
    if len(cells) != 1:
        raise ValueError(f"a figure of {column} must be of one row, and is of {len(cells)}; say least or most")
    (cell,) = cells
    return format(float(cell), decimals) if decimals else readable(cell)


def with_results(text: str) -> str:
    """A page with every table and every figure made anew."""

    def split(text: str | None, separator: str) -> list[str] | None:
        return None if text is None else [" ".join(part.split()) for part in text.split(separator)]

    def made_table(match: re.Match) -> str:
        made = table(match["name"], split(match["columns"], ","), match["key"], split(match["values"], "|"))
        return match["begin"] + made + match["end"]

    def made_figure(match: re.Match) -> str:
        if match.start() == 0 or text[match.start() - 1] == "\n":
            raise ValueError(f"the figure {match['begin']} must not begin a line, which Markdown takes for HTML")
        frame = rows_of(match["name"], [match["column"]], match["key"], split(match["values"], "|"))
        return match["begin"] + figure(frame, match["column"], match["which"], match["format"]) + match["end"]

    text = TABLE.sub(made_table, text)
    return FIGURE.sub(made_figure, text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if a page is out of date")
    arguments = parser.parse_args()
    outdated = 0
    for path in pages():
        name, text = path.relative_to(ROOT), path.read_text(encoding="utf-8")
        try:
            renewed = with_results(text)
        except ValueError as error:
            print(f"{name}: {error}")
            outdated = 1
            continue
        if renewed != text and arguments.check:
            print(f"{name}: it differs from results/*.csv; run `python benchmarks/readme_tables.py`")
            outdated = 1
        elif renewed != text:
            path.write_text(renewed, encoding="utf-8")
    return outdated


if __name__ == "__main__":
    sys.exit(main())
