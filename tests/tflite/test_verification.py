"""`export_tflite` compares the file with the model before it is written: wrong files are caught, right ones are not."""

import logging

import keras
import numpy as np
import pytest
import tflite_networks as networks

from keras_condense.layers import ChannelIndex, GroupConv2D, LearnedGroupConv2D
from keras_condense.tflite import comparison, export_tflite, preparation, run_tflite, runtime
from keras_condense.tflite.comparison import compare, rows_for
from keras_condense.tflite.passes import keep_rows

pytestmark = pytest.mark.slow  # all of it, together


tf = pytest.importorskip("tensorflow")

LOG = "keras_condense.tflite"


def network(**arguments):
    return networks.condensed(blocks=((1, 8), (1, 16)), size=8, **arguments)


def without_relu_of(part):
    """A broken pass: convolutions of a certain layer lose their ReLU."""
    run = keep_rows.run

    def broken(graph, target, scheme):
        nodes = [n.with_op(relu=False) if part in n.layer and getattr(n.op, "relu", False) else n for n in graph]
        return run(graph.with_nodes(nodes), target, scheme)

    return broken


def with_two_named_convolutions():
    inputs = keras.Input((8, 8, 8), name="image")
    x = inputs
    for name in ("first", "second", "third"):
        x = GroupConv2D(8, 3, padding="same", groups=2, activation="relu", name=name)(x)
    x = keras.layers.GlobalAveragePooling2D()(ChannelIndex([3, 1, 2, 7])(x))
    return keras.Model(inputs, keras.layers.Dense(5, name="logits")(x), name="net")


# --- wrong files -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("part", ["first", "second", "third"])
@pytest.mark.parametrize("quantize", [None, "dynamic", "int8"])
def test_broken_pass_is_caught_the_layer_named_and_the_file_left(part, quantize, monkeypatch, tmp_path):
    model, path = with_two_named_convolutions(), tmp_path / "model.tflite"
    path.write_bytes(b"before")
    monkeypatch.setattr(keep_rows, "run", without_relu_of(part))
    rows = networks.images(8, 8, 8, 8) if quantize == "int8" else None
    with pytest.raises(
        ValueError, match=rf"does not: logits: .* The first layer that differs is '{part}'\..*one to one"
    ):
        export_tflite(model, path, quantize=quantize, representative_data=rows)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_verify_false_leaves_the_comparison_out(monkeypatch, tmp_path, caplog):
    model = with_two_named_convolutions()
    right = export_tflite(model, verify=False)
    assert right == export_tflite(model)
    monkeypatch.setattr(keep_rows, "run", without_relu_of("second"))
    with caplog.at_level(logging.INFO, LOG):
        assert export_tflite(model, tmp_path / "wrong.tflite", verify=False) != right
    assert "compared" not in caplog.text


def test_verify_is_a_bool(tmp_path):
    with pytest.raises(ValueError, match=r"`verify` \(='no'\) must be one of True, False"):
        export_tflite(network(), tmp_path / "model.tflite", verify="no")


def test_condensing_that_goes_wrong_is_told_apart(monkeypatch):
    model = networks.masked()
    condensed = preparation.condensed

    def wrong(model, **options):
        small = condensed(model, **options)
        small.get_layer("squeeze").kernel.assign(2 * small.get_layer("squeeze").kernel)
        return small

    monkeypatch.setattr(preparation, "condensed", wrong)
    with pytest.raises(ValueError, match="The condensed model differs already"):
        export_tflite(model)


class Noise(keras.layers.Layer):
    def call(self, inputs):
        return inputs + tf.random.normal((1, 4))


def test_model_that_is_random_in_inference_is_told_so():
    inputs = keras.Input((4,))
    with pytest.raises(ValueError, match="draws random numbers in inference"):
        export_tflite(keras.Model(inputs, Noise(name="noise")(inputs)))


# --- right files -----------------------------------------------------------------------------------------------------
def test_state_of_the_model_stays():
    inputs = keras.Input((8,))
    x = keras.layers.Dropout(0.5, seed=3)(keras.layers.Dense(8)(keras.layers.GaussianNoise(1.0)(inputs)))
    model = keras.Model(inputs, keras.layers.BatchNormalization()(x))
    before = [keras.ops.convert_to_numpy(v) for v in model.variables]
    export_tflite(model)
    for old, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, keras.ops.convert_to_numpy(variable))


def test_inputs_and_outputs_of_any_structure(caplog):
    inputs = {
        "image": keras.Input((4, 4, 4), name="image", dtype="uint8"),
        "token": keras.Input((3,), name="token", dtype="int32"),
        "flag": keras.Input((2,), name="flag", dtype="bool"),
        "rest": keras.Input((2,), name="rest"),
    }
    x = keras.layers.Flatten()(GroupConv2D(4, 3, groups=2)(inputs["image"]))
    token = keras.layers.Flatten()(keras.layers.Embedding(4, 3)(inputs["token"]))  # the table ends at 3
    flag = keras.layers.Lambda(lambda t: keras.ops.cast(t, "float32"), output_shape=(2,))(inputs["flag"])
    joined = keras.layers.Concatenate()([x, token, flag, inputs["rest"]])
    outputs = {"b": [keras.layers.Dense(2)(joined), keras.layers.ReLU()(x)], "a": (joined, inputs["token"] + 1)}
    model = keras.Model(inputs, outputs)
    with caplog.at_level(logging.INFO, LOG):
        export_tflite(model)
    assert "compared with the model: 2 inputs, " in caplog.text


