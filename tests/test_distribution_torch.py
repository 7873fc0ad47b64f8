"""DistributedDataParallel: two processes drop and learn what one does, by the loop of docs/guide/devices.md."""

import importlib.util
import pathlib

import backend_forks
import numpy as np
import pytest
from backend_forks import Program
from test_training_on_several import free_port

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed"),
]


def run(folder, processes, *kind):
    """What each process wrote."""
    program, port = str(pathlib.Path(__file__).with_name("torch_processes_run.py")), str(free_port())
    outs = [folder / f"{processes}-{number}.npz" for number in range(processes)]
    begun = [Program([program, out, processes, number, port, *kind], folder) for number, out in enumerate(outs)]
    done = backend_forks.run("torch", begun, timeout=200)
    assert all(process.code == 0 for process in done), "\n".join(process.output for process in done)
    return [dict(np.load(out)) for out in outs]


@pytest.mark.parametrize("kind", [(), ("synchronized",)], ids=["without batch norms", "synchronized"])
def test_two_processes_are_one(kind, tmp_path):
    (one,), (first, second) = run(tmp_path, 1, *kind), run(tmp_path, 2, *kind)
    for found in (first, second):
        assert found.keys() == one.keys()
        np.testing.assert_array_equal(found["masks"], one["masks"])  # after every step
        assert not found["dropped"].any()  # for all that the optimizer's momentum would do
        for name in (name for name in one if name.startswith(("weight", "moving"))):
            np.testing.assert_allclose(found[name], one[name], atol=1e-5)
            np.testing.assert_array_equal(found[name], first[name])
    assert not one["dropped"].any()
    assert (first["drawn"] != second["drawn"]).any()


def test_processes_have_batch_norms_of_their_own_images_where_it_is_said(tmp_path):
    (one,), (first, second) = run(tmp_path, 1, "local"), run(tmp_path, 2, "local")
    assert (first["moving0"] != second["moving0"]).any()
    assert max(np.abs(one[name] - first[name]).max() for name in one if name.startswith("weight")) > 1e-4
