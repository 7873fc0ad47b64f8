"""What an operator costs on a target, from a table of measured coefficients.

`costs/<target>.json` holds for each kind of operator what a multiply-add, an output and a pixel cost; the unit is
instructions on a Cortex-A76 (arm64) or picoseconds (x86_64). `benchmarks/operator_costs.py` measures and writes them.
"""

import functools
import importlib.resources
import json
import math
from collections.abc import Mapping

from keras_condense.tflite.emission import shuffle_groups
from keras_condense.tflite.graph import Graph, Node

__all__ = ["TARGETS", "coefficients", "features", "graph_costs", "node_cost"]

TARGETS = ("arm64", "x86_64")
_SIMD_WIDTH = 8  # outputs that one step of a channels-last convolution computes for a group, used or not


@functools.cache
def coefficients(target: str) -> Mapping[str, Mapping[str, float]]:
    """The measured table of a target: for each kind of operator, the cost of each of its features."""
    text = importlib.resources.files("keras_condense.tflite").joinpath("costs", f"{target}.json").read_text("utf-8")
    return json.loads(text)["coefficients"]


def features(node: Node, inputs: list[Node]) -> tuple[str, dict[str, float]]:
    """The kind of an operator and the sizes that its cost grows with.

    Args:
        node: an operator.
        inputs: the operators it reads.

    Returns:
        Its kind, a key of the table, and its features by name: `multiply_adds` (those that are computed, useful or
        not), `outputs` (values written) and `steps` (runs through an inner loop over inputs).
    """
    outputs = math.prod(node.shape)
    pixels = math.prod(node.shape[:-1]) if len(node.shape) == 3 else 1
    if node.op == "convolution" and node.get("channels_first"):
        return "sparse_pointwise", {
            "multiply_adds": float((node["kernel"] != 0).sum()) * pixels,
            "outputs": outputs,
        }
    if node.op == "convolution":
        height, width, per_group, filters = node["kernel"].shape
        groups = node["groups"]
        computed = math.ceil(filters / groups / _SIMD_WIDTH) * _SIMD_WIDTH
        return "convolution" if height * width == 1 else "window_convolution", {
            "multiply_adds": float(height * width * per_group * computed * groups * pixels),
            "outputs": outputs,
            "steps": float(groups * math.ceil(filters / groups / _SIMD_WIDTH) * pixels),
        }
    if node.op == "depthwise":
        kind = "sparse_depthwise" if node.get("channels_first") else "depthwise"
        return kind, {"multiply_adds": float(math.prod(node["kernel"].shape[:2]) * outputs), "outputs": outputs}
    if node.op == "dense":
        return "dense", {"multiply_adds": float(node["kernel"].size), "outputs": outputs}
    if node.op == "index" and shuffle_groups(node["indices"], inputs[0].channels) is not None:
        return "shuffle", {"outputs": outputs}
    if node.op in ("index", "gather"):
        along_rows = node.op == "gather" and node["axis"] == 1
        return ("gather_rows" if along_rows else "gather"), {"outputs": outputs}
    if node.op in ("average_pool", "mean"):
        return node.op, {"inputs": sum(math.prod(source.shape) for source in inputs)}
    if node.op in ("concatenate", "join"):
        return "concatenate", {"outputs": outputs}
    if node.op == "add":
        # Sums of a channels-first store are not in the table: convolutions of few inputs, which channels last has in
        # their place, take more than it says by about as much (CondenseNet's first two blocks, G = C = 4 and 8).
        kind = "sparse_add" if node.get("channels_first") else "add"
        return kind, {"outputs": outputs * (len(inputs) - 1)}
    if node.op in ("maximum", "minimum"):
        # computed pixel by pixel, or row by row where each row has one limit
        rows = node["limit"].ndim > 1
        return ("row_maximum" if rows else "maximum"), {
            "outputs": outputs,
            "steps": node.shape[0] if rows else outputs // node.shape[-1],
        }
    return node.op, {"outputs": outputs}


def node_cost(node: Node, inputs: list[Node], target: str) -> float:
    """The cost of one operator; 0 for what costs nothing or isn't in the table."""
    kind, sizes = features(node, inputs)
    table = coefficients(target).get(kind, {})
    return sum(table.get(name, 0.0) * size for name, size in sizes.items())


def graph_costs(graph: Graph, target: str) -> dict[str, float]:
    """The cost of each node of a graph, by its name."""
    by_name = graph.by_name()
    return {node.name: node_cost(node, [by_name[name] for name in node.inputs], target) for node in graph}
