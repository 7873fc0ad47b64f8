"""The picture of learned connections against masks and kernels as a test reads them; no pixels."""

import keras
import numpy as np
import pytest

pytest.importorskip("matplotlib")

from condensed_networks import finished

from keras_condense import pictures
from keras_condense.applications import CondenseNet, CondenseNetV2
from keras_condense.condensation import condense
from keras_condense.layers import GroupConv2D, LearnedGroupConv2D, SparseFeatureReactivation
from keras_condense.pictures.reading import readings


def condense_net():
    options = {"stem_strides": 1, "input_shape": (8, 8, 3), "classes": 10, "classifier_condense_factor": 2}
    return finished(CondenseNet((2, 1), (8, 4), **options))


def texts(ticks):
    return [tick.get_text() for tick in ticks]


def square(axes):
    (image,) = axes.images
    return image.get_array().filled(np.nan)


def test_connections_of_a_condensenet():
    model = condense_net()
    masked, condensed, _ = pictures.connections(model, condense(model)).axes
    kept = {"block1_layer1_1_conv": [16], "block1_layer2_1_conv": [16, 8], "block2_layer1_1_conv": [16, 8, 8]}
    kept["predictions"] = [16, 8, 8, 4]  # the stem has 2 x 8 filters, and each layer adds its growth rate
    expected = np.full((4, 4), np.nan)
    for row, (name, channels) in enumerate(kept.items()):
        layer = model.get_layer(name)
        weights = np.abs(np.array(layer.kernel)).reshape(sum(channels), -1)
        for filters in range(weights.shape[1]):
            weights[:, filters] *= np.array(layer.mask)[filters % layer.groups]
        for column, part in enumerate(np.split(weights, np.cumsum(channels)[:-1])):
            expected[row, column] = part.mean()
        expected[row] /= np.nanmax(expected[row])
    np.testing.assert_allclose(square(masked), expected, rtol=1e-5)
    np.testing.assert_allclose(square(condensed), expected, rtol=1e-5)
    assert texts(masked.get_yticklabels()) == ["1.1", "1.2", "2.1", "predictions"]
    assert texts(condensed.get_xticklabels()) == ["stem_conv", "1.1", "1.2", "2.1"]
    # 8 (4 x 8 filters, 16 inputs), 1.2: 24 inputs, 2.1: 32 inputs, of 4 groups a quarter; half of the classifier's 36
    left = (16 + 24 + 32 + 18) / (4 * (16 + 24 + 32) + 36)
    assert masked.get_title() == f"masked: {100 * left:.3g}% of connections left"
    assert condensed.get_title() == f"condensed: {100 * left:.3g}% of connections left"


def test_a_cross_marks_what_is_dropped():
    model = condense_net()
    layer = model.get_layer("block1_layer2_1_conv")
    mask = np.zeros(layer.mask.shape)
    mask[:, 2:8] = 1  # of the stem's 16 channels, and none of the 8 behind them
    layer.set_mask(mask)
    for form in (model, condense(model)):
        axes, _ = pictures.connections(form).axes
        assert square(axes)[1].tolist()[:2] == [1, 0]
        assert [1, 1] in axes.collections[0].get_offsets().tolist()


def chain():
    x = image = keras.Input((8, 8, 8))
    for name, filters, groups in (("a", 16, 4), ("b", 8, 2)):
        x = keras.layers.ReLU()(LearnedGroupConv2D(filters, 1, groups=groups, condense_factor=4, name=name)(x))
    return finished(keras.Model(image, keras.layers.GlobalAveragePooling2D()(x)))


def widths(axes, hatched):
    return [bar.get_width() for bar in axes.patches if bool(bar.get_hatch()) == hatched]


def test_connections_of_a_chain_are_bars():
    model = chain()
    model.get_layer("a").set_mask(np.repeat([[1, 1, 0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0, 1, 0]], 2, axis=0))
    figure = pictures.connections(model, condense(model))
    b = np.array(model.get_layer("b").mask)
    for axes in figure.axes:
        np.testing.assert_allclose(widths(axes, False), [25, 25])
        np.testing.assert_allclose(widths(axes, True), [50, 100 * b.max(axis=0).sum() / 16])
        assert texts(axes.texts)[0] == "25 / 50"
    assert texts(figure.axes[0].get_yticklabels()) == ["a (4)", "b (2)"]
    assert "inputs kept, %" in figure._supxlabel.get_text()


