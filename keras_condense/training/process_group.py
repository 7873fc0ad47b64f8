"""Several processes that train together on JAX: they meet, and none outlives another that fails.

JAX ends a process by a trace of its own where another one never comes or is lost. So processes meet here first, over
plain sockets, with a time limit and errors in words; the connections stay open, and tell at once of one that is lost.
"""

import atexit
import contextlib
import importlib.metadata
import os
import pathlib
import re
import select
import sys
import threading
import time
import zlib
from collections.abc import Iterator

import keras

import keras_condense
from keras_condense.training.meeting import Line, Member, gather, join
from keras_condense.validation import check_positive_integer, shown

__all__ = ["process_group"]

_GRACE = 10.0  # seconds for a process to say itself what is wrong, when another one has failed
_OF_JAX = re.compile("(UNKNOWN|INTERNAL|UNAVAILABLE|ABORTED|CANCELLED|DEADLINE_EXCEEDED): ")
_HEARTBEAT = 100  # seconds after which JAX gives a host up whose connections did not even close


@contextlib.contextmanager
def process_group(address: str, num_processes: int, process_id: int, timeout: float = 300.0) -> Iterator[None]:
    """Train in several processes on JAX, one a host: within the block all devices of all processes share each batch.

    The processes are started by hand or by a scheduler, all with the same program. They wait for each other, then
    `keras.distribution` is `DataParallel` over all their devices. Build the model within the block.

    Where one fails or is killed, the others end within seconds, each with one line that says so: nothing is left
    hanging. Start all again, and `train(..., resume=True)` goes on with the run.

    Args:
        address: "host:port" of the first process, with a free port that the other hosts can reach.
        num_processes: how many there are.
        process_id: which of them this one is, from 0.
        timeout: seconds to wait for the others.

    Raises:
        ValueError: an argument out of range; another backend than JAX; JAX has computed before; a port in use; an
            address at which the first process does not reach itself; two processes of one number, or processes that
            have other numbers of processes, other versions of the packages, or another code of this one.
        ConnectionError: the others did not come in time.

    Example:
        >>> with process_group("localhost:29500", num_processes=1, process_id=0):  # doctest: +SKIP
        ...     model = build()
        ...     keras_condense.training.train(model, data, "/shared/runs/imagenet", resume=True)
    """
    host, port = _check_address(address)
    check_positive_integer("num_processes", num_processes, "Give the same number to all processes.")
    if isinstance(process_id, bool) or not isinstance(process_id, int) or not 0 <= process_id < num_processes:
        raise ValueError(
            f"`process_id` (={shown(process_id)}) must be an integer in [0, {num_processes}), as there are "
            f"{num_processes} processes. Give each its own, the first one 0."
        )
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout < float("inf"):
        raise ValueError(f"`timeout` (={shown(timeout)}) must be a number of seconds above 0. Use 300.")
    _check_jax()
    me = Member(process_id, num_processes, _versions())
    deadline = time.monotonic() + timeout
    watch = _Watch(gather(host, port, me, deadline) if process_id == 0 else join(host, port, me, deadline), me)
    before = keras.distribution.distribution()
    try:
        import jax
        from keras.src.backend.jax.distribution_lib import initialize_rng

        # what `keras.distribution.initialize` does, which has no time limits
        jax.distributed.initialize(
            f"{host}:{port}",
            num_processes,
            process_id,
            initialization_timeout=max(int(timeout), 60),  # all are there, and begin this at the same time
            heartbeat_timeout_seconds=_HEARTBEAT,
            shutdown_timeout_seconds=int(_GRACE),
        )
        initialize_rng()
        keras.distribution.set_distribution(keras.distribution.DataParallel())
        yield
    except BaseException as error:
        watch.fail()
        if _OF_JAX.match(str(error)) and (lost := watch.lost()):  # what it was waiting for
            raise ConnectionError(lost) from None
        if isinstance(error, AssertionError) and "is not the same on each process" in str(error):  # JAX's
            raise ValueError(
                f"All {num_processes} processes must give a model the same weights, and they differ. Call "
                "`keras.utils.set_random_seed` with one seed in all, or load the weights from one file."
            ) from None
        raise
    finally:
        keras.distribution.set_distribution(before)
    watch.leave()


def _versions() -> dict[str, str]:
    """What all processes must run alike."""
    package = pathlib.Path(keras_condense.__file__).parent
    sources = sorted(path.read_bytes() for path in package.rglob("*.py"))
    versions = {name: importlib.metadata.version(name) for name in ("keras", "jax")}
    code = f"{zlib.crc32(b''.join(sources)):08x}"
    return {"Python": ".".join(map(str, sys.version_info[:2]))} | versions | {"the code of keras_condense": code}


