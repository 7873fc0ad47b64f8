"""The optimizer of the paper's training, and what any optimizer remembers of a weight."""

from collections.abc import Iterator

import keras
from keras import ops

from keras_condense.validation import check_not_negative

__all__ = ["SGDWithL2", "memories_of"]


@keras.saving.register_keras_serializable("keras_condense")
class SGDWithL2(keras.optimizers.SGD):
    """Stochastic gradient descent whose weight decay is part of the gradient, as the paper's program has it.

    The gradient of every weight w becomes g + `l2` w before momentum is applied. The `weight_decay` of
    `keras.optimizers.SGD` shrinks the weights beside the momentum instead, and an L2 regularizer would change the
    loss that is reported. A weight that is zero and has no gradient, as a dropped connection, stays zero.

    Args:
        learning_rate: a number or a schedule.
        momentum: 0 for none.
        nesterov: whether the momentum is Nesterov's.
        l2: weight of the L2 term; 1e-4 in the paper.
        name: the optimizer's name.
        **kwargs: those of `keras.optimizers.Optimizer`.

    Raises:
        ValueError: `l2` not a finite number, or negative.

    Example:
        >>> weight = keras.Variable([2.0])
        >>> SGDWithL2(learning_rate=0.1, momentum=0.0, nesterov=False, l2=0.5).apply([keras.ops.zeros((1,))], [weight])
        >>> ops.convert_to_numpy(weight)
        array([1.9], dtype=float32)
    """

    def __init__(self, learning_rate=0.1, momentum=0.9, nesterov=True, l2=1e-4, name="sgd_with_l2", **kwargs):
        super().__init__(learning_rate, momentum=momentum, nesterov=nesterov, name=name, **kwargs)
        self.l2 = check_not_negative("l2", l2, "Use 1e-4 as the paper, or 0 for none.")

    def update_step(self, gradient, variable, learning_rate):
        gradient = ops.add(gradient, ops.multiply(ops.cast(self.l2, variable.dtype), variable))
        super().update_step(gradient, variable, learning_rate)

    def get_config(self):
        return super().get_config() | {"l2": self.l2}


def memories_of(optimizer: keras.optimizers.Optimizer | None, variable: keras.Variable) -> Iterator[keras.Variable]:
    """The variables that revive a weight which was set to zero unless they are too: momentum, averages, gradients.

    An optimizer keeps each kind of memory in a list as long as that of the variables it trains. Adagrad's and Ftrl's
    accumulators of squared gradients are left out: they only divide, and zero would divide by zero.

    Args:
        optimizer: any, also one that wraps others (`LossScaleOptimizer`, `MultiOptimizer`); one that is not built, or
            None, has none.
        variable: the weight.

    Yields:
        Variables of its shape; none for a weight that is not trained.

    Example:
        >>> weight = keras.Variable([2.0])
        >>> optimizer = SGDWithL2()
        >>> optimizer.build([weight])
        >>> [tuple(memory.shape) for memory in memories_of(optimizer, weight)]
        [(1,)]
    """
    if optimizer is None or not optimizer.built:
        return
    for inner in (getattr(optimizer, "inner_optimizer", None), *getattr(optimizer, "optimizers", ())):
        yield from memories_of(inner, variable)
    trained = optimizer._trainable_variables
    position = next((i for i, other in enumerate(trained) if other is variable), None)
    if position is None:
        return
    for name, memory in vars(optimizer).items():
        if name in ("_trainable_variables", "_accumulators") or not isinstance(memory, list):
            continue
        if len(memory) == len(trained) and getattr(memory[position], "shape", None) == variable.shape:
            yield memory[position]
