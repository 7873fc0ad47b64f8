"""The intermediate form written down as TensorFlow operators, which the converter turns into those of TensorFlow Lite.

Beside the operators of `graph.py` there are those that only a lowering makes:

| operator | attributes | |
|---|---|---|
| reshape | shape | |
| transpose | order, with the batch as axis 0 | |
| gather | axis, and the weight indices | copies slices of an axis |
| slice | begin, size (without the batch) | |
| join | axis | concatenation along any axis |
| depth_to_space | block | |
| maximum, minimum | | and the weight limit (channels) |
"""

from collections.abc import Callable
from typing import Any

from keras_condense.tflite.graph import Graph, Node

__all__ = ["emit", "shuffle_groups"]


def _bias_and_relu(node: Node, outputs: Any) -> Any:
    import tensorflow as tf

    if node.get("bias") is not None:
        outputs = tf.nn.bias_add(outputs, tf.constant(node["bias"]))
    return tf.nn.relu(outputs) if node.get("relu") else outputs


def _convolution(node: Node, inputs: list) -> Any:
    import tensorflow as tf

    kernel, size = tf.constant(node["kernel"]), inputs[0].shape[1:3]
    outputs = tf.nn.conv2d(
        *_padded(node, inputs[0], size, node["kernel"].shape[:2], node["dilation"], kernel),
        dilations=node["dilation"],
    )
    return _bias_and_relu(node, outputs)


def _padded(node: Node, image: Any, size: Any, kernel_size: Any, dilation: Any, kernel: Any) -> tuple:
    """Arguments of a convolution: TensorFlow's own padding where it is the same, else zeros around the image."""
    import tensorflow as tf

    from keras_condense.tflite.frontend import explicit_padding

    strides, padding = node["strides"], node["padding"]
    for name in ("valid", "same"):
        sizes = zip(size, kernel_size, strides, dilation, strict=True)
        if padding == tuple(explicit_padding(*axis, name) for axis in sizes):
            return image, kernel, strides, name.upper()
    return tf.pad(image, [(0, 0), *padding, (0, 0)]), kernel, strides, "VALID"


def _depthwise(node: Node, inputs: list) -> Any:
    import tensorflow as tf

    kernel = node["kernel"] if node["kernel"].ndim == 4 else node["kernel"][..., None]
    image, filters, strides, padding = _padded(
        node, inputs[0], inputs[0].shape[1:3], kernel.shape[:2], (1, 1), tf.constant(kernel)
    )
    outputs = tf.nn.depthwise_conv2d(image, filters, [1, *strides, 1], padding)
    return _bias_and_relu(node, outputs)


def _affine(node: Node, inputs: list) -> Any:
    import tensorflow as tf

    outputs = inputs[0] * tf.constant(node["scale"]) + tf.constant(node["shift"])
    return tf.nn.relu(outputs) if node["relu"] else outputs


def _relu(node: Node, inputs: list) -> Any:
    import tensorflow as tf

    return tf.nn.relu(inputs[0])


def _hard_swish(node: Node, inputs: list) -> Any:
    import tensorflow as tf

    # in the order in which the converter knows it again
    return inputs[0] * tf.nn.relu6(inputs[0] + 3.0) * (1.0 / 6.0)


