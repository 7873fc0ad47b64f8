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


# one replica, as on a host of one GPU; a teacher, and files that other backends read
OF_ONE_AND_TWO = """
import json, keras, tensorflow as tf, keras_condense as kc, zipfile
device = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(device, [tf.config.LogicalDeviceConfiguration()] * 2)
data = kc.datasets.load_arrays("digits", batch_size=128, image_size=8)

def network(seed):
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization(), keras.layers.Flatten()]
    return keras.Sequential([keras.Input((8, 8, 1)), *layers, keras.layers.Dense(10, activation="softmax")])

found, teacher = [], network(1)
for replicas in (1, 2):
    with tf.distribute.MirroredStrategy([f"CPU:{number}" for number in range(replicas)]).scope():
        model = network(0)
    options = {"epochs": 2, "verbose": 0, "batch_norms": "synchronized"}
    kc.training.train(model, data, str(replicas), teacher=teacher, **options)
    of_files = [zipfile.ZipFile(f"{replicas}/{name}.keras").read("config.json") for name in ("checkpoint", "model")]
    assert not any(b'"synchronized": true' in of_file for of_file in of_files)
refused = []
with tf.distribute.experimental.CentralStorageStrategy().scope():
    central = network(0)
outside = network(0)
for model, strategy in ((central, None), (outside, tf.distribute.MirroredStrategy(["CPU:0"]))):
    try:
        with strategy.scope() if strategy else tf.name_scope(""):
            kc.training.train(model, data, "none")
    except ValueError as error:
        refused.append(str(error))
print(json.dumps(refused))
"""


def test_one_replica_is_as_two_with_a_teacher(tmp_path):
    program, output = tmp_path / "program.py", tmp_path / "output.txt"
    program.write_text(OF_ONE_AND_TWO)
    assert forked.run(program, folder=tmp_path, output=output, timeout=200) == 0, output.read_text()
    of_one, of_two = (
        list(csv.DictReader((tmp_path / replicas / "log.csv").read_text().splitlines())) for replicas in "12"
    )
    for row, expected in zip(of_two, of_one, strict=True):
        for name in (name for name in expected if name.endswith("loss")):
            assert float(row[name]) == pytest.approx(float(expected[name]), rel=1e-3), name
    assert "distillation_loss" in of_one[0]
    central, outside = json.loads(output.read_text().splitlines()[-1])
    assert "was built under CentralStorageStrategy, with which Keras 3 trains no batch norms." in central
    assert "was built outside of it. Build it within, or call `train` outside." in outside
    assert not (tmp_path / "none").exists()
