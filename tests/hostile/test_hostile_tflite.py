"""Damaged .tflite files: they run or are refused by a ValueError, at once, and never take the process with them."""

import os
import struct

import keras
import numpy as np
import pytest
import run_cases
from damage import damaged
from time_limit import scaled, time_limit

from keras_condense import layers
from keras_condense.tflite import benchmark_tflite, export_tflite, run_tflite, runtime

pytest.importorskip("tensorflow")


def network():
    inputs = keras.Input((8, 8, 4), name="image")
    x = layers.GroupConv2D(8, 3, padding="same", groups=2, activation="relu")(inputs)
    x = keras.layers.DepthwiseConv2D(3, padding="same", strides=2)(x)
    x = keras.layers.Concatenate()([x, layers.ChannelIndex([1, 0, 3, 5, 7, 2, 4, 6])(x)])
    x = keras.layers.Flatten()(keras.layers.AveragePooling2D(2)(x))
    return keras.Model(inputs, keras.layers.Dense(4, activation="softmax")(x))


@pytest.fixture(scope="module")
def files():
    keras.utils.set_random_seed(0)
    rows = np.random.default_rng(0).normal(size=(8, 1, 8, 8, 4)).astype("float32")
    model = network()
    return {
        "float32": export_tflite(model),
        "int8": export_tflite(model, quantize="int8", representative_data=list(rows)),
    }


def test_damaged_files(files, tmp_path):
    paths = []
    for number in scaled(300):
        paths.append(tmp_path / f"{number}.tflite")
        paths[-1].write_bytes(damaged(files["int8" if number % 2 else "float32"], number // 2))
    found = run_cases.outcomes("tflite", paths, tmp_path)
    wrong = {name: outcome for name, outcome in found.items() if not outcome.startswith(("ok: ", "ValueError: "))}
    assert not wrong
    assert {outcome.partition(":")[0] for outcome in found.values()} == {"ok", "ValueError"}


def test_a_file_of_nothing_is_refused():
    vtable = struct.pack("<HH", 4, 4)
    with pytest.raises(ValueError, match="refers to what is not in it"):
        runtime.check_tflite(struct.pack("<I4s", 12, b"TFL3") + vtable + struct.pack("<i", 4))


# --- files whose tables share their parts -----------------------------------------------------------------------------
def shared_file(items: int) -> bytes:
    """A file whose subgraphs are all the same one, whose tensors are all the same one."""
    vtables = struct.pack("<5H", 10, 8, 0, 0, 4) + struct.pack("<3H", 6, 8, 4) + struct.pack("<2H", 4, 4)
    model = 8 + len(vtables)  # of field 2, a vector that follows
    subgraph = model + 8 + 4 + 4 * items  # of field 0, which follows it too
    tensor = subgraph + 8 + 4 + 4 * items  # of no field
    file = struct.pack("<I4s", model, b"TFL3") + vtables
    for position, vtable, item in ((model, 8, subgraph), (subgraph, 18, tensor)):
        file += struct.pack("<iII", position - vtable, 4, items)
        file += b"".join(struct.pack("<I", item - (position + 12 + 4 * number)) for number in range(items))
    return file + struct.pack("<i", tensor - 24)


def test_a_small_shared_file_is_whole():
    runtime.check_tflite(shared_file(100))


@pytest.mark.parametrize("items", [3_000, 30_000])
def test_a_file_of_tables_that_are_all_the_same_is_refused_at_once(items):
    with time_limit(2), pytest.raises(ValueError, match="refers to what is not in it, or to the same bytes again"):
        run_tflite(shared_file(items), np.zeros((1, 1)))


def test_vectors_that_overlap_are_refused_at_once():
    """Every word is a length and an offset, so that a vector begins at each; 64 KB stand for 10**8 items."""
    words = 16_000
    body = struct.pack("<I", words // 4) * words
    vtables = struct.pack("<HHHHH", 10, 16, 0, 0, 8)
    data = struct.pack("<I4s", 8, b"TFL3") + body + vtables
    with time_limit(2), pytest.raises(ValueError, match="refers to what is not in it"):
        runtime.check_tflite(data)


def test_checking_takes_time_in_proportion_to_the_size(files):
    """A file of 24 KB that refers to 9 million tables took minutes; one of a hundred thousand takes no second."""
    with time_limit(2):
        runtime.check_tflite(shared_file(300))
        runtime.check_tflite(files["float32"] + bytes(50_000_000))


# --- what is no file of a model, and what is no input -----------------------------------------------------------------
@pytest.mark.parametrize("value", [None, 3, 1j, [], "a\0b", object()], ids=lambda value: type(value).__name__)
def test_what_is_neither_a_path_nor_content(value):
    for read in (benchmark_tflite, lambda value: run_tflite(value, np.zeros((1, 8, 8, 4)))):
        with pytest.raises(ValueError, match=r"^`path_or_bytes` \(of type \w+\) must be a path"):
            read(value)


def test_paths_that_would_never_end(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero", tmp_path):
        with (
            time_limit(2),
            pytest.raises(ValueError, match=r"that can be read, and cannot \(it is not a regular file\)"),
        ):
            benchmark_tflite(path)
    with pytest.raises(
        ValueError, match=r"must be a \.tflite file that can be read, and cannot \(File name too long\)"
    ):
        benchmark_tflite(tmp_path / ("a" * 300))


@pytest.mark.parametrize(
    "inputs",
    [
        np.zeros((1, 8, 8, 4), complex),
        np.zeros((1, 8, 8, 4), object),
        np.zeros((1, 8, 8, 4), str),
        [[1, 2], [3]],
        object(),
    ],
    ids=["complex", "object", "str", "ragged", "none"],
)
def test_inputs_that_are_no_real_numbers(files, inputs):
    with pytest.raises(ValueError, match=r"^`inputs` .*must hold real numbers"):
        run_tflite(files["float32"], inputs)


@pytest.mark.parametrize("name", ["runs", "warmup", "threads"])
@pytest.mark.parametrize(
    "value", [0, 1j, None, "1", 10**12, 10**5000, np.array([1, 2])], ids=lambda v: type(v).__name__
)
def test_numbers(files, name, value):
    with time_limit(2), pytest.raises(ValueError, match=rf"^`{name}` \(=.*\) must be a positive integer"):
        benchmark_tflite(files["float32"], **{name: value})
