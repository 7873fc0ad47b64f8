"""Rewritings of a graph, a file each; all compute the same.

A pass is a function `run(graph, target, scheme)` of one module. A new pass is a new file and a place in
`SIMPLIFYING` or `CHANNELS_LAST` below. `dense` and `sparse` write a part of a network in a special way, as far as one
of its ends.
"""

from collections.abc import Iterable
from types import ModuleType

from keras_condense.tflite.graph import Graph
from keras_condense.tflite.passes import (
    block_pixels,
    carry_orders,
    compose_norms,
    compose_picks,
    dense,
    drop_unread,
    fold_norms,
    fold_pads,
    fold_permutations,
    fuse_relu,
    group_reactivations,
    keep_pixels,
    keep_rows,
    limit_instead_of_norm,
    merge_pointwise,
    norms_and_pools_as_windows,
    pick_first,
    sparse,
    split_windows,
    swish_by_tanh,
)
from keras_condense.tflite.schemes import Scheme
from keras_condense.tflite.targets import Target

__all__ = [
    "AS_CONVERTED",
    "CHANNELS_LAST",
    "FOLDING",
    "SIMPLIFYING",
    "dense",
    "drop_unread",
    "norms_and_pools_as_windows",
    "run_all",
    "sparse",
]

# What TensorFlow's converter does by itself to a network that is not lowered.
AS_CONVERTED: tuple[ModuleType, ...] = (compose_norms, fold_norms, fuse_relu)

# Fewer operators, the same for every target, in an order in which each pass finds what the last one made.
FOLDING: tuple[ModuleType, ...] = (
    fold_pads,
    keep_pixels,
    compose_picks,
    compose_norms,
    fold_norms,
    fuse_relu,
    compose_picks,
    merge_pointwise,
    fold_permutations,
)
SIMPLIFYING: tuple[ModuleType, ...] = (*FOLDING, drop_unread)

# Learned groups in XNNPACK's usual layout, without moving single numbers about. What a condensed network asks for
# around its convolutions costs more than they do: picking channels moves 4 bytes at a time, and so does a shuffle; a
# batch norm with a ReLU is two operators or a slow one; a convolution with few filters per group fills a part of a SIMD
# register. Each pass removes one of these, and changes nothing where it can't.
CHANNELS_LAST: tuple[ModuleType, ...] = (
    carry_orders,
    pick_first,
    limit_instead_of_norm,
    group_reactivations,
    split_windows,
    block_pixels,
    keep_rows,
    swish_by_tanh,
    norms_and_pools_as_windows,
)


def run_all(passes: Iterable[ModuleType], graph: Graph, target: Target, scheme: Scheme) -> Graph:
    """Run passes one after another."""
    for each in passes:
        graph = each.run(graph, target, scheme)
    return graph
