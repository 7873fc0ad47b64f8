"""`compress`: learned groups, pruned weights, int8 and a teacher in one plan, in the order that they need."""

import dataclasses
import difflib
from collections.abc import Callable, Iterable
from typing import Any

import keras

from keras_condense.choosing import (
    NOT_CHOSEN,
    ChosenLayer,
    Where,
    examined_layers,
    names_in,
    rows_of,
)
from keras_condense.compression_plans import CompressionPlan, PlannedLayer, planned_layers
from keras_condense.compressions import PrunedWeights
from keras_condense.distillation import check_teacher, taught
from keras_condense.group_budgets import NOT_NEEDED
from keras_condense.learned_group_tables import summary
from keras_condense.learned_groups import checked_choice, decide_groups
from keras_condense.learning_convolutions import saves_nothing
from keras_condense.quantizing import explain_quantize_aware, quantize_aware
from keras_condense.rewriting import check_rewritable, check_untied, reachable_layers
from keras_condense.tflite.calibration import representative_rows
from keras_condense.tflite.group_costs import GroupCosts, check_target
from keras_condense.tflite.schemes import INT8_BY_RANGES, SCHEMES
from keras_condense.tflite.signature import inputs_of
from keras_condense.validation import check_choice, shown
from keras_condense.weight_pruning import explain_prune_weights, prune_weights

__all__ = ["compress"]

_INT8 = INT8_BY_RANGES.name
_FROZEN = "is frozen: set its `trainable` to True"
_BY_CHOICE = (NOT_CHOSEN, NOT_NEEDED)  # no reasons to refuse

Rows = tuple[ChosenLayer, ...]


