"""Which inputs a learned layer drops, and its kernel without them (CondenseNet, arXiv 1711.09224, section 3.1).

Pure functions of arrays; `drop_plans` says when and how many. Notation: `kernel` is (height, width, inputs, filters),
as Keras keeps it; a dense layer's kernel is (inputs, units) and counts as one group. Filter f belongs to group f mod
G, so that the grouped 3x3 convolution which follows, whose groups are contiguous, reads from every learned group. A
`mask` is (groups, inputs), 1 where a group still reads an input.

Decisions are taken in NumPy and float64: the same kernel gives the same mask on every backend and device.
"""

import numpy as np
from keras import ops

from keras_condense.drop_plans import DropPlan, final_stage, inputs_left

__all__ = [
    "block_importance",
    "condensed_kernel",
    "condensed_reactivation",
    "connections_left",
    "drop_blocks_due",
    "drop_due",
    "expanded_kernel",
    "group_lasso",
    "importance",
    "kept_inputs",
    "mask_of_blocks",
    "mask_of_filters",
    "stage_of_mask",
]


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
    inputs, most = mask.shape[1], int(np.count_nonzero(mask, axis=1).max())  # a sum in half precision ends at 256
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


def block_importance(kernel: np.ndarray, block: int) -> np.ndarray:
    """How much each block of neighbouring filters needs each input: the sum of |kernel| over the block.

    Args:
        kernel: (..., inputs, filters), of one position.
        block: a divisor of the filters.

    Returns:
        (filters / block, inputs), float64.

    Example:
        >>> import numpy as np
        >>> block_importance(np.array([[1.0, 2.0, 3.0, -4.0]]), block=2)
        array([[3.],
               [7.]])
    """
    kernel = np.abs(np.asarray(kernel, dtype=np.float64))
    inputs, filters = kernel.shape[-2:]
    return kernel.reshape(inputs, filters // block, block).sum(axis=-1).T


def mask_of_blocks(mask: np.ndarray, block: int) -> np.ndarray:
    """Spread a mask of blocks, (filters / block, inputs), over the kernel: (inputs, filters).

    Example:
        >>> import numpy as np
        >>> mask_of_blocks(np.array([[1, 0], [0, 1]]), block=2)
        array([[1, 1, 0, 0],
               [0, 0, 1, 1]])
    """
    return np.repeat(mask.T, block, axis=1)


def drop_blocks_due(mask: np.ndarray, importance: np.ndarray, stage: int, plan: DropPlan | int) -> np.ndarray:
    """The mask of blocks at `stage`: as `drop_due`, but the least important blocks of the whole layer go together.

    Example:
        >>> import numpy as np
        >>> drop_blocks_due(np.ones((2, 2)), np.array([[4, 3], [1, 2]]), stage=1, plan=2)
        array([[1., 1.],
               [0., 0.]])
    """
    return drop_due(mask.reshape(1, -1), importance.reshape(1, -1), stage, plan).reshape(mask.shape)


def connections_left(masks: list[np.ndarray]) -> float:
    """The share of connections that the masks leave, weighted by their size: 1 when dense.

    Example:
        >>> import numpy as np
        >>> connections_left([np.array([[1, 0], [0, 1]]), np.array([[1, 1, 1, 1]])])
        0.75
    """
    return float(sum(map(np.count_nonzero, masks)) / sum(mask.size for mask in masks))


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
