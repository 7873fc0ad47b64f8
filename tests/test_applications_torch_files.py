"""Files of PyTorch weights beside torch.load, and files that are broken or want to run something."""

import collections
import io
import os
import pickle
import pickletools
import re
import struct
import zipfile

import numpy as np
import pytest

from keras_condense.applications import torch_files, torch_pickles
from keras_condense.applications.torch_files import read_state_dict

torch = pytest.importorskip("torch")

FORMATS = pytest.mark.parametrize("new_format", [True, False], ids=["zip", "stream"])


def saved(contents, path, new_format: bool = True, **options):
    torch.save(contents, path, _use_new_zipfile_serialization=new_format, **options)
    return path


def state() -> dict:
    generator = torch.Generator().manual_seed(0)
    kernel = torch.randn(4, 3, 2, 2, generator=generator)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 2), torch.nn.BatchNorm2d(4))
    return {
        **model.state_dict(),  # with num_batches_tracked, a scalar of int64
        "half": kernel.half(),
        "double": kernel.double(),
        "transposed": kernel.transpose(0, 3),
        "slice": kernel[1:3, :, 1],  # two tensors in one storage
        "empty": torch.zeros(0, 3),
        "index": torch.tensor([3, 1, 2]),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }


@FORMATS
def test_arrays_equal_those_of_torch(new_format, tmp_path):
    path = saved(state(), tmp_path / "a.pth", new_format)
    arrays = read_state_dict(path)
    expected = torch.load(path, weights_only=True)
    assert list(arrays) == list(expected)
    for name, tensor in expected.items():
        assert arrays[name].dtype == tensor.detach().numpy().dtype
        np.testing.assert_array_equal(arrays[name], tensor.detach().numpy())
        assert not arrays[name].flags.writeable


@FORMATS
def test_an_ordered_dictionary_with_metadata(new_format, tmp_path):
    ordered = torch.nn.Linear(2, 3).state_dict()
    assert isinstance(ordered, collections.OrderedDict)
    assert ordered._metadata
    assert set(read_state_dict(saved(ordered, tmp_path / "a.pth", new_format))) == {"weight", "bias"}


