"""What the instructions of an exported network are spent on, stage by stage, by the table of measured costs.

    python benchmarks/instructions_by_stage.py CondenseNetImageNet74G8

Lists beside them what the useful multiply-adds alone would take, four to an instruction.
"""

import argparse
import collections
import os
import re

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from common import print_rows, write_results
from phone_networks import condensing

import keras_condense as kc
from keras_condense.tflite import operators as ops
from keras_condense.tflite.frontend import read_model
from keras_condense.tflite.lowering import cheapest
from keras_condense.tflite.targets import graph_costs, targets

LANES = 4  # multiply-adds of one instruction
PURPOSES = {
    "norms": (ops.Affine, ops.Relu, ops.Maximum, ops.Minimum),
    "picks_and_layouts": (
        ops.PickChannels,
        ops.PickRows,
        ops.Transpose,
        ops.ConcatenateChannels,
        ops.ConcatenateRows,
        ops.Reshape,
        ops.Slice,
        ops.DepthToSpace,
    ),
    "pools": (ops.AveragePool, ops.Mean),
}


def stage_of(layer: str) -> str:
    """The dense block that a layer belongs to; the transition behind it counts as its end."""
    match = re.match(r"(?:block|pool)(\d)", layer)
    return f"block {match[1]}" if match else ("stem" if layer.startswith("stem") else "classifier")


def purpose(node) -> str:
    """What an operator is for."""
    op = node.op
    if isinstance(op, ops.Convolution):
        diagonal = op.sparse and (op.kernel != 0).sum() <= max(op.kernel.shape[2:])
        return "norms" if diagonal else "convolutions"
    if isinstance(op, ops.Depthwise):
        return "convolutions" if max(op.strides) == 1 else "pools"
    return next((name for name, kinds in PURPOSES.items() if isinstance(op, kinds)), "convolutions")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", nargs="?", default="CondenseNetImageNet74G8")
    arguments = parser.parse_args()
    model = kc.condense(condensing(arguments.network))
    target = targets()["arm64"]
    lowering = cheapest(read_model(model, ["image"], ["logits"]), target)
    spent: dict[str, collections.Counter] = {}
    for layer in kc.profile_model(model).layers:
        spent.setdefault(stage_of(layer.name), collections.Counter())["multiply_adds_alone"] += layer.macs / LANES
    costs = graph_costs(lowering.graph, target)
    for node in lowering.graph:
        stage = spent[stage_of(node.layer)]
        stage[purpose(node)] += costs[node.name]
        stage["all"] += costs[node.name]
    spent["all"] = sum(spent.values(), collections.Counter())
    columns = ("multiply_adds_alone", "convolutions", *PURPOSES, "all")
    rows = [{"stage": stage} | {name: f"{spent[stage][name] / 1e6:.1f}" for name in columns} for stage in spent]
    name = f"{arguments.network.lower()}_stages"
    path = write_results(name, rows, threads=1, packages=("keras-condense", "keras", "tensorflow"))
    print_rows(rows, f"{path}: {lowering.chosen}, millions of instructions", width=140)


if __name__ == "__main__":
    main()
