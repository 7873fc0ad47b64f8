"""Shared weights of any network, against scikit-learn's k-means, NumPy's sums and the untouched model."""

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops
from sklearn.cluster import KMeans

import keras_condense as kc
from keras_condense.codebooks import clustered, codebook_of
from keras_condense.layers import SharedConv2D, SharedDense, SharedDepthwiseConv2D, SharedKernel

RANDOM = np.random.default_rng(0)


def network(**conv):
    keras.utils.set_random_seed(0)
    image = keras.Input((6, 6, 4))
    x = L.Conv2D(16, 3, padding="same", activation="relu", name="stem", **conv)(image)
    x = L.DepthwiseConv2D(3, use_bias=False, depthwise_regularizer="l2", name="depthwise")(x)
    x = kc.layers.GroupConv2D(12, 1, groups=4, name="grouped")(x)
    x = L.GlobalAveragePooling2D()(x)
    model = keras.Model(image, L.Dense(3, activation="softmax", name="scores")(x))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def data(n=16):
    return RANDOM.normal(size=(n, 6, 6, 4)).astype("float32"), RANDOM.integers(0, 3, n)


def kernels(model):
    return {layer.name: ops.convert_to_numpy(layer.kernel) for layer in model.layers if hasattr(layer, "kernel")}


def test_values_are_those_of_kmeans():
    kernel = RANDOM.normal(size=(3, 3, 8, 10)).astype("float32")
    values, indices, zero = codebook_of(kernel, 4)
    points = kernel.reshape(-1, 1).astype("float64")
    expected = KMeans(16, init=np.linspace(points.min(), points.max(), 16)[:, None], n_init=1).fit(points)
    np.testing.assert_allclose(values, np.sort(expected.cluster_centers_.ravel()), rtol=1e-6)
    assert not zero
    assert (np.diff(values) > 0).all()
    nearest = np.abs(kernel[..., None] - values).argmin(-1)
    np.testing.assert_array_equal(indices, nearest)


def test_zeros_stay_and_few_weights_are_kept():
    kernel = RANDOM.normal(size=(40, 20)) * (RANDOM.random((40, 20)) < 0.3)
    few = clustered(kernel, 3)
    np.testing.assert_array_equal(few == 0, kernel == 0)
    assert len(np.unique(few)) == 8
    exact = np.array([[0.1, 0.2], [0.2, -0.3]], "float32")
    np.testing.assert_array_equal(clustered(exact, 2), exact)
    np.testing.assert_array_equal(clustered(np.zeros((2, 2)), 1), np.zeros((2, 2)))


