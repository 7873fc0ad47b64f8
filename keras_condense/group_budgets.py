"""Which layers learn groups, and how many, so that a network's file takes no more than a share of what it takes now.

Each layer has options: pairs of groups and condense factor. An option saves something by the target's table of costs,
and loses something: by default the share of the layer's importance (the sum of |kernel|, CondenseNet's criterion) that
is dropped. Those that lose least for what they save are taken first, until the cheapest form of the whole network,
found as an export finds it, is within the budget.
"""

import dataclasses
import difflib
import itertools
import logging
import math
import numbers
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_condense.choosing import Examined
from keras_condense.learning_convolutions import FACTORS, possible_factors, saves_nothing
from keras_condense.rewriting import reachable_layers
from keras_condense.tflite.group_costs import GroupCosts, Plan
from keras_condense.validation import shown

__all__ = ["NOT_NEEDED", "Planned", "check_budget", "check_sensitivity", "check_told_apart", "helpful", "planned"]

logger = logging.getLogger(__name__)

NOT_NEEDED = "is not needed for the budget"
_NAMESAKE = "shares its name with another layer, from whose its cost can't be told"

# a plan that is so little below the budget is taken, and so many are tried
_NEAR_ENOUGH = 0.01
_MOST_TRIALS = 8
_MOST_REPAIRS = 3
_SHOWN = 5  # layers that a message names

Factors = tuple[int, int]
_Option = tuple[float, float, Factors]  # what it saves and loses


@dataclasses.dataclass(frozen=True)
class _Step:
    """One layer's next option: what it saves and loses beyond the one before it."""

    layer: str
    factors: Factors
    saves: float
    loses: float


@dataclasses.dataclass(frozen=True)
class Planned:
    """What was decided.

    Attributes:
        factors: groups and condense factor by the layer's own name.
        examined: every convolution, with the reason why it is left.
        share: what the network's file takes of what it takes now.
    """

    factors: Plan
    examined: list[Examined]
    share: float


def check_budget(budget: Any, groups: Any, condense_factor: Any) -> float:
    """Return the budget; ValueError for one out of range, or where the arguments that it decides are given too."""
    if not isinstance(budget, numbers.Real) or isinstance(budget, bool) or not 0 < budget < 1:
        raise ValueError(
            f"`budget` (={shown(budget)}) must be a number above 0 and below 1, the share of the cost that may be "
            "left. Use 0.6 for three fifths."
        )
    for name, value in (("groups", groups), ("condense_factor", condense_factor)):
        if value is not None:
            raise ValueError(
                f"`{name}` (={shown(value)}) must be left out with a `budget`, which chooses it for each layer. Leave "
                "it out, or the budget."
            )
    return float(budget)


def check_sensitivity(sensitivity: Any, examined: list[Examined], model: keras.Model) -> None:
    """Raise ValueError unless `sensitivity` is None or gives numbers to names of the model's convolutions."""
    if sensitivity is None:
        return
    if not isinstance(sensitivity, Mapping):
        raise ValueError(
            f"`sensitivity` (={shown(sensitivity)}) must be a mapping from the names of layers to the accuracy lost. "
            "Leave it out to have the kernels tell."
        )
    known = [name for name, _, _ in examined]
    for name, lost in sensitivity.items():
        if name not in known:
            alike = difflib.get_close_matches(str(name), known, n=3)
            raise ValueError(
                f"`sensitivity` (of {shown(name)}) must be of convolutions of model {model.name!r}, which has none of "
                f"that name. Use {' or '.join(map(repr, alike)) or 'names'} that `explain_learn_groups(model)` shows."
            )
        if not isinstance(lost, numbers.Real) or isinstance(lost, bool) or not math.isfinite(lost):
            raise ValueError(
                f"`sensitivity` (of {name!r}: {shown(lost)}) must be a finite number, the accuracy lost. Leave the "
                "layer out to have it left."
            )


def check_told_apart(model: keras.Model, names: Iterable[str]) -> None:
    """Raise ValueError where one of the layers that learn groups has a name that another layer has too."""
    if ambiguous := sorted(_namesakes(model) & set(names)):
        raise ValueError(
            f"`model` (={model.name!r}) must have a name for each layer for costs to be told, and several are called "
            f"{ambiguous[0]!r}. Leave `target` out, or name them otherwise."
        )


def _namesakes(model: keras.Model) -> set[str]:
    """Names that several layers of a model's graph have, in models that are nested in it."""
    layers = {id(layer): layer.name for _, layer in reachable_layers(model)}
    return {name for name, count in Counter(layers.values()).items() if count > 1}


