"""What the replicas of a model under `tf.distribute` hold apart: statistics of batch norms, and what layers add."""

import warnings

import keras
import numpy as np

from keras_condense.validation import listed

__all__ = ["LossesOfReplicas", "apart", "warn_of_replicas"]


def _replica() -> int | None:
    """The number of the replica that is computing; None without several."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    if not tf.distribute.has_strategy() or tf.distribute.in_cross_replica_context():
        return None
    number = tf.get_static_value(tf.distribute.get_replica_context().replica_id_in_sync_group)
    return None if number is None else int(number)  # one trace for all, as on TPUs, knows no number


class LossesOfReplicas:
    """Mixin of a layer that calls `add_loss`: each replica has the losses that it added itself.

    Keras keeps one list of them. The replicas of a `MirroredStrategy` are threads that take turns wherever they sum
    something, as in a synchronized batch norm: the second would clear what the first one has added before, whose
    share of the gradient is then missing, and count what it adds later.

    Example:
        >>> class Sum(LossesOfReplicas, keras.layers.Layer):
        ...     def call(self, inputs):
        ...         self.add_loss(keras.ops.sum(inputs))
        ...         return inputs
        >>> layer = Sum()
        >>> outputs = layer(np.ones((2, 3)))
        >>> [float(loss) for loss in layer.losses]
        [6.0]
    """

    @property
    def _losses(self) -> list:  # where Keras keeps them
        return self._losses_of.setdefault(_replica(), [])

    @_losses.setter
    def _losses(self, losses: list) -> None:
        self._losses_of = {_replica(): losses}


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
