"""The mathematics against matrices an eye can check, and against plain Python loops that share no code with it."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from keras_condense import condensing
from keras_condense.condensing import DropPlan

# (groups, condense factor): equal, and different both ways
PAIRS = [(1, 2), (2, 2), (2, 4), (4, 2), (4, 4), (4, 8), (8, 4), (8, 8), (3, 5)]


# ------------------------------------------------------------------------------------ the reference: loops and lists


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


# --------------------------------------------------------------------------------------------------- literal matrices


def test_importance_of_a_matrix_an_eye_can_check():
    #                   filter 0   1   2   3      group 0 has filters 0 and 2, group 1 has 1 and 3
    kernel = np.array([[1, -10, 2, 20], [-3, 30, -4, 40]], "float32")
    np.testing.assert_array_equal(condensing.importance(kernel, 2), [[3, 7], [30, 70]])
    # two positions add up
    np.testing.assert_array_equal(condensing.importance(np.stack([kernel, 2 * kernel])[None], 2), [[9, 21], [90, 210]])


def test_importance_is_decided_in_float64():
    # in float32 the small ones would vanish beside the large one, and the inputs would tie
    kernel = np.array([[2.0**24, 1.0, 1.0], [2.0**24, 1.0, 0.0]], "float32")
    scores = condensing.importance(kernel, 1)
    assert scores.dtype == np.float64
    assert scores[0, 0] > scores[0, 1]


def test_four_groups_condensed_by_four_step_by_step():
    scores = np.array([
        [8, 1, 7, 2, 6, 3, 5, 4],
        [1, 2, 3, 4, 5, 6, 7, 8],
        [8, 7, 6, 5, 4, 3, 2, 1],
        [5, 5, 5, 5, 1, 1, 9, 9],
    ], "float64")  # fmt: skip
    stages = {
        0: ["11111111", "11111111", "11111111", "11111111"],
        1: ["10101111", "00111111", "11111100", "11110011"],
        2: ["10101010", "00001111", "11110000", "00110011"],
        3: ["10100000", "00000011", "11000000", "00000011"],
    }
    mask = np.ones((4, 8))
    for stage, rows in stages.items():
        mask = condensing.drop_due(mask, scores, stage, 4)
        assert ["".join(str(int(m)) for m in row) for row in mask] == rows
        assert condensing.stage_of_mask(mask, 4) == stage
    np.testing.assert_array_equal(condensing.kept_inputs(mask), [0, 2, 6, 7, 0, 1, 6, 7])


def test_three_inputs_in_ten_go_in_two_drops():
    # after the drops floor(10 * 0.85) = 8 and 10 * 0.7 = 7 are left, though 10 * (1 - 0.3) is a little below 7
    scores = np.array([[5, 1, 9, 2, 8, 3, 7, 4, 6, 0], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]], "float64")
    plan = DropPlan(0.3, (1 / 6, 1 / 3))
    mask = np.ones((2, 10))
    for stage, rows in {1: ["1011111110", "0011111111"], 2: ["1010111110", "0001111111"]}.items():
        mask = condensing.drop_due(mask, scores, stage, plan)
        assert ["".join(str(int(m)) for m in row) for row in mask] == rows
        assert condensing.stage_of_mask(mask, plan) == stage


def test_inputs_left_of_an_odd_number_are_rounded_down_and_never_none():
    plan = DropPlan(0.3, (0.1, 0.2))
    left = {inputs: [condensing.inputs_left(inputs, stage, plan) for stage in range(3)] for inputs in (1, 2, 16, 40)}
    assert left == {1: [1, 1, 1], 2: [2, 1, 1], 16: [16, 13, 11], 40: [40, 34, 28]}


def test_a_mask_is_in_the_stage_after_a_drop_that_takes_nothing():
    plan = DropPlan(0.3, (0.1, 0.2))
    assert condensing.stage_of_mask(np.ones((2, 1)), plan) == 2  # one input is left at every stage
    assert condensing.stage_of_mask(np.array([[0, 1]]), plan) == 2
    assert condensing.stage_of_mask(np.ones((2, 2)), plan) == 0
    # a group that was left behind holds the stage
    assert condensing.stage_of_mask(np.array([[1, 1], [0, 1]]), plan) == 0


def test_ties_drop_the_lower_index_first():
    mask = condensing.drop_due(np.ones((1, 6)), np.zeros((1, 6)), 1, 3)
    np.testing.assert_array_equal(mask, [[0, 0, 1, 1, 1, 1]])
    mask = condensing.drop_due(mask, np.zeros((1, 6)), 2, 3)
    np.testing.assert_array_equal(mask, [[0, 0, 0, 0, 1, 1]])


def test_a_dropped_input_never_returns():
    mask = condensing.drop_due(np.ones((1, 4)), np.array([[1.0, 2, 3, 4]]), 1, 4)
    now_the_best = np.array([[99.0, 2, 3, 4]])
    np.testing.assert_array_equal(condensing.drop_due(mask, now_the_best, 2, 4), [[0, 0, 1, 1]])


def test_an_earlier_stage_changes_nothing_and_arguments_stay():
    mask, scores = np.array([[0.0, 1, 0, 1]]), np.array([[4.0, 3, 2, 1]])
    before = mask.copy()
    np.testing.assert_array_equal(condensing.drop_due(mask, scores, 1, 4), before)
    condensing.drop_due(mask, scores, 3, 4)
    np.testing.assert_array_equal(mask, before)


def test_condensed_kernel_gathers_inputs_and_sorts_filters_by_group():
    kernel = np.array([[100 * j + f for f in range(6)] for j in range(4)])
    mask = np.array([[1, 0, 0, 1], [0, 1, 1, 0], [1, 1, 0, 0]])
    np.testing.assert_array_equal(
        condensing.condensed_kernel(kernel, mask),
        # filters    0    3    1    4    2    5
        [[0, 3, 101, 104, 2, 5], [300, 303, 201, 204, 102, 105]],
    )


def test_kept_inputs_refuses_unequal_groups():
    with pytest.raises(ValueError, match=r"as many inputs in every group, and keeps \[1, 2\]. Set it"):
        condensing.kept_inputs(np.array([[1, 0], [1, 1]]))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_importance_that_orders_nothing_is_refused(bad):
    with pytest.raises(ValueError, match=r"`importance` must be finite .* Lower the learning rate"):
        condensing.drop_due(np.ones((1, 2)), np.array([[1.0, bad]]), 1, 2)


def test_connections_left_weighs_by_size():
    masks = [np.array([[1, 0], [0, 0]]), np.ones((3, 4))]
    assert condensing.connections_left(masks) == pytest.approx(13 / 16)


# ------------------------------------------------------------------------------------------------------------ stages


@pytest.mark.parametrize("condense_factor", [1, 2, 3, 4, 8])
def test_stage_boundaries(condense_factor):
    last = condense_factor - 1
    for stage in range(1, last + 1):
        boundary = stage / (2 * last)
        assert condensing.stage_from_progress(boundary, condense_factor) == stage
        assert condensing.stage_from_progress(boundary - 1e-6, condense_factor) == stage - 1
    for progress in (0.5, 0.75, 1, 1.0):
        assert condensing.stage_from_progress(progress, condense_factor) == last
    assert condensing.stage_from_progress(0, condense_factor) == 0


def test_the_papers_300_epochs_drop_at_50_100_and_150():
    stages = [condensing.stage_from_progress(epoch / 300, 4) for epoch in range(300)]
    assert [epoch for epoch in range(1, 300) if stages[epoch] != stages[epoch - 1]] == [50, 100, 150]


@given(st.integers(1, 10**7), st.data(), st.integers(1, 64))
def test_stage_from_a_division_equals_exact_arithmetic(total, data, condense_factor):
    done = data.draw(st.integers(0, total))
    exact = min(math.floor(2 * Fraction(done, total) * (condense_factor - 1)), condense_factor - 1)
    assert condensing.stage_from_progress(done / total, condense_factor) == exact


@given(plans(), st.integers(1, 10**6), st.data())
def test_any_plans_drops_fall_exactly_at_their_progress(case, total, data):
    plan, _ = case
    done = data.draw(st.integers(0, total))
    stage = sum(Fraction(done, total) >= Fraction(round(100 * moment), 100) for moment in plan.drops_at)
    assert condensing.stage_from_progress(done / total, plan) == stage
    assert condensing.final_stage(plan) == len(plan.drops_at)
    for number, moment in enumerate(plan.drops_at, start=1):
        assert condensing.stage_from_progress(moment, plan) == number
        assert condensing.stage_from_progress(max(moment - 1e-9, 0), plan) == number - (moment > 0)


def test_sparse_densenets_300_epochs_drop_at_50_and_100():
    plan = DropPlan(0.3, (1 / 6, 1 / 3))
    stages = [condensing.stage_from_progress(epoch / 300, plan) for epoch in range(300)]
    assert [epoch for epoch in range(1, 300) if stages[epoch] != stages[epoch - 1]] == [50, 100]


@pytest.mark.parametrize("condense_factor", [1, 2, 3, 4, 8, 49])
def test_a_condense_factor_stands_for_its_plan(condense_factor):
    plan = condensing.drop_plan(condense_factor)
    assert plan.drops_at == tuple(s / (2 * (condense_factor - 1)) for s in range(1, condense_factor))
    inputs = 3 * condense_factor
    mask = np.ones((2, inputs))
    scores = np.random.default_rng(0).normal(size=mask.shape)
    for stage in range(condense_factor):
        left = inputs - 3 * stage
        assert condensing.inputs_left(inputs, stage, plan) == condensing.inputs_left(inputs, stage, condense_factor)
        assert condensing.inputs_left(inputs, stage, plan) == left
        mask = condensing.drop_due(mask, scores, stage, plan)
        np.testing.assert_array_equal(mask, condensing.drop_due(mask, scores, stage, condense_factor))
        assert mask.sum(1).tolist() == [left, left]
        assert condensing.stage_of_mask(mask, plan) == condensing.stage_of_mask(mask, condense_factor) == stage


def test_plans_of_arguments():
    assert condensing.drop_plan(4, drops_at=[0.1, np.float64(0.5)]) == DropPlan(0.75, (0.1, 0.5))
    assert condensing.drop_plan(pruned_fraction=0, drops_at=()) == condensing.drop_plan(1) == DropPlan(0.0, ())
    assert condensing.drop_plan(pruned_fraction=0.3, drops_at=np.array([0.0, 0.25])) == DropPlan(0.3, (0.0, 0.25))


MOMENTS = r"`drops_at` \(=.*\) must be a tuple of ascending numbers in \[0, 1\), .*\. Use \(1 / 6, 1 / 3\)"
WRONG_PLANS = [
    ((4, 0.3, (0.1,)), r"`condense_factor` \(=4\) must be left out beside `pruned_fraction` \(=0.3\), .*\. Use one"),
    ((None,), r"`condense_factor` \(=None\) must be a positive integer\. One connection"),
    ((0,), r"`condense_factor` \(=0\) must be a positive integer\. One connection"),
    *(((None, bad, (0.1,)), r"`pruned_fraction` \(=.*\) must be a number in \[0, 1\)\. Use 0\.3")
      for bad in (1, 1.5, -0.1, float("nan"), "0.3", True)),
    *(((None, 0.3, bad), MOMENTS)
      for bad in (None, (), 0.5, (0.5, 0.5), (0.5, 0.2), (0.5, 1), (-0.1,), (float("nan"),), ("a",), "01", (True,))),
    ((2, None, ()), MOMENTS),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), WRONG_PLANS)
def test_wrong_plans(arguments, message):
    with pytest.raises(ValueError, match=message):
        condensing.drop_plan(*arguments)


@pytest.mark.parametrize("progress", [-0.01, 1.01, float("nan"), float("inf")])
def test_progress_outside_its_range_is_refused(progress):
    with pytest.raises(ValueError, match=r"`progress` \(=.*\) must lie in \[0, 1\]. Divide"):
        condensing.stage_from_progress(progress, 4)


# ----------------------------------------------------------------------------------------------- against the reference


@pytest.mark.parametrize(("groups", "condense_factor"), PAIRS)
def test_masks_after_every_stage_equal_the_loops(groups, condense_factor):
    kernel = random_kernel((1, 1), 3 * condense_factor, 4 * groups, seed=groups)
    scores = condensing.importance(kernel, groups)
    mask = np.ones((groups, kernel.shape[2]))
    for stage, expected in enumerate(reference_stages(kernel, groups, condense_factor)):
        mask = condensing.drop_due(mask, scores, stage, condense_factor)
        np.testing.assert_array_equal(mask, expected)


@given(kernels(), st.data())
def test_any_kernel_any_stages(case, data):
    kernel, groups, condense_factor = case
    inputs = kernel.shape[2]
    np.testing.assert_allclose(condensing.importance(kernel, groups), reference_importance(kernel, groups), rtol=1e-12)
    scores = condensing.importance(kernel, groups)
    expected = reference_stages(kernel, groups, condense_factor)
    # an arbitrary walk through the stages: those that it skips are dropped at once
    walk = sorted(data.draw(st.sets(st.integers(0, condense_factor - 1), max_size=4)))
    mask = np.ones((groups, inputs))
    for stage in walk:
        before = mask
        mask = condensing.drop_due(mask, scores, stage, condense_factor)
        np.testing.assert_array_equal(mask, expected[stage])
        np.testing.assert_array_equal(mask.sum(1), inputs - stage * (inputs // condense_factor))
        assert condensing.stage_of_mask(mask, condense_factor) == stage
        assert (mask <= before).all()


@given(plans(), st.integers(1, 3), st.integers(1, 40), st.integers(0, 10**6), st.data())
def test_any_plan_any_inputs_any_stages(case, groups, inputs, seed, data):
    """Exact counts, nothing comes back, the least important of the moment goes first and the first of equal ones."""
    plan, fraction = case
    random = np.random.default_rng(seed)
    mask, expected = np.ones((groups, inputs)), [[1] * inputs for _ in range(groups)]
    drops = len(plan.drops_at)
    for stage in sorted(data.draw(st.sets(st.integers(0, drops)))):
        scores = random.integers(0, 5, (groups, inputs)).astype("float64")  # others at every stage, many of them equal
        before, mask = mask, condensing.drop_due(mask, scores, stage, plan)
        left = max(math.floor(inputs * (1 - fraction * stage / drops)), 1)
        reference_drop(expected, scores.tolist(), left)
        np.testing.assert_array_equal(mask, expected)
        assert condensing.inputs_left(inputs, stage, plan) == left
        assert mask.sum(1).tolist() == [left] * groups
        assert (mask <= before).all()
        # a later drop that takes nothing from so few inputs counts as done
        assert condensing.stage_of_mask(mask, plan) >= stage
        assert condensing.inputs_left(inputs, condensing.stage_of_mask(mask, plan), plan) == left


@given(kernels(), st.data())
def test_condensed_kernel_convolves_as_the_masked_one(case, data):
    kernel, groups, condense_factor = case
    size = kernel.shape[:2]
    mask = np.array(reference_stages(kernel, groups, condense_factor)[-1])
    small = condensing.condensed_kernel(kernel, mask)
    index = condensing.kept_inputs(mask)
    image = np.random.default_rng(0).normal(size=(*size, kernel.shape[2]))  # as large as the kernel: one output
    filters, k = kernel.shape[3], kernel.shape[2] // condense_factor
    assert small.shape == (*size, k, filters)
    for f in range(filters):
        g = f % groups
        masked = sum(
            image[y, x, j] * kernel[y, x, j, f]
            for y in range(size[0])
            for x in range(size[1])
            for j in range(kernel.shape[2])
            if mask[g, j]
        )
        place = g * (filters // groups) + f // groups  # where the filters sorted by group have filter f
        condensed = np.sum(image[..., index[g * k : (g + 1) * k]] * small[..., place])
        assert condensed == pytest.approx(masked, rel=1e-6, abs=1e-6)


@given(kernels(), st.data())
def test_group_lasso_equals_the_loops(case, data):
    kernel, groups, condense_factor = case
    stage = data.draw(st.integers(0, condense_factor - 1))
    mask = reference_stages(kernel, groups, condense_factor)[stage]
    penalty = condensing.group_lasso(kernel, np.array(mask, "float32"))
    assert float(ops.convert_to_numpy(penalty)) == pytest.approx(reference_lasso(kernel, mask), rel=1e-5)


def test_group_lasso_of_nothing_is_the_clamp():
    penalty = condensing.group_lasso(np.zeros((1, 1, 5, 4), "float32"), np.ones((2, 5), "float32"))
    assert float(penalty) == pytest.approx(2 * 5 * 1e-3, rel=1e-5)


def test_group_lasso_has_the_gradient_that_differences_show():
    tf = pytest.importorskip("tensorflow")
    kernel = random_kernel((1, 1), 4, 6)
    kernel[:, :, 1, ::2] = 0.0  # a whole group of zeros: the clamp keeps the gradient finite, and zero
    mask = np.array([[1, 1, 0, 1], [1, 1, 1, 0]], "float32")
    variable = tf.Variable(kernel)
    with tf.GradientTape() as tape:
        penalty = condensing.group_lasso(variable, mask)
    gradient = tape.gradient(penalty, variable).numpy()
    step = 1e-4
    for position in np.ndindex(*kernel.shape):
        nudge = np.zeros(kernel.shape)
        nudge[position] = step
        up, down = (reference_lasso(kernel.astype("float64") + sign * nudge, mask.tolist()) for sign in (1, -1))
        # float32 gradients of values around 1; central differences of step 1e-4 err by about 1e-7
        assert gradient[position] == pytest.approx((up - down) / (2 * step), abs=1e-5)
    assert (gradient[:, :, 2, ::2] == 0).all()
    assert (gradient[:, :, 3, 1::2] == 0).all()
    assert (gradient[:, :, 1, ::2] == 0).all()


def test_mask_of_filters_interleaves_the_groups_for_arrays_and_tensors():
    mask = np.array([[1, 0], [0, 1], [1, 1]])
    expected = [[1, 0, 1, 1, 0, 1], [0, 1, 1, 0, 1, 1]]
    np.testing.assert_array_equal(condensing.mask_of_filters(mask, 6), expected)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(condensing.mask_of_filters(ops.convert_to_tensor(mask), 6)), expected
    )


@pytest.mark.parametrize(("groups", "condense_factor", "positions"), [(1, 2, ()), (2, 4, (1, 1)), (4, 2, (3, 3))])
def test_expanding_is_the_inverse_of_condensing(groups, condense_factor, positions):
    random = np.random.default_rng(0)
    kernel = random.normal(size=(*positions, 8, 12)).astype("float32")
    mask = np.zeros((groups, 8), "float32")
    for row in mask:
        row[random.permutation(8)[: 8 // condense_factor]] = 1
    masked = kernel * np.tile(mask, (12 // groups, 1)).T  # filter f belongs to group f mod G
    small, kept = condensing.condensed_kernel(masked, mask), condensing.kept_inputs(mask)
    expanded, its_mask = condensing.expanded_kernel(small, kept, inputs=8, groups=groups)
    np.testing.assert_array_equal(expanded, masked)
    np.testing.assert_array_equal(its_mask, mask)
    assert expanded.dtype == kernel.dtype


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ([0], r"`kept` \(of 1 numbers\) must be 2 inputs in 0\.\.3\. Give"),
        ([0, 4], r"must be 2 inputs in 0\.\.3"),
        ([-1, 0], r"must be 2 inputs in 0\.\.3"),
        ([2, 2], r"`kept` must name each input of a group once, and names one twice\. Give"),
    ],
)
def test_an_index_that_is_not_the_kernels(kept, message):
    with pytest.raises(ValueError, match=message):
        condensing.expanded_kernel(np.ones((2, 3)), np.array(kept), inputs=4, groups=1)
