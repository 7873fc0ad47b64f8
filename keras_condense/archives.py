"""Zip archives of strangers (`.keras`, `.npz`): looked at before anything is unpacked."""

import os
import pathlib
import zipfile

__all__ = ["check_archive"]

_KINDS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what Keras and NumPy write
_SMALL = 1 << 28  # bytes that any file may unpack to
_MOST_TIMES = 100  # what numbers of images and networks shrink by, with room; zeros alone shrink a thousand times


def check_archive(path: str | os.PathLike) -> set[str]:
    """Return the names of an archive's parts, if it can be unpacked without surprises.

    Args:
        path: a file that can be read.

    Raises:
        ValueError: parts that are encrypted, packed otherwise than NumPy and Keras do, of the same name, or so much
            larger unpacked that they only seem to hold numbers.
        zipfile.BadZipFile: no archive.
        OSError: reading failed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with zipfile.ZipFile(f"{folder}/a.npz", "w") as archive:
        ...         archive.writestr("x.npy", b"")
        ...     check_archive(f"{folder}/a.npz")
        {'x.npy'}
    """
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
    names = [part.filename for part in parts]
    if len(set(names)) < len(names):
        raise ValueError("it has several parts of one name")
    for part in parts:
        if part.flag_bits & 0x1:
            raise ValueError(f"its part {part.filename[:100]!r} is encrypted")
        if part.compress_type not in _KINDS:
            raise ValueError(f"its part {part.filename[:100]!r} is packed in a way that is not known here")
    unpacked, packed = sum(part.file_size for part in parts), pathlib.Path(path).stat().st_size
    if unpacked > max(_SMALL, _MOST_TIMES * packed):
        raise ValueError(f"its {packed:,} bytes would unpack to {unpacked:,}, so that they can hold next to nothing")
    return set(names)
