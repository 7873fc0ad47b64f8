"""Rewritings that help every target: fewer operators that compute the same."""

import dataclasses

import numpy as np

from keras_condense.tflite.graph import Graph, Node

__all__ = [
    "compose_indices",
    "fold_affine",
    "fold_pads",
    "fold_permutations",
    "fuse_relu",
    "is_pointwise",
    "merge_pointwise",
    "simplify",
    "ungrouped",
]

# operators that can apply a ReLU to what they compute
_FUSABLE = ("convolution", "depthwise", "affine")


def fold_pads(graph: Graph) -> Graph:
    """Move zeros around an image into the padding of the convolution that alone reads it."""
    nodes, renamed = {node.name: node for node in graph}, {}
    for node in graph:
        reader = graph.only_reader(node.name) if node.op == "pad" else None
        if reader is None or reader.op not in ("convolution", "depthwise"):
            continue
        padding = tuple(
            (before + more_before, after + more_after)
            for (before, after), (more_before, more_after) in zip(reader["padding"], node["padding"], strict=True)
        )
        nodes[reader.name] = nodes[reader.name].replace(attributes={"padding": padding})
        renamed[node.name] = node.inputs[0]
    return graph.with_nodes(nodes.values(), renamed)


def compose_indices(graph: Graph) -> Graph:
    """Read an index of an index directly, and an index of all channels in their order not at all."""
    nodes, renamed = {}, {}
    for node in graph:
        if node.op == "index":
            source = nodes[renamed.get(node.inputs[0], node.inputs[0])]
            indices = node["indices"]
            if source.op == "index":
                indices, source = source["indices"][indices], nodes[source.inputs[0]]
            if np.array_equal(indices, np.arange(source.channels)):
                renamed[node.name] = source.name
            node = node.replace(inputs=(source.name,), weights={"indices": indices})
        else:
            node = dataclasses.replace(node, inputs=tuple(renamed.get(name, name) for name in node.inputs))
        nodes[node.name] = node
    return graph.with_nodes(nodes.values(), renamed)


def fold_affine(graph: Graph) -> Graph:
    """Fold scale and shift into the convolution before them, also across a shuffle (an index that permutes).

    `scale * (kernel * x + bias) + shift` is a convolution with `scale * kernel` and `scale * bias + shift`; behind a
    permutation, channel i of the norm belongs to filter `indices[i]`.
    """
    nodes, renamed = {node.name: node for node in graph}, {}
    for node in graph:
        if node.op != "affine":
            continue
        source, order = nodes[node.inputs[0]], np.arange(node.channels)
        if source.op == "index" and graph.only_reader(source.name) is not None:
            order, source = source["indices"], nodes[source.inputs[0]]
        is_permutation = np.array_equal(np.sort(order), np.arange(source.channels))
        foldable = source.op in ("convolution", "depthwise") and not source["relu"] and is_permutation
        if not foldable or graph.only_reader(source.name) is None:
            continue
        scale, shift = np.empty_like(node["scale"]), np.empty_like(node["shift"])
        scale[order], shift[order] = node["scale"], node["shift"]
        bias = source.get("bias", np.zeros_like(shift)) * scale + shift
        weights = {"kernel": source["kernel"] * scale, "bias": bias.astype("float32")}
        nodes[source.name] = source.replace(weights=weights, attributes={"relu": node["relu"]})
        renamed[node.name] = node.inputs[0]
    return graph.with_nodes(nodes.values(), renamed)


def fuse_relu(graph: Graph) -> Graph:
    """Let the operator before a ReLU apply it, also across an index, which only moves what it gets."""
    nodes, renamed = {node.name: node for node in graph}, {}
    for node in graph:
        if node.op != "relu":
            continue
        source = nodes[renamed.get(node.inputs[0], node.inputs[0])]
        if source.op == "index" and graph.only_reader(source.name) is not None:
            source = nodes[source.inputs[0]]
        if source.op in _FUSABLE and graph.only_reader(source.name) is not None:
            nodes[source.name] = source.replace(attributes={"relu": True})
            renamed[node.name] = node.inputs[0]
    return graph.with_nodes(nodes.values(), renamed)


def is_pointwise(node: Node) -> bool:
    """Whether a node is a 1x1 convolution of every pixel by itself."""
    return (
        node.op == "convolution"
        and node["kernel"].shape[:2] == node["strides"] == (1, 1)
        and node["padding"] == ((0, 0), (0, 0))
    )


def ungrouped(node: Node) -> np.ndarray:
    """The (inputs, filters) matrix of a 1x1 convolution, zero outside its groups."""
    groups, (inputs, filters) = node["groups"], node["kernel"].shape[2:]
    matrix = np.zeros((groups, inputs, groups, filters // groups), "float32")
    for group in range(groups):
        matrix[group, :, group] = node["kernel"][0, 0].reshape(inputs, groups, -1)[:, group]
    return matrix.reshape(groups * inputs, filters)


def merge_pointwise(graph: Graph) -> Graph:
    """Write two 1x1 convolutions with nothing in between as one, where that takes fewer multiply-adds."""
    nodes = {node.name: node for node in graph}
    for node in graph:
        if not is_pointwise(node) or node["groups"] > 1:
            continue
        first = nodes[node.inputs[0]]
        alone = graph.only_reader(first.name) is not None
        if not alone or not is_pointwise(first) or first["relu"] or first.get("bias") is not None:
            continue
        matrix = ungrouped(first)
        inputs, filters = matrix.shape[0], node.channels
        if inputs * filters > first["kernel"].size + node["kernel"].size:
            continue
        kernel = (matrix @ node["kernel"][0, 0])[None, None]
        merged = node.replace(weights={"kernel": kernel})
        nodes[node.name] = dataclasses.replace(merged, inputs=first.inputs)
    return graph.with_nodes(nodes.values())


def fold_permutations(graph: Graph) -> Graph:
    """Let a convolution of one group read its channels in the order they have before a shuffle."""
    nodes = {node.name: node for node in graph}
    for node in graph:
        if node.op != "convolution" or node["groups"] > 1:
            continue
        source = nodes[node.inputs[0]]
        if source.op != "index" or not np.array_equal(np.sort(source["indices"]), np.arange(source.channels)):
            continue
        before = nodes[source.inputs[0]]
        if before.channels == source.channels:
            kernel = np.empty_like(node["kernel"])
            kernel[:, :, source["indices"]] = node["kernel"]
            nodes[node.name] = dataclasses.replace(node.replace(weights={"kernel": kernel}), inputs=(before.name,))
    return graph.with_nodes(nodes.values())


_REWRITINGS = (
    fold_pads,
    compose_indices,
    fold_affine,
    fuse_relu,
    compose_indices,
    merge_pointwise,
    fold_permutations,
)


def simplify(graph: Graph) -> Graph:
    """All rewritings of this module, in an order in which each finds what the last one made."""
    for rewrite in _REWRITINGS:
        graph = rewrite(graph)
    return graph
