"""What each layer of a network loses when it alone is compressed."""

from typing import TYPE_CHECKING

import numpy as np

from keras_condense.layer_sensitivity import Sensitivity
from keras_condense.pictures.drawing import need_matplotlib, new_figure
from keras_condense.validation import shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["sensitivity"]

_ROW = 0.26  # inches
_MOST_ROWS = 150


def sensitivity(result: Sensitivity) -> "Figure":
    """Draw what `keras_condense.sensitivity` measured: a row a layer, a column a setting, the darker the more is lost.

    Each field has its number, in percentage points. Where a setting does not fit a layer, the field is empty.

    Args:
        result: of at most 150 layers.

    Returns:
        A matplotlib Figure; `keras_condense.pictures.save` writes it.

    Raises:
        ValueError: something else, or more layers.
        ImportError: matplotlib is not installed.

    Example:
        >>> from keras_condense.compressions import PrunedWeights
        >>> from keras_condense.layer_sensitivity import SensitivityRow
        >>> few, many = PrunedWeights(0.5), PrunedWeights(0.9)
        >>> rows = (SensitivityRow("conv", few, 0.89, 0.01), SensitivityRow("conv", many, 0.5, 0.4))
        >>> (axes, _) = sensitivity(Sensitivity("net", 0.9, 500, 500, (few, many), rows)).axes
        >>> [text.get_text() for text in axes.texts], [label.get_text() for label in axes.get_xticklabels()]
        (['1.0', '40.0'], ['50% zeros', '90% zeros'])
    """
    need_matplotlib()
    if not isinstance(result, Sensitivity):
        raise ValueError(
            f"`result` (={shown(result)}) must be what `keras_condense.sensitivity` returned. Call that first."
        )
    if len(result.layers) > _MOST_ROWS:
        raise ValueError(
            f"`result` (of {len(result.layers)} layers) must be of at most {_MOST_ROWS} to be read on a picture. "
            "Choose some with `where`, or write it with `to_csv`."
        )
    points = np.full((len(result.layers), len(result.settings)), np.nan)
    for number, layer in enumerate(result.layers):
        lost = result.of(layer)
        points[number] = [100 * lost.get(setting, np.nan) for setting in result.settings]
    figure, (axes,) = new_figure(1, 1, _ROW * len(points) + 1.6)
    most = max(np.nanmax(points), 1e-9)
    image = axes.imshow(points, cmap="Greys", vmin=0, vmax=most, aspect="auto")
    for (row, column), value in np.ndenumerate(points):
        if not np.isnan(value):
            color = "white" if value > 0.55 * most else "black"
            axes.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=9, color=color)
    axes.set_yticks(range(len(points)), result.layers, fontsize=9)
    axes.set_xticks(range(len(result.settings)), map(str, result.settings), fontsize=9)
    axes.tick_params(length=0)
    figure.colorbar(image, ax=axes, label="percentage points of accuracy lost")
    title = f"{result.model}: {result.baseline:.2%} of {result.examples:,} examples are classified correctly"
    figure.suptitle(f"{title}; lost by one layer alone", fontsize=10)
    return figure
