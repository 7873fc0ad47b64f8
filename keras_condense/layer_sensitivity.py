"""What a trained classifier loses when one of its layers alone is compressed, without training."""

import dataclasses
import difflib
import os
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_condense.choosing import Where, names_in
from keras_condense.compressions import (
    Compression,
    LearnedGroups,
    PrunedWeights,
    Reasons,
    compressed_weights,
)
from keras_condense.csv_files import write_rows
from keras_condense.files import check_path, check_writable
from keras_condense.labelled_rows import LabelledRows, labelled_rows
from keras_condense.layers import condensable_layers
from keras_condense.rewriting import check_rewritable, reachable_layers, rewrite
from keras_condense.text_tables import render
from keras_condense.validation import check_choice, check_positive_integer, listed, shown

__all__ = ["Sensitivity", "SensitivityRow", "sensitivity"]

_SETTINGS = (LearnedGroups(), PrunedWeights())  # what `learn_groups` and `prune_weights` do by default


@dataclasses.dataclass(frozen=True)
class SensitivityRow:
    """One layer compressed in one way.

    Attributes:
        layer: its name, with those of the models that hold it before it.
        setting: what was done to its kernel.
        accuracy: the share of examples that is classified correctly then.
        lost: by how much that is less than the model's own accuracy; below 0 where it is more.
    """

    layer: str
    setting: Compression
    accuracy: float
    lost: float


@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """What each layer costs in accuracy; `print` it for a table.

    Attributes:
        model: the model's name.
        baseline: its accuracy as it is.
        examples: how many examples the accuracies are of. One more or less is 1 / examples: differences of a few say
            nothing.
        available: how many there were, of which `rows` chose.
        settings: what was tried.
        rows: one for each layer and each setting that fits it, in the model's order.
        left: why a setting does not fit a layer, for those that it was to fit.
    """

    model: str
    baseline: float
    examples: int
    available: int
    settings: tuple[Compression, ...]
    rows: tuple[SensitivityRow, ...]
    left: Mapping[tuple[str, Compression], str] = dataclasses.field(default_factory=dict, repr=False)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers, in the model's order."""
        return tuple(dict.fromkeys(row.layer for row in self.rows))

    def lost(self, setting: Compression) -> dict[str, float]:
        """The accuracy that each layer loses at a setting, by its name.

        Raises:
            ValueError: a setting that was not tried.
        """
        setting = check_choice("setting", setting, self.settings, "Give one of those that were tried.")
        return {row.layer: row.lost for row in self.rows if row.setting == setting}

    def of(self, layer: str) -> dict[Compression, float]:
        """The accuracy that a layer loses, by setting.

        Raises:
            ValueError: a name that is no tried layer's.
        """
        check_choice("layer", layer, self.layers, "Give the name of a layer that was tried.")
        return {row.setting: row.lost for row in self.rows if row.layer == layer}

    def __str__(self) -> str:
        from rich.table import Table

        of = f"{self.examples:,} examples"
        if self.examples < self.available:
            of = f"{self.examples:,} of {self.available:,} examples"
        title = f"{self.model}: accuracy {self.baseline:.2%} on {of}; percentage points lost by one layer alone"
        table = Table()
        table.add_column("layer", overflow="fold")
        for setting in self.settings:
            table.add_column(str(setting), justify="right")
        for layer in self.layers:
            lost = self.of(layer)
            cells = (f"{100 * lost[setting]:.2f}" if setting in lost else "" for setting in self.settings)
            table.add_row(layer, *cells)
        return f"{title}\n{render(table, width=140)}"

    def to_csv(self, path: str | os.PathLike) -> None:
        """Write the rows to a CSV file, whole or not at all: layer, setting, accuracy, lost.

        Raises:
            ValueError: a place where no file can be written.
            OSError: the disk is full; what stood at `path` is still there.
        """
        path = check_writable(check_path("path", path))
        write_rows(path, [dataclasses.asdict(row) | {"setting": str(row.setting)} for row in self.rows])


