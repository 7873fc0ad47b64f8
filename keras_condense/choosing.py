"""Which layers of a model are to be replaced: by a function, by names or by default, and why the others are not."""

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

import keras

from keras_condense.layers import QuantizedKernel
from keras_condense.rewriting import Replacement, check_rewritable, check_untied, copied, reachable_layers, rewrite
from keras_condense.text_tables import render

__all__ = [
    "NOT_CHOSEN",
    "Choice",
    "ChosenLayer",
    "ChosenLayers",
    "Examined",
    "Where",
    "common_arguments",
    "examined_layers",
    "kernel_shape",
    "names_in",
    "replace_chosen",
    "rows_of",
    "unfit_to_change",
    "unfit_to_mask",
    "unfit_to_replace",
]

# which layers to replace: None for the default, a function of the layer, or names
Where = Callable[[keras.layers.Layer], bool] | str | Iterable[str] | None

NOT_CHOSEN = "is not chosen by `where`"

# a layer's name, the layer, and why it is left as it is (None: it is replaced)
Examined = tuple[str, keras.layers.Layer, str | None]


@dataclasses.dataclass(frozen=True)
class ChosenLayer:
    """A layer of a model: is it replaced, or why not?

    Attributes:
        name: the layer's name, with those of the models that hold it before it.
        kind: the layer's class.
        kernel: the kernel's shape, its inputs and filters last.
        reason: why the layer is left as it is; None for one that is replaced.
    """

    name: str
    kind: str
    kernel: tuple[int, ...]
    reason: str | None

    def __str__(self) -> str:
        return "yes" if self.reason is None else f"no: {self.reason}"


@dataclasses.dataclass(frozen=True)
class ChosenLayers:
    """What is done to each layer of a model; `print` it for a table.

    Attributes:
        model: the model's name.
        layers: a row for each layer, in the model's order.
    """

    model: str
    layers: tuple[ChosenLayer, ...]

    things: ClassVar[str]  # what the layers are, and what those that are replaced do: all of them, and one
    they_do: ClassVar[str]
    it_does: ClassVar[str]

    @property
    def chosen(self) -> tuple[str, ...]:
        """Names of the layers that are replaced."""
        return tuple(layer.name for layer in self.layers if layer.reason is None)

    @property
    def left(self) -> dict[str, str]:
        """Names of the layers that are left as they are, and why."""
        return {layer.name: layer.reason for layer in self.layers if layer.reason is not None}

    def further_columns(self) -> dict[str, list[str]]:
        """Columns at the end of the table: a cell for each layer, by their titles."""
        return {}

    def __str__(self) -> str:
        from rich.table import Table

        title = f"{self.model}: {len(self.chosen)} of {len(self.layers)} {self.things} {self.they_do}"
        table = Table(title=title, title_justify="left")
        table.add_column("layer", overflow="fold")
        table.add_column("kind")
        table.add_column("kernel")
        table.add_column(self.it_does)
        further = self.further_columns()
        for title in further:
            table.add_column(title, justify="right", no_wrap=True)
        for layer, *cells in zip(self.layers, *further.values(), strict=True):
            kernel = " x ".join(map(str, layer.kernel))
            table.add_row(layer.name, layer.kind, kernel, str(layer), *cells)
        return render(table, width=140)


def rows_of(examined: Iterable[Examined], kind: type[ChosenLayer] = ChosenLayer) -> tuple[ChosenLayer, ...]:
    """The rows of a `ChosenLayers`."""
    return tuple(kind(name, type(layer).__name__, kernel_shape(layer), reason) for name, layer, reason in examined)


def kernel_shape(layer: keras.layers.Layer) -> tuple[int, ...]:
    """The shape of the (first) kernel; empty for a layer without one."""
    return next((tuple(weight.shape) for weight in layer.weights if weight.name.endswith("kernel")), ())


@dataclasses.dataclass(frozen=True)
class Choice:
    """How layers of one kind are chosen, and the words for it.

    Attributes:
        kinds: the classes of layers that are looked at.
        things: what they are called in messages, in the plural: "convolutions".
        can: what a chosen one can do: "learn groups".
        unfit: gives the reason why a layer can't be replaced whoever chooses it, or None; it is told which layer holds
            it, where that can't be replaced in.
        default: gives the reason why a layer is not chosen by default, or None.
        too_small: gives the reason why a chosen layer does not fit the arguments, or None.
        default_in_words: what `where` chooses by default.
        explained_by: the function that shows the names.
    """

    kinds: tuple[type, ...]
    things: str
    can: str
    unfit: Callable[[keras.layers.Layer, str | None], str | None]
    default: Callable[[keras.layers.Layer], str | None]
    too_small: Callable[[keras.layers.Layer], str | None]
    default_in_words: str
    explained_by: str


def examined_layers(model: Any, where: Where, choice: Choice) -> list[Examined]:
    """Every layer of the choice's kinds in the model, each once, in its order.

    Raises:
        ValueError: a model that has no graph to rewrite; `where` of another kind; a name that is no such layer's, or
            that of one that can't be replaced.
    """
    check_rewritable(model)
    names = names_in(where, choice.default_in_words)
    examined = []
    for name, layer, holder in _layers(model, choice.kinds):
        reason = choice.unfit(layer, holder)
        if reason is None and where is None:
            reason = choice.default(layer)
        elif reason is None and not (where(layer) if names is None else name in names):
            reason = NOT_CHOSEN
        examined.append((name, layer, choice.too_small(layer) if reason is None else reason))
    _check_names(names or (), examined, model, choice)
    return examined


