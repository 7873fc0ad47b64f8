"""What Keras' own layers can do, and files of the first version: it holds for our layers, or is refused."""

import pathlib

import keras
import numpy as np
import pytest
from keras import ops
from keras_versions import since_keras

from keras_condense.condensation import condense
from keras_condense.layers import (
    BatchNormalization,
    CondenseDense,
    GroupConv2D,
    LearnedGroupConv2D,
    SparseFeatureReactivation,
)
from keras_condense.profiling import profile_model
from keras_condense.tflite import export_tflite, run_tflite

pytest.importorskip("tensorflow")

SAVED = pathlib.Path(__file__).parent.parent / "data" / "layers_0_1_0"  # by layers that had no base in Keras
LEARNED = {
    "convolution": LearnedGroupConv2D(4, 1, name="layer"),
    "dense": CondenseDense(4, name="layer"),
    "reactivation": SparseFeatureReactivation(8, groups=2, condense_factor=4, name="layer"),
}


def array(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def saved_network():
    image = keras.Input((6, 6, 8), name="image")
    x = LearnedGroupConv2D(8, 1, groups=2, use_bias=True, activation="relu", group_lasso=1e-4, name="learned")(image)
    x = GroupConv2D(8, 3, padding="same", groups=4, use_bias=True, activation="relu", name="group")(x)
    x = BatchNormalization(name="bn")(x)
    x = SparseFeatureReactivation(8, groups=2, condense_factor=2, name="reactivation")(x)
    x = LearnedGroupConv2D(4, 3, 2, groups=1, pruned_fraction=0.3, drops_at=(1 / 6, 1 / 3), name="fraction")(x)
    x = CondenseDense(5, name="dense")(keras.layers.Flatten(name="flat")(x))
    return keras.Model(image, x, name="saved")


def loaded(suffix):
    if suffix == ".keras":
        return keras.models.load_model(SAVED.with_suffix(suffix))
    model = saved_network()
    model.load_weights(SAVED.with_suffix(suffix))
    return model


READS_KERAS_3_15 = since_keras("3.15", "does not know all arguments that files of Keras 3.15 give")


@pytest.mark.parametrize("suffix", [pytest.param(".keras", marks=READS_KERAS_3_15), ".weights.h5"])
def test_files_of_the_first_version_load(suffix):
    model = loaded(suffix)
    with np.load(SAVED.with_suffix(".npz")) as file:
        np.testing.assert_allclose(ops.convert_to_numpy(model(file["images"])), file["outputs"], atol=1e-6)
    stages = {layer.name: layer.stage for layer in model.layers if hasattr(layer, "stage")}
    assert stages == {"learned": 2, "reactivation": 1, "fraction": 1, "dense": 1}
    assert [weight.path for weight in model.weights] == [
        *("learned/kernel", "learned/bias", "learned/mask", "group/kernel", "group/bias"),
        *("bn/gamma", "bn/beta", "bn/moving_mean", "bn/moving_variance", "reactivation/kernel", "reactivation/mask"),
        *("fraction/kernel", "fraction/mask", "dense/kernel", "dense/bias", "dense/mask"),
    ]


def test_our_layers_are_keras_layers():
    assert isinstance(GroupConv2D(4, 3), keras.layers.Conv2D)
    assert isinstance(LearnedGroupConv2D(4, 3), keras.layers.Conv2D)
    assert isinstance(CondenseDense(4), keras.layers.Dense)
    # an initializer, a regularizer or a constraint more would be lost unless the config names it
    ours, theirs = GroupConv2D(4, 3).get_config(), keras.layers.Conv2D(4, 3).get_config()
    assert set(ours) == set(theirs)
    assert set(CondenseDense(4).get_config()) - {"activity_regularizer", "condense_factor", "pruned_fraction"} == (
        set(keras.layers.Dense(4).get_config()) - {"quantization_config"} | {"drops_at"}
    )


@pytest.mark.parametrize("layer", LEARNED.values(), ids=LEARNED)
def test_learned_layers_refuse_lora_and_quantization(layer):
    model = keras.Sequential([keras.Input((3, 3, 8)), type(layer).from_config(layer.get_config())])
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"'layer' .* must be condensed before LoRA .* Call `keras_condense.condense"):
        model.layers[0].enable_lora(2)
    with pytest.raises(NotImplementedError, match=r"'layer' .* must be condensed before it is quantized.* Call `keras"):
        model.layers[0].quantize("int8", type_check=False)
    for ours, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_a_quantized_dtype_is_refused_where_keras_would_lose_the_mask():
    with pytest.raises(ValueError, match=r"`dtype` \(='int8_from_float32'\) of layer 'layer' .* Leave it out"):
        CondenseDense(4, dtype="int8_from_float32", name="layer").build((None, 8))


