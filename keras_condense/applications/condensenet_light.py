"""CondenseNet-light: a DenseNet-BC whose 1x1 convolutions learn their groups, those of the transitions too.

It is what learned group convolutions alone make of a DenseNet (Huang et al., "CondenseNet: An Efficient DenseNet using
Learned Group Convolutions", CVPR 2018, arXiv:1711.09224, figure 6); CondenseNet itself has fully dense connectivity and
an increasing growth rate besides.
"""

import math
from collections.abc import Sequence

import keras

from keras_condense.applications.contract import Contract
from keras_condense.applications.families import Family, SharedKeywords, Unpack
from keras_condense.applications.imagenet import decode_predictions, preprocess_input
from keras_condense.applications.parts import (
    check_positive_integers,
    classifier,
    dense_layer,
    kernel_initializer,
    normalize,
    stem,
)
from keras_condense.layers import LearnedGroupConv2D
from keras_condense.validation import check_divisible, check_fraction, check_not_negative, check_positive_integer

FAMILY = Family(__name__)


@FAMILY.constructor(takes_memory_efficient=True)
def CondenseNetLight(
    stages: Sequence[int],
    growth_rate: int = 16,
    groups: int = 4,
    condense_factor: int = 4,
    bottleneck_factor: int = 4,
    compression: float = 0.5,
    stem_strides: int = 1,
    dropout_rate: float = 0.0,
    group_lasso: float = 0.0,
    classifier_condense_factor: int = 1,
    **shared: Unpack[SharedKeywords],
) -> keras.Model:
    """Build a CondenseNet-light as it is trained: with learned group convolutions, nothing pruned yet.

    A 3x3 stem to 2k channels, and the layers of `CondenseNet`, of the same growth rate k in every block. Between blocks
    stands a transition in the place of CondenseNet's pooling of the whole concatenation: BN, ReLU, learned 1x1 group
    convolution to `compression` of the channels, 2x2 average pooling. Train it with
    `keras_condense.callbacks.CondenseSchedule`, then shrink it with `keras_condense.condense`.

    Weights are drawn as in `CondenseNet`.

    Args:
        stages: the number of layers of each dense block.
        growth_rate: k, the channels that each layer adds.
        groups: groups of the learned 1x1 and of the 3x3 convolutions.
        condense_factor: C; the condensed network keeps 1/C of the learned convolutions' connections.
        bottleneck_factor: outputs of a layer's learned 1x1 convolution are this many times k.
        compression: the share of channels that a transition keeps, in (0, 1], rounded up to a multiple of `groups`.
        stem_strides: strides of the first convolution: 1 for images of about 32x32 pixels, 2 for ImageNet.
        dropout_rate: share of activations dropped before each learned convolution but the transitions'.
        group_lasso: weight of the group lasso in the loss.
        classifier_condense_factor: F; above 1 the classifier is a `keras_condense.layers.CondenseDense`, of whose
            inputs 1/F are left once it is condensed, those of the largest weights. Until then it is a dense layer.
        weights: None (random), or the path of a `.weights.h5` or `.keras` file. "imagenet" is refused: none are
            published.
        input_shape: (height, width, channels); height and width may be None if `include_top` is False. By default
            (32, 32, 3), and (224, 224, 3) with `stem_strides` above 1; (None, None, 3) without the classifier.
        **shared: what every constructor takes, described in `shared.SharedArguments`.

    Returns:
        The model, not compiled.

    Raises:
        ValueError: a bad argument, numbers of channels that the groups or the condense factor don't divide, or a
            file of weights that is broken or another network's.

    Example:
        >>> model = CondenseNetLight((2, 2), growth_rate=8, input_shape=(16, 16, 3), classes=10)
        >>> model.output_shape
        (None, 10)
        >>> tuple(model.get_layer("transition1_conv").kernel.shape)  # height, width, in, filters
        (1, 1, 32, 16)
        >>> CondenseNetLight((2, 2), growth_rate=6)
        Traceback (most recent call last):
        ...
        ValueError: `growth_rate` (=6) must be divisible by `groups` (=4). Use 4 or 8, ...
    """
    stages = check_positive_integers("stages", stages, "Give the layers of each block, for instance (15, 15, 15).")
    for argument, value, fix in (
        ("growth_rate", growth_rate, "The paper has 16."),
        ("groups", groups, "The paper has 4; 1 turns them off."),
        ("condense_factor", condense_factor, "The paper has 4; 1 keeps all connections."),
        ("bottleneck_factor", bottleneck_factor, "The paper has 4."),
        ("stem_strides", stem_strides, "Use 1 for small images, 2 for ImageNet's."),
        ("classifier_condense_factor", classifier_condense_factor, "The paper has 2; 1 keeps all inputs."),
    ):
        check_positive_integer(argument, value, fix)
    compression = check_fraction("compression", compression, "Use 0.5, or 1.0 to keep all channels.")
    check_not_negative("compression", compression, "Use 0.5, or 1.0 to keep all channels.", above_zero=True)
    dropout_rate = check_fraction("dropout_rate", dropout_rate, "Use 0.0 or 0.1.", below_one=True)
    classifier_factor = classifier_condense_factor if shared["include_top"] else 1
    _check_channels(stages, growth_rate, groups, condense_factor, compression, classifier_factor)
    contract = Contract(
        default_size=32 if stem_strides == 1 else 224,
        # the stem makes ceil(size / strides), each pooling floor(size / 2)
        min_size=stem_strides * (2 ** (len(stages) - 1) - 1) + 1,
        **shared,
    )
    learned = {"groups": groups, "condense_factor": condense_factor, "group_lasso": group_lasso}
    image = contract.image()
    x = stem(image, 2 * growth_rate, stem_strides)
    for block, layers in enumerate(stages, start=1):
        if block > 1:
            x = _transition(x, _compressed(x.shape[-1], compression, groups), learned, f"transition{block - 1}")
        for layer in range(1, layers + 1):
            x = dense_layer(
                x,
                growth_rate,
                **learned,
                bottleneck_factor=bottleneck_factor,
                dropout_rate=dropout_rate,
                name=f"block{block}_layer{layer}",
            )
    return contract.model(image, normalize(x, ""), classifier(classifier_condense_factor))