def test_reactivations_keep_outputs():
    model = CondenseNetV2(
        (1, 1), (8, 8), groups=4, condense_factor=4, hidden_units=8, input_shape=(32, 32, 3), classes=3
    )
    masked, condensed = pictures.connections(finished(model), condense(model)).axes
    names = [label for label in texts(masked.get_yticklabels()) if "outputs" in label]
    assert names == ["block1_layer1_3_conv, outputs (4)", "block2_layer1_3_conv, outputs (4)"]
    for hatched in (False, True):
        np.testing.assert_allclose(widths(masked, hatched), widths(condensed, hatched))


def test_weights_of_a_reactivation_are_where_they_were():
    image = keras.Input((4, 4, 8), name="image")
    model = finished(keras.Model(image, SparseFeatureReactivation(12, groups=2, condense_factor=3, name="twin")(image)))
    (masked,), (condensed,) = readings(model), readings(condense(model))
    order = [0, 2, 4, 6, 1, 3, 5, 7]  # the condensed one reads its inputs sorted by group
    np.testing.assert_allclose(condensed.weights, masked.weights[order])
    np.testing.assert_array_equal(condensed.mask, masked.mask)


def test_layers_are_matched_whatever_condensing_did_to_names_and_order():
    image = keras.Input((4, 4, 8))
    # a learned output gives its name to the last part; a condensed branch is deeper than it was
    short = LearnedGroupConv2D(4, 1, name="short")(image)
    long = LearnedGroupConv2D(8, 1, name="long")(keras.layers.ReLU()(keras.layers.ReLU()(image)))
    model = finished(keras.Model(image, [short, long]))
    model.get_layer("long").set_mask(np.eye(4, 8))
    masked, condensed = pictures.connections(model, condense(model)).axes
    for hatched in (False, True):
        np.testing.assert_allclose(widths(condensed, hatched), widths(masked, hatched))
    with pytest.raises(ValueError, match=r"and differ in 'long'\. Give"):
        pictures.connections(keras.Model(image, short), model)


def test_channels_are_followed_into_nested_models():
    part = keras.Sequential([keras.Input((8, 8, 8)), LearnedGroupConv2D(8, 1, name="learned")], name="part")
    image = keras.Input((8, 8, 8), name="image")
    x = GroupConv2D(8, 1, name="conv")(image)
    (reading,) = readings(keras.Model(image, part(x)))
    assert (reading.layer, set(reading.sources)) == ("part/learned", {"conv"})


def test_a_layer_that_drops_nothing_is_found_in_the_condensed_network():
    image = keras.Input((4, 4, 8))
    x = LearnedGroupConv2D(8, 1, groups=2, condense_factor=1, name="dense")(image)
    x = keras.layers.ReLU()(LearnedGroupConv2D(8, 1, groups=2, condense_factor=2, name="half")(x))
    model = finished(keras.Model(image, x))
    for axes in pictures.connections(model, condense(model)).axes:
        assert widths(axes, False) == [100, 50]
        assert axes.get_title().endswith(": 75% of connections left")  # 2 x 8 and 2 x 4 of 2 x (8 + 8)


def test_connections_refuse_what_has_none():
    dense = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 1)])
    with pytest.raises(ValueError, match=r"must have learned layers, masked or condensed, and has none\. Build"):
        pictures.connections(dense)
    with pytest.raises(ValueError, match=r"must be a functional or built sequential Keras model.+ Build"):
        pictures.connections(keras.Sequential([keras.layers.Conv2D(4, 1)]))
    with pytest.raises(ValueError, match=r"must be a functional or built sequential"):
        pictures.connections("model.keras")
    with pytest.raises(ValueError, match=r"`models` \(of 0\) must be one or two forms of a network\. Give"):
        pictures.connections()
    with pytest.raises(ValueError, match=r"must be forms of one network.+ and differ in 'a'\. Give"):
        pictures.connections(chain(), condense_net())
