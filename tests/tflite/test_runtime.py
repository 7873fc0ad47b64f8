"""run_tflite and benchmark_tflite: outputs, counts, other runtimes, and files that are none."""

import dataclasses
import pathlib
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tflite_networks as networks
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_condense.tflite import benchmark_tflite, export_tflite, run_tflite, runtime

pytestmark = pytest.mark.slow  # all of it, together


pytest.importorskip("tensorflow")


@pytest.fixture(scope="module")
def content():
    return export_tflite(networks.condensed())


@pytest.fixture(scope="module")
def without_index():
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(8, 3, activation="relu")(inputs)
    return export_tflite(keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x)))


PLACE = pathlib.Path(runtime.__file__).parent.parent  # where `import runtime` finds it, as on a device
installed = [name for name, entry in runtime.RUNTIMES.items() if entry.is_installed()]


# --- run -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", installed)
def test_runtimes_agree(content, name):
    rows = networks.images(2, 16, 16, 3)
    expected = networks.reference(networks.condensed(), rows)
    outputs = run_tflite(content, rows, runtime=name, threads=2)
    assert networks.relative_difference(outputs, expected) < 1e-5


def test_rows_do_not_touch_each_other(content):
    rows = networks.images(3, 16, 16, 3)
    together = run_tflite(content, rows)
    assert together.shape == (3, 10)
    for row in range(3):
        np.testing.assert_array_equal(together[row : row + 1], run_tflite(content, rows[row : row + 1]))


def test_no_rows(content):
    assert run_tflite(content, np.zeros((0, 16, 16, 3), "float32")).shape == (0, 10)


def test_file_and_content_are_the_same(content, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    rows = networks.images(1, 16, 16, 3)
    np.testing.assert_array_equal(run_tflite(path, rows), run_tflite(content, rows))


def test_quantized_inputs_and_outputs_are_scaled():
    """A file with int8 at both ends, as other programs write them."""
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    layer = tf.Module()
    weights = tf.constant(np.random.default_rng(0).normal(size=(4, 3)).astype("float32"))
    layer.call = tf.function(lambda x: x @ weights, input_signature=[tf.TensorSpec((1, 4))])
    rows = networks.images(64, 4)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([layer.call.get_concrete_function()], layer)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([row[None]] for row in rows)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    with runtime.native_output_logged():
        quantized = converter.convert()
    outputs = run_tflite(quantized, rows)
    assert outputs.dtype == np.float32
    assert networks.relative_difference(outputs, rows @ weights.numpy()) < 3e-2


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.zeros((2, 16, 16, 1)), r"`inputs` for 'image' has the shape \(2, 16, 16, 1\)"),
        (np.zeros((16, 16, 3)), r"`inputs` for 'image' has the shape \(16, 16, 3\)"),
        (np.float32(1), r"`inputs` for 'image' has the shape \(\)"),
        (
            {"photo": np.zeros((1, 16, 16, 3))},
            r"`inputs` has the names \['photo'\], and the model's inputs are \['image'\]",
        ),
    ],
)
def test_unfit_inputs_are_refused(content, inputs, message):
    with pytest.raises(ValueError, match=message):
        run_tflite(content, inputs)


def test_several_inputs_need_a_dict_of_equal_lengths():
    left, right = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    content = export_tflite(keras.Model([left, right], keras.layers.Add()([left, right])))
    with pytest.raises(ValueError, match=r"must be a dict with an array for each of the model's inputs"):
        run_tflite(content, np.zeros((1, 4), "float32"))
    with pytest.raises(ValueError, match="must have the same number of rows"):
        run_tflite(content, {"left": np.zeros((1, 4), "float32"), "right": np.zeros((2, 4), "float32")})


def test_refused_values_name_the_row():
    inputs = keras.Input((2,), dtype="int32")
    content = export_tflite(keras.Model(inputs, keras.layers.Embedding(4, 3)(inputs)))
    assert run_tflite(content, np.array([[0, 3]], "int32")).shape == (1, 2, 3)
    with pytest.raises(ValueError, match="row 1 is refused"):
        run_tflite(content, np.array([[0, 3], [0, 4]], "int32"))


# --- benchmark -----------------------------------------------------------------------------------------------------
def test_benchmark_of_a_model_with_index_layers(content):
    result = benchmark_tflite(content, runs=5, warmup=1)
    assert result.runtime == installed[0]
    assert result.runtime_version == runtime.RUNTIMES[installed[0]].version()
    assert (result.threads, result.runs, result.model_bytes) == (1, 5, len(content))
    assert 0 < result.minimum_ms <= result.median_ms
    assert result.spread_ms >= 0
    # the index layers gather on the last axis, which XNNPACK has no kernel for; it takes everything else
    assert result.undelegated == ("GATHER",) * 4
    assert f"4 of {result.operators} operators (4 GATHER)" in str(result)
    assert f"{result.runtime} {result.runtime_version}, 1 thread\n" in str(result)


