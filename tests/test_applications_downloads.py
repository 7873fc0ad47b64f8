"""Published files: fetched once, checked, and nothing left of those that are not what they should be."""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import threading

import h5py
import keras
import numpy as np
import pytest
from released import FAMILIES, assert_close, build, images_of, outputs_of, predict, publishing, randomized, row_of

from keras_condense import applications
from keras_condense.applications import downloads, pretrained, pretrained_rows


@pytest.fixture
def published(monkeypatch, tmp_path):
    pytest.importorskip("pytorchcv.models.condensenet")
    pytest.importorskip("torch")
    with publishing(monkeypatch, tmp_path) as publish:
        yield publish


def nothing_is_left(publish) -> bool:
    return not publish.cache.exists() or not list(publish.cache.iterdir())


def test_a_wrong_hash(published, monkeypatch):
    _, row = published("densenet bc")
    wrong = row_of(FAMILIES["densenet bc"], {"release": row.release, "sha1": "0" * 40})
    monkeypatch.setattr(pretrained, "WEIGHTS", (wrong,))
    with pytest.raises(
        ValueError, match=rf"The file at http://\S+ must hold a file of SHA-1 {'0' * 40}, and has {row.sha1}"
    ):
        build(wrong)
    assert nothing_is_left(published)


def test_a_truncated_zip(published):
    _, row = published("densenet bc")
    path = published.folder / row.release
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"must hold a file of SHA-1|must be a whole file of PyTorch weights"):
        build(row)
    assert nothing_is_left(published)


def test_a_file_of_another_network(published):
    _, row = published("densenet bc", state=randomized(FAMILIES["densenet plain"], 100).state_dict())
    with pytest.raises(ValueError, match=r"The file at http://\S+ must hold the weights of .*it lacks"):
        build(row)
    assert [path.suffix for path in published.cache.iterdir()] == [".zip"]  # which is the published file


def test_a_download_that_is_cut_half_way(published, monkeypatch):
    _, row = published("densenet bc")
    shutil.move(published.folder / "v1", published.folder / "cut")
    cut = row_of(FAMILIES["densenet bc"], {"release": row.release.replace("v1", "cut"), "sha1": row.sha1})
    monkeypatch.setattr(pretrained, "WEIGHTS", (cut,))
    with pytest.raises(OSError, match=r"The weights at http://\S+ could not be fetched into .* Check the connection"):
        build(cut)
    assert nothing_is_left(published)


def test_no_network_and_no_such_file(published, monkeypatch):
    _, row = published("densenet bc")
    (published.folder / row.release).unlink()
    with pytest.raises(OSError, match=r"could not be fetched .*404"):
        build(row)
    monkeypatch.setattr(pretrained_rows, "RELEASES", "http://127.0.0.1:9")  # where nobody listens
    with pytest.raises(OSError, match=r"could not be fetched .*refused"):
        build(row)
    assert nothing_is_left(published)


def test_a_full_disk(published, monkeypatch):
    _, row = published("densenet bc")
    opened = open

    def full(path, *arguments, **keywords):
        if ".pth.zip" in str(path) and arguments[:1] == ("wb",):
            raise OSError(28, "No space left on device")
        return opened(path, *arguments, **keywords)

    with monkeypatch.context() as patched:
        patched.setattr("builtins.open", full)
        with pytest.raises(OSError, match=r"could not be fetched .*No space left on device"):
            build(row)
    assert nothing_is_left(published)

    def failing(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:  # the download fits, what is converted does not: the network has its weights
        patched.setattr(keras.Model, "save_weights", failing)
        with pytest.warns(RuntimeWarning, match="could not be kept .*No space left"):
            model = build(row)
    assert [path.suffix for path in published.cache.iterdir()] == [".zip"]
    for one, other in zip(model.get_weights(), build(row).get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_damaged_files_in_the_cache_are_made_anew(published):
    network, row = published("densenet bc")
    build(row)
    for path in published.cache.iterdir():
        path.write_bytes(path.read_bytes()[:-50])
    images = images_of(row)
    assert_close(predict(build(row), images), outputs_of(network, images))
    assert len(published.server.requests) == 2
    build(row)
    assert len(published.server.requests) == 2


FETCH = """
import sys
from keras_condense.applications import downloads, pretrained, pretrained_rows, torch_conversion
from keras_condense.applications.preprocessing import CIFAR
pretrained_rows.RELEASES = sys.argv[1]
row = pretrained.PretrainedWeights(constructor="DenseNet", dataset="svhn", license="MIT", preprocessing=CIFAR,
                                   release=sys.argv[2], sha1=sys.argv[3])
data, _ = downloads.fetch(row)
print(len(data))
"""


@pytest.mark.slow
def test_two_processes_at_once(published, monkeypatch):
    _, row = published("densenet bc")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "KERAS_BACKEND": "numpy"}  # starts quickly
    published.server.barrier = threading.Barrier(2)  # nobody gets an answer before both have asked
    command = [sys.executable, "-c", FETCH, pretrained_rows.RELEASES, row.release, row.sha1]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    for process in processes:
        out, _ = process.communicate(timeout=200)
        assert process.returncode == 0
        assert int(out.split()[-1]) > 1000
    assert [path.name for path in published.cache.iterdir()] == [pathlib.PurePosixPath(row.release).name]
    build(row)
    assert len(published.server.requests) == 2


def test_what_killed_processes_left_is_removed_after_a_day(published):
    _, row = published("densenet bc")
    name = pathlib.PurePosixPath(row.release).name
    old, new = (published.cache / f".{name}.{end}" for end in ("old", "new"))
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / name).write_bytes(b"half")
    os.utime(old, (0, 0))
    downloads.fetch(row)
    assert sorted(path.name for path in published.cache.iterdir()) == [new.name, name]


