"""export_tflite against the Keras model, through an interpreter that shares no code with it."""

import hashlib
import tempfile
import time

import forked
import keras
import numpy as np
import pytest
import tflite_networks as networks
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_condense.layers import ChannelShuffle, GroupConv2D
from keras_condense.tflite import export_tflite, run_tflite

pytestmark = pytest.mark.slow  # all of it, together


tf = pytest.importorskip("tensorflow")

# Float32 sums of some hundred terms, in another order than Keras' own: 1e-6 is seen, and 1e-4 is the promise.
PARITY = 1e-5


def interpreter_of(content):
    interpreter_module = pytest.importorskip("ai_edge_litert.interpreter")
    interpreter = interpreter_module.Interpreter(model_content=content)
    interpreter.allocate_tensors()
    return interpreter


def operators_of(content):
    details = interpreter_of(content)._get_ops_details()
    return [detail["op_name"] for detail in details if detail["op_name"] != "DELEGATE"]


def assert_parity(model, inputs, tolerance=PARITY):
    outputs = run_tflite(export_tflite(model), inputs)
    assert networks.relative_difference(outputs, networks.reference(model, inputs)) < tolerance


# --- parity --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("use_bias", [False, True])
@pytest.mark.parametrize(("groups", "factor"), [(4, 4), (2, 8), (8, 2)])
def test_condensed_network(groups, factor, use_bias):
    model = networks.condensed(groups=groups, factor=factor, use_bias=use_bias)
    assert_parity(model, networks.images(3, 16, 16, 3))


def test_masked_model_is_condensed_first():
    model = networks.masked()
    before = [weight.copy() for weight in model.get_weights()]
    assert_parity(model, networks.images(3, 8, 8, 16))
    assert "GATHER" in operators_of(export_tflite(model))
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_unfinished_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Layer 'squeeze' is in condensing stage 0"):
        export_tflite(networks.masked(finished=False), tmp_path / "model.tflite")
    assert list(tmp_path.iterdir()) == []


def test_model_of_keras_applications():
    model = keras.applications.MobileNet(
        alpha=0.25, input_shape=(64, 64, 3), weights=None, classes=7, classifier_activation=None
    )
    assert_parity(networks.randomize(model), networks.images(2, 64, 64, 3))


def sequential():
    return keras.Sequential([keras.Input((8, 8, 4)), keras.layers.Conv2D(8, 3, groups=4), keras.layers.Flatten()])


def nested():
    inputs = keras.Input((8, 8, 4))
    return keras.Model(inputs, keras.layers.Dense(3)(sequential()(inputs)))


def shared_layer():
    inputs = keras.Input((8, 8, 4))
    convolution, norm = GroupConv2D(4, 1, groups=2), keras.layers.BatchNormalization()
    outputs = norm(ChannelShuffle(2)(convolution(convolution(inputs))))
    return networks.randomize(keras.Model(inputs, outputs))


def recurrent():
    inputs = keras.Input((8, 8, 4))
    return keras.Model(inputs, keras.layers.LSTM(5)(keras.layers.Reshape((8, 32))(inputs)))


def subclassed():
    model = networks.Subclassed()
    model(networks.images(2, 8, 8, 4))
    return model


@pytest.mark.parametrize("make", [sequential, nested, shared_layer, recurrent, subclassed])
def test_other_models(make):
    keras.utils.set_random_seed(0)
    assert_parity(make(), networks.images(3, 8, 8, 4))


@pytest.mark.parametrize(
    # Keras rounds activations to 11 or 8 bits on the way, the export does not
    ("policy", "tolerance"),
    [("mixed_float16", 5e-3), ("mixed_bfloat16", 5e-2), ("float64", PARITY)],
)
def test_other_precisions_are_exported_in_float32(policy, tolerance):
    keras.config.set_dtype_policy(policy)
    try:
        model = networks.condensed(blocks=((1, 8),))
    finally:
        keras.config.set_dtype_policy("float32")
    assert_parity(model, networks.images(2, 16, 16, 3), tolerance)


@settings(derandomize=True, deadline=None, max_examples=6)
@given(
    groups=st.sampled_from([1, 2, 4]),
    multiple=st.integers(1, 3),
    kernel=st.integers(1, 3),
    strides=st.integers(1, 2),
    padding=st.sampled_from(["same", "valid"]),
    use_bias=st.booleans(),
    epsilon=st.sampled_from([1e-5, 1e-3, 0.3]),
    seed=st.integers(0, 9),
)
def test_fold_behind_a_shuffle_is_exact(groups, multiple, kernel, strides, padding, use_bias, epsilon, seed):
    inputs = keras.Input((5, 5, 4))
    x = GroupConv2D(
        4 * multiple,
        kernel,
        strides=strides,
        padding=padding,
        groups=groups,
        use_bias=use_bias,
        bias_initializer="ones",
    )(inputs)
    x = keras.layers.BatchNormalization(epsilon=epsilon)(ChannelShuffle(groups)(x))
    model = networks.randomize(keras.Model(inputs, x), seed)
    content = export_tflite(model)
    assert "MUL" not in operators_of(content)
    rows = networks.images(2, 5, 5, 4, seed=seed)
    assert networks.relative_difference(run_tflite(content, rows), networks.reference(model, rows)) < PARITY


