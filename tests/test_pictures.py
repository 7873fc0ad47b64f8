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
from keras_condense.applications import CondenseNet, CondenseNetV2
from keras_condense.condensation import condense
from keras_condense.layers import GroupConv2D, LearnedGroupConv2D

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


# --- connections -----------------------------------------------------------------------------------------------------
def condense_net():
    options = {"stem_strides": 1, "input_shape": (8, 8, 3), "classes": 10, "classifier_condense_factor": 2}
    return finished(CondenseNet((2, 1), (8, 4), **options))


def square(axes):
    (image,) = axes.images
    return image.get_array().filled(np.nan)


def texts(ticks):
    return [tick.get_text() for tick in ticks]


def test_connections_of_a_condensenet():
    model = condense_net()
    masked, condensed, _ = pictures.connections(model, condense(model)).axes
    kept = {"block1_layer1_1_conv": [16], "block1_layer2_1_conv": [16, 8], "block2_layer1_1_conv": [16, 8, 8]}
    kept["predictions"] = [16, 8, 8, 4]  # the stem has 2 x 8 filters, and each layer adds its growth rate
    expected = np.full((4, 4), np.nan)
    for row, (name, channels) in enumerate(kept.items()):
        layer = model.get_layer(name)
        weights = np.abs(np.array(layer.kernel)).reshape(sum(channels), -1)
        for filters in range(weights.shape[1]):
            weights[:, filters] *= np.array(layer.mask)[filters % layer.groups]
        for column, part in enumerate(np.split(weights, np.cumsum(channels)[:-1])):
            expected[row, column] = part.mean()
        expected[row] /= np.nanmax(expected[row])
    np.testing.assert_allclose(square(masked), expected, rtol=1e-5)
    np.testing.assert_allclose(square(condensed), expected, rtol=1e-5)
    assert texts(masked.get_yticklabels()) == ["1.1", "1.2", "2.1", "predictions"]
    assert texts(condensed.get_xticklabels()) == ["stem_conv", "1.1", "1.2", "2.1"]
    # 8 (4 x 8 filters, 16 inputs), 1.2: 24 inputs, 2.1: 32 inputs, of 4 groups a quarter; half of the classifier's 36
    left = (16 + 24 + 32 + 18) / (4 * (16 + 24 + 32) + 36)
    assert masked.get_title() == f"masked: {100 * left:.3g}% of connections left"
    assert condensed.get_title() == f"condensed: {100 * left:.3g}% of connections left"


def test_a_cross_marks_what_is_dropped():
    model = condense_net()
    layer = model.get_layer("block1_layer2_1_conv")
    mask = np.zeros(layer.mask.shape)
    mask[:, 2:8] = 1  # of the stem's 16 channels, and none of the 8 behind them
    layer.set_mask(mask)
    for form in (model, condense(model)):
        axes, _ = pictures.connections(form).axes
        assert square(axes)[1].tolist()[:2] == [1, 0]
        assert [1, 1] in axes.collections[0].get_offsets().tolist()


def chain():
    x = image = keras.Input((8, 8, 8))
    for name, filters, groups in (("a", 16, 4), ("b", 8, 2)):
        x = keras.layers.ReLU()(LearnedGroupConv2D(filters, 1, groups=groups, condense_factor=4, name=name)(x))
    return finished(keras.Model(image, keras.layers.GlobalAveragePooling2D()(x)))


def widths(axes, hatched):
    return [bar.get_width() for bar in axes.patches if bool(bar.get_hatch()) == hatched]


def test_connections_of_a_chain_are_bars():
    model = chain()
    model.get_layer("a").set_mask(np.repeat([[1, 1, 0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0, 1, 0]], 2, axis=0))
    figure = pictures.connections(model, condense(model))
    b = np.array(model.get_layer("b").mask)
    for axes in figure.axes:
        np.testing.assert_allclose(widths(axes, False), [25, 25])
        np.testing.assert_allclose(widths(axes, True), [50, 100 * b.max(axis=0).sum() / 16])
        assert texts(axes.texts)[0] == "25 / 50"
    assert texts(figure.axes[0].get_yticklabels()) == ["a (4)", "b (2)"]
    assert "inputs kept, %" in figure._supxlabel.get_text()


def test_reactivations_keep_outputs():
    model = CondenseNetV2(
        (1, 1), (8, 8), groups=4, condense_factor=4, hidden_units=8, input_shape=(32, 32, 3), classes=3
    )
    masked, condensed = pictures.connections(finished(model), condense(model)).axes
    names = [label for label in texts(masked.get_yticklabels()) if "outputs" in label]
    assert names == ["block1_layer1_3_conv, outputs (4)", "block2_layer1_3_conv, outputs (4)"]
    for hatched in (False, True):
        np.testing.assert_allclose(widths(masked, hatched), widths(condensed, hatched))


def test_weights_of_a_reactivation_are_where_they_were():
    from keras_condense.layers import SparseFeatureReactivation
    from keras_condense.pictures.reading import readings

    image = keras.Input((4, 4, 8), name="image")
    model = finished(keras.Model(image, SparseFeatureReactivation(12, groups=2, condense_factor=3, name="twin")(image)))
    (masked,), (condensed,) = readings(model), readings(condense(model))
    order = [0, 2, 4, 6, 1, 3, 5, 7]  # the condensed one reads its inputs sorted by group
    np.testing.assert_allclose(condensed.weights, masked.weights[order])
    np.testing.assert_array_equal(condensed.mask, masked.mask)


def test_layers_are_matched_whatever_condensing_did_to_names_and_order():
    image = keras.Input((4, 4, 8))
    # a learned output gives its name to the last part; a condensed branch is deeper than it was
    short = LearnedGroupConv2D(4, 1, name="short")(image)
    long = LearnedGroupConv2D(8, 1, name="long")(keras.layers.ReLU()(keras.layers.ReLU()(image)))
    model = finished(keras.Model(image, [short, long]))
    model.get_layer("long").set_mask(np.eye(4, 8))
    masked, condensed = pictures.connections(model, condense(model)).axes
    for hatched in (False, True):
        np.testing.assert_allclose(widths(condensed, hatched), widths(masked, hatched))
    with pytest.raises(ValueError, match=r"and differ in 'long'\. Give"):
        pictures.connections(keras.Model(image, short), model)


def test_channels_are_followed_into_nested_models():
    from keras_condense.pictures.reading import readings

    part = keras.Sequential([keras.Input((8, 8, 8)), LearnedGroupConv2D(8, 1, name="learned")], name="part")
    image = keras.Input((8, 8, 8), name="image")
    x = GroupConv2D(8, 1, name="conv")(image)
    (reading,) = readings(keras.Model(image, part(x)))
    assert (reading.layer, set(reading.sources)) == ("part/learned", {"conv"})


def test_connections_refuse_what_has_none():
    dense = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 1)])
    with pytest.raises(ValueError, match=r"must have learned layers, masked or condensed, and has none\. Build"):
        pictures.connections(dense)
    with pytest.raises(ValueError, match=r"must be a functional or built sequential Keras model.+ Build"):
        pictures.connections(keras.Sequential([keras.layers.Conv2D(4, 1)]))
    with pytest.raises(ValueError, match=r"must be a functional or built sequential"):
        pictures.connections("model.keras")
    with pytest.raises(ValueError, match=r"`models` \(of 0\) must be one or two forms of a network\. Give"):
        pictures.connections()
    with pytest.raises(ValueError, match=r"must be forms of one network.+ and differ in 'a'\. Give"):
        pictures.connections(chain(), condense_net())


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
