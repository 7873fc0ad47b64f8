"""The callback that ends the training of a model in int8's numbers."""

import math

import keras

from keras_condense.callbacks.others import callbacks_beside
from keras_condense.keras_graphs import student_of
from keras_condense.layers import FakeQuantize, QuantizedBatchNormalization
from keras_condense.quantizing import fake_quantizers, round_biases
from keras_condense.validation import check_choice, check_fraction, check_positive_integer

__all__ = ["QuantizeSchedule"]


class QuantizeSchedule(keras.callbacks.Callback):
    """Freezes the ranges of activations of a `quantize_aware` model near the end, and batch norms if asked to.

    The last epochs then train the weights for just these ranges (Jacob et al., arXiv 1712.05877, section 3). With
    `freeze_norms` batch norms go on with the statistics that they have, so that the model computes in training as its
    file does (Krishnamoorthi, arXiv 1806.08342, section 3.2). That wants a learning rate small enough for a network
    without batch norms: a MobileNetV2 that trained well at 0.007 collapsed once its norms were frozen, and went on at
    0.0007. When the training ends, biases are rounded to what the file can hold. Every epoch's logs get
    `ranges_frozen`, 0 or 1. It goes with `CondenseSchedule`, in any order.

    Args:
        epochs: epochs of the whole training; None takes those of `fit`.
        freeze_at: the progress, in [0, 1], from which ranges stay, from the epoch in which it falls on; the first epoch
            follows them unless it is 0, and 1 never freezes them.
        freeze_norms: whether the statistics of batch norms stay from then on too.

    Raises:
        ValueError: an argument out of range; when the training begins, a model that `quantize_aware` did not make, a
            second `QuantizeSchedule`, or an unknown number of epochs; ranges to freeze that have seen no numbers.

    Example:
        >>> import numpy as np
        >>> from keras_condense import quantize_aware
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> model.compile("sgd", "mse")
        >>> aware, x = quantize_aware(model), np.ones((8, 4), "float32")
        >>> history = aware.fit(x, x[:, :2], epochs=4, verbose=0, callbacks=[QuantizeSchedule(freeze_at=0.5)])
        >>> history.history["ranges_frozen"]
        [0, 0, 1, 1]
    """

    def __init__(self, epochs: int | None = None, freeze_at: float = 0.75, freeze_norms: bool = False):
        super().__init__()
        fix = "Leave it out to take what `fit` says."
        self.epochs = None if epochs is None else check_positive_integer("epochs", epochs, fix)
        self.freeze_at = check_fraction("freeze_at", freeze_at, "Use 0.75 for the last quarter of the epochs.")
        self.freeze_norms = check_choice(
            "freeze_norms", freeze_norms, (False, True), "True needs a small learning rate."
        )
        self._frozen = False

    def on_train_begin(self, logs=None):
        network = student_of(self.model)
        self._layers = [
            layer
            for layer in network._flatten_layers()
            if isinstance(layer, (FakeQuantize, QuantizedBatchNormalization))
        ]
        if not fake_quantizers(network):
            raise ValueError(
                f"`QuantizeSchedule` got model {self.model.name!r}, which has no ranges, and expects one made by "
                "`keras_condense.quantize_aware`. Give `fit` of that the callback, or leave it out."
            )
        beside = getattr(callbacks_beside(self), "callbacks", ())
        schedules = [callback for callback in beside if isinstance(callback, QuantizeSchedule)]
        if len(schedules) > 1:
            raise ValueError(
                f"`callbacks` hold {len(schedules)} `QuantizeSchedule`s, and must hold one, for each would freeze by "
                "its own count. Leave the others out; `keras_condense.training.train` brings its own."
            )
        self._total = self.epochs or self.params.get("epochs")
        if not self._total:
            raise ValueError("`epochs` must be known, and `fit` does not say it. Give `QuantizeSchedule(epochs=...)`.")

    def on_epoch_begin(self, epoch, logs=None):
        first = math.floor(self.freeze_at * self._total)
        frozen = self.freeze_at < 1 and epoch >= (max(first, 1) if self.freeze_at else 0)
        if frozen:
            self._check_ranges(epoch)
        due = [(layer, frozen and (self.freeze_norms or isinstance(layer, FakeQuantize))) for layer in self._layers]
        changed = [layer for layer, is_due in due if layer.frozen != is_due]
        for layer, is_due in due:
            layer.frozen = is_due
        self._frozen = frozen
        if changed:
            self.model.make_train_function(force=True)  # what was traced computes with the statistics of batches

    def _check_ranges(self, epoch: int) -> None:
        """Raise for ranges that nothing is known of: frozen, they would round nothing for the rest of the training."""
        unknown = [layer for layer in self._layers if isinstance(layer, FakeQuantize) and not layer.is_calibrated]
        if unknown:
            raise ValueError(
                f"`freeze_at` (={self.freeze_at}) freezes ranges at the begin of epoch {epoch}, and they must be known "
                f"then; that of {unknown[0].name!r} has seen no numbers. Freeze later, or give `quantize_aware` data."
            )

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs["ranges_frozen"] = int(self._frozen)

    def on_train_end(self, logs=None):
        for network in self._networks():
            round_biases(network)

    def _networks(self) -> list[keras.Model]:
        """The flat models inside what is trained, which may have a layer that crops images before them."""
        network = student_of(self.model)
        inner = [layer for layer in network._flatten_layers(include_self=False) if isinstance(layer, keras.Model)]
        return [model for model in (network, *inner) if any(isinstance(each, FakeQuantize) for each in model.layers)]
