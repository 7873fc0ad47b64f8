"""Measure what each kind of operator costs on a target, and write the table that `export_tflite` decides by.

Small networks of one operator, repeated once and three times, are counted or timed; the difference is two operators'
cost. A least-squares fit with no negative coefficient gives the cost of a multiply-add, an output and an inner loop.

    python benchmarks/operator_costs.py x86_64
    python benchmarks/operator_costs.py arm64 --counter "python arm_cost.py count"
    python benchmarks/operator_costs.py x86_64 --only add hard_swish

The counter is a command that takes .tflite files and prints a line for each: its name and the millions of instructions
of one inference, as the second word.
"""

import argparse
import concurrent.futures
import functools
import json
import os
import pathlib
import shlex
import subprocess
import tempfile
from collections import defaultdict

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from common import versions
from rich.progress import track
from sklearn.linear_model import LinearRegression

from keras_condense.files import write_text
from keras_condense.tflite import benchmark_tflite
from keras_condense.tflite.costs import TARGETS, coefficients, features
from keras_condense.tflite.export import convert_graph
from keras_condense.tflite.graph import Graph, Node

COSTS = pathlib.Path(__file__).resolve().parent.parent / "keras_condense" / "tflite" / "costs"
RANDOM = np.random.default_rng(0)
NO_PADDING, PAD_ONE = ((0, 0), (0, 0)), ((1, 1), (1, 1))


def normal(*shape):
    return RANDOM.normal(size=shape).astype("float32")


