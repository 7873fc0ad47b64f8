"""Learned groups within a budget: the file takes no more, and what the tables say of layers is what an export says."""

import re

import keras
import numpy as np
import pytest
from learning_networks import assert_unchanged_then_condensed, network, randomized

import keras_condense as kc
from keras_condense.layers import condensable_layers

pytest.importorskip("tensorflow")

from keras_condense.tflite.group_costs import GroupCosts
from keras_condense.tflite.lowering import lower_model
from keras_condense.tflite.schemes import SCHEMES

L = keras.layers

# what came, what was expected, how to fix it
THREE_PARTS = re.compile(r"`.+` \(.+\) must .+\. .+\.", re.DOTALL)


def mobile(blocks=3, filters=24, size=16, seed=0):
    """Inverted residuals, as MobileNetV2 has them, with random weights."""
    keras.utils.set_random_seed(seed)
    x = image = keras.Input((size, size, 3), name="image")
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(filters, 3, strides=2, padding="same", name="stem")(x)))
    for number in range(blocks):
        y = L.Conv2D(4 * filters, 1, use_bias=False, name=f"expand_{number}")(x)
        y = L.DepthwiseConv2D(3, padding="same", name=f"depthwise_{number}")(L.ReLU()(L.BatchNormalization()(y)))
        y = L.Conv2D(filters, 1, activation="relu", name=f"project_{number}")(L.BatchNormalization()(y))
        x = L.Add()([x, y])
    x = L.Conv2D(64, 3, strides=2, padding="same", activation="swish", name="window")(x)
    outputs = L.Dense(10, name="scores")(L.GlobalAveragePooling2D()(x))
    return randomized(keras.Model(image, outputs, name="mobile"))


def cost_of_file(model, target, quantize=None):
    """What an export of the condensed model says that the file costs."""
    return lower_model(kc.condense(model, finish=True), target, SCHEMES[quantize]).cost


@pytest.mark.parametrize(
    ("target", "quantize", "budget"),
    [("arm64", None, 0.7), ("arm64", None, 0.55), ("x86_64", None, 0.85), ("wasm", None, 0.7), ("arm64", "int8", 0.9)],
)
def test_a_budget_is_met_by_the_file(target, quantize, budget):
    model = mobile()
    options = {"budget": budget, "target": target, "quantize": quantize}
    layers = kc.explain_learn_groups(model, **options)
    learning = kc.learn_groups(model, **options)
    now = GroupCosts(model, target, quantize).now.total
    assert cost_of_file(learning, target, quantize) / now == pytest.approx(layers.share)
    assert layers.share == pytest.approx(layers.after / layers.now)
    assert 0 < layers.share <= budget
    learned = {layer.name: (layer.groups, layer.condense_factor) for layer in condensable_layers(learning)}
    assert learned == {layer.name: (layer.groups, layer.condense_factor) for layer in layers.learning}
    assert all(factor <= groups for groups, factor in learned.values())


@pytest.mark.parametrize("seed", range(4))
def test_costs_are_those_of_the_condensed_model(seed):
    """The graph that costs are read from is the one that `condense` and `read_model` make."""
    model, random = mobile(blocks=2, size=12, seed=seed), np.random.default_rng(seed)
    names = [layer.name for layer in model.layers if type(layer) is L.Conv2D and layer.name != "stem"]
    chosen = [name for name in names if random.random() < 0.7] or names
    groups, factor = ((4, 4), (8, 2), (2, 2), (8, 8))[seed]
    for target in ("arm64", "x86_64"):
        expected = cost_of_file(kc.learn_groups(model, groups, factor, chosen), target)
        assert GroupCosts(model, target).of(dict.fromkeys(chosen, (groups, factor))).total == pytest.approx(expected)
        layers = kc.explain_learn_groups(model, groups, factor, chosen, target=target)
        unit, scale = ("million instructions", 1e6) if target == "arm64" else ("milliseconds", 1e9)
        assert (layers.after * scale, layers.unit) == (pytest.approx(expected), unit)


def test_what_learns_groups_computes_the_same():
    random = np.random.default_rng(0)
    assert_unchanged_then_condensed(mobile(), random.normal(size=(2, 16, 16, 3)).astype("float32"), budget=0.6)


