"""Batch normalization equals Keras' own."""

import keras
import numpy as np
import pytest
from tensors import array, numpy_of

from keras_condense.layers import (
    BatchNormalization,
    normalization,
)

tf = pytest.importorskip("tensorflow")


def both_norms(policy="float32", **arguments):
    norms = [kind(**arguments, dtype=policy) for kind in (BatchNormalization, keras.layers.BatchNormalization)]
    return norms


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"epsilon": 1e-5, "momentum": 0.9},
        {"epsilon": 1e-7},
        {"scale": False},
        {"center": False},
        {"axis": 3},
        {"axis": 1},
        {"trainable": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("shape", [(6, 5, 4, 3), (2, 1, 1, 3), (1, 1, 1, 3), (7, 3)], ids=str)
def test_batch_norm_equals_keras(arguments, shape):
    if arguments.get("axis") == 3 and len(shape) == 2:
        pytest.skip("no such axis")
    if arguments.get("epsilon") == 1e-7 and shape == (1, 1, 1, 3):
        pytest.skip("the variance is 0, and 1e-7 makes 3000-fold of Keras' own rounding")
    ours, theirs = both_norms(**arguments)
    rng = np.random.default_rng(0)
    for norm in (ours, theirs):
        norm.build(shape)
    start = [rng.uniform(0.5, 2, w.shape) for w in theirs.weights]
    for norm in (ours, theirs):
        norm.set_weights(start)
    x = tf.constant(rng.normal(3, 2, shape), "float32")
    target = tf.constant(rng.normal(size=shape), "float32")
    for training in (True, True, False):
        results = []
        for norm in (ours, theirs):
            with tf.GradientTape() as tape:
                tape.watch(x)
                outputs = norm(x, training=training)
                loss = tf.reduce_sum((outputs - target) ** 2)
            trained = [w.value for w in norm.trainable_weights]
            results.append([outputs, *tape.gradient(loss, [x, *trained]), *norm.weights])
        for a, b in zip(*results, strict=True):
            np.testing.assert_allclose(numpy_of(a), numpy_of(b), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("shape", [(6, 5, 4, 3), (3, 7, 5, 24), (3, 4, 4, 60), (2, 4, 4, 32)], ids=str)
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("compiled", [True, False])
def test_batch_norm_trains_like_keras_with_and_without_the_fused_op(monkeypatch, shape, fused, compiled):
    monkeypatch.setattr(normalization, "_is_fused_op_fast", lambda channels: fused)
    rng = np.random.default_rng(1)
    images, target = rng.normal(300, 2, shape).astype("float32"), rng.normal(size=shape).astype("float32")
    results = []
    for norm in both_norms(momentum=0.9, epsilon=1e-5):
        norm.build(shape)
        start = np.random.default_rng(2)
        norm.set_weights([start.uniform(0.5, 2, w.shape) for w in norm.weights])

        def step(x, norm=norm):
            with tf.GradientTape() as tape:
                tape.watch(x)
                outputs = norm(x, training=True)  # a ReLU that follows is merged into the last op
                loss = tf.reduce_sum(tf.nn.relu(outputs) * target)
            return [outputs, *tape.gradient(loss, [x, *(w.value for w in norm.trainable_weights)])]

        step = tf.function(step) if compiled else step
        results.append([*step(tf.constant(images)), *norm.weights])
    for a, b in zip(*results, strict=True):
        # means of 300 leave a deviation of 2 some five digits
        np.testing.assert_allclose(numpy_of(a), numpy_of(b), rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("fused", [True, False])
def test_batch_norm_has_forward_and_second_derivatives(monkeypatch, fused):
    monkeypatch.setattr(normalization, "_is_fused_op_fast", lambda channels: fused)
    images, direction = tf.constant(array(3, 4, 4, 5)), tf.constant(array(3, 4, 4, 5, seed=1))
    results = []
    for norm in both_norms():
        with tf.autodiff.ForwardAccumulator(images, direction) as accumulator:
            outputs = norm(images, training=True)
        with tf.GradientTape() as outer:
            outer.watch(images)
            with tf.GradientTape() as inner:
                inner.watch(images)
                loss = tf.reduce_sum(tf.sin(norm(images, training=True)))
            squares = tf.reduce_sum(inner.gradient(loss, images) ** 2)
        results.append([accumulator.jvp(outputs), outer.gradient(squares, images)])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(numpy_of(a), numpy_of(b), atol=2e-5)


@pytest.mark.parametrize("fused", [True, False])
def test_batch_norm_of_no_pixels_in_a_graph(monkeypatch, fused):
    monkeypatch.setattr(normalization, "_is_fused_op_fast", lambda channels: fused)
    norm = BatchNormalization()
    norm.build((None, 0, 4, 5))
    assert tf.function(norm)(tf.zeros((2, 0, 4, 5)), training=True).shape == (2, 0, 4, 5)


def test_which_batch_norms_the_fused_op_trains_fast(monkeypatch):
    def fast(channels, onednn, avx512):
        monkeypatch.setattr(normalization, "_runs_on_onednn", lambda: onednn)
        monkeypatch.setattr(normalization, "_processor_has_avx512", lambda: avx512)
        return normalization._is_fused_op_fast(channels)

    assert fast(24, onednn=False, avx512=False)  # an accelerator, ARM, or oneDNN switched off
    assert fast(32, onednn=True, avx512=True)
    assert not fast(24, onednn=True, avx512=True)
    assert not fast(32, onednn=True, avx512=False)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64", "float16", "bfloat16"])
def test_batch_norm_equals_keras_in_other_precisions(policy):
    ours, theirs = both_norms(policy)
    x = array(6, 4, 4, 3) * 2 + 3
    for training in (True, False):
        a, b = ours(x, training=training), theirs(x, training=training)
        assert a.dtype == b.dtype
        # rounded to 11 (8) bits, ours once and Keras' up to thrice
        tolerance = 1e-6 if policy == "float64" else 2**-6 if "bfloat16" in policy else 2**-9
        np.testing.assert_allclose(numpy_of(a), numpy_of(b), rtol=tolerance, atol=tolerance)
    statistics = 1e-5 if policy in ("float64", "mixed_float16", "mixed_bfloat16") else 3e-2
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a.astype("float32"), b.astype("float32"), rtol=statistics, atol=statistics)


def test_batch_norm_with_a_mask_equals_keras():
    ours, theirs = both_norms()
    x, mask = array(4, 3, 3, 2), np.random.default_rng(0).integers(0, 2, (4, 3, 3)).astype(bool)
    a, b = ours(x, training=True, mask=mask), theirs(x, training=True, mask=mask)
    np.testing.assert_allclose(numpy_of(a), numpy_of(b), atol=1e-5)