@pytest.mark.filterwarnings("ignore:Layer (InputLayer|ChannelIndex) does not have")
def test_quantizing_a_model_leaves_masked_layers_as_they_are():
    model = keras.Sequential([keras.Input((8,)), CondenseDense(8, name="masked"), keras.layers.Dense(4, name="plain")])
    model.layers[0].condense_to(1)
    kernel = model.layers[0].get_weights()[0]
    with pytest.warns(UserWarning, match="'masked' .* must be condensed before it is quantized"):
        model.quantize("int8")
    assert model.layers[0].kernel.dtype == "float32"
    np.testing.assert_array_equal(model.layers[0].get_weights()[0], kernel)
    assert model.layers[1].kernel.dtype == "int8"


@pytest.mark.filterwarnings("ignore:Layer (InputLayer|ChannelIndex) does not have")
def test_the_condensed_classifier_is_quantized_as_any_other():
    model = keras.Sequential([keras.Input((64,)), CondenseDense(8)])
    model.layers[0].condense_to(1)
    small, x = condense(model), array(4, 64)
    small.quantize("int8")
    np.testing.assert_allclose(ops.convert_to_numpy(small(x)), ops.convert_to_numpy(model(x)), atol=0.05)


def test_a_group_convolution_with_lora_trains_saves_and_is_exported(tmp_path):
    layer = GroupConv2D(8, 3, padding="same", groups=4, use_bias=True, activation="relu", name="layer")
    model = keras.Sequential([keras.Input((5, 5, 8)), layer])
    frozen, x = ops.convert_to_numpy(layer.kernel).copy(), array(4, 5, 5, 8)
    macs = profile_model(model).macs
    layer.enable_lora(2)
    assert profile_model(model).macs == macs  # the update is merged into the kernel
    model.compile("adam", "mse")
    model.fit(x, array(4, 5, 5, 8), epochs=2, verbose=0)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer._kernel), frozen)
    update = ops.convert_to_numpy(layer.lora_kernel_a) @ ops.convert_to_numpy(layer.lora_kernel_b)
    assert np.abs(update).max() > 0
    plain = GroupConv2D(8, 3, padding="same", groups=4, use_bias=True, activation="relu")
    plain.build((None, 5, 5, 8))
    plain.set_weights([frozen + update, layer.bias])
    expected = ops.convert_to_numpy(plain(x))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.layers[0].lora_rank == 2
    for same in (model, again, condense(model)):
        np.testing.assert_allclose(ops.convert_to_numpy(same(x)), expected, atol=1e-5)
    np.testing.assert_allclose(run_tflite(export_tflite(model), x), expected, atol=1e-5)


def test_a_masked_layer_takes_no_low_rank_update_from_its_first_line_on():
    with pytest.raises(TypeError, match="lora_rank"):
        LearnedGroupConv2D(8, 1, groups=2, lora_rank=2)


@pytest.mark.parametrize("rank", [0, -1, "x", 1.5])
def test_ranks_that_are_none(rank):
    with pytest.raises(ValueError, match=r"`lora_rank` \(=.*\) must be a positive integer"):
        GroupConv2D(8, 1, lora_rank=rank)
