"""Time .tflite files on this machine or on a phone, in turn, so that a busy moment falls on all of them."""

import argparse
import datetime
import pathlib
import platform
import statistics
import sys
from collections.abc import Sequence

import command_line

EXAMPLES = """\
  python scripts/benchmark.py runs/digits/condensed.tflite
  python scripts/benchmark.py condensenet.tflite mobilenet.tflite --threads 2 --rounds 10 --csv results.csv
  python scripts/benchmark.py a.tflite b.tflite --adb --benchmark-model android_aarch64_benchmark_model --csv phone.csv
"""
RUNTIMES = ("auto", "ai-edge-litert", "tflite-runtime", "tensorflow")


def parser() -> argparse.ArgumentParser:
    parser = command_line.new_parser(__doc__, EXAMPLES)
    parser.add_argument("models", nargs="+", metavar="MODEL.tflite", help="files to time")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="default: %(default)s")
    parser.add_argument("--runs", type=int, default=50, metavar="N", help="inferences a round (default: %(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=5, metavar="N", help="how often each file gets its turn (default: %(default)s)"
    )
    parser.add_argument(
        "--runtime",
        choices=RUNTIMES,
        default="auto",
        help="default: %(default)s, the first of the others that is installed",
    )
    parser.add_argument(
        "--adb",
        nargs="?",
        const="",
        metavar="SERIAL",
        help="time on the phone that adb sees, by LiteRT's benchmark_model; its serial number where there are several",
    )
    parser.add_argument(
        "--benchmark-model", metavar="FILE", help="LiteRT's program, to be brought to the phone (default: it is there)"
    )
    parser.add_argument(
        "--csv", metavar="FILE", help="write the results, with versions, device and date; replaces the file"
    )
    return parser


def benchmark(arguments: argparse.Namespace) -> None:
    from rich.progress import Progress

    import keras_condense as kc
    from keras_condense.csv_files import write_rows
    from keras_condense.files import check_writable
    from keras_condense.validation import check_positive_integer

    check_positive_integer("rounds", arguments.rounds, "Use 5.")
    if arguments.csv is not None:
        check_writable(arguments.csv)
    if arguments.adb is not None:
        _benchmark_phone(arguments)
        return
    if arguments.benchmark_model is not None:
        raise ValueError("`--benchmark-model` is for --adb. Give that too, or leave it out.")
    runtime = None if arguments.runtime == "auto" else arguments.runtime
    rounds = [[] for _ in arguments.models]
    with Progress(transient=True, disable=not sys.stdout.isatty()) as progress:
        task = progress.add_task("timing", total=arguments.rounds * len(arguments.models))
        for _ in range(arguments.rounds):
            for results, model in zip(rounds, arguments.models, strict=True):
                results.append(
                    kc.benchmark_tflite(model, runs=arguments.runs, threads=arguments.threads, runtime=runtime)
                )
                progress.advance(task)
    rows = [_row(results) for results in rounds]
    first = rounds[0][0]
    described = f"{first.runtime} {first.runtime_version}, {_described(first.threads, rows[0])}"
    _print(rows, f"{described}; spread is between the quartiles")
    if arguments.csv is not None:
        write_rows(arguments.csv, [row | _circumstances() for row in rows])


def _benchmark_phone(arguments: argparse.Namespace) -> None:
    import android

    from keras_condense.csv_files import write_rows
    from keras_condense.files import check_readable
    from keras_condense.validation import check_positive_integer

    check_positive_integer("runs", arguments.runs, "Use 50.")
    check_positive_integer("threads", arguments.threads, "Use 1.")
    if arguments.runtime != "auto":
        raise ValueError(f"`--runtime` (={arguments.runtime!r}) is of this machine. Leave it out with --adb.")
    if arguments.benchmark_model is not None:
        check_readable("--benchmark-model", arguments.benchmark_model)
    for model in arguments.models:
        command_line.check_file(model, ".tflite")
    phone = android.connected(arguments.adb or None)
    phone.prepare(arguments.benchmark_model)
    places = [phone.push(model, number) for number, model in enumerate(arguments.models)]
    rounds: list[list] = [[] for _ in places]
    try:
        for _ in range(arguments.rounds):
            for timings, place in zip(rounds, places, strict=True):
                timings.append(phone.time(place, arguments.runs, arguments.threads))
    finally:
        phone.remove(places)
    device = phone.described
    rows = [
        {
            "model": model,
            "bytes": pathlib.Path(model).stat().st_size,
            **android.of_rounds(timings),
            "operators": "not known",
            "outside_xnnpack": "not known",
            "runtime": "benchmark_model",
            "runtime_version": "not known",
            "threads": arguments.threads,
            "rounds": arguments.rounds,
            "runs": arguments.runs,
        }
        for model, timings in zip(arguments.models, rounds, strict=True)
    ]
    _print(rows, f"{device}, benchmark_model, {_described(arguments.threads, rows[0])}; spread is the deviation")
    if arguments.csv is not None:
        write_rows(arguments.csv, [row | _circumstances() | {"device": device} for row in rows])


def _described(threads: int, row: dict) -> str:
    return f"{threads} thread{'s' * (threads > 1)}, {row['rounds']} rounds of {row['runs']} runs"


def _row(results: list) -> dict:
    """One file's rounds as a row."""
    first = results[0]
    return {
        "model": first.model,
        "bytes": first.model_bytes,
        "median_ms": round(statistics.median(result.median_ms for result in results), 4),
        "minimum_ms": round(min(result.minimum_ms for result in results), 4),
        "spread_ms": round(statistics.median(result.spread_ms for result in results), 4),
        "operators": first.operators,
        "outside_xnnpack": "not known" if first.undelegated is None else len(first.undelegated),
        "runtime": first.runtime,
        "runtime_version": first.runtime_version,
        "threads": first.threads,
        "rounds": len(results),
        "runs": first.runs,
    }


def _circumstances() -> dict:
    import keras_condense as kc

    return {
        "keras_condense": kc.__version__,
        "python": platform.python_version(),
        "device": _device(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def _device() -> str:
    cpuinfo = pathlib.Path("/proc/cpuinfo")  # platform.processor() is empty on most Linuxes
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _print(rows: list[dict], title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("model", overflow="fold")
    for title in ("bytes", "median ms", "minimum ms", "spread ms", "outside XNNPACK"):
        table.add_column(title, justify="right")
    for row in rows:
        times = [f"{row[name]:.3f}" for name in ("median_ms", "minimum_ms", "spread_ms")]
        table.add_row(row["model"], f"{row['bytes']:,}", *times, f"{row['outside_xnnpack']} of {row['operators']}")
    Console().print(table)


def main(argv: Sequence[str] | None = None) -> int:
    return command_line.run(parser(), benchmark, argv)


if __name__ == "__main__":
    sys.exit(main())