def sensitivity(
    model: keras.Model,
    data: Any,
    *,
    settings: Compression | Iterable[Compression] = _SETTINGS,
    where: Where = None,
    rows: int | None = None,
    batch_size: int = 256,
) -> Sensitivity:
    """Measure the accuracy that a trained classifier loses when one of its layers alone is compressed.

    Each layer is compressed by itself, in each way, and the others stay as they are; nothing is trained. Training
    brings much of it back, and losses of several layers do not simply add up: the numbers order layers, and say little
    of the network that comes out in the end.

    A copy of the model is evaluated, and only one kernel of it changes at a time, so that it is compiled once. It takes
    the time of `len(rows) + 1` evaluations.

    Args:
        model: a functional or sequential classifier, trained, with one input and a score for each class, be it a
            probability or not. It is left as it is.
        data: arrays (x, y), as the model was trained on them, y class numbers or one-hot rows; or what `datasets.load`
            or `datasets.load_arrays` returned, of which the validation images are taken. At least 10 examples. Test
            images that layers are chosen by are no test images any more.
        settings: one or several of `keras_condense.compressions`: `LearnedGroups(groups, condense_factor)`,
            `PrunedWeights(sparsity, block)`, `RoundedWeights(bits)`. By default what `learn_groups` and `prune_weights`
            do by default.
        where: which layers: None for those that each setting fits and takes by default, 1x1 convolutions for learned
            groups, those and dense layers for pruning, all convolutions and dense layers for rounding; a function of a
            layer that answers with True or False; or one or more names.
        rows: at most so many examples, evenly spaced over all; None for all.
        batch_size: of the evaluation.

    Returns:
        A `Sensitivity`, with a readable `str`.

    Raises:
        ValueError: a model without a graph, no classifier, or one that still has masked layers; NaN in its scores or in
            the data; labels that are none of its classes; too few examples; no setting, or an unknown one; a name that
            is no layer's, or of one that no setting fits; no layer that a setting fits.

    Example:
        >>> keras.utils.set_random_seed(0)
        >>> layers = [keras.layers.Conv2D(8, 1, name="conv"), keras.layers.GlobalMaxPooling2D()]
        >>> model = keras.Sequential([keras.Input((4, 4, 8)), *layers, keras.layers.Dense(2, name="scores")])
        >>> x = np.random.default_rng(0).normal(size=(50, 4, 4, 8))
        >>> y = model.predict(x, verbose=0).argmax(axis=1)
        >>> result = sensitivity(model, (x, y))
        >>> result.baseline, [(row.layer, str(row.setting)) for row in result.rows]
        (1.0, [('conv', 'G4 C4'), ('conv', '80% zeros'), ('scores', '80% zeros')])
        >>> result.lost(LearnedGroups(4, 4))
        {'conv': ...}
    """
    check_rewritable(model)
    _check_unmasked(model)
    settings = _checked_settings(settings)
    batch_size = check_positive_integer("batch_size", batch_size, "Use 256.")
    reasons = _reasons(model, settings, where)
    fitting = _fitting(model, reasons)
    examples = labelled_rows(data, model, rows)

    copy = rewrite(model, lambda layer: None, compile=False)  # the model itself stays as it is, whatever happens
    layers = _layers(copy)
    baseline = _accuracy(copy, examples, batch_size, check=True)
    measured = []
    for name, of_layer in fitting.items():
        kernel = layers[name].kernel
        trained = ops.convert_to_numpy(kernel)
        for setting in of_layer:
            kernel.assign(compressed_weights(layers[name], setting, trained))
            accuracy = _accuracy(copy, examples, batch_size)
            measured.append(SensitivityRow(name, setting, accuracy, baseline - accuracy))
        kernel.assign(trained)
    left = {(name, each): why for each, found in reasons.items() for name, why in found.items() if why is not None}
    return Sensitivity(model.name, baseline, len(examples.labels), examples.available, settings, tuple(measured), left)


