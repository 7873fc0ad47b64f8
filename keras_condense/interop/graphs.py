"""The graph of a model of either library in one form, with nested models opened."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import keras

from keras_condense.keras_graphs import functional_form, is_graph, nodes_in_order

__all__ = ["Call", "Graph", "Tensor", "Unexpressed", "graph_of_keras", "graph_of_tf_keras"]


class Unexpressed(Exception):
    """A layer has no counterpart in the other library; the text says why, as what follows its name in a sentence."""


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor of a graph, with its shape (the batch included) and dtype."""

    number: int
    shape: tuple[int | None, ...]
    dtype: str


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a layer or operation; tensors among its arguments are `Tensor`s.

    Attributes:
        layer: the layer or operation that is called.
        args: its arguments.
        kwargs: its keyword arguments, without those that are None and without `training`.
        outputs: what it gives, flattened.
        path: the layer's name, with those of the models that hold it before it.
        trainable: whether the models that hold it are trained.
    """

    layer: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: tuple[Tensor, ...]
    path: str
    trainable: bool


@dataclasses.dataclass(frozen=True)
class Graph:
    """A model: its name, its inputs and outputs as they are nested, and its calls in order.

    `inputs` holds pairs (the name of the input, `Tensor`); `problems` are nested models that can't be opened, and why.
    """

    name: str
    inputs: Any
    outputs: Any
    calls: tuple[Call, ...]
    problems: tuple[tuple[Any, str], ...]


@dataclasses.dataclass(frozen=True)
class _Library:
    """How the graphs of a library are read."""

    nodes: Callable[[Any], Iterable[tuple[Any, tuple, dict, list]]]  # layer, args, kwargs and outputs of each call
    is_model: Callable[[Any], bool]
    is_tensor: Callable[[Any], bool]
    functional: Callable[[Any], Any]  # what has `inputs` and `outputs` of the graph that `nodes` gives
    map_structure: Callable
    flatten: Callable[[Any], list]
    heeds_training: bool  # whether a `training` that was given in a call is heeded in `fit` and `predict`


class _Reader:
    def __init__(self, library: _Library):
        self.library = library
        self.calls: list[Call] = []
        self.problems: list[tuple[Any, str]] = []
        self._numbers = 0
        self._known: dict[int, Tensor] = {}

    def new(self, tensor: Any) -> Tensor:
        self._numbers += 1
        made = Tensor(self._numbers, tuple(tensor.shape), _dtype(tensor))
        self._known[id(tensor)] = made
        return made

    def known(self, nested: Any) -> Any:
        """The same arguments with `Tensor`s in them."""
        is_tensor = self.library.is_tensor
        return self.library.map_structure(lambda x: self._known[id(x)] if is_tensor(x) else x, nested)

    def walk(self, model: Any, path: str, trainable: bool) -> None:
        trainable = trainable and model.trainable
        for layer, args, kwargs, outputs in self.library.nodes(model):
            if kwargs.get("training") and self.library.heeds_training:
                self.problems.append((layer, "is called with `training=True`, which Keras 3 would not heed"))
            kwargs = {name: value for name, value in kwargs.items() if name != "training" and value is not None}
            if not args and len(kwargs) == 1:
                args, kwargs = tuple(kwargs.values()), {}
            args, kwargs = self.known(tuple(args)), self.known(kwargs)
            if self.library.is_model(layer):
                self._open(layer, args, kwargs, outputs, f"{path}{layer.name}/", trainable)
            else:
                made = tuple(self.new(tensor) for tensor in outputs)
                self.calls.append(Call(layer, args, kwargs, made, f"{path}{layer.name}", trainable))

    def _open(self, model: Any, args: tuple, kwargs: dict, outputs: list, path: str, trainable: bool) -> None:
        """Walk through a nested model, which may hold tensors of the outer graph: what it binds stays inside."""
        inner, given = self.library.functional(model), self.library.flatten(args)
        fits = len(args) == 1 and not kwargs and len(given) == len(inner.inputs)
        fits = fits and all(
            isinstance(g, Tensor) and len(g.shape) == len(e.shape) and g.dtype == _dtype(e)
            for g, e in zip(given, inner.inputs, strict=True)
        )
        if not fits:
            self.problems.append((model, "is called with other arguments than its inputs, which it would change first"))
            made = [Tensor(-1, tuple(tensor.shape), _dtype(tensor)) for tensor in outputs]
        else:
            outer, self._known = self._known, {}
            self._known.update({id(e): g for e, g in zip(inner.inputs, given, strict=True)})
            self.walk(model, path, trainable)
            made = [self.known(tensor) for tensor in inner.outputs]
            self._known = outer
        self._known.update({id(tensor): known for tensor, known in zip(outputs, made, strict=True)})

    def read(self, model: Any, inputs: Any, outputs: Any) -> Graph:
        named = self.library.map_structure(lambda tensor: (_input_name(tensor), self.new(tensor)), inputs)
        self.walk(model, "", True)
        return Graph(model.name, named, self.known(outputs), tuple(self.calls), tuple(self.problems))


def _dtype(tensor: Any) -> str:
    return getattr(tensor.dtype, "name", None) or str(tensor.dtype)


def _input_name(tensor: Any) -> str:
    history = tensor._keras_history
    return (history.operation if hasattr(history, "operation") else history.layer).name


def graph_of_keras(model: keras.Model) -> Graph:
    """The graph of a functional or sequential Keras 3 model.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.ReLU(name="relu")])
        >>> [(call.path, call.outputs[0].shape) for call in graph_of_keras(model).calls]
        [('relu', (None, 3))]
    """

    def nodes(model):
        for node in nodes_in_order(model):
            yield node.operation, node.arguments.args, node.arguments.kwargs, node.outputs

    library = _Library(
        nodes,
        is_graph,
        lambda x: isinstance(x, keras.KerasTensor),
        functional_form,
        keras.tree.map_structure,
        keras.tree.flatten,
        heeds_training=False,
    )
    functional = functional_form(model)
    single = isinstance(model, keras.Sequential)  # whose functional form holds lists of one
    inputs, outputs = (functional.inputs[0], functional.outputs[0]) if single else (model.input, model.output)
    graph = _Reader(library).read(model, inputs, outputs)
    made_by = [tensor._keras_history.operation for tensor in functional.inputs]
    optional = [(layer, "is an optional input, which tf_keras has not") for layer in made_by if layer.optional]
    return dataclasses.replace(graph, problems=(*graph.problems, *optional))


def graph_of_tf_keras(model: Any) -> Graph:
    """The graph of a functional or built sequential tf_keras model."""
    import tensorflow as tf
    import tf_keras

    def nodes(model):
        for _, nodes in sorted(model._nodes_by_depth.items(), reverse=True):
            for node in nodes:
                if not isinstance(node.layer, tf_keras.layers.InputLayer):
                    yield node.layer, node.call_args, node.call_kwargs, tf.nest.flatten(node.outputs)

    library = _Library(
        nodes,
        lambda layer: isinstance(layer, tf_keras.Model) and hasattr(layer, "_nodes_by_depth"),
        lambda x: hasattr(x, "_keras_history"),
        lambda model: model,
        tf.nest.map_structure,
        tf.nest.flatten,
        heeds_training=True,
    )
    return _Reader(library).read(model, model._nested_inputs, model._nested_outputs)
