"""What the pictures show: numbers on lines and bars against those that a test knows by itself; no pixels."""

import builtins
import json
import struct

import keras
import numpy as np
import pytest

pytest.importorskip("matplotlib")

from condensed_networks import finished
from matplotlib.figure import Figure

from keras_condense import pictures
from keras_condense.applications import CondenseNet
from keras_condense.compressions import LearnedGroups, PrunedWeights
from keras_condense.condensation import condense
from keras_condense.layer_sensitivity import Sensitivity, SensitivityRow
from keras_condense.pictures import of_exports
from keras_condense.profiling import profile_model
from keras_condense.tflite import TFLiteBenchmark, export_tflite
from keras_condense.tflite.lowering import lower_model
from keras_condense.tflite.targets import graph_costs, targets

STAGES, LEFT = [0, 1, 2, 3, 3], [1, 0.75, 0.5, 0.25, 0.25]


def write_run(folder, *, epochs=5, planned=5, learned=True, validated=True, seed=0):
    """A run's folder as `train` leaves it, with numbers of its own, which are returned by their columns."""
    rng = np.random.default_rng(seed)
    names = ["loss", "accuracy", *(["val_loss", "val_accuracy"] if validated else [])]
    columns = {"epoch": list(range(1, epochs + 1))} | {name: rng.random(epochs).round(4).tolist() for name in names}
    if learned:
        columns |= {"condense_stage": STAGES[:epochs], "connections_left": LEFT[:epochs]}
    folder.mkdir()
    rows = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    (folder / "log.csv").write_text("\n".join(rows) + "\n")
    (folder / "settings.json").write_text(json.dumps({"network": "net", "epochs": planned}))
    return columns


def curves(axes):
    """The lines of data, without those across a whole panel."""
    return [line for line in axes.lines if len(line.get_xdata()) > 2]


def upright(axes):
    """Where lines stand from the bottom to the top."""
    return [float(line.get_xdata()[0]) for line in axes.lines if len(line.get_xdata()) == 2]


def labels(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


# --- run -------------------------------------------------------------------------------------------------------------
def test_run_shows_the_log(tmp_path):
    log = write_run(tmp_path / "digits")
    loss, accuracy, left = pictures.run(tmp_path / "digits").axes
    for axes, name, scale in ((loss, "loss", 1), (accuracy, "accuracy", 100)):
        training, other = curves(axes)
        np.testing.assert_allclose(training.get_ydata(), scale * np.array(log[name]))
        np.testing.assert_allclose(other.get_ydata(), scale * np.array(log[f"val_{name}"]))
        assert training.get_xdata().tolist() == other.get_xdata().tolist() == [1, 2, 3, 4, 5]
        assert (training.get_linestyle(), other.get_linestyle()) == ("--", "-")
        assert upright(axes) == [1, 2, 3]  # stages 1 to 3 are reached in epochs 2 to 4
    (line,) = curves(left)
    np.testing.assert_allclose(line.get_ydata(), [100, 75, 50, 25, 25])
    assert "epoch" in left.get_xlabel()
    assert [axes.get_ylabel() for axes in (loss, accuracy)] == ["loss", "accuracy, %"]


def test_runs_can_be_told_apart_without_colours(tmp_path):
    first, second = write_run(tmp_path / "a"), write_run(tmp_path / "b", epochs=4, seed=1)
    figure = pictures.run(tmp_path / "a", tmp_path / "b")
    lines = curves(figure.axes[0])
    for line, log, name in zip(lines, [first, first, second, second], ["loss", "val_loss"] * 2, strict=True):
        np.testing.assert_allclose(line.get_ydata(), log[name])
    looks = [(line.get_marker(), line.get_linestyle()) for line in lines]
    assert len(set(looks)) == len(looks)
    assert labels(figure) == ["a", "b: 4 of 5 epochs", "training images", "other images (val_)"]


def test_run_without_learned_layers_and_validation(tmp_path):
    write_run(tmp_path / "dense", learned=False, validated=False)
    figure = pictures.run(str(tmp_path / "dense"))
    assert [len(curves(axes)) for axes in figure.axes] == [1, 1]
    assert upright(figure.axes[0]) == []
    assert labels(figure) == ["dense", "training images"]


def test_run_refuses_what_is_none(tmp_path):
    with pytest.raises(ValueError, match=r"must be 1 to 6 runs.+Give"):
        pictures.run()
    with pytest.raises(ValueError, match=r"must be the folder of a run, and there is none\. Check"):
        pictures.run(tmp_path / "missing")
    with pytest.raises(ValueError, match=r"log\.csv'\) must be an existing file\. A run's folder holds log\.csv and"):
        pictures.run(tmp_path)
    write_run(tmp_path / "begun", epochs=1)
    with pytest.raises(ValueError, match=r"at least two epochs to draw lines, and has 1\. Train on"):
        pictures.run(tmp_path / "begun")
    (tmp_path / "begun" / "log.csv").write_text("")
    with pytest.raises(ValueError, match=r"at least two epochs to draw lines, and has 0\. Train on"):
        pictures.run(tmp_path / "begun")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("log.csv", b"epoch,loss,accuracy\n1,much,0.5\n2,1,1\n"),
        ("log.csv", b"epoch,loss\n1,0.5\n2,1\n"),
        ("log.csv", b"epoch,loss,accuracy\n1,2,3,4\n2,1,1\n"),
        ("log.csv", b"\xff\xfe\x00"),
        ("settings.json", b"[]"),
        ("settings.json", b"{"),
        ("settings.json", b'{"epochs": "many"}'),
    ],
)
def test_run_refuses_damaged_files(name, content, tmp_path):
    write_run(tmp_path / "run")
    (tmp_path / "run" / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"must hold a run's log\.csv and settings\.json, and .+ Give a folder"):
        pictures.run(tmp_path / "run")


