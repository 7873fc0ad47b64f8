"""The other callbacks of a `fit`: found, put in order, and warned of where they keep unfinished networks."""

import inspect
import warnings

import keras

from keras_condense.callbacks.progress_bar import show_stage

__all__ = ["arrange", "callbacks_beside", "warn_of_unfinished_bests"]


def callbacks_beside(callback: keras.callbacks.Callback) -> keras.callbacks.CallbackList | None:
    """The list that is calling `callback` right now, from any of its `on_...` methods; None if something else is.

    Keras (3.3 to 3.15) tells a callback nothing of the others, but its list is what calls it.
    """
    frame = inspect.currentframe()
    while frame := frame.f_back:
        caller = frame.f_locals.get("self")
        if isinstance(caller, keras.callbacks.CallbackList) and any(one is callback for one in caller.callbacks):
            return caller
    return None


class _Added(keras.callbacks.LambdaCallback):
    """What `arrange` puts into the list."""


def arrange(callbacks: keras.callbacks.CallbackList, schedule: keras.callbacks.Callback) -> None:
    """Have `schedule` write its logs before all others read them, and end after those that put weights back.

    Args:
        callbacks: from now on calls in the new order; a round that it is in goes on in the old one.
        schedule: one of them. Its `on_epoch_end` is called first and again at its place, its `on_train_end` at its
            place, which is behind any `EarlyStopping`, and again at the very end.
    """
    listed = [one for one in callbacks.callbacks if not isinstance(one, _Added)]
    ending = [i for i, one in enumerate(listed) if one is schedule or isinstance(one, keras.callbacks.EarlyStopping)]
    listed.insert(ending[-1] + 1, schedule)
    listed.remove(schedule)  # where it was
    for bar in [one for one in listed if isinstance(one, keras.callbacks.ProgbarLogger)]:
        listed.insert(listed.index(bar), _Added(on_epoch_end=show_stage))
    first, last = _Added(on_epoch_end=schedule.on_epoch_end), _Added(on_train_end=schedule.on_train_end)
    callbacks.callbacks = [first, *listed, last]


def warn_of_unfinished_bests(callbacks: keras.callbacks.CallbackList, finished: int) -> None:
    """Warn of callbacks of Keras that compare networks of all stages, and so keep or stop at one that is unfinished.

    Args:
        callbacks: those of the `fit`.
        finished: the first epoch, as `fit` counts from 0, that ends in the last stage.
    """
    for one in callbacks.callbacks:
        if isinstance(one, keras.callbacks.ModelCheckpoint) and one.save_best_only:
            warnings.warn(
                f"`ModelCheckpoint` with `save_best_only=True` compares networks of all stages, and its file "
                f"({one.filepath!r}) may end with one from before epoch {finished + 1}, which is not condensed to the "
                "end. Use `keras_condense.callbacks.BestCondensed(path=...)`, which keeps the best of the last stage.",
                stacklevel=2,
            )
        # a subclass with a rule of its own, as `BestCondensed`, knows what it does
        if getattr(type(one), "on_epoch_end", None) is not keras.callbacks.EarlyStopping.on_epoch_end:
            continue
        if one.start_from_epoch < finished:
            does = "stop before, or put weights back from before" if one.restore_best_weights else "stop before"
            warnings.warn(
                f"`EarlyStopping` looks at epochs of all stages, and may {does} epoch {finished + 1}, the first that "
                f"ends in the last stage. Give it `start_from_epoch={finished}`, or use "
                "`keras_condense.callbacks.BestCondensed(patience=...)` in its place.",
                stacklevel=2,
            )
