"""Keras models read into the intermediate form; layers that it has no operator for are passed through as they are."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_condense.keras_graphs import functional_form, is_graph, nodes_in_order
from keras_condense.layers import ChannelIndex, ChannelScatterAdd, ChannelShuffle, GroupConv2D
from keras_condense.tflite.graph import Graph, Node
from keras_condense.tflite.operators import (
    Add,
    Affine,
    AveragePool,
    ConcatenateChannels,
    Convolution,
    Dense,
    Depthwise,
    HardSwish,
    Input,
    KerasCall,
    Mean,
    Operator,
    Pad,
    PickChannels,
    Relu,
    Shape,
    explicit_padding,
    shuffled,
)

__all__ = ["is_readable", "read_model"]

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
_LINEAR = keras.activations.linear
_ACTIVATIONS: dict[Callable, type[Operator]] = {keras.activations.relu: Relu, keras.activations.hard_silu: HardSwish}


def is_readable(model: keras.Model) -> bool:
    """Whether a model computes what its graph says: functional, or sequential and built, with no `call` of its own."""
    has_own_call = not type(model).call.__module__.startswith("keras.")
    return is_graph(model) and not has_own_call


def _array(weight: Any) -> np.ndarray:
    return ops.convert_to_numpy(weight).astype("float32")


def _bias(layer: keras.layers.Layer) -> np.ndarray | None:
    return _array(layer.bias) if layer.use_bias else None


def _padding(layer: Any, shape: Shape) -> Any:
    return tuple(
        explicit_padding(*sizes, layer.padding)
        for sizes in zip(shape[:2], layer.kernel_size, layer.strides, layer.dilation_rate, strict=True)
    )


# --- an operator for each kind of layer ------------------------------------------------------------------------------
# Each gets the layer and the shape of the first of its inputs; None says that the layer has to be passed through.
def _read_convolution(layer: Any, shape: Shape) -> Operator | None:
    if layer.data_format != "channels_last" or layer.padding not in ("valid", "same"):
        return None
    return Convolution(
        _array(layer.kernel),
        _bias(layer),
        strides=tuple(layer.strides),
        padding=_padding(layer, shape),
        dilation=tuple(layer.dilation_rate),
        groups=layer.groups,
    )


def _read_depthwise(layer: Any, shape: Shape) -> Operator | None:
    plain = layer.depth_multiplier == 1 and tuple(layer.dilation_rate) == (1, 1)
    if layer.data_format != "channels_last" or not plain or layer.padding not in ("valid", "same"):
        return None
    kernel = _array(layer.kernel)[..., 0]
    return Depthwise(kernel, _bias(layer), strides=tuple(layer.strides), padding=_padding(layer, shape))


def _read_batch_norm(layer: Any, shape: Shape) -> Operator | None:
    if len(shape) != 3 or layer.axis not in (-1, 3):
        return None
    # in float64, since the quotient meets large and small variances
    scale = 1.0 / np.sqrt(_array(layer.moving_variance).astype("float64") + layer.epsilon)
    if layer.scale:
        scale *= _array(layer.gamma)
    shift = -_array(layer.moving_mean) * scale
    if layer.center:
        shift = shift + _array(layer.beta)
    return Affine(scale.astype("float32"), shift.astype("float32"))


def _read_index(layer: ChannelIndex, shape: Shape) -> Operator | None:
    return PickChannels(ops.convert_to_numpy(layer.indices).astype("int64"))


def _read_shuffle(layer: ChannelShuffle, shape: Shape) -> Operator | None:
    return PickChannels(shuffled(shape[-1], layer.groups))


def _read_scatter(layer: ChannelScatterAdd, shape: Shape) -> Operator | None:
    """A 1x1 convolution of zeros and ones, which a convolution before it can swallow."""
    if len(shape) != 3:
        return None
    targets = ops.convert_to_numpy(layer.indices)
    return Convolution(np.eye(layer.channels, dtype="float32")[targets][None, None])


def _read_pool(layer: Any, shape: Shape) -> Operator | None:
    size = tuple(layer.pool_size)
    if layer.data_format != "channels_last" or layer.padding != "valid" or tuple(layer.strides) != size:
        return None
    return AveragePool(size)


def _read_mean(layer: Any, shape: Shape) -> Operator | None:
    return None if layer.keepdims or layer.data_format != "channels_last" else Mean()


def _read_dense(layer: Any, shape: Shape) -> Operator | None:
    return Dense(_array(layer.kernel), _bias(layer)) if len(shape) == 1 else None


def _read_relu(layer: Any, shape: Shape) -> Operator | None:
    plain = layer.max_value is None and not np.any(layer.negative_slope) and not np.any(layer.threshold)
    return Relu() if plain else None


def _read_activation(layer: Any, shape: Shape) -> Operator | None:
    operator = _ACTIVATIONS.get(layer.activation)
    return None if operator is None else operator()


def _read_concatenation(layer: Any, shape: Shape) -> Operator | None:
    return ConcatenateChannels() if layer.axis in (-1, len(shape)) else None


def _read_addition(layer: Any, shape: Shape) -> Operator | None:
    return Add()


def _read_padding(layer: Any, shape: Shape) -> Operator | None:
    return Pad(tuple(map(tuple, layer.padding))) if layer.data_format == "channels_last" else None


_READERS: dict[type, Callable[[Any, Shape], Operator | None]] = {
    keras.layers.Conv2D: _read_convolution,
    GroupConv2D: _read_convolution,
    keras.layers.DepthwiseConv2D: _read_depthwise,
    keras.layers.BatchNormalization: _read_batch_norm,
    ChannelIndex: _read_index,
    ChannelScatterAdd: _read_scatter,
    ChannelShuffle: _read_shuffle,
    keras.layers.AveragePooling2D: _read_pool,
    keras.layers.GlobalAveragePooling2D: _read_mean,
    keras.layers.Dense: _read_dense,
    keras.layers.ReLU: _read_relu,
    keras.layers.Activation: _read_activation,
    keras.layers.Concatenate: _read_concatenation,
    keras.layers.Add: _read_addition,
    keras.layers.ZeroPadding2D: _read_padding,
}


def _is_plain(node: Any, shapes: list[Shape]) -> bool:
    """Whether a layer gets what the operators are for: float32 (only Keras casts), sizes known, no mask to hand on."""
    tensors = [*node.input_tensors, *node.outputs]
    is_float = all(keras.backend.standardize_dtype(tensor.dtype) == "float32" for tensor in tensors)
    is_masked = any(getattr(tensor, "_keras_mask", None) is not None for tensor in node.input_tensors)
    return is_float and not is_masked and not any(None in shape for shape in shapes)


def _read_layer(layer: Any, shapes: list[Shape]) -> Operator | None:
    """The operator of a layer that gets images or vectors of these shapes, or None if it has to be passed through."""
    # a subclass may compute anything: only the layers themselves, and our batch norm, which computes what Keras' does
    kind = type(layer)
    if kind.__module__.startswith("keras_condense.") and isinstance(layer, keras.layers.BatchNormalization):
        kind = keras.layers.BatchNormalization
    reader = _READERS.get(kind)
    is_quantized = getattr(layer, "quantization_mode", None) is not None
    broadcasts = kind is keras.layers.Add and len(set(shapes)) > 1
    return reader(layer, shapes[0]) if reader is not None and not is_quantized and not broadcasts else None


class _Reader:
    """Collects nodes while it walks a model, and knows which node made each Keras tensor."""

    def __init__(self):
        self.nodes: dict[str, Node] = {}
        self._made_by: dict[int, str] = {}

    def add(self, name: str, op: Operator, inputs: tuple[str, ...], shape: Shape, layer: str) -> str:
        number, unique = 1, name
        while unique in self.nodes:
            number += 1
            unique = f"{name}_{number}"
        self.nodes[unique] = Node(unique, op, inputs, tuple(shape), layer)
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
            if _can_enter(node):
                inner = functional_form(operation)
                for tensor, name in zip(inner.inputs, inputs, strict=True):
                    self.bind(tensor, name)
                self.walk(operation)
                for tensor, output in zip(node.outputs, inner.outputs, strict=True):
                    self.bind(tensor, self.name_of(output))
            elif type(operation) in _IDENTITIES:
                for tensor, name in zip(node.outputs, inputs, strict=True):
                    self.bind(tensor, name)
            else:
                self._read(node, operation, inputs)

    def _read(self, node: Any, operation: Any, inputs: tuple[str, ...]) -> None:
        input_shapes = [self.nodes[name].shape for name in inputs]
        shapes = _output_shapes(node, input_shapes)
        is_layer = isinstance(operation, keras.layers.Layer)
        read = _read_layer(operation, input_shapes) if is_layer and _is_plain(node, input_shapes) else None
        name = operation.name
        if read is None:
            variables = tuple(getattr(operation, "variables", ()))
            for position, (tensor, output_shape) in enumerate(zip(node.outputs, shapes, strict=True)):
                call = KerasCall(_caller(node), position, variables)
                self.bind(tensor, self.add(name, call, inputs, output_shape, name))
            return
        made = self.add(name, read, inputs, shapes[0], name)
        activation = getattr(operation, "activation", _LINEAR)
        if isinstance(read, (Convolution, Depthwise, Dense)) and activation is not _LINEAR:
            known = _ACTIVATIONS.get(activation)
            following = known() if known else KerasCall(_activate(activation))
            made = self.add(f"{name}_activation", following, (made,), shapes[0], name)
        self.bind(node.outputs[0], made)


def _can_enter(node: Any) -> bool:
    """Whether a node calls a model whose inputs are exactly what it gets, so that its layers can be read."""
    if not isinstance(node.operation, keras.Model) or not is_readable(node.operation):
        return False
    args = node.arguments.args
    others = {name: value for name, value in node.arguments.kwargs.items() if name != "training"}
    inner = functional_form(node.operation)
    expected, given = inner.inputs, keras.tree.flatten(args)
    same_structure = len(expected) == 1 or _structure(args) == _structure((inner.input,))
    # Keras casts and reshapes what does not fit, and hands masks on
    return (
        len(args) == 1
        and all(value is None for value in keras.tree.flatten(others))
        and len(expected) == len(given) == len(node.input_tensors)
        and same_structure
        and all(len(e.shape) == len(g.shape) and e.dtype == g.dtype for e, g in zip(expected, given, strict=True))
        and all(getattr(tensor, "_keras_mask", None) is None for tensor in given)
    )


def _structure(nested: Any) -> list:
    """The paths of the tensors in nested lists, tuples and dicts."""
    return [path for path, _ in keras.tree.flatten_with_path(nested)]


def _output_shapes(node: Any, input_shapes: list[Shape]) -> list[Shape]:
    """Shapes of a node's outputs without the batch, also inside a nested model that was built without sizes."""
    tensors = node.outputs
    if any(None in tensor.shape[1:] for tensor in tensors):
        known = {
            id(tensor): keras.KerasTensor((tensor.shape[0], *shape), dtype=tensor.dtype)
            for tensor, shape in zip(node.input_tensors, input_shapes, strict=True)
        }
        args, kwargs = node.arguments.fill_in(known)
        tensors = keras.tree.flatten(node.operation.compute_output_spec(*args, **kwargs))
    return [tuple(tensor.shape[1:]) for tensor in tensors]