# --- cost ------------------------------------------------------------------------------------------------------------
def condense_net():
    options = {"stem_strides": 1, "input_shape": (8, 8, 3), "classes": 10, "classifier_condense_factor": 2}
    return finished(CondenseNet((2, 1), (8, 4), **options))


def texts(ticks):
    return [tick.get_text() for tick in ticks]


def bars(axes):
    return [bar.get_width() for bar in axes.patches]


def test_cost_by_layer():
    # side 8, then 4; multiply-adds counted by hand
    layers = [
        keras.Input((8, 8, 3)),
        keras.layers.Conv2D(4, 3, padding="same", name="conv"),
        keras.layers.ReLU(name="relu"),
        keras.layers.Conv2D(6, 1, strides=2, name="small"),
        keras.layers.Flatten(),
        keras.layers.Dense(10, name="top"),
    ]
    (axes,) = pictures.cost(keras.Sequential(layers, name="net")).axes
    assert texts(axes.get_yticklabels()) == ["conv", "small", "top"]
    np.testing.assert_allclose(bars(axes), np.array([64 * 4 * 27, 16 * 24, 96 * 10]) / 1e6)
    assert axes.get_title() == "0.00826 in all"
    assert "million multiply-adds" in axes.get_xlabel()


@pytest.mark.parametrize(("target", "unit", "scale"), [("arm64", "instructions", 1e6), ("x86_64", "milliseconds", 1e9)])
def test_cost_for_a_target_is_that_of_the_network_as_it_is_lowered(target, unit, scale):
    small = condense(condense_net())
    lowering = lower_model(small, target)
    macs, costs = pictures.cost(small, target, by="layer").axes
    assert sum(bars(macs)) == pytest.approx(profile_model(small).macs / 1e6)
    assert sum(bars(costs)) == pytest.approx(lowering.totals[lowering.chosen] / scale)
    assert unit in costs.get_xlabel()
    expected = {node.layer: 0.0 for node in lowering.graph}
    for name, value in graph_costs(lowering.graph, targets()[target]).items():
        expected[lowering.graph.by_name()[name].layer] += value / scale
    for label, value in zip(texts(macs.get_yticklabels()), bars(costs), strict=True):
        assert value == pytest.approx(expected["" if label == "added by lowering" else label])
    # a masked network costs what its condensed form does
    np.testing.assert_allclose(bars(pictures.cost(condense_net(), target, by="layer").axes[1]), bars(costs))


