"""Arguments of the families' own: any that fit build a network, and all others are refused with reasons."""

import functools
import re

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import THREE_PARTS

from keras_condense.applications import CondenseNet, CondenseNetLight, DenseNet, densenet_stages
from keras_condense.layers import CondenseDense


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def predict(model: keras.Model, x: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(x, training=False))


# --------------------------------------------------------------------------------------------------------------- errors


DENSENET_WRONG = {
    "no stages": ({"stages": ()}, r"`stages` \(=\(\)\) must be a sequence of positive integers"),
    "stages text": ({"stages": "666"}, r"`stages` \(='666'\) must be a sequence"),
    "empty stage": ({"stages": (2, 0)}, r"`stages\[1\]` \(=0\) must be a positive integer"),
    "growth": ({"growth_rate": 2.5}, r"`growth_rate` \(=2.5\) must be a positive integer"),
    "bottleneck": ({"bottleneck": 4}, r"`bottleneck` \(=4\) must be one of True, False"),
    "compression": ({"compression": 2}, r"`compression` \(=2\) must be a number in \[0, 1\]"),
    "nothing left": ({"compression": 0.01}, r"`compression` \(=0.01\) must leave a channel"),
    "dropout": ({"dropout_rate": 1.0}, r"`dropout_rate` \(=1.0\) must be a number in \[0, 1\)"),
    "stem": ({"stem": "svhn"}, r"`stem` \(='svhn'\) must be one of 'imagenet', 'cifar'"),
}
CONDENSENET_WRONG = {
    "lengths": ({"growth_rates": (4,)}, r"`growth_rates` \(of 1 values\) must be as long as `stages` \(of 2\)"),
    "growth": ({"growth_rates": (4, 0)}, r"`growth_rates\[1\]` \(=0\) must be a positive integer"),
    "growth of no groups": (
        {"growth_rates": (4, 6)},
        r"`growth_rates\[1\]` \(=6\) must be divisible by `groups` \(=4\)",
    ),
    "condense factor": (
        {"condense_factor": 3},
        r"`in_channels of block1_layer1_1_conv` \(=8\) must be divisible by `condense_factor` \(=3\)",
    ),
    "groups": ({"groups": 0}, r"`groups` \(=0\) must be a positive integer"),
    "bottleneck": ({"bottleneck_factor": -1}, r"`bottleneck_factor` \(=-1\) must be a positive integer"),
    "strides": ({"stem_strides": "2"}, r"`stem_strides` \(='2'\) must be a positive integer"),
    "dropout": ({"dropout_rate": -0.1}, r"`dropout_rate` \(=-0.1\) must be a number in \[0, 1\)"),
    "lasso": ({"group_lasso": -1.0}, r"`group_lasso` \(=-1.0\) must be a finite number"),
    "classifier": (
        {"classifier_condense_factor": 5},
        r"`inputs of the classifier` \(=24\) must be divisible by `classifier_condense_factor` \(=5\)",
    ),
}


