"""Sparse-DenseNet: a DenseNet whose convolutions lose part of their inputs while it trains.

DenseNet is Huang et al., "Densely Connected Convolutional Networks", CVPR 2017, arXiv:1608.06993; what is dropped, and
when, is learned as in CondenseNet (arXiv:1711.09224, section 3.1), with one group.
"""

import functools
from collections.abc import Sequence

import keras

from keras_condense.applications.contract import Contract
from keras_condense.applications.densenet import dense_blocks, densenet_stages
from keras_condense.applications.families import Family, SharedKeywords, Unpack
from keras_condense.applications.imagenet import decode_predictions, preprocess_input
from keras_condense.applications.parts import check_positive_integers
from keras_condense.drop_plans import DropPlan
from keras_condense.layers import LearnedGroupConv2D
from keras_condense.validation import check_fraction, check_positive_integer

FAMILY = Family(__name__)

STEM_FILTERS = 16


@FAMILY.constructor()
def SparseDenseNet(
    stages: Sequence[int],
    growth_rate: int = 12,
    pruned_fraction: float = 0.3,
    drops_at: Sequence[float] = (1 / 6, 1 / 3),
    dropout_rate: float = 0.0,
    **shared: Unpack[SharedKeywords],
) -> keras.Model:
    """Build a Sparse-DenseNet as it is trained: nothing pruned yet.

    It is the plain `DenseNet` for images of about 32x32 pixels, without bottleneck and compression, in which each
    convolution but the stem, those of the transitions too, is a `keras_condense.layers.LearnedGroupConv2D` of one
    group. At every drop a convolution loses those of its input channels that have the least sum of |weight|. Train it
    with `keras_condense.callbacks.CondenseSchedule`, then shrink it with `keras_condense.condense`.

    Args:
        stages: the number of layers of each dense block.
        growth_rate: k, the channels that each layer adds.
        pruned_fraction: the share of its input channels that each convolution but the stem loses, in [0, 1).
        drops_at: the progress of the training, ascending in [0, 1), at which each drop falls; the drops are equally
            large. The default is epochs 50 and 100 of 300.
        dropout_rate: share of activations dropped after each convolution but the stem.
        weights: None (random), or the path of a `.weights.h5` or `.keras` file. "imagenet" is refused: none are
            published.
        input_shape: (height, width, channels); height and width may be None if `include_top` is False. By default
            (32, 32, 3); (None, None, 3) without the classifier.
        **shared: what every constructor takes, described in `shared.SharedArguments`.

    Returns:
        The model, not compiled.

    Raises:
        ValueError: a bad argument, or a file of weights that is broken or another network's.

    Example:
        >>> model = SparseDenseNet((2, 2), growth_rate=4, input_shape=(8, 8, 3), classes=10)
        >>> layer = model.get_layer("conv2_block2_2_conv")
        >>> tuple(layer.kernel.shape)  # height, width, inputs, filters
        (3, 3, 20, 4)
        >>> layer.condense_to(layer.final_stage), int(keras.ops.sum(layer.mask))
        (True, 14)
    """
    stages = check_positive_integers("stages", stages, "Give the layers of each block, for instance (12, 12, 12).")
    growth_rate = check_positive_integer("growth_rate", growth_rate, "The paper has 12.")
    dropout_rate = check_fraction("dropout_rate", dropout_rate, "Use 0.0 or 0.2.", below_one=True)
    plan = DropPlan(pruned_fraction, drops_at)
    contract = Contract(
        default_size=32,
        min_size=2 ** (len(stages) - 1),
        **shared,
    )
    image = contract.image()
    stem = keras.layers.Conv2D(STEM_FILTERS, 3, padding="same", use_bias=False, name="conv1_conv")(image)
    convolution = functools.partial(
        LearnedGroupConv2D, groups=1, pruned_fraction=plan.pruned_fraction, drops_at=plan.drops_at
    )
    features = dense_blocks(
        stem,
        stages,
        growth_rate,
        bottleneck=False,
        compression=1.0,
        dropout_rate=dropout_rate,
        convolution=convolution,
    )
    return contract.model(image, features)


# The published operations count multiplications and additions apart, as do the 530M of DenseNet-40 beside them: they
# are twice our multiply-adds. They, and 0.7M parameters, are reached only if the transitions' convolutions lose 30 % of
# their inputs like the others (else 400M and 0.8M); that every count is rounded down, so that int(0.7 * inputs) are
# left, makes it 369.5M, where rounding up would make it 372.5M.
SparseDenseNet40 = FAMILY.variant(
    SparseDenseNet,
    "SparseDenseNet40",
    {"stages": densenet_stages(40, bottleneck=False)},
    doc="Build Sparse-DenseNet-40: `SparseDenseNet((12, 12, 12))`.",
    defaults={"classes": 10},
    network="Sparse-DenseNet-40",
    parameters="0.7M",
    operations="370M",
    rule="2 macs",
    condensed=True,
    error="4.94 / 25.25",
    source="G. Huang et al., Sparse-DenseNet",
)

__all__ = ["FAMILY", *FAMILY.constructors, "decode_predictions", "preprocess_input"]
