"""Shared weights: each kernel of a network written with few values, which are trained on (Deep Compression)."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_condense.choosing import (
    Choice,
    ChosenLayers,
    Where,
    common_arguments,
    examined_layers,
    replace_chosen,
    rows_of,
    unfit_to_replace,
)
from keras_condense.codebooks import check_bits, codebook_of
from keras_condense.distillation import check_teacher, taught
from keras_condense.layers import (
    GroupConv2D,
    LearnedConnections,
    SharedConv2D,
    SharedDense,
    SharedDepthwiseConv2D,
    SharedKernel,
)
from keras_condense.layers.convolution import CONVOLUTION_ARGUMENTS
from keras_condense.rewriting import Replacement
from keras_condense.validation import as_index, check_choice, check_positive_integer

__all__ = ["SharingLayers", "explain_share_weights", "share_weights"]

_CONVOLUTION = (SharedConv2D, (*CONVOLUTION_ARGUMENTS, "groups"))
_DEPTHWISE = tuple(name for name in CONVOLUTION_ARGUMENTS if name != "filters")
# for each kind of layer what stands for it, and the arguments that it takes over beside those of every such layer
_KINDS: dict[type, tuple[type, tuple[str, ...]]] = {
    keras.layers.Conv2D: _CONVOLUTION,
    GroupConv2D: _CONVOLUTION,
    keras.layers.DepthwiseConv2D: (SharedDepthwiseConv2D, ("depth_multiplier", *_DEPTHWISE)),
    keras.layers.Dense: (SharedDense, ("units",)),
}


class SharingLayers(ChosenLayers):
    """What `share_weights` does to each convolution and dense layer of a model; `print` it for a table.

    Attributes:
        model: the model's name.
        layers: a row for each layer, in the model's order.
    """

    things, they_do, it_does = "layers", "share weights", "shares weights"


def share_weights(
    model: keras.Model,
    bits: int = 5,
    where: Where = None,
    *,
    report: bool = False,
    seed: int = 0,
    teacher: keras.Model | str | None = None,
) -> keras.Model:
    """Have each convolution and dense layer of a model use at most 2**bits different weights, which can be trained on.

    They are replaced by `SharedConv2D`, `SharedDepthwiseConv2D` and `SharedDense` layers. Each holds the centers that
    k-means finds of its kernel's weights, and for each weight the number of its center. Training moves the centers
    alone, by the sum of what the weights that share one ask for, with any optimizer and backend (Deep Compression,
    arXiv 1510.00149, section 3). Zeros of a kernel stay exactly zero, in training too, so a pruned network stays
    pruned: `condense` it first. `condense` puts ordinary layers with the same weights in their place, and
    `export_tflite` makes a file of those. The file is as large as before until something codes it: see `coded_size`.

    A batch norm that is folded gives each filter values of its own. Export with `export_tflite(shared,
    share_weights=bits)`, which keeps norms and the trained values. Of a model that is not trained on,
    `export_tflite(model, share_weights=bits)` folds norms first and clusters what the file holds.

    Args:
        model: a functional or built sequential model, with nested models or without. It is left as it is.
        bits: 1 to 8. The paper took 8 for convolutions and 5 for dense layers; call the function twice for such a
            choice.
        where: which layers share weights: None for `Conv2D`, `GroupConv2D`, `DepthwiseConv2D` and `Dense` layers; a
            function of a layer, `lambda layer: layer.name != "stem"`; or names, as `explain_share_weights` shows them.
        report: print what `explain_share_weights` returns.
        seed: of the sample of 2**18 weights by which kernels of more than 2**20 are clustered.
        teacher: whose outputs the new model learns from as well, as `learn_groups` has it: "self", a model, or None.

    Returns:
        The new model, compiled as `model` is, with a fresh optimizer. With a teacher, the Distiller that trains it.

    Raises:
        ValueError: no layer that can share weights, with the reason for each; an argument out of range; a name that is
            no layer's, or that of one that can't share weights; NaN or infinity in a kernel; a model that has no graph
            to rewrite; a layer that can't be copied, or that lies inside two others, whose copies would be trained
            apart; a `teacher` that `distill` refuses.

    Example:
        >>> model = keras.Sequential([
        ...     keras.Input((8, 8, 3)),
        ...     keras.layers.Conv2D(32, 3, name="conv"),
        ...     keras.layers.GlobalAveragePooling2D(),
        ...     keras.layers.Dense(10, name="scores"),
        ... ])
        >>> shared = share_weights(model, bits=4)
        >>> type(shared.get_layer("conv")).__name__, tuple(shared.get_layer("conv").codebook.shape)
        ('SharedConv2D', (16,))
        >>> share_weights(model, bits=9)
        Traceback (most recent call last):
        ...
        ValueError: `bits` (=9) must be an integer from 1 to 8. Use 5 for at most 32 different weights in a layer.
    """
    check_choice("report", report, (False, True), "True prints which layers share weights.")
    bits, seed = check_bits("bits", bits), _checked_seed(seed)
    examined = examined_layers(model, where, _CHOICE)
    check_teacher(teacher, model)
    for name, layer, reason in examined:
        if reason is None and not np.isfinite(ops.convert_to_numpy(layer.kernel).astype("float32")).all():
            raise ValueError(
                f"The kernel of layer {name!r} must be finite to be clustered, and holds NaN or infinity: the training "
                "has diverged. Load an earlier checkpoint."
            )

    def shared(layer: keras.layers.Layer) -> Replacement:
        return _shared(layer, bits, seed)

    sharing = replace_chosen(model, examined, _CHOICE, shared, "Give another `where`.")
    if report:
        print(SharingLayers(model.name, rows_of(examined)))
    return taught(sharing, teacher, model)


def explain_share_weights(model: keras.Model, where: Where = None) -> SharingLayers:
    """Say which layers of a model `share_weights` would have share weights, and why it would leave the others.

    Args:
        model: as `share_weights` takes it.
        where: which layers share weights.

    Returns:
        A `SharingLayers`, with a readable `str`.

    Raises:
        ValueError: as `share_weights`; a model without a layer that can share weights is no error here.

    Example:
        >>> from keras_condense.layers import LearnedGroupConv2D
        >>> layers = [LearnedGroupConv2D(8, 1, name="learned"), keras.layers.Conv2D(8, 3, name="conv")]
        >>> explained = explain_share_weights(keras.Sequential([keras.Input((8, 8, 16)), *layers]))
        >>> explained.chosen, explained.left
        (('conv',), {'learned': 'has a mask: condense it first'})
    """
    return SharingLayers(model.name, rows_of(examined_layers(model, where, _CHOICE)))


def _checked_seed(seed: Any) -> int:
    number = as_index(seed)
    return number if number == 0 else check_positive_integer("seed", seed, "Use 0.")


def _unfit(layer: keras.layers.Layer, holder: str | None) -> str | None:
    """Why a layer can't share weights, whoever chooses it; None if it can."""
    if isinstance(layer, SharedKernel):
        return "shares its weights already"
    if isinstance(layer, LearnedConnections):
        return "has a mask: condense it first"
    if isinstance(layer, keras.layers.SeparableConv2D):
        return "has two kernels: write it as a depthwise and a 1x1 convolution"
    reason = unfit_to_replace(layer, holder, tuple(_KINDS), "shared weights")
    if reason is None and _constraint(layer) is not None:
        return "has a constraint on its kernel, which shared weights can't keep"
    return reason


def _constraint(layer: keras.layers.Layer) -> Any:
    is_depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    return layer.depthwise_constraint if is_depthwise else layer.kernel_constraint


_CHOICE = Choice(
    kinds=(*_KINDS, keras.layers.SeparableConv2D, LearnedConnections, SharedKernel),
    things="layers",
    can="share weights",
    unfit=_unfit,
    default=lambda layer: None,
    too_small=lambda layer: None,
    default_in_words="all convolutions and dense layers",
    explained_by="explain_share_weights",
)


def _shared(layer: keras.layers.Layer, bits: int, seed: int) -> Replacement:
    """The layer that computes with the values that k-means finds of a layer's kernel."""
    kind, own = _KINDS[type(layer)]
    values, indices, zero = codebook_of(ops.convert_to_numpy(layer.kernel), bits, seed)
    arguments = common_arguments(layer, (*own, *kind.kernel_arguments))
    bias = [ops.convert_to_numpy(layer.bias)] if layer.use_bias else []
    return [(kind(**arguments, centroids=len(values), zero=zero), [values, *bias, indices])]
