"""Exported files side by side: their sizes, their times on this machine, what XNNPACK leaves."""

import os
import pathlib
import platform
import statistics
from typing import TYPE_CHECKING

from keras_condense.files import check_readable
from keras_condense.pictures.drawing import HATCHES, draw_bars, names_of, need_matplotlib, new_figure
from keras_condense.tflite import TFLiteBenchmark, benchmark_tflite
from keras_condense.tflite.runtime import check_tflite
from keras_condense.validation import check_positive_integer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["exports"]


def exports(
    *files: str | os.PathLike, runs: int = 50, rounds: int = 5, threads: int = 1, runtime: str | None = None
) -> "Figure":
    """Draw .tflite files side by side: bytes, milliseconds, and operators that XNNPACK leaves to slower kernels.

    The times are measured here, when this function is called: the files take turns, so that a busy moment falls on all
    of them. A bar is the median over the rounds of each round's median, a dot is one round's. The operators are those
    of the main graph; a runtime that can't tell which XNNPACK took has no bar there.

    Args:
        files: two or more.
        runs: inferences of a round.
        rounds: how often each file gets its turn.
        threads: number of threads.
        runtime: as in `keras_condense.benchmark_tflite`.

    Returns:
        A matplotlib Figure; `keras_condense.pictures.save` writes it.

    Raises:
        ValueError: fewer than two files; one that is missing, truncated or no model; numbers that are not positive; no
            runtime.
        ImportError: matplotlib is not installed.

    Example:
        >>> import tempfile
        >>> import keras
        >>> import keras_condense as kc
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     names = [os.path.join(folder, name) for name in ("a.tflite", "b.tflite")]
        ...     sizes = [len(kc.export_tflite(model, name)) for name in names]
        ...     figure = exports(*names, runs=1, rounds=1)
        >>> [1000 * bar.get_width() for bar in figure.axes[0].patches] == sizes
        True
    """
    need_matplotlib()
    if len(files) < 2:
        raise ValueError(f"`files` (of {len(files)}) must be two or more to stand side by side. Give another file.")
    check_positive_integer("rounds", rounds, "Use 5.")
    paths = [check_readable("file", file) for file in files]
    for path in paths:  # before any of them is timed
        check_tflite(path.read_bytes(), str(path))
    measured: list[list[TFLiteBenchmark]] = [[] for _ in paths]
    for _ in range(rounds):
        for of_file, path in zip(measured, paths, strict=True):
            of_file.append(benchmark_tflite(path, runs=runs, threads=threads, runtime=runtime))
    return _draw(paths, measured)


def _draw(paths: list[pathlib.Path], measured: list[list[TFLiteBenchmark]]) -> "Figure":
    firsts = [of_file[0] for of_file in measured]
    times = [[each.median_ms for each in of_file] for of_file in measured]
    figure, (sizes, speeds, operators) = new_figure(1, 3, 0.4 * len(paths) + 1.7, sharey=True)

    kilobytes = [each.model_bytes / 1000 for each in firsts]
    draw_bars(sizes, kilobytes, (f"{each.model_bytes:,} B" for each in firsts), color="0.8", hatch=HATCHES[0])
    sizes.set_xlim(0, 1.7 * max(kilobytes))
    sizes.set_xlabel("size, kB")

    medians = [statistics.median(of_file) for of_file in times]
    furthest = [max(of_file) for of_file in times]
    draw_bars(speeds, medians, [""] * len(medians), color="0.8", hatch=HATCHES[1])
    for row, of_file in enumerate(times):
        speeds.plot(of_file, [row] * len(of_file), "o", color="black", markerfacecolor="white", markersize=4)
        speeds.text(furthest[row], row, f"  {medians[row]:.3g}", va="center", fontsize=9)
    speeds.set_xlim(0, 1.35 * max(furthest))
    speeds.set_xlabel("time of one input, ms")

    outside = [len(each.undelegated or ()) for each in firsts]
    known = [each.undelegated is not None for each in firsts]
    texts = [
        f"{count} of {each.operators}" if told else "not known"
        for count, told, each in zip(outside, known, firsts, strict=True)
    ]
    draw_bars(operators, outside, texts, color="0.8", hatch=HATCHES[2])
    operators.set_xlim(0, 1.8 * max(*outside, 1))
    operators.xaxis.get_major_locator().set_params(integer=True)
    operators.set_xlabel("operators outside XNNPACK")

    sizes.set_yticks(range(len(paths)), names_of(paths), fontsize=9)
    first = firsts[0]
    figure.suptitle(
        f"Times: {first.runtime} {first.runtime_version} on {platform.machine()}, {first.threads} "
        f"thread{'s' * (first.threads > 1)}, medians of {first.runs} runs; {len(times[0])} rounds (dots), their median "
        "(bar)",
        fontsize=9,
    )
    return figure
