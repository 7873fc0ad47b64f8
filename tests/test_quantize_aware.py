"""Training in int8's numbers: what is rounded, and whether the file computes what the model does."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from keras import ops

import keras_condense as kc
from keras_condense.layers.fake_quantization import FakeQuantize, fake_quantized_kernel

pytestmark = pytest.mark.slow  # all of it, together

L, K = keras.layers, kc.layers


def norm(x):
    """A batch norm with statistics of its own, and a ReLU."""
    layer = L.BatchNormalization()
    x = layer(x)
    random = np.random.default_rng(x.shape[-1])
    layer.set_weights(
        [random.uniform(0.5, 1.5, weight.shape) - (i in (1, 2)) for i, weight in enumerate(layer.weights)]
    )
    return L.ReLU()(x)


def chain():
    image = keras.Input((12, 12, 3))
    x = norm(L.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(image))
    x = norm(L.DepthwiseConv2D(3, padding="same")(x))
    x = L.MaxPooling2D()(norm(L.Conv2D(16, 1)(x)))
    return keras.Model(image, L.Dense(10)(L.Flatten()(x)))


def residual():
    image = keras.Input((10, 10, 4))
    x = norm(L.Conv2D(8, 3, padding="same")(image))
    y = norm(L.Conv2D(8, 1)(x))
    y = L.ReLU(6.0)(L.Add()([x, y]))
    y = L.Activation("hard_silu")(L.Conv2D(8, 3)(y)) + 0.5
    gate = L.Conv2D(4, 1, activation="relu")(L.GlobalAveragePooling2D(keepdims=True)(y))
    gate = L.Conv2D(8, 1, activation="hard_sigmoid")(gate)
    y = L.Multiply()([y, gate])
    return keras.Model(image, L.Dense(7)(L.GlobalAveragePooling2D()(y)))


def dense_connections():
    """Concatenations of concatenations, norms that nothing can swallow, and a pooling."""
    x = keras.Input((12, 12, 8))
    image = x
    for _ in range(3):
        y = L.Conv2D(8, 1, use_bias=False)(norm(x))
        x = L.Concatenate()([x, L.Conv2D(4, 3, padding="same")(norm(y))])
    x = norm(L.AveragePooling2D(2)(x))
    return keras.Model(image, L.Dense(5, activation="softmax")(L.GlobalAveragePooling2D()(x)))


def other_kinds():
    image = keras.Input((8, 8, 3))
    x = L.SeparableConv2D(8, 3, activation="relu", padding="same")(image)
    x = L.LeakyReLU()(L.Conv2DTranspose(6, 3, strides=2, padding="same")(x))
    x = L.UpSampling2D()(L.AveragePooling2D(3, strides=2, padding="same")(x))
    x = L.Conv2D(4, 3, activation="tanh")(L.ZeroPadding2D(1)(x))
    x = L.Conv2D(6, 1, activation="silu")(L.Permute((2, 1, 3))(x))
    x = L.ReLU()(L.BatchNormalization()(L.Dense(16, use_bias=False)(L.Flatten()(x))))
    return keras.Model(image, L.Dense(5, activation="sigmoid")(x))


def nested_and_shared():
    base = keras.Sequential([keras.Input((8, 8, 6)), L.Conv2D(6, 3, padding="same"), L.BatchNormalization(), L.ReLU()])
    image = keras.Input((8, 8, 6))
    x = base(base(image), training=False)
    return keras.Model(image, [L.Dense(4)(L.Flatten()(x)), L.GlobalMaxPooling2D()(x)])


def one_dimension():
    series = keras.Input((20, 6))
    x = L.ReLU()(L.BatchNormalization()(L.Conv1D(8, 3)(series)))
    return keras.Model(series, L.Dense(5)(L.Flatten()(x)))


def condensed():
    return kc.condense(kc.applications.CondenseNet((2, 2), (8, 16), stem_strides=1, input_shape=(8, 8, 3), classes=10),
                       finish=True)  # fmt: skip


NETWORKS = [chain, residual, dense_connections, other_kinds, nested_and_shared, one_dimension, condensed]


def images_for(model, rows=100):
    return np.random.default_rng(0).normal(size=(rows, *model.input_shape[1:])).astype("float32")


def operators_of(content):
    """Names of a file's operators, as they stand in it."""
    quiet = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=quiet)
    return [operator["op_name"] for operator in interpreter._get_ops_details()]


