"""Pickles of tensors, looked through before they run.

A pickle is a program. The opcodes and the names that a dictionary of tensors needs are known, and a pickle with any
other is refused before one of them runs; so is one that would take the memory, or the stack.
"""

import collections
import io
import pickle
import pickletools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

__all__ = ["MAX_BYTES", "MAX_PICKLE_BYTES", "Storage", "TensorParts", "bytes_of", "check_size", "size_of", "unpickle"]

MAX_BYTES = 2**30  # of a file and of all its tensors; the largest published one has 0.17 * 2^30
MAX_PICKLE_BYTES = 2**24  # names and shapes; the largest published one has 2^18
MAX_MEMO = 2**20  # a larger number makes the unpickler reserve memory for all below it
MAX_DEPTH = 100  # of objects in each other, through which Python goes by recursion in C; tensors need 5

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
_ADDING_OPCODES = frozenset({"APPEND", "APPENDS", "SETITEM", "SETITEMS", "BUILD"})


# The objects that a pickle can make are named tuples: unlike other classes' they can't be changed by its BUILD opcode.
class _StorageType(NamedTuple):
    dtype: str


class Storage(NamedTuple):
    """Numbers that a file holds under a key: their dtype in NumPy's words, and how many they are."""

    dtype: str
    key: str
    count: int


class TensorParts(NamedTuple):
    """What a pickle says of a tensor, unchecked: a place in a storage, and the strides in numbers."""

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
        lambda storage, offset, shape, strides: TensorParts(storage, offset, shape, strides)
    ),
    # then: whether it needs a gradient, hooks, and in later versions metadata
    "torch._utils _rebuild_tensor_v2": _Call(lambda *parts: TensorParts(*parts[:4])),
    "torch._utils _rebuild_parameter": _Call(lambda tensor, *_: tensor),
    "torch HalfStorage": _StorageType("float16"),
    "torch FloatStorage": _StorageType("float32"),
    "torch DoubleStorage": _StorageType("float64"),
    "torch LongStorage": _StorageType("int64"),
}


def check_size(size: int, limit: int, what: str) -> None:
    """Raise ValueError if `what` has more bytes than are read."""
    if size > limit:
        raise ValueError(f"{what} has {size:,} bytes, more than the {limit:,} that are read")


def unpickle(stream: io.BytesIO) -> tuple[Any, dict[str, Storage]]:
    """The next pickle of a stream, and the storages that it names; refused unless all its opcodes are known."""
    start, nesting = stream.tell(), _Nesting()
    for opcode, argument, _ in pickletools.genops(stream):
        check_size(stream.tell() - start, MAX_PICKLE_BYTES, "its pickle")
        if opcode.name not in _OPCODES:
            raise ValueError(f"it asks the unpickler for {opcode.name}, which weights never need")
        if opcode.name == "GLOBAL" and argument not in _GLOBALS:
            raise ValueError(f"it names {argument.replace(' ', '.')!r}, which is no part of weights; nothing of it ran")
        if opcode.name in _MEMO_OPCODES and argument > MAX_MEMO:
            raise ValueError(f"it numbers an object {argument}, beyond {MAX_MEMO}")
        nesting.add(opcode, argument)
    stream.seek(start)
    unpickler = _Unpickler(stream)
    return unpickler.load(), unpickler.storages


class _Nesting:
    """How deep objects lie in each other that a pickle would make: its stack, with depths in place of objects."""

    def __init__(self) -> None:
        self._stack: list[int | None] = []  # None for a mark
        self._memo: dict[int, int] = {}

    def add(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        """Follow one opcode; raise ValueError where objects lie too deep."""
        if opcode.name == "MARK":
            self._stack.append(None)
        elif opcode.name in _MEMO_OPCODES:
            self._memo[argument] = self._stack[-1]
        elif opcode.stack_after:
            is_known = opcode.name in ("BINGET", "LONG_BINGET")
            depth = self._memo[argument] if is_known else self._made_of(opcode.name, self._taken(opcode.stack_before))
            if depth > MAX_DEPTH:
                raise ValueError(f"its objects lie in each other more than {MAX_DEPTH} deep")
            self._stack.append(depth)

    def _taken(self, kinds: list[pickletools.StackObject]) -> list[int]:
        """Take off the stack what an opcode does."""
        first = len(self._stack) - len(kinds)
        if pickletools.markobject in kinds:
            mark = len(self._stack) - 1 - self._stack[::-1].index(None)
            del self._stack[mark]
            first = mark - kinds.index(pickletools.markobject)
        taken = self._stack[first:]
        del self._stack[first:]
        return taken

    @staticmethod
    def _made_of(name: str, parts: list[int]) -> int:
        if name in _ADDING_OPCODES:
            return max(parts[0], 1 + max(parts[1:], default=-1))
        return 1 + max(parts, default=-1)


class _Unpickler(pickle.Unpickler):
    """An unpickler that knows what tensors are made of, and nothing else; a second fence behind the scan."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream, encoding="utf-8")
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        return _GLOBALS[f"{module} {name}"]

    def persistent_load(self, identifier: Any) -> Storage:
        kind, storage_type, key, _device, count, *view = identifier
        if kind != "storage" or not isinstance(storage_type, _StorageType) or not isinstance(key, str):
            raise ValueError(f"it names {kind!r} where a storage is to be")
        if any(view_part is not None for view_part in view):
            raise ValueError("it holds a view of a storage, as files older than PyTorch 0.4 do")
        storage = Storage(storage_type.dtype, key, size_of(count))
        if self.storages.setdefault(key, storage) != storage:
            raise ValueError(f"it gives two sizes or types to storage {key!r}")
        check_size(sum(map(bytes_of, self.storages.values())), MAX_BYTES, "the sum of its storages")
        return storage


def size_of(value: Any) -> int:
    """Return a number of elements; raise ValueError for what is none."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"it has {value!r} where a number of elements is to be")
    return value


def bytes_of(storage: Storage) -> int:
    """Return how many bytes a storage takes."""
    return storage.count * np.dtype(storage.dtype).itemsize
