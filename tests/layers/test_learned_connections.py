"""The stages of a learned layer, its group lasso, and files of other layers."""

import keras
import numpy as np
import pytest
from keras import ops
from tensors import array, numpy_of

from keras_condense.condensation import condense
from keras_condense.layers import (
    CondenseDense,
    LearnedGroupConv,
    LearnedGroupConv2D,
    SparseFeatureReactivation,
)
from keras_condense.tflite import export_tflite, run_tflite

pytest.importorskip("tensorflow")


def test_condense_to():
    layer = LearnedGroupConv2D(4, 1, groups=2, condense_factor=4)
    layer.build((None, 2, 2, 8))
    before = layer.kernel.numpy()
    assert layer.stage == 0
    assert layer.final_stage == 3
    assert not layer.condense_to(0)
    assert layer.condense_to(2)
    assert layer.stage == 2
    assert not layer.condense_to(1)
    assert not layer.condense_to(2)
    mask = layer.mask.numpy()
    np.testing.assert_array_equal(mask.sum(1), [4, 4])
    after = layer.kernel.numpy()
    np.testing.assert_array_equal(after[after != 0], before[after != 0])
    np.testing.assert_array_equal((after != 0)[0, 0], np.tile(mask.T, 2) > 0)


def test_condense_to_any_fraction():
    layer = LearnedGroupConv2D(4, 3, groups=2, pruned_fraction=0.3, drops_at=(0.2, 0.6))
    assert (layer.condense_factor, layer.final_stage) == (None, 2)
    layer.build((None, 3, 3, 10))
    kernel = layer.kernel.numpy()
    scores = np.abs(kernel).sum((0, 1))  # (inputs, filters)
    scores = np.stack([scores[:, g::2].sum(1) for g in range(2)])
    for stage, left in ((1, 8), (2, 7)):  # floor(10 * 0.85), 10 * 0.7
        assert layer.condense_to(stage)
        assert layer.stage == stage
        np.testing.assert_array_equal(layer.mask.numpy(), scores >= np.sort(scores, axis=1)[:, [10 - left]])
    np.testing.assert_array_equal(layer.kernel.numpy(), kernel * np.tile(layer.mask.numpy().T, 2))
    assert not layer.condense_to(2)
    with pytest.raises(ValueError, match=r"`stage` \(=3\) of layer .* must be an integer in \[0, 2\]\. Its"):
        layer.condense_to(3)


def test_condense_factors_are_what_they_are_by_default():
    assert LearnedGroupConv2D(4, 1).condense_factor == 4
    assert CondenseDense(3).condense_factor == 2
    assert LearnedGroupConv2D(4, 1, condense_factor=np.int64(8)).get_config()["condense_factor"] == 8


@pytest.mark.parametrize("layer", [LearnedGroupConv2D(4, 1, condense_factor=8), CondenseDense(3)])
def test_configurations_without_a_fraction_of_their_own_make_the_same_layer(layer):
    config = layer.get_config()
    shorter = {name: value for name, value in config.items() if name not in ("pruned_fraction", "drops_at")}
    assert type(layer).from_config(shorter).get_config() == config


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_condensing_keeps_what_is_left_to_the_last_bit(dtype):
    layer = LearnedGroupConv2D(4, 1, dtype=dtype)
    layer.build((None, 2, 2, 8))
    before = ops.convert_to_numpy(layer.kernel).copy()
    layer.condense_to(3)
    after = ops.convert_to_numpy(layer.kernel)
    assert layer.stage == 3
    assert (after[after != 0] == before[after != 0]).all()


