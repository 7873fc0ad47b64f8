"""The kinds of quantization: what they weigh, how near they come, and what they refuse."""

import itertools

import keras
import numpy as np
import pytest
import tflite_networks as networks

from keras_condense.layers import GroupConv2D
from keras_condense.tflite import export_tflite, run_tflite
from keras_condense.tflite.calibration import MAXIMUM_ROWS, representative_rows
from keras_condense.tflite.converter import convert_model
from keras_condense.tflite.schemes import SCHEMES
from keras_condense.tflite.signature import inputs_of

pytestmark = pytest.mark.slow  # all of it, together


tf = pytest.importorskip("tensorflow")


@pytest.fixture(scope="module")
def model():
    return networks.condensed(blocks=((2, 16), (2, 32)), classes=1000)


@pytest.fixture(scope="module")
def calibration():
    return networks.images(32, 16, 16, 3, seed=1)


@pytest.mark.parametrize(
    ("quantize", "size", "tolerance"),
    [
        ("float16", 0.55, 2e-3),  # 11 bits of weights
        ("dynamic", 0.40, 5e-2),  # 8 bits of larger weights and their activations
        ("int8", 0.45, 1e-1),  # 8 bits of every activation, layer behind layer; zeros where that is cheaper
    ],
)
def test_smaller_file_of_nearly_the_same_outputs(model, calibration, quantize, size, tolerance):
    rows = networks.images(4, 16, 16, 3)
    content = export_tflite(model, quantize=quantize, representative_data=calibration if quantize == "int8" else None)
    assert len(content) < size * len(export_tflite(model))
    outputs = run_tflite(content, rows)
    assert outputs.dtype == np.float32
    assert networks.relative_difference(outputs, networks.reference(model, rows)) < tolerance


@pytest.mark.parametrize("target", ["arm64", "x86_64"])
@pytest.mark.parametrize("quantize", ["float16", "dynamic", "int8"])
def test_lowered_for_a_target_is_no_less_exact_than_converted_one_to_one(quantize, target):
    model = networks.condensed(blocks=((3, 8), (3, 16)), size=8)
    rows = networks.images(64, 8, 8, 3)
    expected = networks.reference(model, rows)

    def error(content):
        return np.sqrt(np.mean((run_tflite(content, rows) - expected) ** 2))

    data = representative_rows(rows, inputs_of(model)) if quantize == "int8" else None
    plain = error(convert_model(model, SCHEMES[quantize], data))
    calibration = rows if quantize == "int8" else None
    lowered = error(export_tflite(model, quantize=quantize, representative_data=calibration, target=target))
    # the same weights are rounded, in another order; with limits in place of norms float16 is 2.7 times as far off
    assert lowered < 1.1 * plain


def test_int8_computes_in_int8_between_float_inputs_and_outputs(model, calibration):
    interpreter_module = pytest.importorskip("ai_edge_litert.interpreter")
    content = export_tflite(model, quantize="int8", representative_data=calibration)
    interpreter = interpreter_module.Interpreter(model_content=content)
    assert interpreter.get_input_details()[0]["dtype"] == np.float32
    assert interpreter.get_output_details()[0]["dtype"] == np.float32
    operators = interpreter._get_ops_details()
    inner = [op for op in operators if op["op_name"] not in ("QUANTIZE", "DEQUANTIZE", "DELEGATE")]
    assert inner
    types = {detail["index"]: detail["dtype"] for detail in interpreter.get_tensor_details()}
    assert {types[int(tensor)] for op in inner for tensor in op["outputs"]} == {np.int8}


def test_int8_calibrates_on_what_predict_takes(calibration):
    model = networks.condensed(blocks=((1, 8),))
    labels = np.zeros(len(calibration))
    data = tf.data.Dataset.from_tensor_slices((calibration, labels)).batch(8)
    from_data = export_tflite(model, quantize="int8", representative_data=data)
    assert from_data == export_tflite(model, quantize="int8", representative_data=calibration)
    batches = (batch for batch in np.split(calibration, 4))
    assert from_data == export_tflite(model, quantize="int8", representative_data=batches)


def test_int8_of_several_inputs():
    left, right = keras.Input((4,), name="left"), keras.Input((3,), name="right")
    model = keras.Model([left, right], keras.layers.Dense(2)(keras.layers.Concatenate()([left, right])))
    inputs = {"left": networks.images(32, 4), "right": 5 * networks.images(32, 3)}
    content = export_tflite(model, quantize="int8", representative_data=inputs)
    expected = networks.reference(model, list(inputs.values()))
    assert networks.relative_difference(run_tflite(content, inputs), expected) < 5e-2


