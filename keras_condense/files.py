"""Files that are either whole or untouched: a write goes to a neighbour first and is then renamed."""

import contextlib
import glob
import os
import pathlib
import stat
import tempfile
from collections.abc import Iterator
from typing import Any

from keras_condense.validation import shown

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

__all__ = [
    "check_path",
    "check_readable",
    "check_writable",
    "locked",
    "remove_leftovers",
    "replacing",
    "write_bytes",
    "write_text",
]

_SHOWN = 24  # characters of a name that its temporary neighbour takes over, so that no name gets too long


def check_path(name: str, value: Any) -> pathlib.Path:
    """Return `value` as a `pathlib.Path` if it is a string or a path.

    Args:
        name: the argument's name, for the message.
        value: what the caller gave.

    Raises:
        ValueError: for anything else, bytes included; a string with a null character.

    Example:
        >>> check_path("path", 3)
        Traceback (most recent call last):
        ...
        ValueError: `path` (=3) must be a string or a path. Give a name such as 'runs/digits'.
    """
    if not isinstance(value, (str, os.PathLike)):
        raise ValueError(f"`{name}` (={shown(value)}) must be a string or a path. Give a name such as 'runs/digits'.")
    if "\0" in str(value):
        raise ValueError(f"`{name}` (={str(value)!r}) must have no null character in it. Remove it.")
    return pathlib.Path(value)


def check_readable(name: str, value: Any, fix: str = "Check the name.") -> pathlib.Path:
    """Return `value` as a path if it is a regular file, or a link to one, that can be read; nothing is opened.

    Opening a pipe waits for somebody who writes to it, and reading a device may never end.

    Args:
        name: the argument's name, for the message.
        value: what the caller gave.
        fix: a sentence that says how to fix it.

    Raises:
        ValueError: no path, nothing there, not a regular file, or no right to read it.

    Example:
        >>> check_readable("path", "no/such/model.keras")
        Traceback (most recent call last):
        ...
        ValueError: `path` (='no/such/model.keras') must be an existing file. Check the name.
        >>> check_readable("path", "/dev/null")
        Traceback (most recent call last):
        ...
        ValueError: `path` (='/dev/null') must be a regular file, and is a device. Check the name.
    """
    path = check_path(name, value)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(f"`{name}` (={str(path)!r}) must be an existing file. {fix}") from error
    except OSError as error:  # a name of more than 255 bytes, links in a circle, a folder that may not be entered
        raise ValueError(
            f"`{name}` (={str(path)!r}) must be a file that can be read, and can't ({error.strerror}). {fix}"
        ) from error
    if not stat.S_ISREG(mode):
        raise ValueError(f"`{name}` (={str(path)!r}) must be a regular file, and is a {_kind(mode)}. {fix}")
    if not os.access(path, os.R_OK):
        raise ValueError(f"`{name}` (={str(path)!r}) must be a file that can be read. Change its permissions.")
    return path


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}
    return kinds.get(stat.S_IFMT(mode), "device")


def check_writable(path: str | os.PathLike) -> pathlib.Path:
    """Raise before any work is done if a file could not be written at `path`.

    Args:
        path: the file to be written; its folder is not made here. A link stands for the file that it leads to.

    Returns:
        The path as a `pathlib.Path`.

    Raises:
        ValueError: the folder is missing, is no folder or takes no files; the name is too long; `path` is a folder, a
            pipe, a device, a link in a circle or no path at all.

    Example:
        >>> check_writable("/no/such/folder/model.tflite")
        Traceback (most recent call last):
        ...
        ValueError: `path` (='/no/such/folder/model.tflite') must be in an existing folder...
    """
    path = check_path("path", path)
    _, probe, _ = _neighbour(path)
    probe.unlink()
    return path


def _neighbour(path: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path, os.stat_result | None]:
    """Return the file that `path` leads to, a new temporary file beside it, and what stands there now."""
    target = pathlib.Path(os.path.realpath(path))
    try:
        there = target.lstat()
    except (FileNotFoundError, NotADirectoryError):
        there = None
    except OSError as error:
        raise ValueError(
            f"`path` (={str(path)!r}) must name a file that can be made, and can't ({error.strerror}). "
            "Choose another name."
        ) from error
    if there and stat.S_ISDIR(there.st_mode):
        raise ValueError(f"`path` (={str(path)!r}) must name a file, not a folder. Add a file name to it.")
    if there and stat.S_ISLNK(there.st_mode):
        raise ValueError(f"`path` (={str(path)!r}) must name a file, and its links lead in a circle. Remove them.")
    if there and not stat.S_ISREG(there.st_mode):
        raise ValueError(
            f"`path` (={str(path)!r}) must name a regular file, and is a {_kind(there.st_mode)}. Choose another name."
        )
    folder = target.parent
    if not folder.is_dir():
        raise ValueError(
            f"`path` (={str(path)!r}) must be in an existing folder, and {str(folder)!r} is none. Create it first."
        )
    try:
        # access(2) says yes to root even on a read-only mount: only a real file tells
        handle, temporary = tempfile.mkstemp(prefix=_prefix(target), suffix=_suffix(target), dir=folder)
    except OSError as error:
        raise ValueError(
            f"`path` (={str(path)!r}) must lie in a folder that takes new files, and {str(folder)!r} does not "
            f"({error.strerror}). Choose another folder or change its permissions."
        ) from error
    os.close(handle)
    return target, pathlib.Path(temporary), there


def _prefix(path: pathlib.Path) -> str:
    return f".{path.stem[:_SHOWN]}."


def _suffix(path: pathlib.Path) -> str:
    return "".join(path.suffixes)[-_SHOWN:]


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yield a temporary neighbour of `path` to write to; rename it onto `path` when the block succeeds.

    When the block raises, the neighbour is removed and what stood at `path` stays. The neighbour keeps `path`'s
    suffixes, since Keras chooses a file format by them (`.weights.h5`). Where `path` is a link, the file that it leads
    to is replaced and the link stays. What replaces a file gets its permissions and, where that is allowed, its owner.

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
    target, temporary, replaced = _neighbour(check_path("path", path))
    try:
        yield temporary
        with open(temporary, "rb") as file:
            if replaced is None:
                umask = os.umask(0)
                os.umask(umask)
                temporary.chmod(0o666 & ~umask)  # mkstemp makes files that only their owner reads
            else:
                with contextlib.suppress(OSError, AttributeError):  # not root, or Windows
                    os.chown(temporary, replaced.st_uid, replaced.st_gid)
                temporary.chmod(stat.S_IMODE(replaced.st_mode))
            os.fsync(file.fileno())  # the rename must not reach the disk before the bytes
        os.replace(temporary, target)
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
    path = pathlib.Path(os.path.realpath(path))
    random = "[a-z0-9_]" * 8  # what mkstemp puts into a name
    for leftover in path.parent.glob(f"{glob.escape(_prefix(path))}{random}{glob.escape(_suffix(path))}"):
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
