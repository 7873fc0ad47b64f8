"""Whether a file is a whole .tflite file.

Older interpreters follow offsets without looking and crash the process on a file that was cut short, so every offset is
followed here first.
"""

import os
import pathlib
import stat
import struct

import numpy as np

__all__ = ["check_tflite", "load_file"]

# Tables of the TFLite schema, by field number: ("table", name), ("tables", name) for a
# vector of tables, ("vector", bytes per item), ("string", 1) for UTF-8. Fields that are missing here are plain numbers
# inside the table. A table named "" is one whose own extent is checked only.
_SCHEMA = {
    "Model": {
        1: ("tables", "OperatorCode"),
        2: ("tables", "SubGraph"),
        3: ("vector", 1),
        4: ("tables", "Buffer"),
        5: ("vector", 4),
        6: ("tables", "Metadata"),
        7: ("tables", "SignatureDef"),
    },
    "OperatorCode": {1: ("string", 1)},
    "SubGraph": {
        0: ("tables", "Tensor"),
        1: ("vector", 4),
        2: ("vector", 4),
        3: ("tables", "Operator"),
        4: ("string", 1),
    },
    "Tensor": {
        0: ("vector", 4),
        3: ("string", 1),
        4: ("table", "QuantizationParameters"),
        6: ("table", "Sparsity"),
        7: ("vector", 4),
        9: ("tables", ""),
    },
    "QuantizationParameters": {
        0: ("vector", 4),
        1: ("vector", 4),
        2: ("vector", 4),
        3: ("vector", 8),
        5: ("table", ""),
    },
    "Sparsity": {0: ("vector", 4), 1: ("vector", 4), 2: ("tables", "")},
    "Operator": {
        1: ("vector", 4),
        2: ("vector", 4),
        4: ("table", ""),
        5: ("vector", 1),
        7: ("vector", 1),
        8: ("vector", 4),
        12: ("table", ""),
    },
    "Buffer": {0: ("vector", 1)},
    "Metadata": {0: ("string", 1)},
    "SignatureDef": {0: ("tables", "TensorMap"), 1: ("tables", "TensorMap"), 2: ("string", 1)},
    "TensorMap": {0: ("string", 1)},
    "": {},
}


_MOST_TABLES = 1_000_000  # as flatbuffers' own verifier has it


# Operators by their number in the schema: how many inputs they need, and how many of these may not be left out. The
# interpreters look for them without asking whether they are there. Others need one.
_TWO = (0, 3, 4, 9, 18, 23, 34, 36, 39, 40, 41, 42, 48, 49, 54, 55, 56, 57, 58, 61, 62, 63, 69, 70, 71, 72, 74, 78, 79)
_TWO += (81, 82, 84, 86, 89, 90, 91, 94, 95, 97, 99, 100, 105, 107, 126, 128, 130, 156)  # ADD, CONV_2D, GATHER, ...
_THREE = (37, 38, 60, 64, 65, 67, 96, 102, 122, 123)  # SLICE, TRANSPOSE_CONV, ...
_NEEDED_INPUTS = dict.fromkeys(_TWO, 2) | dict.fromkeys(_THREE, 3) | {45: 4, 85: 4}  # STRIDED_SLICE, ONE_HOT


class _Broken(Exception):
    """An offset leads out of the file, or a number out of what it counts."""


def _read(data: bytes, format: str, position: int) -> int:
    if not 0 <= position <= len(data) - struct.calcsize(format):
        raise _Broken
    return struct.unpack_from(format, data, position)[0]


