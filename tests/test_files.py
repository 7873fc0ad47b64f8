"""Files are whole or untouched, whatever happens in between."""

import errno
import os
import pathlib
import socket
import stat
import tempfile

import pytest

from keras_condense.files import (
    check_path,
    check_readable,
    check_writable,
    remove_leftovers,
    replacing,
    write_bytes,
    write_text,
)


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


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o200])
def test_the_permissions_of_what_is_replaced_stay(old, mode):
    old.chmod(mode)
    write_bytes(old, b"new")
    assert stat.S_IMODE(old.stat().st_mode) == mode
    old.chmod(0o600)
    assert old.read_bytes() == b"new"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_the_owner_of_what_is_replaced_stays(old):
    os.chown(old, 12345, 23456)
    write_bytes(old, b"new")
    assert (old.stat().st_uid, old.stat().st_gid) == (12345, 23456)


@pytest.mark.parametrize("relative", [True, False])
def test_writing_through_links_keeps_them(tmp_path, relative):
    (tmp_path / "store").mkdir()
    target = tmp_path / "store" / "v1.keras"
    target.write_bytes(b"old")
    target.chmod(0o600)
    (tmp_path / "newest").symlink_to("store/v1.keras" if relative else target)
    (tmp_path / "model.keras").symlink_to("newest")
    with replacing(tmp_path / "model.keras") as temporary:
        assert temporary.parent == target.parent
        temporary.write_bytes(b"new")
    assert (tmp_path / "model.keras").is_symlink()
    assert (tmp_path / "newest").is_symlink()
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert only(target.parent) == ["v1.keras"]
    with pytest.raises(RuntimeError), replacing(tmp_path / "model.keras"):
        raise RuntimeError
    assert target.read_bytes() == b"new"
    assert only(target.parent) == ["v1.keras"]


def test_a_link_to_nothing_makes_its_target(tmp_path):
    (tmp_path / "link").symlink_to("new")
    write_bytes(tmp_path / "link", b"x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "new").read_bytes() == b"x"
    (tmp_path / "astray").symlink_to("no/new")
    with pytest.raises(ValueError, match="must be in an existing folder"):
        write_bytes(tmp_path / "astray", b"x")


def test_links_in_a_circle_are_refused(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(ValueError, match=r"links lead in a circle\. Remove them\."):
        check_writable(tmp_path / "a")
    with pytest.raises(ValueError, match=r"must be a file that can be read, and can't \(.*\)"):
        check_readable("path", tmp_path / "a")


def test_leftovers_beside_a_links_target_are_removed(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "model.keras").symlink_to("store/v1.keras")
    (tmp_path / "store" / ".v1.x1y2z3_4.keras").write_text("half")
    remove_leftovers(tmp_path / "model.keras")
    assert only(tmp_path / "store") == []


def pipe(path):
    os.mkfifo(path)


def bound_socket(path):
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(path))


def link_to_a_device(path):
    path.symlink_to("/dev/zero")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.parametrize(
    ("make", "kind"), [(pipe, "pipe"), (bound_socket, "socket"), (link_to_a_device, "device"), (os.mkdir, "folder")]
)
def test_what_is_no_regular_file_is_neither_read_nor_replaced(tmp_path, monkeypatch, make, kind):
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    path = pathlib.Path("model")
    make(path)
    with pytest.raises(ValueError, match=rf"^`weights` \(='model'\) must be a regular file, and is a {kind}\. Mend it"):
        check_readable("weights", path, "Mend it.")
    message = "not a folder" if kind == "folder" else f"must name a regular file, and is a {kind}"
    with pytest.raises(ValueError, match=message):
        write_bytes(path, b"x")
    assert only(tmp_path) == ["model"]


def test_what_can_be_read(old):
    assert check_readable("path", str(old)) == old
    for missing in (old.parent / "no", old / "no"):
        with pytest.raises(ValueError, match=r"^`path` \(=.*\) must be an existing file\. Check the name\."):
            check_readable("path", missing)


@pytest.mark.parametrize("name", ["a" * 256, "é" * 128, "a" * 250 + ".keras", "a" * 5000])
def test_names_that_are_too_long(tmp_path, name):
    with pytest.raises(ValueError, match=r"must name a file that can be made, and can't \(.+\)\. Choose another name"):
        check_writable(tmp_path / name)
    with pytest.raises(ValueError, match=r"must be a file that can be read, and can't \(.+\)"):
        check_readable("path", tmp_path / name)


@pytest.mark.parametrize(
    "name", ["a" * 255, "é" * 127, "a." + "b" * 253, "." + "é" * 127, "a.b" * 85, "a" * 249 + ".keras"]
)
def test_the_longest_names_can_be_written(tmp_path, name):
    write_text(tmp_path / name, "x")
    assert only(tmp_path) == [name]


def test_a_null_character(tmp_path):
    for check in (check_writable, lambda path: check_readable("path", path)):
        with pytest.raises(ValueError, match="must have no null character in it"):
            check(f"{tmp_path}/a\0b")


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
    with pytest.raises(ValueError, match=r"`path` \(=.*\) must be in an existing folder, and .* is none\. Create it"):
        check_writable(tmp_path / "no" / "a")


def test_a_folder_that_is_a_file(old):
    with pytest.raises(ValueError, match=r"must be in an existing folder, and '.*model.tflite' is none"):
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
