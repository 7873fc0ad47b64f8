"""Training on several devices or hosts: which part of each batch is this process's, and who writes the run's folder."""

import contextlib
import dataclasses
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_condense.datasets import Dataset, ImageArrays
from keras_condense.datasets.parts import repeats

__all__ = [
    "Share",
    "alone",
    "check_distribution",
    "copies_of",
    "own_batches",
    "replicas_of",
    "scope_of",
    "share_of_process",
    "strategy_of",
]


@dataclasses.dataclass(frozen=True)
class Share:
    """What one process has of a training.

    Attributes:
        process: its number, from 0.
        processes: how many train together.
        replicas: devices that share each batch, those of all processes.

    Example:
        >>> Share(process=1, processes=2, replicas=4).of_batch(np.arange(8)).tolist()
        [4, 5, 6, 7]
    """

    process: int = 0
    processes: int = 1
    replicas: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes the folder; the others read it."""
        return self.process == 0

    @property
    def part(self) -> tuple[int, int]:
        """Its part of each batch, as data sets take it: (number, of)."""
        return self.process, self.processes

    def of_batch(self, rows: np.ndarray) -> np.ndarray:
        """The rows of a batch for this process: parts in order, which together are the batch of one device."""
        size = len(rows) // self.processes
        return rows[self.process * size : (self.process + 1) * size]

    def of_all(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        """The rows of whole arrays for this process.

        Devices must have as many rows each. Where they don't divide the rows, all rows are repeated as often as makes
        them do: every row counts alike then, in means of any kind.

        Example:
            >>> Share(process=1, processes=2, replicas=2).of_all(np.arange(3))
            (array([0, 1, 2]),)
        """
        times = repeats(len(arrays[0]), self.replicas)
        return tuple(self.of_batch(np.concatenate([rows] * times)) for rows in arrays)

    def of_first(self, work: Callable[[], None]) -> None:
        """Do something in the first process while the others wait; ValueError in all where it fails."""
        failure = None
        if self.is_first:
            try:
                work()
            except Exception as error:  # which the others must hear of, else they would wait for ever
                failure = error
        if self.processes > 1:
            from jax.experimental import multihost_utils

            failed = bool(multihost_utils.broadcast_one_to_all(np.array(failure is not None)))
            if failed and failure is None:
                failure = ValueError(
                    f"The first of {self.processes} processes failed, and its message says how to fix it. Start all "
                    "again after that."
                )
        if failure is not None:
            raise failure

    def check_same(self, settings: dict) -> None:
        """Raise ValueError in every process where one trains by other settings than the first."""
        if self.processes == 1:
            return
        from jax.experimental import multihost_utils

        def gathered(values: list) -> np.ndarray:
            sums = [zlib.crc32(json.dumps(value, sort_keys=True).encode()) for value in values]
            return multihost_utils.process_allgather(np.array(sums, "uint32"))

        names = sorted(settings)
        differ = ["which there are"]
        if (of_names := gathered([names])).min() == of_names.max():
            values = gathered([settings[name] for name in names])
            differ = [name for name, column in zip(names, values.T, strict=True) if column.min() < column.max()]
        if differ:
            raise ValueError(
                f"The settings of a training must be equal in its {self.processes} processes, and these differ: "
                f"{', '.join(differ)}. Start all with the same program, arguments and data."
            )


def share_of_process(model: keras.Model | None = None) -> Share:
    """What this process has under `keras.distribution`; all of it without, for the replicas of `model`, if any."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return Share(replicas=replicas_of(model))
    import jax

    return Share(jax.process_index(), jax.process_count(), distribution.device_mesh.devices.size)


@contextlib.contextmanager
def own_batches() -> Iterator[None]:
    """Have `fit` take batches for what they are here, this process's part, and not divide them again."""
    distribution = keras.distribution.distribution()
    before = distribution and distribution.auto_shard_dataset
    if distribution is not None:
        distribution.auto_shard_dataset = False
    try:
        yield
    finally:
        if distribution is not None:
            distribution.auto_shard_dataset = before


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Let one process save: Keras makes an optimizer for that, whose variables would wait for the other processes."""
    distribution = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(distribution)


def strategy_of(model: keras.Model | None) -> Any:
    """The `tf.distribute` strategy in whose scope `model` was built; None without."""
    return getattr(model, "_distribute_strategy", None) if keras.backend.backend() == "tensorflow" else None


def replicas_of(model: keras.Model | None) -> int:
    """How many replicas of `model` a `tf.distribute` strategy keeps; 1 without."""
    strategy = strategy_of(model)
    return 1 if strategy is None else strategy.num_replicas_in_sync


def copies_of(model: keras.Model, variable: keras.Variable) -> Sequence:
    """The variable of each replica of `model`, in their order; `variable` itself without a strategy."""
    strategy = strategy_of(model)
    return [variable] if strategy is None else strategy.experimental_local_results(variable.value)


def scope_of(model: keras.Model) -> contextlib.AbstractContextManager:
    """What an optimizer and the models around `model` are made in, for all replicas to share them."""
    strategy = strategy_of(model)
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def _check_scope(model: keras.Model) -> None:
    """Raise ValueError within the scope of a strategy that is not the model's."""
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    if tf.distribute.has_strategy() and tf.distribute.get_strategy() is not strategy_of(model):
        raise ValueError(
            f"`model` ({model.name!r}) must be built in the scope of the {type(tf.distribute.get_strategy()).__name__} "
            "within which it is trained, and was built outside of it. Build it within, or call `train` outside."
        )


def check_distribution(model: keras.Model, data: Dataset | ImageArrays) -> None:
    """Raise ValueError for several devices or processes on which `train` can't train `model` as on one."""
    strategy = type(strategy_of(model)).__name__
    if strategy.startswith(("MultiWorkerMirroredStrategy", "CollectiveAllReduceStrategy", "ParameterServerStrategy")):
        raise ValueError(
            f"`model` ({model.name!r}) was built under {strategy}, with which `fit` of Keras 3 fails before its first "
            "batch. Train on several hosts with KERAS_BACKEND=jax: `with "
            "keras_condense.training.process_group(first_host, processes, number):`, and build the model within it."
        )
    if strategy.startswith("CentralStorageStrategy"):
        raise ValueError(
            f"`model` ({model.name!r}) was built under {strategy}, with which Keras 3 trains no batch norms. Build it "
            "under `tf.distribute.MirroredStrategy`."
        )
    _check_scope(model)
    distribution, share = keras.distribution.distribution(), share_of_process(model)
    if distribution is not None and not isinstance(distribution, keras.distribution.DataParallel):
        raise ValueError(
            f"`keras.distribution` (={type(distribution).__name__}) must be DataParallel or none: networks of this "
            "package fit one device. Set `keras.distribution.DataParallel()`."
        )
    if data.train_size < share.replicas:
        raise ValueError(
            f"`data` (={data.name!r}) must have at least one training image for each of the {share.replicas} devices, "
            f"and has {data.train_size}. Train on fewer devices."
        )
    if data.batch_size % share.replicas:
        raise ValueError(
            f"`batch_size` (={data.batch_size}) must be a multiple of the {share.replicas} devices that share each "
            f"batch. Use {max(data.batch_size // share.replicas, 1) * share.replicas}."
        )
    last = data.train_size - (data.steps_per_epoch - 1) * data.batch_size
    if last < data.batch_size and last % share.replicas:
        raise ValueError(
            f"`data` (={data.name!r}) must have batches that the {share.replicas} devices divide, and the last one of "
            f"an epoch has {last} images. Load it with `drop_remainder=True`."
        )
