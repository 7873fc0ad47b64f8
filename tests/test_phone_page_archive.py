"""The page's reader of the archive behind a file, on archives that Python's zipfile makes."""

import io
import json
import pathlib
import shutil
import subprocess
import zipfile

import pytest

READER = pathlib.Path(__file__).parent.parent / "applications" / "phone_page" / "page" / "archive.js"
PROGRAM = """
import {readFileSync} from 'node:fs';
const {partOf} = await import(process.argv[1]);
try {
  console.log(JSON.stringify({text: partOf('my.tflite', new Uint8Array(readFileSync(0)), 'card.json')}));
} catch (error) {
  console.log(JSON.stringify({problem: error.message, kind: error.constructor.name}));
}
"""
MODEL = bytes(range(256)) * 4  # what stands before the archive
TEXT = '{"class_names": ["Füchse", "dachs"]}'


def read(content):
    """What the page reads of a file."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed: the page's reader of archives was not tried (apt install nodejs)")
    command = [node, "--input-type=module", "-e", PROGRAM, READER.as_uri()]
    done = subprocess.run(command, input=content, capture_output=True, timeout=60, check=True)
    return json.loads(done.stdout)


def archive_of(parts, before=b"", compression=zipfile.ZIP_STORED, comment=b""):
    file = io.BytesIO(before)
    with zipfile.ZipFile(file, "a", compression) as archive:
        archive.comment = comment
        for name, text in parts.items():
            archive.writestr(name, text)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        archive_of({"card.json": TEXT}, MODEL),
        archive_of({"labels.txt": "a\nb\n", "card.json": TEXT, "a card.json": "no"}, MODEL),
        archive_of({"card.json": TEXT}, MODEL, comment=b"a comment"),
        MODEL + archive_of({"labels.txt": "a", "card.json": TEXT}),  # its places are counted from its own beginning
    ],
    ids=["one", "several", "comment", "appended"],
)
def test_the_part_is_read(content):
    assert read(content) == {"text": TEXT}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.read("card.json").decode() == TEXT


@pytest.mark.parametrize(
    "content",
    [b"", MODEL, archive_of({}, MODEL), archive_of({"labels.txt": "a"}, MODEL), archive_of({"card.json": TEXT})[:-1]],
    ids=["nothing", "no archive", "empty", "other part", "last byte gone"],
)
def test_no_archive_or_no_such_part(content):
    assert read(content) == {"text": None}


WHOLE = archive_of({"labels.txt": "a", "card.json": TEXT}, MODEL)
DIRECTORY = WHOLE.index(b"PK\x01\x02")


@pytest.mark.parametrize(
    "content",
    [
        WHOLE[DIRECTORY:],  # its parts are gone
        WHOLE[-22:],
        WHOLE[:DIRECTORY] + bytes(46) + WHOLE[DIRECTORY + 46 :],
        WHOLE.replace(b"PK\x03\x04", b"KP\x03\x04"),
        WHOLE.replace(len(TEXT.encode()).to_bytes(4, "little"), (1 << 30).to_bytes(4, "little")),
    ],
    ids=["no parts", "only the end", "directory", "part", "size"],
)
def test_a_broken_archive_is_told(content):
    said = read(content)
    assert said["kind"] == "Problem"
    assert said["problem"].startswith("The archive at the end of my.tflite is broken. Copy the file again, or export")


def test_a_compressed_part_is_told():
    said = read(archive_of({"card.json": TEXT}, MODEL, zipfile.ZIP_DEFLATED))
    assert said["kind"] == "Problem"
    assert said["problem"].startswith("card.json in my.tflite is compressed or encrypted, and must lie there as it is.")
