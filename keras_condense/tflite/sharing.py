"""Weights of a network that is exported, replaced by few values; no training follows.

A norm that is folded multiplies each filter by a number of its own. Kernels are therefore clustered as the file will
hold them, after folding: clustered before, CondenseNet-50 takes 2.5 times the bytes once its file is entropy-coded.
Limits in place of norms, which multiply each input, are left out, for 6 % more instructions: clustered after these, the
network was wrong on 12 % of 2,000 test images at 4 bits, and not on 9 %. Values that a network was trained with stay
what they are where norms are not folded at all, for 14 % more instructions (results/coded_sizes_trained.csv).
"""

import dataclasses
import logging

from keras_condense.codebooks import clustered
from keras_condense.tflite.graph import Graph, Node
from keras_condense.tflite.operators import Affine, Convolution, Dense, Depthwise, KerasCall
from keras_condense.tflite.passes import FOLDING, run_all
from keras_condense.tflite.passes.norms_and_pools_as_windows import as_window
from keras_condense.tflite.schemes import Scheme
from keras_condense.tflite.targets import Target

__all__ = ["Sharing", "share"]

logger = logging.getLogger(__name__)

_KERNELS = (Convolution, Depthwise, Dense)


@dataclasses.dataclass(frozen=True)
class Sharing:
    """A network before and after its weights were replaced.

    Attributes:
        whole: with its own weights.
        shared: the same with few values in each kernel.
    """

    whole: Graph
    shared: Graph


def share(graph: Graph, bits: int, target: Target, scheme: Scheme) -> Sharing:
    """Fold what the scheme allows, and replace the weights of each kernel by at most 2**bits values.

    Raises:
        ValueError: no kernel at all.
    """
    whole = run_all(FOLDING, graph, target, scheme)
    nodes = [
        node.with_op(kernel=clustered(node.op.kernel, bits)) if isinstance(node.op, _KERNELS) else node
        for node in whole
    ]
    if all(node is before for node, before in zip(nodes, whole, strict=True)):
        raise ValueError(
            f"`share_weights` (={bits}) must find a convolution of images or a dense layer of vectors in the model, "
            "and there is none. Leave it out."
        )
    if left := [node.layer for node in whole if _has_kernel(node.op)]:
        logger.warning("share_weights: these layers keep their weights as they are: %s", ", ".join(map(repr, left)))
    shared = whole.with_nodes(nodes)
    return Sharing(whole, shared if scheme.folds else _norms_as_windows(shared))


def _norms_as_windows(graph: Graph) -> Graph:
    """Norms behind kernels as depthwise convolutions, for the converter folds what multiplies channels otherwise."""
    by_name = graph.by_name()

    def window(node: Node) -> Node:
        is_norm = isinstance(node.op, Affine) and node.is_image and isinstance(by_name[node.inputs[0]].op, _KERNELS)
        return as_window(node) if is_norm else node

    return graph.with_nodes(map(window, graph))


def _has_kernel(op: object) -> bool:
    """Whether a layer is passed through with a matrix of weights."""
    return isinstance(op, KerasCall) and any(len(variable.shape) > 1 for variable in op.variables)
