"""Files whose kernels hold few values: what stands in them, what they compute, and how they are coded."""

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import keras_condense as kc
from keras_condense.tflite import lowering

interpreters = pytest.importorskip("ai_edge_litert.interpreter")
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.normal(size=(8, 8, 8, 8)).astype("float32")


def network(norms=True):
    keras.utils.set_random_seed(0)
    x = image = keras.Input((8, 8, 8))
    x = L.Conv2D(24, 3, name="stem")(x)
    x = L.ReLU()(L.BatchNormalization()(x) if norms else x)
    x = kc.layers.GroupConv2D(32, 1, groups=2, name="grouped")(x)
    x = L.ReLU()(L.BatchNormalization()(x) if norms else x)
    x = L.GlobalAveragePooling2D()(L.DepthwiseConv2D(3, name="depthwise")(x))
    model = keras.Model(image, L.Dense(10, name="scores")(x))
    for norm in model.layers:
        if isinstance(norm, L.BatchNormalization):
            norm.set_weights([RANDOM.uniform(0.5, 2, w.shape) for w in norm.get_weights()])
    return model


def kernels(content):
    """The constants of a file that have more than 100 numbers, and are no index."""
    interpreter = interpreters.Interpreter(model_content=content)
    named = {each["index"]: each for each in interpreter.get_tensor_details()}
    made = {index for op in interpreter._get_ops_details() for index in op["outputs"]}
    made |= {each["index"] for each in interpreter.get_input_details()}
    interpreter.allocate_tensors()
    large = [index for index in set(named) - made if np.prod(named[index]["shape"]) > 100]
    return [interpreter.get_tensor(index) for index in large]


def test_a_file_holds_few_values_and_computes_with_them():
    model = network()
    content = kc.export_tflite(model, share_weights=4)
    found = kernels(content)
    assert len(found) == 4
    assert all(len(np.unique(kernel)) <= 16 for kernel in found)
    assert max(len(np.unique(kernel)) for kernel in kernels(kc.export_tflite(model))) > 200
    outputs, expected = kc.run_tflite(content, IMAGES), model.predict(IMAGES, verbose=0)
    apart = np.sqrt(np.mean((outputs - expected) ** 2) / np.mean(expected**2))
    assert 0.001 < apart < 0.2
    many = kc.run_tflite(kc.export_tflite(model, share_weights=8), IMAGES)
    assert np.abs(many - expected).mean() < np.abs(outputs - expected).mean() / 4
    assert content == kc.export_tflite(model, share_weights=4)  # the same bytes


def test_trained_values_are_those_of_the_file():
    shared = kc.share_weights(network(), 3)
    content = kc.export_tflite(shared, share_weights=3)
    np.testing.assert_allclose(kc.run_tflite(content, IMAGES), shared.predict(IMAGES, verbose=0), atol=1e-5)
    own = [set(np.unique(ops.convert_to_numpy(shared.get_layer(name).kernel))) for name in ("stem", "scores")]
    in_file = [set(np.unique(kernel)) for kernel in kernels(content)]
    assert all(values in in_file for values in own)  # to the last bit
    folded = kc.export_tflite(shared)
    np.testing.assert_allclose(kc.run_tflite(folded, IMAGES), shared.predict(IMAGES, verbose=0), atol=1e-5)
    assert max(len(np.unique(kernel)) for kernel in kernels(folded)) > 8
    few, more = kc.share_weights(network(norms=False), 3), network(norms=False)
    plain = kc.export_tflite(few)  # no norm takes the values away
    assert max(len(np.unique(kernel)) for kernel in kernels(plain)) <= 16  # zeros of groups, and each twice at most
    assert kc.coded_size(plain).entropy < 0.6 * kc.coded_size(kc.export_tflite(more)).entropy


def test_a_plain_model_and_pruned_zeros():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8, 8, 8)), L.Conv2D(32, 3), L.Flatten(), L.Dense(5)])
    kernel = RANDOM.normal(size=(3, 3, 8, 32)) * (RANDOM.random((3, 3, 8, 32)) < 0.3)
    model.layers[0].set_weights([kernel, np.zeros(32)])
    found = next(k for k in kernels(kc.export_tflite(model, share_weights=3)) if k.ndim == 4)
    np.testing.assert_array_equal(found.transpose(1, 2, 3, 0) == 0, kernel == 0)
    assert len(np.unique(found)) == 8


def test_int8_keeps_few_values_in_each_filter():
    content = kc.export_tflite(network(), quantize="int8", representative_data=IMAGES, share_weights=3)
    convolutions = [kernel for kernel in kernels(content) if kernel.ndim == 4 and kernel.shape[0] > 1]
    assert convolutions
    for kernel in convolutions:
        assert kernel.dtype == np.int8
        assert all(len(np.unique(filters)) <= 9 for filters in kernel)  # and the zeros of other groups


def test_errors(tmp_path, monkeypatch):
    path = tmp_path / "model.tflite"
    for bits in (0, 9, "5", 2.5):
        with pytest.raises(ValueError, match=r"`share_weights` \(=.*\) must be an integer from 1 to 8"):
            kc.export_tflite(network(), path, share_weights=bits)
    pooling = keras.Sequential([keras.Input((8, 8, 8)), L.GlobalAveragePooling2D()])
    with pytest.raises(ValueError, match=r"`share_weights` \(=5\) must find a convolution of images or a dense layer"):
        kc.export_tflite(pooling, path, share_weights=5)

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = L.Dense(3)

        def call(self, x):
            return self.dense(x)

    own = Own()
    own(np.zeros((1, 4)))
    with pytest.raises(ValueError, match=r"must have a graph for `share_weights` \(=5\), and is a Own with"):
        kc.export_tflite(own, path, share_weights=5)
    # a file of another network than that of the shared weights
    right = lowering.cheapest

    def wrong(graph, *arguments):
        nodes = [node.with_op(kernel=node.op.kernel * 1.1) if hasattr(node.op, "kernel") else node for node in graph]
        return right(graph.with_nodes(nodes), *arguments)

    monkeypatch.setattr(lowering, "cheapest", wrong)
    with pytest.raises(ValueError, match=r"computes with shared weights, and does not: .* No file was written"):
        kc.export_tflite(network(), path, share_weights=5)
    assert not path.exists()


def test_layers_without_an_operator_are_named(caplog):
    model = keras.Sequential([keras.Input((6, 8)), L.Dense(16, name="of_words"), L.Flatten(), L.Dense(3)])
    kc.export_tflite(model, share_weights=2)
    assert "these layers keep their weights as they are: 'of_words'" in caplog.text
