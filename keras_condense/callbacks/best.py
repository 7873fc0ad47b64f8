"""The callback that keeps the best network among those that are condensed to the end."""

import math
import os
import warnings

import keras

from keras_condense.files import check_writable
from keras_condense.layers import condensable_layers, frozen_layers
from keras_condense.saving import check_model_suffix, check_savable, save_model
from keras_condense.validation import check_choice, check_not_negative, check_positive_integer, listed

__all__ = ["BestCondensed"]


class BestCondensed(keras.callbacks.EarlyStopping):
    """Keeps the network of the best epoch among those that end in the last condensing stage.

    Beside `CondenseSchedule`, before or after it. The networks of earlier stages are often better, since they still
    have more connections, but they can't be condensed: `ModelCheckpoint(save_best_only=True)` and
    `EarlyStopping(restore_best_weights=True)` would keep one of them. Here the comparison, and with `patience` the
    waiting, begins when every learned layer that is trained is in its last stage.

    Each `fit` begins a comparison of its own; the best network of an earlier one is what it starts from.

    Args:
        monitor: the quantity of the logs to compare; "val_..." needs `validation_data`.
        mode: "min" or "max": which is better; "auto" knows losses and Keras' metrics.
        path: a `.keras` file, written whole or not at all after each epoch that is the best so far; None for none.
        restore: give the model the best weights when the training ends.
        patience: stop after so many epochs of the last stage that are no improvement; None goes on.
        min_delta: the least change that is an improvement.
        verbose: 1 says which epoch was restored.

    Raises:
        ValueError: an argument out of range, or a path that can't be written; when the training begins, a model without
            learned layers, or, with a path, one that can't be saved; after the first epoch, a `monitor` that "auto"
            does not know the better of.

    Example:
        >>> import numpy as np
        >>> from keras_condense.callbacks import CondenseSchedule
        >>> from keras_condense.layers import LearnedGroupConv2D
        >>> model = keras.Sequential([keras.Input((2, 2, 8)), LearnedGroupConv2D(8, 1, name="conv")])
        >>> model.compile("sgd", "mse")
        >>> x = np.ones((4, 2, 2, 8), "float32")
        >>> best = BestCondensed("loss")
        >>> history = model.fit(x, x, epochs=6, verbose=0, callbacks=[best, CondenseSchedule()])
        >>> best.best_epoch, model.get_layer("conv").stage
        (5, 3)
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        mode: str = "auto",
        path: str | os.PathLike | None = None,
        restore: bool = True,
        patience: int | None = None,
        min_delta: float = 0.0,
        verbose: int = 0,
    ):
        check_choice("mode", mode, ("auto", "min", "max"), 'Use "max" for an accuracy, "min" for a loss.')
        check_choice("restore", restore, (True, False), "False leaves the weights of the last epoch.")
        check_choice("verbose", verbose, (0, 1), "Use 1 to read which epoch was restored.")
        if not isinstance(monitor, str):
            raise ValueError(f"`monitor` (={monitor!r}) must be the name of a log. Use 'val_loss' or 'val_accuracy'.")
        if patience is not None:
            patience = check_positive_integer("patience", patience, "Leave it out to train to the end.")
        super().__init__(
            monitor,
            min_delta=check_not_negative("min_delta", min_delta, "Use 0 to take every improvement."),
            patience=math.inf if patience is None else patience,
            verbose=verbose,
            mode=mode,
            restore_best_weights=restore,
        )
        self.network = None  # what to save, where it is not all of the model that is fitted
        self.path = None if path is None else check_writable(check_model_suffix(path))

    def on_train_begin(self, logs=None):
        learned = condensable_layers(self.model)
        if not learned:
            raise ValueError(
                f"`BestCondensed` got model {self.model.name!r}, which has no layer that learns its groups, and "
                "expects one or more. Use `keras.callbacks.ModelCheckpoint(save_best_only=True)` for other models."
            )
        if self.path:
            check_savable(self.network or self.model)
        frozen = frozen_layers(self.model)
        self._layers = [layer for layer in learned if layer not in frozen]
        self._seen = set()
        super().on_train_begin(logs)
        self.best = self.best_epoch = None  # Keras 3.12 would keep what the last `fit` found

    def on_epoch_end(self, epoch, logs=None):
        if self.monitor_op is None:
            self._set_monitor_op()  # at the first epoch, though it may be long before the last stage
        self._seen |= set(logs or {})
        value = (logs or {}).get(self.monitor)
        if value is None or not math.isfinite(value):
            return
        if any(layer.stage < layer.final_stage for layer in self._layers):
            return
        super().on_epoch_end(epoch, logs)
        if self.best_epoch == epoch and self.path:
            save_model(self.network or self.model, self.path)

    def on_train_end(self, logs=None):
        super().on_train_end(logs)
        if self.best_epoch is not None or not self._seen:
            return
        reason = (
            "no epoch ended in the last stage with a finite value of it. Train longer, or leave the callback to the "
            "`fit` that gets there."
        )
        if self.monitor not in self._seen:
            reason = (
                f"it is not in the logs, which have {listed(sorted(self._seen))}. Give `validation_data` to `fit`, or "
                "another `monitor`."
            )
        warnings.warn(f"`BestCondensed` of {self.monitor!r} kept no network: {reason}", stacklevel=2)