def planned(
    model: keras.Model,
    examined: list[Examined],
    costs: GroupCosts,
    budget: float,
    sensitivity: Mapping[str, float] | None,
    target: str,
) -> Planned:
    """Decide which of the convolutions that can learn groups do, and how many.

    Args:
        model: the model.
        examined: its convolutions, those that can learn groups without a reason.
        costs: of the model on the target.
        budget: the share of the cost of the model's own file that may be left.
        sensitivity: accuracy that is lost where a layer learns groups, by the layer's name; None for what the kernels
            tell.
        target: for messages.

    Raises:
        ValueError: a budget that is not reached.
    """
    examined = _restricted(examined, _namesakes(model), sensitivity)
    layers = {layer.name: (name, layer) for name, layer, reason in examined if reason is None}
    saved = _priced([layer for _, layer in layers.values()], costs)
    options: dict[str, list[_Option]] = {}
    for own, (name, layer) in layers.items():
        weight = 1.0 if sensitivity is None else max(sensitivity[name], 0.0)
        useful = [factors for factors in possible_factors(layer) if saved[factors][own] > 0]
        options[own] = [(saved[factors][own], weight * costs.lost(own, *factors), factors) for factors in useful]
    steps = [step for own, of_layer in options.items() for step in _steps(own, of_layer)]
    steps.sort(key=lambda step: (step.loses / step.saves, -step.saves))
    plan, share = _search(steps, costs, budget)
    if share > budget:  # another plan may come further: in one form of the network layers save for each other
        most = {own: possible_factors(layer)[-1] for own, (_, layer) in layers.items()}
        rivals = [most, helpful(most, costs)]
        plan = min([plan, *rivals], key=lambda each: costs.of(each).total)
        share = costs.share(plan)
    if share > budget:
        raise ValueError(_unreached(examined, plan, share, costs, budget, target))
    plan, share, useless = _without_useless(plan, share, steps, costs, budget)
    plan, share = _relaxed(plan, share, options, costs, budget)
    able = {step.layer for step in steps} - useless

    def reason(layer: keras.layers.Layer) -> str | None:
        if layer.name in plan:
            return None
        return NOT_NEEDED if layer.name in able else saves_nothing(target, costs.scheme.name)

    return Planned(plan, [(name, layer, why or reason(layer)) for name, layer, why in examined], share)


def _restricted(
    examined: list[Examined], ambiguous: set[str], sensitivity: Mapping[str, float] | None
) -> list[Examined]:
    """What was examined, without layers of which the costs, or the sensitivity, are not known."""

    def reason(name: str, layer: keras.layers.Layer) -> str | None:
        if layer.name in ambiguous:
            return _NAMESAKE
        return None if sensitivity is None or name in sensitivity else "is not in `sensitivity`"

    return [(name, layer, why or reason(name, layer)) for name, layer, why in examined]


def _priced(layers: Sequence[keras.layers.Layer], costs: GroupCosts) -> dict[Factors, dict[str, float]]:
    """For each pair of factors what each layer saves where all layers of its kind have that pair, if they can.

    In company, since a single sparse layer saves nothing. Layers with windows are priced apart, and without sparse
    kernels, which they rarely become.
    """
    saved: dict[Factors, dict[str, float]] = {factors: {} for factors in FACTORS}
    for factors in FACTORS:
        for pointwise in (True, False):
            kind = [layer for layer in layers if _is_pointwise(layer) == pointwise]
            able = [layer.name for layer in kind if factors in possible_factors(layer)]
            saved[factors] |= _saved(dict.fromkeys(able, factors), costs, sparse=pointwise)
    return saved


def _is_pointwise(layer: keras.layers.Layer) -> bool:
    return tuple(layer.kernel_size) == (1, 1)


def _saved(plan: Plan, costs: GroupCosts, *, sparse: bool = True) -> dict[str, float]:
    """What each layer of a plan saves."""
    after = costs.of(plan, sparse=sparse).layers if plan else {}
    return {name: costs.now.layers.get(name, 0.0) - after.get(name, 0.0) for name in plan}


def _steps(name: str, options: list[_Option]) -> list[_Step]:
    """A layer's options, each as a step from the one before it.

    They are the corners of the lower convex hull, so that each step loses more for what it saves.
    """
    corners: list[tuple[float, float, Factors | None]] = [(0.0, 0.0, None)]
    for saves, loses, factors in sorted(options):
        while len(corners) > 1 and _slope(corners[-2], (saves, loses)) <= _slope(corners[-2], corners[-1]):
            corners.pop()
        if saves > corners[-1][0]:
            corners.append((saves, loses, factors))
    return [
        _Step(name, later[2], later[0] - earlier[0], later[1] - earlier[1])
        for earlier, later in itertools.pairwise(corners)
    ]


