"""Magnitude pruning of a network's 1x1 convolutions and dense layers while it is trained."""

import functools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_condense.choosing import (
    Choice,
    ChosenLayers,
    Where,
    common_arguments,
    examined_layers,
    replace_chosen,
    rows_of,
    unfit_to_mask,
)
from keras_condense.distillation import check_teacher, taught
from keras_condense.layers import GroupConv2D, LearnedConnections, PrunedConv2D, PrunedDense
from keras_condense.layers.pruned import BLOCK_FIX, PrunedKernel
from keras_condense.layers.stand_in import KERNEL_ARGUMENTS
from keras_condense.rewriting import Replacement
from keras_condense.validation import check_choice, check_positive_integer

__all__ = ["PrunableLayers", "explain_prune_weights", "prune_weights"]

_CONVOLUTIONS = (keras.layers.Conv2D, GroupConv2D)
_KINDS = (*_CONVOLUTIONS, keras.layers.Dense)
# arguments that an ordinary convolution and a pruned one have in common, beside those of all layers with a kernel
_OF_CONVOLUTIONS = ("filters", "kernel_size", "strides", "padding", "data_format")


class PrunableLayers(ChosenLayers):
    """What `prune_weights` does to each convolution and dense layer of a model; `print` it for a table.

    Attributes:
        model: the model's name.
        layers: a row for each layer, in the model's order.
    """

    things, they_do, it_does = "layers", "are pruned", "is pruned"


def prune_weights(
    model: keras.Model,
    sparsity: float = 0.8,
    block: int = 1,
    where: Where = None,
    *,
    schedule: str = "cubic",
    drops_at: Sequence[float] | None = None,
    report: bool = False,
    teacher: keras.Model | str | None = None,
) -> keras.Model:
    """Have a model's 1x1 convolutions and dense layers lose their smallest weights while it is trained.

    They are replaced by `PrunedConv2D` and `PrunedDense` layers that hold the same weights. The new model computes what
    the model computes, until training with `CondenseSchedule` prunes it: gradually, more at first than at the end (Zhu
    and Gupta, arXiv 1710.01878, equation 1), in each layer those of the least magnitude. `condense` then puts ordinary
    layers with zeros in their place, and `export_tflite` lowers these to sparse kernels where that is cheaper by the
    target's table. Elsen et al. ("Fast Sparse ConvNets", arXiv 1911.09723) found such networks 1.3 to 2.4 times as fast
    as dense ones of equal accuracy.

    Everything else stays, as with `learn_groups`; both can be had in one model, one after the other. `profile_model`
    counts what the masks leave; of the condensed model, whose layers are ordinary, it counts zeros too.

    Args:
        model: a functional or built sequential model, with nested models or without. It is left as it is.
        sparsity: the share of each layer's weights that is zero in the end, in [0, 1). Call the function again for
            another share in other layers.
        block: so many neighbouring filters lose the same inputs: 2 and 4 make sparse kernels read less, 1 leaves the
            choice free. Layers whose filters it does not divide are left.
        where: which layers are pruned: None for convolutions with a 1x1 kernel and dense layers; a function of a
            layer, `lambda layer: layer.name != "scores"`; or names, as `explain_prune_weights` shows them.
        schedule: "cubic", or "even" for drops of one size.
        drops_at: the progress of the training, ascending in [0, 1), at which each drop falls. By default ten in the
            first half, as learned groups' drops are.
        report: print what `explain_prune_weights` returns.
        teacher: whose outputs the new model learns from as well, as `learn_groups` has it: "self", a model, or None.

    Returns:
        The new model, compiled as `model` is, with a fresh optimizer. With a teacher, the Distiller that trains it.

    Raises:
        ValueError: no layer that can be pruned, with the reason for each; an argument out of range; a name that is no
            layer's, or that of one that can't be pruned; a model that has no graph to rewrite; a layer that can't be
            copied, or that lies inside two others, whose copies would be trained apart; a `teacher` that `distill`
            refuses.

    Example:
        >>> model = keras.Sequential([
        ...     keras.Input((8, 8, 16)),
        ...     keras.layers.Conv2D(32, 1, activation="relu", name="conv"),
        ...     keras.layers.GlobalAveragePooling2D(),
        ...     keras.layers.Dense(10, name="scores"),
        ... ])
        >>> pruning = prune_weights(model, sparsity=0.9, block=2)
        >>> type(pruning.get_layer("conv")).__name__, type(pruning.get_layer("scores")).__name__
        ('PrunedConv2D', 'PrunedDense')
        >>> prune_weights(model, sparsity=1)
        Traceback (most recent call last):
        ...
        ValueError: `sparsity` (=1) must be a number in [0, 1). Use 0.8 to lose eight weights in ten.
    """
    check_choice("report", report, (False, True), "True prints which layers are pruned.")
    plan = PrunedDense(1, sparsity=sparsity, schedule=schedule, drops_at=drops_at)  # which checks the arguments
    choice = _choice(block)
    examined = examined_layers(model, where, choice)
    check_teacher(teacher, model)
    arguments = plan.plan_config() | {"block": block}

    def pruned(layer: keras.layers.Layer) -> Replacement:
        return _pruned(layer, arguments)

    pruning = replace_chosen(model, examined, choice, pruned, "Give another `where` or `block`.")
    if report:
        print(PrunableLayers(model.name, rows_of(examined)))
    return taught(pruning, teacher, model)


