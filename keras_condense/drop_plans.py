"""When a learned layer drops how many of its inputs (CondenseNet, arXiv 1711.09224, section 3.1).

Pure functions of numbers: a plan, the progress of the training, and the stage that follows. `masks` says which inputs.
"""

import dataclasses
import itertools
import math
import numbers
from collections.abc import Iterable, Sequence

from keras_condense.validation import check_choice, check_fraction, check_positive_integer, shown

__all__ = ["DropPlan", "drop_plan", "final_stage", "inputs_left", "progress_from_stages", "stage_from_progress"]

SHAPES = ("even", "cubic")
_LARGEST_CONDENSE_FACTOR = 2**16  # a plan holds a number for each drop, and a layer has no more inputs


@dataclasses.dataclass(frozen=True)
class DropPlan:
    """How many of its inputs each group of a layer loses, and when; `drop_plan` makes one from a layer's arguments.

    The functions below that take a plan take a condense factor too, which stands for CondenseNet's own plan.

    Attributes:
        pruned_fraction: the share of its inputs that each group has lost after the last drop, in [0, 1).
        drops_at: the progress of the training, in [0, 1), at which each drop falls.
        shape: "even" for drops of the same size; "cubic" for large ones at first and small ones at the end, after
            s of n drops the share 1 - (1 - s / n)^3 of all (Zhu and Gupta, arXiv 1710.01878, equation 1).

    Raises:
        ValueError: an attribute out of its range.

    Example:
        >>> plan = DropPlan(0.3, (1 / 6, 1 / 3))  # of Sparse-DenseNet-40: at epochs 50 and 100 of 300
        >>> [inputs_left(40, stage, plan) for stage in range(3)]
        [40, 34, 28]
    """

    pruned_fraction: float
    drops_at: tuple[float, ...]
    shape: str = "even"

    def __post_init__(self) -> None:
        """Check the attributes."""
        fraction = check_fraction(
            "pruned_fraction", self.pruned_fraction, "Use 0.3 to drop three inputs in ten.", below_one=True
        )
        object.__setattr__(self, "pruned_fraction", fraction)
        object.__setattr__(self, "drops_at", _check_moments(self.drops_at, needed=fraction > 0))
        check_choice("shape", self.shape, SHAPES, "Zhu and Gupta's is 'cubic'.")

    def dropped(self, stage: int) -> float:
        """The share of the inputs that is lost after `stage` drops.

        Example:
            >>> plan = DropPlan(0.8, (0.1, 0.2, 0.3, 0.4), "cubic")
            >>> [round(plan.dropped(stage), 4) for stage in range(5)]
            [0.0, 0.4625, 0.7, 0.7875, 0.8]
        """
        if not stage:
            return 0.0
        done = stage / len(self.drops_at)
        return self.pruned_fraction * (done if self.shape == "even" else 1 - (1 - done) ** 3)


def _check_moments(drops_at, needed: bool) -> tuple[float, ...]:
    try:
        moments = tuple(drops_at)
    except TypeError:  # no sequence
        moments = (None,)
    in_range = all(isinstance(m, numbers.Real) and not isinstance(m, bool) and 0 <= m < 1 for m in moments)
    if not in_range or any(a >= b for a, b in itertools.pairwise(moments)) or (needed and not moments):
        raise ValueError(
            f"`drops_at` (={shown(drops_at)}) must be a tuple of ascending numbers in [0, 1), the progress at each "
            "drop. Use (1 / 6, 1 / 3) for drops at epochs 50 and 100 of 300."
        )
    return tuple(float(moment) for moment in moments)


def drop_plan(
    condense_factor: int | None = None,
    pruned_fraction: float | None = None,
    drops_at: Sequence[float] | None = None,
) -> DropPlan:
    """The plan that a layer's arguments describe.

    Args:
        condense_factor: C: one input in C is left, so that the pruned fraction is 1 - 1 / C.
        pruned_fraction: what is dropped, in place of `condense_factor`.
        drops_at: the progress at each drop. By default CondenseNet's for C: the first half of the training is cut in
            C - 1 equal parts, and each ends with a drop (section 3.1, "Condensation procedure").

    Returns:
        The plan.

    Raises:
        ValueError: an argument out of range, both `condense_factor` and `pruned_fraction`, or a `pruned_fraction`
            without `drops_at`.

    Example:
        >>> drop_plan(condense_factor=3)
        DropPlan(pruned_fraction=0.6666666666666667, drops_at=(0.25, 0.5), shape='even')
        >>> drop_plan(pruned_fraction=0.3, drops_at=[0.1])
        DropPlan(pruned_fraction=0.3, drops_at=(0.1,), shape='even')
    """
    if pruned_fraction is None:
        condense_factor = check_positive_integer(
            "condense_factor",
            condense_factor,
            "One connection in `condense_factor` is left at the end; 1 keeps all.",
            largest=_LARGEST_CONDENSE_FACTOR,
        )
        if drops_at is None:
            drops = condense_factor - 1
            drops_at = tuple(drop / (2 * drops) for drop in range(1, drops + 1))
        return DropPlan(1 - 1 / condense_factor, drops_at)
    if condense_factor is not None:
        raise ValueError(
            f"`condense_factor` (={condense_factor!r}) must be left out beside `pruned_fraction` "
            f"(={pruned_fraction!r}), for each says how much is dropped. Use one of them."
        )
    return DropPlan(pruned_fraction, drops_at)


