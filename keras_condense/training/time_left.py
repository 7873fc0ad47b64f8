"""How long a training will take, said as soon as that is known."""

import time

import keras

__all__ = ["TimeLeft", "duration"]

_WARM_UP = 2  # batches in which the step is compiled
_ENOUGH = 10.0  # seconds of batches that an estimate is made of


def duration(seconds: float) -> str:
    """A time in words.

    Example:
        >>> duration(42), duration(100), duration(5400), duration(200_000)
        ('42 s', '2 min', '1.5 h', '2.3 days')
    """
    for unit, size, digits in (("days", 86400, 1), ("h", 3600, 1), ("min", 60, 0)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds:.0f} s"


class TimeLeft(keras.callbacks.Callback):
    """Prints once how long the training will take: after some seconds of the first epoch, or at its end.

    Args:
        epochs: of the whole training; None for those of `fit`.
    """

    def __init__(self, epochs: int | None = None):
        super().__init__()
        self._epochs, self._said = epochs, False

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch, self._began, self._warm = epoch, time.perf_counter(), None

    def on_train_batch_end(self, batch, logs=None):
        steps = self.params.get("steps")
        if self._said or not steps:
            return
        now = time.perf_counter()
        if batch + 1 == _WARM_UP:
            self._warm = now
        elif self._warm is not None and now - self._warm >= _ENOUGH:
            self._say((now - self._warm) / (batch + 1 - _WARM_UP) * steps, steps - batch - 1)

    def on_epoch_end(self, epoch, logs=None):
        if not self._said:
            self._say(time.perf_counter() - self._began, 0)

    def _say(self, of_epoch: float, batches: int) -> None:
        self._said = True
        steps = self.params.get("steps") or 1
        whole = (self._epochs or self.params["epochs"]) - self._epoch - 1
        left = of_epoch * (whole + batches / steps)
        if left >= 1:
            print(f"\nAn epoch takes about {duration(of_epoch)}; about {duration(left)} left.", flush=True)
