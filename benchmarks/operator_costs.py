"""Measure what each kind of operator costs on a processor, and write the table that `export_tflite` decides by.

Small networks of one operator, repeated once and three times, are counted or timed; the difference is two operators'
cost. A least-squares fit with no negative coefficient gives the cost of a multiply-add, an output and an inner loop.

    python benchmarks/operator_costs.py x86_64
    python benchmarks/operator_costs.py arm64 --counter "python arm_cost.py count"
    python benchmarks/operator_costs.py x86_64 --only add hard_swish
    python benchmarks/operator_costs.py x86_64 --arithmetic int8 --lanes 16
    python benchmarks/operator_costs.py riscv64 --lanes 4          a processor of its own
    python benchmarks/operator_costs.py wasm --machines wasm32 --lanes 16 --fill-lanes --timer "node web_time.mjs ."

The counter is a command that takes a .tflite file and prints a line: its name and the millions of instructions of one
inference, as the second word. A timer prints the milliseconds of one inference in its place. A processor that is not
known yet becomes a file of `targets/`, and `export_tflite(target=...)` takes its name; nothing else changes.
"""

import argparse
import concurrent.futures
import functools
import json
import os
import pathlib
import platform
import shlex
import subprocess
import tempfile
from collections import defaultdict

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from common import versions
from operator_cases import cases, network, row_of
from rich.progress import track
from sklearn.linear_model import LinearRegression

from keras_condense.files import write_text
from keras_condense.tflite import benchmark_tflite
from keras_condense.tflite.converter import convert_graph
from keras_condense.tflite.graph import Graph
from keras_condense.tflite.schemes import SCHEMES, Scheme
from keras_condense.tflite.targets import Target, targets

TARGETS = pathlib.Path(__file__).resolve().parent.parent / "keras_condense" / "tflite" / "targets"
BETWEEN = ("maximum", "sparse_add")  # kinds that chains of others need between them
ARITHMETICS = {scheme.arithmetic: scheme for scheme in reversed(SCHEMES.values())}  # of float32, float32 itself


def converted(graph: Graph, scheme: Scheme) -> bytes:
    """A file of one chain; it is calibrated with noise, since no cost depends on the numbers."""
    random = np.random.default_rng(0)
    rows = [{"image": random.normal(size=(1, *graph.nodes[0].shape)).astype("float32")} for _ in range(4)]
    return convert_graph(graph, None, scheme, rows if scheme.needs_data else None)


def printed(command: str, path: pathlib.Path) -> list[str]:
    """The words of the last line that a command prints for a file."""
    done = subprocess.run([*shlex.split(command), str(path)], capture_output=True, text=True, check=True)
    return done.stdout.strip().splitlines()[-1].split()


def counted(command: str, path: pathlib.Path) -> float:
    return 1e6 * float(printed(command, path)[1])


def timed_elsewhere(command: str, path: pathlib.Path) -> float:
    return 1e9 * float(printed(command, path)[1])


def timed(path: pathlib.Path) -> float:
    return 1e9 * benchmark_tflite(path, runs=300, warmup=50).minimum_ms