LIGHT = {"stages": (1, 2), "growth_rate": 4, "input_shape": (16, 16, 3), "classes": 3}
CONDENSENET_LIGHT_WRONG = {
    "no stages": ({"stages": ()}, r"`stages` \(=\(\)\) must be a sequence of positive integers"),
    "a stage of none": ({"stages": (2, 0)}, r"`stages\[1\]` \(=0\) must be a positive integer"),
    "growth": ({"growth_rate": 0}, r"`growth_rate` \(=0\) must be a positive integer"),
    "growth a row": ({"growth_rate": (8, 16)}, r"`growth_rate` \(=\(8, 16\)\) must be a positive integer"),
    "growth of no groups": ({"growth_rate": 6}, r"`growth_rate` \(=6\) must be divisible by `groups` \(=4\)"),
    "groups": ({"groups": 0}, r"`groups` \(=0\) must be a positive integer"),
    "condense factor": (
        {"condense_factor": 3},
        r"`in_channels of block1_layer1_1_conv` \(=8\) must be divisible by `condense_factor` \(=3\)",
    ),
    "condense factor of a transition": (
        {"condense_factor": 8},
        r"`in_channels of transition1_conv` \(=12\) must be divisible by `condense_factor` \(=8\)",
    ),
    "condense factor after a transition": (
        {"groups": 1, "condense_factor": 4},
        r"`in_channels of block2_layer1_1_conv` \(=6\) must be divisible by `condense_factor` \(=4\)",
    ),
    "bottleneck": ({"bottleneck_factor": 1.5}, r"`bottleneck_factor` \(=1.5\) must be a positive integer"),
    "compression": ({"compression": 2}, r"`compression` \(=2\) must be a number in \[0, 1\]"),
    "no compression": ({"compression": 0.0}, r"`compression` \(=0.0\) must be a finite number above 0"),
    "strides": ({"stem_strides": "2"}, r"`stem_strides` \(='2'\) must be a positive integer"),
    "dropout": ({"dropout_rate": 1}, r"`dropout_rate` \(=1\) must be a number in \[0, 1\)"),
    "lasso": ({"group_lasso": -1.0}, r"`group_lasso` \(=-1.0\) must be a finite number"),
    "classifier": (
        {"classifier_condense_factor": 5},
        r"`inputs of the classifier` \(=16\) must be divisible by `classifier_condense_factor` \(=5\)",
    ),
    "weights": ({"weights": "imagenet"}, r"`weights` \(='imagenet'\) must be None or the path"),
    "image": ({"input_shape": (1, 8, 3)}, r"`input_shape` \(=\(1, 8, 3\)\) must be at least 2x2"),
}


