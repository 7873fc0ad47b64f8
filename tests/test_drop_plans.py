"""The stage that is due at any progress, of any plan."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference_masks import plans

from keras_condense import drop_plans, masks
from keras_condense.drop_plans import DropPlan

pytest.importorskip("tensorflow")


@pytest.mark.parametrize("condense_factor", [1, 2, 3, 4, 8])
def test_stage_boundaries(condense_factor):
    last = condense_factor - 1
    for stage in range(1, last + 1):
        boundary = stage / (2 * last)
        assert drop_plans.stage_from_progress(boundary, condense_factor) == stage
        assert drop_plans.stage_from_progress(boundary - 1e-6, condense_factor) == stage - 1
    for progress in (0.5, 0.75, 1, 1.0):
        assert drop_plans.stage_from_progress(progress, condense_factor) == last
    assert drop_plans.stage_from_progress(0, condense_factor) == 0


def test_the_papers_300_epochs_drop_at_50_100_and_150():
    stages = [drop_plans.stage_from_progress(epoch / 300, 4) for epoch in range(300)]
    assert [epoch for epoch in range(1, 300) if stages[epoch] != stages[epoch - 1]] == [50, 100, 150]


@given(st.integers(1, 10**7), st.data(), st.integers(1, 64))
def test_stage_from_a_division_equals_exact_arithmetic(total, data, condense_factor):
    done = data.draw(st.integers(0, total))
    exact = min(math.floor(2 * Fraction(done, total) * (condense_factor - 1)), condense_factor - 1)
    assert drop_plans.stage_from_progress(done / total, condense_factor) == exact


@given(plans(), st.integers(1, 10**6), st.data())
def test_any_plans_drops_fall_exactly_at_their_progress(case, total, data):
    plan, _ = case
    done = data.draw(st.integers(0, total))
    stage = sum(Fraction(done, total) >= Fraction(round(100 * moment), 100) for moment in plan.drops_at)
    assert drop_plans.stage_from_progress(done / total, plan) == stage
    assert drop_plans.final_stage(plan) == len(plan.drops_at)
    for number, moment in enumerate(plan.drops_at, start=1):
        assert drop_plans.stage_from_progress(moment, plan) == number
        assert drop_plans.stage_from_progress(max(moment - 1e-9, 0), plan) == number - (moment > 0)


@given(st.lists(plans(), min_size=1, max_size=4), st.floats(0, 1), st.data())
def test_stages_say_the_least_progress_at_which_training_goes_on(cases, progress, data):
    of_layers = [plan for plan, _ in cases]
    stages = [drop_plans.stage_from_progress(progress, plan) for plan in of_layers]
    began = drop_plans.progress_from_stages(zip(of_layers, stages, strict=True))
    assert 0 <= began <= progress + 1e-9
    assert [drop_plans.stage_from_progress(began, plan) for plan in of_layers] == stages
    assert began == 0 or any(abs(began - moment) < 1e-12 for plan in of_layers for moment in plan.drops_at)
    # stages of different times: nothing is due
    stages = [data.draw(st.integers(0, drop_plans.final_stage(plan))) for plan in of_layers]
    began = drop_plans.progress_from_stages(zip(of_layers, stages, strict=True))
    at_zero = [
        max(stage, drop_plans.stage_from_progress(0, plan)) for stage, plan in zip(stages, of_layers, strict=True)
    ]
    due = [drop_plans.stage_from_progress(began, plan) for plan in of_layers]
    assert all(stage <= most for stage, most in zip(due, at_zero, strict=True))


def test_sparse_densenets_300_epochs_drop_at_50_and_100():
    plan = DropPlan(0.3, (1 / 6, 1 / 3))
    stages = [drop_plans.stage_from_progress(epoch / 300, plan) for epoch in range(300)]
    assert [epoch for epoch in range(1, 300) if stages[epoch] != stages[epoch - 1]] == [50, 100]


@pytest.mark.parametrize("condense_factor", [1, 2, 3, 4, 8, 49])
def test_a_condense_factor_stands_for_its_plan(condense_factor):
    plan = drop_plans.drop_plan(condense_factor)
    assert plan.drops_at == tuple(s / (2 * (condense_factor - 1)) for s in range(1, condense_factor))
    inputs = 3 * condense_factor
    mask = np.ones((2, inputs))
    scores = np.random.default_rng(0).normal(size=mask.shape)
    for stage in range(condense_factor):
        left = inputs - 3 * stage
        assert drop_plans.inputs_left(inputs, stage, plan) == drop_plans.inputs_left(inputs, stage, condense_factor)
        assert drop_plans.inputs_left(inputs, stage, plan) == left
        mask = masks.drop_due(mask, scores, stage, plan)
        np.testing.assert_array_equal(mask, masks.drop_due(mask, scores, stage, condense_factor))
        assert mask.sum(1).tolist() == [left, left]
        assert masks.stage_of_mask(mask, plan) == masks.stage_of_mask(mask, condense_factor) == stage


def test_plans_of_arguments():
    assert drop_plans.drop_plan(4, drops_at=[0.1, np.float64(0.5)]) == DropPlan(0.75, (0.1, 0.5))
    assert drop_plans.drop_plan(pruned_fraction=0, drops_at=()) == drop_plans.drop_plan(1) == DropPlan(0.0, ())
    assert drop_plans.drop_plan(pruned_fraction=0.3, drops_at=np.array([0.0, 0.25])) == DropPlan(0.3, (0.0, 0.25))


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
        drop_plans.drop_plan(*arguments)


@pytest.mark.parametrize("progress", [-0.01, 1.01, float("nan"), float("inf")])
def test_progress_outside_its_range_is_refused(progress):
    with pytest.raises(ValueError, match=r"`progress` \(=.*\) must lie in \[0, 1\]. Divide"):
        drop_plans.stage_from_progress(progress, 4)