@FORMATS
def test_a_zip_with_one_such_file(new_format, tmp_path):
    saved({"a": torch.ones(2)}, tmp_path / "a.pth", new_format)
    with zipfile.ZipFile(tmp_path / "a.pth.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "a.pth", "folder/a.pth")
    assert read_state_dict(tmp_path / "a.pth.zip")["a"].tolist() == [1, 1]


def test_the_other_byte_order(tmp_path):
    data = b"".join(pickle.dumps(part, 2) for part in (torch_files._MAGIC, 1001, {"little_endian": False}))
    data += pickled(tensor_of("FloatStorage", 2, (2,), (1,))) + pickle.dumps(["0"], 2)
    path = tmp_path / "a.pth"
    path.write_bytes(data + struct.pack("<q", 2) + struct.pack(">2f", 1, 2))
    assert read_state_dict(path)["a"].tolist() == [1, 2]


# --------------------------------------------------------------------------------------------- what would run something


def pickled(*opcodes: bytes) -> bytes:
    return pickle.PROTO + b"\x02" + b"".join(opcodes) + pickle.STOP


def text(value: str) -> bytes:
    return pickle.BINUNICODE + struct.pack("<I", len(value)) + value.encode()


def number(value: int) -> bytes:
    return pickle.BININT + struct.pack("<i", value)


def numbers(values) -> bytes:
    return pickle.MARK + b"".join(map(number, values)) + pickle.TUPLE


def name(module: str, attribute: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{attribute}\n".encode()


def tensor_of(storage: str, count: int, shape, strides, offset: int = 0, key: str = "0") -> bytes:
    """The opcodes of a dictionary {"a": tensor}."""
    persistent = pickle.MARK + text("storage") + name("torch", storage) + text(key) + text("cpu") + number(count)
    persistent += pickle.TUPLE + pickle.BINPERSID
    call = name("torch._utils", "_rebuild_tensor") + pickle.MARK + persistent + number(offset)
    call += numbers(shape) + numbers(strides) + pickle.TUPLE + pickle.REDUCE
    return pickle.EMPTY_DICT + text("a") + call + pickle.SETITEM


def archive(path, contents: bytes, **files: bytes):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", contents)
        for key, data in files.items():
            file.writestr(f"archive/data/{key.removeprefix('k')}", data)
    return path


def stream(path, contents: bytes):
    header = b"".join(pickle.dumps(part, 2) for part in (torch_files._MAGIC, 1001, {"little_endian": True}))
    path.write_bytes(header + contents + pickle.dumps([], 2))
    return path


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.system, (f"mkdir {self.path}",)


@FORMATS
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_that_runs_a_command_is_refused_before_it_runs(new_format, protocol, tmp_path):
    evil = saved({"a": torch.ones(1), "b": Evil(tmp_path / "made")}, tmp_path / "a.pth", new_format,
                 pickle_protocol=protocol)  # fmt: skip
    names = r"it names 'posix\.system', which is no part of weights; nothing of it ran"
    reason = names if protocol == 2 else "asks the unpickler for (FRAME|STACK_GLOBAL|MEMOIZE|SHORT_BINUNICODE)"
    with pytest.raises(ValueError, match=reason):
        read_state_dict(evil)
    assert not (tmp_path / "made").exists()
    torch.load(evil, weights_only=False)  # and it would have
    assert (tmp_path / "made").exists()


SYSTEM = text("mkdir made") + pickle.TUPLE1 + pickle.REDUCE
REFUSED = {
    "global": (name("os", "system") + SYSTEM, "names 'os.system'"),
    "builtin": (name("builtins", "eval") + SYSTEM, "names 'builtins.eval'"),
    "torch's own": (name("torch", "load") + SYSTEM, "names 'torch.load'"),
    "rebuilding of others": (name("torch._utils", "_rebuild_device_tensor_from_numpy") + SYSTEM, "names 'torch._utils"),
    "dotted": (name("torch._utils", "_rebuild_tensor.__globals__") + SYSTEM, "names 'torch._utils._rebuild_ten"),
    "stack global": (text("os") + text("system") + pickle.STACK_GLOBAL + SYSTEM, "asks the unpickler for STACK_GLOBAL"),
    "instance": (pickle.MARK + text("mkdir made") + pickle.INST + b"os\nsystem\n", "asks the unpickler for INST"),
    "object": (pickle.MARK + name("collections", "OrderedDict") + pickle.OBJ, "asks the unpickler for OBJ"),
    "new object": (name("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.NEWOBJ, "asks the .* NEWOBJ"),
    "extension": (pickle.EXT1 + b"\x01" + SYSTEM, "asks the unpickler for EXT1"),
    "text persistent id": (pickle.PERSID + b"0\n", "asks the unpickler for PERSID"),
    "after a stop": (pickle.NONE, "holds a NoneType"),
    "memory by the memo": (pickle.NONE + pickle.LONG_BINPUT + b"\xff\xff\xff\x7f", "numbers an object 2147483647"),
    "a tensor's state": (
        tensor_of("FloatStorage", 1, (1,), (1,))[:-1] + pickle.EMPTY_DICT + text("x") + pickle.NONE + pickle.SETITEM
        + pickle.BUILD + pickle.SETITEM, "can't be read",
    ),
    "a function's state": (
        name("torch._utils", "_rebuild_tensor_v2") + pickle.NONE + pickle.EMPTY_DICT + text("function")
        + name("collections", "OrderedDict") + pickle.SETITEM + pickle.TUPLE2 + pickle.BUILD, "can't be read",
    ),
    "a storage's state": (
        name("torch", "FloatStorage") + pickle.NONE + pickle.EMPTY_DICT + text("dtype") + text("int64")
        + pickle.SETITEM + pickle.TUPLE2 + pickle.BUILD, "can't be read",
    ),
    "a dictionary's items": (
        name("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE + text("k") + number(5) + pickle.SETITEM
        + pickle.EMPTY_DICT + text("items") + name("collections", "OrderedDict") + pickle.SETITEM + pickle.BUILD,
        "its entry 'k' is not a tensor",
    ),
    # hashing it would overflow the stack of C
    "tuples in tuples": (
        pickle.EMPTY_DICT + pickle.EMPTY_TUPLE + 200_000 * pickle.TUPLE1 + pickle.NONE + pickle.SETITEM,
        "lie in each other more than 100 deep",
    ),
    "tuples in tuples, remembered": (
        pickle.EMPTY_TUPLE + pickle.BINPUT + b"\0" + 200 * (pickle.BINGET + b"\0" + pickle.NONE + pickle.TUPLE2
        + pickle.BINPUT + b"\0"), "lie in each other more than 100 deep",
    ),
    "lists in lists": (200 * pickle.EMPTY_LIST + 199 * pickle.APPEND, "lie in each other more than 100 deep"),
    "an empty stack": (pickle.TUPLE1, "can't be read"),
    "no mark": (pickle.TUPLE, "can't be read"),
}  # fmt: skip


@pytest.mark.parametrize(("opcodes", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_part_of_weights(opcodes, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (archive(tmp_path / "a.pth", pickled(opcodes)), stream(tmp_path / "b.pth", pickled(opcodes))):
        with pytest.raises(ValueError, match=message) as error:
            read_state_dict(path)
        assert str(error.value).startswith(f"`path` (={str(path)!r}) must be a whole file of PyTorch weights")
    assert not (tmp_path / "made").exists()
    assert torch_pickles._GLOBALS["torch FloatStorage"].dtype == "float32"


def test_a_bad_pickle_after_good_ones(tmp_path, monkeypatch):
    """The pickles of a stream are scanned one by one: none after a refused one runs, and none before its own scan."""
    monkeypatch.chdir(tmp_path)
    data = saved({"a": torch.ones(1)}, tmp_path / "a.pth", False).read_bytes()
    keys = data.index(pickle.dumps(["0"], 2)[:4], data.rindex(b"_rebuild_tensor_v2"))
    (tmp_path / "b.pth").write_bytes(data[:keys] + pickled(name("os", "system") + SYSTEM) + data[keys:])
    with pytest.raises(ValueError, match=r"names 'os\.system'|can't be read"):
        read_state_dict(tmp_path / "b.pth")
    assert not (tmp_path / "made").exists()


# ---------------------------------------------------------------------------------------------- broken and too large


@FORMATS
def test_a_truncated_file(new_format, tmp_path):
    path = saved(state(), tmp_path / "a.pth", new_format)
    data = path.read_bytes()
    for length in (0, 1, 10, len(data) // 3, len(data) // 2, len(data) - 5, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"`path` .* must be a whole file of PyTorch weights"):
            read_state_dict(path)


@FORMATS
def test_any_byte_changed_gives_arrays_or_a_clear_error(new_format, tmp_path):
    path = saved({"a": torch.ones(3), "b": torch.tensor([1, 2])}, tmp_path / "a.pth", new_format)
    data = path.read_bytes()
    random = np.random.default_rng(0)
    for place in random.choice(len(data), 300):
        changed = bytearray(data)
        changed[place] ^= 1 << random.integers(8)
        try:
            arrays = torch_files.state_dict_of(bytes(changed), "`path`")
        except ValueError as error:
            if not str(error).startswith("`path` must be a whole file of PyTorch weights"):
                raise
        else:
            assert all(isinstance(array, np.ndarray) for array in arrays.values())


BAD_TENSORS = {
    "beyond its storage": (tensor_of("FloatStorage", 2, (3,), (1,)), "reaches beyond the 2 numbers"),
    "strides beyond": (tensor_of("FloatStorage", 2, (2,), (5,)), "reaches beyond"),
    "offset beyond": (tensor_of("FloatStorage", 2, (1,), (1,), offset=2), "reaches beyond"),
    "negative offset": (tensor_of("FloatStorage", 2, (1,), (1,), offset=-1), "has -1 where a number of elements"),
    "negative stride": (tensor_of("FloatStorage", 2, (2,), (-1,)), "has -1 where"),
    "huge by a stride of 0": (tensor_of("FloatStorage", 2, (2**31 - 1, 2**31 - 1), (0, 0)), "reaches beyond"),
    "shape and strides": (tensor_of("FloatStorage", 2, (2,), (1, 1)), "has the shape"),
    "a storage that is larger": (tensor_of("FloatStorage", 3, (2,), (1,)), "has 8 bytes of 12"),
    "a storage that is smaller": (tensor_of("FloatStorage", 1, (1,), (1,)), "has 8 bytes, more than the 4"),
    "a huge storage": (tensor_of("FloatStorage", 2**30, (2,), (1,)), "the sum of its storages has 4,294,967,296 bytes"),
    "a storage that is missing": (tensor_of("FloatStorage", 2, (2,), (1,), key="7"), "archive/data/7"),
    "another type": (tensor_of("BFloat16Storage", 2, (2,), (1,)), "names 'torch.BFloat16Storage'"),
    "a path for a key": (tensor_of("FloatStorage", 2, (2,), (1,), key="../../etc/passwd"), "etc/passwd"),
    "no tensor": (pickle.EMPTY_DICT + text("a") + number(1) + pickle.SETITEM, "its entry 'a' is not a tensor"),
    "no dictionary": (pickle.EMPTY_LIST, "holds a list and not a dictionary"),
    "nothing": (pickle.EMPTY_DICT, "holds a dict and not a dictionary of tensors"),
}


@pytest.mark.parametrize(("opcodes", "message"), BAD_TENSORS.values(), ids=BAD_TENSORS)
def test_sizes_that_lie(opcodes, message, tmp_path):
    path = archive(tmp_path / "a.pth", pickled(opcodes), k0=struct.pack("<2f", 1, 2))
    with pytest.raises(ValueError, match=re.escape(message)):
        read_state_dict(path)


def test_a_good_file_of_these_opcodes(tmp_path):
    contents = pickled(tensor_of("FloatStorage", 2, (2,), (1,)))
    assert read_state_dict(archive(tmp_path / "a.pth", contents, k0=struct.pack("<2f", 1, 2)))["a"].tolist() == [1, 2]


def test_every_opcode_that_is_admitted_has_a_use(tmp_path):
    """What torch.save writes is all that is admitted, and none that calls by a name from the stack is."""
    known = {opcode.name for opcode in pickletools.opcodes}
    assert known >= torch_pickles._OPCODES
    assert not torch_pickles._OPCODES & {
        "STACK_GLOBAL",
        "INST",
        "OBJ",
        "NEWOBJ",
        "NEWOBJ_EX",
        "EXT1",
        "EXT2",
        "EXT4",
        "PERSID",
    }
    seen = set()
    path = saved({**state(), "large": torch.zeros(300, 300, 1)}, tmp_path / "a.pth")
    with zipfile.ZipFile(path) as file:
        contents = file.read(next(name for name in file.namelist() if name.endswith("data.pkl")))
    seen |= {opcode.name for opcode, _, _ in pickletools.genops(io.BytesIO(contents))}
    assert seen <= torch_pickles._OPCODES
