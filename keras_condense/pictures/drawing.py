"""What the pictures share: matplotlib when it is needed, looks that need no colours, and files that are whole."""

import os
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_condense.files import check_path, check_writable, replacing
from keras_condense.validation import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "HATCHES",
    "LINES",
    "MARKERS",
    "check_picture",
    "draw_bars",
    "names_of",
    "need_matplotlib",
    "new_figure",
    "pixels",
    "save",
    "short_names",
    "tidy",
]

_SUFFIXES = (".png", ".svg")
_WIDTH, _DPI = 8, 100  # inches, pixels an inch: 800 pixels
_LONGEST_NAME = 28  # characters

# each run or bar differs from the others in more than its colour; the colours differ in lightness too
LINES = ("#000000", "#0060a8", "#c04000", "#3a9a6a", "#a060c0", "#808080")
MARKERS = ("o", "s", "^", "D", "v", "P")
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "++")


def need_matplotlib() -> None:
    """Raise ImportError, before any work, where pictures can't be drawn."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError('Pictures need matplotlib. Install it: `pip install "keras-condense[plot]"`.') from error


def new_figure(rows: int, columns: int, height: float, **panels: Any) -> "tuple[Figure, list[Axes]]":
    """A figure that needs no display, 800 pixels wide, and its panels row by row.

    Args:
        rows: of panels.
        columns: of panels.
        height: inches.
        panels: what `Figure.subplots` takes.

    Returns:
        The figure and its axes.
    """
    need_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height), dpi=_DPI, layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False, **panels).flat)


def pixels(figure: "Figure") -> np.ndarray:
    """What a figure looks like: uint8 (height, width, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def tidy(axes: "Axes", grid: str) -> None:
    """Leave out what shows nothing: two sides of the frame; add faint lines across `grid` ("x" or "y")."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, alpha=0.3)
    axes.set_axisbelow(True)


def draw_bars(axes: "Axes", values: Sequence[float], texts: Iterable[str], **looks: Any) -> None:
    """Draw bars to the right, the first at the top, each with its text at its end."""
    bars = axes.barh(range(len(values)), values, height=0.7, edgecolor="black", linewidth=0.8, **looks)
    axes.bar_label(bars, list(texts), padding=3, fontsize=9)
    axes.set_xlim(0, 1.25 * max([*values, 1e-9]))  # room for the texts
    axes.set_ylim(len(values) - 0.4, -0.6)
    tidy(axes, "x")


def names_of(paths: Sequence[pathlib.Path]) -> list[str]:
    """What to call files or folders on a picture: their last part where these differ, shortened in the middle.

    Example:
        >>> names_of([pathlib.Path("runs/a"), pathlib.Path("runs/b")])
        ['a', 'b']
        >>> names_of([pathlib.Path("runs/a/model.keras"), pathlib.Path("runs/b/model.keras")])
        ['runs/a/model.keras', 'runs/b/model.keras']
    """
    names = [path.name or str(path) for path in paths]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    half = _LONGEST_NAME // 2
    short = [name if len(name) <= _LONGEST_NAME else f"{name[:half]}…{name[1 - half :]}" for name in names]
    return short if len(set(short)) == len(set(names)) else names


def short_names(layers: Sequence[str]) -> list[str]:
    """What to call layers on a picture: block and number where their names tell them, and no two the same.

    Example:
        >>> short_names(["stem_conv", "block1_layer2_1_conv", "conv3_block4_2_conv"])
        ['stem_conv', '1.2', '3.4']
        >>> short_names(["block1_layer2_1_conv", "block1_layer2_2_conv"])
        ['block1_layer2_1_conv', 'block1_layer2_2_conv']
    """
    short = [re.sub(r"^(?:block|conv)(\d+)_(?:layer|block)(\d+)_\w*conv$", r"\1.\2", name) for name in layers]
    return short if len(set(short)) == len(set(layers)) else list(layers)


def check_picture(path: str | os.PathLike) -> pathlib.Path:
    """Raise before any work is done if `save` could not write a picture at `path`.

    Args:
        path: ends in `.png` or `.svg`; its folder exists.

    Returns:
        The path.

    Raises:
        ValueError: another suffix, or a place where no file can be written.
        ImportError: matplotlib is not installed.

    Example:
        >>> check_picture("run.jpg")
        Traceback (most recent call last):
        ...
        ValueError: `path` (='run.jpg') must end in '.png' or '.svg'. Name it so.
    """
    path = check_path("path", path)
    if path.suffix not in _SUFFIXES:
        raise ValueError(f"`path` (={str(path)!r}) must end in '.png' or '.svg'. Name it so.")
    need_matplotlib()
    return check_writable(path)


def save(figure: "Figure", path: str | os.PathLike) -> None:
    """Write a picture to a file, whole or not at all; the same figure gives the same bytes.

    Args:
        figure: what a function of `keras_condense.pictures` returned, or any other of matplotlib's.
        path: ends in `.png` (800 pixels wide) or `.svg`.

    Raises:
        ValueError: no figure, another suffix, or a place where no file can be written.
        OSError: the disk is full; what stood at `path` is still there.

    Example:
        >>> import tempfile
        >>> from matplotlib.figure import Figure
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(Figure(), os.path.join(folder, "empty.svg"))
        ...     os.listdir(folder)
        ['empty.svg']
    """
    path = check_picture(path)
    import matplotlib
    from matplotlib.figure import Figure

    if not isinstance(figure, Figure):
        raise ValueError(f"`figure` (={shown(figure)}) must be a matplotlib Figure. Give the figure first.")
    # matplotlib would note down its version and the date, and draw the ids in an SVG at random
    kind, notes = path.suffix[1:], {"Software": None} if path.suffix == ".png" else {"Date": None, "Creator": None}
    with matplotlib.rc_context({"svg.hashsalt": "keras-condense"}), replacing(path) as temporary:
        figure.savefig(temporary, format=kind, metadata=notes)
