"""A model's graph built anew with some of its layers replaced: what `condense` and `learn_groups` share."""

import contextlib
import inspect
import itertools
import tempfile
import types
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from keras_condense.keras_graphs import freeze_alone, functional_form, is_graph, run_through_graph
from keras_condense.recompiling import Replaced, compile_like

__all__ = [
    "NewNames",
    "Replacement",
    "check_rewritable",
    "check_untied",
    "copied",
    "is_made_like_its_base",
    "reachable_layers",
    "rewrite",
]

# What stands for a layer: layers in the order of their calls, and for each the weights it gets once it is built (None:
# those that it begins with).
Replacement = list[tuple[keras.layers.Layer, list[np.ndarray] | None]]


def check_rewritable(model: Any) -> None:
    """Raise ValueError unless `model` has a graph that `rewrite` can build anew.

    Example:
        >>> check_rewritable(keras.Sequential([keras.layers.Dense(2)], name="unbuilt"))
        Traceback (most recent call last):
        ...
        ValueError: `model` (='unbuilt', a Sequential) must be a functional or a built sequential model, ...
    """
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"`model` (={model!r}) must be a Keras model. "
            'Load one with `keras.models.load_model("model.keras")`, or build one from `keras_condense.applications`.'
        )
    if not is_graph(model):
        raise ValueError(
            f"`model` (={model.name!r}, a {type(model).__name__}) must be a functional or a built sequential model, "
            "whose graph can be rewritten. Build it with `keras.Model(inputs, outputs)`, give a Sequential its "
            "`keras.Input`, or give a Distiller's `.student`."
        )
    for part in _graphs(model):
        kind = type(part)
        if not kind.call.__module__.startswith("keras.") and not is_made_like_its_base(kind):
            raise ValueError(
                f"`model` (={model.name!r}) must compute what its graph says, and {part.name!r}, a {kind.__name__}, "
                "has a `call` of its own, which a model made anew from the graph would lose. Let its `__init__` take "
                "`inputs, outputs, name=None`, or put what `call` does into the graph."
            )


def _graphs(model: keras.Model) -> Iterator[keras.Model]:
    """A model and those nested in it."""
    yield model
    for layer in model.layers:
        if is_graph(layer):
            yield from _graphs(layer)


def is_made_like_its_base(kind: type) -> bool:
    """Whether a subclass of a functional or sequential model takes the arguments of its base, and can be made anew."""
    base = ["layers", "trainable", "name"] if issubclass(kind, keras.Sequential) else ["inputs", "outputs", "name"]
    made_by = inspect.unwrap(kind.__init__)  # Keras before 3.15 decorates its own
    return inspect.getfullargspec(made_by).args == ["self", *base]


def check_untied(model: keras.Model) -> None:
    """Raise ValueError for a layer inside two layers of the graph: each would get a copy, trained apart."""
    owners: dict[int, keras.layers.Layer] = {}
    for _, layer in reachable_layers(model):
        for part in layer._flatten_layers():
            if part.trainable_weights and (owner := owners.setdefault(id(part), layer)) is not layer:
                raise ValueError(
                    f"Layer {part.name!r} of `model` (={model.name!r}) must be in one place of its graph, and is in "
                    f"{owner.name!r} and in {layer.name!r}, which the new model would train apart. Call it itself "
                    "several times, or put it into a nested model."
                )


def reachable_layers(model: keras.Model, prefix: str = "") -> Iterator[tuple[str, keras.layers.Layer]]:
    """The layers that `rewrite` can replace: all but those inside layers that are no functional or sequential models.

    Args:
        model: a functional or built sequential model.
        prefix: what stands before every name.

    Yields:
        Each layer's name, with those of the models that hold it before it, and the layer. One that several models hold
        comes once for each.

    Example:
        >>> inner = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="dense")], name="inner")
        >>> model = keras.Sequential([keras.Input((3,)), inner, keras.layers.ReLU(name="relu")])
        >>> [name for name, layer in reachable_layers(model)]
        ['inner/dense', 'relu']
    """
    for layer in model.layers:
        if is_graph(layer):
            yield from reachable_layers(layer, f"{prefix}{layer.name}/")
        else:
            yield f"{prefix}{layer.name}", layer


