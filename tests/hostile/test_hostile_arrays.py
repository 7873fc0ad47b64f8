"""Files of arrays and folders of images that lie."""

import io
import os
import shutil
import struct
import zipfile

import numpy as np
import pytest
from damage import damaged
from time_limit import scaled, time_limit

from keras_condense import archives, datasets
from keras_condense.archives import check_archive


def arrays(**changed):
    draw = np.random.default_rng(0)
    made = {"x_train": draw.integers(0, 256, (8, 6, 6), "uint8"), "y_train": np.arange(8) % 3}
    made |= {"x_test": draw.integers(0, 256, (4, 6, 6), "uint8"), "y_test": np.arange(4) % 3}
    return made | changed


def load(path):
    return datasets.load_arrays(path, batch_size=2, augment=False)


def write(path, **changed):
    np.savez_compressed(path, **arrays(**changed))
    return path


# --- labels -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("label", [2**32, 2**32 + 1, 2**31, 2**63 - 1, 10**9, 10**6, -1])
def test_labels_beyond_all_classes(tmp_path, label):
    labels = np.arange(8) % 3
    labels[5] = label
    path = write(tmp_path / "a.npz", y_train=labels)
    with (
        time_limit(5),
        pytest.raises(ValueError, match=rf"int64 of \(8,\), from .*{abs(label)}.* below 1,000,000"),
    ):
        load(path)
    with pytest.raises(ValueError, match=r"Number the classes from 0 on, below 1,000,000\."):
        datasets.ImageArrays(
            name="a",
            **{f"{part}_images": np.zeros((8, 4, 4), "uint8") for part in ("train", "test")},
            **{f"{part}_labels": labels for part in ("train", "test")},
            class_names=("a",),
            batch_size=2,
            mean=(0.0,),
            std=(1.0,),
            augmentation=None,
        )


@pytest.mark.parametrize("labels", [np.arange(8) * 1j, np.array([None] * 8), np.arange(8.0), np.array(["a"] * 8)])
def test_labels_that_are_no_integers(tmp_path, labels):
    with pytest.raises(ValueError, match=r"must hold a class number|must be a whole \.npz file of numbers"):
        load(write(tmp_path / "a.npz", y_test=labels[:4]))


# --- archives ---------------------------------------------------------------------------------------------------------
def test_damaged_archives(tmp_path):
    write(tmp_path / "a.npz")
    content, whole = (tmp_path / "a.npz").read_bytes(), load(tmp_path / "a.npz")
    path, refused = tmp_path / "b.npz", 0
    numbers = scaled(240)
    for number in numbers:
        path.write_bytes(damaged(content, number))
        try:
            with time_limit(5):
                loaded = load(path)
        except ValueError as error:
            refused += 1
            assert str(path) in str(error)  # noqa: PT017
        else:
            np.testing.assert_array_equal(loaded.train_images, whole.train_images, err_msg=str(number))
            np.testing.assert_array_equal(loaded.test_labels, whole.test_labels, err_msg=str(number))
    assert refused > len(numbers) / 2


