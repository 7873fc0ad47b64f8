"""The callback that condenses a model while `fit` trains it."""

import math
import warnings
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_condense import drop_plans, masks
from keras_condense.callbacks.counting import counted_epochs, remember
from keras_condense.callbacks.others import arrange, callbacks_beside, warn_of_unfinished_bests
from keras_condense.layers import LearnedConnections, condensable_layers, frozen_layers
from keras_condense.optimizers import check_optimizer, is_torch_optimizer, memories_of
from keras_condense.validation import check_choice, check_fraction, check_positive_integer, listed

__all__ = ["CondenseSchedule", "check_last_drop"]


def check_last_drop(value: float) -> float:
    """Return `value` as a float if it can be the progress of the last drop.

    Example:
        >>> check_last_drop(0)
        Traceback (most recent call last):
        ...
        ValueError: `last_drop` (=0) must be a number in (0, 1). The paper's is 0.5.
    """
    if check_fraction("last_drop", value, "The paper's is 0.5.", below_one=True) == 0:
        raise ValueError(f"`last_drop` (={value!r}) must be a number in (0, 1). The paper's is 0.5.")
    return float(value)


class CondenseSchedule(keras.callbacks.Callback):
    """Moves the learned layers of a model through their condensing stages (CondenseNet, section 3.1).

    Before each batch the progress is p = (epoch * steps + batch) / (epochs * steps), and each layer is brought to
    stage min(floor(2 p (C - 1)), C - 1): the drops are spread over the first half of the training, and the second
    half trains the sparse network. A layer with `drops_at` drops at those p instead. A resumed or short run that
    skips stages drops all that is due, with a warning.

    On a drop the dropped weights become zero and so does what the optimizer remembers of them (momentum), so they
    stay exactly zero.

    Every epoch's logs get `condense_stage` (the stage of the layers that have most stages; the lowest, if they differ)
    and `connections_left` (the share of the learned layers' connections, 1 to 1 / C).

    Frozen layers (`trainable=False`, or inside a frozen model) are not trained, so they are not pruned: a warning names
    those that are not condensed yet, and `condense_stage` is that of the others.

    **A training of several fits.** Give each the epochs of the whole training, `CondenseSchedule(epochs=300)`; the
    callback may be the same one or new. The count goes on with `initial_epoch`, or, where each `fit` begins at epoch 0,
    from where the last one left these layers. Of a model that comes from a file the count isn't known: a warning says
    at which epoch it goes on, and `initial_epoch` does it exactly. A `fit` that ends before `epochs` by its own plan
    leaves the rest to the next one. Without `epochs` each `fit` is a whole training.

    **The end.** When the training ends, by its last epoch or by `model.stop_training`, the last stage is reached,
    unless weights are not finite; a warning says if epochs are missing.

    **Other callbacks.** The order in the list does not matter: all read the logs above, and this one ends after those
    that put weights back. Keras' `ModelCheckpoint(save_best_only=True)` and `EarlyStopping` compare networks of all
    stages, and a warning names them and the fix: `BestCondensed` keeps the best of the last stage alone.

    On several devices (`keras.distribution.DataParallel` on JAX, `tf.distribute.MirroredStrategy`,
    `torch.nn.parallel.DistributedDataParallel`) all drop the same. In a loop of one's own give it the `optimizer`.
    Under `MirroredStrategy` batch norms compute and keep statistics of their own replica's images; `condense` warns
    where these differ. To train as on one device give them `synchronized=True`, for which they take Keras' op.

    Args:
        epochs: epochs of the whole training; None takes those of `fit`.
        steps_per_epoch: batches per epoch; None takes what `fit` knows.
        verbose: 1 prints a line at every drop.
        last_drop: the progress, in (0, 1), of the last drop; those before it move in proportion. None drops when the
            layers say, the last time at 0.5 in the paper.
        optimizer: what trains the model in a loop of one's own, of Keras or PyTorch; None takes the one that the model
            is compiled with.

    Raises:
        ValueError: an argument out of range; when the training begins, a model without learned layers, progress that
            can't be known, or a second `CondenseSchedule`.

    Example:
        >>> import numpy as np
        >>> from keras_condense.layers import LearnedGroupConv2D
        >>> model = keras.Sequential([keras.Input((2, 2, 8)), LearnedGroupConv2D(8, 1)])
        >>> model.compile("sgd", "mse")
        >>> images = np.zeros((4, 2, 2, 8), "float32")
        >>> history = model.fit(images, images, epochs=6, verbose=0, callbacks=[CondenseSchedule(epochs=6)])
        >>> history.history["condense_stage"], history.history["connections_left"]
        ([0, 1, 2, 3, 3, 3], [1.0, 0.75, 0.5, 0.25, 0.25, 0.25])
    """

    def __init__(
        self,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        verbose: int = 0,
        last_drop: float | None = None,
        optimizer: Any = None,
    ):
        super().__init__()
        fix = "Leave it out to take what `fit` says."
        self.epochs = None if epochs is None else check_positive_integer("epochs", epochs, fix)
        self.steps_per_epoch = (
            None if steps_per_epoch is None else check_positive_integer("steps_per_epoch", steps_per_epoch, fix)
        )
        self.verbose = check_choice("verbose", verbose, (0, 1), "Use 1 for a line at every drop, 0 for none.")
        self.last_drop = None if last_drop is None else check_last_drop(last_drop)
        self.optimizer = check_optimizer(optimizer)
        self._warned_of_frozen = False

    def on_train_begin(self, logs=None):
        self._beside = callbacks_beside(self)
        self._check_alone()
        self._learned = condensable_layers(self.model)
        if not self._learned:
            raise ValueError(
                f"`CondenseSchedule` got model {self.model.name!r}, which has no layer that learns its groups, and "
                "expects one or more. Build it with `LearnedGroupConv2D`, or leave the callback out."
            )
        self._frozen = frozen_layers(self.model)
        self._layers = [layer for layer in self._learned if layer not in self._frozen]
        self._read_plan()
        planned = max((layer.plan.drops_at[-1] for layer in self._layers if layer.plan.drops_at), default=0.0)
        self._pace = planned / self.last_drop if self.last_drop and planned else 1.0
        self._offset = self._epochs_done = None
        self._warned_of_skipping = False
        if self._beside:
            arrange(self._beside, self)
        # else `fit` builds the layers at its first step
        all_built = all(layer.built for layer in self.model._flatten_layers())
        if all_built and not getattr(self._optimizer, "built", True):
            # made inside the first step, its variables would have TensorFlow trace the whole step twice
            self._optimizer.build(self.model.trainable_variables)

    def on_epoch_begin(self, epoch, logs=None):
        # read once an epoch: it waits for the device; a model that `fit` builds is dense before its first batch
        self._stages = self._read_stages(self._layers)
        if self._offset is None:  # not earlier: a callback may have restored weights
            self._warn_of_frozen()
            self._offset = self._epochs_before(epoch)
            self._warn_of_unfinished_bests()
        self._epoch = epoch + self._offset

    def on_train_batch_begin(self, batch, logs=None):
        # Keras begins one batch more before it finds a dataset of unknown length at its end: no next epoch's drop here
        done = self._epoch * self._steps + min(batch, self._steps - 1)
        total = self._total_epochs * self._steps
        due = self._due(min(self._pace * done / total, 1.0))
        if due:
            self._warn_of_skipping(due, batch)
            self._drop(due, done / total)
            remember(self._stages, done / self._steps)

    def on_epoch_end(self, epoch, logs=None):
        self._epochs_done = self._epoch + 1
        remember(self._stages, self._epochs_done)
        if logs is not None and "condense_stage" not in logs:
            logs["condense_stage"] = self._stage()
            logs["connections_left"] = self._connections_left()

    def on_train_end(self, logs=None):
        if self._epochs_done is None:  # there was no epoch
            return
        ended = getattr(self.model, "stop_training", False) or self._epochs_done > self._total_epochs - 1e-6
        reached, self._stages = self._stages, self._read_stages(self._layers)
        missing = max((layer.final_stage - stage for layer, stage in self._stages.items()), default=0)
        if ended and missing:
            self._make_up(missing, put_back=any(stage < reached[layer] for layer, stage in self._stages.items()))
        remember(self._stages, self._epochs_done)

    @property
    def _optimizer(self) -> Any:
        return self.optimizer or getattr(self.model, "optimizer", None)  # a model in a loop may not be compiled

    def _check_alone(self) -> None:
        schedules = [one for one in getattr(self._beside, "callbacks", ()) if isinstance(one, CondenseSchedule)]
        if len(schedules) > 1:
            raise ValueError(
                f"`callbacks` hold {len(schedules)} `CondenseSchedule`s, and must hold one, for each would drop by its "
                "own count. Leave the others out; `keras_condense.training.train` brings its own."
            )

    def _read_plan(self) -> None:
        """How many epochs of how many batches there are to be."""
        params = self.params or {}
        self._steps = self.steps_per_epoch or params.get("steps")
        if self._steps is None:
            raise ValueError(
                "`CondenseSchedule` got a training whose steps per epoch are unknown (a generator or a dataset of "
                "unknown length), and needs them to know the progress. "
                "Give `steps_per_epoch` to `fit` or to `CondenseSchedule`."
            )
        self._total_epochs = self.epochs or params.get("epochs")
        if self._total_epochs is None:
            raise ValueError(
                "`CondenseSchedule` got a training whose epochs are unknown, and needs them to know the progress. Give "
                "`epochs` to it."
            )

    def _read_stages(self, layers: list[LearnedConnections]) -> dict[LearnedConnections, int]:
        return {layer: layer.stage if layer.built else 0 for layer in layers}

    # --- where the training stands -----------------------------------------------------------------------------------
    def _epochs_before(self, epoch: int) -> float:
        """Epochs of the training that were done before what `fit` counts as epoch 0."""
        if epoch or self.epochs is None:
            return 0  # `fit` counts them itself, or is the whole training
        counted = counted_epochs(self._stages)
        if counted is not None:
            return counted
        begun = drop_plans.progress_from_stages((layer.plan, stage) for layer, stage in self._stages.items())
        before = begun / self._pace * self._total_epochs
        fix = "If it is one of them, `fit` can count: fit(initial_epoch=2, epochs=4) goes on after two epochs."
        if any(self._stages.values()) and any(stage < layer.final_stage for layer, stage in self._stages.items()):
            warnings.warn(
                f"The layers are in stage {self._stage()} already, and it is not known how many of the {self.epochs} "
                f"epochs of `CondenseSchedule` were trained: it goes on as after {_number(before)}, where their stage "
                f"begins. {fix}",
                stacklevel=2,
            )
        elif (
            (self.params or {}).get("epochs", self.epochs) < self.epochs
            and not any(self._stages.values())
            and self._was_trained()
        ):
            warnings.warn(
                f"The model was trained before, and no layer has dropped anything: `CondenseSchedule` takes this for "
                f"the first of its {self.epochs} epochs. {fix} If not, compile the model again before.",
                stacklevel=2,
            )
        return before

    def _was_trained(self) -> bool:
        if self._optimizer is None or is_torch_optimizer(self._optimizer):
            return bool(getattr(self._optimizer, "state", None))
        return int(ops.convert_to_numpy(self._optimizer.iterations)) > 0

    def _finished_epoch(self) -> int:
        """The first epoch, as `fit` counts them, that ends in the last stage."""
        unfinished = [layer for layer, stage in self._stages.items() if stage < layer.final_stage]
        last = max((layer.plan.drops_at[-1] for layer in unfinished), default=0.0) / self._pace
        step = math.ceil(last * self._total_epochs * self._steps - 1e-9)
        return max(math.ceil(step // self._steps - self._offset), 0)

    # --- drops -------------------------------------------------------------------------------------------------------
    def _due(self, progress: float) -> dict[LearnedConnections, int]:
        """The layers that must go on, and to which stage, by the progress that their plans go by."""
        stages = {layer: drop_plans.stage_from_progress(progress, layer.plan) for layer in self._layers}
        return {layer: stage for layer, stage in stages.items() if stage > self._stages[layer]}

    def _drop(self, due: dict[LearnedConnections, int], progress: float) -> None:
        _synchronize(self.model)
        for layer, stage in due.items():
            if layer.condense_to(stage):
                for memory in memories_of(self._optimizer, layer.kernel):
                    layer.clear_dropped(memory)  # else momentum would revive them
        self._stages |= due
        if self.verbose:
            print(
                f"\nprogress {progress:.3f}: stage {self._stage()}, "
                f"{self._connections_left():.1%} of the connections left"
            )

    def _make_up(self, missing: int, put_back: bool) -> None:
        """Drop what is missing at the end, if that makes sense, and say so."""
        if not all(np.isfinite(ops.convert_to_numpy(layer.kernel)).all() for layer in self._layers):
            warnings.warn(
                f"The training ended with weights that are not finite, {missing} condensing stages early: it has "
                "diverged. Begin again with a smaller learning rate.",
                stacklevel=3,
            )
            return
        fix = "Train longer, or give `CondenseSchedule` the epochs that are really trained."
        if put_back:
            fix = (
                "A callback has put back weights of an earlier stage: use `keras_condense.callbacks.BestCondensed` in "
                "its place, which keeps the best of the last stage."
            )
        self._drop(self._due(1.0), 1.0)
        warnings.warn(
            f"The training ended after {_number(self._epochs_done)} of {self._total_epochs} epochs, {missing} "
            "condensing stages early. They were made up for at once, without training in between: accuracy may have "
            f"dropped. {fix}",
            stacklevel=3,
        )

    # --- warnings ----------------------------------------------------------------------------------------------------
    def _warn_of_frozen(self) -> None:
        stages = self._read_stages(self._frozen)
        unfinished = [layer.name for layer, stage in stages.items() if stage < layer.final_stage]
        if unfinished and not self._warned_of_frozen:
            self._warned_of_frozen = True
            warnings.warn(
                f"Frozen layers are not trained, so `CondenseSchedule` leaves them as they are: {listed(unfinished)}. "
                "To condense them, set `trainable` to True on them and on the models that hold them, compile and train "
                "on; or prune them without training, `condense(model, finish=True)`.",
                stacklevel=3,
            )

    def _warn_of_skipping(self, due: dict[LearnedConnections, int], batch: int) -> None:
        skipping = {layer: stage for layer, stage in due.items() if stage > self._stages[layer] + 1}
        if skipping and not self._warned_of_skipping:
            self._warned_of_skipping = True
            layer, stage = next(iter(skipping.items()))
            warnings.warn(
                f"Layer {layer.name!r} goes from condensing stage {self._stages[layer]} to stage {stage} at once, "
                f"before batch {batch + 1} of epoch {_number(self._epoch + 1)} of {self._total_epochs}, without "
                "training in between: accuracy may drop. Train for more epochs or steps; if this goes on from an "
                "earlier training, begin with the weights that it ended with.",
                stacklevel=3,
            )

    def _warn_of_unfinished_bests(self) -> None:
        finished = self._finished_epoch()
        if self._beside and finished > 0:
            warn_of_unfinished_bests(self._beside, finished)
        self._beside = None

    # --- logs --------------------------------------------------------------------------------------------------------
    def _stage(self) -> int:
        """The stage to report; layers with fewer stages would hide it."""
        stages = self._stages or self._read_stages(self._frozen)
        final_stage = max(layer.final_stage for layer in stages)
        return min(stage for layer, stage in stages.items() if layer.final_stage == final_stage)

    def _connections_left(self) -> float:
        return masks.connections_left([ops.convert_to_numpy(layer.mask) for layer in self._learned])


def _number(epochs: float) -> str:
    return f"{round(epochs, 2):g}"


def _synchronize(model: keras.Model) -> None:
    """Bring a model's variables up to date; between batches the JAX trainer keeps their values to itself."""
    if keras.backend.backend() == "jax":
        model.jax_state_sync()