@pytest.mark.parametrize(
    "names",
    [("a", "b"), ("b", "a"), ("x", "a"), ("z", "y"), ("left", "right"), ("right", "left"), ("b", "b_1"), ("ä", "β")],
    ids="-".join,
)
@pytest.mark.parametrize("size", [(8, 8), (4, 6)])
def test_inputs_are_calibrated_by_name(names, size):
    shapes = {names[0]: (8, 8, 4), names[1]: (*size, 4)}
    inputs = [keras.Input(shape, name=name) for name, shape in shapes.items()]
    means = [keras.layers.GlobalAveragePooling2D()(GroupConv2D(4, 3, groups=2)(x)) for x in inputs]
    # the second is as large as the first once its weights have seen it
    model = keras.Model(inputs, keras.layers.Concatenate()([means[0], 0.01 * means[1]]))
    rows = [scale * networks.images(32, *shape) for scale, shape in zip((1, 100), shapes.values(), strict=True)]
    content = export_tflite(model, quantize="int8", representative_data=[rows])
    signature = [name if name.isascii() else ("tensor", "tensor_1")[i] for i, name in enumerate(names)]
    actual = run_tflite(content, dict(zip(signature, rows, strict=True)))
    assert networks.relative_difference(actual, networks.reference(model, rows)) < 5e-2


@pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict:UserWarning")  # names that differ from the keys
@pytest.mark.parametrize("keys", [("left", "right"), ("z", "a"), ("left img", "ü")], ids="-".join)
def test_a_dict_of_inputs_is_calibrated_as_the_model_takes_it(keys):
    """The keys count and not the names of the `keras.Input`s, which are in another order here."""
    inputs = [keras.Input((8, 8, 4), name=name) for name in ("q", "b")]
    means = [keras.layers.GlobalAveragePooling2D()(GroupConv2D(4, 3, groups=2)(x)) for x in inputs]
    joined = keras.layers.Concatenate()([means[0], 0.01 * means[1]])
    model = keras.Model(dict(zip(keys, inputs, strict=True)), joined)
    rows = {key: scale * networks.images(32, 8, 8, 4) for scale, key in zip((1, 100), keys, strict=True)}
    content = export_tflite(model, quantize="int8", representative_data=rows)
    signature = {"left img": "left_img", "ü": "tensor"}
    actual = run_tflite(content, {signature.get(key, key): array for key, array in rows.items()})
    assert networks.relative_difference(actual, networks.reference(model, rows)) < 5e-2


def test_calibration_ends_on_endless_data():
    endless = (np.zeros((64, 2), "float32") for _ in itertools.count())
    inputs = inputs_of(keras.Sequential([keras.Input((2,)), keras.layers.ReLU()]))
    assert len(representative_rows(endless, inputs)) == MAXIMUM_ROWS


ARRAY = np.zeros((2, 16, 16, 3), "float32")

REFUSED = [
    ({"quantize": "int4"}, r"`quantize` \(='int4'\) must be one of None, 'float16', 'dynamic', 'int8'"),
    ({"quantize": "int8"}, "`representative_data` is missing"),
    ({"representative_data": ARRAY}, "`representative_data` was given"),
    ({"quantize": "int8", "representative_data": 3}, r"`representative_data` \(=3\) must be an array or an iterable"),
    ({"quantize": "int8", "representative_data": []}, "must have at least one row, and is empty"),
    ({"quantize": "int8", "representative_data": ARRAY[0]}, r"has the shape \(16, 16, 3\), and expects batches"),
    ({"quantize": "int8", "representative_data": ARRAY[..., :1]}, r"has the shape \(2, 16, 16, 1\)"),
    ({"quantize": "int8", "representative_data": ARRAY.astype("uint8")}, "has the dtype uint8, and expects float32"),
    ({"quantize": "int8", "representative_data": ARRAY * np.nan}, "must be finite, and has NaN or infinity"),
    ({"quantize": "int8", "representative_data": [[ARRAY, ARRAY]]}, "has 2 arrays per element"),
    ({"quantize": "int8", "representative_data": {"photo": ARRAY}}, r"has the names \['photo'\]"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_unfit_arguments_are_refused_and_the_file_stays(model, tmp_path, arguments, message):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"before")
    with pytest.raises(ValueError, match=message):
        export_tflite(model, path, **arguments)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]