def _check_address(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":") if isinstance(address, str) else ("", "", "")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise ValueError(
            f"`address` (={shown(address)}) must be the host and a port of the first process, as in '10.0.0.1:1234'."
        )
    return host, int(port)


def _check_jax() -> None:
    if keras.backend.backend() != "jax":
        raise ValueError(
            f"Keras' backend (={keras.backend.backend()!r}) must be 'jax' to train in several processes. Set "
            "KERAS_BACKEND=jax before Keras is imported."
        )
    from jax._src import xla_bridge  # there is no public way to ask

    if xla_bridge.backends_are_initialized():
        raise ValueError(
            "A process must join its group before JAX computes anything, and it has. Call `process_group` first in "
            "the program, before data are loaded and models are built."
        )


class _Watch:
    """Ends this process when another one is lost, in whose place no sum of gradients will ever come."""

    def __init__(self, lines: list[Line], me: Member):
        self._lines, self._me = lines, me
        self._done: set[int] = set()  # the processes that are at the end of their block
        self._ended: set[int] = set()  # those whose connection is closed
        self._failed = self._leaving = False
        self._lost = ""  # what is wrong with another one
        self._changed = threading.Condition()
        threading.Thread(target=self._run, daemon=True, name="process_group").start()

    def leave(self) -> None:
        """Wait until all are at the end of their block, and leave the group with them."""
        with self._changed:
            self._leaving = True
            if self._me.process_id:
                self._lines[0].send(done=True)
            self._changed.wait_for(lambda: self._lost or len(self._done) == len(self._lines))
        if self._lost:
            self._abandon()
            raise ConnectionError(self._lost)
        if not self._me.process_id:
            for line in self._lines:
                line.send(done=True)
        import jax

        jax.distributed.shutdown()

    def fail(self) -> None:
        """Tell the others that this process has failed."""
        with self._changed:
            self._failed = True
            self._changed.notify_all()
        for line in self._lines:
            line.send(failed=self._me.process_id)
        if not self._me.process_id:  # whose end JAX would take for a crash in all others, before they say what is wrong
            with self._changed:
                self._changed.wait_for(lambda: len(self._ended) == len(self._lines), _GRACE + 2)
        self._abandon()

    def lost(self) -> str:
        """What is wrong with another process, where one has failed or was lost."""
        with self._changed:
            self._changed.wait_for(lambda: self._lost, 1)  # JAX may have heard of it first
        return self._lost

    def _abandon(self) -> None:
        """Let this process end without the others: JAX would wait for them, and abort."""
        from jax._src import distributed
        from jax._src.api import clean_up

        if self._lines:
            atexit.unregister(clean_up)
            state = distributed.global_state
            self._kept = state.client, state.service  # by a thread that never ends: their own end aborts, too

    def _run(self) -> None:
        lines = {line.connection: line for line in self._lines}
        while lines:
            for connection in select.select(list(lines), [], [])[0]:
                line = lines[connection]
                try:
                    messages = line.receive_all()
                except OSError:
                    del lines[connection]
                    messages = [{"lost": line.process_id}]
                for message in messages:
                    with self._changed:
                        self._heed(line.process_id, message)
        threading.Event().wait()

    def _heed(self, sender: int, message: dict) -> None:
        """Take note of what another process says; the condition is held."""
        if "done" in message:
            self._done.add(sender)
        elif "lost" in message and sender == message["lost"]:
            self._ended.add(sender)
        self._changed.notify_all()
        if "done" not in message and not self._failed and sender not in self._done:
            self._end_with(message)

    def _end_with(self, message: dict) -> None:
        """End, as another process did; the condition is held."""
        if not self._me.process_id:
            for line in self._lines:
                line.send(**message)
        if "failed" in message:  # what all refuse, each says itself
            self._changed.wait_for(lambda: self._failed or self._leaving, _GRACE)
        number, what = message.get("failed", message.get("lost")), "failed" if "failed" in message else "was lost"
        self._lost = (
            f"Process {number} of {self._me.num_processes} {what}, so process {self._me.process_id} ends too. Start "
            "all again; a run goes on with `resume=True`."
        )
        self._changed.notify_all()
        if not self._failed and not self._leaving:
            print(f"ConnectionError: {self._lost}", file=sys.stderr, flush=True)
            os._exit(1)  # the main thread waits inside JAX, where no exception reaches it