def test_large_kernels_are_clustered_by_a_sample(monkeypatch):
    monkeypatch.setattr("keras_condense.codebooks._LARGEST_WHOLE", 5000)
    monkeypatch.setattr("keras_condense.codebooks.LARGEST_SAMPLE", 2000)
    kernel = RANDOM.normal(size=(100, 100))
    one, again, other = (codebook_of(kernel, 4, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one[0], again[0])
    assert not np.array_equal(one[0], other[0])
    np.testing.assert_allclose(one[0][2:-2], other[0][2:-2], atol=0.3)
    np.testing.assert_array_equal(one[1], np.abs(kernel[..., None] - one[0].astype("float64")).argmin(-1))


def test_the_new_model_computes_with_few_weights_and_condenses():
    model, (x, _) = network(kernel_regularizer=keras.regularizers.L1L2(1e-3, 1e-2)), data()
    shared = kc.share_weights(model, 3)
    kinds = [type(layer) for layer in shared.layers if isinstance(layer, SharedKernel)]
    assert kinds == [SharedConv2D, SharedDepthwiseConv2D, SharedConv2D, SharedDense]
    clone = keras.models.clone_model(model)
    clone.set_weights([clustered(w, 3) if w.ndim > 1 else w for w in model.get_weights()])
    np.testing.assert_allclose(shared.predict(x, verbose=0), clone.predict(x, verbose=0), atol=1e-6)
    # regularizers act on the kernel
    np.testing.assert_allclose(float(sum(shared.losses)), float(sum(clone.losses)), rtol=1e-5)
    small = kc.condense(shared)
    assert [type(layer) for layer in small.layers] == [type(layer) for layer in model.layers]
    np.testing.assert_allclose(small.predict(x, verbose=0), shared.predict(x, verbose=0), atol=1e-6)
    for name, kernel in kernels(small).items():
        np.testing.assert_array_equal(kernel, kernels(shared)[name])
        assert len(np.unique(kernel)) <= 8
    assert kc.profile_model(shared).macs == kc.profile_model(model).macs == kc.profile_model(small).macs


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="takes gradients by TensorFlow's tape")
@pytest.mark.parametrize("zeros", [False, True])
def test_the_gradient_of_a_value_is_the_sum_over_its_cluster(zeros):
    import tensorflow as tf

    dense = L.Dense(6, name="dense")
    model = keras.Sequential([keras.Input((20,)), dense])
    if zeros:
        dense.kernel.assign(ops.convert_to_numpy(dense.kernel) * (RANDOM.random((20, 6)) < 0.5))
    layer = kc.share_weights(model, 3).layers[0]
    x = RANDOM.normal(size=(5, 20)).astype("float32")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(x) ** 2)
    gradient = tape.gradient(loss, layer.codebook.value)
    kernel, bias, indices = (ops.convert_to_numpy(w) for w in (layer.kernel, layer.bias, layer.indices))
    of_kernel = 2 * x.T @ (x @ kernel + bias)
    expected = [of_kernel[indices == number + zeros].sum() for number in range(8 - zeros)]
    assert isinstance(gradient, tf.Tensor)  # dense, as every optimizer takes it
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lion"])
def test_training_moves_values_and_no_zeros(optimizer, tmp_path):
    model, (x, y) = network(), data()
    stem = model.get_layer("stem").kernel
    stem.assign(ops.convert_to_numpy(stem) * (RANDOM.random(stem.shape) < 0.5))
    shared = kc.share_weights(model, 3)
    shared.compile(optimizer, "sparse_categorical_crossentropy")
    before = kernels(shared)
    shared.fit(x, y, epochs=1, batch_size=8, verbose=0)
    for name, kernel in kernels(shared).items():
        assert len(np.unique(kernel)) <= 8
        np.testing.assert_array_equal(kernel == 0, before[name] == 0)
        assert (kernel != before[name]).any()
    shared.save(tmp_path / "shared.keras")
    loaded = keras.models.load_model(tmp_path / "shared.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), shared.predict(x, verbose=0))
    loaded.fit(x, y, epochs=1, verbose=0)  # with the optimizer's state


def test_frozen_layers_and_half_precision():
    model, (x, y) = network(trainable=False), data()
    shared = kc.share_weights(model)
    assert shared.get_layer("stem").trainable_weights == []
    assert type(kc.condense(shared).get_layer("stem")) is L.Conv2D
    assert not kc.condense(shared).get_layer("stem").trainable
    layers = [L.Conv2D(4, 3), L.DepthwiseConv2D(3), L.Flatten(), L.Dense(3)]
    for layer in layers:
        layer.dtype_policy = keras.DTypePolicy("mixed_bfloat16")
    half = kc.share_weights(keras.Sequential([keras.Input((6, 6, 4)), *layers]), 2)
    half.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert np.isfinite(half.fit(x, y, verbose=0).history["loss"]).all()
    assert half.layers[0].codebook.dtype == "float32"
    assert half.layers[0].compute_dtype == "bfloat16"


def test_nested_and_shared_layers_and_a_layer_as_activation():
    twice = L.Dense(6, activation=L.LeakyReLU(), name="twice")
    inner = keras.Sequential([keras.Input((6,)), L.Dense(6, name="dense")], name="inner")
    image = keras.Input((6,))
    model = keras.Model(image, L.Add()([twice(inner(image)), twice(image)]))
    shared, x = kc.share_weights(model, 8), RANDOM.normal(size=(3, 6)).astype("float32")
    assert sum(isinstance(layer, SharedKernel) for layer in shared._flatten_layers()) == 2
    for one in (shared, kc.condense(shared)):  # no more than 256 weights are kept as they are
        np.testing.assert_allclose(one(x), model(x), atol=1e-6)


def test_what_is_left_and_why(capsys):
    image = keras.Input((8, 8, 4))
    x = kc.layers.LearnedGroupConv2D(8, 1, groups=2, condense_factor=2, name="learned")(image)
    x = L.Conv2D(8, 1, kernel_constraint="non_neg", name="constrained")(x)
    x = L.SeparableConv2D(8, 3, name="separable")(L.BatchNormalization()(x))
    x = L.Conv2D(8, 3, name="conv")(L.Conv2D(8, 1, groups=2, name="groups")(x))
    model = kc.share_weights(keras.Model(image, x), where="groups", report=True)
    assert "1 of 5 layers share weights" in capsys.readouterr().out
    layers = kc.explain_share_weights(model)
    assert layers.chosen == ("conv",)
    assert layers.left == {
        "learned": "has a mask: condense it first",
        "constrained": "has a constraint on its kernel, which shared weights can't keep",
        "separable": "has two kernels: write it as a depthwise and a 1x1 convolution",
        "groups": "shares its weights already",
    }


def test_errors():
    for bits in (0, 9, "5", True, 2.5):
        with pytest.raises(ValueError, match=r"`bits` \(=.*\) must be an integer from 1 to 8\. Use 5"):
            kc.share_weights(network(), bits)
    for arguments, message in (
        ({"where": "steem"}, r"`where` \(='steem'\) must be the name of a layer .*Use 'stem'"),
        ({"where": lambda layer: False}, "(?s)must have a layer that can share weights.*'stem' is not chosen"),
        ({"seed": -1}, r"`seed` \(=-1\) must be a positive integer\. Use 0"),
        ({"report": "yes"}, "`report`"),
    ):
        with pytest.raises(ValueError, match=message):
            kc.share_weights(network(), **arguments)
    model = network()
    model.get_layer("grouped").kernel.assign(np.full((1, 1, 4, 12), np.nan))
    with pytest.raises(ValueError, match=r"The kernel of layer 'grouped' must be finite to be clustered"):
        kc.share_weights(model)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SharedConv2D(8, 3, centroids=257), r"`centroids` \(=257\) must be"),
        (lambda: SharedDense(8, centroids=256, zero=True), r"`centroids` \(=256\) must be"),
        (lambda: SharedDense(8, kernel_constraint="non_neg"), "can't be constrained one by one"),
        (lambda: SharedDepthwiseConv2D(3, data_format="channels_first"), r"`data_format` \(='channels_first'\)"),
        (lambda: SharedDense(8).enable_lora(2), "must be condensed before LoRA is enabled"),
    ],
)
def test_layers_refuse_what_they_cannot_be(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "layer",
    [
        SharedConv2D(8, 3, groups=2, centroids=5, zero=True, activation="relu"),
        SharedDepthwiseConv2D(3, strides=2, centroids=9, depthwise_regularizer="l1"),
        SharedDense(8, centroids=3, activity_regularizer="l2"),
    ],
)
def test_layers_are_made_again_from_their_config(layer):
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()


def test_a_teacher_goes_with_shared_weights():
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    x, y = np.random.default_rng(0).normal(size=(12, 6)).astype("float32"), np.arange(12) % 3
    distiller = kc.share_weights(model, 2, teacher="self")
    assert len(distiller.fit(x, y, verbose=0).history["distillation_loss"]) == 1
    kernel = ops.convert_to_numpy(kc.condense(distiller).layers[0].kernel)
    assert len(np.unique(kernel)) == 4
    with pytest.raises(ValueError, match="must have the outputs of the student"):
        kc.share_weights(model, 2, teacher=keras.Sequential([keras.Input((6,)), keras.layers.Dense(5)]))
