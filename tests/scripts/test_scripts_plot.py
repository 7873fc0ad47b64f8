"""The script that draws pictures."""

import xml.etree.ElementTree as ElementTree

import plot
import pytest

pytest.importorskip("matplotlib")


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit) as ended:
        plot.main(["--help"])
    assert ended.value.code == 0
    assert "examples:\n  python scripts/plot.py run" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [[], ["pie"], ["run"], ["run", "out.png"]])
def test_missing_arguments_are_wrong_usage(argv):
    with pytest.raises(SystemExit) as ended:
        plot.main(argv)
    assert ended.value.code == 2


@pytest.mark.slow
def test_a_run_is_drawn(finished, tmp_path, capsys):
    for name in ("run.png", "run.svg"):
        assert plot.main(["run", str(finished), str(finished), str(tmp_path / name)]) == 0
        assert capsys.readouterr().out == f"{tmp_path / name}\n"
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")
    assert ElementTree.parse(tmp_path / "run.svg").getroot().tag.endswith("svg")


@pytest.mark.slow
def test_connections_are_drawn(finished, small, tmp_path, fails):
    out = tmp_path / "connections.svg"
    files = [str(finished / "model.keras"), str(small / "condensed.keras")]
    assert plot.main(["connections", *files, str(out)]) == 0
    assert out.exists()
    assert "must be one or two files" in fails(plot.main, "connections", *files, files[0], out)
    assert "must end in '.keras'" in fails(plot.main, "connections", finished / "log.csv", out)


@pytest.mark.slow
def test_costs_are_drawn(small, tmp_path, fails):
    out = tmp_path / "cost.png"
    assert plot.main(["cost", str(small / "condensed.keras"), str(out), "--target", "wasm", "--by", "block"]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    network = "CondenseNet(stages=(1,), growth_rates=(8,), input_shape=(32, 32, 3))"
    assert plot.main(["cost", network, str(tmp_path / "named.svg"), "--condensed", "--target", "arm64"]) == 0
    assert "must be a name in keras_condense.applications" in fails(plot.main, "cost", "NoSuchNet", out)
    assert "must be one of None, 'arm64'" in fails(plot.main, "cost", network, out, "--target", "vax")
    assert "must be in stage 3 to be condensed" in fails(plot.main, "cost", network, out, "--target", "arm64")
    assert "has the argument 'glasses'" in fails(plot.main, "cost", "CondenseNet50(glasses=3)", out)


@pytest.mark.slow
def test_exports_are_drawn(small, tmp_path, fails):
    out, file = tmp_path / "exports.svg", str(small / "condensed.tflite")
    assert plot.main(["exports", file, file, str(out), "--runs", "2", "--rounds", "1"]) == 0
    assert out.exists()
    assert "must be two or more" in fails(plot.main, "exports", file, tmp_path / "one.png")
    assert not (tmp_path / "one.png").exists()


def test_no_run(tmp_path, fails):
    out = tmp_path / "run.png"
    assert "must be the folder of a run, and there is none" in fails(plot.main, "run", tmp_path / "none", out)
    assert not out.exists()


def test_another_suffix_is_refused_before_anything_is_read(tmp_path, fails):
    # nor is there such a run
    line = fails(plot.main, "run", tmp_path / "none", tmp_path / "run.pdf")
    assert "must end in '.png' or '.svg'. Name it so." in line
