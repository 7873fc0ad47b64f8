"""On which devices a script trains: all of this host, or those of several processes."""

import argparse
import contextlib
from collections.abc import Callable, Iterator

ALL = "auto"  # devices of this host
Scope = Callable[[], contextlib.AbstractContextManager]  # in which a model is built


def add_arguments(group: argparse._ActionsContainer) -> None:
    """Add the options of several devices."""
    group.add_argument(
        "--distribute",
        nargs="+",
        metavar=("auto | HOST:PORT", "PROCESSES NUMBER"),
        help='share each batch among several devices: "auto" for all of this host (JAX, TensorFlow), or the address of '
        "the first process, how many there are and the number of this one, from 0, which runs on each host with "
        "KERAS_BACKEND=jax: --distribute 10.0.0.1:1234 2 0",
    )
    group.add_argument(
        "--scale-learning-rate",
        action="store_true",
        help="let the learning rate grow in proportion to the batch size, from the one it is chosen for (64; imagenet: "
        "256)",
    )
    group.add_argument(
        "--batch-norms",
        choices=("local", "synchronized"),
        help="whose images the statistics of batch norms are of: each device's, or the whole batch's (default: the "
        "whole batch's on JAX, each device's on TensorFlow)",
    )


@contextlib.contextmanager
def shared(distribute: list[str] | None) -> Iterator[Scope]:
    """Share batches among the devices of `--distribute` within the block; gives the scope to build a model in."""
    if distribute is None:
        yield contextlib.nullcontext
    elif distribute == [ALL]:
        yield _strategy_scope()
    else:
        with _group(distribute):
            yield contextlib.nullcontext


def _group(distribute: list[str]) -> contextlib.AbstractContextManager:
    from keras_condense import training

    try:
        address, processes, number = distribute
        processes, number = int(processes), int(number)
    except ValueError:
        raise ValueError(
            f"`--distribute` (={' '.join(distribute)!r}) must be 'auto', or three words: host and port of the first "
            "process, how many processes there are, and the number of this one. Use --distribute 10.0.0.1:1234 2 0."
        ) from None
    return training.process_group(address, processes, number)


def _strategy_scope() -> Scope:
    """A strategy's, where TensorFlow has several devices; elsewhere `train` moves the model itself, or says why not."""
    import keras

    if keras.backend.backend() != "tensorflow":
        return contextlib.nullcontext
    import tensorflow as tf

    if len(tf.config.list_logical_devices("GPU")) < 2:
        return contextlib.nullcontext
    return tf.distribute.MirroredStrategy().scope
