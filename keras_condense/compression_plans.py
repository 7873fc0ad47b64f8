"""What `compress` does to each layer of a model, and what its training needs."""

import dataclasses
from collections.abc import Iterable

import keras

from keras_condense.callbacks import CondenseSchedule, QuantizeSchedule
from keras_condense.choosing import ChosenLayer, kernel_shape
from keras_condense.keras_graphs import student_of
from keras_condense.layers import condensable_layers, frozen_layers
from keras_condense.learned_group_tables import LearnableLayer
from keras_condense.quantizing import fake_quantizers
from keras_condense.rewriting import reachable_layers
from keras_condense.text_tables import render

__all__ = ["CompressionPlan", "PlannedLayer", "planned_layers"]


@dataclasses.dataclass(frozen=True)
class PlannedLayer:
    """A layer of a model: what is done to it, and why no more.

    Attributes:
        name: the layer's name, with those of the models that hold it before it.
        kind: the layer's class.
        kernel: the kernel's shape, its inputs and filters last; empty for a layer without one.
        groups: G of a layer that learns groups, else None.
        condense_factor: C of a layer that learns groups: each reads 1 / C of the inputs in the end.
        sparsity: the share of weights that is zero in the end, of a layer that is pruned; else None.
        int8: whether it is trained in int8's numbers.
        left: why it learns no groups, is not pruned, or is not in int8, where that was asked for.
        note: what its pruning does not save.
    """

    name: str
    kind: str
    kernel: tuple[int, ...]
    groups: int | None = None
    condense_factor: int | None = None
    sparsity: float | None = None
    int8: bool = False
    left: tuple[str, ...] = ()
    note: str | None = None

    @property
    def done(self) -> tuple[str, ...]:
        """What is done to it, in words.

        Example:
            >>> PlannedLayer("conv", "Conv2D", (1, 1, 8, 8), groups=4, condense_factor=2, int8=True).done
            ('4 groups of 1/2 of the inputs', 'int8')
        """
        pruned = None if self.sparsity is None else f"{100 * self.sparsity:g} % zeros"
        words = (self.groups and f"{self.groups} groups of 1/{self.condense_factor} of the inputs", pruned)
        return (*filter(None, words), *(["int8"] if self.int8 else []))


@dataclasses.dataclass(frozen=True, eq=False)
class CompressionPlan:
    """What `compress` returns; `print` it for a table.

    Attributes:
        model: what `fit` trains and `export_tflite` takes: a new model, or a Distiller of it.
        layers: a row for each layer that something is done to, or was asked for, in the model's order.
        target: whose table of costs layers were judged by; None for none.
        quantize: what numbers the file is to hold.
        share: the part of the cost of the original model's file that learned groups and pruned weights leave, both in
            these numbers and by the target's table; None where there is neither, or no target.
    """

    model: keras.Model
    layers: tuple[PlannedLayer, ...]
    target: str | None = None
    quantize: str | None = None
    share: float | None = None

    @property
    def callbacks(self) -> list[keras.callbacks.Callback]:
        """What the training needs, made anew each time, for a training of one `fit`.

        A training of several needs them with the epochs of the whole, `CondenseSchedule(epochs=...)`.
        """
        learns = len(condensable_layers(self.model)) > len(frozen_layers(self.model))
        condensing = [CondenseSchedule()] if learns else []
        return condensing + ([QuantizeSchedule()] if fake_quantizers(self._network) else [])

    @property
    def left(self) -> dict[str, str]:
        """Names of the layers to which not all is done that was asked for, and why."""
        return {layer.name: "; ".join(layer.left) for layer in self.layers if layer.left}

    @property
    def _network(self) -> keras.Model:
        return student_of(self.model)

    def __str__(self) -> str:
        from rich.table import Table

        counts = {
            "learn groups": sum(layer.groups is not None for layer in self.layers),
            "are pruned": sum(layer.sparsity is not None for layer in self.layers),
            "compute in int8": sum(layer.int8 for layer in self.layers),
        }
        counted = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        table = Table(title=f"{self._network.name}: {counted}", title_justify="left")
        table.add_column("layer", overflow="fold")
        for title in ("kind", "kernel", "what is done", "why no more"):
            table.add_column(title)
        for layer in self.layers:
            kernel = " x ".join(map(str, layer.kernel))
            notes = "\n".join((*layer.left, *filter(None, [layer.note])))
            table.add_row(layer.name, layer.kind, kernel, ", ".join(layer.done), notes)
        lines = [render(table, width=140)]
        if self.share is not None:
            numbers = self.quantize or "float32"
            lines.append(f"{self.target}, {numbers}: {self.share:.3f} of the cost is left by the table of costs")
        if self.model is not self._network:
            lines.append(f"learns from the outputs of {self.model.teacher.name!r} too")
        names = ", ".join(type(callback).__name__ for callback in self.callbacks)
        lines.append(f"to be trained with callbacks=plan.callbacks: {names or 'none'}")
        return "\n".join(lines)


