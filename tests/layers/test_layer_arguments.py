"""Arguments and inputs that no layer takes."""

import keras
import numpy as np
import pytest

from keras_condense.layers import (
    ChannelIndex,
    ChannelShuffle,
    CondenseDense,
    GroupConv2D,
    LearnedGroupConv2D,
)

pytest.importorskip("tensorflow")


BAD_ARGUMENTS = [
    (LearnedGroupConv2D, {"filters": 0, "kernel_size": 1}, r"`filters` \(=0\) must be a positive integer. Give"),
    (LearnedGroupConv2D, {"filters": 4.0, "kernel_size": 1}, r"`filters` \(=4.0\) must be a positive integer"),
    (LearnedGroupConv2D, {"filters": 4, "kernel_size": 0}, r"`kernel_size` \(=0\) must be a positive .* Give one"),
    (GroupConv2D, {"filters": 4, "kernel_size": (1, 2, 3)}, r"`kernel_size` \(=\(1, 2, 3\)\) must be one or two"),
    (GroupConv2D, {"filters": 4, "kernel_size": np.array([3, 3])}, r"`kernel_size` \(=array.* must be a positive"),
    (GroupConv2D, {"filters": 4, "kernel_size": 3, "strides": -1}, r"`strides` \(=-1\)"),
    (GroupConv2D, {"filters": 4, "kernel_size": 3, "dilation_rate": 0}, r"`dilation_rate` \(=0\)"),
    (GroupConv2D, {"filters": 4, "kernel_size": 3, "strides": 2, "dilation_rate": 2}, "must not both be above 1. Set"),
    (GroupConv2D, {"filters": 4, "kernel_size": 3, "padding": "causal"}, r"`padding` \(='causal'\) must be one of"),
    (GroupConv2D, {"filters": 4, "kernel_size": 3, "data_format": "channels_first"}, "Transpose channels-first images"),
    (GroupConv2D, {"filters": 6, "kernel_size": 3, "groups": 4}, r"`filters` \(=6\) must be divisible by `groups`"),
    (LearnedGroupConv2D, {"filters": 6, "kernel_size": 3}, r"`filters` \(=6\) must be divisible by `groups` \(=4\)"),
    (LearnedGroupConv2D, {"filters": 4, "kernel_size": 1, "groups": True}, r"`groups` \(=True\)"),
    (LearnedGroupConv2D, {"filters": 4, "kernel_size": 1, "condense_factor": 0}, r"`condense_factor` \(=0\).* One"),
    (
        LearnedGroupConv2D,
        {"filters": 4, "kernel_size": 1, "pruned_fraction": 0.3},
        r"`drops_at` \(=None\) must be a tuple of ascending numbers .*\. Use \(1 / 6, 1 / 3\)",
    ),
    (
        LearnedGroupConv2D,
        {"filters": 4, "kernel_size": 1, "pruned_fraction": 1, "drops_at": (0.5,)},
        r"`pruned_fraction` \(=1\) must be a number in \[0, 1\)\. Use 0\.3",
    ),
    (
        LearnedGroupConv2D,
        {"filters": 4, "kernel_size": 1, "condense_factor": 4, "pruned_fraction": 0.3, "drops_at": (0.5,)},
        r"`condense_factor` \(=4\) must be left out beside `pruned_fraction` \(=0\.3\), .*\. Use one",
    ),
    (CondenseDense, {"units": 4, "drops_at": (0.5, 0.5)}, r"`drops_at` \(=\(0\.5, 0\.5\)\) must be a tuple"),
    (LearnedGroupConv2D, {"filters": 4, "kernel_size": 1, "group_lasso": -1}, r"`group_lasso` \(=-1\).* Use 0"),
    (LearnedGroupConv2D, {"filters": 4, "kernel_size": 1, "group_lasso": float("nan")}, r"`group_lasso` \(=nan\)"),
    (LearnedGroupConv2D, {"filters": 4, "kernel_size": 1, "group_lasso": "1"}, r"`group_lasso` \(='1'\)"),
    (CondenseDense, {"units": None}, r"`units` \(=None\) must be a positive integer"),
    (CondenseDense, {"units": 4, "condense_factor": 1.5}, r"`condense_factor` \(=1.5\)"),
    (ChannelIndex, {"indices": []}, r"`indices` \(=\[\]\) must be a non-empty sequence .* Give the channels"),
    (ChannelIndex, {"indices": [0, -1]}, "none negative"),
    (ChannelIndex, {"indices": [0.5]}, "sequence of integers"),
    (ChannelIndex, {"indices": [[0], [1]]}, "sequence of integers"),
    (ChannelIndex, {"indices": [[0], [1, 2]]}, "sequence of integers"),
    (ChannelShuffle, {"groups": 0}, r"`groups` \(=0\) must be a positive integer"),
]


@pytest.mark.parametrize(("layer", "arguments", "message"), BAD_ARGUMENTS)
def test_bad_arguments(layer, arguments, message):
    with pytest.raises(ValueError, match=message):
        layer(**arguments)


BAD_INPUTS = [
    (LearnedGroupConv2D(4, 1, name="l"), (4, 4, 6), r"`in_channels` \(=6\) must be divisible by `condense_factor`"),
    (LearnedGroupConv2D(4, 1, name="l"), (4, 4, None), "channels known. Give `keras.Input` a full `shape`"),
    (GroupConv2D(4, 1, groups=4, name="l"), (4, 4, 6), r"`in_channels` \(=6\) must be divisible by `groups` .*'l'"),
    (GroupConv2D(4, 5, name="l"), (4, 4, 6), r"too small for its kernel of \(5, 5\) .* Use larger images"),
    (CondenseDense(4, name="l"), (7,), r"`in_channels` \(=7\) must be divisible by `condense_factor` \(=2\)"),
    (CondenseDense(4, name="l"), (None,), "last axis to be known"),
    (ChannelIndex([0, 4], name="l"), (4,), "reach channel 4, and its input .* has 4 channels. Choose"),
    (ChannelIndex([2**32 + 1], name="l"), (4,), "reach channel 4294967297"),
    (ChannelShuffle(3, name="l"), (4,), r"`channels` \(=4\) must be divisible by `groups` \(=3\). Change layer 'l'"),
    (ChannelShuffle(3, name="l"), (None,), "to be known"),
]  # fmt: skip


@pytest.mark.parametrize(("layer", "shape", "message"), BAD_INPUTS)
def test_inputs_that_do_not_fit(layer, shape, message):
    with pytest.raises(ValueError, match=message):
        type(layer).from_config(layer.get_config())(keras.Input(shape))
