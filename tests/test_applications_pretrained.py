"""Published weights: the table beside pytorchcv's, networks beside pytorchcv's, and downloads that go wrong."""

import csv
import importlib.resources
import inspect
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import zipfile

import keras
import numpy as np
import pytest
from networks import THREE_PARTS
from released import FAMILIES, outputs_of, randomized, release, row_of, saved, serving

import keras_condense as kc
from keras_condense import applications
from keras_condense.applications import downloads, pretrained, pretrained_rows, torch_conversion
from keras_condense.applications.architectures import architecture
from keras_condense.applications.pretrained import CLASSES, WEIGHTS, available, find_weights, weights_of

RELEASED = [row for row in WEIGHTS if row.release]


@pytest.fixture
def torch():
    pytest.importorskip("pytorchcv.models.condensenet")
    return pytest.importorskip("torch")


# --------------------------------------------------------------------------------------------------------- the table


def model_name(row) -> str:
    return re.fullmatch(r"v[\d.]+/(\w+)-\d{4}-[0-9a-f]{8}\.pth\.zip", row.release)[1]


def test_the_table_equals_pytorchcvs():
    pytest.importorskip("pytorchcv")
    path = importlib.resources.files("pytorchcv") / "models/common/model_metainfos.csv"
    theirs = {line["model_name"]: line for line in csv.DictReader(path.read_text(encoding="utf-8").splitlines())}
    for row in RELEASED:
        name = model_name(row)
        line = theirs[name]
        digits, sha1 = line["error_value"], line["checksum"]
        assert row.release == f"{line['repo_release_tag']}/{name}-{digits}-{sha1[:8]}.pth.zip"
        assert row.sha1 == sha1
        if row.dataset == "imagenet":
            assert row.published_top5_error == int(digits) / 100
            assert row.published_error > row.published_top5_error
            assert (row.preprocessing.size, row.preprocessing.crop_fraction) == (
                int(line["img_size"]),
                float(line["img_scale"]),
            )
        else:
            assert row.published_error == int(digits) / 100
    # every network of pytorchcv of these names that has a file stands in the table
    ours = {model_name(row) for row in RELEASED}
    pattern = re.compile(
        r"condensenet74\w+|densenet161|densenet\d+_k\w+_(cifar10|cifar100|svhn)|resnext(50|101)_32x4d|resnet50b"
        r"|squeezenet_\w+|squeezeresnet_v1_0|shufflenet_\w+"
    )
    published = {name for name, line in theirs.items() if pattern.fullmatch(name) and line["checksum"] != "NA"}
    assert ours == published


def test_every_row_is_whole_and_can_be_found():
    for row in WEIGHTS:
        shape = (row.preprocessing.size, row.preprocessing.size, 3)
        assert find_weights(row.constructor, row.dataset, {**row.arguments, "input_shape": shape}) is row
        assert row.dataset in weights_of(row.constructor, row.arguments)
        assert row.classes == CLASSES[row.dataset]
        assert row.license in ("MIT", "BSD-3-Clause", "Apache-2.0")
        assert bool(row.release) == bool(row.sha1)
        assert bool(row.packaged) == bool(row.sha256) == (row.measured_error is not None)
        assert [bool(row.release), row.keras_files is not None, bool(row.packaged)].count(True) == 1
        assert row.address.startswith("https://") or os.path.isfile(row.address)


