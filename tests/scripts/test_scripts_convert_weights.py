"""The script that makes a .keras model of published weights, on small networks of pytorchcv's own classes."""

import pathlib
import sys

import keras
import numpy as np
import pytest

import keras_condense as kc

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # tests/, where the networks are

import convert_weights
from released import FAMILIES, outputs_of, randomized, release, row_of, saved, serving

from keras_condense.applications import pretrained, pretrained_rows

ARGUMENTS = ["--argument", "groups=3", "--argument", "width=0.75", "--argument", "stages=(1, 2)"]


@pytest.fixture
def network():
    pytest.importorskip("torch")
    pytest.importorskip("pytorchcv.models.shufflenet")
    return randomized(FAMILIES["shufflenet g3"], 5)


def test_a_file_of_pytorch_becomes_a_keras_model(network, tmp_path, capsys):
    path, output = saved(network.state_dict(), tmp_path / "net.pth"), tmp_path / "net.keras"
    assert convert_weights.main(["ShuffleNet", str(path), str(output), *ARGUMENTS, "--classes", "5"]) == 0
    model = keras.models.load_model(output)
    assert f"{model.count_params():,} weights of ShuffleNet from {path}: {output}" in capsys.readouterr().out
    images = np.random.default_rng(0).normal(size=(1, 224, 224, 3)).astype("float32")
    logits = outputs_of(network, images)
    expected = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(model(images, training=False), expected, atol=1e-4 * expected.max())
    assert convert_weights.main(["ShuffleNet", str(path), str(output), *ARGUMENTS, "--no-top"]) == 0
    assert keras.models.load_model(output).output_shape == (None, None, None, 360)


def test_published_weights_become_a_keras_model(tmp_path, monkeypatch):
    pytest.importorskip("pytorchcv.models.densenet_cifar")
    family = FAMILIES["densenet bc"]
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "cache"))
    with serving(tmp_path) as server:
        row = row_of(family, release(tmp_path, randomized(family, 100).state_dict()))
        monkeypatch.setattr(pretrained_rows, "RELEASES", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setattr(pretrained, "WEIGHTS", (row,))
        output = tmp_path / "net.keras"
        arguments = [f"--argument={name}={value}" for name, value in family.arguments.items()]  # stem=cifar too
        assert convert_weights.main(["DenseNet", "cifar100", str(output), *arguments]) == 0
    assert keras.models.load_model(output).output_shape == (None, 100)


def test_errors_are_one_line_and_write_nothing(network, tmp_path, fails):
    path, output = saved(network.state_dict(), tmp_path / "net.pth"), tmp_path / "net.keras"
    main = convert_weights.main
    assert "`constructor` (='ShuffleNot') must be one of" in fails(main, "ShuffleNot", path, output)
    assert "must end in '.keras'" in fails(main, "ShuffleNet", path, tmp_path / "net.h5")
    assert "must hold the weights of this very network" in fails(main, "ShuffleNet", path, output)
    assert "`--argument` (={'depth': 3}) must fit ShuffleNet" in fails(
        main, "ShuffleNet", path, output, "--argument", "depth=3"
    )
    path.write_bytes(path.read_bytes()[:-10])
    assert "must be a whole file of PyTorch weights" in fails(main, "ShuffleNet", path, output)
    assert "This network has 'imagenet'" in fails(main, "ResNeXt50", "svhn", output)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["net.pth"]


@pytest.mark.parametrize("argument", ["groups", "groups=", "=3", "groups=3 4"])
def test_an_argument_that_is_none(argument, capsys):
    with pytest.raises(SystemExit) as exit_info:
        convert_weights.main(["ShuffleNet", "imagenet", "a.keras", "--argument", argument])
    assert exit_info.value.code == 2
    assert "must be a name, '=' and a value, such as groups=8" in capsys.readouterr().err


def test_the_table_is_reached_from_the_package():
    assert kc.applications.pretrained is pretrained


@pytest.mark.parametrize("others", [["--no-top"], ["--argument", "classes=5"]])
def test_classes_that_contradict_others(others, tmp_path, fails):
    argv = ["ShuffleNet", "imagenet", tmp_path / "a.keras", "--classes", "7", *others]
    assert "`--classes` (=7) must be left out with" in fails(convert_weights.main, *argv)
