"""What a training has within an epoch, besides weights and optimizer: where it is, and what the next batch needs."""

import dataclasses

import keras
import numpy as np

from keras_condense.keras_graphs import student_of
from keras_condense.training.several import copies_of

__all__ = ["Progress", "ReseedDropout", "RestoreState", "state_of"]


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a training is.

    Attributes:
        epochs: whole ones that are trained.
        steps: batches of the next one that are.
        seconds: which those took.
        state: what `state_of` says after them; nothing between epochs.
    """

    epochs: int = 0
    steps: int = 0
    seconds: float = 0.0
    state: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


def state_of(model: keras.Model) -> dict[str, np.ndarray]:
    """What `fit` has within an epoch that no file of a model holds: metrics so far, and random generators.

    Args:
        model: the one that `fit` trains.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dropout(0.5)])
        >>> sorted(state_of(model))
        ['generator0_0']
    """
    state = {name: keras.ops.convert_to_numpy(variable) for name, variable in _variables(model).items()}
    if keras.backend.backend() == "torch":
        import torch

        state["torch"] = torch.get_rng_state().numpy()
    return state


def _variables(model: keras.Model) -> dict[str, keras.Variable]:
    metrics = {f"metric{number}": variable for number, variable in enumerate(model.metrics_variables)}
    return metrics | {
        f"generator{number}_{replica}": copy
        for number, variable in enumerate(_generators(model))
        for replica, copy in enumerate(copies_of(model, variable))
    }


def _generators(model: keras.Model) -> list[keras.Variable]:
    return [variable for variable in student_of(model).variables if variable.name == "seed_generator_state"]


class ReseedDropout(keras.callbacks.Callback):
    """Gives every random generator of the model a state that follows from the seed and the epoch alone.

    A `.keras` file does not hold the states, and a resumed run must draw what an unbroken one draws.
    """

    def __init__(self, seed: int):
        super().__init__()
        self._seed = seed

    def on_epoch_begin(self, epoch, logs=None):
        for number, state in enumerate(_generators(self.model)):
            for replica, copy in enumerate(copies_of(self.model, state)):  # each is to drop other units
                key = (self._seed, epoch, number, *([replica] if replica else []))
                copy.assign(np.random.SeedSequence(key).generate_state(2).astype(state.dtype))
        self._epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        # there, dropout without a seed draws from PyTorch's own generator, and so does a `fit` before its first batch
        if batch == 0 and keras.backend.backend() == "torch":
            import torch

            torch.manual_seed(int(np.random.SeedSequence((self._seed, self._epoch)).generate_state(1)[0]))


class RestoreState(keras.callbacks.Callback):
    """Has the first epoch of a `fit` go on within it, with a state of `state_of`; stands after `ReseedDropout`."""

    def __init__(self, state: dict[str, np.ndarray]):
        super().__init__()
        self._state = dict(state)

    def on_epoch_begin(self, epoch, logs=None):
        if not self._state:
            return
        classes = student_of(self.model).output_shape[-1]
        labels, outputs = (keras.ops.zeros(shape, dtype) for shape, dtype in (((1,), "int32"), ((1, classes), None)))
        self.model.compute_metrics(None, labels, outputs, None)  # before their first use, metrics have no variables
        self.model.reset_metrics()
        variables = _variables(self.model)
        for name in variables.keys() & self._state.keys():
            variables[name].assign(self._state.pop(name))

    def on_train_batch_begin(self, batch, logs=None):
        if "torch" in self._state and keras.backend.backend() == "torch":
            import torch

            torch.set_rng_state(torch.from_numpy(self._state.pop("torch")))
