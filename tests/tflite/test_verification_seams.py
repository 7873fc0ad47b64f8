"""What the comparison of a file with its model must not overlook, and what it must not refuse."""

import logging

import keras
import numpy as np
import pytest
import tflite_networks as networks

import keras_condense as kc
from keras_condense.layers import GroupConv2D, LearnedGroupConv2D
from keras_condense.tflite import export_tflite, preparation, run_tflite
from keras_condense.tflite.comparison import compare
from keras_condense.tflite.passes import keep_rows
from keras_condense.tflite.runtime import operators_outside_xnnpack

tf = pytest.importorskip("tensorflow")
L = keras.layers
LOG = "keras_condense.tflite"


def learned(name="conv", **options):
    layer = LearnedGroupConv2D(8, 1, groups=2, condense_factor=4, name=name, **options)
    return layer


def finished(model):
    for layer in kc.layers.condensable_layers(model):
        layer.condense_to(layer.final_stage)
    return model


# --- what is not overlooked ---
class Temperature(L.Layer):
    """Keras' own `get_config` returns what `__init__` was given, and not what it is now."""

    def __init__(self, t=1.0, **options):
        super().__init__(**options)
        self.t = t

    def call(self, x):
        return x / self.t


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_a_layer_whose_copy_computes_something_else(policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    model = keras.Sequential([keras.Input((8,)), L.Dense(4), Temperature(name="temperature"), L.Dense(3)])
    keras.config.set_dtype_policy("float32")
    export_tflite(model)
    model.get_layer("temperature").t = 1.3
    with pytest.raises(ValueError, match=r"must compute the same when its layers are copied.*Layer 'temperature' comp"):
        export_tflite(model, tmp_path / "a.tflite")
    assert not list(tmp_path.iterdir())


def test_a_masked_model_whose_copy_computes_something_else():
    layers = [learned(), Temperature(name="temperature"), L.Flatten(), L.Dense(3)]
    model = finished(keras.Sequential([keras.Input((4, 4, 16)), *layers]))
    model.get_layer("temperature").t = 1.3
    with pytest.raises(ValueError, match=r"The condensed model differs already\. Is a layer of yours copied by its"):
        export_tflite(model)


class Twice(keras.Sequential):
    def call(self, inputs, training=None, mask=None):
        return 2 * super().call(inputs, training=training)


@pytest.mark.parametrize("quantize", ["float16", "dynamic"])
def test_a_quantized_file_that_is_not_lowered_is_held_to_the_model(monkeypatch, quantize):
    model = finished(Twice([keras.Input((4, 4, 16)), learned(), L.Flatten(), L.Dense(64, name="scores")]))
    condensed = preparation.condensed

    def wrong(model, **options):
        small = condensed(model, **options)
        small.get_layer("conv").kernel.assign(1.2 * small.get_layer("conv").kernel)
        return small

    export_tflite(model, quantize=quantize)
    monkeypatch.setattr(preparation, "condensed", wrong)
    with pytest.raises(ValueError, match="The condensed model differs already"):
        export_tflite(model, quantize=quantize)


def test_a_quantized_file_of_no_numbers(monkeypatch):
    model = keras.Sequential([keras.Input((4,)), L.Dense(3, name="scores")])
    outputs = {"scores": np.full((2, 3), np.nan, "float32")}
    monkeypatch.setattr(kc.tflite.verification, "file_outputs", lambda *arguments: outputs)
    with pytest.raises(ValueError, match=r"must give finite numbers .* in float16 its output 'scores' has NaN or inf"):
        export_tflite(model, quantize="float16")


def test_a_small_output_beside_a_large_one_and_one_row_beside_another():
    """Boxes in pixels and probabilities in one tensor; an input a hundred times as large as another."""
    wanted = np.array([[640.0, 0.5], [300.0, 0.1]])
    (difference,) = compare({"y": wanted + [[0, 0.03], [0, 0]]}, {"y": wanted})
    assert difference.largest == pytest.approx(0.03 / 64)
    rows = np.array([[1.0, 1.001], [100.0, 100.0]])
    (difference,) = compare({"y": rows + [[0.001, 0], [0, 0]]}, {"y": rows})
    assert difference.largest == pytest.approx(0.001 / 99)  # of what the channel spans
    constant = np.array([[5.0, 1.0], [5.0, 2.0]])
    (difference,) = compare({"y": constant + [[0.01, 0], [0, 0]]}, {"y": constant})
    assert difference.largest == pytest.approx(0.02)


def test_rounding_beside_zeros_is_no_mistake():
    """A ReLU's outputs, all zero for one of the inputs; and a file in int8 that is not."""
    wanted = np.array([[0.0, 0.0, 0.0], [3.0, 0.0, 1.0]])
    (difference,) = compare({"y": wanted + 1e-7}, {"y": wanted})
    assert difference.largest == pytest.approx(1e-7 / 0.03, rel=1e-3)
    model = keras.Sequential([keras.Input((4,)), L.Dense(3, kernel_initializer="zeros", name="scores")])
    export_tflite(model, quantize="int8", representative_data=networks.images(16, 4))


def test_integers_are_right_or_wrong():
    wanted = np.arange(5000)
    (difference,) = compare({"y": np.roll(wanted, 1)}, {"y": wanted})
    assert difference.largest == 1
    off = wanted.copy()
    off[7] += 1
    (difference,) = compare({"y": off}, {"y": wanted})
    assert (difference.largest, difference.rms) == (0, 1 / 5000)
    assert str(difference) == "y: 0.0% of its numbers differ"


@pytest.mark.parametrize("layer", [L.Rescaling(1 / 255), L.Normalization(mean=127.0, variance=4000.0)])
def test_models_that_normalise_pixels_are_compared_on_pixels(layer, monkeypatch):
    seen = []
    run = kc.tflite.comparison.run_tflite

    def noted(content, inputs, **options):
        seen.append(max(float(np.max(rows)) for rows in inputs.values()))
        return run(content, inputs, **options)

    monkeypatch.setattr(kc.tflite.comparison, "run_tflite", noted)
    export_tflite(keras.Sequential([keras.Input((8, 8, 3)), layer, L.Conv2D(4, 3)]))
    assert seen[0] > 200


@pytest.mark.parametrize("nested", [False, True])
def test_only_the_input_that_is_normalised_is_given_pixels(nested, caplog):
    photo, meta = keras.Input((8, 8, 3), name="photo"), keras.Input((5,), name="meta")
    inner = keras.Sequential([keras.Input((8, 8, 3)), L.Rescaling(1 / 255), L.Flatten(), L.Dense(4)])
    features = inner(photo) if nested else L.Dense(4)(L.Flatten()(L.Rescaling(1 / 255)(photo)))
    model = keras.Model([photo, meta], L.Dense(3)(L.Concatenate()([features, meta])))
    assert kc.tflite.verification._normalized_inputs(model) == {0}
    rows = [255 * np.random.default_rng(0).random((32, 8, 8, 3), "float32"), networks.images(32, 5)]
    with caplog.at_level(logging.WARNING, LOG):
        export_tflite(model, quantize="int8", representative_data=rows)
    assert not caplog.records  # as there would be if `meta` were far from what it was calibrated with


# --- what is not refused ---
def test_truth_values_that_hang_on_rounding(caplog):
    image = keras.Input((8, 8, 32))
    x = L.ReLU(name="relu")(kc.layers.BatchNormalization()(image))
    x = GroupConv2D(32, 1, groups=16)(x)
    model = networks.randomize(keras.Model(image, x > 0))
    images = networks.images(2, 8, 8, 32)
    with caplog.at_level(logging.WARNING, LOG):
        content = export_tflite(model)
    assert np.mean(run_tflite(content, images) != np.asarray(model(images))) < 0.2


def test_truth_values_made_of_wrong_numbers(monkeypatch):
    run = keep_rows.run

    def shifted(graph, target, scheme):
        from keras_condense.tflite.operators import Convolution

        nodes = [node.with_op(kernel=-node.op.kernel) if isinstance(node.op, Convolution) else node for node in graph]
        return run(graph.with_nodes(nodes), target, scheme)

    image = keras.Input((8, 8, 32))
    model = networks.randomize(keras.Model(image, GroupConv2D(32, 1, groups=16, name="conv")(image) > 0))
    export_tflite(model)
    monkeypatch.setattr(keep_rows, "run", shifted)
    with pytest.raises(ValueError, match="The first layer that differs is 'conv'"):
        export_tflite(model)


@pytest.mark.parametrize("quantize", [None, "float16", "dynamic", "int8"])
def test_a_sequential_model_that_ends_in_a_learned_layer(quantize):
    model = finished(keras.Sequential([keras.Input((8, 8, 16)), learned(activation="relu")]))
    images = networks.images(16, 8, 8, 16)
    content = export_tflite(model, quantize=quantize, representative_data=images if quantize == "int8" else None)
    from ai_edge_litert.interpreter import Interpreter

    assert Interpreter(model_content=content).get_signature_list()["serving_default"]["outputs"] == ["conv"]


def test_a_layer_that_was_renamed_afterwards():
    image = keras.Input((8, 8, 16), name="image")
    conv = learned("first")
    model = finished(keras.Model(image, [conv(image), L.GlobalAveragePooling2D(name="mean")(image)]))
    conv.name = "features"
    outputs = run_tflite(export_tflite(model), networks.images(2, 8, 8, 16))
    assert sorted(outputs) == ["features", "mean"]


def test_a_memory_efficient_model_is_lowered_like_any_other():
    options = {"stages": (2, 2), "growth_rates": (8, 8), "input_shape": (16, 16, 3), "classes": 4, "stem_strides": 1}
    keras.utils.set_random_seed(0)
    model = finished(kc.applications.CondenseNet(**options, memory_efficient=True))
    plain = kc.applications.CondenseNet(**options)
    plain.set_weights(model.get_weights())
    content = export_tflite(model)
    assert content == export_tflite(plain)
    image = keras.Input((16, 16, 3))
    outer = keras.Model(image, model(image))
    assert operators_outside_xnnpack(export_tflite(outer)) == operators_outside_xnnpack(content)


class Unsaved(keras.metrics.Metric):
    """As many projects have them: without a `get_config`."""

    def __init__(self, classes, **options):
        super().__init__(**options)
        self.classes = classes

    def update_state(self, *args, **kwargs):
        pass

    def result(self):
        return 0.0


def test_a_model_compiled_with_what_can_not_be_copied():
    model = finished(keras.Sequential([keras.Input((8, 8, 16)), learned(), L.Flatten(), L.Dense(3)]))
    model.compile("adam", "mse", metrics=[Unsaved(3)])
    export_tflite(model)
    assert model.compiled


class Crop(L.Layer):
    """Refuses corners that no crop has: random ones."""

    def call(self, corners):
        tf.debugging.assert_equal(corners[:, 0], 1000)
        return keras.ops.cast(corners, "float32")


def test_rows_of_the_user_alone_where_random_ones_are_refused(caplog):
    corners = keras.Input((4,), dtype="int32", name="corners")
    model = keras.Model(corners, L.Dense(3)(Crop()(corners)))
    rows = np.full((8, 4), 1000, "int32")
    with caplog.at_level(logging.INFO, LOG):
        export_tflite(model, quantize="int8", representative_data=rows)
    assert "compared with the model: 8 inputs" in caplog.text


def test_data_as_predict_takes_them():
    left, right = keras.Input((4,), name="left"), keras.Input((6,), name="right")
    model = keras.Model([left, right], L.Concatenate()([L.Dense(3)(left), L.Dense(3)(right)]))
    arrays = [networks.images(16, 4), networks.images(16, 6)]
    expected = export_tflite(model, quantize="int8", representative_data={"left": arrays[0], "right": arrays[1]})
    assert export_tflite(model, quantize="int8", representative_data=arrays) == expected
    single = keras.Sequential([keras.Input((4,)), L.Dense(3)])
    expected = export_tflite(single, quantize="int8", representative_data=arrays[0])
    assert export_tflite(single, quantize="int8", representative_data=tf.constant(arrays[0])) == expected


def test_inputs_of_double_precision_are_calibrated():
    features = keras.Input((4,), dtype="float64", name="features")
    model = keras.Model(features, L.Dense(2)(features))
    rows = networks.images(16, 4).astype("float64")
    outputs = run_tflite(export_tflite(model, quantize="int8", representative_data=rows), rows)
    assert networks.relative_difference(outputs, np.asarray(model(rows))) < 0.05


def test_the_first_layer_that_differs_of_a_model_with_other_keys(monkeypatch):
    run = keep_rows.run

    def without_relu(graph, target, scheme):
        from keras_condense.tflite.operators import Convolution

        nodes = [node.with_op(relu=False) if isinstance(node.op, Convolution) else node for node in graph]
        return run(graph.with_nodes(nodes), target, scheme)

    image = keras.Input((8, 8, 16), name="left img")
    x = GroupConv2D(16, 1, groups=4, activation="relu", name="first")(image)
    model = networks.randomize(keras.Model({"left img": image}, L.Flatten()(x)))
    export_tflite(model)
    monkeypatch.setattr(keep_rows, "run", without_relu)
    with pytest.raises(ValueError, match="The first layer that differs is 'first'"):
        export_tflite(model)
