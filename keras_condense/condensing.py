"""The mathematics of learned group convolutions (CondenseNet, arXiv 1711.09224, section 3.1).

Everything here is a pure function of arrays. Notation: `kernel` is (height, width, inputs, filters), as Keras keeps
it; a dense layer's kernel is (inputs, units) and counts as one group. Filter f belongs to group f mod G, so that the
grouped 3x3 convolution which follows, whose groups are contiguous, reads from every learned group. A `mask` is
(groups, inputs), 1 where a group still reads an input.

Decisions are taken in NumPy and float64: the same kernel gives the same mask on every backend and device.
"""

import math

import numpy as np
from keras import ops

__all__ = [
    "condensed_kernel",
    "connections_left",
    "drop_due",
    "final_stage",
    "group_lasso",
    "importance",
    "kept_inputs",
    "mask_of_filters",
    "stage_from_progress",
    "stage_of_mask",
]


def final_stage(condense_factor: int) -> int:
    """The stage at which one input in `condense_factor` is left: C - 1.

    Example:
        >>> final_stage(4)
        3
    """
    return condense_factor - 1


def stage_from_progress(progress: float, condense_factor: int) -> int:
    """The condensing stage that a layer should be in (section 3.1, "Condensation procedure").

    The first half of the training is cut in C - 1 equal parts; each ends with a drop:
    `min(floor(2 p (C - 1)), C - 1)`.

    Args:
        progress: share of the training that is over, p in [0, 1].
        condense_factor: C, at least 1.

    Returns:
        The stage, from 0 (dense) to C - 1 (condensed).

    Raises:
        ValueError: `progress` outside [0, 1], or not a number.

    Example:
        >>> [stage_from_progress(p, 4) for p in (0.0, 0.16, 1 / 6, 0.33, 1 / 3, 0.49, 0.5, 1.0)]
        [0, 0, 1, 1, 2, 2, 3, 3]
    """
    if not 0 <= progress <= 1:
        raise ValueError(
            f"`progress` (={progress!r}) must lie in [0, 1]. Divide the steps done by the steps of the whole training."
        )
    # the tolerance keeps progress = steps / total, rounded down by the division, on its own side of a boundary
    return min(math.floor(2 * progress * (condense_factor - 1) + 1e-9), final_stage(condense_factor))


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


def stage_of_mask(mask: np.ndarray, condense_factor: int) -> int:
    """The stage that a mask has reached: the number of drops of inputs / C that it shows.

    Example:
        >>> import numpy as np
        >>> stage_of_mask(np.array([[1, 0, 1, 0], [0, 0, 1, 1]]), condense_factor=4)
        2
    """
    mask = np.asarray(mask)
    dropped = mask.shape[1] - int(mask.sum(axis=1).max())
    return dropped // (mask.shape[1] // condense_factor)


def drop_due(mask: np.ndarray, importance: np.ndarray, stage: int, condense_factor: int) -> np.ndarray:
    """The mask at `stage`: each group loses the least important inputs of those that it still has.

    Each stage on the way costs a group inputs / C. Stages that were skipped are dropped at once. Of two equally
    important inputs the one with the lower index goes first. An earlier stage than the mask's changes nothing.

    Args:
        mask: (groups, inputs), the present mask.
        importance: (groups, inputs), from `importance`.
        stage: the stage to reach, 0 to C - 1.
        condense_factor: C, a divisor of the inputs.

    Returns:
        The new mask; the argument is left alone.

    Raises:
        ValueError: an importance that is not a number, since it would order nothing.

    Example:
        >>> import numpy as np
        >>> drop_due(np.ones((2, 4)), np.array([[4, 1, 3, 2], [1, 1, 0, 9]]), stage=2, condense_factor=4)
        array([[1., 0., 1., 0.],
               [0., 1., 0., 1.]])
    """
    if not np.isfinite(importance).all():
        raise ValueError(
            "`importance` must be finite to order the inputs, and holds NaN or infinity: the training has diverged. "
            "Lower the learning rate or go back to an earlier checkpoint."
        )
    inputs = mask.shape[1]
    keep = inputs - stage * (inputs // condense_factor)
    new = np.array(mask)
    for group, scores in zip(new, importance, strict=True):
        alive = np.flatnonzero(group)
        order = alive[np.argsort(scores[alive], kind="stable")]
        group[order[: max(len(alive) - keep, 0)]] = 0
    return new


def connections_left(masks: list[np.ndarray]) -> float:
    """The share of connections that the masks leave, weighted by their size: 1 when dense, 1 / C at the end.

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
