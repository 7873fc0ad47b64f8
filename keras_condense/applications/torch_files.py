"""Files of PyTorch weights, read without PyTorch and without running what they may hold.

`torch_pickles` reads the pickles in them. Both formats are known: the stream that PyTorch wrote before 1.6, and the zip
archive since; and a zip with one such file in it, as pytorchcv releases them. Sizes are checked against the bytes that
are there.
"""

import hashlib
import io
import math
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_condense.applications import torch_pickles
from keras_condense.applications.torch_pickles import Storage, TensorParts, bytes_of, check_size, size_of, unpickle

__all__ = ["TORCH_SUFFIXES", "read_state_dict", "state_dict_of", "unpacked"]

TORCH_SUFFIXES = (".pth", ".pth.zip")

_ZIP_KINDS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # of others zipfile unpacks more than it is asked for
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # with which the stream begins

# what the standard library raises for bytes that are no pickle, no zip, or not whole
_BROKEN = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


def read_state_dict(path: str | os.PathLike, name: str = "path") -> dict[str, np.ndarray]:
    """Return the tensors of a file that `torch.save(model.state_dict(), path)` wrote.

    Args:
        path: a .pth file of either format, or a zip with one in it.
        name: of the argument, for the message.

    Returns:
        Read-only arrays of float16, float32, float64 or int64 by their names, in the file's order.

    Raises:
        ValueError: no such file, one that is broken or too large, or one that holds anything but tensors.

    Example:
        >>> read_state_dict("no/such.pth")
        Traceback (most recent call last):
        ...
        ValueError: `path` (='no/such.pth') must be a whole file of PyTorch weights, and this one can't be read...
    """
    described = f"`{name}` (={os.fspath(path)!r})"
    return state_dict_of(unpacked(path, described), described)


def unpacked(path: str | os.PathLike, described: str, sha1: str = "") -> bytes:
    """Return the bytes of a .pth file, taken out of the zip that it may lie in.

    Args:
        path: the file.
        described: what to call it in a message.
        sha1: the SHA-1 that the bytes must have, in hexadecimal digits; empty to take any.

    Raises:
        ValueError: a file that can't be read, is too large, or is another than `sha1` says.
    """
    try:
        data = _bytes_of_release(path) if zipfile.is_zipfile(path) else None
        if data is None:
            check_size(os.path.getsize(path), torch_pickles.MAX_BYTES, "it")
            with open(path, "rb") as file:
                data = file.read()
    except _BROKEN as error:
        raise _unreadable(described, error) from error
    found = hashlib.sha1(data, usedforsecurity=False).hexdigest() if sha1 else ""
    if found != sha1:
        raise ValueError(
            f"{described} must hold a file of SHA-1 {sha1}, and has {found}: it is damaged, or another file than the "
            "published one. Fetch it again."
        )
    return data


def state_dict_of(data: bytes, described: str) -> dict[str, np.ndarray]:
    """Return the tensors in the bytes of a .pth file (see `read_state_dict`).

    Args:
        data: the whole file.
        described: what to call it in a message.
    """
    try:
        if zipfile.is_zipfile(io.BytesIO(data)):
            contents, storages = _read_archive(data)
        else:
            contents, storages = _read_stream(data)
        return _tensors(contents, storages)
    except _BROKEN as error:
        raise _unreadable(described, error) from error


def _unreadable(described: str, error: BaseException) -> ValueError:
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return ValueError(
        f"{described} must be a whole file of PyTorch weights, and this one can't be read ({reason}). "
        "Give a file that torch.save(model.state_dict(), 'name.pth') wrote."
    )


def _bytes_of_release(path: str | os.PathLike) -> bytes | None:
    """What is in a zip with one .pth file; None for an archive that `torch.save` wrote."""
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if not member.is_dir()]
        if any(member.filename.rpartition("/")[2] == "data.pkl" for member in members):
            return None
        if len(members) != 1 or not members[0].filename.endswith(".pth"):
            names = ", ".join(repr(member.filename) for member in members[:3]) or "nothing"
            raise ValueError(f"a zip must hold one .pth file, and this one holds {names}")
        return _member(archive, members[0], torch_pickles.MAX_BYTES)


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, limit: int) -> bytes:
    check_size(member.file_size, limit, repr(member.filename))
    if member.compress_type not in _ZIP_KINDS:
        raise ValueError(f"{member.filename!r} in it is packed in a way that is not known here")
    with archive.open(member) as file:  # `ZipFile.read` unpacks all, and then takes as much as the directory says
        return file.read(member.file_size + 1)


