"""What C++ code writes to standard error, out of reach of Python's logging.

This file needs nothing but Python: programs that are to start quietly run it by its path, before they import Keras.
"""

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator

__all__ = ["native_output_logged"]

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def native_output_logged() -> Iterator[None]:
    """Send what C++ code writes to standard error to this module's log, at level DEBUG.

    TensorFlow's libraries report there when they are loaded, converter and interpreter on their own progress.
    """
    with contextlib.suppress(AttributeError, OSError, ValueError):
        sys.stderr.flush()
    try:
        saved = os.dup(2)
    except OSError:  # a process without standard error has nothing to keep quiet
        yield
        return
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            file.seek(0)
            for line in file.read().decode(errors="replace").splitlines():
                logger.debug(line)
