"""A model of one library made from the graph of a model of the other."""

import itertools
import re
from collections.abc import Callable, Iterable
from typing import Any

import keras

from keras_condense import layers
from keras_condense.interop.graphs import Call, Graph, Tensor, Unexpressed
from keras_condense.interop.layer_pairs import ACTIVATIONS, keras_plan, tf_keras_plan
from keras_condense.interop.operations import plan_of_operation, plan_of_tf_operation
from keras_condense.interop.plans import Function, Part, Plan
from keras_condense.validation import listed

__all__ = ["built_in_keras", "built_in_tf_keras", "reasons"]

_TF_NAME = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*")  # TensorFlow's names of scopes


def _planned(
    graph: Graph, plan_of: Callable[[Call], tuple[Plan, Any]], expected: str
) -> list[tuple[Call, Plan | None, Any]]:
    """A plan for each call (None where the layer has one already) and what it is called with, or ValueError for all."""
    problems = {id(layer): (layer, reason) for layer, reason in graph.problems}
    planned, known = [], set()
    for call in graph.calls:
        try:
            plan, inputs = plan_of(call)
        except Unexpressed as problem:
            problems.setdefault(id(call.layer), (call.layer, str(problem)))
            continue
        planned.append((call, None if id(call.layer) in known else plan, inputs))
        known.add(id(call.layer))
    if problems:
        raise ValueError(
            f"`model` (={graph.name!r}) must be of layers that {expected} can express. {reasons(problems.values())}. "
            "Replace them, or hand over the part of the model without them."
        )
    return planned


def reasons(problems: Iterable[tuple[Any, str]]) -> str:
    """Layers with what is wrong with them, as a message shows them: those of one class and problem together.

    Example:
        >>> reasons([(keras.layers.ReLU(name=name), "is not known") for name in "ab"])
        "'a', 'b' (ReLU): is not known"
    """
    names: dict[tuple[str, str], list[str]] = {}
    for layer, reason in problems:
        names.setdefault((type(layer).__name__, reason), []).append(layer.name)
    return "; ".join(f"{listed(each)} ({kind}): {reason}" for (kind, reason), each in names.items())


def _names(graph: Graph, is_layer: Callable[[Any], bool]) -> dict[int, str]:
    """A name for each layer and operation: its own, with those of the models around it where it would stand twice."""
    taken = {name for name, _ in _pairs(graph.inputs)}
    names: dict[int, str] = {}
    for call in sorted(graph.calls, key=lambda call: not is_layer(call.layer)):  # layers keep their names
        if id(call.layer) not in names:
            wanted = [call.layer.name, call.path.replace("/", "_")]
            candidates = itertools.chain(wanted, (f"{wanted[-1]}_{number}" for number in itertools.count(1)))
            names[id(call.layer)] = next(name for name in candidates if name not in taken)
            taken.add(names[id(call.layer)])
    return names


def _is_pair(x: Any) -> bool:
    return isinstance(x, tuple) and len(x) == 2 and isinstance(x[1], Tensor)


def _mapped(function: Callable[[Any], Any], nested: Any, is_leaf: Callable[[Any], bool]) -> Any:
    """`nested` with `function` of each leaf, in plain lists, tuples and dicts."""
    if is_leaf(nested):
        return function(nested)
    if isinstance(nested, dict):
        return {name: _mapped(function, value, is_leaf) for name, value in nested.items()}
    return type(nested)(_mapped(function, value, is_leaf) for value in nested)


def _pairs(inputs: Any) -> list[tuple[str, Tensor]]:
    found: list[tuple[str, Tensor]] = []
    _mapped(found.append, inputs, _is_pair)
    return found


def _built(
    graph: Graph,
    planned: list[tuple[Call, Plan | None, Any]],
    names: dict[int, str],
    new_input: Callable[[str, Tensor], Any],
    new_layer: Callable[[Plan, str, bool], Any],
    new_model: Callable[..., Any],
) -> Any:
    """The model: every layer is made at its first call, and gets its weights once all are called."""
    tensors: dict[int, Any] = {}

    def known(nested: Any) -> Any:
        return _mapped(lambda tensor: tensors[tensor.number], nested, lambda x: isinstance(x, Tensor))

    def make_input(pair: tuple[str, Tensor]) -> Any:
        tensors[pair[1].number] = new_input(*pair)
        return tensors[pair[1].number]

    inputs, made, weights = _mapped(make_input, graph.inputs, _is_pair), {}, []
    for call, plan, given in planned:
        if plan is not None:
            trainable = call.trainable and getattr(call.layer, "trainable", True)
            made[id(call.layer)] = new_layer(plan, names[id(call.layer)], trainable)
            if plan.weights:
                weights.append((made[id(call.layer)], plan.weights))
        given = given[0] if isinstance(given, list) and len(given) == 1 else given
        tensors[call.outputs[0].number] = made[id(call.layer)](known(given))
    model = new_model(inputs=inputs, outputs=known(graph.outputs), name=graph.name)
    for layer, values in weights:
        layer.set_weights(values)
    return model


