"""What `export_tflite.py` writes beside the file."""

import json

import export_tflite
import keras
import pytest

import keras_condense as kc

pytest.importorskip("tensorflow")

pytestmark = pytest.mark.slow  # all of it, together


@pytest.fixture
def model(tmp_path):
    layers = [keras.Input((4, 4, 8)), kc.layers.LearnedGroupConv2D(8, 1), keras.layers.GlobalAveragePooling2D()]
    path = tmp_path / "condensed.keras"
    kc.condense(keras.Sequential(layers), finish=True).save(path)
    return path


def test_costs_for_model_explorer(model, tmp_path, capsys):
    file, costs = tmp_path / "laptop.tflite", tmp_path / "costs.json"
    options = ["--target", "x86_64", "--report", "--node-costs", str(costs)]
    assert export_tflite.main([str(model), str(file), *options]) == 0
    assert f"for Model Explorer: {costs}\n" in capsys.readouterr().out
    data = json.loads(costs.read_text())["main"]
    assert data["name"] == "microseconds on x86_64, by table"
    assert any(result["value"] > 0 for result in data["results"].values())
    assert file.read_bytes() == kc.export_tflite(kc.saving.load_model(model), target="x86_64")


def test_costs_that_cannot_be_written_leave_no_file(model, tmp_path, fails):
    file = tmp_path / "model.tflite"
    assert "must end in '.json'" in fails(export_tflite.main, model, file, "--node-costs", tmp_path / "costs")
    assert "has none" in fails(
        export_tflite.main, model, file, "--node-costs", tmp_path / "costs.json", "--target", "measure"
    )
    assert [each.name for each in tmp_path.iterdir()] == ["condensed.keras"]
