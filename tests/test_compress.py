"""`compress`: what is done to each layer, in which order, what is left and why, and whether it trains and exports."""

import re

import keras
import numpy as np
import pytest
from keras import layers as L

import keras_condense as kc
from keras_condense.callbacks import CondenseSchedule, QuantizeSchedule
from keras_condense.layers import QuantizedKernel, condensable_layers

pytest.importorskip("tensorflow")

from keras_condense.tflite.group_costs import GroupCosts
from keras_condense.tflite.lowering import lower_model
from keras_condense.tflite.schemes import SCHEMES

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(64, 12, 12, 3)).astype("float32"), RANDOM.integers(0, 10, 64)
POINTWISE = ("expand_0", "project_0", "expand_1", "project_1")


def mobile(filters=24, blocks=2, compiled=True):
    """Inverted residuals and a dense classifier."""
    keras.utils.set_random_seed(0)
    x = image = keras.Input((12, 12, 3), name="image")
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(filters, 3, strides=2, padding="same", name="stem")(x)))
    for number in range(blocks):
        y = L.Conv2D(4 * filters, 1, use_bias=False, name=f"expand_{number}")(x)
        y = L.DepthwiseConv2D(3, padding="same", name=f"depthwise_{number}")(L.ReLU()(L.BatchNormalization()(y)))
        x = L.Add()([x, L.Conv2D(filters, 1, activation="relu", name=f"project_{number}")(y)])
    x = L.GlobalAveragePooling2D()(x)
    model = keras.Model(image, L.Dense(10, activation="softmax", name="scores")(x), name="mobile")
    if compiled:
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def rows(plan):
    return {layer.name: layer for layer in plan.layers}


def names_before(layer):
    """A layer's name before the one that rounds an output took it."""
    return layer.name.removesuffix("_unrounded")


def done(plan, attribute):
    """Names of the layers with something that is done to them."""
    return tuple(layer.name for layer in plan.layers if getattr(layer, attribute))


