"""Learned groups for a network that was made and trained without them."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_condense.choosing import Choice, Examined, Where, examined_layers, replace_chosen
from keras_condense.distillation import check_teacher, taught
from keras_condense.group_budgets import check_budget, check_sensitivity, check_told_apart, helpful, planned
from keras_condense.learned_group_tables import LearnableLayer, LearnableLayers, summary
from keras_condense.learning_convolutions import fixed_choice, free_choice, learning_layer, saves_nothing
from keras_condense.rewriting import Replacement
from keras_condense.tflite.group_costs import GroupCosts, check_target
from keras_condense.validation import check_choice, check_not_negative, check_positive_integer, shown

__all__ = [
    "GroupDecision",
    "LearnableLayer",
    "LearnableLayers",
    "Where",
    "checked_choice",
    "decide_groups",
    "explain_learn_groups",
    "learn_groups",
    "learnable_layers",
]


def learn_groups(
    model: keras.Model,
    groups: int | None = None,
    condense_factor: int | None = None,
    where: Where = None,
    *,
    budget: float | None = None,
    target: str | None = None,
    quantize: str | None = None,
    sensitivity: Mapping[str, float] | None = None,
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

    With a `budget` the function decides which layers learn groups, and for each its groups (2, 4 or 8) and condense
    factor (no larger), so that the file that `export_tflite` writes of the condensed network takes no more than that
    share of what the file of `model` takes. Layers that lose least for what they save come first, and the network is
    lowered as an export lowers it to see that the budget is met. What training changes is not foreseen: which channels
    are read by nobody, and need not be computed, depends on the weights. Layers that no table of costs knows, such as
    dense ones, count as nothing, and learn no groups.

    Args:
        model: a functional or built sequential model, with nested models or without. It is left as it is.
        groups: G, the groups of filters that each layer learns; layers whose filters it does not divide are left. By
            default 4; with a `budget` it is left out, and so is `condense_factor`.
        condense_factor: C; in the end each group reads 1 / C of the layer's inputs. Layers whose inputs it does not
            divide are left. By default 4.
        where: which convolutions learn groups: None for those with a 1x1 kernel, with a `budget` for any; a function
            of a layer that answers with True or False (it is asked about ordinary 2-D convolutions only); or one or
            more names, as `explain_learn_groups` shows them. With a `budget` the others are left, and of these those
            learn groups that are needed.
        budget: the share, between 0 and 1, of the cost of the model's own file that the condensed network's file may
            take: of instructions or of time, whatever the target's table counts.
        target: as `export_tflite` takes it, by default "arm64": whose table of costs holds. With "measure" files are
            timed on the interpreter here, and layers are compared by the table of this machine.
        quantize: as `export_tflite` takes it: what numbers both files hold.
        sensitivity: with a `budget`, the accuracy that is lost where one layer learns groups, by the layer's name, in
            any unit. Each option of a layer counts as that times the share of the layer's importance (the sum of
            |kernel|) that it drops. Layers that are not in it are left. By default all are equally sensitive.
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
            `distill` refuses; a budget that is not reached, with how near it came and what holds it, or given together
            with `groups` or `condense_factor`.

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
    decided = decide_groups(model, groups, condense_factor, where, budget, target, quantize, sensitivity)
    check_teacher(teacher, model)
    learning = decided.learning(model, group_lasso)
    if report:
        print(decided.summary(model))
    return taught(learning, teacher, model)


def explain_learn_groups(
    model: keras.Model,
    groups: int | None = None,
    condense_factor: int | None = None,
    where: Where = None,
    *,
    budget: float | None = None,
    target: str | None = None,
    quantize: str | None = None,
    sensitivity: Mapping[str, float] | None = None,
) -> LearnableLayers:
    """Say which convolutions of a model `learn_groups` would replace, and why it would leave the others.

    With a `target` it says, too, what each of them costs there, now and once the network is condensed, and marks those
    that save nothing.

    Args:
        model: as `learn_groups` takes it, and so are the other arguments.
        groups: G.
        condense_factor: C.
        where: which convolutions learn groups.
        budget: the share of the cost that may be left.
        target: whose costs are told; None for none, unless there is a `budget`.
        quantize: what numbers the files hold, in which the costs are told.
        sensitivity: accuracy that is lost, by the layer's name.

    Returns:
        A `LearnableLayers`, with a readable `str`.

    Raises:
        ValueError: as `learn_groups`; without a budget a model without a layer that can learn groups is no error here.

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
        >>> wide = [keras.layers.Conv2D(256, 1, activation="relu"), keras.layers.Conv2D(64, 1, name="narrow")]
        >>> layers = explain_learn_groups(keras.Sequential([keras.Input((8, 8, 64)), *wide]), budget=0.7)
        >>> layers.share <= 0.7, layers.layers[1].name, layers.layers[1].kernel, layers.unit
        (True, 'narrow', (1, 1, 256, 64), 'million instructions')
    """
    decided = decide_groups(model, groups, condense_factor, where, budget, target, quantize, sensitivity)
    return decided.summary(model)


learnable_layers = explain_learn_groups  # its former name


@dataclasses.dataclass(frozen=True)
class GroupDecision:
    """What happens to each convolution.

    Attributes:
        choice: the words for it.
        examined: every convolution, with the reason why it is left.
        factors: groups and condense factor of those that learn groups, by their own names.
        fix: what to change where none do, for the message.
        costs: of the model on the target, if there is one.
        target: what it is called.
        quantize: what numbers the files hold.
        share: the part of the cost that is left, if it is known.
    """

    choice: Choice
    examined: list[Examined]
    factors: Mapping[str, tuple[int, int]]
    fix: str
    costs: GroupCosts | None = None
    target: str | None = None
    quantize: str | None = None
    share: float | None = None

    def summary(self, model: keras.Model) -> LearnableLayers:
        """What it comes to."""
        return summary(model, self.examined, self.factors, self.costs, self.target, self.quantize, self.share)

    def learning(self, model: keras.Model, group_lasso: float = 0.0) -> keras.Model:
        """The new model, whose chosen layers learn groups."""

        def learned(layer: keras.layers.Layer) -> Replacement:
            return learning_layer(layer, *self.factors[layer.name], group_lasso)

        return replace_chosen(model, self.examined, self.choice, learned, self.fix)

    def without_useless(self) -> "GroupDecision":
        """The decision without layers whose groups save nothing on the target, by turns: layers save for each other."""
        factors = self.factors
        while len(useful := helpful(factors, self.costs)) < len(factors):
            factors = useful
        if self.costs.of(factors).total >= self.costs.now.total:
            factors = {}
        reason = saves_nothing(self.target, self.quantize)
        examined = [
            (name, layer, reason if why is None and layer.name not in factors else why)
            for name, layer, why in self.examined
        ]
        return dataclasses.replace(self, examined=examined, factors=factors)


def checked_choice(groups: Any, condense_factor: Any, budget: Any) -> tuple[Choice, int | None, int | None]:
    """How convolutions are chosen, and the factors that all of them have; with a budget None, each has its own."""
    if budget is not None:
        check_budget(budget, groups, condense_factor)
        return free_choice(), None, None
    groups = 4 if groups is None else groups
    groups = check_positive_integer("groups", groups, "Use 4, as the paper does for CIFAR.")
    condense_factor = 4 if condense_factor is None else condense_factor
    condense_factor = check_positive_integer(
        "condense_factor", condense_factor, "Use 4, and one connection in four is left at the end."
    )
    return fixed_choice(groups, condense_factor), groups, condense_factor


def decide_groups(
    model: Any,
    groups: Any,
    condense_factor: Any,
    where: Where,
    budget: Any,
    target: Any,
    quantize: Any,
    sensitivity: Any = None,
    also_left: Callable[[keras.layers.Layer], str | None] = lambda layer: None,
) -> GroupDecision:
    """Which convolutions learn groups and how many, the arguments checked.

    Args:
        model: as `learn_groups` takes it, and so are the others.
        groups: G.
        condense_factor: C.
        where: which convolutions learn groups.
        budget: the share of the cost that may be left.
        target: whose costs hold.
        quantize: what numbers the files hold.
        sensitivity: accuracy that is lost, by the layer's name.
        also_left: gives the reason why a layer that could learn groups is left all the same, or None.

    Raises:
        ValueError: as `learn_groups`.
    """
    check_target(target, quantize, needed=budget is not None)
    if budget is None and sensitivity is not None:
        raise ValueError(
            f"`sensitivity` (={shown(sensitivity)}) must come with a `budget`, for which it chooses layers. Give "
            "one, or choose layers with `where`."
        )
    choice, groups, condense_factor = checked_choice(groups, condense_factor, budget)
    examined = [
        (name, layer, also_left(layer) if reason is None else reason)
        for name, layer, reason in examined_layers(model, where, choice)
    ]
    if budget is None:
        factors = {layer.name: (groups, condense_factor) for _, layer, reason in examined if reason is None}
        costs = None
        if target is not None:
            check_told_apart(model, factors)
            costs = GroupCosts(model, target, quantize)
        fix = "Give another `where`, `groups` or `condense_factor`."
        return GroupDecision(choice, examined, factors, fix, costs, target, quantize)
    target = target or "arm64"
    check_sensitivity(sensitivity, examined, model)
    costs = GroupCosts(model, target, quantize)
    plan = planned(model, examined, costs, budget, sensitivity, target)
    fix = "Give another `where`, or a larger `budget`."
    return GroupDecision(choice, plan.examined, plan.factors, fix, costs, target, quantize, plan.share)