def _plan_of(plan: DropPlan | int) -> DropPlan:
    return plan if isinstance(plan, DropPlan) else drop_plan(plan)


def final_stage(plan: DropPlan | int) -> int:
    """The stage after the last drop; for a condense factor, at which one input in C is left: C - 1.

    Example:
        >>> final_stage(4), final_stage(DropPlan(0.3, (1 / 6, 1 / 3)))
        (3, 2)
    """
    return len(_plan_of(plan).drops_at)


def stage_from_progress(progress: float, plan: DropPlan | int) -> int:
    """The condensing stage that a layer should be in: how many of the plan's drops are due.

    For a condense factor this is `min(floor(2 p (C - 1)), C - 1)`.

    Args:
        progress: share of the training that is over, p in [0, 1].
        plan: the layer's plan, or a condense factor.

    Returns:
        The stage, from 0 (dense) to `final_stage(plan)` (condensed).

    Raises:
        ValueError: `progress` outside [0, 1], or not a number.

    Example:
        >>> [stage_from_progress(p, 4) for p in (0.0, 0.16, 1 / 6, 0.33, 1 / 3, 0.49, 0.5, 1.0)]
        [0, 0, 1, 1, 2, 2, 3, 3]
        >>> [stage_from_progress(epoch / 300, DropPlan(0.3, (1 / 6, 1 / 3))) for epoch in (49, 50, 99, 100, 299)]
        [0, 1, 1, 2, 2]
    """
    if not isinstance(progress, numbers.Real) or not 0 <= progress <= 1:
        raise ValueError(
            f"`progress` (={shown(progress)}) must lie in [0, 1]. Divide the steps done by the steps of the whole "
            "training."
        )
    # the tolerance keeps progress = steps / total, rounded down by the division, on its own side of a boundary
    return sum(progress + 1e-12 >= moment for moment in _plan_of(plan).drops_at)


def progress_from_stages(stages: Iterable[tuple[DropPlan | int, int]]) -> float:
    """The progress at which layers came into the stages that they are in: the least at which training can go on.

    It is the last drop behind any of the layers, but early enough that none of them is due for a further one.

    Args:
        stages: the plan, or condense factor, and the stage of each layer.

    Returns:
        The progress, in [0, 1).

    Example:
        >>> progress_from_stages([(4, 2), (DropPlan(0.3, (1 / 6, 0.4)), 1)])  # the second drop of the first layer
        0.3333333333333333
        >>> progress_from_stages([(4, 3), (4, 0)])  # the second layer would be due
        0.0
    """
    stages = [(_plan_of(plan), stage) for plan, stage in stages]
    begun = [plan.drops_at[stage - 1] for plan, stage in stages if stage]
    return max(
        (moment for moment in begun if all(stage_from_progress(moment, plan) <= stage for plan, stage in stages)),
        default=0.0,
    )


def inputs_left(inputs: int, stage: int, plan: DropPlan | int) -> int:
    """How many of its inputs each group still reads at a stage.

    After s of n even drops that are to cost the fraction f, these are floor(inputs (1 - f s / n)), and at least one.
    For a condense factor that divides the inputs, each drop costs inputs / C.

    Example:
        >>> [inputs_left(16, stage, 4) for stage in range(4)]
        [16, 12, 8, 4]
        >>> [inputs_left(16, stage, DropPlan(0.3, (1 / 6, 1 / 3))) for stage in range(3)]
        [16, 13, 11]
    """
    plan = _plan_of(plan)
    if not stage:
        return inputs
    left = inputs * (1 - plan.dropped(stage))
    return max(math.floor(left + 1e-9), 1)  # the tolerance keeps 40 * (1 - 0.3), a little below 28, at 28
