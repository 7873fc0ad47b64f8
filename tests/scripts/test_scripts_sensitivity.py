"""The script that says what compressing each layer costs, against the library."""

import keras
import pytest
import sensitivity

import keras_condense as kc
from keras_condense.compressions import LearnedGroups, PrunedWeights, RoundedWeights
from keras_condense.csv_files import read_rows


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The file of a network, untrained, that was saved with no card."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Conv2D(16, 3), keras.layers.Conv2D(32, 1, name="conv"), keras.layers.GlobalMaxPooling2D()]
    model = keras.Sequential([keras.Input((8, 8, 1)), *layers, keras.layers.Dense(10, name="scores")])
    path = tmp_path_factory.mktemp("sensitivity") / "mine.keras"
    model.save(path)
    return path


def test_the_library_is_asked_for_what_was_wanted(path, tmp_path, capsys):
    picture, table = tmp_path / "lost.png", tmp_path / "lost.csv"
    wanted = ["--groups", "4", "2x8", "--sparsity", "0.9", "--bits", "2", "--layers", "conv", "--rows", "50"]
    files = ["--csv", str(table), "--picture", str(picture)]
    argv = [str(path), "--dataset", "digits", "--validation-fraction", "0.2", *wanted, *files]
    assert sensitivity.main(argv) == 0
    data = kc.datasets.load_arrays("digits", validation_fraction=0.2, image_size=8)
    settings = [LearnedGroups(4, 4), LearnedGroups(2, 8), PrunedWeights(0.9), RoundedWeights(2)]
    lost = kc.sensitivity(keras.models.load_model(path), data, settings=settings, where="conv", rows=50)
    printed = capsys.readouterr().out.splitlines()
    assert printed[1:] == str(lost).splitlines()[1:]
    assert printed[0].endswith(str(lost).splitlines()[0].partition(": ")[2])
    assert [float(row["accuracy"]) for row in read_rows(table)] == [row.accuracy for row in lost.rows]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_nothing_is_guessed(path, tmp_path, fails):
    with pytest.raises(SystemExit) as ended:
        sensitivity.main([str(path), "--dataset", "digits"])
    assert ended.value.code == 2
    arguments = [path, "--test-images", "--dataset", "digits"]
    assert "`--groups` (=4x4x4) must be groups and a condense factor" in fails(
        sensitivity.main, *arguments, "--groups", "4x4x4"
    )
    assert "`sparsity` (=1.0) must be a number in [0, 1)" in fails(sensitivity.main, *arguments, "--sparsity", 1)
    assert "must end in '.keras'" in fails(sensitivity.main, "mine.tflite", "--test-images")
    assert "`--dataset` must be given" in fails(sensitivity.main, path, "--test-images")
    assert "folder" in fails(sensitivity.main, *arguments, "--csv", tmp_path / "nowhere" / "lost.csv")
