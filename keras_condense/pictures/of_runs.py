"""Trainings: loss, accuracy and connections by epoch (after figure 4 of CondenseNet, arXiv 1711.09224)."""

import csv
import dataclasses
import json
import math
import os
import pathlib
from typing import TYPE_CHECKING

from keras_condense.csv_files import read_rows
from keras_condense.files import check_path, check_readable
from keras_condense.pictures.drawing import LINES, MARKERS, names_of, need_matplotlib, new_figure, tidy
from keras_condense.training.run_folder import LOG, SETTINGS
from keras_condense.validation import shown_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["run"]

_MARKS = 8  # on a line


@dataclasses.dataclass(frozen=True)
class _Log:
    """What a run's folder holds: the epochs it was to be trained, and a list of numbers for each column of its log."""

    planned: int
    columns: dict[str, list[float]]

    @property
    def epochs(self) -> list[float]:
        return self.columns["epoch"]

    @property
    def drops(self) -> list[float]:
        """The ends of the epochs after which connections were dropped: each drop falls into the one that follows."""
        stages = self.columns.get("condense_stage", [])
        dense = [0.0, *stages]
        return [epoch - 1 for epoch, now, before in zip(self.epochs, stages, dense, strict=False) if now > before]


def run(*folders: str | os.PathLike) -> "Figure":
    """Draw what trainings logged: loss and accuracy by epoch, where connections were dropped, and how many are left.

    Each run has markers of its own; what was measured on training images is dashed, on other images (`val_` in the log)
    solid. The log has a row an epoch, of its end. Dotted lines mark drops: a drop falls into the epoch that begins
    there. A run that has no learned layers has none, and where no run has any, the lowest panel is left out.

    Args:
        folders: of runs, as `keras_condense.training.train` and `keras-condense train` make them: their `log.csv` and
            `settings.json` are read. At most 6.

    Returns:
        A matplotlib Figure; `keras_condense.pictures.save` writes it.

    Raises:
        ValueError: no folder or more than 6, one that holds no run, a log of fewer than two epochs or of something else
            than numbers.
        ImportError: matplotlib is not installed.

    Example:
        >>> import tempfile
        >>> from keras_condense.csv_files import write_rows
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     rows = [{"epoch": 1, "loss": 2.0, "accuracy": 0.5}, {"epoch": 2, "loss": 1.0, "accuracy": 0.75}]
        ...     write_rows(os.path.join(folder, "log.csv"), rows)
        ...     _ = pathlib.Path(folder, "settings.json").write_text('{"epochs": 2}')
        ...     figure = run(folder)
        >>> [axes.get_ylabel() for axes in figure.axes]
        ['loss', 'accuracy, %']
        >>> [float(y) for y in figure.axes[1].lines[0].get_ydata()]
        [50.0, 75.0]
    """
    need_matplotlib()
    if not 1 <= len(folders) <= len(MARKERS):
        raise ValueError(
            f"`folders` (of {len(folders)}) must be 1 to {len(MARKERS)} runs, which can be told apart on one picture. "
            "Give the folders of fewer runs, or at least one."
        )
    paths = [check_path("folder", folder) for folder in folders]
    logs = [_read(path) for path in paths]
    learned = [log for log in logs if "connections_left" in log.columns]
    ratios = [3, 3, 1.4] if learned else [1, 1]
    figure, panels = new_figure(len(ratios), 1, 7.5 if learned else 6, sharex=True, height_ratios=ratios)
    for log, colour, marker in zip(logs, LINES, MARKERS, strict=False):
        looks = {"color": colour, "marker": marker, "markersize": 5, "markevery": max(len(log.epochs) // _MARKS, 1)}
        for axes, name, scale in zip(panels, ("loss", "accuracy", "connections_left"), (1, 100, 100), strict=False):
            if name == "connections_left":
                axes.plot(log.epochs, _scaled(log, name, scale), **looks, linewidth=1.4, drawstyle="steps-pre")
                continue
            axes.plot(log.epochs, _scaled(log, name, scale), **looks, linewidth=1, linestyle="--", markerfacecolor="w")
            if f"val_{name}" in log.columns:
                axes.plot(log.epochs, _scaled(log, f"val_{name}", scale), **looks, linewidth=1.6)
    for axes, label in zip(panels, ("loss", "accuracy, %", "connections\nleft, %"), strict=False):
        for epoch in sorted({epoch for log in logs for epoch in log.drops}):
            axes.axvline(epoch, color="0.35", linestyle=":", linewidth=1.2)
        axes.set_ylabel(label)
        tidy(axes, "y")
    if learned:
        panels[-1].set_ylim(0, 105)
    of_drops = "; a dotted line: a drop in the epoch that begins there" if learned else ""
    panels[-1].set_xlabel(f"epoch (figures of its end{of_drops})")
    panels[-1].xaxis.get_major_locator().set_params(integer=True)
    _add_legend(figure, names_of(paths), logs)
    return figure


def _add_legend(figure: "Figure", names: list[str], logs: list[_Log]) -> None:
    from matplotlib.lines import Line2D

    labels = [
        name if len(log.epochs) >= log.planned else f"{name}: {len(log.epochs)} of {log.planned} epochs"
        for name, log in zip(names, logs, strict=True)
    ]
    handles = [
        Line2D([], [], color=colour, marker=marker, label=label)
        for label, colour, marker in zip(labels, LINES, MARKERS, strict=False)
    ]
    handles.append(Line2D([], [], color="black", linestyle="--", linewidth=1, label="training images"))
    if any("val_loss" in log.columns for log in logs):
        handles.append(Line2D([], [], color="black", linewidth=1.6, label="other images (val_)"))
    figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False)


def _scaled(log: _Log, name: str, scale: float) -> list[float]:
    return [scale * value for value in log.columns.get(name, [math.nan] * len(log.epochs))]


def _read(folder: pathlib.Path) -> _Log:
    if not folder.is_dir():
        raise ValueError(f"`folder` (={str(folder)!r}) must be the folder of a run, and there is none. Check the name.")
    log, settings = (
        check_readable("folder", folder / name, f"A run's folder holds {LOG} and {SETTINGS}: give one.")
        for name in (LOG, SETTINGS)
    )
    try:
        rows, planned = read_rows(log), json.loads(settings.read_text(encoding="utf-8"))["epochs"]
        columns = {name: [_number(row[name]) for row in rows] for name in rows[0]} if rows else {}
        if not isinstance(planned, int) or (rows and not {"epoch", "loss", "accuracy"} <= columns.keys()):
            raise ValueError("a run has the setting epochs, and a log with the columns epoch, loss and accuracy")
    except (KeyError, TypeError, ValueError, RecursionError, csv.Error) as error:
        raise ValueError(
            f"`folder` (={str(folder)!r}) must hold a run's {LOG} and {SETTINGS}, and they can't be read "
            f"({shown_text(error)}). Give a folder that `train` made."
        ) from error
    if len(rows) < 2:
        raise ValueError(
            f"`folder` (={str(folder)!r}) must hold a log of at least two epochs to draw lines, and has {len(rows)}. "
            "Train on (`--resume`), or wait until the second epoch is over."
        )
    return _Log(planned, columns)


def _number(cell: str | None) -> float:
    """What stands in a cell; one that was left empty is a gap in the line."""
    return float(cell) if cell else math.nan
