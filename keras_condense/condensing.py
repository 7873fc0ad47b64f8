"""The mathematics of learned group convolutions (CondenseNet, arXiv 1711.09224, section 3.1).

Everything here is a pure function of arrays. Notation: `kernel` is (height, width, inputs, filters), as Keras keeps
it; a dense layer's kernel is (inputs, units) and counts as one group. Filter f belongs to group f mod G, so that the
grouped 3x3 convolution which follows, whose groups are contiguous, reads from every learned group. A `mask` is
(groups, inputs), 1 where a group still reads an input.

Decisions are taken in NumPy and float64: the same kernel gives the same mask on every backend and device.
"""

import dataclasses
import itertools
import math
import numbers
from collections.abc import Sequence

import numpy as np
from keras import ops

from keras_condense.validation import check_fraction, check_positive_integer, shown

__all__ = [
    "DropPlan",
    "condensed_kernel",
    "condensed_reactivation",
    "connections_left",
    "drop_due",
    "drop_plan",
    "expanded_kernel",
    "final_stage",
    "group_lasso",
    "importance",
    "inputs_left",
    "kept_inputs",
    "mask_of_filters",
    "stage_from_progress",
    "stage_of_mask",
]

_LARGEST_CONDENSE_FACTOR = 2**16  # a plan holds a number for each drop, and a layer has no more inputs


