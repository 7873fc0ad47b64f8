"""What the replicas of a model under `tf.distribute` hold apart from each other: the statistics of batch norms."""

import warnings

import keras
import numpy as np

from keras_condense.validation import listed

__all__ = ["apart", "warn_of_replicas"]


def apart(model: keras.Model) -> list[str]:
    """The paths of the variables that differ from replica to replica; none without a strategy of several replicas.

    Example:
        >>> apart(keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization()]))
        []
    """
    strategy = getattr(model, "distribute_strategy", None)  # of TensorFlow's backend alone
    if strategy is None or strategy.num_replicas_in_sync < 2:
        return []

    def differs(variable) -> bool:
        first, *others = (copy.numpy() for copy in strategy.experimental_local_results(variable.value))
        return any(not np.array_equal(first, other) for other in others)

    return [variable.path for variable in model.non_trainable_weights if differs(variable)]


def warn_of_replicas(model: keras.Model) -> None:
    """Warn if a model under a strategy predicts something else than what is saved, condensed or exported of it."""
    paths = apart(model)
    if not paths:
        return
    warnings.warn(
        f"Variables of model {model.name!r} differ between its {model.distribute_strategy.num_replicas_in_sync} "
        f"replicas: {listed(paths)}. `predict` and `evaluate` compute with each replica's "
        "own; what is saved, condensed or exported has those of the first. Evaluate that, or call "
        "`model.set_weights(model.get_weights())`, which gives all replicas what the first one has. Batch norms with "
        "`synchronized=True` keep the same statistics everywhere.",
        stacklevel=3,
    )
