"""The loss of the short recipe: cross-entropy whose targets are not quite certain."""

from typing import Any

import keras
from keras import ops

from keras_condense.validation import check_fraction

__all__ = ["SmoothedCrossentropy"]


@keras.saving.register_keras_serializable("keras_condense")
class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy of class numbers with smoothed labels: (1 - s) * CE(label) + s * mean over classes of CE(class).

    `keras.losses.CategoricalCrossentropy(label_smoothing=s)` of one-hot labels is the same number;
    `keras.losses.SparseCategoricalCrossentropy` has no smoothing.

    Args:
        label_smoothing: s, the share of every target that is spread evenly over all classes, in [0, 1).
        name: the loss' name.
        reduction: as in `keras.losses.Loss`.
        dtype: as in `keras.losses.Loss`.

    Shapes:
        y_true: (batch,) or (batch, 1), class numbers.
        y_pred: (batch, classes), probabilities.

    Raises:
        ValueError: `label_smoothing` out of its range.

    Example:
        >>> loss = SmoothedCrossentropy(0.2)
        >>> round(float(loss([0], ops.convert_to_tensor([[0.5, 0.5]]))), 4)
        0.6931
        >>> SmoothedCrossentropy(2.0)
        Traceback (most recent call last):
        ...
        ValueError: `label_smoothing` (=2.0) must be a number in [0, 1). Use 0.1, or 0 for none.
    """

    def __init__(
        self,
        label_smoothing: float = 0.1,
        name: str = "smoothed_crossentropy",
        reduction: str = "sum_over_batch_size",
        dtype: Any = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.label_smoothing = check_fraction(
            "label_smoothing", label_smoothing, "Use 0.1, or 0 for none.", below_one=True
        )

    def call(self, y_true, y_pred):
        labels = ops.reshape(ops.cast(y_true, "int32"), (-1,))
        classes = y_pred.shape[-1]
        targets = ops.one_hot(labels, classes, dtype=y_pred.dtype)
        targets = targets * (1 - self.label_smoothing) + self.label_smoothing / classes
        return ops.categorical_crossentropy(targets, y_pred)

    def get_config(self):
        return super().get_config() | {"label_smoothing": self.label_smoothing}
