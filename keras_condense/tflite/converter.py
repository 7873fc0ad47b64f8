"""TensorFlow's converter: static graphs in, .tflite files out, errors in terms of Keras layers."""

import gc
import logging
import re
import tempfile
import warnings
from typing import Any

import keras
import numpy as np

from keras_condense.tflite.calibration import Rows
from keras_condense.tflite.graph import Graph, Node
from keras_condense.tflite.operators import Add, Convolution, Depthwise
from keras_condense.tflite.runtime import native_output_logged
from keras_condense.tflite.schemes import FLOAT32, Scheme
from keras_condense.tflite.tracing import trace_graph, trace_model

__all__ = ["convert_graph", "convert_model"]


def convert_graph(
    graph: Graph,
    model: keras.Model | None = None,
    scheme: Scheme = FLOAT32,
    rows: Rows | None = None,
    *,
    scoped: bool = False,
) -> bytes:
    """Convert a lowered network.

    Args:
        graph: the network.
        model: the model it was read from, whose layers errors name.
        scheme: what numbers the file holds.
        rows: to calibrate with, where the scheme needs them.
        scoped: whether the names of tensors tell which nodes they come from, by the nodes' numbers.

    Returns:
        The content of a .tflite file.
    """
    # stored sparse, the weights tell XNNPACK to look for a part to execute channels-first
    is_sparse = any(isinstance(node.op, (Convolution, Depthwise, Add)) and node.op.sparse for node in graph)
    if scheme.has_ranges:
        graph = graph.with_nodes(map(_with_unequal_biases, graph))
    return _convert(trace_graph(graph, scoped), model, scheme, rows, is_sparse and scheme.sparse)


def _with_unequal_biases(node: Node) -> Node:
    """The node with its last bias a bit larger if all are the same.

    The converter holds equal numbers as one, and rounds it by the first filter's scale: the others get a wrong bias.
    """
    bias = getattr(node.op, "bias", None)
    if bias is None or len(bias) < 2 or np.ptp(bias) > 0 or not bias[0]:
        return node
    return node.with_op(bias=np.append(bias[:-1], np.nextafter(bias[-1], np.float32(np.inf))))


def convert_model(model: keras.Model, scheme: Scheme = FLOAT32, rows: Rows | None = None) -> bytes:
    """Convert a model as it is; the arguments are those of `convert_graph`."""
    return _convert(trace_model(model), model, scheme, rows)


def _convert(module: Any, model: keras.Model | None, scheme: Scheme, rows: Rows | None, sparse: bool = False) -> bytes:
    import tensorflow as tf
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.python.convert_phase import ConverterError

    graph = module.serve.get_concrete_function()
    if held := [inner.name for outer, inner in graph.graph.captures if outer.dtype == tf.resource]:
        raise ValueError(
            f"`model` (={getattr(model, 'name', None)!r}) must hold its variables as weights of its layers, and "
            f"{len(held)} are none, or are tables ({', '.join(held[:3])}). Make them with `add_weight`, or look values "
            "up outside the model."
        )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph], module)
    converter.exclude_conversion_metadata = True
    scheme.configure(converter, tf, rows)
    if sparse:
        converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    python_log = logging.getLogger("absl")
    level = python_log.level
    python_log.setLevel(logging.ERROR)
    try:
        with native_output_logged(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it calibrates with TensorFlow's interpreter, which recommends LiteRT's
            content = converter.convert()
    except (ConverterError, RuntimeError) as error:
        if model is None:
            raise
        raise _reworded(error, model) from error
    finally:
        python_log.setLevel(level)
        gc.collect()  # the converter leaves many times the file's size behind in cycles
    if schema.Model.GetRootAs(content).SignatureDefsLength() != 1:
        # the converter writes the graph to a temporary folder, and where it can't, it silently goes on without names
        raise OSError(
            f"The temporary folder {tempfile.gettempdir()!r} must have room for the model, and TensorFlow could not "
            "write there. Free some space or set TMPDIR."
        )
    return content


def _reworded(error: Exception, model: keras.Model) -> ValueError:
    """The converter's error in terms of the model's layers."""
    operators: dict[str, str] = {}
    for data in getattr(error, "errors", []):
        if data.operator.name:
            scope = data.location.call[0].name if data.location.call else ""
            operators.setdefault(data.operator.name, scope)
    if not operators:
        return ValueError(
            f"`model` (={model.name!r}) must be convertible to TensorFlow Lite, and the converter refused it: "
            f"{str(error).strip().splitlines()[0]} Replace the layer concerned."
        )
    layers = {layer.name for layer in model._flatten_layers(include_self=False)}
    described = []
    for operator, scope in operators.items():
        # scopes repeat a layer's name with a number behind it when it is called a second time
        parts = [re.sub(r"_\d+$", "", part) if part not in layers else part for part in scope.split("/")[:-1]]
        owner = next((part for part in reversed(parts) if part in layers), scope or "an unknown layer")
        described.append(f"{operator} in layer {owner!r}")
    return ValueError(
        f"`model` (={model.name!r}) must be convertible to TensorFlow Lite, which has no {'; no '.join(described)}. "
        "Replace the layer, or leave this step out of the model and do it outside."
    )
