"""Counts against hand counts, Keras' own parameter counts, and MobileNet's published ones."""

import keras
import numpy as np
import pytest

from keras_condense.condensation import condense
from keras_condense.layers import (
    BatchNormalization,
    ChannelIndex,
    ChannelScatterAdd,
    CondenseDense,
    GroupConv2D,
    LearnedGroupConv2D,
    SparseFeatureReactivation,
)
from keras_condense.profiling import profile_model

L = keras.layers


def count(layer, shape):
    (row,) = profile_model(keras.Sequential([keras.Input(shape), layer])).layers
    return row.parameters, row.macs, row.operations


# parameters, macs, operations, all counted by hand
HAND = [
    (L.Conv2D(4, 3, padding="same"), (8, 8, 3), 4 * 27 + 4, 64 * 4 * 27, 64 * 4 * 27),
    (L.Conv2D(4, 3, strides=2, use_bias=False, activation="relu"), (9, 9, 3), 108, 16 * 108, 16 * 108 + 16 * 4),
    (L.Conv2D(4, 1, groups=2, use_bias=False), (3, 3, 6), 12, 9 * 12, 9 * 12),
    (L.Conv1D(4, 3), (8, 2), 28, 6 * 24, 6 * 24),
    (L.DepthwiseConv2D(3, padding="same", depth_multiplier=2), (5, 5, 4), 80, 25 * 72, 25 * 72),
    (L.SeparableConv2D(6, 3, padding="same", use_bias=False), (5, 5, 4), 36 + 24, 25 * 60, 25 * 60),
    (L.Conv2DTranspose(3, 2, strides=2, use_bias=False), (4, 4, 5), 60, 16 * 60, 16 * 60),
    (L.Dense(10), (7,), 80, 70, 80),
    (L.Dense(10, use_bias=False), (3, 7), 70, 210, 210),
    (GroupConv2D(8, 3, padding="same", groups=4), (5, 5, 8), 9 * 2 * 8, 25 * 144, 25 * 144),
    (LearnedGroupConv2D(8, 1, use_bias=True), (5, 5, 8), 72, 25 * 64, 25 * 64),
    (SparseFeatureReactivation(16, groups=2), (5, 5, 8), 128, 25 * 128, 25 * 128),
    (CondenseDense(10), (8,), 90, 80, 90),
    (BatchNormalization(), (4, 4, 3), 6, 0, 0),
    (L.ReLU(), (4, 4, 3), 0, 0, 48),
    (L.Activation("relu6"), (4, 4, 3), 0, 0, 48),
    (L.Activation("hard_swish"), (4, 4, 3), 0, 0, 48),
    (L.Dense(10, use_bias=False, activation="sigmoid"), (7,), 70, 70, 90),
    (L.Activation("softmax"), (3,), 0, 0, 0),
    (L.AveragePooling2D(2), (4, 6, 3), 0, 0, 72),
    (L.MaxPooling2D(3, 2), (5, 5, 2), 0, 0, 2 * 2 * 2 * 9),
    (L.GlobalAveragePooling2D(), (4, 6, 3), 0, 0, 72),
    (L.LSTM(4), (5, 3), 4 * 4 * (3 + 4 + 1), 5 * 4 * 4 * (3 + 4), 5 * 4 * 4 * (3 + 4)),
    (L.GRU(4, return_sequences=True, use_bias=False), (5, 3), 84, 5 * 84, 5 * 84),
    (L.RNN([L.SimpleRNNCell(4), L.SimpleRNNCell(2)]), (5, 3), 28 + 4 + 12 + 2, 5 * 40, 5 * 40),
    (L.ConvLSTM2D(4, 3, use_bias=False), (5, 8, 6, 2), 9 * 16 * 6, 5 * 24 * 9 * 16 * 6, 5 * 24 * 9 * 16 * 6),
    (
        L.ConvLSTM2D(4, 3, use_bias=False, return_sequences=True, data_format="channels_first"),
        *((5, 2, 8, 6), 9 * 16 * 6, 5 * 24 * 9 * 16 * 6, 5 * 24 * 9 * 16 * 6),
    ),
    (L.Bidirectional(L.LSTM(4, use_bias=False)), (5, 3), 2 * 112, 2 * 5 * 112, 2 * 5 * 112),
    (L.TimeDistributed(L.Conv2D(4, 3, activation="relu")), (5, 8, 8, 3), 112, 5 * 36 * 108, 5 * (36 * 108 + 144)),
    (
        L.TimeDistributed(keras.Sequential([keras.Input((3,)), L.Dense(4, use_bias=False), L.ReLU(), L.Dense(2)])),
        *((5, 3), 12 + 10, 5 * 20, 5 * (20 + 4 + 2)),
    ),
    (L.EinsumDense("abc,cd->abd", (5, 4)), (5, 3), 12, 60, 60),
    (L.EinsumDense("...x,xy->...y", 4), (5, 3), 12, 60, 60),
    (L.EinsumDense("abcd,cde->abe", (5, 4), bias_axes="e"), (5, 2, 3), 24 + 4, 5 * 24, 5 * 24),
    (L.Embedding(10, 4), (5,), 40, 0, 0),
    (ChannelIndex([0, 1]), (4,), 0, 0, 0),
    (ChannelScatterAdd([0, 0], 4), (2,), 0, 0, 0),
    (L.Flatten(), (4, 4, 3), 0, 0, 0),
]