def compress(
    model: keras.Model,
    *,
    budget: float | None = None,
    groups: int | None = None,
    condense_factor: int | None = None,
    sparsity: float | None = None,
    block: int = 1,
    quantize: str | None = None,
    data: Any = None,
    target: str | None = "arm64",
    teacher: keras.Model | str | None = None,
    where: Where = None,
    strict: bool = False,
    report: bool = False,
) -> CompressionPlan:
    """Make of a trained model one that becomes smaller while it is trained: the verbs of this package in one plan.

    What is asked for is done in this order: convolutions learn groups (`learn_groups`), layers that learn none are
    pruned (`prune_weights`), the whole is made to compute in int8's numbers (`quantize_aware`), and a teacher is put
    beside it (`distill`). Layers that can't be changed so are left, and so are those of which a target's table says
    that it would save no time; the plan says why. For more arguments call the verbs one after the other.

    Args:
        model: a functional or built sequential model, with nested models or without. It is left as it is.
        budget: the share of the cost that learned groups may leave, as `learn_groups` takes it, for files of `quantize`
            on `target`: which layers learn groups, and how many, follows from it.
        groups: G of each layer that learns groups, in the place of a budget.
        condense_factor: C, with `groups`; by default 4.
        sparsity: the share of weights that is zero in the end, of each layer that is pruned. In float32 that is to save
            time, and layers whose zeros no kernel skips are left, such as dense ones. Files of other numbers store the
            zeros: there pruning makes the download smaller, and no inference faster, as the plan says.
        block: with `sparsity`, as `prune_weights` takes it.
        quantize: what numbers the file is to hold, as `export_tflite` takes it. With "int8" the new model is trained in
            them; the others change costs alone.
        data: for "int8", some hundred inputs from which ranges are known before training, as `quantize_aware` takes
            them. None: they begin with the first batch.
        target: whose table of costs tells what saves time, as `export_tflite` takes it. None leaves no layer for what
            it costs, and a budget is that of "arm64" then.
        teacher: whose outputs the new model learns from as well: "self" for a copy of `model`, another classifier, or
            None.
        where: which layers learn groups or are pruned: None for those that each does by default; a function of a
            layer; or names, each of which must be able to have one of the two.
        strict: refuse a plan that leaves a layer, but for those that `where` or the budget leaves out.
        report: print the plan.

    Returns:
        A `CompressionPlan`: `.model` for `fit` and `export_tflite`, compiled as `model` is; `.callbacks` for that
        `fit`; `.layers`, what is done to each. `print` it for a table.

    Raises:
        ValueError: nothing asked for; nothing that can be done, with the reason for each layer; a budget that groups
            alone don't reach; with `strict`, a layer that is left; an argument that the verbs refuse, or that has no
            meaning with the others.

    Example:
        >>> model = keras.Sequential([
        ...     keras.Input((8, 8, 16)),
        ...     keras.layers.Conv2D(64, 1, activation="relu", name="wide"),
        ...     keras.layers.Conv2D(64, 1, activation="relu", name="deep"),
        ...     keras.layers.GlobalAveragePooling2D(),
        ...     keras.layers.Dense(10, activation="softmax", name="scores"),
        ... ])
        >>> plan = compress(model, groups=4, quantize="int8", target=None, teacher="self", where="deep")
        >>> [(layer.name, layer.done) for layer in plan.layers]
        [('wide', ('int8',)), ('deep', ('4 groups of 1/4 of the inputs', 'int8')), ('scores', ('int8',))]
        >>> [type(callback).__name__ for callback in plan.callbacks], type(plan.model).__name__
        (['CondenseSchedule', 'QuantizeSchedule'], 'Distiller')
        >>> compress(model)
        Traceback (most recent call last):
        ...
        ValueError: `compress` must be told what to do. Give `budget` or `groups`, `sparsity`, or quantize="int8".
    """
    check_choice("strict", strict, (False, True), "True refuses a plan that leaves a layer.")
    check_choice("report", report, (False, True), "True prints the plan.")
    is_grouping, is_pruning = budget is not None or groups is not None, sparsity is not None
    _check_together(budget, groups, condense_factor, sparsity, block, quantize, data, where)
    check_target(target, quantize, needed=True)
    choice, *_ = checked_choice(groups, condense_factor, budget)
    if is_pruning:
        PrunedWeights(sparsity, block)  # which checks them
    check_rewritable(model)
    check_untied(model)
    check_teacher(teacher, model)
    explaining = {
        "learn groups": lambda chosen: rows_of(examined_layers(model, chosen, choice)),
        "be pruned": lambda chosen: explain_prune_weights(model, block, chosen).layers,
    }
    asked = [what for what, is_asked in zip(explaining, (is_grouping, is_pruning), strict=True) if is_asked]
    candidates = _candidates(model, where, {what: explaining[what] for what in asked})
    in_int8 = explain_quantize_aware(model) if quantize == _INT8 else None
    rows = None if data is None else representative_rows(data, inputs_of(model), "data")

    trained = {id(variable) for variable in model.trainable_variables}

    def frozen(layer: keras.layers.Layer) -> str | None:
        return None if id(layer.kernel) in trained else _FROZEN

    grouping = pruning = share = None
    if is_grouping:
        priced = quantize if target or budget is not None else None
        decided = decide_groups(
            model, groups, condense_factor, candidates["learn groups"], budget, target, priced, also_left=frozen
        )
        grouping = decided if budget is not None or target is None else decided.without_useless()
    network = grouping.learning(model) if grouping and grouping.factors else model
    if is_pruning:
        pruning = _pruning(model, network, sparsity, block, candidates["be pruned"], target, quantize, frozen)
        network = pruning.model
    layers = planned_layers(
        model,
        grouped=summary(model, grouping.examined, grouping.factors).layers if grouping else (),
        pruned=pruning.rows if pruning else (),
        in_int8=in_int8.layers if in_int8 else (),
        sparsity=sparsity,
        note=pruning and pruning.note,
    )
    _check_done(layers, model, strict)
    if target is not None and network is not model:
        share = GroupCosts(network, target, quantize).now.total / GroupCosts(model, target, quantize).now.total
    if in_int8 is not None:
        network = quantize_aware(network, rows)
    plan = CompressionPlan(taught(network, teacher, model), layers, target, quantize, share)
    if report:
        print(plan)
    return plan


def _check_together(
    budget: Any, groups: Any, condense_factor: Any, sparsity: Any, block: Any, quantize: Any, data: Any, where: Any
) -> None:
    """Raise ValueError for arguments that say nothing, or nothing with the others."""
    check_choice("quantize", quantize, tuple(SCHEMES), "Leave it out for float32.")
    if budget is None and groups is None and sparsity is None and quantize != _INT8:
        raise ValueError(
            '`compress` must be told what to do. Give `budget` or `groups`, `sparsity`, or quantize="int8".'
        )
    needs = (
        ("condense_factor", condense_factor, None, groups is not None or budget is not None, "`groups`"),
        ("block", block, 1, sparsity is not None, "`sparsity`"),
        ("data", data, None, quantize == _INT8, f'quantize="{_INT8}"'),
    )
    for name, value, default, has_meaning, other in needs:
        if value is not default and not has_meaning:
            raise ValueError(f"`{name}` (={shown(value)}) must come with {other}. Give both, or leave `{name}` out.")
    if where is not None and budget is None and groups is None and sparsity is None:
        raise ValueError(
            f"`where` (={shown(where)}) must come with `budget`, `groups` or `sparsity`: int8 is for all layers. Leave "
            "it out."
        )


