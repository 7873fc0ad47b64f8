"""Sparse feature reactivation against loops that share no code with it; and what condenses it."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_condense import masks
from keras_condense.callbacks import CondenseSchedule
from keras_condense.condensation import condense
from keras_condense.layers import (
    ChannelScatterAdd,
    ChannelShuffle,
    GroupConv2D,
    SparseFeatureReactivation,
    condensable_layers,
)
from keras_condense.profiling import profile_model


def array(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def numpy_of(tensor):
    return ops.convert_to_numpy(tensor)


def with_kernel(kernel, **arguments):
    """A layer that is built and holds `kernel` (inputs, filters)."""
    layer = SparseFeatureReactivation(kernel.shape[-1], **arguments)
    layer.build((None, None, None, kernel.shape[0]))
    layer.kernel.assign(np.asarray(kernel, "float32")[None, None])
    return layer


# --------------------------------------------------------------------------------------------- the reference: loops


def reference_mask(kernel, groups, condense_factor, stage):
    """Each group drops, stage by stage, the outputs that it reaches with the smallest weights."""
    inputs, filters = kernel.shape
    mask = np.ones((groups, filters))
    for _ in range(stage):
        for g in range(groups):
            for _ in range(filters // condense_factor):
                scores = {}
                for f in range(filters):
                    if mask[g, f]:
                        scores[f] = sum(abs(float(kernel[i, f])) for i in range(inputs) if i % groups == g)
                mask[g, min(scores, key=scores.get)] = 0
    return mask


def reference_outputs(images, kernel, mask):
    outputs = np.zeros((*images.shape[:-1], kernel.shape[-1]))
    for i in range(kernel.shape[0]):
        for f in range(kernel.shape[1]):
            outputs[..., f] += images[..., i].astype("float64") * kernel[i, f] * mask[i % mask.shape[0], f]
    return outputs


# inputs 0 and 2 are group 0, inputs 1 and 3 group 1
LITERAL_KERNEL = np.array([
    [4, 1, 0, 9],
    [1, 5, 2, 2],
    [-4, 1, 3, 0],
    [0, -5, 2, 3],
])  # fmt: skip


def test_masks_that_an_eye_can_check():
    layer = with_kernel(LITERAL_KERNEL, groups=2, condense_factor=4)
    np.testing.assert_array_equal(layer.importance(), [[8, 2, 3, 9], [1, 10, 4, 5]])
    assert layer.condense_to(1)
    np.testing.assert_array_equal(numpy_of(layer.mask), [[1, 0, 1, 1], [0, 1, 1, 1]])
    assert layer.condense_to(2)
    np.testing.assert_array_equal(numpy_of(layer.mask), [[1, 0, 0, 1], [0, 1, 0, 1]])
    assert not layer.condense_to(1)
    assert layer.condense_to(3)
    np.testing.assert_array_equal(numpy_of(layer.mask), [[0, 0, 0, 1], [0, 1, 0, 0]])
    np.testing.assert_array_equal(
        numpy_of(layer.kernel)[0, 0], [[0, 0, 0, 9], [0, 5, 0, 0], [0, 0, 0, 0], [0, -5, 0, 0]]
    )


def test_condensed_kernels_that_an_eye_can_check():
    mask = np.array([[0, 0, 1, 1], [0, 1, 0, 1]])
    expected = [[0, 9, 5, 2], [3, 0, -5, 3]]  # group 0 reaches outputs 2 and 3, group 1 outputs 1 and 3
    np.testing.assert_array_equal(masks.condensed_reactivation(LITERAL_KERNEL, mask), expected)
    np.testing.assert_array_equal(masks.kept_inputs(mask), [2, 3, 1, 3])


@given(
    groups=st.integers(1, 4),
    inputs_per_group=st.integers(1, 3),
    condense_factor=st.integers(1, 5),
    outputs_left=st.integers(1, 3),
    stages=st.lists(st.integers(0, 4), min_size=1, max_size=3),
    seed=st.integers(0, 9),
)
@settings(max_examples=25)
def test_any_layer_masks_and_computes_what_the_loops_do(
    groups, inputs_per_group, condense_factor, outputs_left, stages, seed
):
    kernel = array(groups * inputs_per_group, condense_factor * outputs_left, seed=seed)
    images = array(2, 3, 2, kernel.shape[0], seed=seed + 1)
    layer = with_kernel(kernel, groups=groups, condense_factor=condense_factor)
    for stage in [min(stage, condense_factor - 1) for stage in stages] + [condense_factor - 1]:
        layer.condense_to(stage)
        mask = reference_mask(kernel, groups, condense_factor, layer.stage)
        assert layer.stage >= stage
        np.testing.assert_array_equal(numpy_of(layer.mask), mask)
        np.testing.assert_allclose(numpy_of(layer(images)), reference_outputs(images, kernel, mask), atol=1e-5)
    model = keras.Sequential([keras.Input(images.shape[1:]), layer])
    small = condense(model)
    np.testing.assert_allclose(numpy_of(small(images)), reference_outputs(images, kernel, mask), atol=1e-5)
    masked, condensed = profile_model(model), profile_model(small)
    assert masked.macs == condensed.macs == 6 * kernel.size // condense_factor
    assert masked.parameters == condensed.parameters == kernel.size // condense_factor


def test_the_mask_alone_decides_whatever_the_dropped_weights_are():
    kernel, images = array(4, 8), array(1, 2, 2, 4, seed=1)
    layer = with_kernel(kernel, groups=2, condense_factor=4)
    layer.condense_to(2)
    layer.kernel.assign(kernel[None, None] + 1)
    expected = reference_outputs(images, kernel + 1, numpy_of(layer.mask))
    np.testing.assert_allclose(numpy_of(layer(images)), expected, atol=1e-5)


def test_group_lasso_adds_the_norms_over_a_groups_inputs():
    layer = with_kernel(LITERAL_KERNEL, groups=2, condense_factor=4, group_lasso=0.5)
    columns = [(g, f) for g in range(2) for f in range(4)]
    norms = {(g, f): np.sqrt((LITERAL_KERNEL[g::2, f].astype("float64") ** 2).sum()) for g, f in columns}
    assert float(layer.lasso()) == pytest.approx(sum(norms.values()), rel=1e-6)
    layer.condense_to(1)
    del norms[0, 1], norms[1, 0]
    assert float(layer.lasso()) == pytest.approx(sum(norms.values()) + 2 * 1e-3, rel=1e-6)  # clamped under the root
    layer(array(1, 1, 1, 4), training=True)
    assert float(layer.losses[0]) == pytest.approx(0.5 * float(layer.lasso()))
    layer.condense_to(3)
    assert float(layer.lasso()) == 0
    layer(array(1, 1, 1, 4), training=False)
    assert not layer.losses


# --------------------------------------------------------------------------------------------- training, condensing


def network(**arguments):
    x = image = keras.Input((4, 4, 8))
    new = GroupConv2D(8, 3, padding="same", groups=4, name="new")(image)
    update = SparseFeatureReactivation(8, groups=4, condense_factor=4, name="reactivation", **arguments)(new)
    x = keras.layers.Concatenate()([keras.layers.Add()([x, update]), new])
    return keras.Model(image, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x)))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_dropped_weights_stay_zero_while_it_is_trained(optimizer):
    model = network()
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9) if optimizer == "sgd" else keras.optimizers.Adam(0.01)
    model.compile(optimizer, "mse", jit_compile=False)
    model.fit(array(16, 4, 4, 8), array(16, 3), batch_size=4, epochs=3, verbose=0, callbacks=[CondenseSchedule()])
    layer = model.get_layer("reactivation")
    assert condensable_layers(model) == [layer]
    assert layer.stage == layer.final_stage == 3
    dropped = numpy_of(layer.kernel_mask()) == 0
    assert dropped.mean() == 0.75
    assert (numpy_of(layer.kernel)[0, 0][dropped] == 0).all()
    assert (numpy_of(layer.kernel)[0, 0][~dropped] != 0).all()
    for memory in optimizer.variables:
        if memory.shape == layer.kernel.shape:
            assert (numpy_of(memory)[0, 0][dropped] == 0).all()


def test_condensed_it_is_made_of_layers_that_load_and_train(tmp_path):
    images, targets = array(8, 4, 4, 8), array(8, 3)
    model = network()
    model.get_layer("reactivation").condense_to(3)
    small = condense(model)
    parts = [small.get_layer(f"reactivation{part}") for part in ("_shuffle", "", "_scatter")]
    assert [type(part) for part in parts] == [ChannelShuffle, GroupConv2D, ChannelScatterAdd]
    assert [tuple(w.shape) for w in parts[1].weights] == [(1, 1, 2, 8)]
    np.testing.assert_allclose(numpy_of(small(images)), numpy_of(model(images)), atol=1e-5)
    small.save(tmp_path / "small.keras")
    loaded = keras.models.load_model(tmp_path / "small.keras")
    np.testing.assert_array_equal(numpy_of(loaded(images)), numpy_of(small(images)))
    # weights of another condensed network bring their own indices
    other = network()
    other.get_layer("reactivation").condense_to(3)
    other = condense(other)
    other.set_weights(small.get_weights())
    np.testing.assert_array_equal(numpy_of(other(images)), numpy_of(small(images)))
    small.compile(keras.optimizers.SGD(0.05), "mse", jit_compile=False)
    losses = small.fit(images, targets, epochs=4, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("arguments", "kinds"),
    [
        ({"groups": 1, "condense_factor": 4}, [GroupConv2D, ChannelScatterAdd]),
        ({"groups": 2, "condense_factor": 1}, [GroupConv2D]),
        ({"groups": 4, "condense_factor": 2}, [ChannelShuffle, GroupConv2D, ChannelScatterAdd]),
    ],
    ids=["one group", "nothing dropped", "more outputs than filters"],
)
def test_it_is_condensed_to_no_more_than_it_needs(arguments, kinds):
    layer = SparseFeatureReactivation(8, kernel_regularizer="l2", trainable=False, **arguments)
    model = keras.Sequential([keras.Input((3, 3, 4)), layer])
    small = condense(model, finish=True)
    assert [type(layer) for layer in small.layers] == kinds
    assert not small.trainable_weights
    layer.condense_to(layer.final_stage)
    np.testing.assert_allclose(numpy_of(small(array(2, 3, 3, 4))), numpy_of(model(array(2, 3, 3, 4))), atol=1e-5)


@pytest.mark.parametrize("quantize", [None, "dynamic"])
def test_the_file_computes_the_same(quantize):
    pytest.importorskip("tensorflow")
    from keras_condense.tflite import export_tflite, run_tflite

    model = network()
    model.get_layer("reactivation").condense_to(3)
    images = array(2, 4, 4, 8)
    expected = numpy_of(model(images))
    actual = run_tflite(export_tflite(model, quantize=quantize), images)
    tolerance = 1e-4 if quantize is None else 5e-2  # of the largest output; dynamic range keeps 8 bits of a weight
    assert np.abs(actual - expected).max() < tolerance * np.abs(expected).max()


# ------------------------------------------------------------------------------------------------------ scatter-add


@given(
    channels=st.integers(1, 6),
    indices=st.lists(st.integers(0, 5), min_size=1, max_size=9),
    shape=st.lists(st.integers(1, 3), max_size=3),
)
def test_scatter_adds_as_numpy_does(channels, indices, shape):
    if max(indices) >= channels:
        with pytest.raises(ValueError, match=r"`indices` \(up to \d\) must be below `channels` \(=\d\). Give at least"):
            ChannelScatterAdd(indices, channels)
        return
    x = array(2, *shape, len(indices))
    expected = np.zeros((channels, *x.shape[:-1]))
    np.add.at(expected, indices, np.moveaxis(x, -1, 0))
    outputs = numpy_of(ChannelScatterAdd(indices, channels)(x))
    np.testing.assert_allclose(outputs, np.moveaxis(expected, 0, -1), atol=1e-6)


def test_the_gradient_of_a_scatter_gathers():
    tf = pytest.importorskip("tensorflow")
    x, layer = tf.constant(array(2, 3)), ChannelScatterAdd([1, 0, 1], channels=3)
    factors = array(2, 3, seed=1)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(layer(x) * factors)
    np.testing.assert_allclose(tape.gradient(loss, x), factors[:, [1, 0, 1]], atol=1e-6)


# ----------------------------------------------------------------------------------------------------------- errors

LAYER = SparseFeatureReactivation
WRONG = [
    (lambda: LAYER(0), r"`filters` \(=0\) must be a positive integer. Give the number"),
    (lambda: LAYER(8, groups=1.5), r"`groups` \(=1.5\) must be a positive integer. Use"),
    (lambda: LAYER(8, condense_factor=0), r"`condense_factor` \(=0\) must be a positive integer. One connection"),
    (lambda: LAYER(8, condense_factor=3), r"`filters` \(=8\) must be divisible by `condense_factor` \(=3\). Change"),
    (lambda: LAYER(8, group_lasso=-1), r"`group_lasso` \(=-1\) must be a finite number, not negative. Use 0"),
    (lambda: LAYER(8, groups=4)(array(1, 2, 2, 6)), r"`in_channels` \(=6\) must be divisible by `groups` \(=4\)"),
    (lambda: LAYER(8)(keras.Input((2, 2, None))), r"inputs of shape \(None, 2, 2, None\), and expects .* Give"),
    (lambda: LAYER(8).condense_to(1), "must be built to have a mask, and is not. Call"),
    (lambda: with_kernel(array(8, 8)).condense_to(8), r"`stage` \(=8\) of layer .* must be an integer in \[0, 7\]"),
    (lambda: with_kernel(array(8, 8) * np.nan).condense_to(1), "must be finite .*Lower the learning rate"),
    (lambda: ChannelScatterAdd([], 3), r"`indices` \(=\[\]\) must be a non-empty sequence .* Give the output"),
    (lambda: ChannelScatterAdd([0, -1], 3), r"`indices` \(=\[0, -1\]\) must be .* none negative"),
    (lambda: ChannelScatterAdd([0.5], 3), r"`indices` \(=\[0.5\]\) must be a non-empty sequence of integers"),
    (lambda: ChannelScatterAdd([[0], [1, 2]], 3), "must be a non-empty sequence of integers"),
    (lambda: ChannelScatterAdd([0], True), r"`channels` \(=True\) must be a positive integer. Give"),
    (lambda: ChannelScatterAdd([0, 3], 3), r"`indices` \(up to 3\) must be below `channels` \(=3\). Give at least 4"),
    (lambda: ChannelScatterAdd([0, 1], 3)(array(2, 3)), r"inputs of shape \(2, 3\), and expects as many .* Give"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "message"), WRONG, ids=range(len(WRONG)))
def test_errors_say_what_came_what_was_expected_and_how_to_mend_it(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()


def test_unfinished_it_is_not_condensed():
    with pytest.raises(ValueError, match="Layer 'reactivation' is in condensing stage 0, and must be in stage 3"):
        condense(network())
