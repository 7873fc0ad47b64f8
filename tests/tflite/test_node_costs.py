"""The costs that Model Explorer shows, against the interpreter's list of operators and the table of costs."""

import collections
import json
import math

import keras
import numpy as np
import pytest
from condensed_networks import condense_net, finished

import keras_condense as kc
from keras_condense.tflite.lowering import lower_model
from keras_condense.tflite.preparation import prepared
from keras_condense.tflite.schemes import SCHEMES
from keras_condense.tflite.targets import FOLDER

tf = pytest.importorskip("tensorflow")

pytestmark = pytest.mark.slow  # all of it, together


def operators(content):
    """Kinds of the operators, names and shapes of what they write and read, as the interpreter lists them."""
    interpreter = tf.lite.Interpreter(
        model_content=content,
        experimental_op_resolver_type=tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    tensors = {each["index"]: each for each in interpreter.get_tensor_details()}
    return [
        (each["op_name"], tensors[each["outputs"][0]], [tensors.get(number) for number in each["inputs"]])
        for each in interpreter._get_ops_details()
    ]


def exported(tmp_path, model, **options):
    """The content, and the values by operator, of which each has one."""
    content = kc.export_tflite(model, node_costs=tmp_path / "costs.json", verify=False, **options)
    ((graph, data),) = json.loads((tmp_path / "costs.json").read_text()).items()
    assert graph == "main"
    assert [stop["stop"] for stop in data["gradient"]] == [0, 1]
    assert data.keys() == {"name", "results", "gradient"}
    assert all(result.keys() == {"value"} for result in data["results"].values())
    found = operators(content)
    assert list(data["results"]) == [written["name"] for _, written, _ in found]
    return content, data["name"], [result["value"] for result in data["results"].values()]


def small_network():
    return kc.condense(finished(condense_net()))


def reactivating_network():
    options = {"stem_strides": 1, "input_shape": (16, 16, 3), "classes": 10}
    return kc.condense(finished(kc.applications.CondenseNetV2((2, 1), (8, 16), **options)))


@pytest.mark.filterwarnings("ignore:.*interpreter is deprecated")
@pytest.mark.parametrize(
    ("network", "target", "quantize"),
    [
        (small_network, "arm64", None),
        (small_network, "wasm", "float16"),
        (small_network, "arm64", "int8"),
        (reactivating_network, "arm64", None),  # nodes of which the converter leaves no operator
    ],
)
def test_each_operator_has_its_part_of_what_the_table_says(network, target, quantize, tmp_path):
    model, options = network(), {}
    if quantize == "int8":
        options["representative_data"] = np.random.default_rng(0).normal(size=(5, *model.input_shape[1:]))
    content, name, values = exported(tmp_path, model, target=target, quantize=quantize, **options)
    scheme = SCHEMES[quantize]
    lowering = lower_model(prepared(model), target, scheme)
    unit, scale = ("instructions", 1) if target == "arm64" else ("microseconds", 1e6)
    assert name == f"{unit} on {target}, by table"
    assert sum(values) == pytest.approx(lowering.totals[lowering.chosen] / scale, abs=0.5 * len(values) / scale + 0.1)
    kinds = collections.defaultdict(set)
    for (kind, _, _), value in zip(operators(content), values, strict=True):
        kinds[kind].add(value)
    assert kinds["RESHAPE"] | kinds["DENSIFY"] | kinds["DEQUANTIZE"] | kinds["QUANTIZE"] <= {0}
    assert min(kinds["CONV_2D"]) > 0


def test_the_file_is_the_same_with_and_without(tmp_path):
    model = small_network()
    assert kc.export_tflite(model, node_costs=tmp_path / "costs.json") == kc.export_tflite(model)


@pytest.mark.filterwarnings("ignore:.*interpreter is deprecated")
def test_convolutions_cost_what_their_shapes_say(tmp_path):
    table = json.loads(FOLDER.joinpath("arm64.json").read_text())["costs"]["float32"]
    model = kc.condense(finished(kc.applications.CondenseNet((2,), (8,), input_shape=(32, 32, 3), classes=10)))
    content, _, values = exported(tmp_path, model, quantize="float16")  # whose kernels are never sparse
    compared = 0
    for (kind, written, read), value in zip(operators(content), values, strict=True):
        if kind != "CONV_2D":
            continue
        filters, height, width, inputs = read[1]["shape"]
        groups, pixels = read[0]["shape"][-1] // inputs, math.prod(written["shape"][1:3])
        steps = math.ceil(filters / groups / 8) * groups * pixels
        sizes = {
            "multiply_adds": height * width * inputs * steps * 8,
            "inputs": height * width * inputs * groups * pixels,
            "outputs": filters * pixels,
            "steps": steps,
            "partial_steps": groups * pixels if filters // groups % 8 else 0,
        }
        row = table["convolution" if height * width == 1 else "window_convolution"]
        assert value == pytest.approx(sum(row.get(name, 0) * size for name, size in sizes.items()), abs=0.6)
        compared += 1
    assert compared >= 5


@pytest.mark.filterwarnings("ignore:.*interpreter is deprecated")
@pytest.mark.parametrize("quantize", [None, "dynamic"])
def test_several_outputs(quantize, tmp_path):
    image = keras.Input((8, 8, 8), name="image")
    x = kc.layers.LearnedGroupConv2D(8, 1, name="learned")(image)
    y = kc.layers.LearnedGroupConv2D(16, 1, name="other")(keras.layers.ReLU()(x))
    model = kc.condense(finished(keras.Model(image, [y, keras.layers.GlobalAveragePooling2D()(x), x])))
    lowering = lower_model(prepared(model), "arm64", SCHEMES[quantize])
    _, _, values = exported(tmp_path, model, quantize=quantize)
    assert sum(values) == pytest.approx(lowering.totals[lowering.chosen], abs=0.5 * len(values))


def test_the_report_names_the_file(tmp_path, capsys):
    kc.export_tflite(small_network(), node_costs=tmp_path / "costs.json", report=True)
    assert f"costs of the operators, for Model Explorer: {tmp_path / 'costs.json'}\n" in capsys.readouterr().out


def test_what_cannot_be_written_is_named_before_any_work(tmp_path, monkeypatch):
    model, path = small_network(), tmp_path / "model.tflite"
    (tmp_path / "link.json").symlink_to(path)
    monkeypatch.setattr("keras_condense.tflite.lowering.cheapest", lambda *_: pytest.fail("work was done"))
    for name, message, options in (
        ("costs.json", r"`target` \(='measure'\) has none.* Use one of 'arm64', ", {"target": "measure"}),
        ("costs.txt", r"`node_costs` \(='.*costs.txt'\) must end in '.json'", {}),
        ("link.json", "must be another file than `path`", {}),
        ("no/costs.json", "must be in an existing folder", {}),
    ):
        with pytest.raises(ValueError, match=message):
            kc.export_tflite(model, path, node_costs=tmp_path / name, **options)
    assert [each.name for each in tmp_path.iterdir()] == ["link.json"]


def test_a_network_without_anything_to_lower_has_no_costs(tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)], name="plain")
    with pytest.raises(ValueError, match=r"`model` \(='plain'\) has no graph with layers to lower"):
        kc.export_tflite(model, tmp_path / "model.tflite", node_costs=tmp_path / "costs.json")
    assert not list(tmp_path.iterdir())
