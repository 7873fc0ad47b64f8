"""The optimizer of the paper's training, and what any optimizer remembers of a weight."""

import sys
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from keras_condense.validation import check_not_negative, shown

__all__ = ["SGDWithL2", "check_optimizer", "is_torch_optimizer", "memories_of"]


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


def is_torch_optimizer(optimizer: Any) -> bool:
    """Whether this is an optimizer of PyTorch, which a loop of one's own may have."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(optimizer, torch.optim.Optimizer)


def check_optimizer(optimizer: Any) -> Any:
    """Return `optimizer` if it is one of Keras or PyTorch, or None.

    Example:
        >>> check_optimizer("sgd")
        Traceback (most recent call last):
        ...
        ValueError: `optimizer` (='sgd') must be the optimizer of Keras or PyTorch that trains the model. Leave ...
    """
    if optimizer is None or isinstance(optimizer, keras.optimizers.Optimizer) or is_torch_optimizer(optimizer):
        return optimizer
    raise ValueError(
        f"`optimizer` (={shown(optimizer)}) must be the optimizer of Keras or PyTorch that trains the model. Leave it "
        "out where `fit` trains."
    )


def memories_of(optimizer: Any, variable: keras.Variable) -> Iterator[Any]:
    """The variables that revive a weight which was set to zero unless they are too: momentum, averages, gradients.

    An optimizer keeps each kind of memory in a list as long as that of the variables it trains. Adagrad's and Ftrl's
    accumulators of squared gradients are left out: they only divide, and zero would divide by zero.

    Args:
        optimizer: any of Keras, also one that wraps others (`LossScaleOptimizer`, `MultiOptimizer`), or of PyTorch; one
            that is not built, or None, has none.
        variable: the weight.

    Yields:
        Variables of its shape, of an optimizer of PyTorch tensors; none for a weight that is not trained.

    Example:
        >>> weight = keras.Variable([2.0])
        >>> optimizer = SGDWithL2()
        >>> optimizer.build([weight])
        >>> [tuple(memory.shape) for memory in memories_of(optimizer, weight)]
        [(1,)]
    """
    if is_torch_optimizer(optimizer):
        memories = optimizer.state.get(variable.value, {})
        others = [memory for name, memory in memories.items() if name != "sum"]  # Adagrad's
        yield from (one for one in (variable.value.grad, *others) if getattr(one, "shape", None) == variable.shape)
        return
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