def test_masked_network_is_compared_with_itself_and_a_batch_is_no_row():
    class Centered(keras.layers.Layer):
        def call(self, inputs):
            return inputs - keras.ops.mean(inputs, axis=0, keepdims=True) + inputs[:1]

    inputs = keras.Input((4, 4, 8))
    layer = LearnedGroupConv2D(8, 1, name="learned")
    model = keras.Model(inputs, Centered()(layer(inputs)))
    layer.condense_to(3)
    export_tflite(model)  # compared row by row, as the file computes


class Refusing(keras.layers.Layer):
    def call(self, inputs):
        if keras.ops.shape(inputs)[0] == self.refused or self.refused == "all":
            raise RuntimeError("not this")
        return 2 * inputs


@pytest.mark.parametrize(("refused", "logged"), [(2, "compared with the model: 2 inputs, "), ("all", "not compared")])
def test_model_that_takes_one_row_or_none(refused, logged, monkeypatch, caplog):
    inputs, layer = keras.Input(batch_shape=(1, 4)), Refusing(name="refusing")
    layer.refused = None
    model = keras.Model(inputs, layer(inputs))
    content = export_tflite(model)
    layer.refused = refused
    monkeypatch.setattr("keras_condense.tflite.export.convert_model", lambda *arguments: content)
    with caplog.at_level(logging.INFO, LOG):
        assert export_tflite(model) == content
    assert logged in caplog.text


def test_int8_reports_agreement(capsys, caplog):
    model, rows = network(), networks.images(16, 8, 8, 3)
    with caplog.at_level(logging.INFO, LOG):
        export_tflite(model, quantize="int8", representative_data=rows, report=True)
    pattern = "compared with the model: 10 inputs, logits: "
    assert pattern in caplog.text
    assert pattern in capsys.readouterr().out
    assert "same class in " in caplog.text


def test_quantized_file_of_little_use_is_announced(caplog):
    inputs = keras.Input((4,))
    layer = keras.layers.Dense(2, use_bias=False)
    model = keras.Model(inputs, layer(inputs))
    layer.set_weights([np.array([[1, 1], [1, -1], [1, 1], [1, -1]], "float32")])
    with caplog.at_level(logging.WARNING, LOG):
        # calibrated on a thousandth of what comes
        export_tflite(model, quantize="int8", representative_data=1e-3 * networks.images(4, 4))
    assert "calibrate with other inputs" in caplog.text


# --- numbers that are none -------------------------------------------------------------------------------------------
def scaled(scale):
    inputs = keras.Input((4, 4, 4))
    layer = GroupConv2D(4, 1, groups=2)
    model = keras.Model(inputs, layer(inputs))
    layer.kernel.assign(scale * np.ones((1, 1, 2, 4)))
    return model


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e30])
def test_outputs_that_are_zero_tiny_or_huge(scale):
    export_tflite(scaled(scale))


class Logarithm(keras.layers.Layer):
    def call(self, inputs):
        return keras.ops.log(inputs)


def test_nan_of_the_model_itself(caplog):
    inputs = keras.Input((64,))
    with caplog.at_level(logging.WARNING, LOG):
        export_tflite(keras.Model(inputs, Logarithm(name="log")(inputs)))
    assert "the model itself gives NaN or infinity in 2" in caplog.text  # half of the first row of two
    with pytest.raises(ValueError, match=r"Output 'log' of `model` .* the model itself gives NaN or infinity for all"):
        export_tflite(keras.Model(inputs, Logarithm(name="log")(-1.0 - keras.ops.abs(inputs))))


def test_compare():
    y = np.array([[1.0, -4.0], [2.0, 3.0]])
    (same,) = compare({"y": y}, {"y": y})
    assert (same.largest, same.rms, same.same_class, same.finite) == (0, 0, 1, 1)
    (other,) = compare({"y": y + [[0, 0], [1.5, 0]]}, {"y": y})
    assert other.largest == pytest.approx(1.5)  # the first channel spans from 1 to 2
    assert other.rms == pytest.approx(1.5 / np.sqrt(30))
    assert other.same_class == 0.5
    (nan,) = compare({"y": np.where(y == 1, np.nan, y)}, {"y": y})
    assert nan.largest == np.inf
    (also,) = compare({"y": np.where(y == 1, np.nan, y)}, {"y": np.where(y == 1, np.inf, y)})
    assert (also.largest, also.finite) == (0, 0.75)
    (zero,) = compare({"y": 0 * y}, {"y": 0 * y})
    assert (zero.largest, zero.rms) == (0, 0)
    (noise,) = compare({"y": 0 * y + 1e-9}, {"y": 0 * y})
    assert noise.largest == np.inf
    (huge,) = compare({"y": np.float32(3e38) * np.ones((1, 1))}, {"y": np.float32(3e38) * np.ones((1, 1))})
    assert (huge.largest, huge.rms) == (0, 0)


def test_rows_are_always_the_same_and_of_every_dtype():
    arguments = (["a", "b", "c", "d"], [(3,), (2, 2), (), (4,)], ["float32", "uint8", "int64", "bool"])
    first, second = (rows_for(*arguments, highest=1) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        for name, dtype in zip(arguments[0], arguments[2], strict=True):
            assert one[name].dtype == dtype
            np.testing.assert_array_equal(one[name], other[name])
    assert max(row["b"].max() for row in first) <= 1


def test_without_litert_the_interpreter_of_tensorflow_is_used(monkeypatch):
    used = []

    def run(*arguments, runtime, **options):
        used.append(runtime)
        return run_tflite(*arguments, runtime=runtime, **options)

    monkeypatch.setattr(comparison, "run_tflite", run)
    monkeypatch.setattr(runtime.Runtime, "is_installed", lambda self: self.module == "tensorflow")
    export_tflite(scaled(1.0))
    assert used == ["tensorflow"]
