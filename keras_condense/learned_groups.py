"""Learned groups for a network that was made and trained without them."""

import functools
from typing import Any

import keras
import numpy as np

from keras_condense.choosing import (
    Choice,
    ChosenLayer,
    ChosenLayers,
    Examined,
    Where,
    common_arguments,
    examined_layers,
    replace_chosen,
    rows_of,
    unfit_to_mask,
)
from keras_condense.distillation import check_teacher, taught
from keras_condense.layers import GroupConv2D, LearnedGroupConv2D, PrunedConv2D, SparseFeatureReactivation
from keras_condense.layers.convolution import CONVOLUTION_ARGUMENTS
from keras_condense.layers.stand_in import KERNEL_ARGUMENTS
from keras_condense.rewriting import Replacement
from keras_condense.validation import check_choice, check_not_negative, check_positive_integer

__all__ = ["LearnableLayer", "LearnableLayers", "Where", "explain_learn_groups", "learn_groups", "learnable_layers"]

# convolutions that have no groups to learn, and why
_OTHER_KINDS = {
    (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D): "is depthwise: each filter reads a single input",
    (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D): "is separable: it is two convolutions in one",
    (
        keras.layers.Conv1DTranspose,
        keras.layers.Conv2DTranspose,
        keras.layers.Conv3DTranspose,
    ): "is a transposed convolution",
    (keras.layers.Conv1D, keras.layers.Conv3D): "does not convolve in two dimensions",
}
_ORDINARY_KINDS = (keras.layers.Conv2D, GroupConv2D)
_LEARNED_KINDS = (LearnedGroupConv2D, SparseFeatureReactivation, PrunedConv2D)
_CONVOLUTIONS = (*_ORDINARY_KINDS, *_LEARNED_KINDS, *(kind for kinds in _OTHER_KINDS for kind in kinds))
# arguments that an ordinary convolution and a learned one have in common; an initializer or a function is handed on as
# it is, whether Keras could save it or not
_SHARED_ARGUMENTS = (*CONVOLUTION_ARGUMENTS, *KERNEL_ARGUMENTS)


class LearnableLayer(ChosenLayer):
    """A convolution of a model: does it learn groups, or why not?

    Attributes:
        name: the layer's name, with those of the models that hold it before it.
        kind: the layer's class.
        kernel: the kernel's shape: (height, width, inputs, filters) where there are two dimensions.
        reason: why the layer is left as it is; None for one that learns groups.
    """


class LearnableLayers(ChosenLayers):
    """What `learn_groups` does to each convolution of a model; `print` it for a table.

    Attributes:
        model: the model's name.
        layers: a row for each convolution, in the model's order.
    """

    things, they_do, it_does = "convolutions", "learn groups", "learns groups"

    @property
    def learned(self) -> tuple[str, ...]:
        """Names of the layers that learn groups."""
        return self.chosen


def learn_groups(
    model: keras.Model,
    groups: int = 4,
    condense_factor: int = 4,
    where: Where = None,
    *,
    group_lasso: float = 0.0,
    report: bool = False,
    teacher: keras.Model | str | None = None,
) -> keras.Model:
    """Replace a trained model's ordinary convolutions by `LearnedGroupConv2D` layers that hold the same weights.

    The new model computes what the model computes, until training with `CondenseSchedule` condenses it (CondenseNet,
    section 3.1); `condense` and `export_tflite` then work on it as on the networks of this package. Filter f of a
    layer belongs to group f mod `groups`. Everything else stays: names, strides, padding, dilation, bias, activation,
    regularizers, initializers, constraints, dtypes, `trainable`, layers and nested models that are shared, inputs and
    outputs. Convolutions that can't learn groups are left as they are; `explain_learn_groups` gives the reasons.
    `CondenseSchedule` leaves frozen layers alone: set `trainable` to True to have them condensed.

    Args:
        model: a functional or built sequential model, with nested models or without. It is left as it is.
        groups: G, the groups of filters that each layer learns; layers whose filters it does not divide are left.
        condense_factor: C; in the end each group reads 1 / C of the layer's inputs. Layers whose inputs it does not
            divide are left.
        where: which convolutions learn groups: None for those with a 1x1 kernel; a function of a layer that answers
            with True or False (it is asked about ordinary 2-D convolutions only); or one or more names, as
            `explain_learn_groups` shows them.
        group_lasso: weight of the group lasso of each layer while it is not condensed.
        report: print what `explain_learn_groups` returns.
        teacher: whose outputs the new model learns from as well, by `distill` with its defaults: "self" for a copy of
            `model` as it is now, or another trained model. None for labels alone.

    Returns:
        The new model, compiled as `model` is, with a fresh optimizer. With a teacher, the Distiller that trains it.

    Raises:
        ValueError: no layer that can learn groups, with the reason for each; an argument out of range; a name that is
            no convolution's, or that of one that can't learn groups; a model that has no graph to rewrite; a layer that
            can't be copied, or that lies inside two others, whose copies would be trained apart; a `teacher` that
            `distill` refuses.

    Example:
        >>> model = keras.Sequential([
        ...     keras.Input((8, 8, 3)),
        ...     keras.layers.Conv2D(16, 3, name="stem"),
        ...     keras.layers.Conv2D(32, 1, activation="relu", name="conv"),
        ... ])
        >>> learning = learn_groups(model)
        >>> [(layer.name, type(layer).__name__) for layer in learning.layers]
        [('stem', 'Conv2D'), ('conv', 'LearnedGroupConv2D')]
        >>> learn_groups(model, groups=3)
        Traceback (most recent call last):
        ...
        ValueError: `model` (='sequential...') must have a convolution that can learn groups, and has none:
        'stem' has a 3x3 kernel, and `where` chooses 1x1 kernels by default
        'conv' has 32 filters, which `groups` (=3) does not divide
        Give another `where`, `groups` or `condense_factor`.
    """
    group_lasso = check_not_negative("group_lasso", group_lasso, "Use 0 for none; the paper uses 1e-5 on ImageNet.")
    check_choice("report", report, (False, True), "True prints which layers learn groups.")
    choice = _choice(groups, condense_factor)
    examined = examined_layers(model, where, choice)
    check_teacher(teacher, model)

    def learned(layer: keras.layers.Layer) -> Replacement:
        return _learned(layer, groups, condense_factor, group_lasso)

    fix = "Give another `where`, `groups` or `condense_factor`."
    learning = replace_chosen(model, examined, choice, learned, fix)
    if report:
        print(_summary(model, examined))
    return taught(learning, teacher, model)


