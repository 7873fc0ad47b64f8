"""Random networks: masked, condensed and written down in every way they compute the same; wrong ones are made small."""

import dataclasses
import pathlib
import sys

import keras
import numpy as np
import pytest
import tflite_networks as networks

from keras_condense.tflite import export_tflite, run_tflite, signature
from keras_condense.tflite.operators import Convolution
from keras_condense.tflite.passes import keep_rows
from keras_condense.tflite.signature import output_names

pytest.importorskip("tensorflow")
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from random_networks import Program, check, difference, inputs_of, outputs_of, random_program, shrunk, still_fails
from random_networks.settings import PLAIN, Setting, output_keys, precision

pytestmark = pytest.mark.slow  # all of it, together


BATCHES, NETWORKS = 10, 20


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(BATCHES))
def test_every_form_of_random_networks(batch):
    graphs = 0
    for seed in range(batch * NETWORKS, (batch + 1) * NETWORKS):
        program = random_program(seed)
        result = check(program, tables=2)
        if result.failure:
            small = shrunk(program, still_fails(result.failure))
            pytest.fail(f"network {seed}, {check(small).failure or result.failure}:\n\n{small.source()}")
        graphs += result.graphs
    assert graphs > 8 * NETWORKS
    keras.backend.clear_session()


@pytest.mark.parametrize("seed", [1, 2, 3, 5, 8, 13, 21, 34])
@pytest.mark.parametrize("target", ["arm64", "x86_64"])
def test_files_of_random_networks(seed, target):
    """Through the converter and the interpreter, which `export_tflite` itself compares on other inputs."""
    program = random_program(seed)
    plain = dataclasses.replace(program, setting=PLAIN).build()
    inputs = [np.concatenate(rows) for rows in zip(*(inputs_of(plain, seed=row) for row in range(2)), strict=True)]
    expected = list(outputs_of(plain, inputs).values())
    with precision(program.setting.precision):
        model = program.build()
        content = export_tflite(model, target=target)
    actual = run_tflite(content, dict(zip(program.inputs(), inputs, strict=True)))
    held_in_dict = program.setting.outputs != "list"
    names = output_keys(len(expected)) if held_in_dict else output_names(model)
    actual = actual if isinstance(actual, dict) else {names[0]: actual}
    assert difference(actual, dict(zip(names, expected, strict=True))) < 1e-4


@pytest.mark.parametrize("seed", [4, 9, 16, 25])
@pytest.mark.parametrize("quantize", ["dynamic", "int8"])
def test_quantized_files_of_random_networks(seed, quantize, caplog):
    model = random_program(seed).build()
    rows = {tensor.name: networks.images(16, *tensor.shape[1:]) for tensor in model.inputs}
    with caplog.at_level("INFO", "keras_condense.tflite"):
        export_tflite(model, quantize=quantize, representative_data=rows if quantize == "int8" else None)
    assert "compared with the model" in caplog.text


def test_a_broken_pass_is_found_and_made_small(monkeypatch):
    run = keep_rows.run

    def without_relu(graph, target, scheme):
        nodes = [node.with_op(relu=False) if isinstance(node.op, Convolution) else node for node in graph]
        return run(graph.with_nodes(nodes), target, scheme)

    monkeypatch.setattr(keep_rows, "run", without_relu)
    lines = (
        "image0 = keras.Input((4, 4, 8), name='image0')",
        "x1 = K.BatchNormalization()(image0)",
        "x2 = K.GroupConv2D(8, 3, padding='same', groups=4, activation='relu', use_bias=True)(x1)",
        "x3 = L.Concatenate()([x1, x2])",
        "x4 = L.Dense(3)(x3)",
    )
    program = Program(0, lines, ("x4", "x1"))
    result = check(program)
    assert result.failure.startswith("channels last, arm64: ")
    small = shrunk(program, still_fails(result.failure))
    assert [line.split(" = ")[1] for line in small.lines] == [
        "keras.Input((4, 4, 8), name='image0')",
        "K.GroupConv2D(8, 3, padding='same', groups=4, activation='relu')(image0)",
    ]
    # what is printed can be run
    names = {}
    exec(small.source(), names)
    assert keras.tree.map_structure(lambda y: tuple(y.shape), names["model"].output) == [(None, 4, 4, 8)]


def test_outputs_that_change_places_are_found_and_held_more_plainly(monkeypatch):
    monkeypatch.setattr(signature, "_keys", sorted)
    setting = Setting(precision="mixed_float16", outputs="OrderedDict", compiled="loss='mse'", frozen=True)
    lines = ("image0 = keras.Input((4, 4, 8), name='image0')", "x1 = L.ReLU()(image0)", "x2 = L.Activation('tanh')(x1)")
    program = Program(0, lines, ("x1", "x2"), setting)
    result = check(program)
    assert result.failure.startswith("as read: ")
    small = shrunk(program, still_fails(result.failure))
    assert small.setting == Setting(outputs="OrderedDict")
    names = {}
    exec(small.source(), names)
    assert list(names["model"].output) == ["scores", "boxes"]