def _candidates(model: keras.Model, where: Where, explain: dict[str, Callable[[Where], Rows]]) -> dict[str, Where]:
    """For each thing that layers can do, which of them may: `where`, or those of its names that are able to."""
    names = names_in(where, "what each step takes by default")
    if names is None:
        return dict.fromkeys(explain, where)
    rows = {what: of_all(lambda layer: True) for what, of_all in explain.items()}
    able = {what: {row.name for row in of_all if row.reason is None} for what, of_all in rows.items()}
    known = list(dict.fromkeys(row.name for of_all in rows.values() for row in of_all))
    for name in names:
        if name not in known:
            alike = difflib.get_close_matches(name, known, n=3) or known[:3]
            raise ValueError(
                f"`where` (={name!r}) must be the name of a convolution or dense layer of model {model.name!r}, which "
                f"has none of that name. Use {' or '.join(map(repr, alike)) or 'another model'}."
            )
        if not any(name in of_all for of_all in able.values()):
            reasons = dict.fromkeys(row.reason for of_all in rows.values() for row in of_all if row.name == name)
            raise ValueError(
                f"`where` (={name!r}) must be the name of a layer that can {' or '.join(explain)}, and this one "
                f"{', and '.join(reasons)}. Leave it out."
            )
    return {what: [name for name in names if name in of_all] for what, of_all in able.items()}


@dataclasses.dataclass(frozen=True)
class _Pruning:
    """Which layers are pruned.

    Attributes:
        model: the new model.
        rows: a row for each layer, with the reason why it is left.
        note: what it does not save.
    """

    model: keras.Model
    rows: Rows
    note: str | None


def _pruning(
    model: keras.Model,
    network: keras.Model,
    sparsity: float,
    block: int,
    where: Where,
    target: str | None,
    quantize: str | None,
    frozen: Callable[[keras.layers.Layer], str | None],
) -> _Pruning:
    """Prune what of `network`, which may learn groups, may be pruned and pays.

    `where` and `frozen` are asked about the layers of `model`, of which it was made.
    """
    layers = dict(reachable_layers(model))
    learning = {row.name for row in explain_prune_weights(network, block).layers if row.reason is None}
    rows = [
        dataclasses.replace(row, reason=frozen(layers[row.name])) if row.reason is None else row
        for row in explain_prune_weights(model, block, where).layers
    ]
    names = [row.name for row in rows if row.reason is None and row.name in learning]
    skips_zeros = SCHEMES[quantize].sparse
    note = None if skips_zeros else f"{quantize} files store zeros: a smaller download, and no less time"
    pruned, paying = network, names
    if names:
        pruned = prune_weights(network, sparsity, block, names)
        if skips_zeros and target is not None:
            pruned, paying = _paying(network, pruned, names, sparsity, block, target)
    useless = f"{saves_nothing(target or '')}: no kernel there skips its zeros for less"
    rows = [dataclasses.replace(row, reason=useless) if row.name in set(names) - set(paying) else row for row in rows]
    return _Pruning(pruned, tuple(rows), note)


def _paying(
    network: keras.Model, pruned: keras.Model, names: list[str], sparsity: float, block: int, target: str
) -> tuple[keras.Model, list[str]]:
    """The model in which those layers alone are pruned that cost less by the target's table then, and their names.

    By turns, since layers that are executed channels-first save for each other.
    """
    own = {name: layer.name for name, layer in reachable_layers(network)}
    before = GroupCosts(network, target).now
    while names:
        after = GroupCosts(pruned, target).now
        saved = {name: before.layers.get(own[name], 0.0) - after.layers.get(own[name], 0.0) for name in names}
        paying = [name for name in names if saved[name] > 0 and after.total < before.total]
        if len(paying) == len(names):
            return pruned, names
        pruned = prune_weights(network, sparsity, block, paying) if paying else network
        names = paying
    return network, []


def _check_done(layers: Iterable[PlannedLayer], model: keras.Model, strict: bool) -> None:
    """Raise ValueError for a plan in which nothing is done or, with `strict`, in which a layer is left."""
    reasons = [(layer.name, reason) for layer in layers for reason in layer.left]
    if not any(layer.done for layer in layers):
        lines = "".join(f"\n{name!r} {reason}" for name, reason in reasons) or "\nit has no such layer at all"
        raise ValueError(
            f"`model` (={model.name!r}) must have a layer that can be compressed so, and has none:{lines}\nGive other "
            "arguments, or target=None to go by no table of costs."
        )
    refused = [(name, reason) for name, reason in reasons if not reason.endswith(_BY_CHOICE)]
    if strict and refused:
        lines = "".join(f"\n{name!r} {reason}" for name, reason in refused)
        raise ValueError(
            f"`model` (={model.name!r}) must have no layer that is left with strict=True:{lines}\nChoose others with "
            "`where`, or leave `strict` out."
        )