def _read_archive(data: bytes) -> tuple[Any, dict[str, np.ndarray]]:
    """The format since PyTorch 1.6: a zip of `data.pkl` and a file of raw numbers for each storage."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {member.filename: member for member in archive.infolist()}
        pickles = [name for name in members if name.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1:
            raise ValueError(f"an archive must hold one data.pkl, and this one holds {len(pickles)}")
        folder = pickles[0].removesuffix("data.pkl")
        contents, wanted = unpickle(io.BytesIO(_member(archive, members[pickles[0]], torch_pickles.MAX_PICKLE_BYTES)))
        order = f"{folder}byteorder"
        big = order in members and _member(archive, members[order], 16) == b"big"
        storages = {}
        for key, storage in wanted.items():
            raw = _member(archive, members[f"{folder}data/{key}"], bytes_of(storage))
            storages[key] = _numbers(raw, storage, big)
    return contents, storages


def _read_stream(data: bytes) -> tuple[Any, dict[str, np.ndarray]]:
    """The format before PyTorch 1.6: five pickles, then each storage's count and raw numbers."""
    stream = io.BytesIO(data)
    if unpickle(stream)[0] != _MAGIC or unpickle(stream)[0] != _PROTOCOL:
        raise ValueError("it does not begin as such a file")
    big = unpickle(stream)[0]["little_endian"] is False
    contents, wanted = unpickle(stream)
    keys = unpickle(stream)[0]
    if sorted(keys) != sorted(wanted):
        raise ValueError("its list of storages is not the one that its tensors need")
    storages = {}
    for key in keys:
        (count,) = struct.unpack("<q", stream.read(8))
        storage = wanted[key]
        if count != storage.count:
            raise ValueError(f"storage {key!r} holds {count} numbers, and its tensors name {storage.count}")
        storages[key] = _numbers(stream.read(bytes_of(storage)), storage, big)
    return contents, storages


def _numbers(raw: bytes, storage: Storage, big: bool) -> np.ndarray:
    if len(raw) != bytes_of(storage):
        raise ValueError(f"storage {storage.key!r} has {len(raw)} bytes of {bytes_of(storage)}")
    return np.frombuffer(raw, np.dtype(storage.dtype).newbyteorder(">" if big else "<"))


def _tensors(contents: Any, storages: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    if not isinstance(contents, dict) or not contents:
        raise ValueError(f"it holds a {type(contents).__name__} and not a dictionary of tensors")
    entries = list(dict.items(contents))  # and not its own `items`, which a pickle can replace
    for name, tensor in entries:
        if not isinstance(name, str) or not isinstance(tensor, TensorParts):
            raise ValueError(f"its entry {name!r} is not a tensor")
    return {name: _array(name, tensor, storages) for name, tensor in entries}


def _array(name: str, tensor: TensorParts, storages: Mapping[str, np.ndarray]) -> np.ndarray:
    if not isinstance(tensor.storage, Storage):
        raise ValueError(f"tensor {name!r} has no storage")
    numbers = storages[tensor.storage.key]
    shape, strides = (tuple(map(size_of, values)) for values in (tensor.shape, tensor.strides))
    if len(shape) != len(strides) or len(shape) > 8:
        raise ValueError(f"tensor {name!r} has the shape {shape} and the strides {strides}")
    first, count = size_of(tensor.offset), math.prod(shape)
    last = first + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True)) if count else first
    if count > numbers.size or last >= numbers.size + (count == 0):
        raise ValueError(f"tensor {name!r} of shape {shape} reaches beyond the {numbers.size} numbers of its storage")
    return np.lib.stride_tricks.as_strided(
        numbers[first:], shape, [stride * numbers.itemsize for stride in strides], writeable=False
    )