def repacked(source, target, changed=None, **options):
    """Write an archive again with some parts' content changed, and right checksums."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", **options) as new:
        for name in old.namelist():
            content = (changed or {}).get(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    return target


def test_damaged_arrays_in_whole_archives(tmp_path):
    """Lies in the header of an array, which no checksum gives away."""
    write(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    for number in scaled(240):
        name = sorted(parts)[number % 4]
        content = damaged(parts[name][:128], number) + parts[name][128:]
        with time_limit(5):
            try:
                load(repacked(tmp_path / "a.npz", tmp_path / "b.npz", {name: content}))
            except ValueError as error:
                assert str(tmp_path / "b.npz") in str(error), number  # noqa: PT017


def header(text):
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode("latin1")


@pytest.mark.parametrize(
    "content",
    [
        header("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000,)}"),
        header("{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 2)}"),
        header("{'descr': '|u1', 'fortran_order': False, 'shape': (2.5,)}"),
        header("{'descr': '|O', 'fortran_order': False, 'shape': (8,)}") + b"cos\nsystem\n(S'touch canary'\ntR.",
        header("{'descr': __import__('os').system('touch canary'), 'fortran_order': False, 'shape': (8,)}"),
        header("(" * 5000 + ")" * 5000),
        header("{'descr': 'c16', 'fortran_order': False, 'shape': (8,)}") + bytes(128),
        header("{"),
        b"\x93NUMPY\x09\x00",
        b"",
        b"cos\nsystem\n(S'touch canary'\ntR.",
    ],
)
@pytest.mark.filterwarnings("ignore::SyntaxWarning")
def test_lies_in_the_header_of_an_array(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.npz")
    path = repacked(tmp_path / "a.npz", tmp_path / "b.npz", {"y_train.npy": content})
    with time_limit(5), pytest.raises(ValueError, match=r"b\.npz"):
        load(path)
    assert sorted(os.listdir()) == ["a.npz", "b.npz"]


def test_an_archive_that_unpacks_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_SMALL", 1 << 20)
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x_train.npy", "w") as part:
        for _ in range(3):
            part.write(bytes(1 << 20))
    with (
        time_limit(2),
        pytest.raises(ValueError, match=r"its [\d,]+ bytes would unpack to 3,145,728, so that"),
    ):
        load(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, 99, 6])
def test_odd_compression(tmp_path, method):
    write(tmp_path / "a.npz")
    real = method if method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA) else zipfile.ZIP_STORED
    path = repacked(tmp_path / "a.npz", tmp_path / "b.npz", compression=real)
    if real != method:
        content = bytearray(path.read_bytes())
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            start = archive.start_dir
        content[start + 10 : start + 12] = struct.pack("<H", method)
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"must be a whole \.npz file .*packed in a way that is not known here"):
        load(path)


def test_encrypted_archives(tmp_path):
    content = bytearray(write(tmp_path / "a.npz").read_bytes())
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        start = archive.start_dir
    content[start + 8] |= 1
    (tmp_path / "b.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"must be a whole \.npz file .* is encrypted"):
        load(tmp_path / "b.npz")


def test_parts_of_one_name(tmp_path):
    write(tmp_path / "a.npz")
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("x_train.npy", b"")
    with pytest.raises(ValueError, match="it has several parts of one name"):
        load(tmp_path / "a.npz")


def test_swapped_parts(tmp_path):
    write(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        images, labels = archive.read("x_train.npy"), archive.read("y_train.npy")
    path = repacked(tmp_path / "a.npz", tmp_path / "b.npz", {"x_train.npy": labels, "y_train.npy": images})
    with pytest.raises(ValueError, match=r"must hold images of uint8"):
        load(path)


def test_numbers_that_shrink_well_are_read(tmp_path):
    """Below a size that every machine has, nobody is asked how well it is packed."""
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros(1 << 24, "uint8"))
    assert check_archive(tmp_path / "a.npz") == {"x.npy"}


@pytest.mark.parametrize("name", ["pipe.npz", "folder.npz", "a" * 300 + ".npz", "~nobody-of-that-name/a.npz"])
def test_paths_that_are_no_files(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.npz")
    os.mkdir("folder.npz")
    with time_limit(2), pytest.raises(ValueError, match=r"^`name` \(=.*\) must be "):
        load(name)


@pytest.mark.parametrize("name", ["a" * 300, "~nobody-of-that-name/a", "/dev/zero", "a/" * 3000])
def test_names_of_no_folder(name):
    with time_limit(20), pytest.raises(ValueError, match=r"^`name` \(=.*\) must be "):
        datasets.load(name)


# --- folders ----------------------------------------------------------------------------------------------------------
@pytest.fixture
def folder(tmp_path):
    from PIL import Image

    root = tmp_path / "animals"
    draw = np.random.default_rng(0)
    for part, count in (("train", 5), ("test", 2)):
        for name in ("cat", "dog"):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = draw.integers(0, 256, (6, 6, 3), "uint8")
                Image.fromarray(pixels).save(root / part / name / f"{number}.png")
    return root


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("train/cat/loop", "."),
        ("train/cat/loop", ".."),
        ("train/cat/loop", "../.."),
        ("train/cat/loop", "../../.."),
        ("train/cat/loop", "/"),
        ("train/cat/more", "../dog"),
        ("train/cat/more", "../../test/cat"),
        ("test/cat/more", "../../train/cat"),
        ("train/cow", "cat"),
    ],
)
def test_a_folder_that_comes_up_twice(folder, link, target):
    (folder / link).symlink_to(target)
    with (
        time_limit(20),
        pytest.raises(ValueError, match=r"no folder comes up twice, and '.*' is '.*', by a link"),
    ):
        datasets.load(folder)


def test_classes_that_are_links_to_folders_elsewhere(folder, tmp_path):
    shutil.move(folder / "train" / "cat", tmp_path / "cats")
    (folder / "train" / "cat").symlink_to(tmp_path / "cats")
    data = datasets.load(folder)
    assert (data.train_size, data.test_size) == (10, 4)


def test_images_that_are_no_regular_files(folder):
    os.mkfifo(folder / "train" / "cat" / "pipe.png")
    (folder / "train" / "dog" / "device.png").symlink_to("/dev/zero")
    (folder / "train" / "dog" / "nothing.png").symlink_to("no-such-file")
    (folder / "test" / "dog" / "folder.png").mkdir()
    with time_limit(20), pytest.raises(ValueError, match=r"3 of its 17 can't: .*pipe\.png.*device\.png.*nothing\.png"):
        datasets.load(folder)
    with time_limit(20), pytest.warns(UserWarning, match="3 of 17 images can't be decoded and are skipped"):
        assert datasets.load(folder, skip_broken=True).train_size == 10