@pytest.mark.parametrize("stage", [-1, 4, 1.5, "2", None])
def test_condense_to_refuses(stage):
    layer = LearnedGroupConv2D(4, 1, name="conv")
    layer.build((None, 2, 2, 8))
    with pytest.raises(ValueError, match=r"`stage` \(=.*\) of layer 'conv' must be an integer in \[0, 3\]\. Its"):
        layer.condense_to(stage)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_diverged_kernel_is_refused_and_left(bad):
    layer = LearnedGroupConv2D(4, 1, name="conv")
    layer.build((None, 2, 2, 8))
    kernel = layer.kernel.numpy()
    kernel[0, 0, 1, 2] = bad
    layer.kernel.assign(kernel)
    with pytest.raises(ValueError, match=r"kernel of layer 'conv' must be finite .* Lower the learning rate"):
        layer.condense_to(1)
    assert layer.stage == 0
    np.testing.assert_array_equal(layer.kernel.numpy(), kernel)


def test_an_unbuilt_layer_has_no_stage():
    for use in (lambda layer: layer.stage, lambda layer: layer.condense_to(1),
                lambda layer: layer.load_own_variables({"kernel": 0, "mask": 0})):  # fmt: skip
        with pytest.raises(ValueError, match=r"Layer 'conv' must be built .* Call the layer"):
            use(LearnedGroupConv2D(4, 1, name="conv"))


def test_weights_of_another_architecture_are_refused(tmp_path):
    with_bias = keras.Sequential([keras.Input((2, 2, 8)), LearnedGroupConv2D(4, 1, use_bias=True, name="conv")])
    with_bias.save_weights(tmp_path / "a.weights.h5")
    without = keras.Sequential([keras.Input((2, 2, 8)), LearnedGroupConv2D(4, 1, name="conv")])
    with pytest.raises(ValueError, match=r"'conv' expects the weights \['kernel', 'mask'\], and the file holds"):
        without.load_weights(tmp_path / "a.weights.h5")
    narrow = keras.Sequential([keras.Input((2, 2, 4)), LearnedGroupConv2D(4, 1, use_bias=True, name="conv")])
    with pytest.raises(ValueError, match="shape"):
        narrow.load_weights(tmp_path / "a.weights.h5")


def test_group_lasso_is_added_while_training_until_the_last_stage():
    layer = LearnedGroupConv2D(8, 1, group_lasso=0.01)
    x = array(1, 2, 2, 8)
    layer(x, training=False)
    assert not layer.losses
    for stage in range(3):
        layer.condense_to(stage)
        layer(x, training=True)
        assert len(layer.losses) == 1
        assert float(layer.losses[0]) == pytest.approx(0.01 * float(layer.lasso()))
        assert float(layer.lasso()) > 1
    layer.condense_to(3)
    layer(x, training=True)
    assert float(layer.losses[0]) == float(layer.lasso()) == 0


def test_group_lasso_ends_with_the_last_of_any_drops():
    layer = LearnedGroupConv2D(4, 1, groups=1, group_lasso=0.01, pruned_fraction=0.3, drops_at=(0.2, 0.6))
    layer.build((None, 2, 2, 7))
    for stage in range(2):
        layer.condense_to(stage)
        assert float(layer.lasso()) > 1
    layer.condense_to(2)
    assert float(layer.lasso()) == 0


@pytest.mark.parametrize(
    "layer",
    [LearnedGroupConv2D(4, 1), CondenseDense(4), SparseFeatureReactivation(8, groups=2, condense_factor=2)],
    ids=["convolution", "dense", "reactivation"],
)
def test_images_as_bytes_are_cast_condensed_and_exported(layer):
    image = keras.Input((3, 3, 8), dtype="uint8")
    model = keras.Model(image, layer(image))
    layer.condense_to(layer.final_stage)
    x = np.arange(72, dtype="uint8").reshape(1, 3, 3, 8)
    expected = numpy_of(model(x))
    np.testing.assert_allclose(numpy_of(condense(model)(x)), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(run_tflite(export_tflite(model), x), expected, rtol=1e-4, atol=1e-4)


def test_the_papers_name_is_the_same_layer():
    assert LearnedGroupConv is LearnedGroupConv2D