def test_the_general_constructor_finds_what_the_named_one_does():
    assert find_weights("DenseNet", "imagenet", {"stages": [6, 12, 24, 16]}) is find_weights("DenseNet121", "imagenet")
    assert find_weights("ShuffleNet", "imagenet", {"groups": np.int64(3)}).published_error == 34.39
    stages = applications.densenet_stages(100)
    general = {"stages": stages, "growth_rate": 12, "stem": "cifar", "dropout_rate": 0.2, "memory_efficient": True}
    assert find_weights("DenseNet", "cifar10", general) is find_weights("DenseNetBC100K12", "cifar10")
    g8 = {"stages": (4, 6, 8, 10, 8), "growth_rates": (8, 16, 32, 64, 128), "groups": 8, "condense_factor": 8}
    assert weights_of("CondenseNet", g8) == ()  # whose classifier keeps all inputs
    assert weights_of("CondenseNet", g8 | {"include_top": False}) == ("imagenet",)
    assert weights_of("CondenseNetImageNet74G8", {"groups": 4}) == ()
    assert weights_of("DenseNet40K12") == ()  # of the paper; pytorchcv's transitions halve the channels
    assert weights_of("SparseDenseNet40") == ()


def test_an_unknown_network_or_data_set_is_told_what_there_is():
    with pytest.raises(ValueError, match=r"`constructor` \(='DenseNet999'\) must be one of 'CondenseNet'"):
        find_weights("DenseNet999", "imagenet")
    with pytest.raises(ValueError, match=r"`dataset` \(='mnist'\) must be one of 'imagenet', 'cifar10'"):
        find_weights("DenseNet121", "mnist")
    with pytest.raises(ValueError, match=r"must be 'cifar10' or 'cifar100', for which alone weights of this network"):
        find_weights("DenseNetBC100K12", "svhn")
    with pytest.raises(ValueError, match=r"must be left out, for no weights .* No weights of a SparseDenseNet40 are"):
        find_weights("SparseDenseNet40", "cifar10")
    assert "ShuffleNet(groups=1, width=0.25, stem_filters=6) ('imagenet')" in available("ShuffleNet")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: applications.CondenseNetImageNet74G4(weights="cifar10"),
         r"must be None, 'imagenet' or the path of an existing file. This network has 'imagenet'; train it"),
        (lambda: applications.DenseNetBC100K12(weights="svhn"), r"must be None, 'cifar10', 'cifar100' or the path"),
        (lambda: applications.ShuffleNet(width=2.0, weights="imagenet"),
         r"must be None or the path .* no trained weights of this network.*ShuffleNet\(groups=8, width=1.0\)"),
        (lambda: applications.SparseDenseNet40(weights="cifar10"), r"must be None or the path .* Pass weights=None"),
        (lambda: applications.DenseNet40K12(weights="cifar10"), r"DenseNet\(stages=\(12, 12, 12\), growth_rate=12,"),
        (lambda: applications.CondenseNetImageNet74G8(weights="imagenet", classes=10), r"`classes` .* must be 1000"),
        (lambda: applications.DenseNetBC100K12(weights="cifar100"), r"`classes` \(=10\) must be 100 with"),
        (lambda: applications.ResNeXt50(weights="imagenet", classifier_activation="relu"), "must be None or 'softmax'"),
        (lambda: applications.SqueezeNet(weights="imagenet", input_shape=(227, 227, 3)),
         r"must be \(224, 224, 3\) with weights='imagenet' and include_top=True"),
        (lambda: applications.SqueezeNet(weights="imagenet", include_top=False, input_shape=(64, 64, 1)),
         "must have 3 channels with weights='imagenet'"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused_before_anything_is_fetched(build, message, monkeypatch):
    monkeypatch.setattr(keras.utils, "get_file", None)
    with pytest.raises(ValueError, match=message) as error:
        build()
    assert THREE_PARTS.fullmatch(str(error.value))


def test_preprocess_input_is_what_the_weights_for_imagenet_need():
    pixels = np.random.default_rng(0).integers(0, 256, (1, 4, 4, 3)).astype("float32")
    for row in WEIGHTS:
        if row.dataset == "imagenet":
            module = inspect.getmodule(getattr(applications, row.constructor))
            np.testing.assert_allclose(
                row.preprocessing.normalize(pixels), module.preprocess_input(pixels.copy()), rtol=1e-5, atol=1e-5
            )


# ------------------------------------------------------------------------------------------------ beside pytorchcv's

# rows whose arguments say most; all others differ from one of them in numbers alone
TELLING = {
    "condensenet74_c8_g8": "condensenet",
    "densenet40_k12_cifar10": "densenet_cifar",
    "densenet40_k12_bc_svhn": "densenet_cifar",
    "shufflenet_g1_wd4": "shufflenet",
    "shufflenet_g3_w3d4": "shufflenet",
    "squeezenet_v1_1": "squeezenet",
}


@pytest.mark.parametrize(("name", "module"), TELLING.items())
def test_rows_of_the_table_fit_pytorchcvs_networks(name, module):
    """Names and shapes of whole published networks, for the arguments in the table."""
    models = pytest.importorskip(f"pytorchcv.models.{module}")
    row = next(row for row in RELEASED if model_name(row) == name)
    network = getattr(models, name)()
    state = {key: tensor.numpy() for key, tensor in network.state_dict().items()}
    for key, value in state.items():
        if key.endswith("index"):  # as untrained as the weights: every input once, or the first half
            value[:] = np.arange(len(value))
    model = getattr(applications, row.constructor)(**row.arguments, classes=row.classes)
    general, arguments = architecture(row.constructor, row.arguments)
    torch_conversion.convert(model, state, general, arguments, "`path`")
    assert sum(parameter.numel() for parameter in network.parameters()) == (
        sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) if "condense" not in name else 2_935_416
    )


