"""Published weights: the table beside pytorchcv's own, and which rows belong to which networks."""

import csv
import importlib.resources
import inspect
import os
import re

import keras
import numpy as np
import pytest
from networks import THREE_PARTS

from keras_condense import applications
from keras_condense.applications import torch_conversion
from keras_condense.applications.architectures import architecture
from keras_condense.applications.pretrained import CLASSES, WEIGHTS, available, find_weights, weights_of

RELEASED = [row for row in WEIGHTS if row.release]


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
    with pytest.raises(
        ValueError, match=r"must be 'cifar10' or 'cifar100': weights of .* are published for nothing else"
    ):
        find_weights("DenseNetBC100K12", "svhn")
    with pytest.raises(ValueError, match=r"left out, because no weights .* No weights of a SparseDenseNet40 are"):
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