def replace_chosen(
    model: keras.Model,
    examined: list[Examined],
    choice: Choice,
    replacement: Callable[[keras.layers.Layer], Replacement],
    fix: str,
) -> keras.Model:
    """The model with other layers in the place of those that were chosen.

    Args:
        model: as it was examined.
        examined: of `examined_layers`.
        choice: the words.
        replacement: what stands for a layer.
        fix: what to change where there is none to replace, for the message.

    Raises:
        ValueError: a layer inside two others; no layer to replace, with the reason for each.
    """
    check_untied(model)
    chosen = {id(layer) for _, layer, reason in examined if reason is None}
    if not chosen:
        thing = choice.things.removesuffix("s")
        reasons = "".join(f"\n{name!r} {reason}" for name, _, reason in examined) or f"\nit has no {thing} at all"
        raise ValueError(
            f"`model` (={model.name!r}) must have a {thing} that can {choice.can}, and has none:{reasons}\n{fix}"
        )
    return rewrite(model, lambda layer: replacement(layer) if id(layer) in chosen else None)


def unfit_to_change(layer: keras.layers.Layer, holder: str | None) -> str | None:
    """Why a layer's kernel can't be changed or taken over; None if it can."""
    if holder is not None:
        return f"lies inside layer {holder!r}, which is not a functional or sequential model"
    if getattr(layer, "lora_enabled", False):
        return "has a LoRA kernel beside its own"
    if getattr(layer, "quantization_mode", None):
        return "is quantized"
    return None


def unfit_to_replace(layer: keras.layers.Layer, holder: str | None, kinds: tuple[type, ...], what: str) -> str | None:
    """Why no other layer can stand for a convolution or dense layer of one of the `kinds`; None if one can."""
    if reason := unfit_to_change(layer, holder):
        return reason
    if isinstance(layer, QuantizedKernel):
        return "computes in int8 already: call this before `quantize_aware`"
    if type(layer) not in kinds:
        return "is of a subclass, which may compute something else than its base"
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        return f'has `data_format="{layer.data_format}"`, and {what} need "channels_last"'
    if isinstance(layer.activation, keras.layers.Layer) and layer.activation.weights:
        return "has an activation with weights of its own, which must be a layer behind it"
    return None


def unfit_to_mask(layer: keras.layers.Layer, holder: str | None, kinds: tuple[type, ...], what: str) -> str | None:
    """Why no masked layer can stand for a layer of one of the `kinds`; None if one can."""
    reason = unfit_to_replace(layer, holder, kinds, what)
    if reason is None and getattr(layer, "groups", 1) > 1:
        return f"has {layer.groups} groups already"
    return reason


def common_arguments(layer: keras.layers.Layer, names: Iterable[str]) -> dict[str, Any]:
    """The arguments that another layer takes over from a layer: what it holds, and its dtype policy."""
    arguments = {name: getattr(layer, name) for name in (*names, "activation", "activity_regularizer")}
    if isinstance(layer.activation, keras.layers.Layer):
        arguments["activation"] = copied(layer.activation)
    return arguments | {"dtype": layer.dtype_policy}


def _layers(model: keras.Model, kinds: tuple[type, ...]) -> Iterator[tuple[str, keras.layers.Layer, str | None]]:
    """Name, layer, and the layer that holds it if it can't be replaced there."""
    seen: set[int] = set()
    for name, layer in reachable_layers(model):
        for part in layer._flatten_layers():
            if isinstance(part, kinds) and id(part) not in seen:
                seen.add(id(part))
                yield (name, part, None) if part is layer else (f"{name}/{part.name}", part, name)


def names_in(where: Any, default_in_words: str) -> tuple[str, ...] | None:
    """The names of layers that `where` gives; None where it is left out or a function.

    Raises:
        ValueError: it is something else.

    Example:
        >>> names_in("conv", "all"), names_in(["conv", "scores"], "all"), names_in(lambda layer: True, "all")
        (('conv',), ('conv', 'scores'), None)
    """
    # layers and classes can be called too, and mean something else
    if where is None or (callable(where) and not isinstance(where, (keras.layers.Layer, type))):
        return None
    names = (where,) if isinstance(where, str) else tuple(where) if isinstance(where, Iterable) else (where,)
    if not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"`where` (={where!r}) must be a function of a layer, a name or names of layers. "
            f"Leave it out for {default_in_words}."
        )
    return names


def _check_names(names: tuple[str, ...], examined: list[Examined], model: keras.Model, choice: Choice) -> None:
    reasons, thing = {name: reason for name, _, reason in examined}, choice.things.removesuffix("s")
    for name in names:
        if name not in reasons:
            alike = difflib.get_close_matches(name, reasons, n=3)
            raise ValueError(
                f"`where` (={name!r}) must be the name of a {thing} of model {model.name!r}, which has none of "
                f"that name. Use {' or '.join(map(repr, alike)) or 'a name'} that `{choice.explained_by}(model)` shows."
            )
        if reasons[name] is not None:
            raise ValueError(
                f"`where` (={name!r}) must be the name of a {thing} that can {choice.can}, and this one "
                f"{reasons[name]}. Leave it out."
            )
