"""Keras models read into the intermediate form; layers that it has no operator for are passed through as they are."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_condense.keras_graphs import (
    call_arguments,
    can_enter,
    functional_form,
    nodes_in_order,
    output_shapes,
)
from keras_condense.tflite.graph import Graph, Node
from keras_condense.tflite.layer_readers import LINEAR, read_activation, read_layer, read_operation
from keras_condense.tflite.operators import Convolution, Dense, Depthwise, Input, KerasCall, Operator, Shape

__all__ = ["read_model"]

# in inference they return what they get
_IDENTITIES = (
    keras.layers.Dropout,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.AlphaDropout,
    keras.layers.ActivityRegularization,
    keras.layers.Identity,
)


def _is_plain(node: Any, shapes: list[Shape], dtypes: list[str]) -> bool:
    """Whether a layer gets what the operators are for: float32 (only Keras casts), sizes known, no mask to hand on."""
    outputs = [keras.backend.standardize_dtype(tensor.dtype) for tensor in node.outputs]
    is_float = all(dtype == "float32" for dtype in [*dtypes, *outputs])
    is_masked = any(getattr(tensor, "_keras_mask", None) is not None for tensor in node.input_tensors)
    return is_float and not is_masked and not any(None in shape for shape in shapes)


class _Reader:
    """Collects nodes while it walks a model, and knows which node made each Keras tensor, and of which dtype it is."""

    def __init__(self):
        self.nodes: dict[str, Node] = {}
        self._made_by: dict[int, str] = {}
        self._dtypes: dict[str, str] = {}

    def add(
        self,
        name: str,
        op: Operator,
        inputs: tuple[str, ...],
        shape: Shape,
        layer: str,
        dtype: str = "float32",
    ) -> str:
        number, unique = 1, name
        while unique in self.nodes:
            number += 1
            unique = f"{name}_{number}"
        self.nodes[unique] = Node(unique, op, inputs, tuple(shape), layer)
        self._dtypes[unique] = dtype
        return unique

    def bind(self, tensor: Any, name: str) -> None:
        self._made_by[id(tensor)] = name

    def name_of(self, tensor: Any) -> str:
        return self._made_by[id(tensor)]

    def walk(self, model: keras.Model) -> None:
        """Read a model whose inputs are bound."""
        for node in nodes_in_order(model):
            operation = node.operation
            inputs = tuple(self.name_of(tensor) for tensor in node.input_tensors)
            if can_enter(node):
                made = self._enter(operation, inputs)
            elif type(operation) in _IDENTITIES and all(self._dtypes[name] == "float32" for name in inputs):
                made = inputs
            else:
                made = self._read(node, operation, inputs)
            for tensor, name in zip(node.outputs, made, strict=True):
                self.bind(tensor, name)

    def _enter(self, model: keras.Model, inputs: tuple[str, ...]) -> list[str]:
        """Read a nested model, which may hold tensors of the outer graph: what it binds stays inside."""
        inner = functional_form(model)
        outer, self._made_by = self._made_by, {}
        for tensor, name in zip(inner.inputs, inputs, strict=True):
            self.bind(tensor, name)
        self.walk(model)
        made = [self.name_of(tensor) for tensor in inner.outputs]
        self._made_by = outer
        return made

    def _read(self, node: Any, operation: Any, inputs: tuple[str, ...]) -> list[str]:
        input_shapes, dtypes = [self.nodes[name].shape for name in inputs], [self._dtypes[name] for name in inputs]
        shapes = output_shapes(node, input_shapes)
        read = None
        if _is_plain(node, input_shapes, dtypes):
            is_layer = isinstance(operation, keras.layers.Layer)
            read = read_layer(operation, input_shapes) if is_layer else read_operation(node, shapes[0])
        name = operation.name
        if read is None:
            variables = tuple(getattr(operation, "variables", ()))
            made_of = _output_dtypes(node, input_shapes, dtypes)
            return [
                self.add(name, KerasCall(_caller(node), position, variables), inputs, shape, name, dtype)
                for position, (shape, dtype) in enumerate(zip(shapes, made_of, strict=True))
            ]
        activation = getattr(operation, "activation", LINEAR)
        if isinstance(read[0], (Convolution, Depthwise, Dense)) and activation is not LINEAR:
            variables = tuple(getattr(activation, "variables", ()))
            passed_through = (KerasCall(_activate(activation), variables=variables),)
            read += read_activation(activation, shapes[0][-1]) or passed_through
        for number, op in enumerate(read):
            # a depthwise convolution that others follow has channels of its own
            shape = (*shapes[0][:-1], op.kernel.shape[-1]) if isinstance(op, Depthwise) else shapes[0]
            inputs = (self.add(f"{name}_activation" if number else name, op, inputs, shape, name),)
        return list(inputs)


def _output_dtypes(node: Any, input_shapes: list[Shape], dtypes: list[str]) -> list[str]:
    """Dtypes of a node's outputs; of inputs in others than float32 a layer may declare what it does not cast to."""
    if all(dtype == "float32" for dtype in dtypes) or not isinstance(node.operation, keras.layers.Layer):
        return [keras.backend.standardize_dtype(tensor.dtype) for tensor in node.outputs]
    zeros = [ops.zeros((1, *shape), dtype) for shape, dtype in zip(input_shapes, dtypes, strict=True)]
    with keras.StatelessScope():
        return [keras.backend.standardize_dtype(tensor.dtype) for tensor in _caller(node)(zeros)]


def _activate(activation: Callable) -> Callable[[list], list]:
    return lambda tensors: [activation(tensors[0])]


def _caller(node: Any) -> Callable[[list], list]:
    """A function of tensors that calls a node's layer with the arguments it was called with in the model."""

    def call(tensors: list) -> list:
        args, kwargs = call_arguments(node, tensors)
        if "training" in getattr(node.operation, "_call_context_args", ()):
            kwargs = {**kwargs, "training": False}  # whatever the model was built with, as Keras has it
        return keras.tree.flatten(node.operation(*args, **kwargs))

    return call


def read_model(model: keras.Model, input_names: list[str], output_names: list[str]) -> Graph:
    """Read a functional or sequential model into the intermediate form, as it computes in inference.

    Args:
        model: the model, with known sizes.
        input_names: a name for each of its inputs, flattened.
        output_names: a name for each of its outputs, flattened.

    Returns:
        The graph; its nodes carry the names of the Keras layers, which `Node.layer` says too.

    Example:
        >>> from keras_condense.layers import ChannelShuffle
        >>> inputs = keras.Input((8, 8, 4))
        >>> outputs = keras.layers.ReLU(name="relu")(ChannelShuffle(2, name="shuffle")(inputs))
        >>> [(node.name, node.op.kind) for node in read_model(keras.Model(inputs, outputs), ["image"], ["y"])]
        [('image', 'input'), ('shuffle', 'pick_channels'), ('relu', 'relu')]
    """
    functional, reader = functional_form(model), _Reader()
    for tensor, name in zip(functional.inputs, input_names, strict=True):
        dtype = keras.backend.standardize_dtype(tensor.dtype)
        reader.bind(tensor, reader.add(name, Input(dtype), (), tensor.shape[1:], name, dtype))
    reader.walk(model)
    outputs = [reader.name_of(tensor) for tensor in functional.outputs]
    nodes = tuple(reader.nodes.values())
    return Graph(nodes, dict(zip(output_names, outputs, strict=True))).with_nodes(nodes)
