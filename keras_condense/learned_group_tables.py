"""What `learn_groups` does to each convolution of a model, and what that comes to on a target."""

import dataclasses
from collections.abc import Iterator

import keras

from keras_condense.choosing import ChosenLayer, ChosenLayers, Examined, rows_of
from keras_condense.tflite.group_costs import Costs, GroupCosts, Plan
from keras_condense.tflite.lowering import MEASURE
from keras_condense.tflite.targets import SHOWN_UNITS

__all__ = ["LearnableLayer", "LearnableLayers", "summary"]


@dataclasses.dataclass(frozen=True)
class LearnableLayer(ChosenLayer):
    """A convolution of a model: does it learn groups, or why not?

    Attributes:
        name: the layer's name, with those of the models that hold it before it.
        kind: the layer's class.
        kernel: the kernel's shape: (height, width, inputs, filters) where there are two dimensions.
        reason: why the layer is left as it is; None for one that learns groups.
        groups: G of a layer that learns groups, else None.
        condense_factor: C, likewise.
        now: what the layer costs in the file of the model as it is, in the target's unit; None without a target.
        after: what it costs in the file of the condensed network, as that is lowered.
    """

    groups: int | None = None
    condense_factor: int | None = None
    now: float | None = None
    after: float | None = None

    @property
    def saves(self) -> float | None:
        """What the layer costs less in the end; below 0 for one that becomes dearer."""
        return None if self.now is None or self.after is None else self.now - self.after

    def __str__(self) -> str:
        useless = self.reason is None and self.saves is not None and self.saves <= 0
        return "yes, and saves nothing" if useless else super().__str__()


@dataclasses.dataclass(frozen=True)
class LearnableLayers(ChosenLayers):
    """What `learn_groups` does to each convolution of a model; `print` it for a table.

    Attributes:
        model: the model's name.
        layers: a row for each convolution, in the model's order.
        target: what costs are told for; None without costs.
        quantize: what numbers the files hold.
        unit: of the costs: "million instructions" or "milliseconds".
        now: what the file of the model as it is costs, by the table.
        after: what the file of the condensed network costs.
        share: the part of the cost that is left; with target="measure" of the time that was measured.
        unpriced: layers that are in no table, and count as nothing before and after.
    """

    target: str | None = None
    quantize: str | None = None
    unit: str | None = None
    now: float | None = None
    after: float | None = None
    share: float | None = None
    unpriced: tuple[str, ...] = ()

    things, they_do, it_does = "convolutions", "learn groups", "learns groups"

    @property
    def learned(self) -> tuple[str, ...]:
        """Names of the layers that learn groups."""
        return self.chosen

    @property
    def dearer(self) -> tuple[str, ...]:
        """Names of the layers that learn groups and save nothing on the target, or cost more."""
        return tuple(layer.name for layer in self.learning if layer.saves is not None and layer.saves <= 0)

    @property
    def learning(self) -> tuple[LearnableLayer, ...]:
        """The rows of the layers that learn groups."""
        return tuple(layer for layer in self.layers if layer.reason is None)

    def further_columns(self) -> dict[str, list[str]]:
        if self.target is None:
            return {}
        return {
            "G": [str(layer.groups or "") for layer in self.layers],
            "C": [str(layer.condense_factor or "") for layer in self.layers],
            "now": [_number(layer.now) for layer in self.layers],
            "after": [_number(layer.after) for layer in self.layers],
            "saves": [_number(layer.saves) if layer.reason is None else "" for layer in self.layers],
        }

    def __str__(self) -> str:
        if self.target is None:
            return super().__str__()
        numbers_in = self.quantize or "float32"
        measured = " of the time, as measured here" if self.target == MEASURE else ""
        lines = [
            super().__str__(),
            f"{self.target}, {numbers_in}, in {self.unit}: {self.now:.3f} now, {self.after:.3f} after by the table of "
            f"costs; left: {self.share:.3f}{measured}",
        ]
        if self.unpriced:
            lines.append(f"in no table, and left out of this: {', '.join(self.unpriced)}")
        return "\n".join(lines)


def _number(cost: float | None) -> str:
    return "" if cost is None else f"{cost:.3f}"


def summary(
    model: keras.Model,
    examined: list[Examined],
    factors: Plan,
    costs: GroupCosts | None = None,
    target: str | None = None,
    quantize: str | None = None,
    share: float | None = None,
) -> LearnableLayers:
    """What is done to each convolution, and what it comes to.

    Args:
        model: the model.
        examined: its convolutions, with the reason why they are left.
        factors: groups and condense factor of those that learn groups, by their own names.
        costs: of the model on the target, if there is one.
        target: what it is called.
        quantize: what numbers the files hold.
        share: the part of the cost that is left, if it is known.
    """
    rows = rows_of(examined, LearnableLayer)
    if costs is None:
        return LearnableLayers(model.name, tuple(map(_with_factors, rows, _factors(examined, factors))))
    (unit, scale), now, after = SHOWN_UNITS[costs.table.unit], costs.now, costs.of(factors)
    priced = [
        dataclasses.replace(row, now=_scaled(now, layer, scale), after=_scaled(after, layer, scale))
        for row, (_, layer, _) in zip(rows, examined, strict=True)
    ]
    return LearnableLayers(
        model.name,
        tuple(map(_with_factors, priced, _factors(examined, factors))),
        target=target,
        quantize=quantize,
        unit=unit,
        now=now.total / scale,
        after=after.total / scale,
        share=costs.share(factors) if share is None else share,
        unpriced=costs.unpriced,
    )


def _scaled(costs: Costs, layer: keras.layers.Layer, scale: float) -> float:
    return costs.layers.get(layer.name, 0.0) / scale


def _factors(examined: list[Examined], factors: Plan) -> Iterator[tuple[int | None, int | None]]:
    """Groups and condense factor of each convolution; None for one that is left."""
    return (factors[layer.name] if reason is None else (None, None) for _, layer, reason in examined)


def _with_factors(row: LearnableLayer, factors: tuple[int | None, int | None]) -> LearnableLayer:
    return dataclasses.replace(row, groups=factors[0], condense_factor=factors[1])