def test_a_smaller_budget_takes_more_layers_and_the_insensitive_ones_first():
    model = mobile()
    few, many = (kc.explain_learn_groups(model, budget=budget).learned for budget in (0.9, 0.55))
    assert 0 < len(few) < len(many)
    names = kc.explain_learn_groups(model, budget=0.9).learned
    sensitivity = {f"{kind}_{number}": 1.0 for kind in ("expand", "project") for number in range(3)} | {"window": 1e-3}
    assert "window" in kc.explain_learn_groups(model, budget=0.9, sensitivity=sensitivity).learned
    dear = sensitivity | {"window": 100}
    assert "window" not in kc.explain_learn_groups(model, budget=0.9, sensitivity=dear).learned
    without = {name: 0.1 for name in sensitivity if name not in names[:1]}
    layers = kc.explain_learn_groups(model, budget=0.9, sensitivity=without)
    assert layers.left[names[0]] == "is not in `sensitivity`"
    # what gains accuracy is no less taken
    gains = kc.explain_learn_groups(model, budget=0.9, sensitivity=sensitivity | {"expand_1": -0.2})
    assert "expand_1" in gains.learned


def test_no_more_is_dropped_than_the_budget_asks_for():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8, 8, 64)), L.Conv2D(256, 1, name="wide")])
    generous, strict = (kc.explain_learn_groups(model, budget=budget) for budget in (0.8, 0.35))
    assert generous.share > strict.share
    assert generous.layers[0].condense_factor < strict.layers[0].condense_factor


def test_kernels_must_be_finite():
    model = mobile(blocks=1)
    model.get_layer("window").kernel.assign(np.full((3, 3, 24, 64), np.nan))
    with pytest.raises(ValueError, match=r"The kernel of layer 'window' must be finite, .*\. Load an earlier"):
        kc.learn_groups(model, budget=0.7)


def test_what_is_not_important_is_dropped_first():
    """A layer half of whose inputs every filter ignores loses nothing by a condense factor of 2."""
    model = mobile()
    kernel = np.array(model.get_layer("project_1").kernel)
    kernel[:, :, ::2] = 0
    model.get_layer("project_1").kernel.assign(kernel)
    layers = kc.explain_learn_groups(model, budget=0.97)
    assert "project_1" in layers.learned


def test_where_restricts_the_candidates():
    model = mobile()
    layers = kc.explain_learn_groups(model, budget=0.85, where=lambda layer: layer.name.startswith("expand"))
    assert {name.rpartition("_")[0] for name in layers.learned} == {"expand"}
    assert layers.left["window"] == "is not chosen by `where`"
    held = r"`budget` \(=0\.4\) must (.|\n)*\n'window' \(\d.* is not chosen by `where`"
    with pytest.raises(ValueError, match=held) as error:
        kc.learn_groups(model, budget=0.4, where="expand_1")
    assert THREE_PARTS.fullmatch(str(error.value))


def test_a_budget_out_of_reach_says_how_near_it_came_and_what_holds_it():
    model = mobile()
    strict = kc.explain_learn_groups(model, budget=0.55)
    with pytest.raises(ValueError, match=r"`budget` \(=0.05\) must be a share") as error:
        kc.learn_groups(model, budget=0.05)
    message = str(error.value)
    assert THREE_PARTS.fullmatch(message)
    reached = float(re.search(r"on 'arm64' they come to (0\.\d+)", message)[1])
    assert 0.05 < reached <= strict.share
    assert re.search(r"\n'stem' \(\d+\.\d %\) reads 3 and gives 24 channels, and both must be even numbers\n", message)
    assert "is depthwise: each filter reads a single input\n" in message
    with pytest.raises(ValueError, match=r"on 'arm64' they come to 1\.000\."):
        kc.learn_groups(keras.Sequential([keras.Input((4,)), L.Dense(8)]), budget=0.5)


def test_layers_that_would_save_nothing_are_marked_and_left():
    """Two filters a group, and two inputs: picking costs more than multiplying."""
    keras.utils.set_random_seed(0)
    small = [L.Conv2D(8, 3, name="window"), L.Conv2D(64, 1, name="wide")]
    model = randomized(keras.Sequential([keras.Input((32, 32, 8)), *small]))
    layers = kc.explain_learn_groups(model, 4, 4, lambda layer: True, target="arm64", quantize="int8")
    assert layers.dearer == ("window", "wide")
    window, wide = layers.layers
    assert window.saves == window.now - window.after < 0 == wide.saves
    assert re.search(r"│ window .* yes, and saves nothing .* -0\.\d{3} │\n│ wide .* yes, and saves", str(layers))
    assert layers.share > 1
    wide = [L.Conv2D(8, 1, activation="relu", name="narrow"), L.Conv2D(256, 3, name="window")]
    layers = kc.explain_learn_groups(keras.Sequential([keras.Input((32, 32, 8)), *wide]), budget=0.9)
    assert (layers.learned, layers.left) == (("window",), {"narrow": "saves nothing on 'arm64'"})


