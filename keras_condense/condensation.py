"""From a trained, masked network to the small one that computes the same (CondenseNet, section 3.1, figure 3)."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_condense.keras_graphs import output_layer_names, student_of
from keras_condense.layers import LearnedConnections, StandIn, frozen_layers, stand_ins
from keras_condense.replicas import warn_of_replicas
from keras_condense.rewriting import NewNames, Replacement, check_rewritable, check_untied, reachable_layers, rewrite
from keras_condense.validation import check_choice, shown

__all__ = ["check_condensable", "condense", "condensed"]


def condense(model: keras.Model, *, finish: bool = False) -> keras.Model:
    """Turn a network as it is trained, with learned groups, into index layers, group convolutions and standard layers.

    Each `LearnedGroupConv2D` becomes `ChannelIndex`, `GroupConv2D` (which keeps the name) and `ChannelShuffle`; each
    `CondenseDense` becomes `ChannelIndex` and `keras.layers.Dense`; each `SparseFeatureReactivation` becomes
    `ChannelShuffle`, `GroupConv2D` and `ChannelScatterAdd`. Pruned layers and those with shared weights become the
    ordinary ones that `prune_weights` and `share_weights` took, with their new kernels. The other layers are copied
    with their weights. The new model computes the same, can be trained further, and loads from `.keras` once
    `keras_condense` is imported.
    Where a learned layer is an output of the model, the last of its parts keeps the name, by which losses, metrics and
    files know that output.

    Of a model under `tf.distribute.MirroredStrategy` the first replica's weights are taken. Batch norms without
    `synchronized=True` keep statistics of their own in each replica: a warning says so where they differ, for
    `predict` under the strategy then gives something else.

    Args:
        model: a functional or sequential model; nested models may hold learned layers too. It is left as it is. Of a
            Distiller the student is condensed.
        finish: prune what is still due at once, by magnitude and without training. This changes the outputs: for
            latency studies of untrained networks.

    Returns:
        The condensed model, compiled as `model` is, with a fresh optimizer: a learning-rate schedule begins anew.

    Raises:
        ValueError: a layer that has not reached its last stage (unless `finish`); a model that has no graph to
            rewrite; a learned layer inside another layer, where the rewriting can't reach it; a layer inside two
            others, whose copies would be trained apart; NaN weights; `finish` no bool.

    Example:
        >>> from keras_condense.layers import LearnedGroupConv2D
        >>> model = keras.Sequential([keras.Input((8, 8, 16)), LearnedGroupConv2D(8, 1, name="conv")])
        >>> condense(model)
        Traceback (most recent call last):
        ...
        ValueError: Layer 'conv' is in condensing stage 0, and must be in stage 3 to be condensed. ...
        >>> small = condense(model, finish=True)
        >>> [layer.name for layer in small.layers], model.count_params(), small.layers[1].count_params()
        (['conv_index', 'conv', 'conv_shuffle'], 192, 32)
    """
    return condensed(model, finish=finish)


def condensed(model: keras.Model, *, finish: bool = False, compile: bool = True) -> keras.Model:
    """`condense`, of which a model that is only exported needs no optimizer: compile=False leaves it out."""
    model = student_of(model)
    check_choice("finish", finish, (False, True), "True prunes at once what is still due.")
    check_condensable(model, finish)
    warn_of_replicas(model)
    if compile:  # to be trained further
        check_untied(model)
    # of a sequential model the one output needs no name
    outputs, names = () if isinstance(model, keras.Sequential) else output_layer_names(model), NewNames(model)

    def replaced(layer: keras.Layer) -> Replacement | None:
        if not isinstance(layer, StandIn):
            return None
        parts = _checked(layer.condensed(names.new), layer)
        return _named_as_output(parts, layer.name, names) if layer.name in outputs else parts

    return rewrite(model, replaced, compile=compile)


def check_condensable(model: keras.Model, finish: bool = False) -> None:
    """Raise ValueError unless `condense` can condense a model."""
    check_rewritable(model)
    reachable = {id(layer) for _, layer in reachable_layers(model)}
    frozen = frozen_layers(model)
    for layer in stand_ins(model):
        if id(layer) not in reachable:
            raise ValueError(
                f"Layer {layer.name!r} lies inside a layer that is not a functional or sequential model, where it "
                "can't be replaced. Put it into the model's graph directly."
            )
        if not np.isfinite(ops.convert_to_numpy(layer.kernel)).all():
            raise ValueError(
                f"The kernel of layer {layer.name!r} must be finite, and holds NaN or infinity: the training has "
                "diverged. Load an earlier checkpoint."
            )
        if isinstance(layer, LearnedConnections) and layer.stage < layer.final_stage and not finish:
            fix = "Train on with `CondenseSchedule`"
            if layer in frozen:
                fix = (
                    "It is frozen, and `CondenseSchedule` leaves frozen layers as they are. Set `trainable` to True on "
                    "it and on the models that hold it, compile, and train on"
                )
            raise ValueError(
                f"Layer {layer.name!r} is in condensing stage {layer.stage}, and must be in stage {layer.final_stage} "
                f"to be condensed. {fix}, or call `condense(model, finish=True)` to prune the rest at once by "
                "magnitude, which changes the outputs."
            )


def _checked(parts: Any, layer: StandIn) -> Replacement:
    """What a layer says it becomes, if that can stand in a model."""
    is_list = isinstance(parts, (list, tuple)) and len(parts) > 0
    if not is_list or not all(
        isinstance(part, tuple) and len(part) == 2 and isinstance(part[0], keras.layers.Layer) for part in parts
    ):
        raise ValueError(
            f"`condensed` of layer {layer.name!r} of class {type(layer).__name__} must return a list of at least one "
            f"pair (layer, weights or None), and returned {shown(parts)}. Give [(layer, weights)]."
        )
    return list(parts)


def _named_as_output(parts: Replacement, name: str, names: NewNames) -> Replacement:
    """The same parts, the last of which bears `name`; none is built yet, so that its weights are named after it too."""
    layers = [layer for layer, _ in parts]
    for layer in layers[:-1]:
        if layer.name == name:
            layer.name = names.new(f"{name}_conv")
    layers[-1].name = name
    return parts