def test_fold_reaches_nested_models():
    inner = keras.Sequential(
        [keras.Input((5, 5, 4)), GroupConv2D(4, 1, groups=2), ChannelShuffle(2), keras.layers.BatchNormalization()]
    )
    networks.randomize(inner)
    inputs = keras.Input((5, 5, 4))
    model = keras.Model(inputs, inner(inner(inputs)))
    assert_parity(model, networks.images(2, 5, 5, 4))


# --- the file ------------------------------------------------------------------------------------------------------
def test_every_shape_is_static():
    content = export_tflite(networks.condensed())
    details = interpreter_of(content).get_tensor_details()
    assert all((detail["shape_signature"] > 0).all() for detail in details)
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))
    graph = model.subgraphs[0]
    computed = {int(tensor) for operator in graph.operators for tensor in operator.outputs}
    codes = [code.builtinCode for code in model.operatorCodes]
    reshapes = [op for op in graph.operators if codes[op.opcodeIndex] == schema.BuiltinOperator.RESHAPE]
    assert reshapes
    assert not any(int(operator.inputs[1]) in computed for operator in reshapes)


def test_signature_has_the_models_names():
    content = export_tflite(networks.condensed())
    assert interpreter_of(content).get_signature_list() == {
        "serving_default": {"inputs": ["image"], "outputs": ["logits"]}
    }


def test_names_that_keras_made_up_are_replaced():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="my.scores")])
    signature = interpreter_of(export_tflite(model)).get_signature_list()["serving_default"]
    assert signature == {"inputs": ["input"], "outputs": ["my_scores"]}


def test_several_inputs_and_outputs_keep_their_names():
    left, right = keras.Input((4, 4, 2), name="left"), keras.Input((3,), name="right side")
    joined = keras.layers.Concatenate()([keras.layers.Flatten()(left), right])
    # the names are in another order than the outputs
    model = keras.Model(
        [left, right], [keras.layers.Dense(2, name="z")(joined), keras.layers.Dense(3, name="a")(joined)]
    )
    inputs = {"left": networks.images(3, 4, 4, 2), "right_side": networks.images(3, 3)}
    outputs = run_tflite(export_tflite(model), inputs)
    z, a = model(list(inputs.values()), training=False)
    np.testing.assert_allclose(outputs["z"], z, rtol=0, atol=1e-5)
    np.testing.assert_allclose(outputs["a"], a, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict:UserWarning")  # names that differ from the keys
def test_dicts_of_inputs_and_outputs():
    left, right = keras.Input((4,), name="z"), keras.Input((3,), name="a")
    model = keras.Model(
        {"right": right, "left": left}, {"sum": keras.layers.Dense(3)(left) + right, "copy": keras.layers.ReLU()(right)}
    )
    inputs = {"left": networks.images(2, 4), "right": networks.images(2, 3)}
    outputs = run_tflite(export_tflite(model), inputs)
    for key, expected in model(inputs, training=False).items():
        np.testing.assert_allclose(outputs[key], expected, rtol=0, atol=1e-5)


def test_same_model_gives_same_bytes():
    model = networks.condensed()
    assert export_tflite(model) == export_tflite(model)


@pytest.mark.slow
def test_same_model_gives_same_bytes_in_another_process(tmp_path):
    networks.condensed().save(tmp_path / "model.keras")
    program, output = tmp_path / "program.py", tmp_path / "output.txt"
    program.write_text(
        "import sys, hashlib, keras, keras_condense.layers\n"
        "from keras_condense.tflite import export_tflite\n"
        "model = keras.saving.load_model(sys.argv[1])\n"
        "print(hashlib.sha256(export_tflite(model)).hexdigest())\n"
    )
    # forked from a process that began anew, whose hashes have another seed
    code = forked.run(program, tmp_path / "model.keras", folder=tmp_path, output=output)
    assert code == 0, output.read_text()
    here = export_tflite(keras.saving.load_model(tmp_path / "model.keras"))
    assert output.read_text().split()[-1] == hashlib.sha256(here).hexdigest()


def test_file_is_no_larger_than_the_parameters():
    model = networks.condensed(blocks=((2, 16), (3, 32)), classes=2000)
    bytes_of_parameters = 4 * model.count_params()
    assert bytes_of_parameters > 500_000
    assert len(export_tflite(model)) < 1.1 * bytes_of_parameters


def test_file_holds_what_is_returned(tmp_path):
    path = tmp_path / "model.tflite"
    content = export_tflite(networks.masked(), path)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_network_without_weights(tmp_path):
    inputs = keras.Input((2, 2, 4))
    model = keras.Model(inputs, ChannelShuffle(2)(inputs))
    content = export_tflite(model, tmp_path / "model.tflite")
    assert (tmp_path / "model.tflite").read_bytes() == content
    rows = networks.images(2, 2, 2, 4)
    np.testing.assert_array_equal(run_tflite(content, rows), rows[..., [0, 2, 1, 3]])


def test_nothing_is_printed(capfd):
    export_tflite(networks.masked())
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_temporary_files_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    export_tflite(networks.masked())
    with pytest.raises(ValueError, match=r"tf\.Svd"):
        export_tflite(networks.with_missing_operator())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_imagenet_network_takes_less_than_fifteen_seconds():
    model = networks.condensed(
        blocks=((4, 8), (6, 16), (8, 32), (10, 64), (8, 128)), groups=8, factor=8, size=64, classes=1000
    )
    start = time.process_time()  # other programs may run beside the tests
    content = export_tflite(model)
    assert time.process_time() - start < 15  # 5 s is usual; nothing in it depends on the images' size
    assert len(content) < 1.1 * 4 * model.count_params()
