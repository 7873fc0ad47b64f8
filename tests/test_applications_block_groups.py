"""CondenseNet with groups, condense factors and bottlenecks of each block's own."""

import pytest

from keras_condense import condense, profile_model
from keras_condense.applications import CondenseNet, CondenseNetImageNet74G8, CondenseNetPhone
from keras_condense.layers import GroupConv2D, LearnedGroupConv2D

SMALL = {"stem_strides": 1, "input_shape": (16, 16, 3), "classes": 10, "weights": None}


def layer(model, block, part):
    return model.get_layer(f"block{block}_layer1_{part}_conv")


def test_each_block_has_its_own():
    model = CondenseNet(
        (1, 2), (8, 16), groups=(8, 1), condense_factor=(2, 4), bottleneck_factor=(4, 2), window_groups=(8, 4), **SMALL
    )
    assert [layer(model, block, 1).groups for block in (1, 2)] == [8, 1]
    assert [layer(model, block, 1).condense_factor for block in (1, 2)] == [2, 4]
    assert [layer(model, block, 1).kernel.shape[-1] for block in (1, 2)] == [32, 32]
    assert [layer(model, block, 2).groups for block in (1, 2)] == [8, 4]


def test_one_number_is_that_of_all_blocks():
    one = CondenseNet((1, 1), (8, 16), groups=4, condense_factor=2, **SMALL)
    each = CondenseNet((1, 1), (8, 16), groups=(4, 4), condense_factor=[2, 2], window_groups=4, **SMALL)
    assert [weight.shape for weight in one.weights] == [weight.shape for weight in each.weights]
    configs = [[layer.get_config() for layer in model.layers[1:]] for model in (one, each)]
    assert configs[0] == configs[1]


def test_multiply_adds_of_one_group_are_those_of_four():
    """C decides how many connections are kept, G how many choices there are."""
    four, one = (
        profile_model(condense(CondenseNet((2,), (8,), groups=g, window_groups=4, **SMALL), finish=True)).macs
        for g in (4, 1)
    )
    assert four == one


def test_the_network_for_phones_has_the_multiply_adds_of_the_papers():
    ours, papers = CondenseNetPhone(), CondenseNetImageNet74G8()
    grouped = [layer for layer in ours.layers if isinstance(layer, (LearnedGroupConv2D, GroupConv2D))]
    assert {(type(layer), layer.groups) for layer in grouped} == {(LearnedGroupConv2D, 1), (GroupConv2D, 4)}
    macs = [profile_model(condense(model, finish=True)).macs for model in (ours, papers)]
    assert macs[0] == macs[1] == 261_545_792
    other = CondenseNetPhone(input_shape=(64, 64, 3), classes=5, condense_factor=2, bottleneck_factor=4)
    assert (other.output_shape, layer(other, 1, 1).condense_factor) == ((None, 5), 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groups": (4,)}, r"`groups` \(=\(4,\)\) must be one number, or one for each of 2 blocks"),
        ({"groups": (4, 0)}, r"`groups\[1\]` \(=0\) must be a positive integer"),
        ({"condense_factor": "44"}, r"`condense_factor` \(='44'\) must be a positive integer"),
        ({"window_groups": (3, 4)}, r"`growth_rates\[0\]` \(=8\) must be divisible by `groups` \(=3\)"),
        ({"window_groups": (4, 4, 4)}, r"`window_groups` \(=\(4, 4, 4\)\) must be one number, or one for each of 2"),
        (
            {"groups": 64, "window_groups": 4},
            r"`bottleneck_factor\[0\] \* growth_rates\[0\]` \(=32\) must be divisible by `groups` \(=64\)",
        ),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        CondenseNet((1, 1), (8, 16), **arguments, **SMALL)
