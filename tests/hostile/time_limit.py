"""A bound on the time that one hostile case may take, and how many cases are tried."""

import contextlib
import os
import signal
from collections.abc import Iterator

SCALE = float(os.environ.get("HOSTILE_SCALE", "1"))  # 20 tries twenty times as many damaged files


class TooSlow(BaseException):
    """Raised from a signal, and caught by nothing that catches exceptions."""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TooSlow within the block after so many seconds; native code that never returns is out of its reach."""

    def stop(*_):
        raise TooSlow(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def scaled(count: int) -> range:
    """The numbers of the cases to try where CI tries `count`."""
    return range(max(1, round(count * SCALE)))
