"""Magnitude pruning of any network, against NumPy's sorting and the untouched model."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers as L
from keras import ops

import keras_condense as kc
from keras_condense.callbacks import BestCondensed, CondenseSchedule
from keras_condense.drop_plans import DropPlan, inputs_left
from keras_condense.layers import PrunedConv2D, PrunedDense, condensable_layers

RANDOM = np.random.default_rng(0)


def network(filters=12, compiled=True):
    keras.utils.set_random_seed(0)
    image = keras.Input((6, 6, 3))
    x = L.Conv2D(8, 3, name="stem")(image)
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(filters, 1, use_bias=False, name="expand")(x)))
    x = L.DepthwiseConv2D(3, name="depthwise")(x)
    x = L.Conv2D(filters, 1, strides=2, activation="relu", name="project")(x)
    x = L.GlobalAveragePooling2D()(x)
    model = keras.Model(image, L.Dense(4, activation="softmax", name="scores")(x))
    if compiled:
        model.compile("adam", "sparse_categorical_crossentropy")
    return model


def images(n=32):
    return RANDOM.normal(size=(n, 6, 6, 3)).astype("float32"), RANDOM.integers(0, 4, n)


def zeros(layer):
    return 1 - np.count_nonzero(ops.convert_to_numpy(layer.kernel)) / layer.kernel.shape[-2] / layer.kernel.shape[-1]


def test_the_new_model_computes_what_the_model_computes():
    model, (x, _) = network(), images()
    pruning = kc.prune_weights(model)
    np.testing.assert_allclose(pruning.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6)
    kinds = {layer.name: type(layer).__name__ for layer in pruning.layers}
    assert [kinds[n] for n in ("stem", "expand", "depthwise", "project", "scores")] == [
        "Conv2D", "PrunedConv2D", "DepthwiseConv2D", "PrunedConv2D", "PrunedDense",
    ]  # fmt: skip
    assert pruning.optimizer.__class__ is model.optimizer.__class__
    assert type(model.get_layer("expand")) is L.Conv2D


@pytest.mark.parametrize(
    ("optimizer", "block"), [("sgd", 1), ("adam", 2), ("adamw", 4), ("lion", 1), ("rmsprop", 2), ("adafactor", 4)]
)
def test_what_is_pruned_stays_zero_whatever_trains(optimizer, block):
    model = kc.prune_weights(network(compiled=False), 0.75, block)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    x, y = images()
    history = model.fit(x, y, batch_size=2, epochs=4, verbose=0, callbacks=[CondenseSchedule(epochs=4)])
    assert history.history["condense_stage"] == [4, 9, 10, 10]
    # by equation 1, after four of ten drops
    assert history.history["connections_left"][0] == pytest.approx(1 - 0.75 * (1 - 0.6**3), abs=0.05)
    assert history.history["connections_left"][-1] == pytest.approx(0.25, abs=0.02)
    for layer in condensable_layers(model):
        assert zeros(layer) == pytest.approx(0.75, abs=0.03)
        kernel = ops.convert_to_numpy(layer.kernel).reshape(layer.kernel.shape[-2:])
        blocks = kernel.reshape(len(kernel), -1, block) != 0
        assert (blocks.all(axis=-1) == blocks.any(axis=-1)).all()  # a block goes as one
    small = kc.condense(model)
    assert [type(layer) for layer in small.layers if layer.name in ("expand", "scores")] == [L.Conv2D, L.Dense]
    np.testing.assert_allclose(small.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6)


@settings(max_examples=20)
@given(data=st.data())
def test_the_least_magnitudes_go_first(data):
    block = data.draw(st.sampled_from([1, 2, 3]))
    inputs, filters = data.draw(st.integers(1, 20)), block * data.draw(st.integers(1, 6))
    sparsity, shape = data.draw(st.floats(0, 0.99)), data.draw(st.sampled_from(["cubic", "even"]))
    layer = PrunedDense(filters, sparsity=sparsity, block=block, schedule=shape, drops_at=(0.1, 0.2, 0.4))
    layer.build((None, inputs))
    kernel = np.random.default_rng(data.draw(st.integers(0, 99))).normal(size=(inputs, filters))
    layer.kernel.assign(kernel)
    sums = np.abs(ops.convert_to_numpy(layer.kernel).astype("float64")).reshape(inputs, -1, block).sum(-1)
    assert layer.stage == sum(inputs_left(sums.size, stage, layer.plan) == sums.size for stage in (1, 2, 3))
    for stage in (1, 2, 3):
        layer.condense_to(stage)
        left = inputs_left(sums.size, stage, layer.plan)
        expected = sums >= np.sort(sums, axis=None)[::-1][left - 1]
        np.testing.assert_array_equal(ops.convert_to_numpy(layer.mask).T.astype(bool), expected)
        assert layer.stage >= stage


def test_equation_one():
    """Zhu and Gupta's formula: s_f + (s_i - s_f) (1 - (t - t_0) / (n dt))^3, from no sparsity on."""
    plan = DropPlan(0.9, tuple(np.arange(1, 11) / 20), "cubic")
    expected = [0.9 + (0 - 0.9) * (1 - t / 10) ** 3 for t in range(11)]
    np.testing.assert_allclose([plan.dropped(stage) for stage in range(11)], expected)
    with pytest.raises(ValueError, match=r"`shape` \(='linear'\) must be one of 'even', 'cubic'"):
        DropPlan(0.9, (0.5,), "linear")