@pytest.mark.parametrize(
    ("layer", "shape", "parameters", "macs", "operations"), HAND, ids=[type(row[0]).__name__ for row in HAND]
)
def test_by_hand(layer, shape, parameters, macs, operations):
    assert count(layer, shape) == (parameters, macs, operations)


def test_attention_by_hand():
    """A query of 6 rows, 7 values; 2 heads of 3 (keys) and 5 (values) numbers, from and to 4."""
    query, value = keras.Input((6, 4)), keras.Input((7, 4))
    attention = L.MultiHeadAttention(2, 3, value_dim=5, use_bias=False)
    (row,) = profile_model(keras.Model([query, value], attention(query, value))).layers
    projections = 6 * 4 * 2 * 3 + 7 * 4 * 2 * 3 + 7 * 4 * 2 * 5 + 6 * 2 * 5 * 4
    assert row.macs == projections + 6 * 7 * 2 * (3 + 5)

    attention = L.GroupQueryAttention(3, 4, 2, use_bias=False)  # 4 heads of queries, 2 of keys and values
    (row,) = profile_model(keras.Model([query, value], attention(query, value))).layers
    assert row.macs == 2 * 6 * 4 * 4 * 3 + 2 * 7 * 4 * 2 * 3 + 2 * 6 * 7 * 4 * 3

    image = keras.Input((5, 6, 4))  # along the second axis alone
    attention = L.MultiHeadAttention(2, 3, use_bias=False, attention_axes=2)
    (row,) = profile_model(keras.Model(image, attention(image, image))).layers
    assert row.macs == 4 * 30 * 4 * 6 + 2 * 30 * 6 * 2 * 3


def test_a_layer_that_cannot_be_counted_is_named(caplog):
    class Mine(L.Layer):
        def build(self, shape):
            self.table = self.add_weight(shape=(shape[-1], 3))

        def call(self, x):
            return keras.ops.matmul(x, self.table)

    class Scaled(L.Layer):
        def build(self, shape):
            self.scale = self.add_weight(shape=(shape[-1],))

        def call(self, x):
            return x * self.scale

    image = keras.Input((4,))
    profile = profile_model(keras.Model(image, Mine(name="mine")(Scaled()(image))))
    assert (profile.macs, profile.parameters) == (0, 16)
    (record,) = caplog.records
    assert record.getMessage() == "Layer 'mine' (Mine) counts as 0 multiply-adds: what it does is not known."


