"""What the paper says of masks, as loops and lists."""

import math
from fractions import Fraction

import numpy as np
from hypothesis import strategies as st

from keras_condense.drop_plans import DropPlan

# (groups, condense factor): equal, and different both ways
PAIRS = [(1, 2), (2, 2), (2, 4), (4, 2), (4, 4), (4, 8), (8, 4), (8, 8), (3, 5)]


def reference_importance(kernel, groups):
    height, width, inputs, filters = kernel.shape
    scores = [[0.0] * inputs for _ in range(groups)]
    for y in range(height):
        for x in range(width):
            for j in range(inputs):
                for f in range(filters):
                    scores[f % groups][j] += abs(float(kernel[y, x, j, f]))
    return scores


def reference_stages(kernel, groups, condense_factor):
    """The mask after every stage, from dense to condensed, as lists of lists."""
    inputs = kernel.shape[2]
    scores = reference_importance(kernel, groups)
    mask = [[1] * inputs for _ in range(groups)]
    stages = [[row[:] for row in mask]]
    for _ in range(condense_factor - 1):
        for g in range(groups):
            for _ in range(inputs // condense_factor):
                least = None
                for j in range(inputs):
                    if mask[g][j] and (least is None or scores[g][j] < scores[g][least]):
                        least = j
                mask[g][least] = 0
        stages.append([row[:] for row in mask])
    return stages


def reference_lasso(kernel, mask):
    groups = len(mask)
    height, width, inputs, filters = kernel.shape
    total = 0.0
    for g in range(groups):
        for j in range(inputs):
            square = 0.0
            for y in range(height):
                for x in range(width):
                    for f in range(filters):
                        if f % groups == g:
                            square += (float(kernel[y, x, j, f]) * mask[g][j]) ** 2
            total += math.sqrt(max(square, 1e-6))
    return total


def random_kernel(size, inputs, filters, seed=0):
    return np.random.default_rng(seed).normal(size=(*size, inputs, filters)).astype("float32")


def reference_drop(mask, scores, left):
    """The least important first, of equal ones the first, one after another until `left` are left in each group."""
    for row, row_scores in zip(mask, scores, strict=True):
        while sum(row) > left:
            _, least = min((row_scores[j], j) for j in range(len(row)) if row[j])
            row[least] = 0


@st.composite
def plans(draw):
    """A plan, and its fraction as it was meant: a float such as 0.3 is not three tenths."""
    denominator = draw(st.sampled_from([2, 3, 7, 10, 16, 100]))
    fraction = Fraction(draw(st.integers(1, denominator - 1)), denominator)
    moments = sorted(draw(st.sets(st.integers(0, 99), min_size=1, max_size=5)))
    return DropPlan(float(fraction), tuple(moment / 100 for moment in moments)), fraction


@st.composite
def kernels(draw):
    groups, condense_factor = draw(st.sampled_from(PAIRS))
    inputs = condense_factor * draw(st.integers(1, 4))
    filters = groups * draw(st.integers(1, 3))
    size = draw(st.sampled_from([(1, 1), (3, 3), (1, 2)]))
    return random_kernel(size, inputs, filters, draw(st.integers(0, 10**6))), groups, condense_factor
