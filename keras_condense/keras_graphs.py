"""The graph inside a Keras model: all that is read here of what Keras keeps to itself."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras

__all__ = [
    "forget_losses",
    "freeze_alone",
    "functional_form",
    "is_graph",
    "nodes_in_order",
    "output_layer_names",
    "output_shapes",
    "run_through_graph",
    "standardized_inputs",
    "values_of",
]


def freeze_alone(model: keras.Model) -> None:
    """Set `trainable` of a model to False and leave that of its layers: assigning it would set theirs too.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> freeze_alone(model)
        >>> model.trainable_weights, model.layers[0].trainable
        ([], True)
    """
    model._trainable = False


def functional_form(model: keras.Model) -> keras.Model:
    """The functional model inside a sequential one that is built, any other model itself."""
    return getattr(model, "_functional", None) or model


def is_graph(model: Any) -> bool:
    """Whether something is a model with a graph of layers: functional, or sequential and built.

    A subclass of `keras.Model` that is made from inputs and outputs is functional too.

    Example:
        >>> is_graph(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]))
        True
        >>> is_graph(keras.Sequential([keras.layers.Dense(2)])), is_graph(keras.layers.Dense(2))
        (False, False)
    """
    return isinstance(model, keras.Model) and hasattr(functional_form(model), "_nodes_by_depth")


def output_layer_names(model: keras.Model) -> list[str]:
    """The name of the layer that makes each output, flattened; `output_names` keeps those of when it was built.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="a")])
        >>> model.layers[-1].name = "scores"
        >>> output_layer_names(model)
        ['scores']
    """
    return [tensor._keras_history.operation.name for tensor in functional_form(model).outputs]


def nodes_in_order(model: keras.Model) -> Iterator[Any]:
    """The calls of layers (Keras' nodes) in a model's graph, each after those that it needs; inputs are left out.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="a"), keras.layers.ReLU(name="b")])
        >>> [node.operation.name for node in nodes_in_order(model)]
        ['a', 'b']
    """
    for _, nodes in sorted(functional_form(model)._nodes_by_depth.items(), reverse=True):
        for node in nodes:
            if not isinstance(node.operation, keras.layers.InputLayer):
                yield node


def output_shapes(node: Any, input_shapes: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
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


def run_through_graph(model: keras.Model, inputs: Any, replace: Callable, call: Callable) -> Any:
    """Call a functional model's graph on `inputs` with other layers.

    Args:
        model: a functional model.
        inputs: tensors, nested as `model` is called with them.
        replace: gives what stands for a layer.
        call: calls what `replace` gave, with the arguments of the layer's call.

    Returns:
        The outputs, nested as the model's.
    """
    return model._run_through_graph(inputs, operation_fn=replace, call_fn=call)


def standardized_inputs(model: keras.Model, inputs: Any) -> list[Any]:
    """What a functional model is called with as the flat list of tensors that its graph begins with."""
    return model._standardize_inputs(inputs)


def values_of(variables: Iterable[keras.Variable]) -> list[Any]:
    """Values of variables in their own dtype, also inside a layer of mixed precision, where they read as half."""
    from keras.src.backend.common.variables import AutocastScope

    with AutocastScope(None):
        return [variable.value for variable in variables]


def forget_losses(layers: Iterable[keras.layers.Layer], losses: Iterable[Any]) -> None:
    """Let layers no longer own losses that they added in a scope which is left.

    A layer knows its losses by their ids, which may be those of other layers' losses once these tensors are gone.
    """
    for layer in layers:
        layer._loss_ids.difference_update(map(id, losses))