def coefficients(sizes: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """A cost for each column of sizes: small operators are fitted as well as large ones, and x = twice as half of it.

    The least sum of (cost - measured)^2 / (cost measured), found by weighting again and again.
    """
    costs, smallest = measured, max(measured.max() / 100, 1)
    for _ in range(20):
        weights = 1 / (np.maximum(measured, smallest) * np.maximum(costs, smallest))
        fit = LinearRegression(fit_intercept=False, positive=True).fit(sizes, measured, sample_weight=weights)
        costs = fit.predict(sizes)
    return fit.coef_


def fitted(samples):
    """A table of costs from (features, cost of two operators, what stands between them) for each kind."""
    table = {}
    # those first that stand between others
    for kind, rows in sorted(samples.items(), key=lambda item: (item[0] not in BETWEEN, item[0])):
        names = list(rows[0][0])
        others = [
            sum(table[other][name] * size for other, sizes in between for name, size in sizes.items())
            for *_, between in rows
        ]
        measured = np.array([max(cost - other, 0.0) for (_, cost, _), other in zip(rows, others, strict=True)])
        sizes = np.array([[row[name] for name in names] for row, _, _ in rows])
        table[kind] = dict(zip(names, map(float, coefficients(sizes, measured).round(4)), strict=True))
        error = np.abs(sizes @ list(table[kind].values()) / np.maximum(measured, 1) - 1)
        print(f"{kind:18s} {table[kind]}  relative error: median {np.median(error):.0%}, largest {error.max():.0%}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", help=f"{', '.join(targets())}, or the name of a new one")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--counter", help="command that counts instructions; left out, the files are timed here")
    how.add_argument("--timer", help="command that times files on another processor, or in another runtime")
    parser.add_argument(
        "--only", nargs="+", metavar="KIND", help="measure these rows, and those of limits, and keep the others"
    )
    parser.add_argument(
        "--arithmetic", choices=ARITHMETICS, default="float32", help="what is computed in (default: %(default)s)"
    )
    parser.add_argument("--lanes", type=int, help="filters that are computed together (default: as known, or 8)")
    parser.add_argument("--machines", nargs="+", help="what `platform.machine()` calls a new target (default: as here)")
    parser.add_argument("--fill-lanes", action="store_true", help="of a new target: `Target.fill_lanes`")
    arguments = parser.parse_args()
    unit = "instructions" if arguments.counter else "picoseconds"
    target = targets().get(arguments.target)
    if target is None:
        # what counts instructions, or times elsewhere, stands for a processor that is not this one
        here = () if arguments.counter or arguments.timer else (platform.machine(),)
        machines = tuple(arguments.machines or here)
        target = Target(arguments.target, machines, unit, {}, {}, arguments.fill_lanes)
    scheme = ARITHMETICS[arguments.arithmetic]
    lanes = arguments.lanes or target.lanes.get(scheme.arithmetic, 8)
    known = [case for case in cases() if scheme.sparse or not case.is_sparse]
    chosen = [case for case in known if not arguments.only or row_of(case) in (*arguments.only, *BETWEEN)]
    if unknown := set(arguments.only or ()) - {row_of(case) for case in chosen}:
        parser.error(f"--only takes {', '.join(sorted({row_of(case) for case in known}))}, not {sorted(unknown)}.")
    graphs = [network(case, repeats) for case in chosen for repeats in (1, 3)]
    with tempfile.TemporaryDirectory() as folder:
        paths = [pathlib.Path(folder, f"{number}.tflite") for number in range(len(graphs))]
        for path, graph in track(list(zip(paths, graphs, strict=True)), description="converting"):
            path.write_bytes(converted(graph, scheme))
        measure = timed
        if arguments.counter or arguments.timer:
            command = counted if arguments.counter else timed_elsewhere
            measure = functools.partial(command, arguments.counter or arguments.timer)
        # counts don't depend on what else is running; times do
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count() if arguments.counter else 1) as pool:
            costs = list(track(pool.map(measure, paths), total=len(paths), description=target.name))
    samples = defaultdict(list)
    for graph, once, thrice in zip(graphs[1::2], costs[::2], costs[1::2], strict=True):
        by_name, sizes = graph.by_name(), defaultdict(float)

        def features(name, by_name=by_name):
            node = by_name[name]
            return node.op.features([by_name[source].shape for source in node.inputs], node.shape, lanes)

        for name in ("operator1", "operator2"):  # what the longer network has more
            kind, more = features(name)
            for feature, size in more.items():
                sizes[feature] += size
        between = [features(name) for name in ("between1", "between2") if name in by_name]
        two = thrice - once
        if target.fill_lanes and sizes.get("partial_steps"):  # any of the three may be the slow one
            two = max(two, 2 * once)
        if two <= 0:
            print(f"{kind}: left out a reading in which three operators took no longer than one")
            continue
        samples[kind].append((sizes, two, between))
    table = fitted(samples)
    if arguments.only:
        table = target.costs.get(scheme.arithmetic, {}) | table
    content = {
        "name": target.name,
        "machines": target.machines,
        "unit": unit,
        "lanes": dict(target.lanes) | {scheme.arithmetic: lanes},
        "fill_lanes": target.fill_lanes,
        "versions": versions("ai-edge-litert"),
        "costs": dict(target.costs) | {scheme.arithmetic: dict(sorted(table.items()))},
    }
    write_text(TARGETS / f"{target.name}.json", json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