@dataclasses.dataclass(frozen=True)
class DropPlan:
    """How many of its inputs each group of a layer loses, and when; `drop_plan` makes one from a layer's arguments.

    The functions below that take a plan take a condense factor too, which stands for CondenseNet's own plan.

    Attributes:
        pruned_fraction: the share of its inputs that each group has lost after the last drop, in [0, 1).
        drops_at: the progress of the training, in [0, 1), at which each drop falls; the drops are equally large.

    Raises:
        ValueError: an attribute out of its range.

    Example:
        >>> plan = DropPlan(0.3, (1 / 6, 1 / 3))  # of Sparse-DenseNet-40: at epochs 50 and 100 of 300
        >>> [inputs_left(40, stage, plan) for stage in range(3)]
        [40, 34, 28]
    """

    pruned_fraction: float
    drops_at: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check the attributes."""
        fraction = check_fraction(
            "pruned_fraction", self.pruned_fraction, "Use 0.3 to drop three inputs in ten.", below_one=True
        )
        object.__setattr__(self, "pruned_fraction", fraction)
        object.__setattr__(self, "drops_at", _check_moments(self.drops_at, needed=fraction > 0))


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
        DropPlan(pruned_fraction=0.6666666666666667, drops_at=(0.25, 0.5))
        >>> drop_plan(pruned_fraction=0.3, drops_at=[0.1])
        DropPlan(pruned_fraction=0.3, drops_at=(0.1,))
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


def inputs_left(inputs: int, stage: int, plan: DropPlan | int) -> int:
    """How many of its inputs each group still reads at a stage.

    After s of n drops that are to cost the fraction f, these are floor(inputs (1 - f s / n)), and at least one. For
    a condense factor that divides the inputs, each drop costs inputs / C.

    Example:
        >>> [inputs_left(16, stage, 4) for stage in range(4)]
        [16, 12, 8, 4]
        >>> [inputs_left(16, stage, DropPlan(0.3, (1 / 6, 1 / 3))) for stage in range(3)]
        [16, 13, 11]
    """
    plan = _plan_of(plan)
    if not stage:
        return inputs
    left = inputs * (1 - plan.pruned_fraction * stage / len(plan.drops_at))
    return max(math.floor(left + 1e-9), 1)  # the tolerance keeps 40 * (1 - 0.3), a little below 28, at 28


def mask_of_filters(mask, filters: int):
    """Spread a mask over the filters: entry (j, f) says whether filter f, of group f mod G, reads input j.

    Args:
        mask: (groups, inputs), a NumPy array or a backend tensor.
        filters: the number of filters, a multiple of the groups.

    Returns:
        (inputs, filters), of the mask's kind and dtype; it multiplies a kernel by broadcasting.

    Example:
        >>> import numpy as np
        >>> mask_of_filters(np.array([[1, 0, 1], [0, 1, 1]]), filters=4)
        array([[1, 0, 1, 0],
               [0, 1, 0, 1],
               [1, 1, 1, 1]])
    """
    numerics = np if isinstance(mask, np.ndarray) else ops
    return numerics.tile(numerics.transpose(mask), (1, filters // mask.shape[0]))


def importance(kernel: np.ndarray, groups: int) -> np.ndarray:
    """How much each group needs each input: the sum of |kernel| over its filters and positions (section 3.1).

    Args:
        kernel: (..., inputs, filters).
        groups: G, a divisor of the filters.

    Returns:
        (groups, inputs), float64.

    Example:
        >>> import numpy as np
        >>> importance(np.array([[1.0, 2.0, 3.0, -4.0], [0.5, 0.0, -0.5, 1.0]]), groups=2)
        array([[4., 1.],
               [6., 1.]])
    """
    kernel = np.abs(np.asarray(kernel, dtype=np.float64))
    *positions, inputs, filters = kernel.shape
    per_group = kernel.reshape(*positions, inputs, filters // groups, groups).sum(axis=-2)
    return per_group.reshape(-1, inputs, groups).sum(axis=0).T


def stage_of_mask(mask: np.ndarray, plan: DropPlan | int) -> int:
    """The stage that a mask has reached: the last at which its groups may read as many inputs as they do.

    Example:
        >>> import numpy as np
        >>> stage_of_mask(np.array([[1, 0, 1, 0], [0, 0, 1, 1]]), 4)
        2
    """
    mask = np.asarray(mask)
    inputs, most = mask.shape[1], int(mask.sum(axis=1).max())
    return sum(most <= inputs_left(inputs, stage, plan) for stage in range(1, final_stage(plan) + 1))


def drop_due(mask: np.ndarray, importance: np.ndarray, stage: int, plan: DropPlan | int) -> np.ndarray:
    """The mask at `stage`: each group loses the least important inputs of those that it still has.

    It is left with `inputs_left`. Stages that were skipped are dropped at once. Of two equally important inputs the
    one with the lower index goes first. An earlier stage than the mask's changes nothing.

    Args:
        mask: (groups, inputs), the present mask.
        importance: (groups, inputs), from `importance`.
        stage: the stage to reach, 0 to `final_stage(plan)`.
        plan: the layer's plan, or a condense factor.

    Returns:
        The new mask; the argument is left alone.

    Raises:
        ValueError: an importance that is not a number, since it would order nothing.

    Example:
        >>> import numpy as np
        >>> drop_due(np.ones((2, 4)), np.array([[4, 1, 3, 2], [1, 1, 0, 9]]), stage=2, plan=4)
        array([[1., 0., 1., 0.],
               [0., 1., 0., 1.]])
    """
    if not np.isfinite(importance).all():
        raise ValueError(
            "`importance` must be finite to order the inputs, and holds NaN or infinity: the training has diverged. "
            "Lower the learning rate or go back to an earlier checkpoint."
        )
    keep = inputs_left(mask.shape[1], stage, plan)
    new = np.array(mask)
    for group, scores in zip(new, importance, strict=True):
        alive = np.flatnonzero(group)
        order = alive[np.argsort(scores[alive], kind="stable")]
        group[order[: max(len(alive) - keep, 0)]] = 0
    return new


def connections_left(masks: list[np.ndarray]) -> float:
    """The share of connections that the masks leave, weighted by their size: 1 when dense.

    Example:
        >>> import numpy as np
        >>> connections_left([np.array([[1, 0], [0, 1]]), np.array([[1, 1, 1, 1]])])
        0.75
    """
    return float(sum(mask.sum() for mask in masks) / sum(mask.size for mask in masks))


def group_lasso(kernel, mask):
    """The penalty that makes a group's filters agree on their inputs (section 3.1, "Group Lasso").

    The sum over groups and inputs of sqrt(sum over the group's filters and positions of w^2), clamped at 1e-6 under
    the root, where its gradient would have no bound.

    Args:
        kernel: (..., inputs, filters), a backend tensor or an array.
        mask: (groups, inputs).

    Returns:
        A scalar backend tensor.

    Example:
        >>> import numpy as np
        >>> kernel = np.array([[3.0, 0.0, 4.0, 1.0]], "float32")  # one input; filters 0 and 2 are group 0
        >>> round(float(group_lasso(kernel, np.ones((2, 1), "float32"))), 4)
        6.0
    """
    groups, inputs = mask.shape
    filters = kernel.shape[-1]
    squares = ops.square(ops.multiply(kernel, ops.cast(mask_of_filters(mask, filters), kernel.dtype)))
    squares = ops.sum(ops.reshape(squares, (-1, inputs, filters // groups, groups)), axis=(0, 2))
    return ops.sum(ops.sqrt(ops.maximum(squares, 1e-6)))


def kept_inputs(mask: np.ndarray) -> np.ndarray:
    """The index vector of a condensed layer: group after group, the inputs it reads, in ascending order.

    Raises:
        ValueError: groups that read different numbers of inputs.

    Example:
        >>> import numpy as np
        >>> kept_inputs(np.array([[1, 0, 1, 0], [0, 0, 1, 1]]))
        array([0, 2, 2, 3])
    """
    counts = np.asarray(mask).astype(bool).sum(axis=1)
    if len(set(counts.tolist())) != 1:
        raise ValueError(
            f"`mask` must keep as many inputs in every group, and keeps {counts.tolist()}. "
            "Set it with the layer's `condense_to`, not by hand."
        )
    return np.nonzero(mask)[1]


def condensed_kernel(kernel: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The kernel of the group convolution that replaces a masked one (section 3.1, figure 3, right).

    Args:
        kernel: (..., inputs, filters); filter f belongs to group f mod G.
        mask: (groups, inputs) with k ones a row.

    Returns:
        (..., k, filters), the filters sorted by group: condensed filter g (filters / G) + d is filter d G + g.

    Example:
        >>> import numpy as np
        >>> kernel = np.array([[10, 11, 12, 13], [20, 21, 22, 23]])
        >>> condensed_kernel(kernel, np.array([[1, 0], [0, 1]]))
        array([[10, 12, 21, 23]])
    """
    groups = mask.shape[0]
    index = kept_inputs(mask).reshape(groups, -1)
    return np.concatenate([kernel[..., index[g], g::groups] for g in range(groups)], axis=-1)


def expanded_kernel(kernel: np.ndarray, kept: np.ndarray, inputs: int, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """The masked kernel of which `condensed_kernel` made `kernel`, and its mask: the inverse.

    Args:
        kernel: (..., k, filters), the filters sorted by group.
        kept: the index vector of `kept_inputs`, groups * k numbers; a group's may be in any order.
        inputs: of the masked kernel.
        groups: of the masked kernel.

    Returns:
        The kernel (..., inputs, filters), zero where the mask is; and the mask (groups, inputs).

    Raises:
        ValueError: an index of another length, outside the inputs, or twice in a group.

    Example:
        >>> import numpy as np
        >>> kernel, mask = expanded_kernel(np.array([[10, 12, 21, 23]]), np.array([0, 1]), inputs=2, groups=2)
        >>> kernel.tolist(), mask.tolist()
        ([[10, 0, 12, 0], [0, 21, 0, 23]], [[1.0, 0.0], [0.0, 1.0]])
    """
    left, filters = kernel.shape[-2:]
    rows = np.asarray(kept)
    if rows.shape != (groups * left,) or rows.min() < 0 or rows.max() >= inputs:
        raise ValueError(
            f"`kept` (of {rows.size} numbers) must be {groups * left} inputs in 0..{inputs - 1}. "
            "Give the index vector that belongs to this kernel."
        )
    rows = rows.reshape(groups, left)
    mask = np.zeros((groups, inputs), "float32")
    np.put_along_axis(mask, rows, 1, axis=1)
    if mask.sum() != rows.size:
        raise ValueError(
            "`kept` must name each input of a group once, and names one twice. "
            "Give the index vector that belongs to this kernel."
        )
    expanded = np.zeros((*kernel.shape[:-2], inputs, filters), kernel.dtype)
    for group, of_group in enumerate(np.split(kernel, groups, axis=-1)):
        expanded[..., rows[group], group::groups] = of_group
    return expanded, mask


def condensed_reactivation(kernel: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The kernel of the group convolution that replaces a masked sparse feature reactivation (arXiv 2104.04382).

    Args:
        kernel: (..., inputs, filters); here input i belongs to group i mod G.
        mask: (groups, filters) with k ones a row: the filters that each group reaches.

    Returns:
        (..., inputs / G, G k), for inputs sorted by group. Its filter i gives a part of filter `kept_inputs(mask)[i]`,
        where the parts of several groups are added up.

    Example:
        >>> import numpy as np
        >>> kernel = np.array([[10, 11, 12], [20, 21, 22], [30, 31, 32], [40, 41, 42]])
        >>> condensed_reactivation(kernel, np.array([[1, 0, 1], [1, 1, 0]]))
        array([[10, 12, 20, 21],
               [30, 32, 40, 41]])
    """
    groups = mask.shape[0]
    index = kept_inputs(mask).reshape(groups, -1)
    return np.concatenate([kernel[..., g::groups, :][..., index[g]] for g in range(groups)], axis=-1)