def test_the_folder_is_keras_own(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    assert downloads.folder() == tmp_path / "home/models"
    monkeypatch.delenv("KERAS_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert downloads.folder() == tmp_path / ".keras/models"


# ------------------------------------------------------------------------------------------------------- files of Keras


def test_files_of_keras_are_fetched_once_and_checked(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with h5py.File(tmp_path / "whole.h5", "w") as file:
        file["x"] = np.arange(1000)
    calls, content = [], files_at(tmp_path / "whole.h5")

    def get_file(name, address, *, cache_dir, cache_subdir, file_hash):
        calls.append((address, file_hash))
        path = pathlib.Path(cache_dir, cache_subdir, name)
        path.write_bytes(content)
        return str(path)

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    md5 = hashlib.md5(content).hexdigest()
    files = pretrained.KerasFiles("https://host/folder", ("top.h5", md5), ("no.h5", None))
    for _ in range(2):
        assert files_at(downloads.keras_file(files, True)) == content
        assert files_at(downloads.keras_file(files, False)) == content
    assert calls == [("https://host/folder/top.h5", md5), ("https://host/folder/no.h5", None)]
    assert sorted(os.listdir(tmp_path / "models")) == ["no.h5", "top.h5"]
    (tmp_path / "models" / "top.h5").write_bytes(b"damaged since")
    assert files_at(downloads.keras_file(files, True)) == content
    assert len(calls) == 3


def files_at(path):
    return pathlib.Path(path).read_bytes()


def test_files_of_keras_that_cannot_be_fetched(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))

    def get_file(name, address, *, cache_dir, **_):
        pathlib.Path(cache_dir, name).write_bytes(b"half")
        raise Exception(f"URL fetch failure on {address}: None -- unreachable")  # as Keras does

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    with pytest.raises(OSError, match=r"The weights at https://.*mobilenet.* could not be .*unreachable.* Check"):
        applications.MobileNet(weights="imagenet")
    assert os.listdir(tmp_path / "models") == []


def test_files_of_keras_without_a_sum_are_whole_or_not_kept(monkeypatch, tmp_path):
    """A login page in place of a file, or half a file that another program left, is fetched again and never kept."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    with h5py.File(tmp_path / "whole.h5", "w") as file:
        file["x"] = np.arange(1000)
    whole = (tmp_path / "whole.h5").read_bytes()
    for name, content in (("page.h5", b"<html>Log in</html>"), ("cut.h5", whole[:-100])):
        (tmp_path / name).write_bytes(content)
        files = pretrained_rows.KerasFiles(tmp_path.as_uri(), (name, None), (name, None))
        with pytest.raises(OSError, match=r"could not be fetched .*not a whole HDF5 file\)\. Check the connection"):
            downloads.keras_file(files, True)
        assert not list(downloads.folder().iterdir())
    (downloads.folder() / "whole.h5").write_bytes(whole[:-100])
    files = pretrained_rows.KerasFiles(tmp_path.as_uri(), ("whole.h5", None), ("whole.h5", None))
    assert pathlib.Path(downloads.keras_file(files, True)).read_bytes() == whole


def test_packaged_files_that_are_damaged_or_missing(monkeypatch, tmp_path):
    row = pretrained.find_weights("CondenseNet50", "cifar10")
    assert downloads.packaged_file(row) == row.address
    damaged = pathlib.Path(row.address).read_bytes()[:-1]
    monkeypatch.setattr(pretrained_rows, "__file__", str(tmp_path / "pretrained_rows.py"))
    with pytest.raises(OSError, match=r"and are missing\. Install the package again"):
        applications.CondenseNet50(weights="cifar10")
    pathlib.Path(row.address).parent.mkdir()
    pathlib.Path(row.address).write_bytes(damaged)
    with pytest.raises(OSError, match=r"must have the SHA-256 \w+, and have \w+\. Install the package again"):
        applications.CondenseNet50(weights="cifar10")


def test_a_cache_that_takes_no_files(monkeypatch, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "home").mkdir()
    (tmp_path / "other").mkdir()
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "other"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "file"))
    assert downloads.folder() == tmp_path / "other" / ".keras" / "models"  # as Keras does
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "file"))
    with pytest.raises(OSError, match=r"must be a folder that takes files, and neither of .* does\. Set KERAS_HOME"):
        downloads.folder()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KERAS_HOME", "~/cache")
    assert downloads.folder() == tmp_path / "home" / "cache" / "models"


def test_what_a_killed_conversion_left_is_removed(published):
    _, row = published("densenet bc")
    name = pathlib.PurePosixPath(row.release).name
    build(row)
    (converted,) = (path for path in published.cache.iterdir() if path.name.endswith(".weights.h5"))
    converted.unlink()
    leftover = published.cache / f".{name}.abc"
    leftover.mkdir()
    (leftover / converted.name).write_bytes(b"half")
    os.utime(leftover, (0, 0))
    build(row)
    assert sorted(path.name for path in published.cache.iterdir()) == sorted([name, converted.name])