def _check_unmasked(model: keras.Model) -> None:
    if masked := [layer.name for layer in condensable_layers(model)]:
        raise ValueError(
            f"`model` (={model.name!r}) must have no masked layers, which are compressed already, and has "
            f"{listed(masked)}. Give what `condense` makes of it, or the model that `learn_groups` or `prune_weights` "
            "was called with."
        )


def _checked_settings(settings: Any) -> tuple[Compression, ...]:
    given = (settings,) if not isinstance(settings, Iterable) else tuple(settings)
    if not given or not all(isinstance(each, Compression) for each in given):
        raise ValueError(
            f"`settings` (={shown(settings)}) must be one or several of `keras_condense.compressions`: "
            "LearnedGroups(4, 4), PrunedWeights(0.8), RoundedWeights(4)."
        )
    return tuple(dict.fromkeys(given))


def _layers(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """The layers by their names, the first where several have one."""
    layers: dict[str, keras.layers.Layer] = {}
    for name, layer in reachable_layers(model):
        layers.setdefault(name, layer)
    return layers


def _reasons(model: keras.Model, settings: tuple[Compression, ...], where: Where) -> dict[Compression, Reasons]:
    """For each setting, the layers that it is to fit, and why it does not."""
    names = names_in(where, "the layers that each setting takes by default")
    if names is None:
        return {setting: setting.reasons(model, where) for setting in settings}
    reasons = {setting: setting.reasons(model, lambda layer: True) for setting in settings}
    known = dict.fromkeys(name for found in reasons.values() for name in found)
    for name in names:
        if name not in known:
            alike = difflib.get_close_matches(name, known, n=3)
            raise ValueError(
                f"`where` (={name!r}) must be the name of a layer of model {model.name!r} that can be compressed, and "
                f"none of these has it. Use {' or '.join(map(repr, alike)) or 'a name'} that `explain_learn_groups` or "
                "`explain_prune_weights` shows."
            )
        if all(found.get(name, "") is not None for found in reasons.values()):
            raise ValueError(
                f"`where` (={name!r}) must be the name of a layer that one of `settings` fits, and it is none:"
                f"{_in_words(reasons, name)}\nLeave it out, or give other settings."
            )
    return {
        setting: {name: reason for name, reason in found.items() if name in names} for setting, found in reasons.items()
    }


def _in_words(reasons: Mapping[Compression, Reasons], *names: str) -> str:
    rows = ((setting, name, why) for setting, found in reasons.items() for name, why in found.items())
    return "".join(f"\n{setting}: {name!r} {why}" for setting, name, why in rows if not names or name in names)


def _fitting(model: keras.Model, reasons: Mapping[Compression, Reasons]) -> dict[str, list[Compression]]:
    """For each layer that is compressed, in the model's order, the settings that fit it."""
    layers = _layers(model)
    fitting = {name: [each for each in reasons if reasons[each].get(name, "") is None] for name in layers}
    fitting = {name: of_layer for name, of_layer in fitting.items() if of_layer}
    if not fitting:
        raise ValueError(
            f"`model` (={model.name!r}) must have a layer that one of `settings` fits, and has none:"
            f"{_in_words(reasons)}\nGive another `where` or other `settings`."
        )
    for name in fitting:
        if not np.isfinite(ops.convert_to_numpy(layers[name].kernel).astype("float64")).all():
            raise ValueError(
                f"The kernel of layer {name!r} must be finite, and holds NaN or infinity: the training has diverged. "
                "Load an earlier checkpoint."
            )
    return fitting


def _accuracy(model: keras.Model, examples: LabelledRows, batch_size: int, *, check: bool = False) -> float:
    scores = np.asarray(model.predict(examples.inputs, batch_size=batch_size, verbose=0))
    finite = np.isfinite(scores).all(axis=1)
    if check and not finite.all():
        raise ValueError(
            f"The scores of model {model.name!r} must be finite, and are NaN or infinite for {np.sum(~finite):,} of "
            f"{len(finite):,} examples. Check that it was trained to the end, and that `data` is prepared as it was."
        )
    return float(np.mean((scores.argmax(axis=1) == examples.labels) & finite))
