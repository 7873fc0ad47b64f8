"""Everything the authors' own PyTorch program computed on the same weights (see golden.py)."""

import numpy as np
import pytest
from golden import golden_model, learned_layers, load_golden
from keras import ops

from keras_condense.condensation import condense
from keras_condense.drop_plans import stage_from_progress

# float32 logits of magnitude 1 to 10, summed in another order
LOGITS = {"rtol": 0, "atol": 1e-4}


@pytest.fixture(scope="module")
def golden():
    return load_golden()


def logits(model, golden):
    return ops.convert_to_numpy(model(golden["input_nhwc"], training=False))


def condense_to(model, golden, stage):
    for name in learned_layers(golden).values():
        model.get_layer(name).condense_to(stage)


def lassos(model, golden):
    return [float(model.get_layer(name).lasso()) for name in learned_layers(golden).values()]


def test_dense(golden):
    model = golden_model(golden)
    np.testing.assert_allclose(logits(model, golden), golden["logits_dense"], **LOGITS)
    np.testing.assert_allclose(lassos(model, golden), golden["group_lasso_dense"], rtol=1e-5)


@pytest.mark.parametrize("skipping", [False, True], ids=["stage by stage", "at once"])
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_every_stage(golden, stage, skipping):
    if skipping and stage == 1:
        pytest.skip("nothing to skip")
    model = golden_model(golden)
    for step in [stage] if skipping else range(1, stage + 1):
        condense_to(model, golden, step)
    factor = int(golden["config_condense_factor"])
    assert stage_from_progress(float(golden[f"stage{stage}/progress"]), factor) == stage
    assert stage_from_progress(float(golden[f"stage{stage}/progress"]) - 2e-6, factor) == stage - 1
    for theirs, ours in learned_layers(golden).items():
        layer = model.get_layer(ours)
        assert layer.stage == stage
        mask = ops.convert_to_numpy(layer.mask).astype(bool)
        expected = golden[f"stage{stage}/mask/{theirs}"]  # one row per filter
        for f in range(expected.shape[0]):
            np.testing.assert_array_equal(mask[f % layer.groups], expected[f])
    np.testing.assert_allclose(logits(model, golden), golden[f"stage{stage}/logits"], **LOGITS)
    np.testing.assert_allclose(lassos(model, golden), golden[f"stage{stage}/group_lasso"], rtol=1e-5)


def test_condensed(golden):
    model = golden_model(golden)
    condense_to(model, golden, 3)
    small = condense(model)
    np.testing.assert_allclose(logits(small, golden), golden["condensed/logits"], **LOGITS)
    for theirs, ours in learned_layers(golden).items():
        index = ops.convert_to_numpy(small.get_layer(f"{ours}_index").indices)
        np.testing.assert_array_equal(index, golden[f"condensed/index/{theirs}"])


def test_condensed_with_half_the_classifiers_inputs(golden):
    model = golden_model(golden, classifier_condense_factor=2)
    condense_to(model, golden, 3)
    small = condense(model, finish=True)
    np.testing.assert_allclose(logits(small, golden), golden["condensed_half_classifier/logits"], **LOGITS)
    index = ops.convert_to_numpy(small.get_layer("predictions_index").indices)
    assert (np.diff(index) > 0).all()
    # the authors list the inputs by ascending importance, we by position
    importance = np.abs(golden["weights/classifier.weight"].astype("float64")).sum(0)
    np.testing.assert_array_equal(
        index[np.argsort(importance[index], kind="stable")], golden["condensed_half_classifier/index"]
    )
