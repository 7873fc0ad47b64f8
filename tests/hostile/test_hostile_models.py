"""Damaged and lying `.keras` files: they load as they were or are refused by a ValueError that names them."""

import io
import json
import os
import random
import struct
import zipfile

import h5py
import keras
import numpy as np
import pytest
import run_cases
from damage import damaged
from time_limit import scaled, time_limit

from keras_condense import layers
from keras_condense.saving import load_model, save_model

pytestmark = pytest.mark.slow  # all of it, together


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((4, 4, 8)),
            layers.LearnedGroupConv2D(8, 1, groups=2, name="learned"),
            layers.BatchNormalization(name="norm"),
            keras.layers.GlobalAveragePooling2D(),
            layers.CondenseDense(4, name="scores"),
        ]
    )
    model.compile("sgd", "mse")
    path = tmp_path_factory.mktemp("whole") / "model.keras"
    save_model(model, path)
    return path


def parts_of(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(path, parts, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def unlike(found, *beginnings):
    return {name: outcome for name, outcome in found.items() if not outcome.startswith(beginnings)}


def total(model):
    return f"ok: {sum(float(np.abs(np.asarray(weight, 'float64')).sum()) for weight in model.weights):.6g}"


# --- by the hundred ---------------------------------------------------------------------------------------------------
def test_damaged_archives(whole, tmp_path):
    content, expected = whole.read_bytes(), total(load_model(whole))
    paths = []
    for number in scaled(60):
        paths.append(tmp_path / f"{number}.keras")
        paths[-1].write_bytes(damaged(content, number))
    found = run_cases.outcomes("keras", paths, tmp_path)
    assert not unlike(found, "ValueError: `path`", expected)
    assert all(name in outcome for name, outcome in found.items() if outcome != expected)


def lie(value, draw):
    """Another JSON value in the place of one in a config."""
    numbers = [0, -1, 1, 2.5, 10**3, 10**9, 10**12, 10**30, 1e308]
    others = [None, True, "", "relu", "a" * 1000, [], [1, 2], {}, {"class_name": "Lambda"}, [[[]]]]
    return draw.choice(numbers if isinstance(value, (int, float)) and draw.random() < 0.8 else numbers + others)


def with_a_lie(config, number):
    """Change one leaf of a config, or leave one out."""
    draw = random.Random(number)
    config, leaves = json.loads(config), []

    def walk(value):
        for key in value if isinstance(value, dict) else range(len(value)):
            leaves.append((value, key))
            if isinstance(value[key], (dict, list)):
                walk(value[key])

    walk(config)
    holder, key = draw.choice(leaves)
    if draw.random() < 0.15:
        del holder[key]
    else:
        holder[key] = lie(holder[key], draw)
    return json.dumps(config)


def test_lies_in_whole_archives(whole, tmp_path):
    """Checksums are right, but a config or the weights say what isn't so."""
    parts, paths = parts_of(whole), []
    for number in scaled(90):
        if number % 2:
            changed = {"config.json": with_a_lie(parts["config.json"], number)}
        else:
            changed = {"model.weights.h5": damaged(parts["model.weights.h5"], number // 2)}
        paths.append(pack(tmp_path / f"{number}.keras", parts | changed))
    found = run_cases.outcomes("keras", paths, tmp_path)
    assert not unlike(found, "ValueError: `path`", "ok: ")
    assert len({outcome.partition(" ")[0] for outcome in found.values()}) == 2


# --- one by one -------------------------------------------------------------------------------------------------------
def refused(path, message, seconds=10):
    with time_limit(seconds), pytest.raises(ValueError, match=message) as error:
        load_model(path)
    assert str(path) in str(error.value)
    assert len(str(error.value)) < 2000


@pytest.mark.parametrize("part", ["config.json", "metadata.json"])
@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "null", "3", '"a"', "", "{", "\ud800", "\0", "[" * 900 + "]" * 900]
)
def test_what_is_no_config(whole, tmp_path, part, text):
    content = text.encode("utf-8", "surrogatepass")
    path = pack(tmp_path / "a.keras", parts_of(whole) | {part: content})
    if part == "config.json":
        refused(path, "must hold a model that this installation knows")
    else:  # what Keras doesn't read does no harm
        with time_limit(10):
            assert load_model(path).get_layer("scores")


def nested(depth):
    config = {"class_name": "Dense", "config": {"units": 1}}
    for _ in range(depth):
        wrapped = {"name": "a", "layer": config}
        config = {"class_name": "TimeDistributed", "module": "keras.layers", "config": wrapped, "registered_name": None}
    return json.dumps(config)


@pytest.mark.parametrize("depth", [50, 150, 230])
def test_layers_within_layers_within_layers(whole, tmp_path, depth):
    refused(pack(tmp_path / "a.keras", parts_of(whole) | {"config.json": nested(depth)}), "loading it failed", 30)


def test_a_config_of_gigabytes_in_a_file_of_megabytes(whole, tmp_path):
    path = tmp_path / "a.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts_of(whole).items():
            archive.writestr(name, content)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        places = {part.filename: at for part, at in zip(archive.infolist(), directory(archive, content), strict=True)}
    for size, message in (
        (3 * 2**30, r"would unpack to 3,\d+,\d+,\d+, so that"),
        (2**27, "config.json has 134,217,728"),
    ):
        content[places["config.json"] + 24 : places["config.json"] + 28] = struct.pack("<I", size)
        path.write_bytes(content)
        refused(path, rf"must be a whole Keras model file, and is .*({message}|truncated)", 2)
    # with the header that it deserves
    bomb = {"config.json": b" " * 2**27}
    refused(pack(path, parts_of(whole) | bomb, zipfile.ZIP_DEFLATED), r"config\.json has 134,217,728 bytes", 10)


def directory(archive, content):
    """Where the entries of an archive's directory stand."""
    at = archive.start_dir
    for part in archive.infolist():
        yield at
        at += 46 + sum(struct.unpack("<HHH", content[at + 28 : at + 34]))
        assert part


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_odd_compression(whole, tmp_path, method):
    refused(pack(tmp_path / "a.keras", parts_of(whole), method), "is packed in a way that is not known here")


def test_encryption(whole, tmp_path):
    content = bytearray(whole.read_bytes())
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        content[archive.start_dir + 8] |= 1
    (tmp_path / "a.keras").write_bytes(content)
    refused(tmp_path / "a.keras", r"its part 'metadata\.json' is encrypted")


def changed(whole, tmp_path, change):
    """The file with its config changed in place."""
    parts = parts_of(whole)
    config = json.loads(parts["config.json"])
    by_name = {layer["config"]["name"]: layer for layer in config["config"]["layers"]}
    change(by_name)
    return pack(tmp_path / "a.keras", parts | {"config.json": json.dumps(config)})


@pytest.mark.parametrize(
    ("layer", "argument", "value"),
    [
        ("learned", "condense_factor", 10**12),
        ("learned", "condense_factor", 10**9),
        ("learned", "filters", 10**9),
        ("learned", "filters", 10**12),
        ("learned", "groups", 10**12),
        ("learned", "kernel_size", [10**5, 10**5]),
        ("learned", "kernel_size", [10**4, 10**4]),
        ("learned", "strides", 10**12),
        ("scores", "units", 10**12),
        ("scores", "units", 16 * 10**6),
    ],
)
def test_huge_numbers_in_a_file(whole, tmp_path, layer, argument, value):
    path = changed(whole, tmp_path, lambda layers: layers[layer]["config"].update({argument: value}))
    refused(path, rf"loading it failed: .*(`{argument}` \(=|would have a weight|do not fit)")


@pytest.mark.parametrize(
    ("units", "message"), [(10**8, "would take 3,600,000,448 bytes for weights, of which it holds")]
)
def test_layers_of_keras_that_need_more_memory_than_the_file_holds(whole, tmp_path, units, message):
    def change(layers):
        dense = keras.saving.serialize_keras_object(keras.layers.Dense(units, name="scores"))
        layers["scores"].clear()
        layers["scores"].update(dense)

    refused(changed(whole, tmp_path, change), message)


def test_weights_of_other_shapes_are_named(whole, tmp_path):
    """What "A total of 2 objects could not be loaded" says nothing of."""
    path = changed(whole, tmp_path, lambda layers: layers["scores"]["config"].update({"units": 12}))
    refused(path, r"do not fit \d+ of its layers \(.*'scores'.*of the first: .*shape=\(12,\).*shape=\(4,\)")


@pytest.mark.parametrize("kind", ["soft", "external", "virtual", "elsewhere", "twice", "huge"])
def test_weights_that_are_links(whole, tmp_path, kind):
    parts = parts_of(whole)
    os.mkfifo(tmp_path / "pipe")
    stored = io.BytesIO(parts["model.weights.h5"])
    with h5py.File(stored, "r+") as file:
        group = file["layers"][next(iter(file["layers"]))]["vars"]
        while not len(group):
            group = next(entry["vars"] for entry in file["layers"].values() if len(entry["vars"]))
        name = next(iter(group))
        array = group[name][()]
        other = next(entry for entry in file["layers"].values() if entry.name != group.parent.name)
        del group[name]
        if kind == "soft":
            group[name] = h5py.SoftLink(other.name)
        elif kind == "external":
            group[name] = h5py.ExternalLink(str(tmp_path / "pipe"), "/")
        elif kind == "virtual":
            layout = h5py.VirtualLayout(array.shape, array.dtype)
            layout[...] = h5py.VirtualSource(str(tmp_path / "pipe"), "a", array.shape)
            group.create_virtual_dataset(name, layout)
        elif kind == "elsewhere":
            group.create_dataset(name, array.shape, array.dtype, external=[(str(tmp_path / "pipe"), 0, array.nbytes)])
        elif kind == "twice":
            group[name] = file["layers"]
        else:
            group.create_dataset(name, (2**20, 2**20), "float32", chunks=(1024, 1024))
    path = pack(tmp_path / "a.keras", parts | {"model.weights.h5": stored.getvalue()})
    refused(path, "link to elsewhere|lie in another file|come up twice|would unpack to")


CODE = [
    {"class_name": "Lambda", "module": "keras.layers", "config": {"function": ["4wEA", None, None]}},
    {"class_name": "system", "module": "os", "config": {"command": "touch canary"}},
    {"class_name": "exec", "module": "builtins", "config": "open('canary', 'w')"},
    {"class_name": "function", "module": "builtins", "config": "open", "registered_name": "open"},
    {"class_name": "get_file", "module": "keras.utils", "config": {"fname": "canary", "origin": "file:///etc/hosts"}},
    {"class_name": "enable_unsafe_deserialization", "module": "keras.config", "config": {}},
    {"class_name": "__lambda__", "config": {"value": ["4wEA", None, None]}},
    {"class_name": "TFSMLayer", "module": "keras.layers", "config": {"filepath": "canary"}},
    {"class_name": "run_module", "module": "runpy", "config": {"mod_name": "this"}},
]


@pytest.mark.parametrize("layer", CODE, ids=lambda layer: layer["class_name"])
@pytest.mark.parametrize("where", ["layer", "model", "initializer", "activation"])
def test_no_code_is_run(whole, tmp_path, monkeypatch, layer, where):
    monkeypatch.chdir(tmp_path)
    if where == "model":
        path = pack(tmp_path / "a.keras", parts_of(whole) | {"config.json": json.dumps(layer)})
    elif where == "layer":
        path = changed(whole, tmp_path, lambda layers: (layers["scores"].clear(), layers["scores"].update(layer)))
    else:
        key = "kernel_initializer" if where == "initializer" else "activation"
        path = changed(whole, tmp_path, lambda layers: layers["scores"]["config"].update({key: layer}))
    refused(path, "must hold a model that this installation knows")
    assert os.listdir() == ["a.keras"]


@pytest.mark.parametrize("name", ["a" * 300 + ".keras", "pipe.keras", "folder.keras", "a\0.keras", "circle.keras"])
def test_paths_that_are_no_files(tmp_path, name):
    os.mkfifo(tmp_path / "pipe.keras")
    os.mkdir(tmp_path / "folder.keras")
    (tmp_path / "circle.keras").symlink_to("circle.keras")
    with time_limit(2), pytest.raises(ValueError, match=r"^`path` \(=.*\) must "):
        load_model(f"{tmp_path}/{name}")
    with time_limit(5), pytest.raises(ValueError, match=r"^`path` \(=.*\) must "):
        save_model(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]), f"{tmp_path}/{name}")


def test_the_random_state_is_left_alone_by_what_is_looked_at_first(whole):
    """Loading draws as many numbers as Keras alone does."""
    random.seed(3)
    keras.models.load_model(whole)
    expected = random.random()
    random.seed(3)
    load_model(whole)
    assert random.random() == expected