def test_the_table_has_costs_only_where_a_target_is_named(capsys):
    model = network()
    assert "saves" not in str(kc.explain_learn_groups(model))
    layers = kc.explain_learn_groups(model, target="arm64")
    lines = str(layers).splitlines()
    assert re.search(r"┃ G ┃ C ┃ +now ┃ +after ┃ +saves ┃", str(layers))
    assert re.fullmatch(r"arm64, float32, in million instructions: .* now, .* after .*; left: \d\.\d{3}", lines[-2])
    assert lines[-1] == "in no table, and left out of this: top"
    kc.learn_groups(model, report=True, target="arm64")
    assert capsys.readouterr().out.strip() == str(layers)
    assert kc.explain_learn_groups(model, budget=0.99).target == "arm64"


def test_layers_of_one_name_are_not_mixed_up():
    def block(name):
        return keras.Sequential([keras.Input((8, 8, 16)), L.Conv2D(16, 1, name="conv")], name=name)

    keras.utils.set_random_seed(0)
    x = image = keras.Input((8, 8, 16))
    x = L.Conv2D(64, 1, name="last")(block("two")(block("one")(x)))
    model = keras.Model(image, x, name="nested")
    layers = kc.explain_learn_groups(model, budget=0.95)
    assert layers.learned == ("last",)
    assert layers.left["one/conv"] == "shares its name with another layer, from whose its cost can't be told"
    with pytest.raises(ValueError, match=r"`model` \(='nested'\) must have a name for each layer .* 'conv'\. Leave"):
        kc.explain_learn_groups(model, target="arm64")


def test_a_budget_of_time_is_measured():
    model = keras.Sequential([keras.Input((16, 16, 512)), L.Conv2D(512, 1, name="wide")])
    layers = kc.explain_learn_groups(model, budget=0.8, target="measure")
    assert layers.learned == ("wide",)
    assert 0 < layers.share <= 0.8
    assert "of the time, as measured here" in str(layers)


WRONG = {
    "nothing": ({"budget": 0}, r"`budget` \(=0\) must be a number above 0 and below 1, .* Use 0\.6"),
    "all": ({"budget": 1}, r"`budget` \(=1\) must be a number above 0 and below 1"),
    "more": ({"budget": 1.5}, r"`budget` \(=1\.5\) must be a number above 0 and below 1"),
    "no number": ({"budget": "x"}, r"`budget` \(='x'\) must be a number above 0 and below 1"),
    "a truth value": ({"budget": True}, r"`budget` \(=True\) must be a number above 0"),
    "not a number": ({"budget": float("nan")}, r"`budget` \(=nan\) must be a number above 0"),
    "groups too": ({"budget": 0.5, "groups": 4}, r"`groups` \(=4\) must be left out with a `budget`, which chooses"),
    "factor too": ({"budget": 0.5, "condense_factor": 2}, r"`condense_factor` \(=2\) must be left out with a `budget`"),
    "target": ({"budget": 0.5, "target": "vax"}, r"`target` \(='vax'\) must be one of 'arm64', .*'measure'\. Use"),
    "quantize": ({"target": "arm64", "quantize": "int4"}, r"`quantize` \(='int4'\) must be one of None, .*\. Leave it"),
    "quantize alone": ({"quantize": "int8"}, r"`quantize` \(='int8'\) must come with a `target`, .*\. Give"),
    "measure": ({"target": "measure", "quantize": "int8"}, r"`quantize` \(='int8'\) must be left out with target='mea"),
    "sensitivity alone": (
        {"sensitivity": {"expand": 1}},
        r"`sensitivity` \(=.*\) must come with a `budget`, .*\. Give",
    ),
    "sensitivity": ({"budget": 0.5, "sensitivity": 3}, r"`sensitivity` \(=3\) must be a mapping from .*\. Leave it"),
    "an unknown layer": (
        {"budget": 0.5, "sensitivity": {"expnd": 1}},
        r"`sensitivity` \(of 'expnd'\) must be of convolutions of model 'net', .*\. Use 'expand' that",
    ),
    "no name": ({"budget": 0.5, "sensitivity": {3: 1}}, r"`sensitivity` \(of 3\) must be of convolutions of model"),
    "no accuracy": (
        {"budget": 0.5, "sensitivity": {"expand": float("nan")}},
        r"`sensitivity` \(of 'expand': nan\) must be a finite number, .*\. Leave",
    ),
}


@pytest.mark.parametrize("function", [kc.learn_groups, kc.explain_learn_groups])
@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG)
def test_wrong_arguments(function, arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        function(network(), **arguments)
    assert THREE_PARTS.fullmatch(str(error.value))