def _slope(start: Sequence, end: Sequence) -> float:
    return (end[1] - start[1]) / (end[0] - start[0]) if end[0] > start[0] else np.inf


def _search(steps: list[_Step], costs: GroupCosts, budget: float) -> tuple[Plan, float]:
    """The first steps, as few as were found to be within the budget; all if none are.

    Steps are taken for what they save where all layers learn groups, so that the network is lowered to see what it
    comes to. Between a number of steps that is too few and one that suffices, the next to be tried is where the line
    through both meets the budget, and by turns the middle.
    """

    def plan_of(count: int) -> dict[str, Factors]:
        return {step.layer: step.factors for step in steps[:count]}

    if not steps:
        return {}, 1.0
    saved = np.cumsum([0.0, *(step.saves for step in steps)])
    few, many = (0, 1.0), (len(steps), costs.share(plan_of(len(steps))))
    for trial in range(_MOST_TRIALS):
        if many[1] > budget or many[0] - few[0] <= 1 or many[1] > budget - _NEAR_ENOUGH:
            break
        between = (few[1] - budget) / (few[1] - many[1]) if trial % 2 == 0 else 0.5
        wanted = saved[few[0]] + between * (saved[many[0]] - saved[few[0]])
        count = int(np.clip(np.searchsorted(saved, wanted), few[0] + 1, many[0] - 1))
        share = costs.share(plan_of(count))
        logger.debug("%d of %d steps: %.3f", count, len(steps), share)
        if share <= budget:
            many = (count, share)
        else:
            few = (count, share)
    return plan_of(many[0]), many[1]


def helpful(plan: Plan, costs: GroupCosts) -> dict[str, Factors]:
    """A plan without the layers that save nothing in it."""
    saved = _saved(plan, costs)
    return {name: factors for name, factors in plan.items() if saved[name] > 0}


def _without_useless(
    plan: Plan, share: float, steps: list[_Step], costs: GroupCosts, budget: float
) -> tuple[Plan, float, set[str]]:
    """A plan without layers that save nothing as the network is lowered, where one meets the budget.

    Returns:
        The plan, its share, and the layers that save nothing.
    """
    useless: set[str] = set()
    for _ in range(_MOST_REPAIRS):
        useful = helpful(plan, costs)
        found = useless | (plan.keys() - useful.keys())
        if found == useless:
            break
        other, of_other = useful, costs.share(useful)
        if of_other > budget:  # others in their place
            other, of_other = _search([step for step in steps if step.layer not in found], costs, budget)
        if of_other > budget:
            break
        plan, share, useless = other, of_other, found
    return plan, share, useless


def _relaxed(
    plan: Plan, share: float, options: Mapping[str, list[_Option]], costs: GroupCosts, budget: float
) -> tuple[Plan, float]:
    """The plan with options that lose less, or none, where there is room for it: those that lose most first."""
    chosen = {
        own: next((option for option in options[own] if option[2] == plan[own]), (0.0, 0.0, plan[own])) for own in plan
    }
    trials = 0
    for own in sorted(plan, key=lambda own: -chosen[own][1]):
        saves, loses, _ = chosen[own]
        room = (budget - share) * costs.now.total
        milder = [(0.0, 0.0, None), *options[own]]
        fitting = [option for option in milder if option[1] < loses and saves - option[0] <= room]
        if not fitting or trials == _MOST_TRIALS:
            continue
        factors, trials = min(fitting, key=lambda option: option[1])[2], trials + 1
        other = {name: each for name, each in plan.items() if name != own} | ({own: factors} if factors else {})
        if other and (of_other := costs.share(other)) <= budget:
            plan, share = other, of_other
    return plan, share


def _unreached(
    examined: list[Examined], plan: Plan, share: float, costs: GroupCosts, budget: float, target: str
) -> str:
    """The message for a budget that is not reached: how near it came, and what holds it."""
    reasons = {layer.name: (name, reason) for name, layer, reason in examined if layer.name not in plan}
    held = sorted((cost, own) for own, cost in costs.of(plan).layers.items() if own not in plan and cost > 0)
    lines = ""
    for cost, own in held[: -_SHOWN - 1 : -1]:
        name, reason = reasons.get(own, (own, "is no convolution"))
        lines += (
            f"\n{name!r} ({100 * cost / costs.now.total:.1f} %) {reason or saves_nothing(target, costs.scheme.name)}"
        )
    held_by = f"Most of what is left is in layers that don't learn groups:{lines}\n" if lines else ""
    return (
        f"`budget` (={budget:g}) must be a share of the model's cost that learned groups can reach, and on {target!r} "
        f"they come to {share:.3f}. {held_by}Give a larger one."
    )
