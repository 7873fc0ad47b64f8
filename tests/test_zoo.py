"""What every network owes its users, asked of a small one of each family; and the table of all."""

import functools
import importlib
import inspect
import types

import keras
import numpy as np
import pytest
from networks import NETWORKS, THREE_PARTS, Network

import keras_condense as kc
from keras_condense import applications
from keras_condense.applications import zoo
from keras_condense.applications.published import RULES, Published

pytestmark = pytest.mark.slow  # all of it, together


# the second MobileNet shares the first's contract, which is tested with the others', but not its layers
BATTERY = NETWORKS | {
    "mobilenetv2": Network(functools.partial(applications.MobileNetV2, 0.35, weights=None), 1280, 32, 32, 224)
}
SMALL = pytest.mark.parametrize("network", BATTERY.values(), ids=BATTERY)


@pytest.fixture
def model(network: Network) -> keras.Model:
    """A small network of three logits whose batch norms and biases are as after some training."""
    model = network.build(input_shape=(network.side, network.side, 3), classes=3, classifier_activation=None)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.name in ("beta", "bias", "moving_mean"):
            weight.assign(rng.normal(0, 0.2, weight.shape))
    return model


@pytest.fixture
def x(network: Network) -> np.ndarray:
    # enough for the statistics of a batch norm upon maps of a single pixel
    return np.random.default_rng(1).normal(size=(16, network.side, network.side, 3)).astype("float32")


def predict(model: keras.Model, x: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(x, training=False))


# --------------------------------------------------------------------------------------------------- train and export


@SMALL
def test_training_moves_every_kernel_and_lowers_the_loss(model, x):
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0  # chance would hide how little the loss falls
    labels = np.arange(len(x)) % 3
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1e-4), loss, jit_compile=False)
    # what is added to a channel, a bias or beta, has no gradient if a batch norm follows without a ReLU between
    weights = [weight for weight in model.trainable_weights if weight.name not in ("beta", "bias")]
    before = [keras.ops.convert_to_numpy(weight) for weight in weights]
    losses = [float(model.train_on_batch(x, labels)) for _ in range(4)]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    for weight, old in zip(weights, before, strict=True):
        assert (keras.ops.convert_to_numpy(weight) != old).any(), weight.path


@SMALL
def test_the_exported_file_computes_the_same(model, x):
    for layer in kc.layers.condensable_layers(model):  # exporting condenses those that have reached their last stage
        layer.condense_to(layer.final_stage)
    expected = predict(model, x[:2])
    actual = kc.run_tflite(kc.export_tflite(model), x[:2])
    # float32 sums in another order
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


# --------------------------------------------------------------------------------------------------- rows of figures


@pytest.mark.parametrize("row", zoo.published(), ids=lambda row: row.network)
def test_a_row_names_a_constructor_and_its_arguments(row):
    assert row.constructor in applications.__all__
    inspect.signature(getattr(applications, row.constructor)).bind(**row.arguments)
    assert row.rule in RULES
    assert row.source


@pytest.mark.parametrize("name", zoo.families())
def test_constructors_of_a_family_are_exported_and_the_named_ones_stand_in_the_table(name):
    family = zoo.families()[name]
    contract = [*inspect.signature(applications.DenseNet121).parameters]
    module = importlib.import_module(family.module)
    assert set(family.constructors) <= set(applications.__all__)
    for constructor, function in family.constructors.items():
        assert getattr(applications, constructor) is getattr(module, constructor) is function
        assert constructor in module.__all__
        parameters = inspect.signature(function).parameters.values()
        if [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY] == contract:  # no family's general constructor
            assert constructor in {row.constructor for row in family.figures}


def test_every_constructor_belongs_to_a_family():
    listed = {key for family in zoo.families().values() for key in family.constructors}
    assert {key for key in applications.__all__ if key[0].isupper()} == listed


# --------------------------------------------------------------------------------------------------------- the table

