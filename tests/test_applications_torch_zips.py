"""Zips of PyTorch weights that are not what they say."""

import re
import struct
import tracemalloc
import zipfile

import pytest

from keras_condense.applications import torch_pickles
from keras_condense.applications.torch_files import read_state_dict

torch = pytest.importorskip("torch")


def test_zip_bombs(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_pickles, "MAX_BYTES", 10_000)
    monkeypatch.setattr(torch_pickles, "MAX_PICKLE_BYTES", 10_000)
    with zipfile.ZipFile(tmp_path / "a.pth.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.pth", bytes(1_000_000))
    with pytest.raises(ValueError, match=r"'a\.pth' has 1,000,000 bytes, more than the 10,000 that are read"):
        read_state_dict(tmp_path / "a.pth.zip")
    with zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", bytes(1_000_000))
    with pytest.raises(ValueError, match=r"'archive/data\.pkl' has 1,000,000 bytes"):
        read_state_dict(tmp_path / "b.pth")
    (tmp_path / "c.pth").write_bytes(bytes(10_001))
    with pytest.raises(ValueError, match="it has 10,001 bytes"):
        read_state_dict(tmp_path / "c.pth")
    data = bytearray((tmp_path / "a.pth.zip").read_bytes())
    for place in [match.start() for match in re.finditer(re.escape(struct.pack("<I", 1_000_000)), data)]:
        data[place : place + 4] = struct.pack("<I", 100)  # the size that the archive claims
    (tmp_path / "d.pth.zip").write_bytes(data)
    with pytest.raises(ValueError, match="can't be read"):
        read_state_dict(tmp_path / "d.pth.zip")


def test_no_more_is_unpacked_than_the_directory_says(tmp_path, monkeypatch):
    size = 50_000_000
    with zipfile.ZipFile(tmp_path / "a.pth.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.pth", bytes(size))
    data = (tmp_path / "a.pth.zip").read_bytes().replace(struct.pack("<I", size), struct.pack("<I", 100))
    (tmp_path / "a.pth.zip").write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="can't be read"):
            read_state_dict(tmp_path / "a.pth.zip")
        assert tracemalloc.get_traced_memory()[1] < size / 10
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zips_that_are_packed_otherwise(kind, tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"a": torch.ones(2)}, path)
    with zipfile.ZipFile(tmp_path / "a.pth.zip", "w", kind) as file:
        file.write(path, "a.pth")
    data = bytearray((tmp_path / "a.pth.zip").read_bytes())
    data[60] ^= 0xFF
    (tmp_path / "b.pth.zip").write_bytes(data)
    for name in ("a.pth.zip", "b.pth.zip"):
        with pytest.raises(ValueError, match=r"'a\.pth' in it is packed in a way that is not known here"):
            read_state_dict(tmp_path / name)


def test_zips_of_other_contents(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pth.zip", "w") as file:
        file.writestr("readme.txt", "hello")
    with pytest.raises(ValueError, match=r"a zip must hold one \.pth file, and this one holds 'readme\.txt'"):
        read_state_dict(tmp_path / "a.pth.zip")
    with zipfile.ZipFile(tmp_path / "b.pth.zip", "w"):
        pass
    with pytest.raises(ValueError, match=r"holds nothing"):
        read_state_dict(tmp_path / "b.pth.zip")
    (tmp_path / "c.pth").write_bytes(b"hello, this is text")
    with pytest.raises(ValueError, match="can't be read"):
        read_state_dict(tmp_path / "c.pth")