def planned_layers(
    model: keras.Model,
    *,
    grouped: Iterable[LearnableLayer] = (),
    pruned: Iterable[ChosenLayer] = (),
    in_int8: Iterable[ChosenLayer] = (),
    sparsity: float | None = None,
    note: str | None = None,
) -> tuple[PlannedLayer, ...]:
    """A row for each layer that something is done to, or was to be, in the model's order.

    Args:
        model: the model that the plan is made for.
        grouped: its convolutions, where groups are asked for; those without a reason learn them.
        pruned: its layers with prunable kernels, where that is asked for.
        in_int8: its layers and operations by their own names, where int8 is asked for.
        sparsity: of those that are pruned.
        note: what their pruning does not save.
    """
    of_groups, of_pruning, of_int8 = ({row.name: row for row in rows} for rows in (grouped, pruned, in_int8))
    rows, seen = {}, set()
    for name, layer in reachable_layers(model):
        if id(layer) not in seen:
            seen.add(id(layer))
            row, aware = PlannedLayer(name, type(layer).__name__, kernel_shape(layer)), of_int8.get(layer.name)
            # of layers without a kernel those alone that int8 has no form of
            rows[name] = _in_int8(row, aware if row.kernel or (aware and aware.reason) else None)
    own_names = {layer.name for _, layer in reachable_layers(model)}
    others = [*of_groups.values(), *of_pruning.values()]  # inside layers that are no models
    others += [row for name, row in of_int8.items() if row.reason and name not in own_names]  # operations
    for row in others:
        aware = of_int8.get(row.name)
        rows.setdefault(row.name, _in_int8(PlannedLayer(row.name, row.kind, row.kernel), aware))
    planned = (_thinned(row, of_groups.get(name), of_pruning.get(name), sparsity, note) for name, row in rows.items())
    return tuple(row for row in planned if row.done or row.left)


def _in_int8(row: PlannedLayer, aware: ChosenLayer | None) -> PlannedLayer:
    if aware is None:
        return row
    return dataclasses.replace(row, int8=not aware.reason, left=(f"not int8: {aware.reason}",) if aware.reason else ())


def _thinned(
    row: PlannedLayer,
    grouped: LearnableLayer | None,
    pruned: ChosenLayer | None,
    sparsity: float | None,
    note: str | None,
) -> PlannedLayer:
    """A row with its groups or its sparsity, or why it has neither."""
    if grouped is not None and grouped.reason is None:
        return dataclasses.replace(row, groups=grouped.groups, condense_factor=grouped.condense_factor)
    if pruned is not None and pruned.reason is None:
        return dataclasses.replace(row, sparsity=float(sparsity), note=note)
    labelled = (("no groups", grouped), ("not pruned", pruned))
    reasons = tuple(f"{label}: {step.reason}" for label, step in labelled if step is not None)
    return dataclasses.replace(row, left=(*reasons, *row.left))