def test_masked_layers_count_what_is_left_and_so_what_they_become():
    model = keras.Sequential([
        keras.Input((6, 6, 8)),
        LearnedGroupConv2D(12, 3, padding="same", use_bias=True, name="conv"),
        keras.layers.GlobalAveragePooling2D(),
        CondenseDense(3, name="top"),
    ])  # fmt: skip
    expected = {0: 9 * 8 * 12, 1: 9 * 6 * 12, 2: 9 * 4 * 12, 3: 9 * 2 * 12}
    for stage, connections in expected.items():
        model.get_layer("conv").condense_to(stage)
        row = profile_model(model).layers[0]
        assert (row.parameters, row.macs, row.output_shape) == (connections + 12, 36 * connections, (6, 6, 12))
    model.get_layer("top").condense_to(1)
    masked, small = profile_model(model), profile_model(condense(model))
    assert (masked.parameters, masked.macs, masked.operations) == (small.parameters, small.macs, small.operations)
    assert masked.parameters == (9 * 2 * 12 + 12) + (6 * 3 + 3)


def test_frozen_layers_have_no_trainable_parameters():
    assert count(LearnedGroupConv2D(8, 1, trainable=False), (2, 2, 8)) == (0, 256, 256)


def test_shared_and_nested_layers_count_parameters_once_and_work_each_time():
    shared = L.Conv2D(3, 1, use_bias=False, name="shared")
    inner = keras.Sequential([keras.Input((4, 4, 3)), shared, L.Conv2D(3, 3, padding="same", name="own")], name="in")
    x = keras.Input((4, 4, 3))
    y = L.Add(name="add")([shared(inner(inner(x))), x])
    profile = profile_model(keras.Model(x, y, name="net"))
    assert [row.name for row in profile.layers] == ["in/shared", "in/own", "in/shared", "in/own", "shared", "add"]
    assert profile.parameters == 9 + 84
    assert profile.macs == 16 * (3 * 9 + 2 * 81)


def test_parameters_equal_keras_count():
    for model in (
        keras.applications.MobileNetV2(input_shape=(32, 32, 3), weights=None, classes=5),
        keras.applications.DenseNet121(input_shape=(32, 32, 3), weights=None, classes=5),
    ):
        trainable = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
        assert profile_model(model).parameters == trainable


def test_mobilenet_as_published():
    profile = profile_model(keras.applications.MobileNet(weights=None))
    assert round(profile.macs / 1e6) == 569
    assert round(profile.parameters / 1e6, 1) == 4.2


def test_a_table_that_reads():
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), L.Conv2D(400, 3, name="conv"), L.Flatten(), L.Dense(10)], name="tiny"
    )
    profile = profile_model(model)
    text = str(profile)
    assert text.startswith("tiny")
    total = next(line for line in text.splitlines() if "total" in line)
    for number in (profile.parameters, profile.macs, profile.operations):
        assert f"{number:,}" in total
    conv = next(line for line in text.splitlines() if " conv " in line)
    assert "Conv2D" in conv
    assert "6 x 6 x 400" in conv
    assert "11,200" in conv
    assert max(map(len, text.splitlines())) <= 120


def test_a_long_name_is_folded_and_not_cut():
    name = "block_" * 20 + "end"
    text = str(profile_model(keras.Sequential([keras.Input((8,)), L.Dense(3, name=name)])))
    assert "".join(line.split("│")[1].strip() for line in text.splitlines() if "│" in line).startswith(name)


def test_operations_that_are_no_layers():
    x = keras.Input((4, 4, 3))
    profile = profile_model(keras.Model(x, keras.ops.relu(x + 1.0)))
    assert profile.parameters == profile.macs == 0


def test_unknown_sizes_are_refused():
    model = keras.Sequential([keras.Input((None, None, 3)), L.Conv2D(4, 3, name="conv")])
    with pytest.raises(ValueError, match=r"Layer 'conv' gives an output of shape .* Build the model with a full"):
        profile_model(model)


