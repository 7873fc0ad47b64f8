"""What the pictures show: numbers on lines and bars against those that a test knows by itself; no pixels."""

import builtins
import json
import struct

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib.figure import Figure

from keras_condense import pictures

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