def steps_apart(model, content, images):
    """How far the file's outputs are from the model's, in steps of int8, each output by itself."""
    of_file = kc.run_tflite(content, images)
    of_file = list(of_file.values()) if isinstance(of_file, dict) else [of_file]
    apart = []
    for file, expected in zip(of_file, keras.tree.flatten(model.predict(images, verbose=0)), strict=True):
        apart.append(np.abs(file - expected) / np.diff(np.unique(file)).min())
    return np.concatenate([each.ravel() for each in apart])


@pytest.mark.parametrize("network", NETWORKS, ids=lambda function: function.__name__)
def test_the_file_computes_what_the_model_does(network):
    model = network()
    images = images_for(model)
    aware = kc.quantize_aware(model, images, strict=True)
    content = kc.export_tflite(aware, quantize="int8")
    apart = steps_apart(aware, content, images_for(model, 150))
    assert (apart <= 1.01).mean() >= 0.999, np.unique(apart.round(), return_counts=True)
    made = operators_of(content)  # all of it in int8, but for what goes in and out
    assert (made.count("QUANTIZE"), made.count("DEQUANTIZE")) == (1, len(model.outputs)), made


@pytest.mark.parametrize("network", NETWORKS[:3], ids=lambda function: function.__name__)
def test_rounding_is_all_that_changes(network):
    model = network()
    images = images_for(model, 20)
    aware = kc.quantize_aware(model, images)
    for layer in aware._flatten_layers():
        if isinstance(layer, FakeQuantize):
            layer.passing = True
        if isinstance(layer, K.QuantizedKernel):
            layer.rounded = lambda kernel: kernel
    expected = model.predict(images, verbose=0)
    # biases were moved by half a count at most
    np.testing.assert_allclose(aware(images), expected, atol=0.02 * np.abs(expected).max())


@pytest.mark.parametrize("axis", [(0, 1, 2), (0, 1)])
def test_kernels_are_rounded_as_tensorflow_does(axis):
    kernel = np.random.default_rng(0).normal(size=(3, 3, 4, 5)).astype("float32")
    flat = kernel.reshape(-1, 5) if len(axis) == 3 else kernel.reshape(9, 20)
    largest = np.abs(flat).max(axis=0)
    expected = tf.quantization.fake_quant_with_min_max_vars_per_channel(flat, -largest, largest, narrow_range=True)
    np.testing.assert_allclose(fake_quantized_kernel(kernel, axis), np.reshape(expected, kernel.shape), atol=1e-6)


def test_the_gradient_passes_the_rounding():
    kernel = keras.Variable(np.array([[0.3, -1.0], [0.7, 0.2]], "float32"))
    with tf.GradientTape() as tape:
        total = ops.sum(fake_quantized_kernel(kernel, (0,)) * np.array([[1.0, 2.0], [3.0, 4.0]], "float32"))
    np.testing.assert_array_equal(tape.gradient(total, kernel.value), [[1, 2], [3, 4]])


