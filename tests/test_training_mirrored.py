"""`train` under `tf.distribute.MirroredStrategy` is as on one device; a run goes on with more or fewer."""

import csv
import json
import pathlib

import forked
import numpy as np
import pytest

pytestmark = pytest.mark.slow  # all of it, together


def run(folder, replicas, kind, dies_after=0):
    """Train in `folder`; the weights, the log, and the states of each replica's generators."""
    program, output = pathlib.Path(__file__).with_name("mirrored_run.py"), folder.with_suffix(".txt")
    arguments = (folder, replicas, kind, dies_after)
    assert forked.run(program, *arguments, folder=folder.parent, output=output, timeout=300) == 0, output.read_text()
    if dies_after:
        return None
    with open(folder / "log.csv", newline="") as file:
        log = [{name: float(value) for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]
    return dict(np.load(f"{folder}.npz")), log, json.loads(output.read_text().splitlines()[-1])


# what is trained on two devices sees small crops on both, before or after the kill
@pytest.mark.parametrize(("kind", "first", "then", "dies_after"), [("arrays", 2, 1, 3), ("stream", 1, 2, 1)])
def test_two_devices_are_one(kind, first, then, dies_after, tmp_path):
    run(tmp_path / "both", first, kind, dies_after)
    assert not (tmp_path / "both" / "model.keras").exists()
    weights, log, states = run(tmp_path / "both", then, kind)
    expected, expected_log, _ = run(tmp_path / "one", 1, kind)
    assert [row["condense_stage"] for row in log] == [0, 0, 1, 1]
    assert len(log) == len(expected_log)
    for row, reference in zip(log, expected_log, strict=True):
        assert row == pytest.approx(reference, abs=1e-4)
    assert weights.keys() == expected.keys()
    for name, weight in expected.items():
        np.testing.assert_allclose(weights[name], weight, atol=0 if name.endswith("mask") else 1e-5, err_msg=name)
    if then == 2:
        ((of_first, of_second),) = states
        assert of_first != of_second  # each replica drops out other units


REFUSED = """
import os, keras, tensorflow as tf, keras_condense as kc
device = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(device, [tf.config.LogicalDeviceConfiguration()] * 2)
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    layers = [keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")]
    model = keras.Sequential([keras.Input((8, 8, 1)), *layers])
for load, batch_size, held_out in (("load_arrays", 63, 0.1), ("load", 64, 0.1)):
    data = getattr(kc.datasets, load)("digits", batch_size=batch_size, image_size=8, validation_fraction=held_out)
    try:
        kc.training.train(model, data, "none")
    except ValueError as error:
        print("refused:", error)
    assert not os.path.exists("none")
"""


def test_what_replicas_can_not_share_is_refused(tmp_path):
    program, output = tmp_path / "program.py", tmp_path / "output.txt"
    program.write_text(REFUSED)
    assert forked.run(program, folder=tmp_path, output=output, timeout=100) == 0, output.read_text()
    messages = [line for line in output.read_text().splitlines() if line.startswith("refused: ")]
    assert len(messages) == 2
    for message, expected in zip(
        messages,
        (
            "`batch_size` (=63) must be a multiple of the 2 devices",
            "have batches that the 2 devices divide, and the last one of an epoch has 13 images. Load it with",
        ),
        strict=True,
    ):
        assert expected in message