@pytest.mark.parametrize("bad", [keras.Sequential([L.Dense(3)]), L.Dense(3), None, "model.keras"], ids=repr)
def test_what_has_no_graph_is_refused(bad):
    with pytest.raises(ValueError, match=r"`model` \(=.*\) must be a functional or built sequential .* Build it"):
        profile_model(bad)


def test_a_subclassed_model_is_refused():
    class Mine(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match="whose graph can be counted"):
        profile_model(Mine())


def test_the_former_name_of_operations_still_counts():
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, activation="relu")])
    profile = profile_model(model)
    assert profile.flops == profile.operations == profile.layers[0].flops == profile.macs + 6 * 6 * 4


def test_channels_first_and_learned_layers_inside_others():
    images = keras.Input((3, 32, 16))
    model = keras.Model(images, keras.layers.Conv2D(8, 3, padding="same", data_format="channels_first")(images))
    assert profile_model(model).macs == 3 * 9 * 8 * 32 * 16
    inner = CondenseDense(8, condense_factor=4)
    model = keras.Sequential([keras.Input((5, 16)), keras.layers.TimeDistributed(inner)])
    assert profile_model(model).parameters == 16 * 8 + 8
    inner.condense_to(inner.final_stage)
    assert profile_model(model).parameters == 4 * 8 + 8


def test_inputs_given_by_name_in_any_order():
    query, value, mask = keras.Input((6, 4)), keras.Input((50, 4)), keras.Input((6, 50))
    attention = L.MultiHeadAttention(2, 3, use_bias=False)
    model = keras.Model([query, value, mask], attention(query, value=value, attention_mask=mask))
    projections = 6 * 4 * 6 + 2 * 50 * 4 * 6 + 6 * 6 * 4
    assert profile_model(model).macs == projections + 2 * 6 * 50 * 6
    states = [keras.Input((4,)), keras.Input((4,))]
    sequence = keras.Input((7, 3))
    model = keras.Model([sequence, *states], L.LSTM(4)(initial_state=states, sequences=sequence))
    assert profile_model(model).macs == 7 * 4 * 4 * (3 + 4)


def test_products_of_tensors():
    query, value = keras.Input((6, 4)), keras.Input((7, 4))
    for layer in (L.Attention(), L.AdditiveAttention()):
        assert profile_model(keras.Model([query, value], layer([query, value]))).macs == 2 * 6 * 7 * 4
    transposed = keras.ops.transpose(value, (0, 2, 1))
    assert profile_model(keras.Model([query, value], query @ transposed)).macs == 6 * 7 * 4


def test_a_wrapped_convolution_and_products_that_are_not_counted(caplog):
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, L.SpectralNormalization(L.Conv2D(4, 3))(image))
    assert profile_model(model).macs == 36 * 4 * 27
    assert not caplog.records
    one, other = keras.Input((6, 4)), keras.Input((7, 4))
    profile_model(keras.Model([one, other], L.Dot(axes=2, name="dot")([one, other])))
    assert "Layer 'dot' (Dot) counts as 0 multiply-adds" in caplog.text


def test_a_network_without_sizes_is_counted_at_those_of_its_call():
    base = keras.Sequential([keras.Input((None, None, 3)), L.Conv2D(4, 3, name="conv"), L.GlobalAveragePooling2D()])
    image = keras.Input((32, 32, 3))
    profile = profile_model(keras.Model(image, L.Dense(5)(base(image))))
    assert profile.macs == 30 * 30 * 4 * 27 + 20
    assert profile.layers[0].output_shape == (30, 30, 4)
    frames = keras.Input((5, 32, 32, 3))
    assert profile_model(keras.Model(frames, L.TimeDistributed(base)(frames))).macs == 5 * 30 * 30 * 4 * 27


def test_weights_that_a_wrapper_holds_too_count_once():
    dense = L.Conv2D(8, 1)
    frames, image = keras.Input((5, 4, 4, 8)), keras.Input((4, 4, 8))
    model = keras.Model([frames, image], [L.TimeDistributed(dense)(frames), dense(image)])
    assert profile_model(model).parameters == model.count_params() == 72
