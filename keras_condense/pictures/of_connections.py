"""Learned connections: who reads whom, and how much (after figure 5 of DenseNet, arXiv 1608.06993)."""

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np

from keras_condense.layers import condensable_layers
from keras_condense.pictures.drawing import draw_bars, need_matplotlib, new_figure, short_names
from keras_condense.pictures.reading import Reading, readings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["connections"]

_MOST_BESIDE = 14  # layers that are read, up to which two panels stand beside each other
_LABEL = 0.17  # inches of a row with a label


def connections(*models: keras.Model) -> "Figure":
    """Draw how much weight the learned layers of a network give to each layer before them.

    A network whose learned layers read concatenations of others' outputs (CondenseNet, DenseNet) is drawn as a square
    for each layer and each earlier one: its darkness is the mean absolute value of the weights between them, over
    input channels and filters, as in DenseNet's figure 5; dropped ones count as 0, and a cross marks where all are
    dropped. Each row is divided by its largest value, in both forms if there are two, since the weights of different
    layers differ in size.

    Any other network has a bar for each learned layer: the share of its inputs (or outputs, where these are learned)
    that a group keeps, and behind it the share that at least one group keeps.

    Args:
        models: one or two forms of a network, the masked one first and then the condensed one, drawn beside or below
            each other with one scale; functional or sequential and built.

    Returns:
        A matplotlib Figure; `keras_condense.pictures.save` writes it.

    Raises:
        ValueError: no model or more than two, one without a graph or without learned layers, or two of different
            networks.
        ImportError: matplotlib is not installed.

    Example:
        >>> import keras_condense as kc
        >>> model = kc.applications.CondenseNet((2,), (8,), stem_strides=1, input_shape=(8, 8, 3), classes=10)
        >>> small = kc.condense(model, finish=True)
        >>> before, after, scale = connections(model, small).axes
        >>> before.get_title(), after.get_title()
        ('masked: 100% of connections left', 'condensed: 25% of connections left')
        >>> [label.get_text() for label in before.get_yticklabels()]
        ['1.1', '1.2']
    """
    need_matplotlib()
    if len(models) not in (1, 2):
        raise ValueError(
            f"`models` (of {len(models)}) must be one or two forms of a network. Give the masked and the condensed one."
        )
    first = readings(models[0])
    dense = [each.layer for each in first if each.mask.all()]
    found = [first, *(_aligned(first, readings(model, dense)) for model in models[1:])]
    titles = [_title(model, of_model) for model, of_model in zip(models, found, strict=True)]
    return _squares(found, titles) if _reads_concatenations(found[0]) else _bars(found, titles)


def _aligned(first: Sequence[Reading], second: Sequence[Reading]) -> list[Reading]:
    """The readings of a second form of a network in the order of the first's, for parallel branches may be swapped."""
    left = {each.layer: each for each in second}
    aligned = []
    for each in first:
        # of a layer that is an output, `condense` gives the name to the last part, which holds no kernel
        found = left.pop(each.layer, None) or left.pop(f"{each.layer}_conv", None)
        if found is None or found.weights.shape != each.weights.shape:
            left = {each.layer: each}
            break
        if found.mask.all():  # it may have become one of a single group
            found = dataclasses.replace(found, mask=np.ones_like(each.mask), of_outputs=each.of_outputs)
        aligned.append(found)
    if left:
        raise ValueError(
            "`models` must be forms of one network, with the same learned layers, and differ in "
            f"{next(iter(left))!r}. Give a masked network first, and second what `condense` made of it."
        )
    return aligned


def _title(model: keras.Model, found: Sequence[Reading]) -> str:
    left = sum(np.count_nonzero(each.mask) for each in found) / sum(each.mask.size for each in found)
    return f"{'masked' if condensable_layers(model) else 'condensed'}: {100 * left:.3g}% of connections left"


def _reads_concatenations(found: Sequence[Reading]) -> bool:
    """Whether some layer's outputs are read by several learned layers, and some of these read several layers.

    Reactivations don't count: one reads what its own layer has just made, and adds to a sum.
    """
    readers = Counter(source for each in found if not each.of_outputs for source in each.by_source)
    return max(readers.values(), default=0) > 1 and any(len(each.by_source) > 1 for each in found)