def many_layers(count, name):
    layers = [keras.layers.Dense(number + 1, use_bias=False, name=name(number)) for number in range(count)]
    return keras.Sequential([keras.Input((1,)), *layers], name="many")


def test_the_dearest_of_many_layers_are_drawn():
    figure = pictures.cost(many_layers(40, "layer{}".format))
    (axes,) = figure.axes
    widths = np.array([1, *(number * (number + 1) for number in range(1, 40))]) / 1e6
    np.testing.assert_allclose(bars(axes), [*widths[10:], widths[:10].sum()])
    assert texts(axes.get_yticklabels()) == [*(f"layer{number}" for number in range(10, 40)), "the other 10"]
    assert figure.get_suptitle() == "many: the 30 dearest of 40 layers, and the sum of the others"


def test_many_layers_are_summed_by_block():
    figure = pictures.cost(many_layers(40, lambda number: f"block{number // 20 + 1}_layer{number}"))
    (axes,) = figure.axes
    assert texts(axes.get_yticklabels()) == ["block1", "block2"]
    widths = np.array([1, *(number * (number + 1) for number in range(1, 40))]) / 1e6
    np.testing.assert_allclose(bars(axes), [widths[:20].sum(), widths[20:].sum()])
    assert figure.get_suptitle() == "many: 40 layers, summed by block"


def test_cost_refuses():
    dense = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 1)], name="dense")
    with pytest.raises(ValueError, match=r"`target` \(='measure'\) must be one of None, 'arm64'.+ Leave it out"):
        pictures.cost(dense, "measure")
    with pytest.raises(ValueError, match=r"`by` \(='stage'\) must be one of None, 'layer', 'block'\. Leave"):
        pictures.cost(dense, by="stage")
    with pytest.raises(ValueError, match=r"must have a graph with layers to lower for a target.+ Leave `target` out"):
        pictures.cost(dense, "arm64")
    with pytest.raises(ValueError, match="must be a functional or built sequential Keras model"):
        pictures.cost(keras.Sequential([keras.layers.Conv2D(4, 1)]))


# --- exports ---------------------------------------------------------------------------------------------------------
def test_exports_stand_side_by_side(tmp_path, monkeypatch):
    turns, times = [], iter([3.0, 30.0, 1.0, 10.0, 2.0, 50.0])

    def benchmark(path, *, runs, threads, runtime):
        turns.append(path.name)
        undelegated = None if path.name == "b.tflite" else ("GATHER", "GATHER")
        row = {"model": str(path), "model_bytes": 1000 * len(path.name), "median_ms": next(times), "minimum_ms": 0.5}
        row |= {"runtime": "litert", "runtime_version": "1", "threads": threads, "runs": runs, "spread_ms": 0.1}
        return TFLiteBenchmark(**row, operators=9, undelegated=undelegated)

    monkeypatch.setattr(of_exports, "benchmark_tflite", benchmark)
    monkeypatch.setattr(of_exports, "check_tflite", lambda data, name: None)
    for name in ("long.tflite", "b.tflite"):
        (tmp_path / name).touch()
    figure = pictures.exports(tmp_path / "long.tflite", tmp_path / "b.tflite", runs=7, rounds=3, threads=2)
    sizes, speeds, operators = figure.axes
    assert turns == ["long.tflite", "b.tflite"] * 3
    assert bars(sizes) == [11, 8]
    assert bars(speeds) == [2, 30]
    assert [line.get_xdata().tolist() for line in speeds.lines] == [[3, 1, 2], [30, 10, 50]]
    assert bars(operators) == [2, 0]
    assert texts(operators.texts) == ["2 of 9", "not known"]
    assert texts(sizes.get_yticklabels()) == ["long.tflite", "b.tflite"]
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "size, kB", "time of one input, ms", "operators outside XNNPACK"
    ]  # fmt: skip
    assert "litert 1" in figure.get_suptitle()
    assert "2 threads, medians of 7 runs; 3 rounds" in figure.get_suptitle()