def test_a_range_is_the_mean_of_batches_and_spans_all_places():
    layer = FakeQuantize(sites=2)
    batches = np.random.default_rng(0).normal(size=(5, 30)).astype("float32")
    for batch in batches:
        layer(batch, training=True)
    lowest, highest = batches.min(axis=1).mean(), batches.max(axis=1).mean()
    np.testing.assert_allclose(layer.range, (lowest, highest), rtol=1e-5)
    assert not layer.is_calibrated
    layer(np.array([-9.0, 1.0], "float32"), site=1, training=True)
    np.testing.assert_allclose(layer.range, (-9, highest), rtol=1e-5)
    assert layer.is_calibrated
    layer.frozen = True
    layer(np.array([-99.0, 99.0], "float32"), training=True)
    np.testing.assert_allclose(layer.range, (-9, highest), rtol=1e-5)


def test_what_is_copied_has_one_range():
    aware = kc.quantize_aware(dense_connections(), images_for(dense_connections(), 20))
    shared = [layer for layer in aware.layers if isinstance(layer, FakeQuantize) and layer.sites > 1]
    assert [layer.sites for layer in shared] == [4]  # the input and three convolutions, which are concatenated
    assert sum(isinstance(layer, FakeQuantize) for layer in aware.layers) == 1 + 6 + 1 + 1 + 1 + 2


@pytest.fixture(scope="module")
def learned():
    """A small network that learned which of three colours is brightest, and its images and labels."""
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    images = random.random((240, 8, 8, 3), "float32")
    labels = images.mean(axis=(1, 2)).argmax(axis=1)
    image = keras.Input((8, 8, 3))
    x = norm(L.Conv2D(8, 3, name="first")(image))
    x = norm(L.Conv2D(16, 1, name="wide")(x))
    model = keras.Model(image, L.Dense(3, activation="softmax", name="scores")(L.GlobalAveragePooling2D()(x)))
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(images, labels, epochs=8, batch_size=24, verbose=0)
    before = model.get_weights()
    yield model, images, labels
    for weight, value in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, value)  # or a test changed what others begin with


def test_learned_groups_are_learned_and_condensed_in_int8(learned):
    model, images, labels = learned
    aware = kc.quantize_aware(kc.learn_groups(model, 4, 4, where="wide"))
    callbacks = [kc.callbacks.QuantizeSchedule(freeze_at=0.5), kc.callbacks.CondenseSchedule()]
    log = aware.fit(images, labels, epochs=8, batch_size=24, verbose=0, callbacks=callbacks).history
    assert log["ranges_frozen"] == [0] * 4 + [1] * 4
    assert log["condense_stage"][-1] == 3
    assert log["accuracy"][-1] > 0.5
    small = kc.condense(aware)
    assert [type(layer).__name__ for layer in small.layers if layer.name.startswith("wide")] == [
        "ChannelIndex", "QuantizedGroupConv2D", "ChannelShuffle"
    ]  # fmt: skip
    np.testing.assert_allclose(small.predict(images, verbose=0), aware.predict(images, verbose=0), atol=1.01 / 256)
    for each in (aware, small):
        apart = steps_apart(each, kc.export_tflite(each, quantize="int8"), images)
        assert (apart <= 1.01).mean() >= 0.999


def test_pruned_weights_and_a_teacher_go_with_it(learned):
    model, images, labels = learned
    distiller = kc.quantize_aware(kc.prune_weights(model, 0.75, where="wide"), teacher="self")
    callbacks = [kc.callbacks.CondenseSchedule(), kc.callbacks.QuantizeSchedule()]
    log = distiller.fit(images, labels, epochs=6, batch_size=24, verbose=0, callbacks=callbacks).history
    assert log["ranges_frozen"][-1] == 1
    kernel = kc.condense(distiller).get_layer("wide").kernel
    assert np.mean(ops.convert_to_numpy(kernel) == 0) == 0.75
    apart = steps_apart(distiller.student, kc.export_tflite(distiller, quantize="int8"), images)
    assert (apart <= 1.01).mean() >= 0.999


