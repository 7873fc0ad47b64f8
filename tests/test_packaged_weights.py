"""Weights that come with the package, and the programs that pack them and write their cards."""

import hashlib
import importlib
import pathlib
import sys

import keras
import numpy as np
import pytest

from keras_condense import applications
from keras_condense.applications import pretrained
from keras_condense.applications.preprocessing import CIFAR
from keras_condense.layers import condensable_layers

BENCHMARKS = pathlib.Path(__file__).parent.parent / "benchmarks"
PACKAGED = [row for row in pretrained.WEIGHTS if row.packaged]


@pytest.fixture
def program(monkeypatch):
    """Import a program of benchmarks/ by its name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    known = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - known:
        if getattr(sys.modules[name], "__file__", "") and str(BENCHMARKS) in str(sys.modules[name].__file__):
            del sys.modules[name]


def tiny():
    keras.utils.set_random_seed(0)
    return applications.CondenseNet(
        (1, 1), (32, 64), stem_strides=1, classifier_condense_factor=2, input_shape=(8, 8, 3), classes=10, weights=None
    )


def test_compressed_weights_load_as_they_were_and_dropped_connections_cost_nothing(program, tmp_path):
    model, again = tiny(), tiny()
    for layer in condensable_layers(model):
        layer.condense_to(layer.final_stage)
    path = tmp_path / "tiny.weights.h5"
    program("package_weights").save_compressed(model, path)
    model.save_weights(tmp_path / "whole.weights.h5")
    kernels = sum(np.asarray(layer.kernel).nbytes for layer in condensable_layers(model))
    dropped = kernels * 3 // 4 - 4096 * len(condensable_layers(model))
    assert path.stat().st_size < (tmp_path / "whole.weights.h5").stat().st_size - 0.8 * dropped
    again.load_weights(path)
    for ours, theirs in zip(again.weights, model.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))


def test_a_row_is_all_that_packaged_weights_need(monkeypatch, tmp_path):
    model = tiny()
    model.save_weights(tmp_path / "tiny.weights.h5")
    row = pretrained.PretrainedWeights(
        constructor="CondenseNet",
        arguments={"stages": (1, 1), "growth_rates": (32, 64), "stem_strides": 1, "classifier_condense_factor": 2},
        dataset="cifar10",
        license="Apache-2.0",
        preprocessing=CIFAR,
        packaged=str(tmp_path / "tiny.weights.h5"),  # a whole path stays what it is
        sha256=hashlib.sha256((tmp_path / "tiny.weights.h5").read_bytes()).hexdigest(),
        measured_error=50.0,
    )
    monkeypatch.setattr(pretrained, "WEIGHTS", (row,))
    monkeypatch.setattr(keras.utils, "get_file", lambda *_, **__: pytest.fail("weights in the package are at hand"))
    loaded = applications.CondenseNet(**row.arguments, classes=10, weights="cifar10")
    for ours, theirs in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("row", PACKAGED, ids=lambda row: f"{row.constructor}-{row.dataset}")
def test_packaged_weights_are_those_of_the_table_and_load_without_a_network(row, monkeypatch):
    path = pathlib.Path(applications.__file__).parent / "weights" / row.packaged
    assert hashlib.sha256(path.read_bytes()).hexdigest() == row.sha256
    assert path.stat().st_size < 1.5e6
    monkeypatch.setattr(keras.utils, "get_file", lambda *_, **__: pytest.fail("weights in the package are at hand"))
    model = getattr(applications, row.constructor)(**row.arguments, weights=row.dataset)
    assert model.output_shape == (None, row.classes)
    assert all(layer.stage == layer.final_stage for layer in condensable_layers(model))


def test_cards_say_what_the_results_say(program, monkeypatch):
    module = program("model_cards")
    assert module.cards().keys() == {module.FOLDER / row.packaged.replace(".weights.h5", ".md") for row in PACKAGED}
    monkeypatch.setattr(sys, "argv", ["model_cards.py", "--check"])
    assert module.main() == 0
    errors = {
        (row["network"], row["data_set"]): row["error"] for row in module.read_rows(module.RESULTS / "accuracy.csv")
    }
    assert errors == {(row.constructor, row.dataset): f"{row.measured_error:.2f}" for row in PACKAGED}
