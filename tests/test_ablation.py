"""benchmarks/ablation.py: that its arms are what they are called, and a small run of it on digits."""

import importlib.util
import pathlib
import sys

import keras
import numpy as np
import pytest

import keras_condense as kc
from keras_condense.layers import ChannelShuffle, GroupConv2D, condensable_layers

pytestmark = pytest.mark.slow  # all of it, together


PROGRAM = pathlib.Path(__file__).parent.parent / "benchmarks" / "ablation.py"
STAGES = (1, 1, 1)
DIGITS = (STAGES, (8, 8, 1), 10)


@pytest.fixture(scope="module")
def program():
    """The program as a module; it finds its neighbours as it does when it is run."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("it runs on TensorFlow")
    spec = importlib.util.spec_from_file_location("ablation", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(PROGRAM.parent)
        patch.setitem(sys.modules, spec.name, module)  # where dataclasses look it up
        patch.setenv("KERAS_BACKEND", "tensorflow")  # the program sets it: not for the tests that follow
        spec.loader.exec_module(module)
        yield module
    for name in ("common", "ablation_arms", "ablation_networks", "ablation_report"):  # names that others may have
        del sys.modules[name]


@pytest.fixture(scope="module")
def digits():
    return kc.datasets.load("digits", image_size=8)


def masks(model):
    return [keras.ops.convert_to_numpy(layer.mask) for layer in condensable_layers(model)]


def test_all_trainings_begin_with_the_same_weights(program):
    dense = program.built(program.Training(), program.Shape(*DIGITS), seed=3)
    for arm in program.ARMS.values():
        if arm.training.narrow:
            continue
        model = program.built(arm.training, program.Shape(*DIGITS), seed=3)
        for expected, layer in zip(condensable_layers(dense), condensable_layers(model), strict=True):
            kept = keras.ops.convert_to_numpy(layer.kernel_mask())
            np.testing.assert_array_equal(layer.kernel, keras.ops.convert_to_numpy(expected.kernel) * kept)
        np.testing.assert_array_equal(dense.get_layer("stem_conv").kernel, model.get_layer("stem_conv").kernel)


@pytest.mark.parametrize("chosen", ["interleaved", "random"])
def test_fixed_groups_read_one_input_in_four_from_the_first_step(program, chosen):
    training = program.Training(chosen=chosen, drops_at=())
    first, second = (program.built(training, program.Shape(*DIGITS), seed) for seed in (0, 1))
    for mask in masks(first):
        np.testing.assert_array_equal(mask.sum(axis=1), np.full(4, mask.shape[1] / 4))
    same = all(np.array_equal(a, b) for a, b in zip(masks(first), masks(second), strict=True))
    assert same == (chosen == "interleaved")


def test_interleaved_groups_are_a_group_convolution_between_shuffles(program):
    model = program.built(program.Training(chosen="interleaved", drops_at=()), program.Shape(*DIGITS), seed=0)
    layer = condensable_layers(model)[0]
    inputs, filters = layer.kernel.shape[-2:]
    images = np.random.default_rng(0).normal(size=(2, 3, 3, inputs)).astype("float32")
    group_convolution = GroupConv2D(filters, 1, groups=4)
    group_convolution.build((None, 3, 3, inputs))
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    group_convolution.kernel.assign(np.concatenate([kernel[..., g::4, g::4] for g in range(4)], axis=-1))
    # input d * 4 + g goes to place g * (inputs / 4) + d, and filters come back the other way
    expected = ChannelShuffle(4)(group_convolution(ChannelShuffle(inputs // 4)(images)))
    np.testing.assert_allclose(layer(images), expected, atol=1e-5)


def test_one_shot_drops_all_at_half_of_the_training(program):
    model = program.built(program.ARMS["one shot, then trained"].training, program.Shape(*DIGITS), seed=0)
    assert {(layer.final_stage, layer.drops_at) for layer in condensable_layers(model)} == {(1, (0.5,))}
    learned = program.built(program.ARMS["learned"].training, program.Shape(*DIGITS), seed=0)
    assert {(layer.final_stage, layer.plan.drops_at) for layer in condensable_layers(learned)} == {
        (3, (1 / 6, 1 / 3, 0.5))
    }


def test_the_narrower_network_is_dense_and_as_large_as_a_condensed_one(program):
    shape = program.Shape((2, 2, 2), (24, 24, 3), 10)
    assert sys.modules["ablation_networks"].narrow_growth_rates(shape) == (4, 16, 32)
    model = program.built(program.ARMS["dense, narrower"].training, shape, seed=0)
    macs = kc.profile_model(model).macs
    assert all(mask.all() for mask in masks(model))
    assert macs == pytest.approx(program.condensed_macs(shape), rel=0.02)
    assert kc.profile_model(kc.condense(model)).macs == macs


def test_losses_on_the_way_are_those_of_the_epoch(program, digits):
    """Weighted by their images they add up to what Keras logs, less the group lasso."""
    logged = []
    training = program.Training(drops_at=(0.5,))
    recipe = kc.training.Recipe(epochs=2)
    *_, windows, _ = program.trained(training, program.Shape(*DIGITS), digits, 0, recipe, on_epoch=logged.append)
    for epoch, loss in enumerate(logged):
        rows = windows[epoch * program.WINDOWS : (epoch + 1) * program.WINDOWS]
        ends = [round((float(row["epoch"]) - epoch) * digits.steps_per_epoch) for row in rows]
        sizes = np.diff([0, *(min(end * digits.batch_size, digits.train_size) for end in ends)])
        mean = np.average([float(row["loss"]) for row in rows], weights=sizes)
        np.testing.assert_allclose(mean, loss, atol=1e-3)  # rounded to four places
    assert [row["connections_left"] for row in windows] == ["1.00"] * 6 + ["0.25"] * 6


@pytest.mark.slow
def test_a_run_to_its_table_and_once_more(program, tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    arguments = ["--data", "digits", "--train-images", "256", "--image-size", "8", "--epochs", "2", "--sizes", "1-1-1"]
    arguments += ["--seeds", "1", "--output", str(tmp_path), "--pictures", str(tmp_path)]

    def run(*more):
        monkeypatch.setattr(sys, "argv", ["ablation.py", *arguments, *more])
        program.main()
        return program.read_rows(tmp_path / "ablation.csv")

    first = run("--arms", "learned", "one shot")
    assert [row["arm"] for row in first] == ["learned", "one shot"]
    rows = run("--arms", "learned", "fixed groups, random", "dense", "one shot", "one shot, statistics renewed")
    assert rows[:2] == first  # not run again
    arms = [row["arm"] for row in rows]
    assert arms == ["learned", "one shot", "fixed groups, random", "dense", "one shot, statistics renewed"]
    assert len({row["macs"] for row in rows if row["arm"] != "dense"}) == 1
    table = {row["arm"]: row for row in program.read_rows(tmp_path / "ablation_summary.csv")}
    assert set(arms) < set(table)
    difference = 100 * (float(rows[0]["test_accuracy"]) - float(rows[1]["test_accuracy"]))
    assert float(table["one shot"]["points_behind_learned"]) == pytest.approx(difference, abs=0.051)
    for name in ("accuracy", "loss"):
        picture = tmp_path / f"ablation_{name}.png"
        assert 0 < picture.stat().st_size < 150_000
        picture.unlink()
    assert run("--plot") == rows
    assert (tmp_path / "ablation_accuracy.png").exists()


def test_mistakes_are_said_before_any_work(program, tmp_path, monkeypatch, capsys):
    def error_of(*arguments):
        monkeypatch.setattr(sys, "argv", ["ablation.py", "--output", str(tmp_path), *arguments])
        with pytest.raises(SystemExit) as ended:
            program.main()
        return f"{capsys.readouterr().err}{ended.value.code}"

    assert "'4-4' must be the layers of 3 blocks. Use 4-4-4." in error_of("--sizes", "4-4")
    assert "'0' must be a positive integer" in error_of("--epochs", "0")
    assert "must be at most 50,000" in error_of("--train-images", "50001")
    assert "and has none. Run it without --plot first." in error_of("--plot")
