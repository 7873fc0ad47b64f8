"""What a network costs: parameters and multiply-adds, one row per layer."""

import dataclasses
import inspect
import logging
import math
from collections.abc import Iterator

import keras

from keras_condense.keras_graphs import functional_form, is_graph, nodes_in_order, output_shapes, student_of
from keras_condense.layers import LearnedConnections
from keras_condense.multiply_adds import Shape, connections, multiply_adds
from keras_condense.text_tables import render

__all__ = ["LayerProfile", "ModelProfile", "profile_model"]

logger = logging.getLogger(__name__)

_POOLING = (
    keras.layers.AveragePooling1D,
    keras.layers.AveragePooling2D,
    keras.layers.AveragePooling3D,
    keras.layers.MaxPooling1D,
    keras.layers.MaxPooling2D,
    keras.layers.MaxPooling3D,
)
_GLOBAL_POOLING = (
    keras.layers.GlobalAveragePooling1D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalAveragePooling3D,
    keras.layers.GlobalMaxPooling1D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.GlobalMaxPooling3D,
)
# operations per output
_ACTIVATIONS = {"relu": 1, "relu6": 1, "hard_silu": 1, "sigmoid": 2}


@dataclasses.dataclass(frozen=True)
class LayerProfile:
    """The cost of one call of one layer, for one image.

    Attributes:
        name: the layer's name, with those of the models that hold it before it.
        kind: the layer's class.
        output_shape: without the batch.
        parameters: trainable weights, dropped connections left out; each weight counts where it is used first.
        macs: multiply-adds of a convolution, dense, recurrent or attention layer.
        operations: multiply-adds, plus one per ReLU output and so on, by the counting rule of the CondenseNet authors'
            program (see `profile_model`). `flops` is its former name.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    macs: int
    operations: int

    @property
    def flops(self) -> int:
        """The former name of `operations`."""
        return self.operations


@dataclasses.dataclass(frozen=True)
class ModelProfile:
    """The cost of a model for one image; `print` it for a table.

    Attributes:
        name: the model's name.
        layers: a row for each call of a layer.
    """

    name: str
    layers: tuple[LayerProfile, ...]

    @property
    def parameters(self) -> int:
        """Trainable weights, dropped connections left out."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-adds of convolutions, dense, recurrent and attention layers."""
        return sum(layer.macs for layer in self.layers)

    @property
    def operations(self) -> int:
        """Multiply-adds and what else the CondenseNet authors' program counts (see `profile_model`)."""
        return sum(layer.operations for layer in self.layers)

    @property
    def flops(self) -> int:
        """The former name of `operations`."""
        return self.operations

    def __str__(self) -> str:
        from rich.table import Table

        table = Table(title=self.name, title_justify="left", show_footer=True)
        table.add_column("layer", footer="total", overflow="fold")
        table.add_column("kind")
        table.add_column("output")
        for title in ("parameters", "macs", "operations"):
            table.add_column(title, footer=f"{getattr(self, title):,}", justify="right")
        for layer in self.layers:
            shape = " x ".join(map(str, layer.output_shape))
            table.add_row(
                layer.name, layer.kind, shape, f"{layer.parameters:,}", f"{layer.macs:,}", f"{layer.operations:,}"
            )
        return render(table, width=120)


def profile_model(model: keras.Model) -> ModelProfile:
    """Count a network's parameters and multiply-adds for one image.

    `macs` are the multiply-adds of convolutions, dense, recurrent and attention layers. `operations` follow the
    counting rule of the CondenseNet authors' program and of their tables: the same, and one for each bias added by a
    dense layer, each ReLU output and each pooled input element; as the CondenseNetV2 paper adds, one for each
    hard-swish output and two for each sigmoid output; batch norm costs nothing. A masked layer counts what its mask
    leaves, so a network that has reached its last stage counts as its condensed form. What a layer of your own does
    with its matrices can't be known: it counts as 0, and a warning names it.

    Args:
        model: a functional or built sequential model whose inputs have known sizes. Of a Distiller the student is
            counted.

    Returns:
        A `ModelProfile`, with a readable `str`.

    Raises:
        ValueError: a model that has no graph, or sizes that are not known.

    Example:
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="conv")])
        >>> profile = profile_model(model)
        >>> profile.parameters, profile.macs, profile.layers[0].output_shape
        (112, 3888, (6, 6, 4))
    """
    model = student_of(model)
    if not is_graph(model):
        raise ValueError(
            f"`model` (={getattr(model, 'name', model)!r}) must be a functional or built sequential Keras model, "
            "whose graph can be counted. Build it with `keras.Model(inputs, outputs)`, or give a Sequential its "
            "`keras.Input`."
        )
    shapes = [tuple(tensor.shape[1:]) for tensor in functional_form(model).inputs]
    return ModelProfile(model.name, tuple(_rows(model, shapes)))


