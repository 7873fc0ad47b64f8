"""`train` on several devices and in several processes is as on one device; a run goes on with more or fewer."""

import csv
import importlib.util
import os
import pathlib
import socket
import subprocess
import sys

import backend_forks
import forked
import numpy as np
import pytest
from backend_forks import Program

from keras_condense.training.several import Share

HERE = pathlib.Path(__file__).parent
needs_jax = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")


def environment(backend="jax", on=1):
    """The environment of a program on another backend that is no fork."""
    return os.environ | {
        "KERAS_BACKEND": backend,
        "JAX_PLATFORMS": "cpu",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "CUDA_VISIBLE_DEVICES": "",
        **devices(on),
        "PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")]),
    }


def devices(count, flags=""):
    """Variables of the environment that make JAX see several devices."""
    return {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count} {flags}"}


DIFFERENT = """
import sys
import keras
keras.distribution.initialize(f"localhost:{sys.argv[1]}", 2, int(sys.argv[2]))
keras.distribution.set_distribution(keras.distribution.DataParallel())
import keras_condense as kc
data = kc.datasets.load_arrays("digits", image_size=8, seed=int(sys.argv[2]) if sys.argv[3] == "seeds" else 0)
layers = [keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")]
kc.training.train(keras.Sequential([keras.Input((8, 8, 1)), *layers]), data, "none")
"""


@needs_jax
@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "messages"),
    [
        ("seeds", ["must be equal in its 2 processes, and these differ: data_seed."] * 2),
        ("folder", ["must be empty to begin a run, and holds one already", "The first of 2 processes failed, and"]),
    ],
)
def test_what_one_process_can_not_do_is_refused_in_each(kind, messages, tmp_path):
    port, folder = str(free_port()), tmp_path / "none"
    if kind == "folder":
        folder.mkdir()
        (folder / "model.keras").touch()
    program = tmp_path / "different.py"
    program.write_text(DIFFERENT)
    begun = [Program([program, port, number, kind], tmp_path, devices(1)) for number in "01"]
    for done, message in zip(backend_forks.run("jax", begun, timeout=100), messages, strict=True):
        assert message in done.output, done.output
        assert done.code > 0
    assert folder.exists() == (kind == "folder")


def free_port():
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return one.getsockname()[1]


def run(folder, processes=1, on=1, dies_after=0, flags="", kind="arrays"):
    """Train in `folder` on devices; the weights of each process, and the log's losses and stages; None if it dies."""
    port = free_port()
    begun = [
        Program([HERE / "several_run.py", folder, processes, number, port, dies_after, kind], HERE, devices(on, flags))
        for number in range(processes)
    ]
    done = backend_forks.run("jax", begun, timeout=200)
    assert all(process.code == 0 for process in done) or dies_after, "\n".join(process.output for process in done)
    return None if dies_after else results(folder, processes)


