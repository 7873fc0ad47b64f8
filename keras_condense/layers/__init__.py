"""Layers: state and call; which stage they are in is the callback's business."""

from keras_condense.layers.augmentation import AugmentedImages
from keras_condense.layers.channels import ChannelIndex, ChannelScatterAdd, ChannelShuffle
from keras_condense.layers.convolution import GroupConv2D
from keras_condense.layers.dense import CondenseDense
from keras_condense.layers.fake_quantization import FakeQuantize, QuantizedBatchNormalization
from keras_condense.layers.learned_connections import LearnedConnections, condensable_layers, frozen_layers
from keras_condense.layers.learned_convolution import LearnedGroupConv2D
from keras_condense.layers.normalization import BatchNormalization
from keras_condense.layers.pruned import PrunedConv2D, PrunedDense
from keras_condense.layers.quantized import QuantizedKernel
from keras_condense.layers.reactivation import SparseFeatureReactivation
from keras_condense.layers.shared import SharedConv2D, SharedDense, SharedDepthwiseConv2D, SharedKernel
from keras_condense.layers.stand_in import StandIn, stand_ins

LearnedGroupConv = LearnedGroupConv2D  # the paper's name
LearnedInputs, learned_layers = LearnedConnections, condensable_layers  # former names

__all__ = [
    "AugmentedImages",
    "BatchNormalization",
    "ChannelIndex",
    "ChannelScatterAdd",
    "ChannelShuffle",
    "CondenseDense",
    "FakeQuantize",
    "GroupConv2D",
    "LearnedConnections",
    "LearnedGroupConv",
    "LearnedGroupConv2D",
    "LearnedInputs",
    "PrunedConv2D",
    "PrunedDense",
    "QuantizedBatchNormalization",
    "QuantizedKernel",
    "SharedConv2D",
    "SharedDense",
    "SharedDepthwiseConv2D",
    "SharedKernel",
    "SparseFeatureReactivation",
    "StandIn",
    "condensable_layers",
    "frozen_layers",
    "learned_layers",
    "stand_ins",
]
