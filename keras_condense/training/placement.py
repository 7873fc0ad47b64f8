"""Which devices hold a model that is trained on several, and what it holds after that."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_condense.training.several import replicas_of
from keras_condense.validation import listed, shown

__all__ = ["on_devices", "values_given_back"]

_WAYS = {  # to train on several devices
    "jax": "Use 'auto' for all devices.",
    "tensorflow": "Build the model within `with tf.distribute.MirroredStrategy().scope():`.",
    "torch": "Train with a loop of your own: docs/guide/devices.md has one.",
}


@contextlib.contextmanager
def on_devices(model: keras.Model, distribution: str | keras.distribution.DataParallel | None) -> Iterator[None]:
    """Have a model on all devices that are to train it, within the block, and where it was after it.

    Where `keras.distribution` is set and says the same, the model stays there.

    Args:
        model: built anywhere.
        distribution: None for what `keras.distribution` says; "auto" for the same, or for all devices of all processes
            where nothing is said; or a `keras.distribution.DataParallel`.

    Raises:
        ValueError: another kind of distribution, devices that are not there, or several devices of a backend on which
            it must be said otherwise.
    """
    chosen = _chosen(model, distribution)
    if chosen is None:
        yield
        return
    before = keras.distribution.distribution()
    moved = [(variable, variable._layout) for variable in model.variables if not _is_on(chosen, variable)]
    try:
        keras.distribution.set_distribution(chosen)
        for variable, _ in moved:  # as it would have been made under the distribution
            variable._layout = _layout(chosen, variable)
            variable.assign(np.asarray(variable.value))
        yield
    finally:
        keras.distribution.set_distribution(before)
        if moved and chosen is not before:
            for variable, layout in [*moved, *((made, None) for made in _made_in_training(model))]:
                variable._layout = layout
                if variable._value is not None:  # as in a step that failed
                    variable.assign(np.asarray(variable.value))


def _layout(distribution: keras.distribution.DataParallel, variable: keras.Variable) -> Any:
    """How a distribution keeps a variable: whole, on each device."""
    return keras.distribution.TensorLayout([None] * len(variable.shape), distribution.device_mesh)


def _is_on(distribution: keras.distribution.DataParallel, variable: keras.Variable) -> bool:
    """Whether a variable lies on the devices of a distribution."""
    return variable.value.sharding.device_set == _layout(distribution, variable).backend_layout.device_set


def _made_in_training(model: keras.Model) -> list[keras.Variable]:
    """Those of the optimizer and the metrics, which a later `fit` or `evaluate` uses beside the model's."""
    optimizer = getattr(model, "optimizer", None)
    return [*(optimizer.variables if optimizer else ()), *model.metrics_variables]


def _chosen(model: keras.Model, distribution: Any) -> keras.distribution.DataParallel | None:
    """What is to be set, or None where nothing is."""
    backend, current = keras.backend.backend(), keras.distribution.distribution()
    if isinstance(distribution, keras.distribution.DataParallel) and backend == "jax":
        _check_devices(distribution)
        return distribution
    if distribution is not None and not (isinstance(distribution, str) and distribution == "auto"):
        others = " or a `keras.distribution.DataParallel`" if backend == "jax" else f", with {backend}"
        raise ValueError(f"`distribution` (={shown(distribution)}) must be None, 'auto'{others}. {_WAYS[backend]}")
    if backend == "jax" and current is not None:
        return current if isinstance(current, keras.distribution.DataParallel) else None
    if distribution is None:
        return None
    if backend == "jax":
        return None if len(keras.distribution.list_devices()) < 2 else keras.distribution.DataParallel()
    if backend == "torch":
        import torch

        devices = torch.cuda.device_count()
    else:
        import tensorflow as tf

        devices = len(tf.config.list_logical_devices("GPU")) / replicas_of(model)
    if devices > 1:
        raise ValueError(
            f"`distribution` (='auto') can't move a model to the {devices:g} devices there are on {backend}, as it can "
            f"on JAX. {_WAYS[backend]}"
        )
    return None


def _check_devices(distribution: keras.distribution.DataParallel) -> None:
    """Raise ValueError for devices that are not there, or that leave out some of another process."""
    import jax

    named, there = list(map(str, distribution.device_mesh.devices.ravel())), keras.distribution.list_devices()
    if missing := [name for name in named if name not in there]:
        raise ValueError(
            f"`distribution` must be of devices that JAX has, and {listed(missing)} are not among them: "
            f"{listed(there)}. Use 'auto' for all of them."
        )
    if jax.process_count() > 1 and set(named) != set(there):
        raise ValueError(
            f"`distribution` ({len(named)} devices) must be of all {len(there)} devices of the {jax.process_count()} "
            "processes. Use 'auto'."
        )


@contextlib.contextmanager
def values_given_back(model: keras.Model) -> Iterator[None]:
    """Have the variables of a model keep their values where its `fit` fails within a step, on JAX.

    There Keras holds them elsewhere during an epoch; it gives them back where a callback fails, but not a step.
    """
    if keras.backend.backend() != "jax":
        yield
        return
    held = [(variable, variable.value) for variable in (*model.variables, *_made_in_training(model))]
    try:
        yield
    except BaseException:
        with contextlib.suppress(RuntimeError):  # of values that the step has used up
            model.jax_state_sync()
        for variable, value in held:
            if variable._value is None and not value.is_deleted():
                variable.assign(value)
        raise
