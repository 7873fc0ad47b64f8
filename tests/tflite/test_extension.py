"""A processor is one file, an operator one class, a pass one file and a scheme one row: made-up ones of each."""

import dataclasses
import json
import sys
import types
from typing import ClassVar

import keras
import numpy as np
import pytest
import tflite_networks as networks
from graphs import Builder, assert_equivalent, operators

import keras_condense as kc
from keras_condense.tflite import operators as ops
from keras_condense.tflite import passes, schemes, targets
from keras_condense.tflite.converter import convert_graph
from keras_condense.tflite.schemes import FLOAT32

pytestmark = pytest.mark.slow  # all of it, together


tf = pytest.importorskip("tensorflow")


@pytest.fixture
def riscv(monkeypatch, tmp_path):
    """One more file among the processors, on which picking channels costs nothing."""
    for name, target in targets.targets().items():
        (tmp_path / f"{name}.json").write_text(json.dumps(dataclasses.asdict(target)))
    costs = {kind: {feature: 1.0 for feature in row} for kind, row in target.costs["float32"].items()}
    made = {"name": "riscv64", "machines": ["riscv64"], "unit": "picoseconds", "lanes": {"float32": 4, "int8": 8}}
    made["costs"] = {"float32": costs | {"pick_channels": {}, "shuffle": {}}, "int8": {}}
    (tmp_path / "riscv64.json").write_text(json.dumps(made))
    monkeypatch.setattr(targets, "FOLDER", tmp_path)
    targets.targets.cache_clear()
    yield
    targets.targets.cache_clear()


def test_a_processor_is_one_file(riscv, monkeypatch, capsys):
    model = networks.condensed()
    rows = networks.images(2, 16, 16, 3)
    for target in ("riscv64", "measure"):
        monkeypatch.setattr("platform.machine", lambda: "riscv64")
        content = kc.export_tflite(model, target=target, report=True)
        assert networks.relative_difference(kc.run_tflite(content, rows), networks.reference(model, rows)) < 1e-4
        assert f"{target}: " in capsys.readouterr().out
    with pytest.raises(ValueError, match="must be one of 'arm64', 'riscv64', 'wasm', 'x86_64', 'measure'"):
        kc.export_tflite(model, target="mips")


def test_a_machine_is_of_one_processor(monkeypatch, tmp_path):
    for name, target in targets.targets().items():
        (tmp_path / f"{name}.json").write_text(json.dumps(dataclasses.asdict(target) | {"machines": ["x86_64"]}))
    monkeypatch.setattr(targets, "FOLDER", tmp_path)
    targets.targets.cache_clear()
    try:
        with pytest.raises(ValueError, match=r"of one processor each, and \['x86_64'\] are of several"):
            targets.targets()
    finally:
        targets.targets.cache_clear()


def test_measuring_on_a_processor_that_is_not_known_tries_the_rules_of_all(monkeypatch):
    from keras_condense.tflite.frontend import read_model
    from keras_condense.tflite.lowering import measured

    graph = read_model(networks.condensed(), ["image"], ["logits"])
    monkeypatch.setattr("platform.machine", lambda: "vax")
    names = set(measured(graph, FLOAT32, lambda candidate: len(candidate.nodes)).graphs)
    assert {"channels last, arm64", "channels last, x86_64"} <= names
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert "channels last" in measured(graph, FLOAT32, lambda candidate: len(candidate.nodes)).graphs


@dataclasses.dataclass(frozen=True, eq=False)
class Swapped(ops.Operator):
    """Height and width change places."""

    kind: ClassVar[str] = "swapped"

    def emit(self, tf, inputs, shape):
        return tf.transpose(inputs[0], (0, 2, 1, 3))


def test_an_operator_is_one_class():
    b = Builder()
    graph = b.graph(b.add(Swapped(), [b.relu(b.input(4, 3, 2))], (3, 4, 2)))
    target = dataclasses.replace(targets.targets()["arm64"], costs={"float32": {"swapped": {"outputs": 2.0}}})
    assert sum(targets.graph_costs(graph, target).values()) == 2.0 * 24
    image = np.random.default_rng(0).normal(size=(1, 4, 3, 2)).astype("float32")
    outputs = kc.run_tflite(convert_graph(graph), image)
    np.testing.assert_array_equal(outputs, np.maximum(image, 0).transpose(0, 2, 1, 3))


def test_a_pass_is_one_file(monkeypatch, tmp_path):
    (tmp_path / "drop_twins.py").write_text(
        "from keras_condense.tflite.operators import Relu\n\n\n"
        "def run(graph, target, scheme):\n"
        "    nodes = graph.by_name()\n"
        "    twins = {n.name: n.inputs[0] for n in graph if isinstance(n.op, Relu) and "
        "isinstance(nodes[n.inputs[0]].op, Relu)}\n"
        "    return graph.with_nodes([n for n in graph if n.name not in twins], twins)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import drop_twins

    b = Builder()
    graph = b.graph(b.relu(b.relu(b.relu(b.input(4, 3, 2)))))
    lowered = passes.run_all([*passes.SIMPLIFYING, drop_twins], graph, targets.targets()["arm64"], FLOAT32)
    assert operators(lowered) == ["relu"]
    assert_equivalent(lowered, graph)
    del sys.modules["drop_twins"]


def test_every_pass_is_a_module_with_a_run():
    for each in (*passes.SIMPLIFYING, *passes.CHANNELS_LAST):
        assert isinstance(each, types.ModuleType)
        assert each.__all__ == ["run"] or "run" in each.__all__


def test_a_scheme_is_one_row(monkeypatch):
    def bfloat16(converter, tf, rows):
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]

    row = schemes.Scheme("half", "float32", bfloat16)
    monkeypatch.setitem(schemes.SCHEMES, "half", row)
    model = networks.condensed()
    assert kc.export_tflite(model, quantize="half") == kc.export_tflite(model, quantize="float16")
    with pytest.raises(ValueError, match=r"`representative_data` was given with `quantize` \(='half'\)"):
        kc.export_tflite(model, quantize="half", representative_data=networks.images(2, 16, 16, 3))


@pytest.mark.parametrize("quantize", ["float16", "dynamic"])
def test_measuring_times_files_of_the_scheme(quantize, monkeypatch):
    sizes = []
    benchmark = kc.benchmark_tflite

    def noted(content, **options):
        sizes.append(len(content))
        return benchmark(content, runs=1, warmup=1)

    monkeypatch.setattr("keras_condense.tflite.lowering.benchmark_tflite", noted)
    model = networks.condensed()
    content = kc.export_tflite(model, quantize=quantize, target="measure")
    assert len(content) in sizes
    keras.backend.clear_session()