def convolution(size, channels, filters, groups=1, window=1):
    padding = PAD_ONE if window == 3 else NO_PADDING
    attributes = {"strides": (1, 1), "padding": padding, "dilation": (1, 1), "groups": groups, "relu": True}
    weights = {"kernel": normal(window, window, channels // groups, filters), "bias": normal(filters)}
    return (size, size, channels), (size, size, filters), "convolution", attributes, weights


def sparse(size, channels, share):
    """A 1x1 convolution that keeps `share` of its weights, in pairs of filters."""
    shape, output, op, attributes, weights = convolution(size, channels, channels)
    kept = np.repeat(RANDOM.random((channels, channels // 2)) < share, 2, axis=1)
    return shape, output, op, attributes | {"channels_first": True}, weights | {"kernel": weights["kernel"] * kept}


def depthwise(size, channels, window, **attributes):
    padding = PAD_ONE if window == 3 else NO_PADDING
    attributes = {"strides": (1, 1), "padding": padding, "relu": True} | attributes
    weights = {"kernel": normal(window, window, channels), "bias": normal(channels)}
    return (size, size, channels), (size, size, channels), "depthwise", attributes, weights


def affine(size, channels):
    shape = (size, size, channels)
    return shape, shape, "affine", {"relu": True}, {"scale": normal(channels), "shift": normal(channels)}


def index(size, channels):
    shape = (size, size, channels)
    return shape, shape, "index", {}, {"indices": RANDOM.integers(0, channels, channels)}


def shuffle(size, channels, groups=8):
    shape = (size, size, channels)
    return shape, shape, "index", {}, {"indices": np.arange(channels).reshape(groups, -1).T.ravel()}


def gather_rows(size, channels):
    shape = (channels, size * size)
    return shape, shape, "gather", {"axis": 1}, {"indices": RANDOM.integers(0, channels, channels)}


def transpose(size, channels):
    return (size * size, channels), (channels, size * size), "transpose", {"order": (0, 2, 1)}, {}


def limit(size, channels):
    shape = (size, size, channels)
    return shape, shape, "maximum", {}, {"limit": normal(channels)}


def limit_rows(size, channels):
    shape = (channels, size, size)
    return shape, shape, "maximum", {}, {"limit": normal(channels, 1, 1)}


def elementwise(size, channels, op):
    """A sum of two images, or an activation."""
    shape = (size, size, channels)
    return shape, shape, op, {}, {}


def average_pool(size, channels):
    def output(number):  # each halves what the one before it gave
        return (size >> (number + 1), size >> (number + 1), channels)

    return (size, size, channels), output, "average_pool", {"size": (2, 2)}, {}


def concatenation(size, channels):
    def output(number):  # each joins the one before it with itself
        return (channels << (number + 1), size, size)

    return (channels, size, size), output, "join", {"axis": 1}, {}


def cases():
    """Operators of the sizes that the networks have: input shape, output shape, operator, attributes, weights."""
    for groups in (4, 8):
        yield convolution(56, 64, 64, groups)
        yield convolution(56, 32, 64, groups)
        yield convolution(56, 64, 64, groups, window=3)
        yield shuffle(56, 64, groups)
    for size, width in ((112, 32), (56, 64), (56, 88), (28, 128), (14, 256), (7, 1024)):
        yield limit(size, width)
        yield limit_rows(size, width)
    for size, width in ((28, 128), (14, 256)):
        for groups in (1, 4, 8):
            yield convolution(size, width, width, groups)
            yield convolution(size, width, width // 4, groups, window=3)
        yield depthwise(size, width, 1)
        yield depthwise(size, width, 3)
        yield affine(size, width)
        yield elementwise(size, width, "add")
        yield elementwise(size, width, "hard_swish")
        yield average_pool(4 * size, width // 4)
        yield concatenation(size, width)
        yield index(size, width)
        yield shuffle(size, width)
        yield gather_rows(size, width)
        yield transpose(size, width)
        for share in (0.02, 0.2):
            yield sparse(size, width, share)
        yield depthwise(size, width, 3, channels_first=True, relu=False)


def network(case, repeats: int) -> Graph:
    """A chain of one operator; in a channels-first part, between a stem and a mean."""
    shape, output, op, attributes, weights = case
    first = bool(attributes.get("channels_first"))
    if first:
        size = shape[0]
        nodes = [Node("image", "input", (), (2 * size, 2 * size, 3), {"dtype": "float32"})]
        stem = {"strides": (2, 2), "padding": PAD_ONE, "dilation": (1, 1), "groups": 1, "relu": False}
        nodes.append(Node("stem", "convolution", ("image",), (size, size, 8), stem, {"kernel": normal(3, 3, 3, 8)}))
        spread = np.zeros((1, 1, 8, shape[2]), "float32")
        spread[0, 0, np.arange(shape[2]) % 8, np.arange(shape[2])] = 1
        pointwise = {"strides": (1, 1), "padding": NO_PADDING, "dilation": (1, 1), "groups": 1, "relu": False}
        pointwise["channels_first"] = True
        nodes.append(Node("spread", "convolution", ("stem",), shape, pointwise, {"kernel": spread}))
    else:
        nodes = [Node("image", "input", (), shape, {"dtype": "float32"})]
    for number in range(repeats):
        following = output(number) if callable(output) else output
        if not callable(output) and nodes[-1].shape != shape:  # another shape of as many numbers, or other channels
            fitted = Node(f"fitted{number}", "reshape", (nodes[-1].name,), shape)
            if op == "convolution":
                times = shape[2] // output[2]
                cut = {"begin": (0, 0, 0), "size": shape}
                fitted = Node(f"fitted{number}", "concatenate", (nodes[-1].name,) * times, shape)
                fitted = fitted if times else Node(f"fitted{number}", "slice", (nodes[-1].name,), shape, cut)
            nodes.append(fitted)
        if op == "index":  # the converter makes one of two that follow each other
            limits = {"limit": normal(shape[2])}
            nodes.append(Node(f"between{number}", "maximum", (nodes[-1].name,), shape, {}, limits))
        inputs = (nodes[-1].name,) * (2 if op == "join" else 1)
        inputs += ("image",) if op == "add" else ()
        nodes.append(Node(f"operator{number}", op, inputs, following, attributes, weights))
    if first:
        nodes.append(Node("mean", "mean", (nodes[-1].name,), (output[-1],)))
    return Graph(tuple(nodes), {"y": nodes[-1].name})


def counted(command: str, path: pathlib.Path) -> float:
    done = subprocess.run([*shlex.split(command), str(path)], capture_output=True, text=True, check=True)
    return 1e6 * float(done.stdout.strip().splitlines()[-1].split()[1])


def timed(path: pathlib.Path) -> float:
    return 1e9 * benchmark_tflite(path, runs=30).minimum_ms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--counter", help="command that counts instructions; left out, the files are timed here")
    parser.add_argument("--only", nargs="+", metavar="OPERATOR", help="measure these and keep the rest of the table")
    arguments = parser.parse_args()
    samples, unit = defaultdict(list), "instructions" if arguments.counter else "picoseconds"
    chosen = [case for case in cases() if not arguments.only or case[2] in (*arguments.only, "maximum")]
    graphs = [network(case, repeats) for case in chosen for repeats in (1, 3)]
    with tempfile.TemporaryDirectory() as folder:
        paths = [pathlib.Path(folder, f"{number}.tflite") for number in range(len(graphs))]
        for path, graph in track(list(zip(paths, graphs, strict=True)), description="converting"):
            path.write_bytes(convert_graph(graph))
        measure = functools.partial(counted, arguments.counter) if arguments.counter else timed
        # counts don't depend on what else is running; times do
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count() if arguments.counter else 1) as pool:
            costs = list(track(pool.map(measure, paths), total=len(paths), description=arguments.target))
    for graph, once, thrice in zip(graphs[1::2], costs[::2], costs[1::2], strict=True):
        by_name, sizes = graph.by_name(), defaultdict(float)
        for name in ("operator1", "operator2"):  # what the longer network has more
            kind, more = features(by_name[name], [by_name[source] for source in by_name[name].inputs])
            for feature, size in more.items():
                sizes[feature] += size
        between = [features(by_name[name], [])[1] for name in ("between1", "between2") if name in by_name]
        samples[kind].append((sizes, thrice - once, between))
    table = {}
    # the limits first: they stand between others
    for kind, rows in sorted(samples.items(), key=lambda item: (item[0] != "maximum", item[0])):
        names = list(rows[0][0])
        limits = [sum(table["maximum"][name] * one[name] for one in between for name in one) for *_, between in rows]
        measured = np.array([max(cost - limit, 0.0) for (_, cost, _), limit in zip(rows, limits, strict=True)])
        sizes = np.array([[row[name] for name in names] for row, _, _ in rows])
        # relative errors count, so that small operators are fitted as well as large ones
        weights = 1 / np.maximum(measured, max(measured.max() / 100, 1)) ** 2
        fit = LinearRegression(fit_intercept=False, positive=True).fit(sizes, measured, sample_weight=weights)
        table[kind] = dict(zip(names, map(float, fit.coef_.round(4)), strict=True))
        error = np.abs(fit.predict(sizes) / np.maximum(measured, 1) - 1)
        print(f"{kind:18s} {table[kind]}  relative error: median {np.median(error):.0%}, largest {error.max():.0%}")
    if arguments.only:
        table = dict(sorted((coefficients(arguments.target) | table).items()))
    content = {"unit": unit, "versions": versions("ai-edge-litert"), "coefficients": table}
    write_text(COSTS / f"{arguments.target}.json", json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
