"""What experiment trackers keep of a training, read back from their stores on the disk."""

import contextlib
import csv
import functools
import importlib
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from scheduled_networks import fit, network
from trackers import Mlflow, TensorBoard, Wandb, WandbByHand
from training_runs import EPOCHS, Stop, build_small

from keras_condense import datasets
from keras_condense.callbacks import CondenseSchedule
from keras_condense.training import Recipe, train

pytestmark = pytest.mark.slow  # all of it, together

HERE = pathlib.Path(__file__).parent
TRACKERS = {"tensorboard": TensorBoard, "mlflow": Mlflow, "wandb": Wandb}
SHOWN = ("loss", "accuracy", "condense_stage", "connections_left")


def is_installed(tracker):
    with contextlib.suppress(ImportError):
        return all(importlib.import_module(package) for package in tracker.needs)
    return False


@contextlib.contextmanager
def watched_by(trackers):
    with contextlib.ExitStack() as stack:
        yield [callback for tracker in trackers for callback in stack.enter_context(tracker.run())]


def fitted(folder, trackers, before):
    """What `fit` returns: each name's epochs and values."""
    with watched_by(trackers) as watching:
        listed = [*watching, CondenseSchedule()] if before else [CondenseSchedule(), *watching]
        history = fit(network(), *listed).history
    return {name: list(enumerate(history[name])) for name in SHOWN if name in history}


def trained(folder, trackers, load=datasets.load_arrays, others=(), **arguments):
    """What `log.csv` holds: each name's epochs and values."""
    data = load("digits", batch_size=256, image_size=8)
    with watched_by(trackers) as watching:
        arguments = {"callbacks": [*watching, *others], "epochs": EPOCHS, "seed": 1, "verbose": 0} | arguments
        train(build_small(), data, folder, **arguments)
    with open(folder / "log.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: [(int(row["epoch"]) - 1, float(row[name])) for row in rows] for name in SHOWN}


def trained_twice(folder, trackers):
    """Killed in the middle of the third epoch, and resumed."""
    recipe = Recipe(epochs=EPOCHS, small_crops=(0.75, 0.75))  # three epochs of these, in a `fit` of their own
    arguments = {"recipe": recipe, "epochs": None, "resume": True}
    with pytest.raises(InterruptedError):
        trained(folder, trackers, others=[Stop(2, 3)], **arguments)
    return trained(folder, trackers, **arguments)


TRAININGS = {
    "fit, trackers first": (functools.partial(fitted, before=True), [0, 1, 2, 3, 3, 3]),
    "fit, trackers last": (functools.partial(fitted, before=False), [0, 1, 2, 3, 3, 3]),
    "train, Dataset": (functools.partial(trained, load=datasets.load), [0, 0, 1, 1]),
    "train, ImageArrays": (trained, [0, 0, 1, 1]),
    "train, killed and resumed": (trained_twice, [0, 0, 1, 1]),
}


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """Each training, once for all trackers: what it says itself, and the trackers."""

    @functools.cache
    def run(training):
        folder = tmp_path_factory.mktemp("tracked")
        trackers = {name: kind(folder) for name, kind in TRACKERS.items() if is_installed(kind)}
        return TRAININGS[training][0](folder / "run", trackers.values()), trackers

    before = dict(os.environ)
    yield run
    os.environ.clear()
    os.environ.update(before)


def require(*packages):
    for package in packages:
        pytest.importorskip(package)


@pytest.mark.parametrize("name", TRACKERS)
@pytest.mark.parametrize("training", TRAININGS)
def test_each_epoch_stands_once_with_its_stage_and_share_of_connections(training, name, watched):
    require(*TRACKERS[name].needs)
    expected, trackers = watched(training)
    kept = trackers[name].read()
    for shown, values in expected.items():
        np.testing.assert_allclose(kept[shown], values, rtol=1e-5, err_msg=shown)
    assert [stage for _, stage in kept["condense_stage"]] == TRAININGS[training][1]


WRAPPED = pytest.mark.parametrize(("training", "wraps"), [("train, Dataset", False), ("train, ImageArrays", True)])


@WRAPPED
def test_tensorboard_draws_graph_and_weights(training, wraps, watched):
    require(*TensorBoard.needs)
    written = watched(training)[1]["tensorboard"].accumulator()
    drawn = {tag.removesuffix("/histogram") for tag in written.Tags()["tensors"] if tag.endswith("/histogram")}
    network = {weight.path.removeprefix("functional/") for weight in build_small().weights if "seed" not in weight.path}
    assert {name for name in network if name.endswith(("kernel", "mask"))} <= drawn
    (graph,) = written.Tensors("keras")
    layers = json.loads(graph.tensor_proto.string_val[0])["config"]["layers"]
    assert (len(layers) == 3) == wraps  # draws, images, network


@WRAPPED
def test_mlflow_keeps_a_summary_of_the_model(training, wraps, watched):
    require(*Mlflow.needs)
    summary = watched(training)[1]["mlflow"].summary()
    assert "Total params" in summary
    assert ("AugmentedImages" in summary) == wraps


def test_on_jax(tmp_path):
    """By wandb's own logs, for its callback needs TensorFlow, and a learning rate that follows no schedule."""
    require("jax", *{package for tracker in (TensorBoard, Mlflow, WandbByHand) for package in tracker.needs})
    environment = os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, str(HERE / "trackers.py"), str(tmp_path)],
        capture_output=True, text=True, env=environment, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    returned, *kept = json.loads((tmp_path / "kept.json").read_text(encoding="utf-8"))
    for by_tracker in kept:
        for name in ("loss", "condense_stage", "connections_left"):
            np.testing.assert_allclose(by_tracker[name], returned[name], rtol=1e-6)
