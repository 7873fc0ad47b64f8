"""How constructors are made: a named network is one row, and the shared arguments are written once."""

import dataclasses
import inspect
import typing

import keras
import pytest
from networks import THREE_PARTS

from keras_condense import applications
from keras_condense.applications import condensenet, zoo
from keras_condense.applications.architectures import architecture
from keras_condense.applications.families import FAMILIES, Family, Unpack, constructors, find_constructor
from keras_condense.applications.pretrained import available, weights_of
from keras_condense.applications.shared import SharedArguments, SharedKeywords


@pytest.fixture
def family(monkeypatch) -> Family:
    """The family of CondenseNet, which forgets after the test what it learned in it."""
    monkeypatch.setattr(condensenet.FAMILY, "constructors", dict(condensenet.FAMILY.constructors))
    monkeypatch.setattr(condensenet.FAMILY, "figures", list(condensenet.FAMILY.figures))
    return condensenet.FAMILY


def test_a_named_network_is_one_row(family):
    made = family.variant(
        condensenet.CondenseNet,
        "CondenseNetMadeUp",
        {"stages": (1, 1), "growth_rates": (4, 8), "stem_strides": 1},
        doc="Build CondenseNetMadeUp: `CondenseNet((1, 1), (4, 8))`.",
        defaults={"classes": 5, "groups": 2, "dropout_rate": 0.0, "memory_efficient": False},
        network="CondenseNet-made-up",
        parameters="1.5K",
        operations="0.1M",
        rule="operations",
        condensed=True,
        error="50.0",
        source="here",
    )
    # in the table, in its family, with the published figures beside those of the network that is built
    (row,) = applications.table(["CondenseNet-made-up"]).rows
    assert (row.family, row.constructor) == ("condensenet", "CondenseNetMadeUp")
    assert (row.published_parameters, row.published_operations, row.published_error) == ("1.5K", "0.1M", "50.0")
    assert 0 < row.parameters < made().count_params()
    assert applications.table(["CondenseNetMadeUp"]).rows == (row,)
    assert zoo.published().count(family.figures[-1]) == 1
    # among the constructors, and built by its name
    assert find_constructor("CondenseNetMadeUp") is constructors()["CondenseNetMadeUp"] is made
    model = find_constructor("CondenseNetMadeUp")(input_shape=(8, 8, 3), groups=4)
    assert (model.name, model.output_shape) == ("condensenetmadeup", (None, 5))
    assert model.get_layer("block1_layer1_1_conv").groups == 4
    assert made().input_shape == (None, 32, 32, 3)
    # known to the tables of weights, which compare architectures
    arguments = {"stages": [1, 1], "growth_rates": [4, 8], "stem_strides": 1, "groups": 2}
    assert architecture("CondenseNetMadeUp", {}) == architecture("CondenseNet", arguments)
    assert weights_of("CondenseNetMadeUp") == ()
    assert "CondenseNetImageNet74G8() ('imagenet')" in available("CondenseNetMadeUp")
    with pytest.raises(ValueError, match="no trained weights of this network are published"):
        made(weights="cifar10")
    # what help() shows
    assert list(inspect.signature(made).parameters) == [
        *(field.name for field in dataclasses.fields(SharedArguments) if field.name != "memory_efficient"),
        *("groups", "dropout_rate", "memory_efficient"),
    ]
    assert inspect.getdoc(made) == (
        "Build CondenseNetMadeUp: `CondenseNet((1, 1), (4, 8))`. The arguments are those of `CondenseNet`."
    )


@pytest.fixture
def tiny(monkeypatch):
    """The general constructor of a family of its own."""
    monkeypatch.setitem(FAMILIES, "tiny", None)
    family = Family("somewhere.tiny")

    @family.constructor(takes_memory_efficient=True, weights="imagenet")
    def TinyNet(depth: int, width: float = 1.0, *, padded: bool = False, **shared: Unpack[SharedKeywords]):
        """Build a network.

        In a few words.

        Args:
            depth: how deep
                it is.
            width: how wide.
            input_shape: that of the images.
            padded: whether it pads.
            **shared: what every constructor takes.

        Returns:
            What it was called with.
        """
        return {"depth": depth, "width": width, "padded": padded} | shared

    return TinyNet


