"""One battery for every layer: configuration, weights, shapes, files, clones and every precision."""

import dataclasses

import keras
import numpy as np
import pytest
from tensors import array, numpy_of

from keras_condense.layers import (
    BatchNormalization,
    ChannelIndex,
    ChannelScatterAdd,
    ChannelShuffle,
    CondenseDense,
    GroupConv2D,
    LearnedGroupConv2D,
    PrunedConv2D,
    PrunedDense,
    SparseFeatureReactivation,
)

pytestmark = pytest.mark.slow  # all of it, together


tf = pytest.importorskip("tensorflow")


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer and the shape of its inputs, without the batch."""

    layer: type
    arguments: dict
    shape: tuple
    weights: int  # how many
    trainable: int
    losses: bool = False


CASES = {
    "learned": Case(LearnedGroupConv2D, {"filters": 8, "kernel_size": 1}, (5, 5, 8), 2, 1),
    "learned-everything": Case(
        LearnedGroupConv2D,
        {
            "filters": 6, "kernel_size": (3, 2), "strides": (2, 1), "padding": "same", "groups": 2,
            "condense_factor": 4, "group_lasso": 1e-4, "activation": "relu", "use_bias": True,
            "kernel_initializer": "he_normal", "bias_initializer": "ones", "kernel_regularizer": "l2",
            "bias_regularizer": "l1", "kernel_constraint": "max_norm", "bias_constraint": "non_neg",
        },
        (5, 6, 8), 3, 2, losses=True,
    ),
    "learned-dilated": Case(
        LearnedGroupConv2D,
        {"filters": 4, "kernel_size": 3, "dilation_rate": 2, "groups": 4, "condense_factor": 2}, (7, 7, 4), 2, 1,
    ),
    "learned-C1": Case(
        LearnedGroupConv2D, {"filters": 4, "kernel_size": 1, "groups": 2, "condense_factor": 1}, (3, 3, 5), 2, 1
    ),
    "learned-fraction": Case(
        LearnedGroupConv2D,
        {"filters": 4, "kernel_size": 3, "groups": 1, "pruned_fraction": 0.3, "drops_at": (1 / 6, 1 / 3)},
        (5, 5, 7), 2, 1,
    ),
    "learned-moments": Case(
        LearnedGroupConv2D, {"filters": 4, "kernel_size": 1, "groups": 2, "drops_at": [0.0, 0.25]}, (3, 3, 8), 2, 1
    ),
    "group": Case(GroupConv2D, {"filters": 8, "kernel_size": 3, "padding": "same", "groups": 4}, (5, 5, 8), 1, 1),
    "group-everything": Case(
        GroupConv2D,
        {
            "filters": 6, "kernel_size": (2, 3), "strides": 2, "groups": 2, "activation": "softmax",
            "use_bias": True, "kernel_regularizer": "l2", "bias_constraint": "non_neg",
        },
        (6, 7, 4), 2, 2, losses=True,
    ),
    "group-dilated": Case(
        GroupConv2D, {"filters": 4, "kernel_size": 3, "dilation_rate": (2, 1), "groups": 2}, (7, 7, 4), 1, 1
    ),
    "dense": Case(CondenseDense, {"units": 3}, (8,), 3, 2),
    "dense-everything": Case(
        CondenseDense,
        {
            "units": 4, "condense_factor": 4, "activation": "softmax", "use_bias": False,
            "kernel_regularizer": "l2", "kernel_constraint": "max_norm",
        },
        (2, 8), 2, 1, losses=True,
    ),
    "dense-fraction": Case(CondenseDense, {"units": 3, "pruned_fraction": 0.5, "drops_at": (0.2,)}, (7,), 3, 2),
    "pruned": Case(PrunedConv2D, {"filters": 6}, (3, 3, 5), 3, 2),
    "pruned-everything": Case(
        PrunedConv2D,
        {
            "filters": 8, "kernel_size": 1, "strides": (2, 1), "padding": "same", "sparsity": 0.5, "block": 4,
            "schedule": "even", "drops_at": (0.25, 0.5), "activation": "softmax", "use_bias": False,
            "kernel_regularizer": "l2", "kernel_constraint": "max_norm",
        },
        (5, 4, 6), 2, 1, losses=True,
    ),
    "pruned dense": Case(PrunedDense, {"units": 4, "block": 2, "activation": "relu"}, (2, 7), 3, 2),
    "pruned dense-everything": Case(
        PrunedDense,
        {
            "units": 3, "sparsity": 0.9, "schedule": "even", "drops_at": [0.0, 0.1], "use_bias": False,
            "kernel_regularizer": "l1", "kernel_initializer": "he_normal",
        },
        (9,), 2, 1, losses=True,
    ),
    "index": Case(ChannelIndex, {"indices": [3, 0, 3]}, (2, 2, 4), 1, 0),
    "index-array": Case(ChannelIndex, {"indices": np.array([1, 2], "int64")}, (4,), 1, 0),
    "scatter": Case(ChannelScatterAdd, {"indices": [3, 0, 3], "channels": 5}, (2, 2, 3), 1, 0),
    "shuffle": Case(ChannelShuffle, {"groups": 3}, (2, 2, 6), 0, 0),
    "shuffle-vector": Case(ChannelShuffle, {"groups": 2}, (4,), 0, 0),
    "reactivation": Case(SparseFeatureReactivation, {"filters": 8, "groups": 2, "condense_factor": 4}, (5, 5, 4), 2, 1),
    "reactivation-everything": Case(
        SparseFeatureReactivation,
        {
            "filters": 6, "groups": 1, "condense_factor": 3, "group_lasso": 1e-4, "kernel_initializer": "he_normal",
            "kernel_regularizer": "l2", "kernel_constraint": "max_norm",
        },
        (3, 4, 3), 2, 1, losses=True,
    ),
    "batch norm": Case(BatchNormalization, {"momentum": 0.9, "epsilon": 1e-5}, (3, 3, 4), 4, 2),
    "batch norm-vector": Case(BatchNormalization, {"center": False}, (4,), 3, 1),
}  # fmt: skip

BATTERY = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def model_of(case, **arguments):
    layer = case.layer(**case.arguments, name="layer", **arguments)
    model = keras.Sequential([keras.Input(case.shape), layer])
    if hasattr(layer, "condense_to"):  # a state worth saving: half way
        layer.condense_to(layer.final_stage // 2)
    return model


@BATTERY
def test_config_makes_the_same_layer(case):
    layer = case.layer(**case.arguments, name="mine")
    config = layer.get_config()
    again = case.layer.from_config(config)
    assert again.get_config() == config
    assert again.name == "mine"
    assert keras.layers.deserialize(keras.layers.serialize(layer)).get_config() == config
    assert keras.saving.get_registered_name(case.layer) == f"keras_condense>{case.layer.__name__}"


@BATTERY
def test_builds_its_weights(case):
    layer = case.layer(**case.arguments)
    layer.build((None, *case.shape))
    assert len(layer.weights) == case.weights
    assert len(layer.trainable_weights) == case.trainable
    frozen = case.layer(**case.arguments, trainable=False)
    frozen.build((None, *case.shape))
    assert not frozen.trainable_weights
    assert frozen.get_config()["trainable"] is False


@BATTERY
@pytest.mark.parametrize("batch", [None, 2])
def test_shapes_symbolic_and_eager_agree(case, batch):
    x = array(2, *case.shape)
    layer = case.layer(**case.arguments)
    promised = layer.compute_output_shape((batch, *case.shape))
    symbolic = layer(keras.Input(batch_shape=(batch, *case.shape)))
    eager = layer(x)
    assert promised == symbolic.shape == (batch, *eager.shape[1:])
    assert keras.backend.standardize_dtype(eager.dtype) == symbolic.dtype == "float32"
    traced = tf.function(layer, jit_compile=False)(x)
    np.testing.assert_allclose(numpy_of(traced), numpy_of(eager), atol=1e-6)
    np.testing.assert_allclose(keras.Sequential([layer]).predict(x, verbose=0), numpy_of(eager), atol=1e-6)


@BATTERY
def test_unknown_image_sizes(case):
    if len(case.shape) != 3:
        pytest.skip("no image")
    layer = case.layer(**case.arguments)
    symbolic = layer(keras.Input((None, None, case.shape[-1])))
    assert symbolic.shape[1:3] == (None, None)
    model = keras.Sequential([keras.Input((None, None, case.shape[-1])), layer])
    x = array(1, *case.shape)
    np.testing.assert_allclose(model.predict(x, verbose=0), numpy_of(layer(x)), atol=1e-6)


@BATTERY
def test_saves_and_loads(case, tmp_path):
    model = model_of(case)
    x = array(2, *case.shape)
    expected = numpy_of(model(x))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(numpy_of(loaded(x)), expected)
    for ours, theirs in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)

    model.save_weights(tmp_path / "model.weights.h5")
    keras.utils.set_random_seed(1)
    fresh = keras.Sequential([keras.Input(case.shape), case.layer(**case.arguments, name="layer")])
    fresh.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(numpy_of(fresh(x)), expected)

    model.export(tmp_path / "saved_model", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "saved_model"))
    np.testing.assert_allclose(numpy_of(served.serve(x)), expected, atol=1e-6)


@BATTERY
def test_clones(case):
    model = model_of(case)
    x = array(2, *case.shape)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(numpy_of(clone(x)), numpy_of(model(x)))
    inputs = keras.Input(case.shape)
    functional = keras.Model(inputs, case.layer(**case.arguments)(inputs))
    again = keras.models.clone_model(functional)
    again.set_weights(functional.get_weights())
    np.testing.assert_array_equal(numpy_of(again(x)), numpy_of(functional(x)))


@BATTERY
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16", "float64"])
def test_training_lowers_the_loss_in_every_precision(case, policy):
    if policy == "float64" and case.losses:
        pytest.skip("Keras adds losses of one dtype only")
    inputs = keras.Input(case.shape, dtype="float32")
    outputs = case.layer(**case.arguments, dtype=policy, name="layer")(inputs)
    compute = keras.dtype_policies.get(policy).compute_dtype
    assert outputs.dtype == compute
    outputs = keras.layers.Dense(2, dtype="float32")(keras.layers.Flatten(dtype="float32")(outputs))
    model = keras.Model(inputs, outputs)
    layer = model.get_layer("layer")
    variable = keras.dtype_policies.get(policy).variable_dtype
    assert {w.dtype for w in layer.trainable_weights} <= {variable}
    assert bool(layer.losses) == case.losses
    # eager where only the dtypes differ: tracing takes longer than the steps
    model.compile(keras.optimizers.SGD(0.005), "mse", run_eagerly=policy != "float32")
    x, y = array(8, *case.shape), array(8, 2, seed=1)
    before = [w.copy() for w in layer.get_weights()]
    history = model.fit(x, y, epochs=4, batch_size=8, verbose=0).history["loss"]
    assert np.isfinite(history).all()
    assert history[-1] < history[0]
    moved = [not np.array_equal(a, b) for a, b in zip(before, layer.get_weights(), strict=True)]
    assert sum(moved) >= case.trainable
    assert keras.backend.standardize_dtype(layer(x).dtype) == compute
