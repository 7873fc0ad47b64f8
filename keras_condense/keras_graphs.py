"""The graph inside a Keras model: all that is read here of what Keras keeps to itself."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras

__all__ = [
    "call_arguments",
    "can_enter",
    "forget_losses",
    "freeze_alone",
    "functional_form",
    "is_graph",
    "is_readable",
    "last_operation",
    "nodes_in_order",
    "output_layer_names",
    "output_shapes",
    "run_through_graph",
    "standardized_inputs",
    "student_of",
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


def student_of(model: Any) -> Any:
    """The student of a `keras.distillation.Distiller`, whose other layers are its teacher's; anything else itself.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> student_of(model) is model
        True
    """
    return model.student if isinstance(model, keras.distillation.Distiller) else model


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


# in inference they return what they get, or the same vectors otherwise arranged
_HAND_ON = (keras.layers.Identity, keras.layers.Dropout, keras.layers.Flatten, keras.layers.Reshape)


def last_operation(model: keras.Model) -> Any | None:
    """The layer or operation that computes the one output of a model, nested models looked into; None if unknown.

    Layers that only hand their inputs on are passed over.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="a"), keras.layers.Dropout(0.5)])
        >>> last_operation(model).name
        'a'
    """
    (tensor,) = functional_form(model).outputs
    makers = {id(output): node for node in nodes_in_order(model) for output in node.outputs}
    while (node := makers.get(id(tensor))) is not None:
        operation = node.operation
        if is_graph(operation):
            return last_operation(operation) if len(node.outputs) == 1 else None
        is_linear = getattr(operation, "activation", None) is keras.activations.linear
        hands_on = (
            isinstance(operation, _HAND_ON)
            or getattr(operation, "hands_on", False)
            or (isinstance(operation, keras.layers.Activation) and is_linear)
        )
        if not hands_on or node.input_tensors[0].shape[-1] != tensor.shape[-1]:
            return operation
        (tensor,) = node.input_tensors
    return None


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


def is_readable(model: keras.Model) -> bool:
    """Whether a model computes what its graph says: functional, or sequential and built, with no `call` of its own.

    That of a `MemoryEfficientModel` is another way through the graph in training, and Keras' own in inference.
    """
    return is_graph(model) and type(model).call.__module__.split(".")[0] in ("keras", "keras_condense")


def can_enter(node: Any) -> bool:
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


def call_arguments(node: Any, tensors: list[Any]) -> tuple[Any, Any]:
    """What a node calls its layer with, other tensors in the place of those of the model.

    Args:
        node: a call in a model's graph.
        tensors: one for each of `node.input_tensors`.

    Returns:
        The positional arguments and those by name.
    """
    positions = {id(tensor): i for i, tensor in enumerate(node.input_tensors)}

    def actual(argument: Any) -> Any:
        return tensors[positions[id(argument)]] if id(argument) in positions else argument

    return keras.tree.map_structure(actual, (node.arguments.args, node.arguments.kwargs))