def test_a_training_goes_on_in_another_fit_and_from_a_file(tmp_path):
    x, y = images()
    whole, parts = (kc.prune_weights(network(), 0.6) for _ in range(2))
    options = {"batch_size": 4, "shuffle": False, "verbose": 0}
    whole.fit(x, y, epochs=4, callbacks=[CondenseSchedule(epochs=4)], **options)
    parts.fit(x, y, epochs=1, callbacks=[CondenseSchedule(epochs=4)], **options)
    parts.save(tmp_path / "part.keras")
    parts = keras.models.load_model(tmp_path / "part.keras")
    assert [layer.stage for layer in condensable_layers(parts)] == [4, 4, 4]
    parts.fit(x, y, initial_epoch=1, epochs=4, callbacks=[CondenseSchedule(epochs=4)], **options)
    for one, other in zip(whole.get_weights(), parts.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("layer", [PrunedConv2D(8, 1, sparsity=0.5, block=2), PrunedDense(8, drops_at=(0.25,))])
def test_layers_are_made_again_from_their_config(layer):
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert again.plan == layer.plan


def test_the_best_of_the_last_stage_is_kept():
    model = kc.prune_weights(network())
    x, y = images()
    best = BestCondensed("loss", mode="min")
    model.fit(x, y, batch_size=2, epochs=4, verbose=0, callbacks=[CondenseSchedule(epochs=4), best])
    assert all(layer.stage == layer.final_stage for layer in condensable_layers(model))


def test_learned_groups_and_pruned_weights_in_one_model():
    model = kc.learn_groups(network(), groups=2, condense_factor=2, where="expand")
    model = kc.prune_weights(model, where=["project", "scores"])
    layers = kc.explain_prune_weights(model)
    assert layers.chosen == ()
    assert layers.left == {
        "stem": "has a 3x3 kernel, whose zeros no kernel skips",
        "expand": "learns which inputs it needs",
        "project": "is pruned already",
        "scores": "is pruned already",
    }
    assert kc.explain_learn_groups(model).left["project"] == "is pruned already"
    x, y = images()
    model.fit(x, y, batch_size=2, epochs=4, verbose=0, callbacks=[CondenseSchedule(epochs=4)])
    small = kc.condense(model)
    np.testing.assert_allclose(small.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-5)
    assert kc.profile_model(model).macs < kc.profile_model(network()).macs


def test_a_file_of_pruned_weights_computes_the_same(tmp_path):
    model = kc.prune_weights(network(16), 0.8, block=2)
    small = kc.condense(model, finish=True)
    kc.export_tflite(small, tmp_path / "pruned.tflite")
    x, _ = images(4)
    expected = small.predict(x, verbose=0)
    np.testing.assert_allclose(kc.run_tflite(tmp_path / "pruned.tflite", x), expected, atol=1e-5)


def test_nested_and_shared_layers():
    shared = L.Dense(6, name="shared")
    inner = keras.Sequential([keras.Input((8,)), L.Dense(8, activation="relu", name="dense")], name="inner")
    image = keras.Input((8,))
    model = keras.Model(image, L.Add()([shared(inner(image)), shared(image)]))
    pruning = kc.prune_weights(model, 0.5)
    assert [layer.name for layer in condensable_layers(pruning)] == ["dense", "shared"]
    x = RANDOM.normal(size=(3, 8)).astype("float32")
    np.testing.assert_allclose(pruning(x), model(x), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sparsity": 1}, r"`sparsity` \(=1\) must be a number in \[0, 1\)\. Use 0\.8"),
        ({"sparsity": "most"}, "`sparsity`"),
        ({"block": 0}, r"`block` \(=0\) must be a positive integer\. Use 1 for single weights"),
        ({"block": 5}, r"(?s)has none:.*'expand' has 12 filters, which `block` \(=5\) does not divide"),
        ({"schedule": "linear"}, r"`shape` \(='linear'\)|`schedule` \(='linear'\) must be one of 'even', 'cubic'"),
        ({"drops_at": (0.5, 0.2)}, r"`drops_at` \(=\(0\.5, 0\.2\)\) must be a tuple of ascending numbers"),
        ({"where": "expnad"}, r"`where` \(='expnad'\) must be the name of a layer .*Use 'expand'"),
        ({"where": "stem"}, r"`where` \(='stem'\) .* can be pruned, and this one has a 3x3 kernel"),
        ({"where": lambda layer: False}, "(?s)must have a layer that can be pruned.*'expand' is not chosen by `where`"),
        ({"where": 3}, "`where`.*Leave it out for convolutions with a 1x1 kernel and dense layers"),
        ({"report": "yes"}, "`report`"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        kc.prune_weights(network(), **arguments)


def test_layers_refuse_what_they_cannot_be():
    with pytest.raises(ValueError, match=r"`kernel_size` \(=\(3, 3\)\) must be 1: no kernel of phones skips zeros"):
        PrunedConv2D(8, 3)
    with pytest.raises(ValueError, match=r"`filters` \(=9\) must be divisible by `block` \(=2\)"):
        PrunedDense(9, block=2).build((None, 4))


def test_the_report(capsys):
    kc.prune_weights(network(), report=True)
    said = capsys.readouterr().out
    assert "3 of 4 layers are pruned" in said
    assert "no: has a 3x3 kernel, whose zeros no kernel skips" in said
