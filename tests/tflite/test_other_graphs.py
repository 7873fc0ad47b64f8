"""Graphs that random networks do not have: other precisions, shared tensors, odd dtypes and batches."""

from collections import OrderedDict

import keras
import numpy as np
import pytest
import tflite_networks as networks
from keras_versions import unread_inputs

import keras_condense as kc
from keras_condense.layers import ChannelShuffle, GroupConv2D
from keras_condense.tflite.preparation import in_float32
from keras_condense.tflite.signature import output_names

tf = pytest.importorskip("tensorflow")
L = keras.layers


@pytest.fixture(params=["mixed_float16", "mixed_bfloat16", "float64"])
def policy(request):
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy("float32")


def same(model, expected, *shape, **options):
    """Whether the file computes what `expected` does of the same inputs."""
    images = networks.images(2, *shape)
    actual = kc.run_tflite(kc.export_tflite(model, **options), images)
    return networks.relative_difference(actual, expected(images)) < 1e-4


def computed(model):
    return lambda images: keras.ops.convert_to_numpy(model(images, training=False))


# ---------------------------------------------------------------------------------------------------- other precisions
def ours(*layers, shape=(4, 4, 8)):
    return keras.Sequential([keras.Input(shape), *layers, GroupConv2D(8, 1, groups=2), ChannelShuffle(2)])


def test_normalization_stays_adapted(policy):
    norm = L.Normalization()
    norm.adapt(100 + 7 * np.random.default_rng(0).normal(size=(50, 4, 4, 8)).astype("float32"))
    model = ours(norm)
    keras.config.set_dtype_policy("float32")
    kernel = keras.ops.convert_to_numpy(keras.ops.cast(model.layers[1].kernel, "float32"))
    plain = keras.Sequential([keras.Input((4, 4, 8)), GroupConv2D(8, 1, groups=2), ChannelShuffle(2)])
    plain.set_weights([kernel])
    mean, variance = np.asarray(norm.adapt_mean), np.asarray(norm.adapt_variance)
    assert same(model, lambda images: computed(plain)((images - mean) / np.sqrt(variance)), 4, 4, 8)


def test_operations_and_nested_models(policy):
    image = keras.Input((4, 4, 8))
    x = GroupConv2D(8, 1, groups=2)(image)
    inner = keras.Sequential([keras.Input((4, 4, 8)), L.Dense(8), L.ReLU()])
    model = keras.Model(image, inner(x + x) * 2 - x[..., :1])
    keras.config.set_dtype_policy("float32")
    assert same(model, computed(in_float32(model)), 4, 4, 8)
    assert in_float32(model).layers[1].compute_dtype == "float32"
    assert keras.config.dtype_policy().name == "float32"


def test_a_cast_stays_one(policy):
    image = keras.Input((4,))
    model = keras.Model(image, keras.ops.cast(L.Dense(4)(image) * 10, "int32"))
    keras.config.set_dtype_policy("float32")
    outputs = kc.run_tflite(kc.export_tflite(model), networks.images(2, 4))
    assert outputs.dtype == "int32"


def test_layers_inside_layers(policy):
    model = keras.Sequential([keras.Input((5, 4)), L.TimeDistributed(L.Dense(3))])
    keras.config.set_dtype_policy("float32")
    made = in_float32(model)
    assert {layer.compute_dtype for layer in made._flatten_layers(include_self=False)} == {"float32"}
    assert same(model, computed(made), 5, 4)


def test_a_policy_that_was_not_reset(policy):
    model = ours(shape=(8, 8, 4))
    small = in_float32(model)
    assert same(model, computed(small), 8, 8, 4)
    assert keras.config.dtype_policy().name == policy


def test_integer_layers_stay_what_they_are():
    image = keras.Input((4, 4, 3), dtype="uint8")
    model = keras.Model(image, L.Rescaling(1 / 255)(L.Resizing(8, 8, dtype="uint8")(image)))
    assert in_float32(model) is model


class Twice(keras.Sequential):
    def call(self, inputs, training=None, mask=None):
        return 2 * super().call(inputs, training=training)


class Own(keras.Model):
    def __init__(self, width):
        image = keras.Input((4,))
        super().__init__(image, L.Dense(width, dtype="mixed_float16")(image))

    def call(self, inputs, training=None, mask=None):
        return 2 * super().call(inputs, training=training)


@pytest.mark.parametrize(
    "make", [lambda: Twice([keras.Input((4,)), L.Dense(3, dtype="mixed_float16")]), lambda: Own(3)]
)
def test_a_call_of_its_own_is_kept_or_refused(make):
    model, single = make(), keras.Sequential([keras.Input((4,)), L.Dense(3)])
    single.set_weights(model.get_weights())
    if isinstance(model, Own):
        with pytest.raises(ValueError, match="has a `call` of its own, which a model made anew"):
            kc.export_tflite(model)
    else:
        assert same(model, lambda rows: 2 * computed(single)(rows), 4)


