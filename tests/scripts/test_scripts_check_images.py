"""`check_images.py` names every broken file and nothing else."""

import check_images
import pytest
from made_images import paint


@pytest.fixture
def folder(tmp_path):
    for name in ("train/cat/0.png", "train/cat/1.png", "test/dog/0.jpg"):
        paint(tmp_path / name)
    (tmp_path / "train" / "cat" / "notes.txt").write_text("cats")
    return tmp_path


def test_whole_images(folder, capsys):
    assert check_images.main([str(folder)]) == 0
    assert capsys.readouterr().out == "all 3 images can be decoded\n"


def test_broken_ones_are_named(folder, capsys):
    cut_short = folder / "train" / "cat" / "1.png"
    cut_short.write_bytes(cut_short.read_bytes()[:-30])
    (folder / "test" / "dog" / "1.webp").write_bytes(b"RIFF")
    assert check_images.main([str(folder)]) == 1
    printed = capsys.readouterr()
    first, second = printed.out.splitlines()
    assert first.startswith(f"'{folder}/test/dog/1.webp' must be an image that can be decoded, and can't (")
    assert second.startswith(f"'{cut_short}' must be")
    assert printed.err == "error: 2 of 4 images are broken. Fix or remove them.\n"


def test_folders_without_images(tmp_path, capsys):
    assert check_images.main([str(tmp_path)]) == 1
    assert check_images.main([str(tmp_path / "none")]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert "must hold images (.bmp" in first
    assert "must be an existing folder" in second