def _activate(activation: Callable) -> Callable[[list], list]:
    return lambda tensors: [activation(tensors[0])]


def _caller(node: Any) -> Callable[[list], list]:
    """A function of tensors that calls a node's layer with the arguments it was called with in the model."""
    positions = {id(tensor): i for i, tensor in enumerate(node.input_tensors)}

    def call(tensors: list) -> list:
        def actual(argument: Any) -> Any:
            return tensors[positions[id(argument)]] if id(argument) in positions else argument

        args, kwargs = keras.tree.map_structure(actual, (node.arguments.args, node.arguments.kwargs))
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
        >>> inputs = keras.Input((8, 8, 4))
        >>> outputs = keras.layers.ReLU(name="relu")(ChannelShuffle(2, name="shuffle")(inputs))
        >>> [(node.name, node.op.kind) for node in read_model(keras.Model(inputs, outputs), ["image"], ["y"])]
        [('image', 'input'), ('shuffle', 'pick_channels'), ('relu', 'relu')]
    """
    functional, reader = functional_form(model), _Reader()
    for tensor, name in zip(functional.inputs, input_names, strict=True):
        dtype = keras.backend.standardize_dtype(tensor.dtype)
        reader.bind(tensor, reader.add(name, Input(dtype), (), tensor.shape[1:], name))
    reader.walk(model)
    outputs = [reader.name_of(tensor) for tensor in functional.outputs]
    nodes = tuple(reader.nodes.values())
    return Graph(nodes, dict(zip(output_names, outputs, strict=True))).with_nodes(nodes)
