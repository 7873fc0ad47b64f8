"""Masks, kernels and the group lasso against matrices that an eye can check, and against loops."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops
from reference_masks import (
    PAIRS,
    kernels,
    plans,
    random_kernel,
    reference_drop,
    reference_importance,
    reference_lasso,
    reference_stages,
)

from keras_condense import drop_plans, masks
from keras_condense.drop_plans import DropPlan

tf = pytest.importorskip("tensorflow")


def test_importance_of_a_matrix_an_eye_can_check():
    #                   filter 0   1   2   3      group 0 has filters 0 and 2, group 1 has 1 and 3
    kernel = np.array([[1, -10, 2, 20], [-3, 30, -4, 40]], "float32")
    np.testing.assert_array_equal(masks.importance(kernel, 2), [[3, 7], [30, 70]])
    # two positions add up
    np.testing.assert_array_equal(masks.importance(np.stack([kernel, 2 * kernel])[None], 2), [[9, 21], [90, 210]])


def test_importance_is_decided_in_float64():
    # in float32 the small ones would vanish beside the large one, and the inputs would tie
    kernel = np.array([[2.0**24, 1.0, 1.0], [2.0**24, 1.0, 0.0]], "float32")
    scores = masks.importance(kernel, 1)
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
        mask = masks.drop_due(mask, scores, stage, 4)
        assert ["".join(str(int(m)) for m in row) for row in mask] == rows
        assert masks.stage_of_mask(mask, 4) == stage
    np.testing.assert_array_equal(masks.kept_inputs(mask), [0, 2, 6, 7, 0, 1, 6, 7])


def test_three_inputs_in_ten_go_in_two_drops():
    # after the drops floor(10 * 0.85) = 8 and 10 * 0.7 = 7 are left, though 10 * (1 - 0.3) is a little below 7
    scores = np.array([[5, 1, 9, 2, 8, 3, 7, 4, 6, 0], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]], "float64")
    plan = DropPlan(0.3, (1 / 6, 1 / 3))
    mask = np.ones((2, 10))
    for stage, rows in {1: ["1011111110", "0011111111"], 2: ["1010111110", "0001111111"]}.items():
        mask = masks.drop_due(mask, scores, stage, plan)
        assert ["".join(str(int(m)) for m in row) for row in mask] == rows
        assert masks.stage_of_mask(mask, plan) == stage


def test_inputs_left_of_an_odd_number_are_rounded_down_and_never_none():
    plan = DropPlan(0.3, (0.1, 0.2))
    left = {inputs: [drop_plans.inputs_left(inputs, stage, plan) for stage in range(3)] for inputs in (1, 2, 16, 40)}
    assert left == {1: [1, 1, 1], 2: [2, 1, 1], 16: [16, 13, 11], 40: [40, 34, 28]}


def test_a_mask_is_in_the_stage_after_a_drop_that_takes_nothing():
    plan = DropPlan(0.3, (0.1, 0.2))
    assert masks.stage_of_mask(np.ones((2, 1)), plan) == 2  # one input is left at every stage
    assert masks.stage_of_mask(np.array([[0, 1]]), plan) == 2
    assert masks.stage_of_mask(np.ones((2, 2)), plan) == 0
    # a group that was left behind holds the stage
    assert masks.stage_of_mask(np.array([[1, 1], [0, 1]]), plan) == 0


def test_ties_drop_the_lower_index_first():
    mask = masks.drop_due(np.ones((1, 6)), np.zeros((1, 6)), 1, 3)
    np.testing.assert_array_equal(mask, [[0, 0, 1, 1, 1, 1]])
    mask = masks.drop_due(mask, np.zeros((1, 6)), 2, 3)
    np.testing.assert_array_equal(mask, [[0, 0, 0, 0, 1, 1]])


def test_a_dropped_input_never_returns():
    mask = masks.drop_due(np.ones((1, 4)), np.array([[1.0, 2, 3, 4]]), 1, 4)
    now_the_best = np.array([[99.0, 2, 3, 4]])
    np.testing.assert_array_equal(masks.drop_due(mask, now_the_best, 2, 4), [[0, 0, 1, 1]])


def test_an_earlier_stage_changes_nothing_and_arguments_stay():
    mask, scores = np.array([[0.0, 1, 0, 1]]), np.array([[4.0, 3, 2, 1]])
    before = mask.copy()
    np.testing.assert_array_equal(masks.drop_due(mask, scores, 1, 4), before)
    masks.drop_due(mask, scores, 3, 4)
    np.testing.assert_array_equal(mask, before)


def test_condensed_kernel_gathers_inputs_and_sorts_filters_by_group():
    kernel = np.array([[100 * j + f for f in range(6)] for j in range(4)])
    mask = np.array([[1, 0, 0, 1], [0, 1, 1, 0], [1, 1, 0, 0]])
    np.testing.assert_array_equal(
        masks.condensed_kernel(kernel, mask),
        # filters    0    3    1    4    2    5
        [[0, 3, 101, 104, 2, 5], [300, 303, 201, 204, 102, 105]],
    )


def test_kept_inputs_refuses_unequal_groups():
    with pytest.raises(ValueError, match=r"as many inputs in every group, and keeps \[1, 2\]. Set it"):
        masks.kept_inputs(np.array([[1, 0], [1, 1]]))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_importance_that_orders_nothing_is_refused(bad):
    with pytest.raises(ValueError, match=r"`importance` must be finite .* Lower the learning rate"):
        masks.drop_due(np.ones((1, 2)), np.array([[1.0, bad]]), 1, 2)


def test_connections_left_weighs_by_size():
    of_layers = [np.array([[1, 0], [0, 0]]), np.ones((3, 4))]
    assert masks.connections_left(of_layers) == pytest.approx(13 / 16)


@pytest.mark.parametrize(("groups", "condense_factor"), PAIRS)
def test_masks_after_every_stage_equal_the_loops(groups, condense_factor):
    kernel = random_kernel((1, 1), 3 * condense_factor, 4 * groups, seed=groups)
    scores = masks.importance(kernel, groups)
    mask = np.ones((groups, kernel.shape[2]))
    for stage, expected in enumerate(reference_stages(kernel, groups, condense_factor)):
        mask = masks.drop_due(mask, scores, stage, condense_factor)
        np.testing.assert_array_equal(mask, expected)


@given(kernels(), st.data())
def test_any_kernel_any_stages(case, data):
    kernel, groups, condense_factor = case
    inputs = kernel.shape[2]
    np.testing.assert_allclose(masks.importance(kernel, groups), reference_importance(kernel, groups), rtol=1e-12)
    scores = masks.importance(kernel, groups)
    expected = reference_stages(kernel, groups, condense_factor)
    # an arbitrary walk through the stages: those that it skips are dropped at once
    walk = sorted(data.draw(st.sets(st.integers(0, condense_factor - 1), max_size=4)))
    mask = np.ones((groups, inputs))
    for stage in walk:
        before = mask
        mask = masks.drop_due(mask, scores, stage, condense_factor)
        np.testing.assert_array_equal(mask, expected[stage])
        np.testing.assert_array_equal(mask.sum(1), inputs - stage * (inputs // condense_factor))
        assert masks.stage_of_mask(mask, condense_factor) == stage
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
        before, mask = mask, masks.drop_due(mask, scores, stage, plan)
        left = max(math.floor(inputs * (1 - fraction * stage / drops)), 1)
        reference_drop(expected, scores.tolist(), left)
        np.testing.assert_array_equal(mask, expected)
        assert drop_plans.inputs_left(inputs, stage, plan) == left
        assert mask.sum(1).tolist() == [left] * groups
        assert (mask <= before).all()
        # a later drop that takes nothing from so few inputs counts as done
        assert masks.stage_of_mask(mask, plan) >= stage
        assert drop_plans.inputs_left(inputs, masks.stage_of_mask(mask, plan), plan) == left


@given(kernels(), st.data())
def test_condensed_kernel_convolves_as_the_masked_one(case, data):
    kernel, groups, condense_factor = case
    size = kernel.shape[:2]
    mask = np.array(reference_stages(kernel, groups, condense_factor)[-1])
    small = masks.condensed_kernel(kernel, mask)
    index = masks.kept_inputs(mask)
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
    penalty = masks.group_lasso(kernel, np.array(mask, "float32"))
    assert float(ops.convert_to_numpy(penalty)) == pytest.approx(reference_lasso(kernel, mask), rel=1e-5)


def test_group_lasso_of_nothing_is_the_clamp():
    penalty = masks.group_lasso(np.zeros((1, 1, 5, 4), "float32"), np.ones((2, 5), "float32"))
    assert float(penalty) == pytest.approx(2 * 5 * 1e-3, rel=1e-5)


def test_group_lasso_has_the_gradient_that_differences_show():
    tf = pytest.importorskip("tensorflow")
    kernel = random_kernel((1, 1), 4, 6)
    kernel[:, :, 1, ::2] = 0.0  # a whole group of zeros: the clamp keeps the gradient finite, and zero
    mask = np.array([[1, 1, 0, 1], [1, 1, 1, 0]], "float32")
    variable = tf.Variable(kernel)
    with tf.GradientTape() as tape:
        penalty = masks.group_lasso(variable, mask)
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
    np.testing.assert_array_equal(masks.mask_of_filters(mask, 6), expected)
    np.testing.assert_array_equal(ops.convert_to_numpy(masks.mask_of_filters(ops.convert_to_tensor(mask), 6)), expected)


@pytest.mark.parametrize(("groups", "condense_factor", "positions"), [(1, 2, ()), (2, 4, (1, 1)), (4, 2, (3, 3))])
def test_expanding_is_the_inverse_of_condensing(groups, condense_factor, positions):
    random = np.random.default_rng(0)
    kernel = random.normal(size=(*positions, 8, 12)).astype("float32")
    mask = np.zeros((groups, 8), "float32")
    for row in mask:
        row[random.permutation(8)[: 8 // condense_factor]] = 1
    masked = kernel * np.tile(mask, (12 // groups, 1)).T  # filter f belongs to group f mod G
    small, kept = masks.condensed_kernel(masked, mask), masks.kept_inputs(mask)
    expanded, its_mask = masks.expanded_kernel(small, kept, inputs=8, groups=groups)
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
        masks.expanded_kernel(np.ones((2, 3)), np.array(kept), inputs=4, groups=1)
