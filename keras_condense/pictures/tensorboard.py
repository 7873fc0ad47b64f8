"""What TensorBoard shows of a training: the scalars of Keras' own callback, and the picture of the connections."""

import os
import pathlib
from collections.abc import Sequence

import keras

from keras_condense.callbacks.others import callbacks_beside
from keras_condense.files import check_path, remove_leftovers, replacing
from keras_condense.keras_graphs import student_of
from keras_condense.layers import condensable_layers
from keras_condense.pictures.drawing import need_matplotlib, pixels
from keras_condense.pictures.of_connections import connections
from keras_condense.pictures.of_costs import cost
from keras_condense.pictures.of_runs import run
from keras_condense.pictures.reading import readings
from keras_condense.training.run_folder import make_folder

__all__ = ["ConnectionPictures", "need_tensorboard", "tensorboard_callbacks", "write_run_pictures"]

_FOLDER = "connections"  # which TensorBoard shows as a run beside Keras' `train` and `validation`
_BY_ITERATION = "evaluation_"  # how Keras' tags begin whose steps are the optimizer's, and no epochs


def need_tensorboard() -> None:
    """Raise ImportError, before any work, where TensorBoard's files can't be written."""
    try:
        import tensorboard  # noqa: F401
        import tensorflow  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "TensorBoard's files need the packages tensorboard and tensorflow, whatever backend Keras runs on. Install "
            'both: `pip install "keras-condense[tensorboard]"`.'
        ) from error


class ConnectionPictures(keras.callbacks.Callback):
    """Writes pictures of the learned connections for TensorBoard while `CondenseSchedule` drops them.

    They show what `keras_condense.pictures.connections` draws: after the first epoch of the training, after each epoch
    that dropped connections, and at the end, once callbacks that put weights back have done so. Their steps are the
    epochs as Keras counts them, from 0; the last one stands a step further. `keras.callbacks.TensorBoard` beside it
    writes the scalars, among them stage and share of connections. The order of the callbacks does not matter.

    Args:
        log_dir: what `tensorboard --logdir` is given; the pictures go into `connections/` there.
        network: what to draw, where it is not all of the model that is fitted, as in `keras_condense.training.train`
            with `ImageArrays`.

    Raises:
        ImportError: tensorboard, TensorFlow or matplotlib is not installed.
        ValueError: no path; when the training begins, a folder that can't be made, or a model without a graph or
            without learned layers.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from keras_condense.callbacks import CondenseSchedule
        >>> from keras_condense.layers import LearnedGroupConv2D
        >>> model = keras.Sequential([keras.Input((2, 2, 8)), LearnedGroupConv2D(8, 1)])
        >>> model.compile("sgd", "mse")
        >>> x = np.ones((4, 2, 2, 8), "float32")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     boards = [keras.callbacks.TensorBoard(folder), ConnectionPictures(folder)]
        ...     history = model.fit(x, x, epochs=6, verbose=0, callbacks=[CondenseSchedule(), *boards])
        ...     sorted(os.listdir(folder))
        ['connections', 'train']
    """

    def __init__(self, log_dir: str | os.PathLike, network: keras.Model | None = None):
        super().__init__()
        self._folder = check_path("log_dir", log_dir) / _FOLDER
        self._network = network
        need_tensorboard()
        need_matplotlib()

    def on_train_begin(self, logs=None):
        import tensorflow as tf

        if self._drawn_model.built:  # else `fit` builds it at its first step
            readings(self._drawn_model)
        self._writer = tf.summary.create_file_writer(str(make_folder(self._folder)))
        self._epoch, self._is_last = None, False

    def on_epoch_begin(self, epoch, logs=None):
        if self._epoch is None:
            self._drawn = self._stages() if epoch else None
            if beside := callbacks_beside(self):
                last = keras.callbacks.LambdaCallback(on_train_end=self._end)
                beside.callbacks = [*beside.callbacks, last]
                self._is_last = True
        self._epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        stages = self._stages()
        if stages != self._drawn:
            self._drawn = stages
            self._write(epoch)

    def on_train_end(self, logs=None):
        if not self._is_last:
            self._end()

    @property
    def _drawn_model(self) -> keras.Model:
        return student_of(self._network or self.model)

    def _stages(self) -> list[int]:
        return [layer.stage if layer.built else 0 for layer in condensable_layers(self._drawn_model)]

    def _end(self, logs=None) -> None:
        if self._epoch is not None:
            self._write(self._epoch + 1)
        self._writer.close()

    def _write(self, step: int) -> None:
        import tensorflow as tf

        picture = pixels(connections(self._drawn_model))
        # Keras' callback may just be recording every so many batches alone
        with self._writer.as_default(step), tf.summary.record_if(True):
            tf.summary.image("connections", picture[None])
        self._writer.flush()