class _Checker:
    """Follows every offset of a file once.

    Several offsets may lead to one table, and vectors may overlap, so that the tables that an interpreter will make can
    be as many as the square of the file's size. Each table is checked once, and their number is computed.
    """

    def __init__(self, data: bytes):
        self._data = data
        self._tables: dict[tuple[int, str], int] = {}  # position and kind: tables, itself and below
        self._vectors: dict[tuple[int, str], int] = {}
        self._strings: set[int] = set()
        self._bytes_left = len(data)  # vectors and strings that don't overlap have no more

    def _field(self, position: int, number: int) -> int:
        """Where a table's field stands, or 0 if it was left out."""
        vtable = position - _read(self._data, "<i", position)
        slot = 4 + 2 * number
        offset = _read(self._data, "<H", vtable + slot) if slot + 2 <= _read(self._data, "<H", vtable) else 0
        if offset >= max(_read(self._data, "<H", vtable + 2), 1):
            raise _Broken
        return position + offset if offset else 0

    def table(self, position: int, kind: str) -> int:
        """Check a table and all below it, and return how many tables these are."""
        key = position, kind
        if key not in self._tables:
            self._tables[key] = self._checked_table(position, kind)
            if self._tables[key] > _MOST_TABLES:
                raise _Broken
        return self._tables[key]

    def _checked_table(self, position: int, kind: str) -> int:
        data = self._data
        vtable = position - _read(data, "<i", position)
        vtable_bytes, table_bytes = _read(data, "<H", vtable), _read(data, "<H", vtable + 2)
        if vtable_bytes < 4 or vtable + vtable_bytes > len(data) or position + table_bytes > len(data):
            raise _Broken
        count = 1
        for number, (form, of) in _SCHEMA[kind].items():
            at = self._field(position, number)
            if not at:
                continue
            target = at + _read(data, "<I", at)
            if form == "table":
                count += self.table(target, of)
            elif form == "tables":
                count += self._vector(target, of)
            elif form == "string":
                self._string(target)
            else:
                self._length(target, of)
        if kind == "Buffer" and self._field(position, 1) and self._field(position, 2):
            # weights that stand behind the flatbuffer (files above 2 GB)
            offset, size = (_read(data, "<Q", self._field(position, number)) for number in (1, 2))
            if offset > 1 and offset + size > len(data):
                raise _Broken
        return count

    def _length(self, position: int, item_bytes: int) -> int:
        """The number of items of a vector, which are all in the file."""
        length = _read(self._data, "<I", position)
        if position + 4 + length * item_bytes > len(self._data):
            raise _Broken
        return length

    def _spend(self, count: int) -> None:
        self._bytes_left -= count
        if self._bytes_left < 0:
            raise _Broken

    def _string(self, position: int) -> None:
        if position not in self._strings:
            self._strings.add(position)
            length = self._length(position, 1)
            self._spend(length)
            try:
                self._data[position + 4 : position + 4 + length].decode()
            except UnicodeDecodeError as error:
                raise _Broken from error

    def _vector(self, position: int, of: str) -> int:
        """Check a vector of tables, and return how many tables it leads to."""
        key = position, of
        if key not in self._vectors:
            length = self._length(position, 4)
            self._spend(4 * length)
            items = range(position + 4, position + 4 + 4 * length, 4)
            self._vectors[key] = sum(self.table(item + _read(self._data, "<I", item), of) for item in items)
        return self._vectors[key]

    def model(self) -> None:
        """Check the whole file, and then that what it counts is there: tensors, operators' codes, their inputs."""
        model = _read(self._data, "<I", 0)
        self.table(model, "Model")
        codes = [self._code(table) for table in self._items(model, 1)]
        subgraphs = self._items(model, 2)
        if not subgraphs:
            raise _Broken
        checked = set()
        for subgraph in set(subgraphs):
            tensors = len(self._items(subgraph, 0))
            for number in (1, 2):  # its inputs and outputs
                self._tensors(subgraph, number, 0, tensors)
            for operator in set(self._items(subgraph, 3)) - checked:
                checked.add(operator)
                index = self._field(operator, 0)
                code = _read(self._data, "<I", index) if index else 0
                if code >= len(codes):
                    raise _Broken
                inputs, needed = self._tensors(operator, 1, -1, tensors), _NEEDED_INPUTS.get(codes[code], 0)
                self._tensors(operator, 2, 0, tensors)
                if len(inputs) < needed or (inputs[:needed] < 0).any():
                    raise _Broken

    def _items(self, position: int, number: int) -> list[int]:
        """Where the tables of a field that is a vector of tables stand."""
        at = self._field(position, number)
        if not at:
            return []
        vector = at + _read(self._data, "<I", at)
        first, length = vector + 4, _read(self._data, "<I", vector)
        return [item + _read(self._data, "<I", item) for item in range(first, first + 4 * length, 4)]

    def _tensors(self, position: int, number: int, lowest: int, tensors: int) -> np.ndarray:
        """The tensors that a field lists, each at least `lowest` and below their number."""
        at = self._field(position, number)
        if not at:
            return np.zeros(0, "int32")
        vector = at + _read(self._data, "<I", at)
        length = _read(self._data, "<I", vector)
        self._spend(4 * length)
        listed = np.frombuffer(self._data, "<i4", length, vector + 4)
        if length and (listed.min() < lowest or listed.max() >= tensors):
            raise _Broken
        return listed

    def _code(self, position: int) -> int:
        """Which operator it is; small numbers stand in a field of a byte, which came first."""
        byte, word = self._field(position, 0), self._field(position, 3)
        return max(_read(self._data, "<b", byte) if byte else 0, _read(self._data, "<i", word) if word else 0)


def check_tflite(data: bytes, name: str = "model") -> None:
    """Raise unless `data` is a whole .tflite file: every offset in it leads to something inside it.

    Args:
        data: the file's content.
        name: what the message calls it.

    Raises:
        ValueError: empty, foreign or truncated content.

    Example:
        >>> check_tflite(b"PK and so on", "weights.zip")
        Traceback (most recent call last):
        ...
        ValueError: 'weights.zip' (12 bytes) must be a TensorFlow Lite model, and lacks the mark "TFL3" ...
    """
    if data[4:8] != b"TFL3":
        raise ValueError(
            f'{name!r} ({len(data)} bytes) must be a TensorFlow Lite model, and lacks the mark "TFL3" in bytes 4 to 7. '
            "Give a file that `export_tflite` wrote."
        )
    try:
        _Checker(data).model()
    except _Broken as error:
        raise ValueError(
            f"{name!r} ({len(data)} bytes) must be a whole TensorFlow Lite model, and refers to what is not in it, or "
            "to the same bytes again and again. It was cut short or damaged: copy or export it again."
        ) from error


def _path(value: str | os.PathLike) -> str:
    path = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
    if not isinstance(path, str) or "\0" in path:
        raise ValueError(
            f"`path_or_bytes` (of type {type(value).__name__}) must be a path without null characters, or a file's "
            "content as bytes. Give what `export_tflite` wrote or returned."
        )
    return path


def load_file(path_or_bytes: str | os.PathLike | bytes) -> tuple[bytes, str]:
    """The checked content, and a name for it."""
    if isinstance(path_or_bytes, (bytes, bytearray, memoryview)):
        data, name = bytes(path_or_bytes), "model"
    else:
        name = _path(path_or_bytes)
        try:
            # a pipe waits for somebody who writes to it, and a device may never end
            if not stat.S_ISREG(os.stat(name).st_mode):
                raise OSError(0, "it is not a regular file")
            data = pathlib.Path(name).read_bytes()
        except OSError as error:
            raise ValueError(
                f"`path_or_bytes` (={name!r}) must be a .tflite file that can be read, and cannot "
                f"({error.strerror}). Check the path."
            ) from error
    check_tflite(data, name)
    return data, name