def _transition(x: keras.KerasTensor, filters: int, learned: dict[str, int | float], name: str) -> keras.KerasTensor:
    x = normalize(x, f"{name}_")
    convolution = LearnedGroupConv2D(
        filters, 1, **learned, kernel_initializer=kernel_initializer(), name=f"{name}_conv"
    )
    return keras.layers.AveragePooling2D(2, name=f"{name}_pool")(convolution(x))


def _compressed(channels: int, compression: float, groups: int) -> int:
    """Channels that a transition keeps.

    >>> _compressed(376, 0.5, groups=4), _compressed(12, 0.5, groups=4)
    (188, 8)
    """
    return groups * math.ceil(channels * compression / groups)


def _check_channels(
    stages: tuple[int, ...],
    growth_rate: int,
    groups: int,
    condense_factor: int,
    compression: float,
    classifier_factor: int,
) -> None:
    """Raise for the first layer whose channels can't be divided evenly; they all follow from the arguments."""
    multiple = max(growth_rate // groups, 1) * groups
    # then `bottleneck_factor` * k, the learned convolutions' filters, is divisible as well
    check_divisible(
        "growth_rate",
        growth_rate,
        "groups",
        groups,
        f"Use {multiple} or {multiple + groups}, because the 3x3 convolutions have {groups} groups.",
    )
    channels = 2 * growth_rate
    for block, layers in enumerate(stages, start=1):
        learned = [f"block{block}_layer{layer}_1_conv" for layer in range(1, layers + 1)]
        if block < len(stages):
            learned.append(f"transition{block}_conv")
        for layer, name in enumerate(learned):
            check_divisible(
                f"in_channels of {name}",
                channels + layer * growth_rate,
                "condense_factor",
                condense_factor,
                f"Make `growth_rate` and `groups` multiples of {condense_factor}.",
            )
        channels += layers * growth_rate
        if block < len(stages):
            channels = _compressed(channels, compression, groups)
    check_divisible(
        "inputs of the classifier",
        channels,
        "classifier_condense_factor",
        classifier_factor,
        "Use 1 or 2, or change `stages` or `growth_rate`.",
    )


CondenseNetLight94 = FAMILY.variant(
    CondenseNetLight,
    "CondenseNetLight94",
    {"stages": (15, 15, 15)},
    doc="Build CondenseNet-light-94: `CondenseNetLight((15, 15, 15))`; condensing halves the classifier's inputs.",
    defaults={
        "classes": 10,
        "groups": 4,
        "condense_factor": 4,
        "dropout_rate": 0.0,
        "group_lasso": 0.0,
        "classifier_condense_factor": 2,
        "memory_efficient": False,
    },
    network="CondenseNet-light-94",
    parameters="0.33M",
    operations="122M",
    rule="operations",
    condensed=True,
    error="5.00",
    source="arXiv:1711.09224; github.com/ShichenLiu/CondenseNet",
)

__all__ = ["FAMILY", *FAMILY.constructors, "decode_predictions", "preprocess_input"]
