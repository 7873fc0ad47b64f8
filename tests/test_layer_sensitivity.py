"""What one compressed layer costs, against networks that are really condensed, and kernels rounded number by number."""

import csv
import re

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import keras_condense as kc
from keras_condense.compressions import LearnedGroups, PrunedWeights, RoundedWeights, rounded_kernel
from keras_condense.labelled_rows import labelled_rows

pytest.importorskip("tensorflow")

RANDOM = np.random.default_rng(0)
CLASSES = 5


def network():
    keras.utils.set_random_seed(0)
    inner = keras.Sequential([keras.Input((6, 6, 16)), L.Conv2D(32, 1, activation="relu", name="conv")], name="inner")
    image = keras.Input((8, 8, 3))
    x = inner(L.Conv2D(16, 3, activation="relu", name="stem")(image))
    x = L.DepthwiseConv2D(3, name="depthwise")(x)
    x = L.Conv2D(24, 1, name="project")(L.BatchNormalization()(x))
    model = keras.Model(image, L.Dense(CLASSES, name="scores")(L.GlobalMaxPooling2D()(x)), name="net")
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def examples(model, n=200):
    """Images whose labels the model gets right in four cases of five, so that layers have something to lose."""
    x = RANDOM.normal(size=(n, 8, 8, 3)).astype("float32")
    y = model.predict(x, verbose=0).argmax(axis=1)
    return x, np.where(np.arange(n) % 5 == 0, (y + 1) % CLASSES, y)


def accuracy(model, x, y):
    return np.mean(model.predict(x, verbose=0).argmax(axis=1) == y)


@pytest.fixture(scope="module")
def model():
    return network()


@pytest.fixture(scope="module")
def data(model):
    return examples(model)


SETTINGS = (
    LearnedGroups(4, 4),
    LearnedGroups(2, 8),
    PrunedWeights(0.8),
    PrunedWeights(0.9, block=2),
    RoundedWeights(3),
)


@pytest.fixture(scope="module")
def measured(model, data):
    return kc.sensitivity(model, data, settings=SETTINGS)


def condensed_alone(model, name, setting):
    """The network of which one layer is condensed as a user would do it."""
    if isinstance(setting, LearnedGroups):
        masked = kc.learn_groups(model, setting.groups, setting.condense_factor, where=name)
    else:
        masked = kc.prune_weights(model, setting.sparsity, setting.block, where=name)
    return kc.condense(masked, finish=True)


@pytest.mark.parametrize("setting", SETTINGS[:4], ids=str)
def test_each_layer_loses_what_the_condensed_network_loses(model, data, measured, setting):
    assert measured.baseline == accuracy(model, *data) == pytest.approx(0.8, abs=0.05)
    layers = ["inner/conv", "project"] + (
        ["scores"] if isinstance(setting, PrunedWeights) and setting.block == 1 else []
    )
    lost = measured.lost(setting)
    assert list(lost) == layers
    for name in layers:
        expected = measured.baseline - accuracy(condensed_alone(model, name, setting), *data)
        assert lost[name] == pytest.approx(expected, abs=1e-9)
        assert expected != 0


def nearest(weights, bits):
    """The nearest of a channel's 2^bits - 1 numbers, one weight after the other."""
    most = 2 ** (bits - 1) - 1
    levels = np.abs(weights).max() / most * np.arange(-most, most + 1)
    return np.array([levels[np.abs(levels - weight).argmin()] for weight in weights.ravel()]).reshape(weights.shape)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_weights_are_rounded_to_the_nearest_of_their_channel(bits):
    kernel = RANDOM.normal(size=(3, 2, 4, 5)) * RANDOM.uniform(0.1, 10, 5)
    kernel[..., 2] = 0  # whose scale is 0
    expected = np.stack([nearest(kernel[..., channel], bits) for channel in range(5)], axis=-1)
    expected[..., 2] = 0
    np.testing.assert_allclose(rounded_kernel(kernel, bits), expected, atol=1e-12)
    by_input = np.stack([rounded_kernel(kernel[:, :, i], bits) for i in range(4)], axis=2)
    np.testing.assert_allclose(rounded_kernel(kernel, bits, 2), by_input, atol=1e-12)


