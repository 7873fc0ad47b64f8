"""A condensed network's twin in tensorflow-model-optimization's three tools, which run in a process of their own."""

import importlib.util
import pathlib

import keras
import numpy as np
import pytest
from tfmot_process import in_tfmot_process

import keras_condense as kc

for package in ("tf_keras", "tensorflow_model_optimization"):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed", allow_module_level=True)

L, K = keras.layers, kc.layers

# tensorflow-model-optimization's names of how each layer is quantized
QUANTIZED = {
    "norm_first": "NoOpQuantizeConfig", "relu_first": "Default8BitQuantizeConfig",
    "learned_index": "NoOpQuantizeConfig", "learned": "Default8BitConvQuantizeConfig",
    "learned_shuffle": "NoOpQuantizeConfig", "norm_alone": "Default8BitOutputQuantizeConfig",
    "hard_silu": "Default8BitOutputQuantizeConfig", "grouped": "Default8BitConvQuantizeConfig",
    "norm_of_grouped": "NoOpQuantizeConfig", "relu_of_grouped": "Default8BitQuantizeConfig",
    "gate": "Default8BitConvQuantizeConfig", "gated": "Default8BitOutputQuantizeConfig",
    "scatter": "Default8BitOutputQuantizeConfig", "scores": "Default8BitQuantizeConfig",
}  # fmt: skip


def network():
    """A layer of each kind that tensorflow-model-optimization is told of, or is not."""
    x = image = keras.Input((6, 6, 8), name="image")
    x = L.ReLU(name="relu_first")(K.BatchNormalization(name="norm_first")(x))
    x = K.LearnedGroupConv2D(8, 1, groups=2, condense_factor=2, name="learned")(x)
    x = L.Activation("hard_silu", name="hard_silu")(K.BatchNormalization(name="norm_alone")(x))
    x = K.GroupConv2D(8, 3, padding="same", groups=2, name="grouped")(x)
    x = L.ReLU(name="relu_of_grouped")(L.BatchNormalization(name="norm_of_grouped")(x))
    gate = L.Conv2D(8, 1, activation="hard_sigmoid", name="gate")(L.GlobalAveragePooling2D(keepdims=True)(x))
    x = K.ChannelScatterAdd([1, 0, 1, 2, 3, 4, 5, 6], 8, name="scatter")(L.Multiply(name="gated")([x, gate]))
    x = L.GlobalAveragePooling2D()(L.Concatenate()([x, image]))
    return keras.Model(image, L.Dense(3, activation="softmax", name="scores")(x))