@pytest.mark.parametrize("name", installed)
def test_benchmark_of_a_model_that_is_delegated_whole(without_index, name):
    result = benchmark_tflite(without_index, runs=2, warmup=1, runtime=name)
    assert result.undelegated == ()
    assert (result.runtime, result.operators) == (name, 2)
    assert "0 of 2 operators" in str(result)


def test_benchmark_says_when_it_cannot_tell(without_index):
    result = dataclasses.replace(benchmark_tflite(without_index, runs=1, warmup=1), undelegated=None, threads=2)
    assert "outside XNNPACK not known" in str(result)
    assert "2 threads" in str(result)


def test_operators_are_counted_without_a_delegate_too(content):
    interpreter_module = pytest.importorskip("ai_edge_litert.interpreter")
    plain = interpreter_module.Interpreter(
        model_content=content,
        experimental_op_resolver_type=interpreter_module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    plain.allocate_tensors()
    operators, undelegated = runtime.timing._operators(plain)
    assert operators == len(undelegated) == benchmark_tflite(content, runs=1, warmup=1).operators


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"runs": 0}, r"`runs` \(=0\) must be a positive integer"),
        ({"warmup": -1}, r"`warmup` \(=-1\) must be a positive integer"),
        ({"threads": 1.5}, r"`threads` \(=1.5\) must be a positive integer"),
        ({"runtime": "onnx"}, r"`runtime` \(='onnx'\) must be one of 'ai-edge-litert', 'tflite-runtime', 'tensorflow'"),
    ],
)
def test_unfit_arguments_are_refused(content, arguments, message):
    with pytest.raises(ValueError, match=message):
        benchmark_tflite(content, **arguments)


def test_missing_runtime_is_named(content, monkeypatch):
    monkeypatch.setattr(runtime.Runtime, "is_installed", lambda self: False)
    with pytest.raises(
        ValueError, match=r"`runtime` \(='tflite-runtime'\) must be installed.*pip install tflite-runtime"
    ):
        run_tflite(content, networks.images(1, 16, 16, 3), runtime="tflite-runtime")
    with pytest.raises(ValueError, match="pip install ai-edge-litert"):
        run_tflite(content, networks.images(1, 16, 16, 3))


