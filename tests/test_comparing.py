"""Two networks side by side, against files' own sizes, NumPy's accuracies, and hostile arguments."""

import os
import zipfile

import keras
import numpy as np
import pytest
from keras import layers as L

import keras_condense as kc
from keras_condense.comparing import ComparedNetwork, NetworkComparison
from keras_condense.tflite import CodedSize
from keras_condense.tflite.lowering import cost_by_table, lower_model

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(40, 8, 8, 4)).astype("float32")
Y = RANDOM.integers(0, 3, 40)


def classifier(filters=32, classes=3, compiled=False):
    image = keras.Input((8, 8, 4), name="image")
    x = L.Conv2D(filters, 1, activation="relu", name="expand")(image)
    x = L.Conv2D(filters, 1, activation="relu", name="conv")(x)
    model = keras.Model(image, L.Dense(classes, activation="softmax", name="scores")(L.GlobalAveragePooling2D()(x)))
    if compiled:
        model.compile("sgd", "sparse_categorical_crossentropy")
    return model


@pytest.fixture(scope="module")
def pair():
    keras.utils.set_random_seed(0)
    model = classifier()
    learning = kc.learn_groups(model, where="conv")
    for layer in kc.layers.condensable_layers(learning):
        layer.condense_to(layer.final_stage)
    return model, learning


@pytest.fixture(scope="module")
def comparison(pair):
    return kc.compare(*pair, (X, Y), names=("dense", "grouped"), runs=3)


