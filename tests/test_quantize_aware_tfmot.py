"""`quantize_aware` beside tensorflow-model-optimization's `quantize_model` of the same network in tf_keras."""

import importlib.util

import keras
import numpy as np
import pytest
from tfmot_process import in_tfmot_process

import keras_condense as kc

for package in ("tf_keras", "tensorflow_model_optimization"):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed", allow_module_level=True)

L = keras.layers


def twin_network():
    """Kinds of layers that tensorflow-model-optimization rounds per filter, as files do."""
    image = keras.Input((8, 8, 3), name="image")
    x = L.ReLU(name="first_relu")(L.BatchNormalization(name="first_norm")(L.Conv2D(6, 3, name="first")(image)))
    y = L.BatchNormalization(name="second_norm")(L.Conv2D(6, 3, padding="same", name="second")(x))
    x = L.ReLU(name="sum_relu")(L.Add(name="sum")([x, y]))
    return keras.Model(image, L.Conv2D(4, 1, name="last")(x))


def quantized_twin(arrays, folder):
    """The outputs of tensorflow-model-optimization's model with our ranges, and the ranges that it would follow."""
    import tensorflow_model_optimization as tfmot

    model = keras.saving.load_model(folder / "twin.keras")
    twin = tfmot.quantization.keras.quantize_model(kc.interop.to_tf_keras(model))
    ends = {}
    for variable in twin.weights:
        layer, _, kind = variable.name.split(":")[0].partition("/")
        if kind.endswith(("_min", "_max")) and "kernel" not in kind:
            ends.setdefault(layer.removeprefix("quant_"), {})[kind[-3:]] = variable
    begin = {layer: [float(variable) for variable in each.values()] for layer, each in ends.items()}
    statistics = [(variable, variable.numpy()) for variable in twin.weights if "/moving_" in variable.name]
    twin(arrays["images"], training=True)
    made = {}
    for layer, each in ends.items():
        now = [float(variable) for variable in each.values()]
        if layer != "quantize_layer":  # which keeps the ends of all; others forget a thousandth a batch
            now = [(end - 0.999 * was) / 0.001 for end, was in zip(now, begin[layer], strict=True)]
        made[layer] = now
    for variable, value in statistics:
        variable.assign(value)
    for layer, each in ends.items():
        for end, value in zip(("min", "max"), arrays[layer], strict=True):
            each[end].assign(value)
    return made | {"outputs": twin.predict(arrays["images"], verbose=0)}


def test_it_rounds_as_tensorflow_model_optimization_does(tmp_path):
    model = twin_network()
    images = np.random.default_rng(0).normal(size=(50, 8, 8, 3)).astype("float32")
    model.save(tmp_path / "twin.keras")
    aware = kc.quantize_aware(model)
    aware(images, training=True)
    for layer in ("first_norm", "second_norm"):
        aware.get_layer(layer).set_weights(model.get_layer(layer).get_weights())
    ranges = {
        {"image": "quantize_layer"}.get(name.removesuffix("_range"), name.removesuffix("_range")): np.array(ends)
        for name, ends in kc.ranges_of(aware).items()
    }
    twin = in_tfmot_process(quantized_twin, {"images": images} | ranges, tmp_path)
    step = float(np.ptp(ranges["last"])) / 255
    apart = np.abs(twin["outputs"] - aware.predict(images, verbose=0)) / step
    assert (apart <= 1.01).mean() >= 0.999, np.unique(apart.round(), return_counts=True)
    assert set(twin) - {"outputs"} == set(ranges)
    for layer, ends in ranges.items():  # its first batch is rounded by the ranges that it began with
        np.testing.assert_allclose(twin[layer], ends, atol=0.01 * np.ptp(ends), err_msg=layer)