class NewNames:
    """Names for the layers that a rewriting adds to a model: none that it has, nor a model that it holds.

    Every name that is made up comes from here.

    Example:
        >>> layers = [keras.layers.ReLU(name=name) for name in ("conv", "conv_index")]
        >>> names = NewNames(keras.Sequential([keras.Input((3,)), *layers]))
        >>> names.new("conv_shuffle"), names.new("conv_index"), names.new("conv_index")
        ('conv_shuffle', 'conv_index_1', 'conv_index_2')
    """

    def __init__(self, model: keras.Model):
        # operations such as `x + y` have names too, which Keras keeps apart from those of layers
        operations = (operation for part in _graphs(model) for operation in functional_form(part).operations)
        self._taken = {operation.name for operation in operations}

    def new(self, wanted: str) -> str:
        """`wanted`, or a number behind it if that is taken; it is taken from now on."""
        candidates = itertools.chain([wanted], (f"{wanted}_{number}" for number in itertools.count(1)))
        name = next(name for name in candidates if name not in self._taken)
        self._taken.add(name)
        return name


def rewrite(
    model: keras.Model,
    replace: Callable[[keras.layers.Layer], Replacement | None],
    *,
    compile: bool = True,
    policy: str | None = None,
) -> keras.Model:
    """A new model with other layers in the place of some; the remaining ones are copied with their weights.

    A layer or nested model that is called several times is replaced or copied once, and stays shared.

    Args:
        model: a functional or built sequential model, nested models included; it is left as it is.
        replace: gives what stands for a layer, or None for a copy of it.
        compile: False leaves the new model uncompiled.
        policy: the dtype policy of the new models, which a sequential one casts its inputs by; None for the old ones'.

    Returns:
        The new model, of the same name, inputs and structure of outputs, compiled as `model` is, with a fresh
        optimizer. A subclass of `keras.Model` whose `__init__` takes inputs and outputs stays one; one of other
        arguments becomes a plain functional model.

    Raises:
        ValueError: a layer that can't be copied, for its configuration does not say what it is.

    Example:
        >>> relu, scores = keras.layers.ReLU(name="relu"), keras.layers.Softmax(name="scores")
        >>> def without_relu(layer):
        ...     return [(keras.layers.Identity(name="same"), None)] if layer is relu else None
        >>> new = rewrite(keras.Sequential([keras.Input((3,)), relu, scores]), without_relu)
        >>> [layer.name for layer in new.layers]
        ['same', 'scores']
    """
    rewriting = _Rewriting(replace, policy)
    rewritten = rewriting.model(model)
    for layer, weights in rewriting.weights:
        layer.set_weights(weights)
        for part in layer._flatten_layers():
            if isinstance(part, keras.layers.Normalization):
                part.finalize_state()  # what it computes with is derived from its weights
    for new, old in rewriting.compiled if compile else ():
        compile_like(new, old, rewriting.replaced)
    return rewritten