def test_the_shared_arguments_stand_between_a_familys_own(tiny):
    parameters = inspect.signature(tiny).parameters.values()
    positional = {p.name: p.default for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD}
    assert list(positional.items()) == [
        ("depth", inspect.Parameter.empty), ("width", 1.0), ("include_top", True), ("weights", "imagenet"),
        ("input_tensor", None), ("input_shape", None), ("pooling", None), ("classes", 1000),
        ("classifier_activation", "softmax"), ("name", "tinynet"),
    ]  # fmt: skip
    keywords = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert list(keywords.items()) == [("padded", False), ("memory_efficient", False)]
    assert inspect.signature(tiny).return_annotation is keras.Model
    assert all(p.annotation == typing.get_type_hints(tiny)[p.name] for p in parameters)
    assert typing.get_type_hints(tiny)["classes"] is int
    assert tiny.__module__ == "somewhere.tiny"
    called = tiny(3, 0.5, False, None, padded=True, classes=7)
    assert list(called) == ["depth", "width", "padded", *(field.name for field in dataclasses.fields(SharedArguments))]
    assert (called["width"], called["include_top"], called["weights"], called["padded"]) == (0.5, False, None, True)
    assert (called["classes"], called["name"]) == (7, "tinynet")


def test_docstrings_describe_every_argument_in_the_order_of_the_signature(tiny):
    assert inspect.getdoc(tiny) == (
        """Build a network.

In a few words.

Args:
    depth: how deep
        it is.
    width: how wide.
    include_top: whether the classifier is part of the model.
    weights: None (random), a data set for which `pretrained.WEIGHTS` has weights of the network, or the path of a
        `.weights.h5`, `.keras` or `.h5` file, or of one of pytorchcv, `.pth` or `.pth.zip`.
    input_tensor: a Keras tensor (batch, height, width, channels) to be used as the image.
    input_shape: that of the images.
    pooling: without the classifier: None for the feature map, "avg" or "max" for its global pooling.
    classes: outputs of the classifier.
    classifier_activation: the classifier's activation: a name, a callable, or None for logits.
    name: the model's name.
    padded: whether it pads.
    memory_efficient: as `DenseNet`'s: less memory in a training step for more time, and the same results.

Returns:
    What it was called with."""
    )


@pytest.mark.parametrize("name", constructors())
def test_every_general_constructor_describes_every_argument(name):
    function = find_constructor(name)
    doc = inspect.getdoc(function)
    if hasattr(function, "builds"):
        assert doc.endswith(f"The arguments are those of `{function.builds[0]}`.")
        return
    positions = [doc.index(f"\n    {parameter}: ") for parameter in inspect.signature(function).parameters]
    assert positions == sorted(positions)


def test_wrong_calls_name_the_constructor(tiny):
    with pytest.raises(TypeError, match=r"TinyNet\(\) got an unexpected keyword argument 'depht'"):
        tiny(3, depht=3)
    with pytest.raises(TypeError, match=r"TinyNet\(\) missing a required argument: 'depth'"):
        tiny()
    with pytest.raises(TypeError, match=r"CondenseNet50\(\) got an unexpected keyword argument 'stages'"):
        applications.CondenseNet50(stages=(1,))


def test_a_name_is_given_once(family):
    rows = list(family.figures)
    with pytest.raises(ValueError, match=r"`name` \(='CondenseNet50'\) must be new") as error:
        family.variant(condensenet.CondenseNet, "CondenseNet50", {}, doc="Another.", network="another", source="here")
    assert THREE_PARTS.fullmatch(str(error.value))
    assert family.figures == rows
    assert find_constructor("CondenseNet50") is applications.CondenseNet50


def test_editors_see_the_types_that_hold():
    assert typing.get_type_hints(SharedKeywords) == typing.get_type_hints(SharedArguments)
    assert list(SharedKeywords.__annotations__) == [field.name for field in dataclasses.fields(SharedArguments)]


def test_all_names_are_those_of_the_families():
    for family in FAMILIES.values():
        assert getattr(applications, family.name).FAMILY is family
        for name, function in family.constructors.items():
            assert getattr(applications, name) is function
            assert name in applications.__all__
    assert len(set(applications.__all__)) == len(applications.__all__)
    assert all(hasattr(applications, name) for name in applications.__all__)
    assert isinstance(applications.CondenseNet50(include_top=False), keras.Model)
