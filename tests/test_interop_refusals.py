"""What can't be handed over to tf_keras or back, and what is said of it."""

import re
import sys

import keras
import pytest
from keras import ops
from networks import NETWORKS

import keras_condense as kc

pytest.importorskip("tf_keras")

L, K = keras.layers, kc.layers


@keras.saving.register_keras_serializable("test_interop")
class Custom(L.Layer):
    def call(self, inputs):
        return inputs


def refusals(model):
    with pytest.raises(ValueError, match="must be of layers that tf_keras can express") as caught:
        kc.interop.to_tf_keras(model)
    return str(caught.value)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (Custom(), "is of a class that tf_keras has no counterpart of"),
        (L.RandomFlip(), "is of a class that tf_keras has no counterpart of"),
        (K.LearnedGroupConv2D(4, 1), "still learns its connections; call `keras_condense.condense` on the model first"),
        (L.Conv2D(4, 1, activation=keras.activations.celu), r"has an activation \(=celu\) that tf_keras has not"),
        (L.Conv2D(4, 1, activation=L.ReLU()), r"has a layer \(=ReLU\) as its activation; put that behind it"),
        (L.Conv2D(4, 1, name="größe"), "has a name that TensorFlow does not take"),
        (L.BatchNormalization(epsilon=1e-7), r"has an `epsilon` \(=1e-07\) below 1e-5"),
        (L.BatchNormalization(synchronized=True), r"has `synchronized` \(=True\), which copies of it"),
        (L.MaxPooling2D(2, data_format="channels_first"), "has its channels first"),
        (L.Resizing(4, 4, antialias=True), r"has `antialias` \(=True\), which the other library's Resizing has not"),
    ],
)
def test_a_layer_that_cannot_be_expressed(layer, reason):
    image = keras.Input((4, 4, 4))
    text = refusals(keras.Model(image, layer(image), name="net"))
    assert re.search(rf"`model` \(='net'\) .*'{layer.name}' \({type(layer).__name__}\): {reason}.* Replace them", text)


def test_all_layers_that_cannot_be_expressed_are_named_at_once():
    image = keras.Input((4, 4, 4))
    x = Custom(name="first")(image)
    inner = keras.Sequential([keras.Input((4, 4, 4)), Custom(name="second")])
    text = refusals(keras.Model(image, [ops.exp(inner(x)), L.ReLU(name="fine")(x), ops.concatenate([1 / x, x])]))
    assert "'first', 'second' (Custom): is of a class" in text
    assert "(Exp): is an operation without a layer of its own" in text
    assert "divides a constant by a tensor" in text
    assert "fine" not in text


def test_an_optional_input():
    x, y = keras.Input((3,), name="x"), keras.Input((3,), name="y", optional=True)
    text = refusals(keras.Model([x, y], L.Add()([x, y])))
    assert "'y' (InputLayer): is an optional input, which tf_keras has not" in text


def test_learned_layers_say_what_to_do_before_anything_is_made():
    model = NETWORKS["condensenet-cifar"].build(input_shape=(16, 16, 3), classes=5, weights=None)
    assert "'block2_layer1_1_conv' (LearnedGroupConv2D): still learns its connections; call" in refusals(model)


def test_models_of_the_wrong_library():
    import tf_keras

    ours = keras.Sequential([keras.Input((3,)), L.Dense(2)], name="ours")
    theirs = tf_keras.Sequential([tf_keras.Input((3,)), tf_keras.layers.Dense(2)], name="theirs")
    with pytest.raises(ValueError, match=r"`model` \(='theirs'\) must be a Keras 3 model, .*as it is\."):
        kc.interop.to_tf_keras(theirs)
    for model, kind in ((ours, "Sequential"), (3, "int")):
        with pytest.raises(ValueError, match=rf"`model` \(=.*, a {kind}\) must be a model of tf_keras\. \w+ .*\."):
            kc.interop.from_tf_keras(model)
    with pytest.raises(ValueError, match=r"\(='unbuilt', a Sequential\) must be a functional or a built .*Input\."):
        kc.interop.from_tf_keras(tf_keras.Sequential([tf_keras.layers.Dense(2)], name="unbuilt"))
    with pytest.raises(ValueError, match="must be a functional or a built sequential model"):
        kc.interop.to_tf_keras(keras.Sequential([L.Dense(2)]))


def test_layers_of_tf_keras_that_cannot_be_expressed():
    import tf_keras

    T = tf_keras.layers
    layers = [T.Activation("hard_sigmoid", name="hard"), T.Lambda(lambda x: x, name="lambda")]
    x = image = tf_keras.Input((4, 4, 3))
    for layer in (*layers, T.BatchNormalization(axis=[1, 2], name="norm")):
        x = layer(x)
    model = tf_keras.Model(image, T.Dropout(0.5, name="dropout")(tf_keras.activations.exponential(x), training=True))
    with pytest.raises(ValueError, match="must be of layers that Keras 3 can express") as caught:
        kc.interop.from_tf_keras(model)
    assert "'hard' (Activation): has tf_keras' hard_sigmoid, clip(0.2 x + 0.5)" in str(caught.value)
    assert "'lambda' (Lambda): is of a class" in str(caught.value)
    assert "'norm' (BatchNormalization): normalizes over several axes (=[1, 2])" in str(caught.value)
    assert "'dropout' (Dropout): is called with `training=True`, which Keras 3 would not heed" in str(caught.value)
    assert "is TensorFlow's operation math.exp, without a layer of its own" in str(caught.value)


def test_tf_keras_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "tf_keras", None)
    model = keras.Sequential([keras.Input((3,)), L.Dense(2)])
    for function in (kc.interop.to_tf_keras, kc.interop.from_tf_keras, kc.interop.quantize_annotate_model):
        with pytest.raises(ImportError, match=r'needs tf_keras\. Install it: `pip install "keras-condense\[tfmot\]"`'):
            function(model)


def test_tensorflow_model_optimization_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_model_optimization", None)
    twin = kc.interop.to_tf_keras(keras.Sequential([keras.Input((3,)), L.Dense(2)]))
    with pytest.raises(
        ImportError, match=r'needs tensorflow-model-optimization.*`pip install "keras-condense\[tfmot\]"`'
    ):
        kc.interop.quantize_annotate_model(twin)