# --- files that are none -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "data", [b"", b"TFL3", b"PK\x03\x04" + bytes(100), bytes(4) + b"TFL3", bytes(4) + b"TFL3" + bytes(99)]
)
def test_empty_and_foreign_files(data, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(data)
    for call in (benchmark_tflite, lambda file: run_tflite(file, np.zeros((1, 2)))):
        with pytest.raises(
            ValueError, match=rf"model.tflite' \({len(data)} bytes\) must be a (whole )?TensorFlow Lite model"
        ):
            call(path)


def test_missing_file(tmp_path):
    with pytest.raises(ValueError, match=r"must be a \.tflite file that can be read, and cannot"):
        benchmark_tflite(tmp_path / "missing.tflite")
    with pytest.raises(ValueError, match=r"must be a \.tflite file that can be read, and cannot"):
        run_tflite(tmp_path, np.zeros((1, 2)))


def test_no_truncation_is_accepted(content):
    lengths = {*range(0, len(content), 211), *range(len(content) - 200, len(content))}
    for length in lengths:
        with pytest.raises(ValueError, match=r"must be a (whole )?TensorFlow Lite model"):
            runtime.check_tflite(content[:length])
    runtime.check_tflite(content)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(share=st.floats(0, 1, exclude_max=True))
@pytest.mark.parametrize("quantize", ["float16", "dynamic"])
def test_no_truncation_of_a_quantized_file_is_accepted(quantized_contents, quantize, share):
    whole = quantized_contents[quantize]
    with pytest.raises(ValueError, match=r"must be a (whole )?TensorFlow Lite model"):
        run_tflite(whole[: int(share * len(whole))], np.zeros((1, 16, 16, 3), "float32"))


@pytest.fixture(scope="module")
def quantized_contents():
    model = networks.condensed(blocks=((1, 8),))
    return {quantize: export_tflite(model, quantize=quantize) for quantize in ("float16", "dynamic")}


# TensorFlow's interpreter follows offsets unchecked, so a damaged file that got past the check would end the process.
DAMAGE = """
import random, sys
import runtime
whole = open(sys.argv[1], "rb").read()
refused = 0
for seed in range(100):
    choose = random.Random(seed)
    damaged = bytearray(whole)
    for _ in range(3):
        damaged[choose.randrange(len(damaged))] = choose.randrange(256)
    damaged = bytes(damaged[: choose.randrange(len(damaged))]) if seed % 2 else bytes(damaged)
    try:
        runtime.check_tflite(damaged)
        runtime.interpreters.make_interpreter(damaged, "damaged", sys.argv[2], 1)
    except ValueError:
        refused += 1
assert refused >= 50, refused
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", installed)
def test_damaged_files_do_not_crash_the_interpreter(content, tmp_path, name):
    (tmp_path / "model.tflite").write_bytes(content)
    command = [sys.executable, "-c", DAMAGE, str(tmp_path / "model.tflite"), name]
    subprocess.run(command, check=True, cwd=PLACE, capture_output=True)


# --- tflite-runtime 2.14, in an environment of its own -------------------------------------------------------------
PROGRAM = """
import sys
import numpy as np
import runtime
assert "keras" not in sys.modules and "tensorflow" not in sys.modules
folder, names = sys.argv[1], sys.argv[2:]
inputs = np.load(f"{folder}/inputs.npy")
for name in names:
    np.save(f"{folder}/{name}.npy", runtime.run_tflite(f"{folder}/{name}.tflite", inputs))
print(runtime.benchmark_tflite(f"{folder}/{names[0]}.tflite", runs=2, warmup=1))
"""


@pytest.fixture(scope="session")
def tflite_runtime_python(pytestconfig):
    """The Python of an environment with tflite-runtime 2.14, kept between test runs."""
    if sys.version_info[:2] != (3, 11):
        pytest.skip("tflite-runtime 2.14 has no wheel for this Python; it is tested on 3.11")
    folder = pytestconfig.cache.mkdir("tflite-runtime-2.14")
    python = folder / "bin" / "python"
    probe = [python, "-c", "import numpy, tflite_runtime.interpreter"]
    if not python.exists() or subprocess.run(probe, capture_output=True).returncode != 0:
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        install = [python, "-m", "pip", "install", "--quiet", "tflite-runtime==2.14.0", "numpy<2"]
        result = subprocess.run(install, capture_output=True, text=True)
        if result.returncode != 0:
            pytest.skip(f"tflite-runtime 2.14 could not be installed: {result.stderr.strip().splitlines()[-1]}")
    return python


def test_runtime_folder_is_a_program_of_its_own(content, tmp_path):
    shutil.copytree(PLACE / "runtime", tmp_path / "runtime")
    (tmp_path / "model.tflite").write_bytes(content)

    def run(*command):
        command = [sys.executable, "-W", "error", *command]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    assert "ms median of 50 runs" in run("-m", "runtime", "model.tflite").stdout
    assert "ms median of 3 runs" in run("runtime", "model.tflite", "--runs", "3").stdout
    helped = run("runtime", "--help")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert "FILE.tflite" in helped.stdout
    assert run("runtime", "none.tflite").stderr.startswith("error: `path_or_bytes`")


@pytest.mark.slow
def test_tflite_runtime_agrees(tflite_runtime_python, content, tmp_path):
    inputs = networks.images(4, 16, 16, 3)
    np.save(tmp_path / "inputs.npy", inputs)
    model = networks.condensed()
    # float32 sums in another order; float16 rounds the weights alike; int8 and dynamic round at other places, and one
    # step of a layer's 255 is 4e-3
    tolerances = {"float32": 1e-5, "float16": 1e-5, "dynamic": 5e-2, "int8": 5e-2}
    contents = {"float32": content}
    for quantize in ("float16", "dynamic", "int8"):
        data = networks.images(16, 16, 16, 3, seed=1) if quantize == "int8" else None
        contents[quantize] = export_tflite(model, quantize=quantize, representative_data=data)
    for name, each in contents.items():
        (tmp_path / f"{name}.tflite").write_bytes(each)
    result = subprocess.run(
        [tflite_runtime_python, "-c", PROGRAM, tmp_path, *contents],
        check=True,
        capture_output=True,
        text=True,
        cwd=PLACE,
    )
    assert "tflite-runtime 2.14.0, 1 thread" in result.stdout
    assert "(4 GATHER)" in result.stdout
    for name, tolerance in tolerances.items():
        outputs = np.load(tmp_path / f"{name}.npy")
        assert networks.relative_difference(outputs, run_tflite(contents[name], inputs)) < tolerance, name