# ------------------------------------------------------------------------------------------------------ shared tensors
@pytest.mark.parametrize("kind", [keras.Model, keras.Sequential])
def test_a_nested_model_of_the_outer_graphs_own_tensors(kind):
    a, b = keras.Input((8, 8, 4), name="a"), keras.Input((8, 8, 4), name="b")
    features = GroupConv2D(4, 1, groups=2)(a)
    encoder = keras.Model(a, features)
    if kind is keras.Sequential:
        encoder = keras.Sequential([a, encoder])
    model = keras.Model([a, b], L.Subtract()([features, encoder(b)]))
    rows = {name: networks.images(2, 8, 8, 4) * (1 + (name == "b")) for name in "ab"}
    outputs = kc.run_tflite(kc.export_tflite(model), rows)
    assert np.abs(outputs).max() > 0
    assert networks.relative_difference(outputs, computed(model)([rows["a"], rows["b"]])) < 1e-4


@pytest.mark.parametrize("read", ["first", pytest.param("second", marks=unread_inputs)])
def test_an_ordered_dict_keeps_its_order(read):
    inputs = OrderedDict(second=keras.Input((4,), name="second"), first=keras.Input((2,), name="first"))
    model = keras.Model(inputs, OrderedDict(scores=L.Dense(3)(inputs["second"]), boxes=L.Dense(2)(inputs[read])))
    rows = {"second": networks.images(2, 4), "first": networks.images(2, 2)}
    outputs = kc.run_tflite(kc.export_tflite(model), rows)
    expected = model(OrderedDict(rows))
    for name in ("scores", "boxes"):
        assert networks.relative_difference(outputs[name], np.asarray(expected[name])) < 1e-4


# ---------------------------------------------------------------------------------------------- odd dtypes and batches
@pytest.mark.parametrize("layer", [L.ZeroPadding2D(1), L.Dropout(0.5), L.UpSampling2D(), L.Cropping2D(1)])
@pytest.mark.parametrize("dtype", ["uint8", "float64"])
def test_dtypes_that_keras_declares_falsely(layer, dtype):
    image = keras.Input((8, 8, 4), dtype=dtype)
    x = type(layer).from_config(layer.get_config())(image)
    convolved = GroupConv2D(8, 3, groups=2)(x)
    model = keras.Model(image, [convolved, L.GlobalAveragePooling2D()(L.BatchNormalization()(x))])
    images = np.random.default_rng(0).integers(0, 255, (2, 8, 8, 4)).astype(dtype)
    if dtype == "uint8" and isinstance(layer, L.ZeroPadding2D):
        with pytest.raises(ValueError, match=r"has no tf.Pad in layer 'zero_padding2d.*Replace the layer"):
            kc.export_tflite(model)
        return
    outputs = kc.run_tflite(kc.export_tflite(model), images)
    for name, expected in zip(output_names(model), model(images), strict=True):
        assert networks.relative_difference(outputs[name], np.asarray(expected)) < 1e-4


def test_axes_that_become_a_part_of_the_batch():
    frames = keras.Input((4, 8, 8, 16))
    x = keras.ops.reshape(frames, (-1, 8, 8, 16))
    x = GroupConv2D(16, 3, padding="same", groups=4)(x)
    model = keras.Model(frames, keras.ops.reshape(x, (-1, 4, 8, 8, 16)))
    for target in ("arm64", "x86_64"):
        assert same(model, computed(model), 4, 8, 8, 16, target=target)


def test_outputs_without_a_batch_axis_are_refused(tmp_path):
    image = keras.Input((8, 4))
    for outputs in (keras.ops.mean(L.Dense(4)(image)), keras.ops.reshape(L.Dense(4)(image), (-1, 4))):
        with pytest.raises(ValueError, match=r"batch"):
            kc.export_tflite(keras.Model(image, outputs), tmp_path / "a.tflite")
        assert not list(tmp_path.iterdir())


def test_inputs_that_are_no_numbers():
    text = keras.Input((1,), dtype="string")
    with pytest.raises(ValueError, match=r"has the dtype string, and must hold numbers"):
        kc.export_tflite(keras.Model(text, L.Identity()(text)))


def test_variables_that_no_layer_holds(tmp_path):
    image, factor = keras.Input((4,)), tf.Variable(2.0)
    scaled = L.Lambda(lambda x: x * factor, output_shape=(4,))(L.Dense(4)(image))
    with pytest.raises(ValueError, match=r"must hold its variables as weights of its layers, and 1 are none"):
        kc.export_tflite(keras.Model(image, scaled), tmp_path / "a.tflite")
    assert not list(tmp_path.iterdir())


def test_an_activation_with_weights_of_its_own():
    image = keras.Input((4, 4, 8))
    model = keras.Model(image, ChannelShuffle(2)(GroupConv2D(8, 1, groups=2, activation=L.PReLU("uniform"))(image)))
    model(networks.images(1, 4, 4, 8))  # which makes them
    assert same(model, computed(model), 4, 4, 8)


def test_chains_longer_than_python_calls_itself():
    image = keras.Input((4, 4, 8))
    x = image
    for _ in range(600):
        x = L.Add()([x, image])
    x = kc.layers.ChannelIndex([3, 1, 2, 0, 9, 12, 11, 5])(L.Concatenate()([x, image]))
    model = keras.Model(image, GroupConv2D(8, 1, groups=2)(x))
    assert same(model, computed(model), 4, 4, 8)
