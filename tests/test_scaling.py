"""What devices exchange in a training step is what `benchmarks/exchange.py` counts, and what follows from it."""

import csv
import doctest
import importlib.util
import json
import os
import pathlib
import socket

import backend_forks
import keras
import pytest
from backend_forks import Program
from networks import shapes_only

import keras_condense as kc

HERE = pathlib.Path(__file__).parent
RESULTS = HERE.parent / "results"
needs_jax = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
TINY = {"stages": [1], "growth_rates": [4], "groups": 2, "condense_factor": 2, "stem_strides": 1, "classes": 10,
        "input_shape": [8, 8, 1]}  # fmt: skip


@pytest.fixture(scope="module")
def exchange(benchmark_program):
    return benchmark_program("exchange")


@pytest.fixture(scope="module")
def scaling(benchmark_program):
    return benchmark_program("scaling")


@pytest.fixture(autouse=True)
def of_the_source(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")]))


def results(name):
    with open(RESULTS / f"{name}.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", ["exchange", "scaling"])
def test_examples_hold(name, request):
    done = doctest.testmod(request.getfixturevalue(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert done.attempted > 2
    assert done.failed == 0


def test_another_collective_is_not_passed_over(exchange):
    with pytest.raises(ValueError, match=r"of another kind than all-reduce: = f32.* all-gather"):
        exchange.collectives("%a = f32[4]{0} all-gather(%x), channel_id=1")


@needs_jax
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["synchronized", "local"])
def test_what_is_counted_is_what_xla_exchanges(kind, exchange):
    found = exchange.measured("CondenseNet", TINY | {"group_lasso": 1e-3, "dropout_rate": 0.1}, batch=8, kind=kind)
    counted = found["counted"]
    assert found["measured_bytes"] == sum(counted[f"{kind}_bytes"] for kind in ("gradient", "statistics", "other"))
    assert found["measured_exchanges"] == counted["exchanges"]
    assert found["programs"] == 1  # the drops make no new one


DROP = """
import json, sys
import keras
keras.distribution.initialize(f"localhost:{sys.argv[1]}", 2, int(sys.argv[2]))
keras.distribution.set_distribution(keras.distribution.DataParallel())
from jax.experimental import multihost_utils
import keras_condense as kc
from keras_condense.optimizers import SGDWithL2, memories_of

sent = []
gather = multihost_utils.process_allgather
def counting(values, *args, **kwargs):
    sent.append(values.shape)
    return gather(values, *args, **kwargs)
multihost_utils.process_allgather = counting

keras.utils.set_random_seed(0)
layer = kc.layers.LearnedGroupConv2D(8, 1, groups=2, condense_factor=2)
layer.build((None, 4, 4, 8))
optimizer = SGDWithL2(momentum=0.9)
optimizer.build(layer.trainable_variables)
begun = list(sent)
assert layer.condense_to(1)
for memory in memories_of(optimizer, layer.kernel):
    layer.clear_dropped(memory)
print(json.dumps({"begun": begun, "drop": sent[len(begun):]}))
"""


@needs_jax
@pytest.mark.slow
def test_a_drop_compares_masks_between_processes_and_no_weights(tmp_path):
    with socket.socket() as one:
        one.bind(("localhost", 0))
        port = str(one.getsockname()[1])
    (tmp_path / "drop.py").write_text(DROP)
    begun = [Program([tmp_path / "drop.py", port, number], tmp_path) for number in "01"]
    done = backend_forks.run("jax", begun, timeout=200)
    assert all(process.code == 0 for process in done), "\n".join(process.output for process in done)
    for process in done:
        sent = json.loads(process.output.splitlines()[-1])
        assert [2, 8] in sent["begun"]
        assert [1, 1, 8, 8] in sent["begun"]
        assert sent["drop"] == [[2, 8]]


def test_the_table_is_of_these_networks(exchange):
    rows = {row["network"]: row for row in results("exchange")}
    assert list(rows) == list(exchange.NETWORKS)
    assert [row["kind"] for row in results("exchange")] == list(exchange.KINDS) * len(rows)
    assert {row["difference"] for row in results("exchange")} == {"0"}
    with shapes_only():
        model = kc.applications.CondenseNet86()
        parameters = sum(keras.ops.size(weight) for weight in model.trainable_weights)
        assert rows["CondenseNet86"]["gradient_bytes"] == str(4 * int(parameters))
        small = kc.profile_model(kc.condense(model, finish=True))
        assert rows["CondenseNet86"]["parameters_after_drops"] == str(small.parameters)


def test_the_model_is_of_that_table(scaling):
    made = scaling.rows(results("exchange"), images_a_second=None)
    written = results("scaling")
    assert [row | made_row for row, made_row in zip(written, made, strict=True)] == written


def test_bounds_of_the_efficiency(scaling):
    network = {"gradient_bytes": "1000000", "statistics_bytes": "10000", "counted_exchanges": "41"}
    link = scaling.Link(bandwidth=1e9, latency=1e-5)
    assert scaling.efficiency(1e-3, *scaling.seconds_on(1, network, link)) == (1.0, 1.0)
    shares = [scaling.efficiency(1e-3, *scaling.seconds_on(devices, network, link)) for devices in (2, 8, 64, 256)]
    assert all(0 < worst <= best < 1 for worst, best in shares)
    assert shares == sorted(shares, reverse=True)
    # by hand, on two devices: a ring sends half of the bytes twice, and each exchange has two messages
    seconds = 1e-3 + (1e6 / 1e9 + 2e-5) + (1e4 / 1e9 + 40 * 2e-5)
    assert shares[0][0] == pytest.approx(1e-3 / seconds)