def try_all_tools(arrays: dict[str, np.ndarray], folder: pathlib.Path) -> dict[str, np.ndarray]:
    """What the tools make of the twin of `small.keras`; pruned and clustered ones are saved as they came back."""
    import tensorflow_model_optimization as tfmot

    model = keras.saving.load_model(folder / "small.keras")
    images, labels = arrays["images"], arrays["labels"]
    made = {}

    def twin():
        return kc.interop.to_tf_keras(model)

    def trained(wrapped, *callbacks):
        wrapped.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)  # tracing takes longer
        loss = wrapped.fit(images, labels, batch_size=len(images), verbose=0, callbacks=list(callbacks)).history["loss"]
        assert np.isfinite(loss).all()
        return wrapped

    def bring_back(name, stripped):
        made[name] = stripped(images).numpy()
        kc.interop.from_tf_keras(stripped).save(folder / f"{name}.keras")

    def refusal_to_annotate():
        import tf_keras

        inner = tf_keras.Sequential([tf_keras.Input((4, 2)), tf_keras.layers.Conv1D(2, 1, name="conv")], name="inner")
        outer = tf_keras.Sequential([tf_keras.Input((4, 2)), inner, tf_keras.layers.Conv1D(2, 1, name="last")])
        with pytest.raises(ValueError, match="must be of layers that tensorflow-model-optimization can quan") as caught:
            kc.interop.quantize_annotate_model(outer)
        return str(caught.value)

    def refusal(wrapped):
        with pytest.raises(ValueError, match="can express") as caught:
            kc.interop.from_tf_keras(wrapped)
        return np.array(str(caught.value))

    quantize = tfmot.quantization.keras
    shuffle = keras.Sequential([keras.Input((2, 2, 4)), K.ChannelShuffle(2)])
    with pytest.raises(RuntimeError, match="is not supported"):  # why `quantize_annotate_model` is there
        quantize.quantize_model(kc.interop.to_tf_keras(shuffle))
    with quantize.quantize_scope():
        quantized = quantize.quantize_apply(kc.interop.quantize_annotate_model(twin()))
    configs = {layer.layer.name: type(layer.quantize_config).__name__ for layer in quantized.layers[2:]}
    made["configs"] = np.array([configs[name] for name in QUANTIZED])
    made["unquantizable"] = np.array(refusal_to_annotate())
    made["quantized"] = trained(quantized)(images).numpy()
    made["refused_quantized"] = refusal(quantized)

    sparsity = tfmot.sparsity.keras
    half = sparsity.ConstantSparsity(0.5, 0, frequency=1)
    pruned = trained(sparsity.prune_low_magnitude(twin(), half), sparsity.UpdatePruningStep())
    made["refused_pruned"] = refusal(pruned)
    bring_back("pruned", sparsity.strip_pruning(pruned))

    clustering = tfmot.clustering.keras
    linear = clustering.CentroidInitialization.LINEAR
    clustered = trained(clustering.cluster_weights(twin(), 4, linear))
    made["refused_clustered"] = refusal(clustered)
    bring_back("clustered", clustering.strip_clustering(clustered))
    return made


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    """The inputs, the condensed network, what the tools made of it, and the folder with what came back."""
    folder = tmp_path_factory.mktemp("tfmot")
    keras.utils.set_random_seed(0)
    small, random = kc.condense(network(), finish=True), np.random.default_rng(0)
    small.save(folder / "small.keras")
    images = random.normal(size=(8, 6, 6, 8)).astype("float32")
    made = in_tfmot_process(try_all_tools, {"images": images, "labels": np.arange(8) % 3}, folder)
    return images, small, made, folder


def test_every_layer_is_quantized_as_it_should(tried):
    *_, made, _ = tried
    assert dict(zip(QUANTIZED, made["configs"].tolist(), strict=True)) == QUANTIZED


def test_emulated_quantization_computes_nearly_the_same(tried):
    images, small, made, _ = tried
    assert np.isfinite(made["quantized"]).all()
    np.testing.assert_allclose(made["quantized"], small.predict(images, verbose=0), atol=0.05)


@pytest.mark.parametrize("name", ["pruned", "clustered"])
def test_what_comes_back_computes_the_same_and_is_exported(tried, name):
    images, _, made, folder = tried
    back = keras.saving.load_model(folder / f"{name}.keras")
    np.testing.assert_allclose(back.predict(images, verbose=0), made[name], atol=1e-5)
    kernels = [back.get_layer(layer).get_weights()[0] for layer in ("learned", "grouped", "scores")]
    if name == "pruned":
        assert [np.mean(kernel == 0) for kernel in kernels] == pytest.approx([0.5] * 3, abs=0.05)
    else:
        assert [len(np.unique(kernel)) <= 4 for kernel in kernels] == [True] * 3
    kc.export_tflite(back, folder / f"{name}.tflite")
    exported = kc.run_tflite(folder / f"{name}.tflite", images)
    np.testing.assert_allclose(exported, made[name], atol=1e-4)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("pruned", "(PruneLowMagnitude): is wrapped for training; call `tfmot.sparsity.keras.strip_pruning` on"),
        ("clustered", "(ClusterWeights): is wrapped for training; call `tfmot.clustering.keras.strip_clustering` on"),
        ("quantized", "(QuantizeWrapperV2): emulates quantization, which Keras 3 has no layers for; convert it"),
    ],
)
def test_wrappers_are_refused(tried, name, advice):
    *_, made, _ = tried
    assert advice in str(made[f"refused_{name}"])


def test_what_cannot_be_quantized_is_named(tried):
    text = str(tried[2]["unquantizable"])
    assert "'inner' (Sequential): is a model inside the model; 'last' (Conv1D): is a layer that it has no" in text
    assert text.endswith("Open nested models with `to_tf_keras`, and replace the other layers.")