TINY = {"stages": (1, 1), "growth_rates": (4, 8), "stem_strides": 1, "input_shape": (8, 8, 3), "classes": 10}
TINY_ROWS = (
    Published(network="tiny", constructor="CondenseNet", arguments=TINY, source="here"),
    Published(
        network="tiny, condensed",
        constructor="CondenseNet",
        arguments=TINY,
        parameters="1.5K",
        operations="0.1M",
        rule="operations",
        condensed=True,
        error="5.0 / 25.0",
        source="there",
    ),
)


@pytest.fixture
def tiny(monkeypatch):
    """In the place of all families one of two rows."""
    monkeypatch.setattr(zoo, "families", lambda: {"tiny_family": types.SimpleNamespace(figures=TINY_ROWS)})


def test_the_table_counts_what_is_built(tiny):
    model = applications.CondenseNet(**TINY)
    table = applications.table()
    for row, published, counted in zip(table.rows, TINY_ROWS, (model, kc.condense(model, finish=True)), strict=True):
        profile = kc.profile_model(counted)
        assert (row.parameters, row.macs, row.operations) == (profile.parameters, profile.macs, profile.operations)
        assert (row.family, row.network, row.constructor) == ("tiny_family", published.network, "CondenseNet")
        assert (row.published_parameters, row.published_operations) == (published.parameters, published.operations)
        assert (row.rule, row.published_error, row.source) == (published.rule, published.error, published.source)
        assert row.file_bytes is None
    assert table.rows[1].parameters < table.rows[0].parameters


def test_the_table_is_readable(tiny):
    table = applications.table()
    lines = str(table).splitlines()
    line = next(line for line in lines if "tiny, condensed" in line)
    for text in (
        f"{table.rows[1].parameters:,}",
        f"{table.rows[1].macs:,}",
        "1.5K",
        "0.1M (operations)",
        "5.0 / 25.0",
        "there",
    ):
        assert text in line
    assert "file bytes" not in lines[1]
    assert max(map(len, lines)) <= 180


def test_file_sizes_are_those_of_the_exported_files(tiny):
    table = applications.table(["tiny, condensed"], file_size=True)
    (row,) = table.rows
    assert row.file_bytes == len(kc.export_tflite(zoo.build(TINY_ROWS[1])))
    assert f"{row.file_bytes:,}" in str(table)


def test_names_choose_rows_in_the_order_of_the_table():
    names = [row.network for _, row in zoo._chosen(["MobileNetV2", "CondenseNet-74", "CondenseNet86", "MobileNetV2"])]
    assert names == ["CondenseNet-74", "CondenseNet-86", "MobileNetV2 1.0x, 224"]
    assert len(zoo._chosen(["MobileNet"])) == 7
    assert len(zoo._chosen(None)) == len(zoo.published())


def test_every_row_is_found_by_its_name():
    for row in zoo.published():
        assert [found for _, found in zoo._chosen([row.network]) if found.network == row.network] == [row]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": ["CondenseNet87"]}, r"`names` \(='CondenseNet87'\) must be networks .* Use 'CondenseNet"),
        ({"names": ["CondenseNet-86", 3]}, r"`names` \(=3\) must be networks or constructors of the table"),
        ({"names": "CondenseNet-86"}, r"`names` \(='CondenseNet-86'\) must be a sequence of at least one name"),
        ({"names": []}, r"`names` \(=\[\]\) must be a sequence of at least one name"),
        ({"names": 86}, r"`names` \(=86\) must be a sequence of at least one name"),
        ({"file_size": "yes"}, r"`file_size` \(='yes'\) must be one of True, False"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_built(arguments, message, monkeypatch):
    monkeypatch.setattr(zoo, "build", lambda row: pytest.fail("built"))
    with pytest.raises(ValueError, match=message) as error:
        applications.table(**arguments)
    assert THREE_PARTS.fullmatch(str(error.value))


def test_file_sizes_need_tensorflow(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    monkeypatch.setattr(zoo, "build", lambda row: pytest.fail("built"))
    with pytest.raises(ValueError, match="Keras backend 'jax'") as error:
        applications.table(file_size=True)
    assert THREE_PARTS.fullmatch(str(error.value))
