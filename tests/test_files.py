"""Files are whole or untouched, whatever happens in between."""

import errno
import os
import pathlib
import stat
import tempfile

import pytest

from keras_condense.files import check_path, check_writable, replacing, write_bytes, write_text


def only(folder):
    return sorted(entry.name for entry in folder.iterdir())


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"old")
    return path


def test_writing(tmp_path):
    write_text(tmp_path / "a.txt", "größer\n")
    write_bytes(str(tmp_path / "b.bin"), b"\x00\x01")
    assert (tmp_path / "a.txt").read_bytes() == "größer\n".encode()
    assert (tmp_path / "b.bin").read_bytes() == b"\x00\x01"
    write_text(tmp_path / "a.txt", "")
    assert (tmp_path / "a.txt").read_bytes() == b""
    assert only(tmp_path) == ["a.txt", "b.bin"]


def test_a_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_text("a.txt", "x")
    assert only(tmp_path) == ["a.txt"]


def test_the_neighbour_has_the_suffix_and_the_folder(old):
    with replacing(old) as temporary:
        assert temporary.suffix == ".tflite"
        assert temporary.parent == old.parent
        temporary.write_bytes(b"new")
        assert old.read_bytes() == b"old"
    assert old.read_bytes() == b"new"


def test_a_suffix_of_two_parts_keeps_what_keras_looks_at(tmp_path):
    with replacing(tmp_path / "a.weights.h5") as temporary:
        assert temporary.name.endswith(".weights.h5")


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_what_was_there_stays_when_the_block_raises(old, error):
    with pytest.raises(error), replacing(old) as temporary:  # noqa: PT012
        temporary.write_bytes(b"half")
        raise error
    assert old.read_bytes() == b"old"
    assert only(old.parent) == [old.name]


def test_nothing_is_left_when_the_block_raises_over_nothing(tmp_path):
    with pytest.raises(RuntimeError), replacing(tmp_path / "a"):
        raise RuntimeError
    assert only(tmp_path) == []


def full_disk(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("owner", "name"), [(pathlib.Path, "write_bytes"), (os, "fsync"), (os, "replace"), (pathlib.Path, "chmod")]
)
def test_a_full_disk_at_any_moment(old, monkeypatch, owner, name):
    monkeypatch.setattr(owner, name, full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_bytes(old, b"new")
    monkeypatch.undo()
    assert old.read_bytes() == b"old"
    assert only(old.parent) == [old.name]


def test_the_bytes_are_on_disk_before_the_rename(old, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        original = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, name=name, original=original: (calls.append(name), original(*a))[1])
    write_bytes(old, b"new")
    assert calls == ["fsync", "replace"]


def test_a_neighbour_that_the_block_removed_is_an_error(old):
    with pytest.raises(OSError), replacing(old) as temporary:
        temporary.unlink()
    assert old.read_bytes() == b"old"


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_follow_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_text(tmp_path / "a", "x")
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("path", [None, 3, b"model.tflite", ["model.tflite"]], ids=repr)
def test_what_is_no_path(path):
    message = r"must be a string or a path\. Give a name such as 'runs/digits'\."
    with pytest.raises(ValueError, match=rf"^`folder` \(=.*\) {message}"):
        check_path("folder", path)
    with pytest.raises(ValueError, match=rf"^`path` \(=.*\) {message}"):
        check_writable(path)
    with pytest.raises(ValueError, match=rf"^`path` \(=.*\) {message}"):
        write_text(path, "")


def test_a_folder_that_is_missing(tmp_path):
    with pytest.raises(ValueError, match=r"`path` \(=.*\) must lie in an existing folder, and .* is none\. Make it"):
        check_writable(tmp_path / "no" / "a")


def test_a_folder_that_is_a_file(old):
    with pytest.raises(ValueError, match=r"must lie in an existing folder, and '.*model.tflite' is none"):
        check_writable(old / "a")


def test_a_path_that_is_a_folder(tmp_path):
    with pytest.raises(ValueError, match=r"must name a file, not a folder\. Add a file name"):
        check_writable(tmp_path)


def test_a_folder_that_takes_no_files():
    if not pathlib.Path("/proc").is_dir():
        pytest.skip("no /proc, where not even root makes files")
    with pytest.raises(ValueError, match=r"must lie in a folder that takes new files, .* \(.+\)\. Choose another"):
        check_writable("/proc/model.tflite")


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_folder_that_refuses(old, monkeypatch, code):
    def refuse(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    ran = []
    with pytest.raises(ValueError, match=rf"takes new files.*\({os.strerror(code)}\)"), replacing(old):
        ran.append(True)
    assert not ran
    assert old.read_bytes() == b"old"


def test_checking_leaves_nothing(old):
    assert check_writable(str(old)) == old
    assert check_writable(old.parent / "new") == old.parent / "new"
    assert only(old.parent) == [old.name]
    assert old.read_bytes() == b"old"