def tensorboard_callbacks(log_dir: str | os.PathLike, network: keras.Model) -> Sequence[keras.callbacks.Callback]:
    """Make the callbacks that show a training in TensorBoard, killed and resumed as it may be.

    These are `keras.callbacks.TensorBoard` and, for a network with learned layers, `ConnectionPictures`. After each
    epoch all is on the disk. A `fit` that begins at a later epoch (`initial_epoch`) goes on in the same folder: what
    was written there of the epochs that are now trained again is removed first, so that each stands there once.

    Args:
        log_dir: what `tensorboard --logdir` is given; one training's own.
        network: what is trained.

    Returns:
        Callbacks for `fit` and for `keras_condense.training.train`.

    Raises:
        ImportError: tensorboard, TensorFlow or matplotlib is not installed.
        ValueError: no path, or a network whose learned layers stand in no graph.

    Example:
        >>> network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> [isinstance(each, keras.callbacks.TensorBoard) for each in tensorboard_callbacks("logs", network)]
        [True]
    """
    need_tensorboard()
    boards = [_GoingOn(check_path("log_dir", log_dir))]
    if condensable_layers(network):
        readings(network)
        boards.append(ConnectionPictures(log_dir, network))
    return boards


def write_run_pictures(log_dir: str | os.PathLike, run_folder: str | os.PathLike, network: keras.Model) -> None:
    """Write what `plot run` and `plot cost` draw of a training that is over, as pictures for TensorBoard.

    Args:
        log_dir: what `tensorboard --logdir` is given; the pictures go into `run/` there, in the place of earlier ones.
        run_folder: as `keras_condense.training.train` makes it.
        network: what was trained.

    Raises:
        ImportError: tensorboard, TensorFlow or matplotlib is not installed.
        ValueError: no such folder of a run, a folder that can't be made, or a network without a graph.

    Example:
        >>> write_run_pictures("logs", "no/such/run", keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]))
        Traceback (most recent call last):
        ...
        ValueError: `folder` (='no/such/run') must be the folder of a run, and there is none. Check the name.
    """
    need_tensorboard()
    need_matplotlib()
    import tensorflow as tf

    figures = {"run": run(run_folder), "cost": cost(network)}
    folder = make_folder(check_path("log_dir", log_dir) / "run")
    for earlier in folder.glob("events.out.tfevents.*"):
        earlier.unlink()
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default(step=0), tf.summary.record_if(True):
        for name, figure in figures.items():
            tf.summary.image(name, pixels(figure)[None])
    writer.close()


class _GoingOn(keras.callbacks.TensorBoard):
    """Keras' own, in the folder of a training that may go on after a kill."""

    def __init__(self, log_dir: pathlib.Path):
        super().__init__(log_dir, write_graph=False)  # which would be written again by each `fit`

    def set_model(self, model):
        super().set_model(model)
        self._earlier = sorted(pathlib.Path(self.log_dir).rglob("events.out.tfevents.*"))  # not those of this `fit`

    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch, logs)
        for path in self._earlier:
            _remove_from(path, epoch, int(keras.ops.convert_to_numpy(self.model.optimizer.iterations)))
        self._earlier = []

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        for writer in self._writers.values():
            writer.flush()


def _remove_from(path: pathlib.Path, epoch: int, iterations: int) -> None:
    """Remove from an event file what a training wrote from an epoch on, before which it had so many iterations."""
    import tensorflow as tf
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event

    def is_before(record: bytes) -> bool:
        event = Event.FromString(record)
        if any(value.tag.startswith(_BY_ITERATION) for value in event.summary.value):
            return event.step <= iterations
        return event.step < epoch or not event.summary.value

    records = list(RawEventFileLoader(str(path)).Load())
    kept = [record for record in records if is_before(record)]
    if len(kept) < len(records):
        remove_leftovers(path)
        with replacing(path) as temporary, tf.io.TFRecordWriter(str(temporary)) as writer:
            for record in kept:
                writer.write(record)