def results(folder, processes):
    """The weights of each process, and the log's losses and stages."""
    with open(folder / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    names = ("loss", "accuracy", "val_loss", "val_accuracy", "condense_stage")
    log = np.array([[float(row[name]) for name in names] for row in rows])
    return [dict(np.load(f"{folder}-{number}.npz")) for number in range(processes)], log


def assert_same(found, expected):
    (weights, log), ((reference, *_), reference_log) = found, expected
    np.testing.assert_allclose(log, reference_log, atol=1e-4)
    for of_process in weights:
        for name, weight in reference.items():
            if name.endswith("mask"):
                np.testing.assert_array_equal(of_process[name], weight)
            elif not name.endswith("seed_generator_state"):
                np.testing.assert_allclose(of_process[name], weight, atol=1e-5)  # float32 sums in another order
    assert any(name.endswith("mask") for name in reference)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return run(tmp_path_factory.mktemp("one") / "run")


@pytest.fixture
def exchange(benchmark_program):
    return benchmark_program("exchange")


@needs_jax
@pytest.mark.slow
def test_two_devices_are_one_and_exchange_what_is_counted(one, exchange, tmp_path):
    assert_same(run(tmp_path / "run", on=2, flags=exchange.dump_flags(tmp_path / "programs")), one)
    (program,) = (tmp_path / "programs").glob(exchange.STEPS)  # of the whole run, with its drop
    counted = exchange.counted(parameters=690, normalized_channels=8 + 16 + 12, batch_norms=3)
    found = exchange.collectives(program.read_text())
    assert sum(found) == counted["gradient_bytes"] + counted["statistics_bytes"] + counted["other_bytes"]
    assert len(found) == counted["exchanges"]


@needs_jax
@pytest.mark.slow
@pytest.mark.parametrize(("first", "then"), [(1, 2), (2, 1)])
def test_a_run_goes_on_with_more_or_fewer_processes(first, then, one, tmp_path):
    run(tmp_path / "run", processes=first, dies_after=2)
    assert (tmp_path / "run" / "checkpoint.keras").exists()
    assert not (tmp_path / "run" / "model.keras").exists()
    assert_same(run(tmp_path / "run", processes=then), one)


@needs_jax
@pytest.mark.slow
def test_a_stream_is_shared_and_goes_on_within_an_epoch(one, tmp_path):
    """Which shows what arrays show, of which it needs TensorFlow; no fork has that beside JAX."""
    for number, dies_after in enumerate((2, 0)):
        port = free_port()
        command = [sys.executable, HERE / "several_run.py", tmp_path / "run", 2]
        begun = [
            subprocess.Popen(
                [*map(str, [*command, process, port, dies_after, "stream"])],
                env=environment() | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled")},
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )
            for process in range(2)
        ]  # fmt: skip
        said = [process.communicate(timeout=300)[0] for process in begun]
        assert number == 0 or all(process.returncode == 0 for process in begun), said
    assert_same(results(tmp_path / "run", 2), one)


@pytest.mark.parametrize(("rows", "replicas"), [(101, 2), (101, 3), (6, 4), (8, 2)])
def test_each_row_of_what_validates_counts_alike(rows, replicas):
    parts = [Share(number, replicas, replicas).of_all(np.arange(rows))[0] for number in range(replicas)]
    assert len({len(part) for part in parts}) == 1
    assert len(set(np.bincount(np.concatenate(parts)))) == 1


def test_shares_together_are_the_batch():
    rows = np.arange(12).reshape(6, 2)
    parts = [Share(number, 3, 3).of_batch(rows) for number in range(3)]
    np.testing.assert_array_equal(np.concatenate(parts), rows)


REFUSED = """
import keras, keras_condense as kc
data = kc.datasets.load_arrays("digits", batch_size=63, image_size=8)
def network():
    layers = [keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")]
    return keras.Sequential([keras.Input((8, 8, 1)), *layers])
"""
ODD_BATCH = """
keras.distribution.set_distribution(keras.distribution.DataParallel())
kc.training.train(network(), data, "none")
"""
FEW_IMAGES = """
import numpy as np
one, nine = np.zeros((1, 8, 8, 1), "uint8"), np.zeros((9, 8, 8, 1), "uint8")
np.savez("few.npz", x_train=one, y_train=np.zeros(1, int), x_test=nine, y_test=np.arange(9) + 1)
keras.distribution.set_distribution(keras.distribution.DataParallel())
kc.training.train(network(), kc.datasets.load_arrays("few.npz", batch_size=1), "none")
"""
STREAM = """
import sys
del sys.modules["tensorflow"]  # which it reads the images with, and JAX's processes are kept from
keras.distribution.set_distribution(keras.distribution.DataParallel())
kc.training.train(network(), kc.datasets.load("digits", image_size=8), "none")
"""
WORKERS = """
import tensorflow as tf
with tf.distribute.MultiWorkerMirroredStrategy().scope():
    model = network()
kc.training.train(model, data, "none")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "program", "message"),
    [
        pytest.param("jax", ODD_BATCH, "`batch_size` (=63) must be a multiple of the 2 devices", marks=needs_jax),
        pytest.param("jax", FEW_IMAGES, "image for each of the 2 devices, and has 1. Train on fewer", marks=needs_jax),
        pytest.param(
            "jax",
            STREAM,
            "have batches that the 2 devices divide, and the last one of an epoch has 29",
            marks=needs_jax,
        ),
        ("tensorflow", WORKERS, "with which `fit` of Keras 3 fails before its first batch. Train on several hosts"),
    ],
)
def test_what_can_not_be_shared_is_refused(backend, program, message, tmp_path):
    script, output = tmp_path / "program.py", tmp_path / "output.txt"
    script.write_text(REFUSED + program)
    if backend == "tensorflow":
        assert forked.run(script, folder=tmp_path, output=output, timeout=100) == 1
        said = output.read_text()
    else:
        (done,) = backend_forks.run(backend, [Program([script], tmp_path, devices(2))], timeout=100)
        assert done.code == 1
        said = done.output
    assert message in said.splitlines()[-1], said
    assert not (tmp_path / "none").exists()
