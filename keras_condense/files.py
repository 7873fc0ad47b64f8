"""Files that are either whole or untouched: a write goes to a neighbour first and is then renamed."""

import contextlib
import glob
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

__all__ = ["check_path", "check_writable", "locked", "remove_leftovers", "replacing", "write_bytes", "write_text"]


def check_path(name: str, value: Any) -> pathlib.Path:
    """Return `value` as a `pathlib.Path` if it is a string or a path.

    Args:
        name: the argument's name, for the message.
        value: what the caller gave.

    Raises:
        ValueError: for anything else, bytes included.

    Example:
        >>> check_path("path", 3)
        Traceback (most recent call last):
        ...
        ValueError: `path` (=3) must be a string or a path. Give a name such as 'runs/digits'.
    """
    if not isinstance(value, (str, os.PathLike)):
        raise ValueError(f"`{name}` (={value!r}) must be a string or a path. Give a name such as 'runs/digits'.")
    return pathlib.Path(value)


def check_writable(path: str | os.PathLike) -> pathlib.Path:
    """Raise before any work is done if a file could not be written at `path`.

    Args:
        path: the file to be written; its folder is not made here.

    Returns:
        The path as a `pathlib.Path`.

    Raises:
        ValueError: the folder is missing, is no folder or takes no files; `path` is a folder or no path at all.

    Example:
        >>> check_writable("/no/such/folder/model.tflite")
        Traceback (most recent call last):
        ...
        ValueError: `path` (='/no/such/folder/model.tflite') must lie in an existing folder...
    """
    path = check_path("path", path)
    folder = path.parent
    if path.is_dir():
        raise ValueError(f"`path` (={str(path)!r}) must name a file, not a folder. Add a file name to it.")
    if not folder.is_dir():
        raise ValueError(
            f"`path` (={str(path)!r}) must lie in an existing folder, and {str(folder)!r} is none. Make it first."
        )
    try:
        # access(2) says yes to root even on a read-only mount: only a real file tells
        handle, probe = tempfile.mkstemp(prefix=f".{path.name}.", dir=folder)
    except OSError as error:
        raise ValueError(
            f"`path` (={str(path)!r}) must lie in a folder that takes new files, and {str(folder)!r} does not "
            f"({error.strerror}). Choose another folder or change its permissions."
        ) from error
    os.close(handle)
    os.unlink(probe)
    return path


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yield a temporary neighbour of `path` to write to; rename it onto `path` when the block succeeds.

    When the block raises, the neighbour is removed and what stood at `path` stays. The neighbour keeps `path`'s
    suffixes, since Keras chooses a file format by them (`.weights.h5`).

    Args:
        path: the file to make or replace.

    Yields:
        The neighbour's path.

    Raises:
        ValueError: as `check_writable`.
        OSError: the block's or the rename's own, for instance a full disk.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(pathlib.Path(folder, "a.txt")) as temporary:
        ...         _ = temporary.write_text("whole")
        ...     sorted(entry.name for entry in pathlib.Path(folder).iterdir())
        ['a.txt']
    """
    path = check_writable(path)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix="".join(path.suffixes), dir=path.parent)
    os.close(handle)
    temporary = pathlib.Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes files that only their owner reads
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())  # the rename must not reach the disk before the bytes
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all (see `replacing`)."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all (see `replacing`)."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def remove_leftovers(path: str | os.PathLike) -> None:
    """Remove the temporary neighbours that writes of `path` left behind because their process was killed.

    Args:
        path: the file they were for, which is not touched. No other process may be writing it (see `locked`).

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = pathlib.Path(folder, ".model.x1y2z3_4.keras").write_text("half")
        ...     remove_leftovers(pathlib.Path(folder, "model.keras"))
        ...     list(pathlib.Path(folder).iterdir())
        []
    """
    path = pathlib.Path(path)
    random = "[a-z0-9_]" * 8  # what mkstemp puts into a name
    stem, name, suffix = map(glob.escape, (path.stem, path.name, "".join(path.suffixes)))
    for pattern in (f".{stem}.{random}{suffix}", f".{name}.{random}"):  # of `replacing` and of `check_writable`
        for leftover in path.parent.glob(pattern):
            leftover.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder: str | os.PathLike) -> Iterator[None]:
    """Keep a folder to this process while the block runs, among those that ask; a killed process lets go of it.

    Nothing is written. Where there are no such locks (Windows, some network file systems) nothing is locked.

    Args:
        folder: an existing folder.

    Raises:
        ValueError: another process has it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, locked(folder):
        ...     with locked(folder):
        ...         pass
        Traceback (most recent call last):
        ...
        ValueError: `folder` (='...') must be used by one process at a time, and another one ...
    """
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"`folder` (={os.fspath(folder)!r}) must be used by one process at a time, and another one is using "
                "it. Wait until it ends, or choose another folder."
            ) from error
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(handle)