@pytest.fixture
def published(torch, monkeypatch, tmp_path):
    """Publishes networks on the loopback address, in the place of the table's: `published(family)`."""
    folder = tmp_path / "server"
    folder.mkdir()
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "cache"))
    with serving(folder) as server:
        monkeypatch.setattr(pretrained_rows, "RELEASES", f"http://127.0.0.1:{server.server_port}")

        def publish(name: str, new_format: bool = True, state=None):
            family = FAMILIES[name]
            network = randomized(family, CLASSES[family.dataset])
            files = release(folder, network.state_dict() if state is None else state, new_format=new_format)
            row = row_of(family, files)
            monkeypatch.setattr(pretrained, "WEIGHTS", (row,))
            return network, row

        publish.server, publish.folder, publish.cache = server, folder, tmp_path / "cache/models"
        yield publish


def build(row, **arguments):
    constructor = getattr(applications, row.constructor)
    if arguments.get("include_top", True):
        arguments = {"classes": row.classes, "classifier_activation": None} | arguments
    return constructor(**row.arguments, weights=row.dataset, **arguments)


def images_of(row, count: int = 2) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (count, row.preprocessing.size, row.preprocessing.size, 3))
    return row.preprocessing.normalize(pixels.astype("uint8"))


def predict(model: keras.Model, images: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(images, training=False))  # at once: tracing takes longer


def assert_close(ours, theirs, share: float = 1e-4) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=share * np.abs(theirs).max())


