"""A model made anew compiled as the old one is, with a fresh optimizer that treats the same weights alike."""

import types
from collections.abc import Iterator
from typing import Any

import keras

__all__ = ["Replaced", "compile_like"]

# the layers of the old model, and what stands for each in the new one
Replaced = list[tuple[keras.layers.Layer, list[keras.layers.Layer]]]


def compile_like(new: keras.Model, model: keras.Model, replaced: Replaced) -> None:
    """Compile `new` as `model` is.

    Args:
        new: the model made anew.
        model: the old one, compiled.
        replaced: the old model's layers and what stands for them.

    Raises:
        ValueError: an optimizer, a metric or a schedule that its configuration can't make anew.
    """
    _compile(new, model)
    if new.optimizer is not None:  # of a model that is only evaluated there is none
        for pair in _inner_optimizers(model.optimizer, new.optimizer):
            _exclude_from_weight_decay_like(*pair, replaced)
        new.optimizer.build(new.trainable_variables)


def _compile(new: keras.Model, model: keras.Model) -> None:
    """`compile_from_config` would ask for Python functions (a loss) to be registered."""

    def fresh(value):
        has_state = isinstance(value, (keras.optimizers.Optimizer, keras.metrics.Metric))
        if not has_state:
            return value
        kind = type(value).__name__
        known = {part.__name__: part for part in vars(value).values() if isinstance(part, types.FunctionType)}
        schedule = getattr(value, "_learning_rate", None)
        try:
            with keras.saving.custom_object_scope(known | {type(schedule).__name__: type(schedule)}):
                return type(value).from_config(value.get_config())
        except (NotImplementedError, TypeError, ValueError) as error:
            raise ValueError(
                f"`model` (={model.name!r}) is compiled with a {kind}, which must be one that "
                f"`{kind}.from_config(value.get_config())` can copy, and that fails ({error}). Let its `get_config`, "
                "and that of its schedule, return all arguments of their `__init__`, or compile with others."
            ) from error

    if type(model).compile is not keras.Model.compile:
        new.compile_from_config(model.get_compile_config())  # says that it can't
        return
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    new.compile(**keras.tree.map_structure(fresh, model._compile_config.config), auto_scale_loss=scaled)


def _inner_optimizers(old: Any, new: Any) -> Iterator[tuple[Any, Any]]:
    """An optimizer and the one made anew of it; or the pairs that they wrap, as `LossScaleOptimizer` does."""
    if hasattr(old, "inner_optimizer"):
        yield from _inner_optimizers(old.inner_optimizer, new.inner_optimizer)
    elif hasattr(old, "optimizers"):  # a MultiOptimizer
        for pair in zip(old.optimizers, new.optimizers, strict=True):
            yield from _inner_optimizers(*pair)
    else:
        yield old, new


def _exclude_from_weight_decay_like(old: Any, new: Any, replaced: Replaced) -> None:
    """Leave the weights out of weight decay that the old optimizer does; its configuration does not name them."""
    decays = getattr(old, "_use_weight_decay", lambda variable: True)
    excluded = []
    for layer, layers in replaced:
        before = [(variable.name, not decays(variable)) for variable in layer.trainable_variables]
        after = [variable for part in layers for variable in part.trainable_variables]
        if [variable.name for variable in after] == [name for name, _ in before]:
            excluded += [variable for variable, (_, out) in zip(after, before, strict=True) if out]
        else:  # layers in the place of one have its weights by their names
            excluded += [variable for variable in after if (variable.name, True) in before]
    if excluded:
        new.exclude_from_weight_decay(excluded)