def test_what_the_files_weigh_and_say(pair, comparison, tmp_path):
    outputs = []
    for model, side in zip(pair, (comparison.original, comparison.compressed), strict=True):
        path = tmp_path / "model.tflite"
        kc.export_tflite(model, path)
        assert side.size.stored == os.path.getsize(path)
        with zipfile.ZipFile(tmp_path / "model.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            archive.write(path, "model.tflite")
        assert side.size.zipped == pytest.approx(os.path.getsize(tmp_path / "model.zip"), abs=20)
        outputs.append(model.predict(X, verbose=0).argmax(axis=-1))
        assert side.accuracy == np.mean(outputs[-1] == Y)
        assert side.milliseconds > 0
    assert comparison.agreement == np.mean(outputs[0] == outputs[1])
    assert (comparison.original.name, comparison.compressed.name, comparison.rows) == ("dense", "grouped", 40)
    assert comparison.original.parameters == pair[0].count_params()
    assert comparison.compressed.parameters == pair[0].count_params() - 32 * 32 * 3 // 4
    assert comparison.original.macs - comparison.compressed.macs == 64 * 32 * 32 * 3 // 4


def test_a_quantization_aware_model_brings_its_ranges(pair):
    model, _ = pair
    aware = kc.quantize_aware(model, 2 * X)
    comparison = kc.compare(model, aware, (X, Y), quantize="int8", runs=3)
    assert comparison.compressed.size.stored == len(kc.export_tflite(aware, quantize="int8"))
    assert comparison.compressed.cost < comparison.original.cost
    outputs = [each.predict(X, verbose=0).argmax(axis=-1) for each in (model, aware)]
    assert comparison.agreement == pytest.approx(np.mean(outputs[0] == outputs[1]), abs=1 / 40)
    assert kc.compare(model, aware, quantize="int8", runs=3).compressed.accuracy is None
    with pytest.raises(ValueError, match=r"`quantize` \(=None\) must be 'int8' for `model`"):
        kc.compare(model, aware, (X, Y))


def test_costs_are_those_of_the_table(pair, comparison):
    lowering = lower_model(kc.condense(pair[1]), "arm64")
    assert comparison.compressed.cost == lowering.totals[lowering.chosen]
    # by hand, of what `arm64.json` has for convolutions: 64 pixels of 32 filters twice, of a dense layer once
    table = kc.tflite.targets.targets()["arm64"].costs["float32"]
    multiply_adds, outputs = table["convolution"]["multiply_adds"], table["convolution"]["outputs"]
    convolutions = 64 * 32 * (4 + 32) * multiply_adds + 2 * 64 * 32 * outputs
    assert comparison.original.cost == pytest.approx(convolutions)
    assert (comparison.unit, comparison.original.uncounted) == ("instructions", ("scores",))


def test_layers_in_no_table_are_named():
    image = keras.Input((8, 8, 4))
    x = L.LayerNormalization(name="norm")(L.Conv2D(8, 1, name="conv")(image))
    model = keras.Model(image, L.Softmax()(L.GlobalAveragePooling2D()(x)))
    cost, uncounted = cost_by_table(model, "arm64")
    assert cost > 0
    assert uncounted == ("norm",)


def test_int8_is_calibrated_with_the_rows(pair, tmp_path):
    comparison = kc.compare(*pair, (X, Y), quantize="int8", runs=1)
    content = kc.export_tflite(pair[1], quantize="int8", representative_data=X)
    assert comparison.compressed.size.stored == len(content)
    assert comparison.original.size.stored == len(kc.export_tflite(pair[0]))
    found = kc.run_tflite(content, X).argmax(axis=-1)
    assert comparison.compressed.accuracy == np.mean(found == Y)
    assert "1 thread; 'compressed' is of int8" in str(comparison)


def test_files_and_no_data(pair, tmp_path):
    path = tmp_path / "model.tflite"
    content = kc.export_tflite(pair[1], path)
    comparison = kc.compare(path, content, runs=1)
    assert comparison.original.size == comparison.compressed.size == kc.coded_size(path)
    for side in (comparison.original, comparison.compressed):
        assert (side.parameters, side.macs, side.cost, side.accuracy) == (None, None, None, None)
    assert (comparison.agreement, comparison.rows) == (None, 0)
    assert kc.compare(path, pair[1], (X, Y), runs=1).agreement == 1


def test_a_data_set_and_a_distiller():
    data = kc.datasets.load_arrays("digits", image_size=8)
    model = keras.Sequential([keras.Input(data.image_shape), L.Flatten(), L.Dense(10, activation="softmax")])
    distiller = kc.distill(keras.models.clone_model(model), model)
    comparison = kc.compare(model, distiller, data, runs=1)
    images, labels = data.test_arrays()
    assert comparison.rows == len(labels)
    assert comparison.original.accuracy == np.mean(model.predict(images, verbose=0).argmax(axis=-1) == labels)
    assert comparison.compressed.accuracy == np.mean(distiller.predict(images, verbose=0).argmax(axis=-1) == labels)


def test_the_table():
    first = ComparedNetwork("dense", 1200, 34000, CodedSize(4000, 3000, 2000), 2.5e6, (), 0.5, 0.9)
    second = ComparedNetwork("small", 300, None, CodedSize(1000, 900, 800), None, ("norm",), 0.25, 0.875)
    text = str(NetworkComparison(first, second, 40, 0.925, "arm64", "instructions", None, "ai-edge-litert 2.3.0", 1))
    lines = {line.split("│")[1].strip(): [cell.strip() for cell in line.split("│")[2:-1]]
             for line in text.splitlines() if line.startswith("│")}  # fmt: skip
    assert lines == {
        "parameters": ["1,200", "300", "0.250"],
        "multiply-adds": ["34,000", "-", "-"],
        "file": ["4.0 kB", "1.0 kB", "0.250"],
        "file, zipped": ["3.0 kB", "0.9 kB", "0.300"],
        "file, entropy-coded": ["2.0 kB", "0.8 kB", "0.400"],
        "million instructions, arm64, by table": ["2.500", "-", "-"],
        "ms here": ["0.500", "0.250", "0.500"],
        "accuracy": ["90.00%", "87.50%", "-2.50 points"],
        "same class": ["", "92.50%", ""],
    }
    assert "40 rows; ai-edge-litert 2.3.0, 1 thread" in text
    assert "small: in no table, and counted as 0: norm" in text


NAN = X.copy()
NAN[3, 0, 0, 0] = np.nan


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "measure"}, r"`target` \(='measure'\) must be one of 'arm64'"),
        ({"quantize": "int4"}, r"`quantize` \(='int4'\) must be one of None"),
        ({"quantize": "int8", "data": None}, r"`data` must be given with quantize='int8'"),
        ({"threads": 0}, r"`threads` \(=0\) must be a positive integer"),
        ({"runs": 2.5}, r"`runs` \(=2\.5\) must be a positive integer"),
        ({"names": ("a", "a")}, r"`names` \(=\('a', 'a'\)\) must be two different names"),
        ({"names": "ab"}, r"`names` \(='ab'\) must be two different names"),
        ({"original": None}, r"`original` \(=None\) must be a Keras model, or a \.tflite file"),
        ({"compressed": 3}, r"`compressed` \(=3\) must be a Keras model"),
        ({"compressed": "no/such.tflite"}, r"`path_or_bytes` \(='no/such\.tflite'\) must be a \.tflite file"),
        ({"compressed": b"PK and so on"}, r"must be a TensorFlow Lite model"),
        ({"data": 7}, r"`data` \(=7\) must be rows and their labels, \(x, y\)"),
        ({"data": (X,)}, r"must be rows and their labels"),
        ({"data": (X, Y[:-1])}, r"`data` must be x of \(rows, \.\.\.\) and y of \(rows,\).* \(40, .* and \(39,\)"),
        ({"data": (X[:0], Y[:0])}, r"as many and at least one"),
        ({"data": (X, np.eye(3)[Y])}, r"of one-hot labels `y\.argmax\(axis=-1\)`"),
        ({"data": (X, Y.astype("float32"))}, r"class numbers for labels, and y is of float32\. Give integers"),
        ({"data": (NAN, Y)}, r"`data` must be finite, and x has NaN"),
        ({"data": (X, Y + 1)}, r"`data` must have labels in 0\.\.2, the classes of `original`, and y goes from 1 to 3"),
        ({"data": (X, Y - 1)}, r"y goes from -1 to 1\. Number the classes from 0"),
        ({"data": (X[..., :3], Y)}, r"`data` must be rows of \(8, 8, 4\) in float32, as `original` takes them"),
        ({"data": (X.astype("uint8"), Y)}, r"and x is of \(8, 8, 4\) in uint8"),
        ({"data": ([[1], [1, 2]], [0, 1])}, r"`data` must hold real numbers, and x is of dtype object"),
        ({"compressed": classifier(classes=1), "data": (X, Y)}, r"`compressed` must be a classifier"),
        ({"compressed": kc.learn_groups(classifier())}, r"must be in stage 3 to be condensed"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[:30],
)
def test_errors_come_before_any_work(pair, arguments, message, monkeypatch):
    def nothing(*arguments, **options):
        raise AssertionError("worked before it had looked at everything")

    for work in ("export_tflite", "run_tflite", "benchmark_tflite"):
        monkeypatch.setattr(kc.comparing, work, nothing)
    given = {"original": pair[0], "compressed": pair[1], "data": (X, Y)} | arguments
    with pytest.raises(ValueError, match=message):
        kc.compare(given.pop("original"), given.pop("compressed"), given.pop("data"), **given)


def test_a_file_is_not_quantized_again(pair):
    with pytest.raises(ValueError, match=r"`quantize` \(='float16'\) is for a Keras model, and `compressed` is a file"):
        kc.compare(pair[0], kc.export_tflite(pair[1]), quantize="float16")