@pytest.mark.parametrize("name", FAMILIES)
def test_networks_equal_pytorchcvs(name, published):
    network, row = published(name, new_format="plain" not in name and "g4" not in name)
    model = build(row)
    images = images_of(row)
    expected = outputs_of(network, images)
    assert model.input_shape == (None, *images.shape[1:])
    assert np.abs(expected - expected.mean(axis=1, keepdims=True)).max() > 0.01  # logits that say something
    assert_close(predict(model, images), expected)
    # a second time from the cache, without the server
    assert len(published.server.requests) == 1
    kept = sorted(path.name for path in published.cache.iterdir())
    assert len(kept) == 2
    assert kept[0].endswith(".weights.h5")
    again = build(row)
    assert len(published.server.requests) == 1
    assert sorted(path.name for path in published.cache.iterdir()) == kept
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["condensenet g4", "condensenet g8"])
def test_a_condensenet_is_masked_at_its_last_stage_and_condenses_to_the_published_one(name, published):
    network, row = published(name)
    model = build(row)
    learned = [layer for layer in model.layers if isinstance(layer, kc.layers.LearnedInputs)]
    assert len(learned) == sum(row.arguments["stages"]) + 1
    for layer in learned:
        assert layer.stage == layer.final_stage
        np.testing.assert_array_equal(np.array(layer.kernel) == np.array(layer.masked_kernel()), True)
    small = kc.condense(model)
    images = images_of(row)
    assert_close(predict(small, images), outputs_of(network, images))
    theirs = sum(parameter.numel() for name, parameter in network.named_parameters() if ".bn." not in name)
    ours = sum(
        int(np.prod(weight.shape))
        for layer in small.layers
        for weight in layer.trainable_weights
        if not isinstance(layer, keras.layers.BatchNormalization)
    )
    assert ours == theirs
    # it trains on, and keeps its mask
    masks = [np.array(layer.mask) for layer in learned]
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.train_on_batch(images, np.array([1, 2]))
    for layer, mask in zip(learned, masks, strict=True):
        np.testing.assert_array_equal(np.array(layer.mask), mask)
    kc.condense(model)


@pytest.mark.parametrize("name", ["condensenet g4", "densenet plain", "squeezenet 1.1"])
def test_features_equal_pytorchcvs_at_any_size(name, published):
    network, row = published(name)
    images = images_of(row, 1)[:, :-1, :-1]
    import torch

    network.features.final_pool = torch.nn.Identity()
    expected = outputs_of(network.features, images).transpose(0, 2, 3, 1)
    model = build(row, include_top=False)
    assert model.input_shape == (None, None, None, 3)
    assert_close(predict(model, images), expected)
    tensor = keras.layers.Rescaling(2.0)(keras.Input(images.shape[1:]))  # before which are layers of the caller
    pooled = build(row, include_top=False, pooling="avg", input_tensor=tensor)
    assert_close(predict(pooled, images / 2), expected.mean(axis=(1, 2)))
    assert len(published.server.requests) == 1


def test_dropout_and_the_softmax_change_nothing(published):
    network, row = published("densenet bc")
    images = images_of(row)
    logits = outputs_of(network, images)
    scores = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores /= scores.sum(axis=1, keepdims=True)
    plain = build(row, classifier_activation="softmax")
    dropping = build(row, classifier_activation="softmax", dropout_rate=0.2, memory_efficient=True)
    again = build(row, classifier_activation="softmax", dropout_rate=0.2)
    for model in (plain, dropping, again):
        assert_close(predict(model, images), scores)
    assert len(published.server.requests) == 1


@pytest.mark.parametrize("suffix", [".pth", ".pth.zip"])
@pytest.mark.parametrize("new_format", [True, False])
def test_weights_may_be_the_path_of_such_a_file(suffix, new_format, torch, tmp_path):
    family = FAMILIES["shufflenet g3"]
    network = randomized(family, 7)
    path = saved(network.state_dict(), tmp_path / "net.pth", new_format)
    if suffix == ".pth.zip":
        with zipfile.ZipFile(tmp_path / "net.pth.zip", "w") as archive:
            archive.write(path, "net.pth")
    model = applications.ShuffleNet(
        **family.arguments, classes=7, classifier_activation=None, weights=tmp_path / f"net{suffix}"
    )
    images = np.random.default_rng(0).normal(size=(2, 224, 224, 3)).astype("float32")
    assert_close(predict(model, images), outputs_of(network, images))


# ----------------------------------------------------------------------------------------------- what does not fit