@pytest.mark.parametrize(
    ("constructor", "arguments", "message"),
    [
        (functools.partial(DenseNet, **{"stages": (2, 2), "growth_rate": 2} | a), a, m)
        for a, m in DENSENET_WRONG.values()
    ]
    + [
        (functools.partial(CondenseNet, **{"stages": (2, 1), "growth_rates": (4, 8)} | a), a, m)
        for a, m in CONDENSENET_WRONG.values()
    ]
    + [(functools.partial(CondenseNetLight, **LIGHT | a), a, m) for a, m in CONDENSENET_LIGHT_WRONG.values()],
    ids=[f"densenet {key}" for key in DENSENET_WRONG]
    + [f"condensenet {key}" for key in CONDENSENET_WRONG]
    + [f"condensenet light {key}" for key in CONDENSENET_LIGHT_WRONG],
)
def test_wrong_architectures(constructor, arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        constructor()
    assert THREE_PARTS.fullmatch(str(error.value))


# -------------------------------------------------------------------------------------------------------- any arguments


PROPERTY = settings(derandomize=True, deadline=None, max_examples=40)


def shrunk(size: int, halvings: int) -> int:
    return functools.reduce(lambda n, _: n // 2, range(halvings), size)


@PROPERTY
@given(
    stages=st.lists(st.integers(1, 2), min_size=1, max_size=3),
    growth_rates=st.lists(st.sampled_from([2, 4, 6, 8]), min_size=1, max_size=3),
    groups=st.sampled_from([1, 2, 4]),
    condense_factor=st.sampled_from([1, 2, 3, 4]),
    bottleneck_factor=st.integers(1, 4),
    stem_strides=st.integers(1, 3),
    classifier_condense_factor=st.sampled_from([1, 2, 3]),
    include_top=st.booleans(),
    size=st.integers(1, 12),
)
def test_any_condensenet_is_built_or_refused_with_reasons(
    stages, growth_rates, groups, condense_factor, classifier_condense_factor, include_top, size, stem_strides,
    bottleneck_factor,
):  # fmt: skip
    growth_rates = (growth_rates * 3)[: len(stages)] if len(growth_rates) > 1 else growth_rates
    channels = [2 * growth_rates[0]]
    for layers, growth_rate in zip(stages, growth_rates, strict=False):
        channels += [channels[-1] + (i + 1) * growth_rate for i in range(layers)]
    smallest = shrunk(-(-size // stem_strides), len(stages) - 1)
    fits = (
        len(stages) == len(growth_rates)
        and not any(growth_rate % groups for growth_rate in growth_rates)
        and not any(width % condense_factor for width in channels[:-1])
        and not (include_top and channels[-1] % classifier_condense_factor)
        and smallest > 0
    )
    arguments = {
        "groups": groups,
        "condense_factor": condense_factor,
        "bottleneck_factor": bottleneck_factor,
        "stem_strides": stem_strides,
        "classifier_condense_factor": classifier_condense_factor,
        "include_top": include_top,
        "input_shape": (size, size + 1, 3),
        "classes": 3,
    }
    if not fits:
        with pytest.raises(ValueError, match=THREE_PARTS):
            CondenseNet(stages, growth_rates, **arguments)
        return
    model = CondenseNet(stages, growth_rates, **arguments)
    outputs = predict(model, images(2, size, size + 1, 3))
    wide = shrunk(-(-(size + 1) // stem_strides), len(stages) - 1)
    assert outputs.shape == ((2, 3) if include_top else (2, smallest, wide, channels[-1]))
    assert np.isfinite(outputs).all()
    if include_top:
        assert isinstance(model.get_layer("predictions"), CondenseDense) == (classifier_condense_factor > 1)


@PROPERTY
@given(
    stages=st.lists(st.integers(1, 2), min_size=1, max_size=3),
    growth_rate=st.integers(1, 5),
    bottleneck=st.booleans(),
    compression=st.sampled_from([0.05, 0.3, 0.5, 1.0, 1.5]),
    dropout_rate=st.sampled_from([0.0, 0.2]),
    stem=st.sampled_from(["imagenet", "cifar"]),
    include_top=st.booleans(),
    size=st.integers(1, 20),
)
def test_any_densenet_is_built_or_refused_with_reasons(
    stages, growth_rate, bottleneck, compression, dropout_rate, stem, include_top, size
):
    wide_stem = stem == "imagenet" or (bottleneck and compression < 1)
    channels = [2 * growth_rate if wide_stem else 16]
    for layers in stages[:-1]:
        channels.append(int((channels[-1] + layers * growth_rate) * compression))
    features = channels[-1] + stages[-1] * growth_rate
    halvings = len(stages) - 1
    smallest = size // 2 ** (halvings + (2 if stem == "imagenet" else 0))
    arguments = {
        "bottleneck": bottleneck,
        "compression": compression,
        "dropout_rate": dropout_rate,
        "stem": stem,
        "include_top": include_top,
        "input_shape": (size, size, 3),
        "classes": 3,
    }
    if compression > 1 or 0 in channels or smallest == 0:
        with pytest.raises(ValueError, match=THREE_PARTS):
            DenseNet(stages, growth_rate, **arguments)
        return
    model = DenseNet(stages, growth_rate, **arguments)
    outputs = predict(model, images(2, size, size, 3))
    assert outputs.shape[0] == 2
    assert outputs.shape[-1] == (3 if include_top else features)
    assert np.isfinite(outputs).all()


@PROPERTY
@given(layers=st.integers(1, 60), blocks=st.integers(1, 5), bottleneck=st.booleans())
def test_depth_counts_convolutions_and_the_classifier(layers, blocks, bottleneck):
    depth = 1 + blocks * layers * (1 + bottleneck) + (blocks - 1) + 1
    assert densenet_stages(depth, blocks, bottleneck) == (layers,) * blocks


@PROPERTY
@given(depth=st.integers(-5, 120), blocks=st.integers(1, 5), bottleneck=st.booleans())
def test_other_depths_are_refused_with_depths_that_work(depth, blocks, bottleneck):
    layers, left = divmod(depth - blocks - 1, blocks * (1 + bottleneck))
    if layers >= 1 and not left:
        assert densenet_stages(depth, blocks, bottleneck) == (layers,) * blocks
        return
    with pytest.raises(ValueError, match=THREE_PARTS) as error:
        densenet_stages(depth, blocks, bottleneck)
    suggested = re.search(r"Use (\d+) or (\d+)\.", str(error.value))
    for number in suggested.groups() if suggested else ():
        assert densenet_stages(int(number), blocks, bottleneck)
