"""Files of PyTorch weights, read without PyTorch and without running what they may hold.

`torch.save` writes a pickle, and a pickle is a program. What is read here is scanned first: the opcodes and the names
that a dictionary of tensors needs are known, and a file with any other is refused before one of them runs. Both formats
are read: the stream that PyTorch wrote before 1.6, and the zip archive since; and a zip with one such file in it, as
pytorchcv releases them. Sizes are checked against the bytes that are there.
"""

import collections
import hashlib
import io
import math
import os
import pickle
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

__all__ = ["TORCH_SUFFIXES", "read_state_dict", "state_dict_of", "unpacked"]

TORCH_SUFFIXES = (".pth", ".pth.zip")

MAX_BYTES = 2**30  # of a file and of all its tensors; the largest published one has 0.17 * 2^30
MAX_PICKLE_BYTES = 2**24  # names and shapes; the largest published one has 2^18
MAX_MEMO = 2**20  # a larger number makes the unpickler reserve memory for all below it
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # with which the stream begins

# what pickles of tensors are made of in protocol 2, which `torch.save` writes
_OPCODES = frozenset(
    {
        *("PROTO", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE"),
        *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"),
        *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "APPEND", "APPENDS"),
        *("EMPTY_DICT", "SETITEM", "SETITEMS", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
        *("GLOBAL", "REDUCE", "BUILD", "BINPERSID"),
    }
)
_MEMO_OPCODES = frozenset({"BINPUT", "LONG_BINPUT"})


# The objects that a pickle can make are named tuples: unlike other classes' they can't be changed by its BUILD opcode.
class _StorageType(NamedTuple):
    dtype: str


class _Storage(NamedTuple):
    dtype: str
    key: str
    count: int


class _Tensor(NamedTuple):
    storage: Any
    offset: Any
    shape: Any
    strides: Any


class _Call(NamedTuple):
    function: Callable[..., Any]

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)


_GLOBALS: Mapping[str, Any] = {
    "collections OrderedDict": _Call(collections.OrderedDict),
    "torch._utils _rebuild_tensor": _Call(
        lambda storage, offset, shape, strides: _Tensor(storage, offset, shape, strides)
    ),
    # then: whether it needs a gradient, hooks, and in later versions metadata
    "torch._utils _rebuild_tensor_v2": _Call(lambda *parts: _Tensor(*parts[:4])),
    "torch._utils _rebuild_parameter": _Call(lambda tensor, *_: tensor),
    "torch HalfStorage": _StorageType("float16"),
    "torch FloatStorage": _StorageType("float32"),
    "torch DoubleStorage": _StorageType("float64"),
    "torch LongStorage": _StorageType("int64"),
}

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
            _check_size(os.path.getsize(path), MAX_BYTES, "it")
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


def _check_size(size: int, limit: int, what: str) -> None:
    if size > limit:
        raise ValueError(f"{what} has {size:,} bytes, more than the {limit:,} that are read")


def _bytes_of_release(path: str | os.PathLike) -> bytes | None:
    """What is in a zip with one .pth file; None for an archive that `torch.save` wrote."""
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if not member.is_dir()]
        if any(member.filename.rpartition("/")[2] == "data.pkl" for member in members):
            return None
        if len(members) != 1 or not members[0].filename.endswith(".pth"):
            names = ", ".join(repr(member.filename) for member in members[:3]) or "nothing"
            raise ValueError(f"a zip must hold one .pth file, and this one holds {names}")
        return _member(archive, members[0], MAX_BYTES)


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, limit: int) -> bytes:
    # no more is unpacked than the size that the directory gives, and other bytes than those fail the checksum
    _check_size(member.file_size, limit, repr(member.filename))
    return archive.read(member)


def _read_archive(data: bytes) -> tuple[Any, dict[str, np.ndarray]]:
    """The format since PyTorch 1.6: a zip of `data.pkl` and a file of raw numbers for each storage."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {member.filename: member for member in archive.infolist()}
        pickles = [name for name in members if name.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1:
            raise ValueError(f"an archive must hold one data.pkl, and this one holds {len(pickles)}")
        folder = pickles[0].removesuffix("data.pkl")
        contents, wanted = _unpickle(io.BytesIO(_member(archive, members[pickles[0]], MAX_PICKLE_BYTES)))
        order = f"{folder}byteorder"
        big = order in members and _member(archive, members[order], 16) == b"big"
        storages = {}
        for key, storage in wanted.items():
            raw = _member(archive, members[f"{folder}data/{key}"], _bytes_of(storage))
            storages[key] = _numbers(raw, storage, big)
    return contents, storages


def _read_stream(data: bytes) -> tuple[Any, dict[str, np.ndarray]]:
    """The format before PyTorch 1.6: five pickles, then each storage's count and raw numbers."""
    stream = io.BytesIO(data)
    if _unpickle(stream)[0] != _MAGIC or _unpickle(stream)[0] != _PROTOCOL:
        raise ValueError("it does not begin as such a file")
    big = _unpickle(stream)[0]["little_endian"] is False
    contents, wanted = _unpickle(stream)
    keys = _unpickle(stream)[0]
    if sorted(keys) != sorted(wanted):
        raise ValueError("its list of storages is not the one that its tensors need")
    storages = {}
    for key in keys:
        (count,) = struct.unpack("<q", stream.read(8))
        storage = wanted[key]
        if count != storage.count:
            raise ValueError(f"storage {key!r} holds {count} numbers, and its tensors name {storage.count}")
        storages[key] = _numbers(stream.read(_bytes_of(storage)), storage, big)
    return contents, storages