def _rows(model, shapes: list[Shape], prefix: str = "", seen: set[int] | None = None) -> Iterator[LayerProfile]:
    """A row for each call of a layer in a model that is called with inputs of `shapes`; `seen` holds ids of weights."""
    graph, seen = functional_form(model), set() if seen is None else seen
    known = dict(zip(map(id, graph.inputs), shapes, strict=True))
    for node in nodes_in_order(model):
        layer, name = node.operation, f"{prefix}{node.operation.name}"
        inputs = [known[id(tensor)] for tensor in node.input_tensors]
        outputs = output_shapes(node, inputs)
        known |= zip(map(id, node.outputs), outputs, strict=True)
        if any(size is None for shape in inputs + outputs for size in shape):
            raise ValueError(
                f"Layer {name!r} gives an output of shape {outputs[0]}, and counting needs every size. "
                "Build the model with a full `input_shape`, for instance (224, 224, 3)."
            )
        if is_graph(layer):
            yield from _rows(layer, inputs, f"{name}/", seen)
            continue
        macs, operations = _operations(layer, _as_called(node, inputs), outputs)
        yield LayerProfile(name, type(layer).__name__, outputs[0], _parameters(layer, seen), macs, operations)


def _as_called(node, shapes: list[Shape]) -> list[Shape]:
    """The inputs' shapes in the order of the arguments of the layer's `call`; Keras sorts those given by name."""
    places = dict(zip(map(id, node.input_tensors), shapes, strict=True))
    try:
        bound = inspect.signature(node.operation.call).bind(*node.arguments.args, **node.arguments.kwargs)
    except TypeError:
        return shapes
    given = keras.tree.flatten(
        [bound.arguments[name] for name in bound.signature.parameters if name in bound.arguments]
    )
    return [places[id(argument)] for argument in given if id(argument) in places]


def _parameters(layer, seen: set[int]) -> int:
    """Trainable weights that were not seen before, dropped connections left out."""
    new = [weight for weight in getattr(layer, "trainable_weights", ()) if id(weight) not in seen]
    count = sum(math.prod(weight.shape) for weight in new)
    parts = layer._flatten_layers() if isinstance(layer, keras.layers.Layer) else ()
    for part in parts:  # a learned layer may lie in another one
        if isinstance(part, LearnedConnections) and any(part.kernel is weight for weight in new):
            count += connections(part) - math.prod(part.kernel.shape)
    seen |= set(map(id, new))
    return count


def _operations(layer, inputs, outputs) -> tuple[int, int]:
    """Multiply-adds, and operations by the paper's rule, of one call."""
    if isinstance(layer, keras.layers.TimeDistributed):
        steps = inputs[0][0]
        macs, operations = _operations(layer.layer, [inputs[0][1:]], [outputs[0][1:]])
        return steps * macs, steps * operations
    if isinstance(layer, keras.layers.Bidirectional):
        ways = [_operations(way, inputs, outputs) for way in (layer.forward_layer, layer.backward_layer)]
        return tuple(map(sum, zip(*ways, strict=True)))
    if isinstance(layer, keras.layers.SpectralNormalization):
        return _operations(layer.layer, inputs, outputs)
    if is_graph(layer):
        rows = list(_rows(layer, inputs))
        return sum(row.macs for row in rows), sum(row.operations for row in rows)
    output = math.prod(outputs[0])
    macs = multiply_adds(layer, inputs, outputs)
    if macs is None:
        kind = type(layer).__name__
        logger.warning("Layer %r (%s) counts as 0 multiply-adds: what it does is not known.", layer.name, kind)
        macs = 0
    extra = 0
    if isinstance(layer, _GLOBAL_POOLING):
        extra = math.prod(inputs[0])
    elif isinstance(layer, _POOLING):
        extra = output * math.prod(layer.pool_size)
    if isinstance(layer, keras.layers.Dense) or (isinstance(layer, LearnedConnections) and layer.kernel.ndim == 2):
        extra += output if layer.use_bias else 0
    activation = getattr(getattr(layer, "activation", None), "__name__", None)
    if isinstance(layer, keras.layers.ReLU):
        activation = "relu"
    extra += output * _ACTIVATIONS.get(activation, 0)
    return macs, macs + extra