# --- what is done ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("asked", "callbacks"),
    [
        ({"budget": 0.7}, [CondenseSchedule]),
        ({"groups": 4}, [CondenseSchedule]),
        ({"sparsity": 0.9}, [CondenseSchedule]),
        ({"quantize": "int8"}, [QuantizeSchedule]),
        ({"budget": 0.9, "quantize": "int8", "sparsity": 0.5}, [CondenseSchedule, QuantizeSchedule]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_is_asked_for_is_done(asked, callbacks):
    model = mobile()
    before = model.get_weights()
    plan = kc.compress(model, **asked)
    assert [type(callback) for callback in plan.callbacks] == callbacks
    assert plan.callbacks[0] is not plan.callbacks[0]
    learned, pruned = done(plan, "groups"), done(plan, "sparsity")
    assert bool(learned) == ("budget" in asked or "groups" in asked)
    assert bool(pruned) == ("sparsity" in asked)
    assert not set(learned) & set(pruned)
    # the layer that rounds an output has its name
    assert {names_before(layer) for layer in condensable_layers(plan.model)} == {*learned, *pruned}
    aware = {names_before(layer) for layer in plan.model.layers if isinstance(layer, QuantizedKernel)}
    assert aware == set(done(plan, "int8"))
    assert bool(aware) == (asked.get("quantize") == "int8")
    if not aware:
        np.testing.assert_allclose(plan.model(X), model(X), atol=1e-6)
    assert plan.model.compiled
    for weight, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, other)


def test_groups_are_those_of_the_verb():
    model = mobile()
    expected = kc.explain_learn_groups(model, budget=0.7)
    plan = kc.compress(model, budget=0.7)
    assert done(plan, "groups") == expected.learned
    for row in expected.learning:
        planned = rows(plan)[row.name]
        assert (planned.groups, planned.condense_factor) == (row.groups, row.condense_factor)
    assert plan.share == pytest.approx(expected.share)
    assert plan.share <= 0.7


@pytest.mark.parametrize(
    "asked", [{"groups": 4}, {"sparsity": 0.9}, {"groups": 4, "sparsity": 0.9, "where": ["project_0", "scores"]}]
)
def test_the_share_is_that_of_the_files(asked):
    model = mobile(blocks=1)
    plan = kc.compress(model, **asked)
    cost = lower_model(kc.condense(plan.model, finish=True), "arm64", SCHEMES[None]).cost
    assert plan.share == pytest.approx(cost / GroupCosts(model, "arm64").now.total)
    assert 0 < plan.share < 1


def test_layers_that_learn_no_groups_are_pruned():
    plan = kc.compress(mobile(), groups=16, condense_factor=4, sparsity=0.9, quantize="int8", target=None)
    assert done(plan, "groups") == ("expand_0", "expand_1")  # 24 filters have no 16 groups
    assert done(plan, "sparsity") == ("project_0", "project_1", "scores")
    assert rows(plan)["expand_0"].done == ("16 groups of 1/4 of the inputs", "int8")
    assert rows(plan)["project_0"].done == ("90 % zeros", "int8")
    assert rows(plan)["depthwise_0"].left == ("no groups: is depthwise: each filter reads a single input",)


def test_where_is_for_groups_and_pruning():
    plan = kc.compress(mobile(), groups=4, sparsity=0.8, target=None, where=["expand_0", "scores"])
    assert (done(plan, "groups"), done(plan, "sparsity")) == (("expand_0",), ("scores",))
    assert rows(plan)["project_0"].left == (
        "no groups: is not chosen by `where`",
        "not pruned: is not chosen by `where`",
    )
    plan = kc.compress(mobile(), groups=4, sparsity=0.8, target=None, where=lambda layer: layer.name != "expand_0")
    assert (done(plan, "groups"), done(plan, "sparsity")) == (POINTWISE[1:], ("scores",))


def test_layers_of_nested_and_shared_models_are_named_in_full():
    inner = keras.Sequential(
        [keras.Input((12, 12, 8)), L.Conv2D(8, 1, name="conv"), L.LayerNormalization(name="norm")], name="inner"
    )
    image = keras.Input((12, 12, 8))
    model = keras.Model(image, L.Dense(4, name="scores")(L.Flatten()(inner(inner(image)))))
    plan = kc.compress(model, groups=2, condense_factor=2, quantize="int8", target=None)
    assert [layer.name for layer in plan.layers] == ["inner/conv", "inner/norm", "scores"]
    assert rows(plan)["inner/conv"].done == ("2 groups of 1/2 of the inputs", "int8")
    assert list(plan.left) == ["inner/norm"]
    assert plan.left["inner/norm"].startswith("not int8: has no int8 form")


# --- what does not pay -----------------------------------------------------------------------------------------------
def test_groups_that_save_nothing_are_left():
    keras.utils.set_random_seed(0)
    layers = [L.Conv2D(256, 1, activation="relu", name="wide"), L.Conv2D(8, 1, activation="relu", name="narrow")]
    model = keras.Sequential([keras.Input((8, 8, 64)), *layers, L.Flatten(), L.Dense(4, name="scores")])
    assert kc.explain_learn_groups(model, target="arm64").dearer == ("narrow",)
    plan = kc.compress(model, groups=4)
    assert done(plan, "groups") == ("wide",)
    assert plan.left == {"narrow": "no groups: saves nothing on 'arm64'"}
    assert done(kc.compress(model, groups=4, target=None), "groups") == ("wide", "narrow")
    with pytest.raises(ValueError, match=r"no layer that is left with strict=True:\n'narrow' no groups: saves nothing"):
        kc.compress(model, groups=4, strict=True)
    assert kc.compress(model, groups=4, strict=True, where="wide").layers
    with pytest.raises(ValueError, match=r"and has none:(\n.*)*'project_0' no groups: saves nothing on 'x86_64'\nGive"):
        kc.compress(mobile(blocks=1), groups=4, condense_factor=2, target="x86_64")


def test_groups_are_judged_in_the_numbers_of_the_file():
    """Four groups of half the inputs: the rest is int8's alone."""
    plan = kc.compress(mobile(), groups=4, condense_factor=2, quantize="int8")
    assert (done(plan, "groups"), plan.share) == ((), None)
    assert rows(plan)["expand_0"].left == ("no groups: saves nothing on 'arm64' in int8",)
    assert rows(plan)["expand_0"].int8
    assert [type(callback) for callback in plan.callbacks] == [QuantizeSchedule]


def test_zeros_that_no_kernel_skips():
    model = mobile()
    plan = kc.compress(model, sparsity=0.9)
    assert done(plan, "sparsity") == POINTWISE
    assert rows(plan)["scores"].left == (
        "not pruned: saves nothing on 'arm64': no kernel there skips its zeros for less",
    )
    assert rows(plan)["expand_0"].note is None
    with pytest.raises(ValueError, match=r"must have a layer that can be compressed so, and has none:\n'stem' not pr"):
        kc.compress(model, sparsity=0.05)  # dense kernels are cheaper
    for quantize in ("int8", "float16", "dynamic"):
        plan = kc.compress(model, sparsity=0.9, quantize=quantize)
        assert done(plan, "sparsity") == (*POINTWISE, "scores")
        note = f"{quantize} files store zeros: a smaller download, and no less time"
        assert rows(plan)["expand_0"].note == note
        assert plan.share == pytest.approx(1)
        assert note.split(":")[0] in str(plan)


def test_frozen_layers_are_left():
    model = mobile()
    model.get_layer("expand_0").trainable = False
    for asked in ({"groups": 4}, {"budget": 0.8}, {"sparsity": 0.9}):
        plan = kc.compress(model, **asked)
        assert rows(plan)["expand_0"].left[0].endswith(": is frozen: set its `trainable` to True")
        assert "expand_0" not in {layer.name for layer in condensable_layers(plan.model)}
    model.trainable = False
    with pytest.raises(ValueError, match=r"has none:(\n.*)*'expand_0' no groups: is frozen"):
        kc.compress(model, groups=4)


def test_int8_alone_is_strict_about_forms():
    model = keras.Sequential([keras.Input((4, 4)), L.Dense(4, name="dense"), L.LayerNormalization(name="norm")])
    assert done(kc.compress(model, quantize="int8"), "int8") == ("dense",)
    with pytest.raises(ValueError, match=r"strict=True:\n'norm' not int8: has no int8 form"):
        kc.compress(model, quantize="int8", strict=True)
    assert kc.compress(mobile(), quantize="int8", strict=True).left == {}


# --- training and files ----------------------------------------------------------------------------------------------
def test_it_trains_with_its_callbacks_and_the_file_computes_the_same():
    keras.utils.set_random_seed(0)
    layers = [L.Conv2D(8, 3, name="stem"), L.Conv2D(16, 1, activation="relu", name="expand"), L.GlobalMaxPooling2D()]
    layers = [keras.Input((12, 12, 3)), *layers, L.Dense(10, activation="softmax", name="scores")]
    model = keras.Sequential(layers, name="small")
    model.compile("adam", "sparse_categorical_crossentropy")
    plan = kc.compress(model, groups=2, condense_factor=2, sparsity=0.5, quantize="int8", data=X, teacher="self",
                       where=["expand", "scores"])  # fmt: skip
    assert isinstance(plan.model, keras.distillation.Distiller)
    np.testing.assert_allclose(plan.model.teacher(X), model(X), atol=1e-6)
    history = plan.model.fit(X, Y, epochs=4, batch_size=8, verbose=0, callbacks=plan.callbacks).history
    assert {"student_loss", "distillation_loss", "connections_left"} <= set(history)
    assert history["ranges_frozen"] == [0, 0, 0, 1]
    content = kc.export_tflite(plan.model, quantize="int8")
    apart = np.abs(kc.run_tflite(content, X) - plan.model.predict(X, verbose=0))
    assert (apart <= 1.01 / 256).mean() >= 0.999  # a softmax has steps of 1 / 256
    assert [names_before(layer) for layer in condensable_layers(plan.model)] == ["expand", "scores"]
    for layer in condensable_layers(plan.model):  # half is left, by groups or by zeros
        assert np.count_nonzero(layer.masked_kernel()) / np.size(layer.kernel) == pytest.approx(0.5, abs=0.01)
    assert "learns from the outputs of 'small' too" in str(plan)


def test_a_model_that_is_not_compiled_is_compiled_before_it_is_trained():
    plan = kc.compress(mobile(compiled=False, blocks=1), groups=4, teacher="self")
    assert not plan.model.compiled
    plan.model.compile("sgd", "sparse_categorical_crossentropy")
    plan.model.fit(X, Y, epochs=4, batch_size=16, verbose=0, callbacks=plan.callbacks)
    file = kc.run_tflite(kc.export_tflite(plan.model, verify=False), X)
    np.testing.assert_allclose(file, plan.model.predict(X, verbose=0), atol=1e-4)


def test_the_table(capsys):
    plan = kc.compress(mobile(), groups=4, quantize="int8", report=True)
    text = str(plan)
    assert capsys.readouterr().out.strip() == text.strip()
    assert text.startswith("mobile: 4 learn groups, 8 compute in int8")
    assert "is depthwise" in text
    assert re.search(r"^arm64, int8: 0\.\d+ of the cost is left by the table of costs$", text, re.MULTILINE)
    assert text.endswith("to be trained with callbacks=plan.callbacks: CondenseSchedule, QuantizeSchedule")


# --- what is refused -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"`compress` must be told what to do\. Give `budget` or `groups`, `sparsity`, or quantize=\"int8\"\."),
        ({"teacher": "self"}, "`compress` must be told what to do"),
        ({"quantize": "float16"}, "`compress` must be told what to do"),
        ({"quantize": "int4"}, r"`quantize` \(='int4'\) must be"),
        ({"groups": 4, "target": "z80"}, r"`target` \(='z80'\) must be"),
        ({"groups": 0}, r"`groups` \(=0\) must be a positive integer"),
        ({"groups": "4"}, r"`groups` \(='4'\) must be a positive integer"),
        ({"groups": 4, "condense_factor": 1.5}, r"`condense_factor` \(=1\.5\) must be a positive integer"),
        ({"budget": 1.5}, r"`budget` \(=1\.5\) must be a number above 0 and below 1"),
        ({"budget": 0.5, "groups": 4}, r"`groups` \(=4\) must be left out with a `budget`"),
        ({"budget": 0.01}, r"`budget` \(=0\.01\) must be a share of the model's cost that learned groups can reach"),
        ({"sparsity": 1}, r"`sparsity` \(=1\) must be a number in \[0, 1\)"),
        ({"sparsity": 0.5, "block": 0}, r"`block` \(=0\) must be a positive integer"),
        ({"sparsity": 0.5, "condense_factor": 2}, r"`condense_factor` \(=2\) must come with `groups`\. Give both"),
        ({"groups": 4, "block": 2}, r"`block` \(=2\) must come with `sparsity`\. Give both, or leave `block` out"),
        ({"groups": 4, "data": X[0]}, r"(?s)`data` \(=array.*\) must come with quantize=\"int8\"\. Give both, or"),
        ({"quantize": "int8", "where": "stem"}, r"`where` \(='stem'\) must come with `budget`, `groups` or `sparsity`"),
        ({"quantize": "int8", "data": X[:, :5]}, r"`data` for input 'image' has the shape"),
        ({"quantize": "int8", "data": iter([])}, "must have at least one row, and is empty"),
        ({"groups": 4, "teacher": "other"}, r"`teacher` \(='other'\) must be a Keras model"),
        ({"groups": 4, "where": "expand"}, r"layer of model 'mobile', which has none of that name\. Use 'expand_0'\."),
        ({"groups": 4, "where": ["expand_0", "depthwise_0"]}, r"`where` \(='depthwise_0'\) .*this one is depthwise"),
        ({"groups": 4, "where": 3}, r"`where` \(=3\) must be a function of a layer, a name or names of layers"),
        ({"groups": 4, "where": lambda layer: False}, r"has none:\n'stem' no groups: is not chosen by `where`\n"),
        ({"groups": 7}, r"has none:(\n.*)*'expand_0' no groups: has 96 filters, which `groups` \(=7\) does not div"),
        ({"groups": 4, "strict": "yes"}, r"`strict` \(='yes'\) must be"),
        ({"groups": 4, "report": 2}, r"`report` \(=2\) must be"),
        ({"groups": 4, "quantize": "int8", "target": "measure"}, r"`quantize` \(='int8'\) must be left out with targ"),
    ],
)
def test_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        kc.compress(mobile(blocks=1, compiled=False), **arguments)


def test_models_are_refused():
    with pytest.raises(ValueError, match="must be a Keras model"):
        kc.compress("model.keras", groups=4)
    with pytest.raises(ValueError, match="must be a functional or a built sequential model"):
        kc.compress(keras.Sequential([L.Dense(2)]), groups=4)
    with pytest.raises(ValueError, match="must not be quantization-aware yet"):
        kc.compress(kc.compress(mobile(blocks=1), quantize="int8").model, quantize="int8")
    with pytest.raises(ValueError, match=r"has none:\nit has no such layer at all\nGive other arguments"):
        kc.compress(keras.Sequential([keras.Input((4,)), L.ReLU()]), sparsity=0.5)