def test_frozen_statistics_stay_and_the_rest_is_trained(learned):
    model, images, labels = learned
    aware = kc.quantize_aware(model)
    aware.fit(images, labels, epochs=2, batch_size=24, verbose=0)
    still = [v for layer in aware.layers if isinstance(layer, (FakeQuantize, K.QuantizedBatchNormalization))
             for v in layer.non_trainable_variables]  # fmt: skip
    before, gamma = [np.array(v) for v in still], np.array(aware.layers[3].gamma)
    schedule = kc.callbacks.QuantizeSchedule(freeze_at=0, freeze_norms=True)
    aware.fit(images, labels, epochs=2, batch_size=24, verbose=0, callbacks=[schedule])
    for variable, value in zip(still, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert not np.array_equal(aware.layers[3].gamma, gamma)


def test_models_are_saved_and_go_on(learned, tmp_path):
    model, images, labels = learned
    aware = kc.quantize_aware(model)
    schedule = kc.callbacks.QuantizeSchedule(freeze_at=0.5)
    aware.fit(images, labels, epochs=2, batch_size=24, verbose=0, callbacks=[schedule])
    aware.save(tmp_path / "aware.keras")
    loaded = keras.saving.load_model(tmp_path / "aware.keras")
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), aware.predict(images, verbose=0))
    assert kc.ranges_of(loaded) == kc.ranges_of(aware)
    assert all(layer.frozen for layer in loaded.layers if isinstance(layer, FakeQuantize))
    losses = [each.fit(images, labels, batch_size=240, verbose=0).history["loss"] for each in (aware, loaded)]
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_layers_without_an_int8_form_are_named_and_left():
    image = keras.Input((6, 6, 4))
    x = L.LayerNormalization(name="norm")(L.Conv2D(4, 1)(image))
    model = keras.Model(image, L.Dense(3)(L.Flatten()(L.Activation("gelu")(x))))
    assert list(kc.explain_quantize_aware(model).left) == ["norm"]
    aware = kc.quantize_aware(model, images_for(model))
    apart = steps_apart(aware, kc.export_tflite(aware, quantize="int8"), images_for(model))
    assert (apart <= 1.01).mean() >= 0.99
    with pytest.raises(ValueError, match="alone with strict=True:\n'norm' has no int8 form"):
        kc.quantize_aware(model, strict=True)


def test_it_is_refused():
    model = chain()
    images = images_for(model, 10)
    aware = kc.quantize_aware(model)
    with pytest.raises(ValueError, match="must know the range of its numbers, and has seen none"):
        kc.export_tflite(aware, quantize="int8")
    kc.calibrate_ranges(aware, images)
    for arguments, said in (
        ({}, r"`quantize` \(=None\) must be 'int8'"),
        ({"quantize": "int8", "representative_data": images}, "has its ranges from its training"),
    ):
        with pytest.raises(ValueError, match=said):
            kc.export_tflite(aware, **arguments)
    with pytest.raises(ValueError, match="must not be quantization-aware yet"):
        kc.quantize_aware(aware)
    with pytest.raises(ValueError, match="must have a convolution or a dense layer to quantize"):
        kc.quantize_aware(keras.Sequential([keras.Input((3,)), L.ReLU()]))
    with pytest.raises(ValueError, match="must be a functional or a built sequential model"):
        kc.quantize_aware(keras.Sequential([L.Dense(3)]))
    with pytest.raises(ValueError, match="has no ranges"):
        kc.calibrate_ranges(model, images)
    with pytest.raises(ValueError, match="expects batches of shape"):
        kc.quantize_aware(model, np.zeros((3, 5, 5, 3), "float32"))
    with pytest.raises(ValueError, match="NaN or infinity"):
        kc.quantize_aware(model, np.full((3, 12, 12, 3), np.nan, "float32"))
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="which has no ranges, and expects one made by"):
        model.fit(images, np.zeros((10, 10)), verbose=0, callbacks=[kc.callbacks.QuantizeSchedule()])
    with pytest.raises(ValueError, match=r"`freeze_at` \(=2\) must be"):
        kc.callbacks.QuantizeSchedule(freeze_at=2)
