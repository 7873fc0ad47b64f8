"""One table of every network that the papers name: what it costs as it is built here, beside what was published.

This module stands above the others of the package: it condenses, counts and exports what they build.
"""

import dataclasses
import difflib
from collections.abc import Iterable

import keras

from keras_condense.applications.families import FAMILIES, Family, find_constructor
from keras_condense.applications.pretrained import find_weights, weights_of
from keras_condense.applications.published import Published
from keras_condense.condensation import condense
from keras_condense.profiling import profile_model
from keras_condense.text_tables import render
from keras_condense.tflite import export_tflite
from keras_condense.validation import check_choice

__all__ = ["ZooRow", "ZooTable", "build", "families", "published", "table"]


@dataclasses.dataclass(frozen=True)
class ZooRow:
    """A network of a paper's table as it is built here, and what the paper says of it.

    Attributes:
        family: the module of `keras_condense.applications` that builds it.
        network: the row's name, for instance "DenseNet-BC (L=100, k=12)".
        constructor: the function of `keras_condense.applications` that builds it.
        parameters: trainable weights; like all figures those of the condensed network where the paper's are.
        macs: multiply-adds of convolutions and dense layers for one image.
        operations: multiply-adds, plus one per ReLU output and so on, by the counting rule of the CondenseNet authors'
            program (see `keras_condense.profile_model`). `flops` is its former name.
        published_parameters: as printed; empty where the paper says nothing, as in all that follow.
        published_operations: as printed.
        rule: which of ours the published operations are to be compared with: one of `published.RULES`.
        published_error: per cent, as printed: top-1 on ImageNet, or CIFAR-10 and CIFAR-100 with " / " between.
        weights: the data sets for which trained weights of this very network exist: values of its `weights`, with
            ", " between; empty for none, as what follows.
        measured_error: per cent, of the weights that were measured here: data set and top-1 error.
        source: where the published figures stand.
        file_bytes: size of the float32 file that `keras_condense.export_tflite` writes, or None if not asked for.
    """

    family: str
    network: str
    constructor: str
    parameters: int
    macs: int
    operations: int
    published_parameters: str
    published_operations: str
    rule: str
    published_error: str
    weights: str
    measured_error: str
    source: str
    file_bytes: int | None = None

    @property
    def flops(self) -> int:
        """The former name of `operations`."""
        return self.operations


@dataclasses.dataclass(frozen=True)
class ZooTable:
    """Networks and what they cost; `print` it for a table.

    Attributes:
        rows: a `ZooRow` for each network.
    """

    rows: tuple[ZooRow, ...]

    def __str__(self) -> str:
        from rich.table import Table

        has_files = any(row.file_bytes is not None for row in self.rows)
        table = Table("network")
        titles = ["parameters", "published", "macs", "operations", "published", "published error, %", "weights"]
        for title in [*titles, "measured error, %", *["file bytes"] * has_files]:
            table.add_column(title, justify="right")
        table.add_column("source", overflow="fold")
        for row in self.rows:
            cells = [
                row.network,
                f"{row.parameters:,}",
                row.published_parameters,
                f"{row.macs:,}",
                f"{row.operations:,}",
                f"{row.published_operations} ({row.rule})" if row.published_operations else "",
                row.published_error,
                row.weights,
                row.measured_error,
            ]
            if has_files:
                cells.append("" if row.file_bytes is None else f"{row.file_bytes:,}")
            table.add_row(*cells, row.source)
        return render(table, width=180)


def families() -> dict[str, Family]:
    """Return the families of networks by the names of their modules."""
    return dict(FAMILIES)


def published() -> tuple[Published, ...]:
    """Return what the papers say of all networks, family by family."""
    return tuple(row for family in families().values() for row in family.figures)


def build(row: Published) -> keras.Model:
    """Build the network of which a row speaks, with random weights.

    Args:
        row: one of `published()`.

    Returns:
        The network, condensed if the row's figures are those of the condensed one.
    """
    model = find_constructor(row.constructor)(**{"weights": None} | dict(row.arguments))
    return condense(model, finish=True) if row.condensed else model


def table(names: Iterable[str] | None = None, *, file_size: bool = False) -> ZooTable:
    """Build the networks of the papers' tables one after another, and count what they cost.

    A network that the papers count condensed is condensed before it is counted. All networks together take minutes,
    with `file_size` many; a bar on the terminal's stderr shows how far it is.

    Args:
        names: networks as the table names them, or constructors, which stand for all rows that they build; None for
            all networks.
        file_size: whether to export each network to .tflite as well, for the size of the file. Needs TensorFlow.

    Returns:
        A `ZooTable`, with a readable `str`, in the order of the families and of their papers' tables.

    Raises:
        ValueError: a name that no row has; `file_size` with another backend than TensorFlow.

    Example:
        >>> row = table(["CondenseNet-50"]).rows[0]
        >>> row.parameters, row.published_parameters, row.operations, row.published_operations
        (214186, '0.22M', 28639514, '28.6M')
        >>> table(["CondenseNet-51"])
        Traceback (most recent call last):
        ...
        ValueError: `names` (='CondenseNet-51') must be networks or constructors of the table. Use 'CondenseNet-50', ...
    """
    from rich.console import Console
    from rich.progress import track

    check_choice("file_size", file_size, (True, False), "Use True to export each network.")
    if file_size and keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"`file_size` (=True) must be False with the Keras backend {keras.backend.backend()!r}, because exporting "
            "needs TensorFlow. Leave it out, or start the process with KERAS_BACKEND=tensorflow."
        )
    chosen = _chosen(names)
    console = Console(stderr=True)
    rows = track(chosen, description="counting", console=console, transient=True, disable=not console.is_terminal)
    return ZooTable(tuple(_measured(family, row, file_size) for family, row in rows))


def _chosen(names: Iterable[str] | None) -> list[tuple[str, Published]]:
    """The rows to be shown, each after its family's name."""
    rows = [(name, row) for name, family in families().items() for row in family.figures]
    if names is None:
        return rows
    known = [name for _, row in rows for name in (row.network, row.constructor)]
    if isinstance(names, str) or not hasattr(names, "__iter__") or not (names := list(names)):
        raise ValueError(
            f"`names` (={names!r}) must be a sequence of at least one name, or None for all networks. "
            f"Give for instance [{known[0]!r}]."
        )
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(str(name), dict.fromkeys(known), n=5, cutoff=0)
            raise ValueError(
                f"`names` (={name!r}) must be networks or constructors of the table. "
                f"Use {', '.join(map(repr, close))}, or leave `names` out for all."
            )
    return [(family, row) for family, row in rows if row.network in names or row.constructor in names]


def _measured_error(row: Published) -> str:
    found = (
        find_weights(row.constructor, dataset, row.arguments) for dataset in weights_of(row.constructor, row.arguments)
    )
    return ", ".join(f"{its.dataset} {its.measured_error:.2f}" for its in found if its.measured_error is not None)


def _measured(family: str, row: Published, file_size: bool) -> ZooRow:
    model = build(row)
    profile = profile_model(model)
    return ZooRow(
        family=family,
        network=row.network,
        constructor=row.constructor,
        parameters=profile.parameters,
        macs=profile.macs,
        operations=profile.operations,
        published_parameters=row.parameters,
        published_operations=row.operations,
        rule=row.rule,
        published_error=row.error,
        weights=", ".join(weights_of(row.constructor, row.arguments)),
        measured_error=_measured_error(row),
        source=row.source,
        file_bytes=len(export_tflite(model, verify=False)) if file_size else None,
    )
