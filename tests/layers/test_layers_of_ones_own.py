"""A learned layer that this package does not know: it is trained, condensed and counted without a word about it."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_condense as kc
from keras_condense.layers import ChannelShuffle, LearnedConnections, condensable_layers


class LearnedConv1D(LearnedConnections, keras.layers.Conv1D):
    """Two groups of filters over time; Keras' layer has the arguments and the shapes."""

    condense_factor = 4

    def build(self, input_shape):
        self.build_mask(input_shape[-1])
        self._kernel = self.add_weight(shape=(*self.kernel_size, input_shape[-1], self.filters), name="kernel")
        self.bias = self.add_weight(shape=(self.filters,), name="bias", initializer="normal")

    def call(self, inputs):
        return ops.add(ops.conv(inputs, self.masked_kernel()), self.bias)

    def condensed(self, new_name):
        inputs, groups, weights = self.condensed_weights()
        convolution = keras.layers.Conv1D(self.filters, self.kernel_size, groups=groups, name=self.name)
        shuffle = ChannelShuffle(groups, name=new_name(f"{self.name}_shuffle"))
        return self.indexed(inputs, [(convolution, weights), (shuffle, None)], new_name)


class Speechless(LearnedConnections, keras.layers.Dense):
    """Does not say what it becomes."""

    groups, condense_factor = 1, 2

    def build(self, input_shape):
        self.build_mask(input_shape[-1])
        super().build(input_shape)


def array(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def made_up():
    return keras.Sequential([keras.Input((9, 8)), LearnedConv1D(6, 3, groups=2, name="own"), keras.layers.ReLU()])


def test_a_layer_of_ones_own_is_trained_and_condensed(tmp_path):
    model = made_up()
    x = array(8, 9, 8)
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "mse")
    model.fit(x, array(8, 7, 6), epochs=8, verbose=0, callbacks=[kc.callbacks.CondenseSchedule()])
    (layer,) = condensable_layers(model)
    kernel, mask = ops.convert_to_numpy(layer.kernel), ops.convert_to_numpy(layer.mask)
    assert mask.sum(axis=1).tolist() == [2, 2]
    assert ((kernel != 0).all(axis=0) == np.tile(mask.T, 3)).all()
    small = kc.condense(model)
    kinds = [type(part).__name__ for part in small.layers]
    assert kinds == ["ChannelIndex", "Conv1D", "ChannelShuffle", "ReLU"]
    np.testing.assert_allclose(ops.convert_to_numpy(small(x)), ops.convert_to_numpy(model(x)), atol=1e-5)
    assert kc.profile_model(model).macs == kc.profile_model(small).macs
    model.save_weights(tmp_path / "own.weights.h5")
    again = made_up()
    again.load_weights(tmp_path / "own.weights.h5")
    np.testing.assert_array_equal(ops.convert_to_numpy(again(x)), ops.convert_to_numpy(model(x)))


def test_a_layer_that_is_an_output_hands_its_name_to_its_last_part():
    image = keras.Input((9, 8))
    model = keras.Model(image, LearnedConv1D(6, 3, groups=2, name="own")(image))
    small = kc.condense(model, finish=True)
    assert [layer.name for layer in small.layers[1:]] == ["own_index", "own_conv", "own"]


def test_a_layer_that_does_not_say_what_it_becomes_is_named():
    model = keras.Sequential([keras.Input((8,)), Speechless(4)])
    with pytest.raises(NotImplementedError, match=r"Speechless must say .* Give it a method `condensed\(new_name\)`"):
        kc.condense(model, finish=True)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (None, "None"),
        ([], r"\[\]"),
        (keras.layers.ReLU(), "ReLU"),
        ([keras.layers.ReLU()], "ReLU"),
        ([("a", None)], "a"),
    ],
)
def test_what_condensed_returns_is_checked(given, shown, monkeypatch):
    monkeypatch.setattr(LearnedConv1D, "condensed", lambda self, new_name: given)
    with pytest.raises(
        ValueError, match=rf"`condensed` of layer 'own' of class LearnedConv1D must .* returned .*{shown}"
    ):
        kc.condense(made_up(), finish=True)


def test_a_mask_holds_ones_and_zeros():
    (layer,) = condensable_layers(made_up())
    with pytest.raises(ValueError, match="`mask` of layer 'own' must hold ones and zeros alone"):
        layer.set_mask(np.full((2, 8), 0.5))
    assert layer.stage == 0