def test_a_rounded_layer_loses_what_the_network_with_its_rounded_kernel_loses(model, data, measured):
    lost = measured.lost(RoundedWeights(3))
    assert list(lost) == ["stem", "inner/conv", "depthwise", "project", "scores"]
    for name in ("stem", "depthwise"):
        other = keras.models.clone_model(model)
        other.set_weights(model.get_weights())
        kernel = other.get_layer(name).kernel
        channel_axes = 2 if name == "depthwise" else 1
        kernel.assign(rounded_kernel(ops.convert_to_numpy(kernel), 3, channel_axes))
        assert lost[name] == pytest.approx(measured.baseline - accuracy(other, *data), abs=1e-9)


def test_the_result_says_what_was_measured(measured, tmp_path):
    assert measured.layers == ("stem", "inner/conv", "depthwise", "project", "scores")
    assert (measured.model, measured.examples, measured.available) == ("net", 200, 200)
    for row in measured.rows:
        assert row.accuracy + row.lost == pytest.approx(measured.baseline)
        assert measured.of(row.layer)[row.setting] == measured.lost(row.setting)[row.layer] == row.lost
    assert measured.left["stem", PrunedWeights(0.8)] == "has a 3x3 kernel, whose zeros no kernel skips"
    text = str(measured)
    assert f"net: accuracy {measured.baseline:.2%} on 200 examples" in text
    (line,) = (line for line in text.splitlines() if "project" in line)
    assert line.replace("│", " ").split()[1:] == [f"{100 * lost:.2f}" for lost in measured.of("project").values()]
    measured.to_csv(tmp_path / "lost.csv")
    with open(tmp_path / "lost.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["layer"], row["setting"]) for row in rows] == [(row.layer, str(row.setting)) for row in measured.rows]
    assert [float(row["lost"]) for row in rows] == [row.lost for row in measured.rows]
    with pytest.raises(ValueError, match=r"`setting` \(=0\.8\) must be one of LearnedGroups\(groups=4, "):
        measured.lost(0.8)
    with pytest.raises(ValueError, match=r"`layer` \(='stam'\) must be one of 'stem', 'inner/conv'"):
        measured.of("stam")
    with pytest.raises(ValueError, match="folder"):
        measured.to_csv(tmp_path / "nowhere" / "lost.csv")


def test_the_model_stays_as_it_is_whatever_happens(data, monkeypatch):
    model, (x, y) = network(), data
    model.fit(x, y, epochs=1, verbose=0)
    before = [
        np.copy(weight) for weight in (*model.get_weights(), *map(ops.convert_to_numpy, model.optimizer.variables))
    ]
    kept, calls = keras.Model.predict, []

    def predict(self, *args, **kwargs):
        assert self is not model
        calls.append(len(calls))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return kept(self, *args, **kwargs)

    monkeypatch.setattr(keras.Model, "predict", predict)
    with pytest.raises(KeyboardInterrupt):
        kc.sensitivity(model, data)
    kc.sensitivity(model, data, where="project", settings=RoundedWeights(2))
    after = [*model.get_weights(), *map(ops.convert_to_numpy, model.optimizer.variables)]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


def test_it_is_compiled_once_and_every_kernel_is_put_back(data):
    traces = []

    class Counting(L.Layer):
        def call(self, x):
            traces.append(x.shape)
            return x

    layers = [L.Conv2D(16, 3), Counting(), L.Conv2D(32, 1, name="a"), L.ReLU(), L.Conv2D(16, 1, name="b")]
    model = keras.Sequential([keras.Input((8, 8, 3)), *layers, L.GlobalMaxPooling2D(), L.Dense(CLASSES, name="scores")])
    traces.clear()
    x, y = data
    few = kc.sensitivity(model, (x, y), where="b", batch_size=100, settings=PrunedWeights(0.9))
    once = len(traces)
    many = kc.sensitivity(model, (x, y), batch_size=100, settings=[PrunedWeights(s) for s in (0.5, 0.9, 0.95)])
    assert len(traces) == 2 * once  # as often for nine cases as for one
    assert many.of("b")[PrunedWeights(0.9)] == few.of("b")[PrunedWeights(0.9)]  # after others were compressed


def test_labels_of_any_form_and_a_limit_of_rows(model, data):
    x, y = data
    for labels in (y, y[:, None].astype("float32"), np.eye(CLASSES)[y], y.tolist()):
        found = labelled_rows((x, labels), model)
        np.testing.assert_array_equal(found.labels, y)
        np.testing.assert_array_equal(found.inputs, x)
    few = kc.sensitivity(
        model, (x, y), rows=30, settings=PrunedWeights(0.9), where=lambda layer: layer.name == "project"
    )
    chosen = np.floor(np.arange(30) * 199 / 29).astype(int)
    assert few.baseline == accuracy(model, x[chosen], y[chosen])
    assert (few.layers, few.examples, few.available) == (("project",), 30, 200)
    assert "on 30 of 200 examples" in str(few)


@pytest.mark.parametrize("rows", [None, 50])
def test_a_data_set_gives_its_validation_images(rows):
    arrays, data = (
        load("digits", validation_fraction=0.2, image_size=8) for load in (kc.datasets.load_arrays, kc.datasets.load)
    )
    model = keras.Sequential([keras.Input(data.image_shape), L.Flatten(), L.Dense(10)])
    pair = arrays.normalize(arrays.validation_images), arrays.validation_labels
    expected, *found = (labelled_rows(each, model, rows) for each in (pair, arrays, data))
    for each in found:
        np.testing.assert_allclose(each.inputs, expected.inputs, atol=1e-6)
        np.testing.assert_array_equal(each.labels, expected.labels)
        assert each.available == expected.available == data.validation_size
        assert len(each.labels) == (rows or data.validation_size)


# --- what is refused -------------------------------------------------------------------------------------------------
X, Y = np.zeros((20, 8, 8, 3), "float32"), np.arange(20) % CLASSES


def changed(array, value):
    array = array.astype("float32")
    array.flat[7] = value
    return array


REFUSED = {
    "no data": ({"data": None}, r"`data` \(=None\) must be a pair of arrays or a data set"),
    "text": ({"data": (X, "labels")}, r"`y` of `data` must be an array of real numbers, and is 'labels'"),
    "no labels": ({"data": X}, r"`data` \(=array.* must be a pair of arrays"),
    "ragged": ({"data": ([[1], [1, 2]], Y)}, r"`x` of `data` must be an array of real numbers"),
    "other lengths": (
        {"data": (X, Y[:-1])},
        r"as many labels as examples, and they are of \(20, 8, 8, 3\) and \(19,\)",
    ),
    "too few": ({"data": (X[:9], Y[:9])}, r"`data` must have at least 10 examples, and has 9"),
    "other images": ({"data": (X[:, :6], Y)}, r"must hold examples of \(8, 8, 3\), .*, and they are of \(6, 8, 3\)"),
    "NaN": ({"data": (changed(X, np.nan), Y)}, r"`data` must be finite, and holds NaN or infinity"),
    "a sixth class": ({"data": (X, changed(Y, 5))}, r"`data` must have labels in 0\.\.4, .*, and has 5\.0"),
    "half a class": ({"data": (X, changed(Y, 0.5))}, r"`data` must have labels in 0\.\.4, .*, and has 0\.5"),
    "a label of NaN": ({"data": (X, changed(Y, np.nan))}, r"`data` must have labels in 0\.\.4, .*, and has nan"),
    "soft labels": ({"data": (X, np.full((20, CLASSES), 0.2))}, r"must be one-hot: a single 1 in each row"),
    "labels of pixels": ({"data": (X, X)}, r"labels of \(examples,\) or one-hot ones of \(examples, 5\), and they are"),
    "no settings": ({"settings": []}, r"`settings` \(=\[\]\) must be one or several of `keras_condense.compressions`"),
    "a number": ({"settings": 0.8}, r"`settings` \(=0\.8\) must be one or several of `keras_condense.compressions`"),
    "a class": ({"settings": PrunedWeights}, r"`settings` \(=<class .* must be one or several of"),
    "unknown": ({"where": "projekt"}, r"`where` \(='projekt'\) must be the name of a layer .* Use 'project' that"),
    "no names": ({"where": 3}, r"`where` \(=3\) must be a function of a layer, a name or names of layers"),
    "unfit": (
        {"where": "depthwise"},
        r"`where` \(='depthwise'\) must be .* fits, and it is none:\nG4 C4: 'depthwise' is",
    ),
    "nothing chosen": (
        {"where": lambda layer: False},
        r"must have a layer that one of `settings` fits, and has none:\n",
    ),
    "rows": ({"rows": 3}, r"`rows` \(=3\) must be at least 10"),
    "no rows": ({"rows": 1.5}, r"`rows` \(=1\.5\) must be a positive integer"),
    "batch size": ({"batch_size": 0}, r"`batch_size` \(=0\) must be a positive integer"),
}


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_before_any_work(model, monkeypatch, arguments, message):
    monkeypatch.setattr(keras.Model, "predict", None)
    with pytest.raises(ValueError, match=re.compile(message, re.DOTALL)):
        kc.sensitivity(model, **({"data": (X, Y)} | arguments))


def with_nan():
    model = network()
    model.get_layer("project").kernel.assign(np.full((1, 1, 32, 24), np.nan))
    return model


MODELS = {
    "none": (lambda: None, r"`model` \(=None\) must be a Keras model"),
    "masked": (
        lambda: kc.learn_groups(network()),
        r"`model` \(='net'\) must have no masked layers, .* has 'conv', 'project'",
    ),
    "one score": (
        lambda: keras.Sequential([keras.Input((8, 8, 3)), L.Flatten(), L.Dense(1)]),
        r"must be a classifier, .* and has outputs of \(None, 1\)",
    ),
    "images": (
        lambda: keras.Sequential([keras.Input((8, 8, 3)), L.Conv2D(8, 1)]),
        r"must be a classifier, .* and has outputs of \(None, 8, 8, 8\)",
    ),
    "NaN": (with_nan, r"The kernel of layer 'project' must be finite, and holds NaN"),
}


@pytest.mark.parametrize(("make", "message"), MODELS.values(), ids=MODELS)
def test_models_that_are_refused_before_any_work(monkeypatch, make, message):
    model = make()
    monkeypatch.setattr(keras.Model, "predict", None)
    with pytest.raises(ValueError, match=message):
        kc.sensitivity(model, (X, Y))


def test_scores_of_nan_are_refused():
    model = network()
    model.get_layer("scores").bias.assign(np.full(CLASSES, np.inf))
    with pytest.raises(ValueError, match="scores of model 'net' must be finite, and are NaN or infinite for 20 of 20"):
        kc.sensitivity(model, (X, Y))


def test_a_data_set_without_validation_images_is_refused(model):
    data = kc.datasets.load_arrays("digits")
    with pytest.raises(
        ValueError, match=r"`data` \(='digits'\) must have validation images, and has none: .*fraction=0.1"
    ):
        kc.sensitivity(model, data)


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (LearnedGroups, {"groups": 0}, r"`groups` \(=0\) must be a positive integer"),
        (LearnedGroups, {"condense_factor": "4"}, r"`condense_factor` \(='4'\) must be a positive integer"),
        (PrunedWeights, {"sparsity": 1}, r"`sparsity` \(=1\) must be a number in \[0, 1\)"),
        (PrunedWeights, {"block": 1.0}, r"`block` \(=1\.0\) must be a positive integer"),
        (RoundedWeights, {"bits": 1}, r"`bits` \(=1\) must be at least 2"),
        (RoundedWeights, {"bits": 17}, r"`bits` \(=17\) must be a positive integer, at most 16"),
    ],
)
def test_settings_that_are_refused(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        kind(**arguments)