def test_a_file_of_another_network_is_refused_by_the_names_of_its_weights(torch, tmp_path):
    state = randomized(FAMILIES["shufflenet g1"], 5).state_dict()
    other = saved(state, tmp_path / "other.pth")
    arguments = dict(FAMILIES["densenet bc"].arguments)
    with pytest.raises(
        ValueError, match=r"it lacks 'features.init_block.weight', .* and \d+ more and it has 'features.i"
    ):
        applications.DenseNet(**arguments, classes=5, weights=other)
    arguments = dict(FAMILIES["shufflenet g1"].arguments)
    with pytest.raises(ValueError, match=r"'output.weight': of shape \(72, 5\), not \(72, 6\)") as error:
        applications.ShuffleNet(**arguments, classes=6, weights=other)
    assert THREE_PARTS.fullmatch(str(error.value))
    lacking = {key: value for key, value in state.items() if key != "output.bias"}
    with pytest.raises(ValueError, match=r"\(it lacks 'output.bias'\)"):
        applications.ShuffleNet(**arguments, classes=5, weights=saved(lacking, tmp_path / "lacking.pth"))
    surplus = {**state, "output.scale": torch.ones(5)}
    with pytest.raises(ValueError, match=r"\(it has 'output.scale' too many\)"):
        applications.ShuffleNet(**arguments, classes=5, weights=saved(surplus, tmp_path / "surplus.pth"))
    integers = {**state, "output.bias": torch.ones(5, dtype=torch.int64)}
    with pytest.raises(ValueError, match=r"'output.bias': of int64, not of floats"):
        applications.ShuffleNet(**arguments, classes=5, weights=saved(integers, tmp_path / "integers.pth"))
    flat = {**state, "output.weight": torch.ones(360)}
    with pytest.raises(ValueError, match=r"'output.weight': of shape \(360,\), not of 2 axes"):
        applications.ShuffleNet(**arguments, classes=5, weights=saved(flat, tmp_path / "flat.pth"))


def test_index_layers_of_which_no_mask_can_be_made(torch, tmp_path):
    family = FAMILIES["condensenet g4"]
    network = randomized(family, 5)
    arguments = {**family.arguments, "classes": 5}
    unit, index = network.features.stage1.unit1.conv1, "features.stage1.unit1.conv1.index"
    good = {key: value.clone() for key, value in network.state_dict().items()}
    applications.CondenseNet(**arguments, weights=saved(good, tmp_path / "good.pth"))

    def refused(message: str, **changes) -> None:
        bad = saved(good | {key.replace("__", "."): value for key, value in changes.items()}, tmp_path / "bad.pth")
        with pytest.raises(ValueError, match=message):
            applications.CondenseNet(**arguments, weights=bad)

    same = good[index].clone()
    same[1] = same[0]
    refused("names one twice", **{index: same})
    refused(r"must be 16 inputs in 0..15", **{index: same + 16})
    refused("must be 16 inputs in 0..15", **{index: torch.cat([same, same])})
    refused("its index is of float32", **{index: same.float()})
    shared = int(np.flatnonzero(np.bincount(unit.index.numpy(), minlength=16) > 1)[0])
    copies = good["features.stage1.unit1.conv1.bn.weight"].clone()
    copies[int(np.flatnonzero(unit.index.numpy() == shared)[0])] += 1
    refused("copies of one channel differ", **{"features.stage1.unit1.conv1.bn.weight": copies})
    with pytest.raises(ValueError, match=r"conv1.conv.weight': a group has 4 of 16 inputs left, and ours 8"):
        applications.CondenseNet(**arguments | {"condense_factor": 2}, weights=tmp_path / "good.pth")


def test_other_networks_and_other_suffixes_take_no_such_file(torch, tmp_path):
    path = saved({"a": torch.ones(1)}, tmp_path / "net.pth")
    with pytest.raises(ValueError, match=r"must end in one of \.weights\.h5, \.keras, \.h5, \.hdf5\. "):
        applications.SparseDenseNet40(weights=path)
    with pytest.raises(ValueError, match=r"\.hdf5, \.pth, \.pth\.zip\. "):
        applications.DenseNet40K12(weights=path.rename(tmp_path / "net.pt"))


# ------------------------------------------------------------------------------------------- downloads that go wrong


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