def explain_learn_groups(
    model: keras.Model, groups: int = 4, condense_factor: int = 4, where: Where = None
) -> LearnableLayers:
    """Say which convolutions of a model `learn_groups` would replace, and why it would leave the others.

    Args:
        model: as `learn_groups` takes it, and so are the other arguments.
        groups: G.
        condense_factor: C.
        where: which convolutions learn groups.

    Returns:
        A `LearnableLayers`, with a readable `str`.

    Raises:
        ValueError: as `learn_groups`; a model without a layer that can learn groups is no error here.

    Example:
        >>> model = keras.Sequential([
        ...     keras.Input((8, 8, 4)),
        ...     keras.layers.DepthwiseConv2D(3, name="depthwise"),
        ...     keras.layers.Conv2D(32, 1, name="pointwise"),
        ...     keras.layers.Conv2D(30, 1, name="odd"),
        ... ])
        >>> layers = explain_learn_groups(model)
        >>> layers.learned
        ('pointwise',)
        >>> layers.left["depthwise"], layers.left["odd"]
        ('is depthwise: each filter reads a single input', 'has 30 filters, which `groups` (=4) does not divide')
    """
    return _summary(model, examined_layers(model, where, _choice(groups, condense_factor)))


learnable_layers = explain_learn_groups  # its former name


def _summary(model: keras.Model, examined: list[Examined]) -> LearnableLayers:
    return LearnableLayers(model.name, rows_of(examined, LearnableLayer))


def _choice(groups: Any, condense_factor: Any) -> Choice:
    """How convolutions are chosen, the arguments checked."""
    groups = check_positive_integer("groups", groups, "Use 4, as the paper does for CIFAR.")
    condense_factor = check_positive_integer(
        "condense_factor", condense_factor, "Use 4, and one connection in four is left at the end."
    )
    return Choice(
        kinds=_CONVOLUTIONS,
        things="convolutions",
        can="learn groups",
        unfit=_unfit,
        default=_not_pointwise,
        too_small=functools.partial(_indivisible, groups=groups, condense_factor=condense_factor),
        default_in_words="convolutions with a 1x1 kernel",
        explained_by="explain_learn_groups",
    )


def _unfit(layer: keras.layers.Layer, holder: str | None) -> str | None:
    """Why a layer has no groups to learn, whoever chooses it; None if it has."""
    for kinds, reason in _OTHER_KINDS.items():
        if isinstance(layer, kinds):
            return reason
    if isinstance(layer, PrunedConv2D):
        return "is pruned already"
    if isinstance(layer, _LEARNED_KINDS):
        return "learns its groups already"
    return unfit_to_mask(layer, holder, _ORDINARY_KINDS, "learned groups")


def _indivisible(layer: keras.layers.Layer, groups: int, condense_factor: int) -> str | None:
    """Why a convolution is too small for so many groups, or does not divide into them; None if it does."""
    for count, things, argument, divisor in (
        (layer.kernel.shape[2], "inputs", "condense_factor", condense_factor),
        (layer.filters, "filters", "groups", groups),
    ):
        if count < divisor:
            return f"is too small: it has {count} {things}, and `{argument}` is {divisor}"
        if count % divisor:
            return f"has {count} {things}, which `{argument}` (={divisor}) does not divide"
    return None


def _not_pointwise(layer: keras.layers.Layer) -> str | None:
    height, width = layer.kernel_size
    if (height, width) == (1, 1):
        return None
    return f"has a {height}x{width} kernel, and `where` chooses 1x1 kernels by default"


def _learned(layer: keras.layers.Layer, groups: int, condense_factor: int, group_lasso: float) -> Replacement:
    """The layer that computes what a convolution computes and learns its groups."""
    arguments = common_arguments(layer, _SHARED_ARGUMENTS)
    learned = LearnedGroupConv2D(**arguments, groups=groups, condense_factor=condense_factor, group_lasso=group_lasso)
    mask = np.ones((groups, layer.kernel.shape[2]))
    return [(learned, [*layer.get_weights(), mask])]
