"""What a network costs, by its layers: multiply-adds, and what a table of measured costs says of a processor."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import keras

from keras_condense.pictures.drawing import draw_bars, need_matplotlib, new_figure
from keras_condense.profiling import profile_model
from keras_condense.tflite.lowering import lower_model
from keras_condense.tflite.preparation import check_model, prepared
from keras_condense.tflite.targets import targets
from keras_condense.validation import check_choice

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["cost"]

_MOST_ROWS = 30
_ROW = 0.24  # inches
_ADDED = "added by lowering"  # operators of no layer
_BLOCK = re.compile(r"(?:.*/)?([A-Za-z]+_?\d+)_.+")  # block1_layer2_1_conv, conv2_block1_1_conv, block_1_expand

Costs = dict[str, tuple[float, ...]]  # of a layer or of several; a number for each panel


def cost(model: keras.Model, target: str | None = None, *, by: str | None = None) -> "Figure":
    """Draw what each layer of a network costs: multiply-adds of one image and, for a target, what it takes there.

    Layers that cost nothing are left out. The picture says how its bars were summed.

    Args:
        model: functional or sequential and built, its inputs of known sizes. Of a masked one the multiply-adds are
            those that its masks leave; for a target it is condensed first.
        target: None for multiply-adds alone; "arm64", "x86_64" or "wasm" (`keras_condense.export_tflite`) adds a
            panel: the costs, in instructions or time, that the table of measured costs gives for the network as it
            is lowered for this target in float32. Norms and activations may count to the convolution they become a
            part of; what is in no table costs nothing.
        by: "layer" for a bar a layer, at most 30: the dearest (on the target, if there is one), and the others in one
            bar; "block" sums the layers whose names begin with the same word and number ("block1_"); None takes
            "layer" up to 30 layers, and "block" beyond, where that gives at most 30 bars.

    Returns:
        A matplotlib Figure; `keras_condense.pictures.save` writes it.

    Raises:
        ValueError: a model without a graph or sizes; an unknown `target` or `by`; for a target, a model that is not
            condensed to the end, that runs on another backend than TensorFlow, or that has no layers to lower.
        ImportError: matplotlib is not installed.

    Example:
        >>> layers = [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="conv"), keras.layers.ReLU(name="relu")]
        >>> (axes,) = cost(keras.Sequential(layers, name="net")).axes
        >>> [label.get_text() for label in axes.get_yticklabels()], axes.get_xlabel()
        (['conv'], 'million multiply-adds of one image')
        >>> float(axes.patches[0].get_width())  # 36 places, 4 filters of 27 weights
        0.003888
    """
    need_matplotlib()
    check_choice("target", target, (None, *targets()), "Leave it out for multiply-adds alone.")
    check_choice("by", by, (None, "layer", "block"), "Leave it out to have the picture choose.")
    if target is not None:
        check_model(model)
        model = prepared(model)
    profile = profile_model(model)
    columns = [_summed((row.name, row.macs / 1e6) for row in profile.layers)]
    labels = ["million multiply-adds of one image"]
    if target is not None:
        column, label = _on_target(model, target)
        columns.append(column)
        labels.append(label)
    names = dict.fromkeys(name for column in columns for name in column)
    costs = {name: tuple(column.get(name, 0.0) for column in columns) for name in names}
    costs = {name: values for name, values in costs.items() if any(values)}
    rows, summed = _rows(costs, by)
    figure, panels = new_figure(1, len(columns), max(_ROW * len(rows) + 1.3, 2.4), sharey=True)
    for number, (axes, label) in enumerate(zip(panels, labels, strict=True)):
        values = [each[number] for each in rows.values()]
        draw_bars(axes, values, (f"{value:.3g}" for value in values), color="0.75", hatch=("", "///")[number])
        axes.set_xlabel(label)
        axes.set_title(f"{sum(values):.3g} in all", fontsize=10)
    panels[0].set_yticks(range(len(rows)), rows, fontsize=9)
    figure.suptitle(f"{model.name}: {summed}", fontsize=10)
    return figure


def _on_target(model: keras.Model, target: str) -> tuple[dict[str, float], str]:
    """What each layer costs as it is lowered for a target, and in which unit."""
    lowering = lower_model(model, target)
    if lowering is None:
        raise ValueError(
            f"`model` (={model.name!r}) must have a graph with layers to lower for a target, condensed ones or 1x1 "
            "convolutions that are mostly zeros, and has none. Leave `target` out for its multiply-adds."
        )
    unit, scale = ("million instructions", 1e6) if lowering.unit == "instructions" else ("milliseconds", 1e9)
    pairs = ((name or _ADDED, costs.get(lowering.chosen, 0.0) / scale) for name, costs in lowering.layers.items())
    return _summed(pairs), f"{unit} ({target}, by table)"


def _summed(pairs: Iterable[tuple[str, float]]) -> dict[str, float]:
    """The sum of each layer's values; one that is called several times has several."""
    sums: dict[str, float] = {}
    for name, value in pairs:
        sums[name] = sums.get(name, 0.0) + value
    return sums


def _rows(costs: Costs, by: str | None) -> tuple[Costs, str]:
    """The bars, and in words what they are."""
    few = len(costs) <= _MOST_ROWS
    blocks: Costs = {}
    for name, values in costs.items():
        match = _BLOCK.fullmatch(name)
        block = match[1] if match else name
        blocks[block] = tuple(map(sum, zip(values, blocks.get(block, (0,) * len(values)), strict=True)))
    if by == "block" or (by is None and not few and 1 < len(blocks) <= _MOST_ROWS):
        if len(blocks) <= _MOST_ROWS:
            return blocks, f"{len(costs)} layers, summed by block"
        return _dearest(blocks, "blocks and single layers")
    if few:
        return costs, "layer by layer, those that cost nothing left out"
    return _dearest(costs, "layers")


def _dearest(costs: Costs, what: str) -> tuple[Costs, str]:
    dearest = sorted(costs, key=lambda name: costs[name][-1], reverse=True)
    others = dearest[_MOST_ROWS:]
    rows = {name: values for name, values in costs.items() if name not in others}
    rows[f"the other {len(others)}"] = tuple(map(sum, zip(*(costs[name] for name in others), strict=True)))
    return rows, f"the {_MOST_ROWS} dearest of {len(costs)} {what}, and the sum of the others"