def _unpickle(stream: io.BytesIO) -> tuple[Any, dict[str, _Storage]]:
    """The next pickle of a stream, and the storages that it names; refused unless all its opcodes are known."""
    start = stream.tell()
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name not in _OPCODES:
            raise ValueError(f"it asks the unpickler for {opcode.name}, which weights never need")
        if opcode.name == "GLOBAL" and argument not in _GLOBALS:
            raise ValueError(f"it names {argument.replace(' ', '.')!r}, which is no part of weights; nothing of it ran")
        if opcode.name in _MEMO_OPCODES and argument > MAX_MEMO:
            raise ValueError(f"it numbers an object {argument}, beyond {MAX_MEMO}")
    _check_size(stream.tell() - start, MAX_PICKLE_BYTES, "its pickle")
    stream.seek(start)
    unpickler = _Unpickler(stream)
    return unpickler.load(), unpickler.storages


class _Unpickler(pickle.Unpickler):
    """An unpickler that knows what tensors are made of, and nothing else; a second fence behind the scan."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream, encoding="utf-8")
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        return _GLOBALS[f"{module} {name}"]

    def persistent_load(self, identifier: Any) -> _Storage:
        kind, storage_type, key, _device, count, *view = identifier
        if kind != "storage" or not isinstance(storage_type, _StorageType) or not isinstance(key, str):
            raise ValueError(f"it names {kind!r} where a storage is to be")
        if any(view_part is not None for view_part in view):
            raise ValueError("it holds a view of a storage, as files older than PyTorch 0.4 do")
        storage = _Storage(storage_type.dtype, key, _size(count))
        if self.storages.setdefault(key, storage) != storage:
            raise ValueError(f"it gives two sizes or types to storage {key!r}")
        _check_size(sum(map(_bytes_of, self.storages.values())), MAX_BYTES, "the sum of its storages")
        return storage


def _size(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"it has {value!r} where a number of elements is to be")
    return value


def _bytes_of(storage: _Storage) -> int:
    return storage.count * np.dtype(storage.dtype).itemsize


def _numbers(raw: bytes, storage: _Storage, big: bool) -> np.ndarray:
    if len(raw) != _bytes_of(storage):
        raise ValueError(f"storage {storage.key!r} has {len(raw)} bytes of {_bytes_of(storage)}")
    return np.frombuffer(raw, np.dtype(storage.dtype).newbyteorder(">" if big else "<"))


def _tensors(contents: Any, storages: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    if not isinstance(contents, dict) or not contents:
        raise ValueError(f"it holds a {type(contents).__name__} and not a dictionary of tensors")
    for name, tensor in contents.items():
        if not isinstance(name, str) or not isinstance(tensor, _Tensor):
            raise ValueError(f"its entry {name!r} is no tensor")
    return {name: _array(name, tensor, storages) for name, tensor in contents.items()}


def _array(name: str, tensor: _Tensor, storages: Mapping[str, np.ndarray]) -> np.ndarray:
    if not isinstance(tensor.storage, _Storage):
        raise ValueError(f"tensor {name!r} has no storage")
    numbers = storages[tensor.storage.key]
    shape, strides = (tuple(map(_size, values)) for values in (tensor.shape, tensor.strides))
    if len(shape) != len(strides) or len(shape) > 8:
        raise ValueError(f"tensor {name!r} has the shape {shape} and the strides {strides}")
    first, count = _size(tensor.offset), math.prod(shape)
    last = first + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True)) if count else first
    if count > numbers.size or last >= numbers.size + (count == 0):
        raise ValueError(f"tensor {name!r} of shape {shape} reaches beyond the {numbers.size} numbers of its storage")
    return np.lib.stride_tricks.as_strided(
        numbers[first:], shape, [stride * numbers.itemsize for stride in strides], writeable=False
    )