def test_exports_refuse(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"`files` \(of 1\) must be two or more to stand side by side\. Give another"):
        pictures.exports(tmp_path / "a.tflite")
    with pytest.raises(ValueError, match=r"a\.tflite'\) must be an existing file"):
        pictures.exports(tmp_path / "a.tflite", tmp_path / "b.tflite")
    monkeypatch.setattr(of_exports, "benchmark_tflite", lambda *_, **__: pytest.fail("timed before all were checked"))
    whole = tmp_path / "whole.tflite"
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    export_tflite(model, whole)
    (tmp_path / "half.tflite").write_bytes(whole.read_bytes()[:-300])
    with pytest.raises(ValueError, match=r"half\.tflite' .+ must be a whole TensorFlow Lite model"):
        pictures.exports(whole, tmp_path / "half.tflite")
    with pytest.raises(ValueError, match=r"`rounds` \(=0\) must be a positive integer"):
        pictures.exports("a.tflite", "b.tflite", rounds=0)


# --- files -----------------------------------------------------------------------------------------------------------
def test_a_picture_is_800_pixels_wide_and_the_same_each_time(tmp_path):
    write_run(tmp_path / "run")
    for name in ("a.png", "b.png", "a.svg", "b.svg"):
        pictures.save(pictures.run(tmp_path / "run"), tmp_path / name)
    data = (tmp_path / "a.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">I", data[16:20]) == (800,)
    assert data == (tmp_path / "b.png").read_bytes()
    assert b"<svg" in (tmp_path / "a.svg").read_bytes()
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize("name", ["a.jpg", "a", "a.PNG", "a.png.pdf"])
def test_another_suffix_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match=r"must end in '\.png' or '\.svg'\. Name it so"):
        pictures.save(Figure(), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_picture_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    def half(self, path, **_):
        path.write_bytes(b"half")
        raise OSError("disk full")

    (tmp_path / "a.png").write_bytes(b"before")
    monkeypatch.setattr(Figure, "savefig", half)
    with pytest.raises(OSError, match="disk full"):
        pictures.save(Figure(), tmp_path / "a.png")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.png", b"before")]


def test_only_figures_are_saved(tmp_path):
    with pytest.raises(ValueError, match=r"`figure` \(='run'\) must be a matplotlib Figure\. Give the figure first"):
        pictures.save("run", tmp_path / "a.png")


def test_matplotlib_is_asked_for(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    for draw in (lambda: pictures.run(tmp_path), lambda: pictures.check_picture(tmp_path / "a.png")):
        with pytest.raises(ImportError, match=r'Install it: `pip install "keras-condense\[plot\]"`\.'):
            draw()


# --- sensitivity -----------------------------------------------------------------------------------------------------
def test_sensitivity_shows_points_where_a_setting_fits():
    groups, zeros = LearnedGroups(4, 4), PrunedWeights(0.9)
    rows = [("conv", groups, 0.05), ("conv", zeros, -0.01), ("scores", zeros, 0.4)]
    rows = tuple(SensitivityRow(layer, setting, 0.9 - lost, lost) for layer, setting, lost in rows)
    axes, bar = pictures.sensitivity(Sensitivity("net", 0.9, 300, 300, (groups, zeros), rows)).axes
    texts = {tuple(map(int, text.get_position())): text.get_text() for text in axes.texts}
    assert texts == {(0, 0): "5.0", (1, 0): "-1.0", (1, 1): "40.0"}  # (column, row)
    np.testing.assert_allclose(axes.images[0].get_array().filled(np.nan), [[5, -1], [np.nan, 40]])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["conv", "scores"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["G4 C4", "90% zeros"]
    assert bar.get_ylabel() == "percentage points of accuracy lost"


def test_sensitivity_of_something_else_is_refused():
    with pytest.raises(ValueError, match=r"`result` \(=0\.5\) must be what `keras_condense.sensitivity` returned"):
        pictures.sensitivity(0.5)
    rows = tuple(SensitivityRow(f"conv{number}", PrunedWeights(), 0.5, 0.1) for number in range(151))
    with pytest.raises(ValueError, match=r"`result` \(of 151 layers\) must be of at most 150"):
        pictures.sensitivity(Sensitivity("net", 0.6, 300, 300, (PrunedWeights(),), rows))