def _index(node: Node, inputs: list) -> Any:
    import tensorflow as tf

    indices = node["indices"]
    groups = shuffle_groups(indices, inputs[0].shape[-1])
    if groups is None:
        return tf.gather(inputs[0], tf.constant(indices, "int32"), axis=-1)
    shape = inputs[0].shape
    grouped = tf.reshape(inputs[0], [*shape[:-1], groups, shape[-1] // groups])
    rank = len(shape)
    return tf.reshape(tf.transpose(grouped, [*range(rank - 1), rank, rank - 1]), shape)


def shuffle_groups(indices: Any, channels: int) -> int | None:
    """G if the indices interleave G groups of all channels, as `ChannelShuffle` does, else None."""
    import numpy as np

    count = len(indices)
    step = int(indices[1]) if count > 1 else 0
    if count != channels or step < 1 or count % step:
        return None
    groups = count // step
    return groups if np.array_equal(indices, np.arange(count).reshape(groups, -1).T.ravel()) else None


def _concatenate(node: Node, inputs: list) -> Any:
    import tensorflow as tf

    return tf.concat(inputs, axis=node.get("axis", -1))


def _add(node: Node, inputs: list) -> Any:
    import tensorflow as tf

    total = inputs[0]
    for other in inputs[1:]:
        total = total + other
    return tf.nn.relu(total) if node.get("relu") else total


def _average_pool(node: Node, inputs: list) -> Any:
    import tensorflow as tf

    return tf.nn.avg_pool2d(inputs[0], node["size"], node["size"], "VALID")


def _mean(node: Node, inputs: list) -> Any:
    import tensorflow as tf

    return tf.reduce_mean(inputs[0], axis=[1, 2])


def _dense(node: Node, inputs: list) -> Any:
    import tensorflow as tf

    return _bias_and_relu(node, inputs[0] @ tf.constant(node["kernel"]))


def _layer(node: Node, inputs: list) -> Any:
    return node["call"](inputs)[node["position"]]


def _pad(node: Node, inputs: list) -> Any:
    import tensorflow as tf

    return tf.pad(inputs[0], [(0, 0), *node["padding"], (0, 0)])


def _reshape(node: Node, inputs: list) -> Any:
    import tensorflow as tf

    return tf.reshape(inputs[0], [1, *node.shape])


def _transpose(node: Node, inputs: list) -> Any:
    import tensorflow as tf

    return tf.transpose(inputs[0], node["order"])


def _gather(node: Node, inputs: list) -> Any:
    import tensorflow as tf

    return tf.gather(inputs[0], tf.constant(node["indices"], "int32"), axis=node["axis"])


def _slice(node: Node, inputs: list) -> Any:
    import tensorflow as tf

    return tf.slice(inputs[0], [0, *node["begin"]], [1, *node["size"]])


def _depth_to_space(node: Node, inputs: list) -> Any:
    import tensorflow as tf

    return tf.nn.depth_to_space(inputs[0], node["block"])


def _maximum(node: Node, inputs: list) -> Any:
    import tensorflow as tf

    return tf.maximum(inputs[0], tf.constant(node["limit"]))


def _minimum(node: Node, inputs: list) -> Any:
    import tensorflow as tf

    return tf.minimum(inputs[0], tf.constant(node["limit"]))


_EMITTERS: dict[str, Callable[[Node, list], Any]] = {
    "convolution": _convolution,
    "depthwise": _depthwise,
    "affine": _affine,
    "relu": _relu,
    "hard_swish": _hard_swish,
    "index": _index,
    "concatenate": _concatenate,
    "add": _add,
    "average_pool": _average_pool,
    "mean": _mean,
    "dense": _dense,
    "layer": _layer,
    "pad": _pad,
    "reshape": _reshape,
    "transpose": _transpose,
    "gather": _gather,
    "slice": _slice,
    "join": _concatenate,
    "depth_to_space": _depth_to_space,
    "maximum": _maximum,
    "minimum": _minimum,
}


def emit(graph: Graph, inputs: list) -> dict[str, Any]:
    """Compute a graph with TensorFlow; inside a `tf.function` that writes it down.

    Args:
        graph: the network.
        inputs: a tensor (1, ...) for each input node.

    Returns:
        The outputs by their names.
    """
    tensors = dict(zip((node.name for node in graph if node.op == "input"), inputs, strict=True))
    for node in graph:
        if node.op != "input":
            tensors[node.name] = _EMITTERS[node.op](node, [tensors[name] for name in node.inputs])
    return {name: tensors[source] for name, source in graph.outputs.items()}
