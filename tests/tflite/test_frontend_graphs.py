"""Models of many shapes read into the intermediate form: shared, nested, subclassed and whole networks."""

import keras
import pytest
import tflite_networks as networks
from frontend_checks import CONVOLUTION, LAYER, check, model_of
from graphs import operators
from keras import layers, ops
from keras_versions import unread_inputs

from keras_condense.keras_graphs import is_readable

tf = pytest.importorskip("tensorflow")


def test_inputs_and_outputs():
    def function(inputs):
        first, second = inputs
        both = layers.Add()([first, layers.Conv2D(3, 1)(second)])
        return {"sum": both, "input": second, "mean": layers.GlobalAveragePooling2D()(both)}

    graph = check(model_of([(4, 4, 3), (4, 4, 2)], function), ["convolution", "add", "mean"])
    assert [graph[name].op.kind for name in graph.outputs.values()] == ["input", "mean", "add"]  # keys in their order


def test_input_that_is_the_output():
    check(model_of((4, 4, 3), lambda x: layers.Identity()(x)), [])


@unread_inputs
def test_inputs_that_are_the_outputs_and_no_layer():
    check(model_of([(4,), (3,)], lambda inputs: [inputs[1], inputs[0], inputs[1]]), [])


@unread_inputs
def test_input_that_nothing_reads_stays():
    inputs = [keras.Input((4,)), keras.Input((3,))]
    graph = check(keras.Model(inputs, layers.ReLU()(inputs[1])))
    assert [node.op.kind for node in graph] == ["input", "input", "relu"]


def test_inputs_in_a_dict():
    inputs = {"b": keras.Input((4,), name="b"), "a": keras.Input((3,), name="a")}
    check(keras.Model(inputs, layers.Concatenate()([inputs["b"], inputs["a"]])), ["concatenate_channels"])


def test_shared_layer():
    shared = layers.Conv2D(3, 3, padding="same", name="shared", activation="relu")
    graph = check(model_of((6, 6, 3), lambda x: shared(shared(x))), ["convolution", "relu"] * 2)
    assert [node.name for node in graph] == ["x0", "shared", "shared_activation", "shared_2", "shared_activation_2"]


def test_shared_layer_on_images_of_two_sizes():
    shared = layers.Conv2D(3, 3, padding="same", strides=2)
    check(model_of([(6, 6, 3), (7, 7, 3)], lambda i: [shared(i[0]), shared(i[1])]), CONVOLUTION * 2)


def test_name_that_is_taken():
    def function(x):
        x = layers.Conv2D(3, 1, name="a", activation="relu")(x)
        return layers.ReLU(name="x0")(layers.Conv2D(3, 1, name="a_activation")(x))

    names = [node.name for node in check(model_of((4, 4, 3), function))]
    assert names == ["x0", "a", "a_activation", "a_activation_2", "x0_2"]


def test_sequential():
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(2)])
    check(model, ["convolution", "reshape", "dense"])


def test_nested_models():
    inner = keras.Sequential([keras.Input((6, 6, 3)), layers.Conv2D(3, 3, padding="same"), layers.ReLU()])
    middle = model_of((6, 6, 3), lambda x: layers.Concatenate()([x, inner(inner(x))]))
    read = ["convolution", "relu"] * 2 + ["concatenate_channels"]
    check(model_of((6, 6, 3), lambda x: layers.Conv2D(3, 1)(middle(x))), [*read, "convolution"])
    check(model_of((6, 6, 3), lambda x: layers.Add()([middle(x), middle(layers.ReLU()(x))])))
    check(keras.Sequential([keras.Input((6, 6, 3)), middle, inner_of(6)]), [*read, "convolution"])


def inner_of(channels):
    return keras.Sequential([keras.Input((6, 6, channels)), layers.Conv2D(2, 3)])


def test_nested_model_of_several_inputs_and_outputs():
    two = model_of([(4, 4, 3), (4, 4, 2)], lambda i: [layers.Concatenate()(i), layers.ReLU()(i[1])])
    check(model_of([(4, 4, 2), (4, 4, 3)], lambda i: two([i[1], i[0]])), ["relu", "concatenate_channels"])
    check(model_of([(4, 4, 2), (4, 4, 3)], lambda i: layers.ReLU()(two((i[1], i[0]))[0])))


def test_nested_model_called_with_names():
    first, second = keras.Input((4,), name="z"), keras.Input((4,), name="a")
    named = keras.Model({"z": first, "a": second}, layers.Subtract()([first, second]))
    check(model_of([(4,), (4,)], lambda i: named({"a": i[0], "z": i[1]})), LAYER)
    listed = keras.Model([first, second], layers.Subtract()([first, second]))
    check(model_of([(4,), (4,)], lambda i: listed({"a": i[0], "z": i[1]})), LAYER)


def test_nested_model_without_sizes():
    """As keras.applications' networks are without their top."""
    inner = model_of((None, None, 3), lambda x: layers.AveragePooling2D(2)(layers.Conv2D(4, 3, 2, "same")(x)))
    graph = check(
        model_of((9, 10, 3), lambda x: layers.Flatten()(inner(x))), ["convolution", "average_pool", "reshape"]
    )
    assert [node.shape for node in graph] == [(9, 10, 3), (5, 5, 4), (2, 2, 4), (16,)]
    padding = [[0, 0], [1, 1], [0, 0], [0, 0]]
    inner = model_of((None, None, 3), lambda x: layers.Conv2D(4, 3, padding="same")(ops.pad(x, padding)))
    check(model_of((9, 10, 3), inner), ["layer", "convolution"])


def test_nested_model_that_gets_another_type():
    inner = model_of((4, 4, 3), layers.ReLU())
    inputs = keras.Input((4, 4, 3), dtype="int32")
    check(keras.Model(inputs, inner(inputs)))


class OwnCall(keras.Model):
    """Made from inputs and outputs, but computes something else."""

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs) * 2


class Written(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(2)

    def call(self, inputs, training=None):
        return self.dense(inputs) * (5 if training else 1)


def test_models_with_a_call_of_their_own_are_called():
    inputs = keras.Input((4,))
    own = OwnCall(inputs, layers.ReLU()(inputs))
    assert not is_readable(own)
    check(model_of((4,), own), LAYER)
    check(model_of((4,), Written()), LAYER)


def test_is_readable():
    assert is_readable(model_of((4,), layers.ReLU()))
    assert is_readable(keras.Sequential([keras.Input((4,)), layers.ReLU()]))
    assert not is_readable(keras.Sequential([layers.ReLU()]))
    assert not is_readable(Written())


def test_mixed_precision_is_left_to_keras():
    check(model_of((4,), layers.ReLU(dtype="mixed_float16")), LAYER)


# --- whole networks ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["MobileNetV2", "MobileNetV3Small", "EfficientNetV2B0", "DenseNet121", "ResNet50"])
def test_keras_applications(name):
    network = getattr(keras.applications, name)
    small = {"alpha": 0.35} if name == "MobileNetV2" else {}
    shape = (32, 32, 3)
    check(network(input_shape=shape, weights=None, classes=7, classifier_activation=None, **small))


def test_condensed_network():
    graph = check(networks.condensed())
    assert "layer" not in operators(graph)