def explain_prune_weights(model: keras.Model, block: int = 1, where: Where = None) -> PrunableLayers:
    """Say which layers of a model `prune_weights` would prune, and why it would leave the others.

    Args:
        model: as `prune_weights` takes it, and so are the other arguments.
        block: neighbouring filters that lose the same inputs.
        where: which layers are pruned.

    Returns:
        A `PrunableLayers`, with a readable `str`.

    Raises:
        ValueError: as `prune_weights`; a model without a layer that can be pruned is no error here.

    Example:
        >>> model = keras.Sequential([
        ...     keras.Input((8, 8, 4)),
        ...     keras.layers.Conv2D(30, 3, name="stem"),
        ...     keras.layers.Conv2D(30, 1, name="conv"),
        ...     keras.layers.Dense(30, name="scores"),
        ... ])
        >>> layers = explain_prune_weights(model)
        >>> layers.chosen, layers.left["stem"]
        (('conv', 'scores'), 'has a 3x3 kernel, whose zeros no kernel skips')
    """
    return PrunableLayers(model.name, rows_of(examined_layers(model, where, _choice(block))))


def _choice(block: Any) -> Choice:
    block = check_positive_integer("block", block, BLOCK_FIX)
    return Choice(
        kinds=(*_KINDS, LearnedConnections),
        things="layers",
        can="be pruned",
        unfit=_unfit,
        default=lambda layer: None,
        too_small=functools.partial(_indivisible, block=block),
        default_in_words="convolutions with a 1x1 kernel and dense layers",
        explained_by="explain_prune_weights",
    )


def _unfit(layer: keras.layers.Layer, holder: str | None) -> str | None:
    """Why a layer can't be pruned, whoever chooses it; None if it can."""
    if isinstance(layer, PrunedKernel):
        return "is pruned already"
    if isinstance(layer, LearnedConnections):
        return "learns which inputs it needs"
    if isinstance(layer, keras.layers.Conv2D) and tuple(layer.kernel_size) != (1, 1):
        return "has a {}x{} kernel, whose zeros no kernel skips".format(*layer.kernel_size)
    return unfit_to_mask(layer, holder, _KINDS, "pruned layers")


def _indivisible(layer: keras.layers.Layer, block: int) -> str | None:
    """Why a layer's filters make no blocks of this size; None if they do."""
    filters = layer.kernel.shape[-1]
    return f"has {filters} filters, which `block` (={block}) does not divide" if filters % block else None


def _pruned(layer: keras.layers.Layer, pruning: dict[str, Any]) -> Replacement:
    """The layer that computes what a layer computes, and can be pruned."""
    kind, own = (PrunedConv2D, _OF_CONVOLUTIONS) if isinstance(layer, _CONVOLUTIONS) else (PrunedDense, ("units",))
    arguments = common_arguments(layer, (*own, *KERNEL_ARGUMENTS))
    inputs, filters = layer.kernel.shape[-2:]
    mask = np.ones((filters // pruning["block"], inputs))
    return [(kind(**arguments, **pruning), [*layer.get_weights(), mask])]