class _Rewriting:
    """Builds models anew, and notes what is to be done once all layers are built."""

    def __init__(self, replace: Callable[[keras.layers.Layer], Replacement | None], policy: str | None):
        self.weights: list[tuple[keras.layers.Layer, list[np.ndarray]]] = []
        self.compiled: list[tuple[keras.Model, keras.Model]] = []
        self._replace, self._policy = replace, policy
        self.replaced: Replaced = []
        self._done: dict[int, list[Any]] = {}

    def layers(self, operation: Any) -> list[Any]:
        """What stands for a layer, or for an operation such as `x + y`."""
        if id(operation) not in self._done:  # a layer that is called several times stays one layer
            self._done[id(operation)] = self._new_layers(operation)
        return self._done[id(operation)]

    def _new_layers(self, operation: Any) -> list[Any]:
        if is_graph(operation):
            return [self.model(operation)]
        if not isinstance(operation, keras.layers.Layer):
            return [copied(operation)]
        replacement = self._replace(operation)
        if replacement is None:
            replacement = [(copied(operation), operation.get_weights())]
        self.weights += [(layer, weights) for layer, weights in replacement if weights is not None]
        self.replaced.append((operation, [layer for layer, _ in replacement]))
        return [layer for layer, _ in replacement]

    def model(self, model: keras.Model) -> keras.Model:
        with _global_policy(self._policy or model.dtype_policy):  # whatever it is now: models have no argument for it
            return self._model(model)

    def _model(self, model: keras.Model) -> keras.Model:
        sequential = isinstance(model, keras.Sequential)
        given = model.inputs[0] if sequential else model.input
        inputs = keras.tree.map_structure(lambda tensor: copied(tensor._keras_history.operation).output, given)
        kind = type(model)  # a subclass, with a training step of its own, stays one
        if sequential:
            kind = kind if is_made_like_its_base(kind) else keras.Sequential
            new = kind([inputs, *(layer for old in model.layers for layer in self.layers(old))], name=model.name)
        else:
            kind = kind if is_made_like_its_base(kind) else keras.Model
            outputs = run_through_graph(model, inputs, self.layers, _call_in_turn)
            new = kind(inputs, outputs, name=model.name)
        if not model.trainable:
            freeze_alone(new)
        if model.compiled:
            self.compiled.append((new, model))
        return new


@contextlib.contextmanager
def _global_policy(policy: Any) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _call_in_turn(layers: list[Any], *args, **kwargs) -> Any:
    outputs = layers[0](*args, **kwargs)
    for layer in layers[1:]:
        outputs = layer(outputs)
    return outputs


def copied(operation: Any, config: dict[str, Any] | None = None, kind: type | None = None) -> Any:
    """A layer or operation made anew, without its weights: from its own configuration, or from another.

    Args:
        operation: the layer.
        config: in place of its own.
        kind: a class of the same arguments, in place of its own.

    Raises:
        ValueError: its class can't make one from it.
    """
    try:
        with keras.saving.custom_object_scope(_functions(operation)):
            made = (kind or type(operation)).from_config(operation.get_config() if config is None else config)
    except (NotImplementedError, TypeError, ValueError) as error:
        kind = type(operation).__name__
        raise ValueError(
            f"Layer {operation.name!r} of class {kind} must be one that `{kind}.from_config(layer.get_config())` can "
            "copy, and that fails. Let its `get_config` return all arguments of its `__init__`; if it holds a Python "
            "lambda, write a function, or call `keras.config.enable_unsafe_deserialization()`."
        ) from error
    if isinstance(operation, keras.layers.Layer):
        for old, new in zip(operation._flatten_layers(), made._flatten_layers(), strict=False):
            _hand_on(old, new)
    return made


def _hand_on(old: keras.layers.Layer, new: keras.layers.Layer) -> None:
    """Give a copied layer what its configuration does not have: functions, which it has by name, and vocabularies."""
    if isinstance(old, keras.layers.InputLayer):
        new.optional = old.optional  # which Keras before 3.13 leaves out
    arguments = inspect.signature(type(old).__init__).parameters  # other functions may belong to the old layer
    for name, value in vars(old).items():
        if isinstance(value, types.FunctionType) and name in arguments:
            setattr(new, name, value)
    if hasattr(old, "save_assets") and hasattr(new, "load_assets"):
        with tempfile.TemporaryDirectory() as folder:
            old.save_assets(folder)
            new.load_assets(folder)


def _functions(operation: Any) -> dict[str, Callable]:
    """The functions that a layer was given, by their names: Keras would ask for them to be registered."""
    parts = operation._flatten_layers() if isinstance(operation, keras.layers.Layer) else ()
    return {
        value.__name__: value
        for part in parts
        for value in vars(part).values()
        if isinstance(value, types.FunctionType)
    }