def _squares(found: list[list[Reading]], titles: list[str]) -> "Figure":
    layers = [each.layer for each in found[0]]
    by_source = [[each.by_source for each in of_model] for of_model in found]
    sources = list(dict.fromkeys(source for row in by_source[0] for source in row))
    tables = np.array([[[row.get(source, math.nan) for source in sources] for row in rows] for rows in by_source])
    largest = np.nanmax(tables, axis=(0, 2), keepdims=True)  # of each row
    tables /= np.where(largest > 0, largest, 1)
    beside = len(sources) <= _MOST_BESIDE
    rows, columns = (1, len(found)) if beside else (len(found), 1)
    height = min(max(_LABEL * len(layers), 2.6), 7)
    figure, panels = new_figure(rows, columns, rows * (height + 0.9) + 0.3, sharex=True, sharey=True)
    for axes, table, title in zip(panels, tables, titles, strict=True):
        axes.patch.set(facecolor="white", edgecolor="0.8", hatch="////")  # what a layer can't read
        image = axes.imshow(np.ma.masked_invalid(table), cmap="Greys", vmin=0, vmax=1, aspect="auto")
        at = np.argwhere(table == 0)
        axes.scatter(at[:, 1], at[:, 0], marker="x", s=14, linewidths=0.8, color="0.3")
        axes.set_title(title, fontsize=10)
        axes.tick_params(axis="x", labelrotation=90)
    width = 6.4 / columns
    panels[0].set_yticks(*_ticks(short_names(layers), height), fontsize=9)
    panels[0].set_xticks(*_ticks(short_names(sources), width), fontsize=9)
    figure.supylabel(f"learned layer{' (block.layer)' * (short_names(layers) != layers)}", fontsize=10)
    figure.supxlabel("layer that it reads (×: all connections dropped; hatched: not among its inputs)", fontsize=10)
    figure.colorbar(image, ax=panels, label="mean |weight|, 1: row's largest", pad=0.02, aspect=30)
    return figure


def _ticks(names: list[str], inches: float) -> tuple[list[int], list[str]]:
    """Places and labels, as many as there is room for."""
    step = math.ceil(_LABEL * len(names) / inches)
    return list(range(0, len(names), step)), names[::step]


def _bars(found: list[list[Reading]], titles: list[str]) -> "Figure":
    layers = [f"{name} ({each.mask.shape[0]})" for name, each in zip(_names(found[0]), found[0], strict=True)]
    height = 0.24 * len(layers) + 1.6
    figure, panels = new_figure(1, len(found), height, sharey=True)
    for axes, of_model, title in zip(panels, found, titles, strict=True):
        _shares(axes, of_model)
        axes.set_title(title, fontsize=10)
    panels[0].set_yticks(range(len(layers)), layers, fontsize=9)
    outputs = " (or outputs)" if any(each.of_outputs for each in found[0]) else ""
    figure.supylabel("learned layer (groups)", fontsize=10)
    figure.supxlabel(f"inputs{outputs} kept, % (in figures: by a group / by at least one)", fontsize=10)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    return figure


def _names(found: Sequence[Reading]) -> list[str]:
    names = short_names([each.layer for each in found])
    return [f"{name}, outputs" if each.of_outputs else name for name, each in zip(names, found, strict=True)]


def _shares(axes: "Axes", found: Sequence[Reading]) -> None:
    any_group = [100 * float(each.mask.any(axis=0).mean()) for each in found]
    by_group = [100 * each.mask.mean(axis=1) for each in found]
    texts = []
    for shares, of_any in zip(by_group, any_group, strict=True):
        least, most = f"{shares.min():.3g}", f"{shares.max():.3g}"
        texts.append(f"{least if least == most else f'{least}–{most}'} / {of_any:.3g}")
    draw_bars(axes, any_group, texts, color="white", hatch="///", label="by at least one group")
    means = [float(shares.mean()) for shares in by_group]
    axes.barh(range(len(found)), means, height=0.7, color="0.25", label="by a group (mean)")
    axes.set_xlim(0, 140)
    axes.set_xticks(range(0, 101, 25))
