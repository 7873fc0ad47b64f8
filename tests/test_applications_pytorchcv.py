"""Published networks beside pytorchcv's, from the addresses of the table and from files, and files that don't fit."""

import zipfile

import keras
import numpy as np
import pytest
from networks import THREE_PARTS
from released import FAMILIES, assert_close, build, images_of, outputs_of, predict, publishing, randomized, saved

import keras_condense as kc
from keras_condense import applications

pytestmark = pytest.mark.slow  # all of it, together


@pytest.fixture
def torch():
    pytest.importorskip("pytorchcv.models.condensenet")
    return pytest.importorskip("torch")


@pytest.fixture
def published(torch, monkeypatch, tmp_path):
    with publishing(monkeypatch, tmp_path) as publish:
        yield publish


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
    learned = [layer for layer in model.layers if isinstance(layer, kc.layers.LearnedConnections)]
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


# ---------------------------------------------------------------------------------------------------- what does not fit


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