def built_in_tf_keras(graph: Graph) -> Any:
    """The tf_keras model of a graph of Keras 3.

    Raises:
        ValueError: layers that have no counterpart, all of them.
    """
    import tf_keras

    from keras_condense.interop import tf_keras_layers

    def plan_of(call: Call) -> tuple[Plan, Any]:
        if not _TF_NAME.fullmatch(call.path.replace("/", "_")):
            raise Unexpressed("has a name that TensorFlow does not take; use letters, digits and `_`, no `_` first")
        if isinstance(call.layer, keras.layers.Layer):
            return tf_keras_plan(call, tf_keras.layers), call.args[0]
        return plan_of_operation(call)

    planned = _planned(graph, plan_of, "tf_keras")
    wrong = [name for name, _ in _pairs(graph.inputs) if not _TF_NAME.fullmatch(name)]
    if wrong:
        raise ValueError(
            f"The inputs of `model` (={graph.name!r}) must have names that TensorFlow takes, and {listed(wrong)} have "
            "not. Use letters, digits and `_`, no `_` first."
        )

    def function(name: str) -> Any:
        known = ACTIVATIONS[name]
        return getattr(tf_keras_layers, name) if known == "own" else getattr(tf_keras.activations, known)

    def new_layer(plan: Plan, name: str, trainable: bool) -> Any:
        config = _with_parts(plan.config, tf_keras, function)
        kind = getattr(tf_keras_layers, plan.kind, None) or getattr(tf_keras.layers, plan.kind)
        layer = kind(**config, name=name, trainable=trainable)
        if plan.kind in _UNKNOWN_TO_PRUNING:
            layer.get_prunable_weights = list  # as tensorflow-model-optimization asks layers that it does not know
        return layer

    def new_input(name: str, tensor: Tensor) -> Any:
        return tf_keras.Input(tensor.shape[1:], batch_size=tensor.shape[0], dtype=tensor.dtype, name=name)

    names = _names(graph, lambda layer: isinstance(layer, keras.layers.Layer))
    return _built(graph, planned, names, new_input, new_layer, tf_keras.Model)


# layers without kernels that `prune_low_magnitude` refuses by default
_UNKNOWN_TO_PRUNING = {
    "DepthwiseConv1D", "GroupNormalization", "Identity", "Minimum", "Normalization", "PReLU", "Rescaling", "Resizing",
    "UnitNormalization",
}  # fmt: skip


def built_in_keras(graph: Graph) -> keras.Model:
    """The Keras 3 model of a graph of tf_keras.

    Raises:
        ValueError: layers that have no counterpart, all of them.
    """

    def is_operation(layer: Any) -> bool:
        return type(layer).__name__ in ("TFOpLambda", "SlicingOpLambda", "ClassMethod", "InstanceMethod")

    def plan_of(call: Call) -> tuple[Plan, Any]:
        return plan_of_tf_operation(call) if is_operation(call.layer) else (keras_plan(call), call.args[0])

    planned = _planned(graph, plan_of, "Keras 3")

    def new_layer(plan: Plan, name: str, trainable: bool) -> Any:
        config = _with_parts(plan.config, keras, lambda activation: getattr(keras.activations, activation))
        is_ours = plan.kind in ("GroupConv2D", "ChannelIndex", "ChannelScatterAdd", "ChannelShuffle")
        layer = getattr(layers if is_ours else keras.layers, plan.kind)(**config, name=name)
        layer.trainable = trainable  # which not every layer takes as an argument
        return layer

    def new_input(name: str, tensor: Tensor) -> Any:
        return keras.Input(tensor.shape[1:], batch_size=tensor.shape[0], dtype=tensor.dtype, name=name)

    names = _names(graph, lambda layer: not is_operation(layer))
    return _built(graph, planned, names, new_input, new_layer, keras.Model)


def _with_parts(config: dict[str, Any], library: Any, function: Callable[[str], Any]) -> dict[str, Any]:
    """Arguments with the library's own activations, regularizers and constraints."""

    def actual(value: Any) -> Any:
        if isinstance(value, Function):
            return function(value.name)
        if isinstance(value, Part):
            return getattr(getattr(library, value.module), value.kind)(**value.config)
        return value

    return {name: actual(value) for name, value in config.items()}
