"""Learned layers in pure half precision, with activations that are layers, shared through wrappers, not yet built."""

import warnings

import keras
import numpy as np
import pytest
from keras_versions import since_keras

import keras_condense as kc
from keras_condense import masks
from keras_condense.layers import CondenseDense, LearnedGroupConv2D, SparseFeatureReactivation, condensable_layers
from keras_condense.memory_efficient import MemoryEfficientModel
from keras_condense.optimizers import memories_of
from keras_condense.rewriting import rewrite

L = keras.layers


def images(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def finished(model):
    for layer in condensable_layers(model):
        layer.condense_to(layer.final_stage)
    return model


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("inputs", [320, 344, 1024, 4096])
def test_a_dense_layer_in_half_precision_is_not_condensed(dtype, inputs):
    """A sum of ones in bfloat16 ends at 256."""
    keras.config.set_dtype_policy(dtype)
    layer = LearnedGroupConv2D(64, 1, name="conv")
    model = keras.Sequential([keras.Input((2, 2, inputs)), layer])
    assert layer.stage == 0
    assert kc.profile_model(model).macs == 4 * inputs * 64
    assert masks.connections_left([keras.ops.convert_to_numpy(layer.mask)]) == 1
    with pytest.raises(ValueError, match="Layer 'conv' is in condensing stage 0"):
        kc.condense(model)
    layer.condense_to(3)
    assert layer.stage == 3
    assert float(keras.ops.cast(layer.lasso(), "float32")) == 0
    assert kc.profile_model(model).macs == inputs * 64


@pytest.mark.parametrize("activation", [L.PReLU, lambda: L.LeakyReLU(0.3)])
@pytest.mark.parametrize(
    "make",
    [
        lambda activation: LearnedGroupConv2D(8, 1, groups=2, activation=activation, name="learned"),
        lambda activation: CondenseDense(8, condense_factor=4, activation=activation, name="learned"),
    ],
)
def test_an_activation_that_is_a_layer_is_copied(activation, make):
    layer = make(activation())
    shape = (4, 4, 8) if isinstance(layer, LearnedGroupConv2D) else (8,)
    model = finished(keras.Sequential([keras.Input(shape), layer, L.Flatten()]))
    x = images(2, *shape)
    model(x)  # which builds it
    for variable in layer.activation.trainable_variables:
        variable.assign(np.full(variable.shape, 0.2))
    before = [np.asarray(value) for value in model.get_weights()]
    small = kc.condense(model)
    np.testing.assert_allclose(small(x), model(x), atol=1e-5)
    assert not {id(v) for v in small.variables} & {id(v) for v in model.variables}
    small.compile("sgd", "mse")
    small.fit(x, np.zeros(small(x).shape), verbose=0)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("rewriting", [kc.condense, kc.learn_groups])
def test_a_layer_that_a_wrapper_holds_too_is_refused(rewriting):
    shared = L.Conv2D(8, 1, name="shared")
    frames, image = keras.Input((5, 4, 4, 8)), keras.Input((4, 4, 8))
    model = keras.Model([frames, image], [L.TimeDistributed(shared, name="each")(frames), shared(image)])
    with pytest.raises(ValueError, match=r"Layer 'shared' of .* must be in one place .* is in 'each' and in 'shared'"):
        rewriting(model)
    relu = L.ReLU()  # has nothing to train
    model = keras.Sequential([keras.Input((4, 4, 8)), L.Conv2D(8, 1, activation=relu), relu])
    rewriting(model)


@pytest.mark.parametrize("layer", [LearnedGroupConv2D(8, 1), CondenseDense(8), SparseFeatureReactivation(16)])
def test_a_model_that_is_not_built_is_saved_like_any_other(layer, tmp_path):
    model = keras.Sequential([type(layer).from_config(layer.get_config())])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras says so
        model.save(tmp_path / "model.keras")
    assert len(keras.saving.load_model(tmp_path / "model.keras").layers) == 1


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="lost by TensorFlow's recomputed gradient")
def test_masks_of_time_steps_reach_memory_efficient_layers():
    words = keras.Input((5,), dtype="int32")
    x = L.ReLU()(L.Embedding(10, 4, mask_zero=True)(words))
    outputs = L.GlobalAveragePooling1D()(x)
    plain, efficient = keras.Model(words, outputs), MemoryEfficientModel(words, outputs)
    given = np.array([[1, 2, 0, 0, 0]])
    for training in (False, True):
        np.testing.assert_allclose(efficient(given, training=training), plain(given, training=training))


@since_keras("3.15", "has no MultiOptimizer")
def test_optimizers_that_hold_others():
    kinds = keras.optimizers
    inner = kinds.AdamW(0.1, weight_decay=0.1)
    inner.exclude_from_weight_decay(var_names=["bias"])
    model = keras.Sequential([keras.Input((4, 4, 8)), LearnedGroupConv2D(8, 1, use_bias=True)])
    model.compile(kinds.MultiOptimizer(kinds.OptimizerMap(inner)), "mse")
    x = images(8, 4, 4, 8)
    model.fit(x, x, epochs=6, verbose=0, callbacks=[kc.callbacks.CondenseSchedule()])
    (layer,) = condensable_layers(model)
    dropped = np.broadcast_to(np.asarray(layer.kernel_mask()) == 0, layer.kernel.shape)
    assert dropped.mean() == 0.75
    assert (np.asarray(layer.kernel)[dropped] == 0).all()
    assert len(list(memories_of(model.optimizer, layer.kernel))) == 2
    bias, kernel = (next(v for v in model.trainable_variables if v.name == name) for name in ("bias", "kernel"))
    assert (inner._use_weight_decay(bias), inner._use_weight_decay(kernel)) == (False, True)
    copies = rewrite(model, lambda layer: None)
    (again,) = copies.optimizer.optimizers
    assert {v.name: again._use_weight_decay(v) for v in copies.trainable_variables} == {"kernel": True, "bias": False}
