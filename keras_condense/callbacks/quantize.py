"""The callback that ends the training of a model in int8's numbers."""

import math

import keras

from keras_condense.callbacks.others import callbacks_beside
from keras_condense.keras_graphs import student_of
from keras_condense.layers import FakeQuantize, QuantizedBatchNormalization
from keras_condense.quantizing import fake_quantizers, round_biases
from keras_condense.validation import check_fraction, check_positive_integer

__all__ = ["QuantizeSchedule"]


class QuantizeSchedule(keras.callbacks.Callback):
    """Freezes the ranges of activations and the statistics of batch norms of a `quantize_aware` model near the end.

    From then on the model computes in training as in inference, and as its file does, so that the last epochs train
    the weights for just these numbers (Jacob et al., arXiv 1712.05877, section 3; Krishnamoorthi, arXiv 1806.08342,
    section 3.2). When the training ends, biases are rounded to what the file can hold. Every epoch's logs get
    `ranges_frozen`, 0 or 1. It goes with `CondenseSchedule`, in any order.

    Args:
        epochs: epochs of the whole training; None takes those of `fit`.
        freeze_at: the progress, in [0, 1], from which ranges and statistics stay, from the epoch in which it falls on;
            the first epoch follows them unless it is 0, and 1 never freezes them.

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

    def __init__(self, epochs: int | None = None, freeze_at: float = 0.75):
        super().__init__()
        fix = "Leave it out to take what `fit` says."
        self.epochs = None if epochs is None else check_positive_integer("epochs", epochs, fix)
        self.freeze_at = check_fraction("freeze_at", freeze_at, "Use 0.75 for the last quarter of the epochs.")
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
        changed = [layer for layer in self._layers if layer.frozen != frozen]
        for layer in changed:
            layer.frozen = frozen
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
