"""A model, or a lowered network, as a static TensorFlow graph of batch 1."""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
from keras import ops

from keras_condense.tflite.calibration import Rows
from keras_condense.tflite.comparison import Outputs, stacked
from keras_condense.tflite.graph import Graph
from keras_condense.tflite.operators import KerasCall
from keras_condense.tflite.signature import inputs_of, output_names

__all__ = ["SCOPE", "emit", "graph_outputs", "trace_graph", "trace_model"]

SCOPE = "node"  # with a node's number behind it


def emit(graph: Graph, inputs: Sequence[Any], scoped: bool = False) -> dict[str, Any]:
    """Compute a graph with TensorFlow; inside a `tf.function` that traces it.

    Args:
        graph: the network.
        inputs: a tensor (1, ...) for each input node.
        scoped: whether TensorFlow's names of operations begin with the number of their node.

    Returns:
        The outputs by their names.
    """
    import tensorflow as tf

    tensors = dict(zip((node.name for node in graph.inputs), inputs, strict=True))
    for number, node in enumerate(graph):
        if node.name not in tensors:
            with tf.name_scope(f"{SCOPE}{number}") if scoped else contextlib.nullcontext():
                tensors[node.name] = node.op.emit(tf, [tensors[name] for name in node.inputs], node.shape)
    return {name: tensors[source] for name, source in graph.outputs.items()}


def _module(serve: Callable, names: list[str], shapes: list[tuple[int, ...]], dtypes: list[str]) -> Any:
    """A tf.Module with one function, `serve`, at batch 1."""
    import tensorflow as tf

    specs = [tf.TensorSpec((1, *shape), dtype, name) for name, shape, dtype in zip(names, shapes, dtypes, strict=True)]
    module = tf.Module()
    module.serve = tf.function(serve, input_signature=specs, autograph=False, jit_compile=False)
    return module


def _constant(variables: Iterable[keras.Variable]) -> Callable[[], keras.StatelessScope]:
    """A function that makes a scope in which variables are constants of the graph.

    There are then no variables to track or to freeze, which takes most of the time of a conversion otherwise, and none
    that the converter could leave out.
    """
    import tensorflow as tf

    values = [(variable, ops.convert_to_numpy(variable)) for variable in variables]
    return lambda: keras.StatelessScope(state_mapping=[(variable, tf.constant(value)) for variable, value in values])


def _variables(graph: Graph) -> list[keras.Variable]:
    """Those of layers that are called as Keras has them."""
    return [variable for node in graph if isinstance(node.op, KerasCall) for variable in node.op.variables]


def trace_model(model: keras.Model) -> Any:
    """A model in inference, layer by layer as Keras calls it.

    Returns:
        A `tf.Module` with one function, `serve`.
    """
    inputs, constants = inputs_of(model), _constant(model.variables)

    def serve(*tensors):
        with constants():
            outputs = model(keras.tree.pack_sequence_as(inputs.structure, list(tensors)), training=False)
        return dict(zip(output_names(model, outputs), keras.tree.flatten(outputs), strict=True))

    return _module(serve, inputs.names, inputs.shapes, inputs.dtypes)


def trace_graph(graph: Graph, scoped: bool = False) -> Any:
    """A lowered network, with the layers that are passed through; `scoped` as for `emit`.

    Returns:
        A `tf.Module` with one function, `serve`.
    """
    constants, inputs = _constant(_variables(graph)), graph.inputs

    def serve(*tensors):
        with constants():
            return emit(graph, tensors, scoped)

    names, shapes = [node.name for node in inputs], [node.shape for node in inputs]
    return _module(serve, names, shapes, [node.op.dtype for node in inputs])


def graph_outputs(graph: Graph, rows: Rows) -> Outputs:
    """What a lowered network computes in TensorFlow, in float32."""
    with _constant(_variables(graph))():
        parts = [emit(graph, [ops.convert_to_tensor(array) for array in row.values()]) for row in rows]
    return stacked([{name: ops.convert_to_numpy(tensor) for name, tensor in part.items()} for part in parts])
