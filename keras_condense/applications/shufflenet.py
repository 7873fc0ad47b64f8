"""ShuffleNet (Zhang et al., "ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices").

CVPR 2018, arXiv:1707.01083.
"""

import functools
from collections.abc import Mapping, Sequence

import keras

from keras_condense.applications.contract import Contract
from keras_condense.applications.families import Family, SharedKeywords, Unpack
from keras_condense.applications.imagenet import decode_predictions, preprocess_input
from keras_condense.applications.parts import EPSILON, MOMENTUM, check_positive_integers, squeeze_and_excite
from keras_condense.applications.published import Published
from keras_condense.layers import BatchNormalization, ChannelShuffle, GroupConv2D
from keras_condense.validation import check_choice, check_positive_integer

FAMILY = Family(__name__)

BOTTLENECK_FACTOR, SQUEEZE_FACTOR = 4, 16

# outputs of the first stage at width 1 by the number of groups (table 1 of the paper)
_FIRST_CHANNELS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
# The paper scales "the number of filters", and the authors' program the stem in these steps only. The operations of the
# paper's tables follow from them (292M at 1.5x, 13M at 0.25x) and not from 24 * width (300M, 11M).
# 0.75x is of pytorchcv, which has 0.75 * 24.
_STEM_FILTERS = {0.25: 12, 0.5: 12, 0.75: 18, 1.0: 24, 1.5: 24, 2.0: 48}
# With 12 filters in the stem, 8 groups could not share what the first unit adds to them. At 0.5x the authors' program
# has 16; for 0.25x there is none, and 8 comes nearest to the paper's 13M (12.4M; 15.7M with 16). With 18, 4 and 8
# groups could not.
_STEM_FILTERS_OF_GROUPS = {(8, 0.25): 8, (8, 0.5): 16, (4, 0.75): 20, (8, 0.75): 16}


@FAMILY.constructor()
def ShuffleNet(
    groups: int = 3,
    width: float = 1.0,
    squeeze_excitation: bool = False,
    stages: Sequence[int] = (4, 8, 4),
    *,
    stem_filters: int | None = None,
    **shared: Unpack[SharedKeywords],
) -> keras.Model:
    """Build a ShuffleNet (version 1).

    A 3x3 stem, stride 2, and 3x3 max pooling, stride 2; then units of 1x1 group convolution to a quarter of the unit's
    outputs, BN, ReLU, channel shuffle, 3x3 depthwise convolution, BN, 1x1 group convolution, BN; the input is added,
    then ReLU. The first unit of a stage has stride 2, and its input, halved by 3x3 average pooling, is concatenated to
    the new channels instead. The very first 1x1 convolution, which reads the stem, has no groups. Each stage doubles
    the channels; the more groups, the more channels at the same cost. Section 3 and table 1 of the paper.

    Where a quarter of a unit's outputs can't be divided evenly among the groups (2 and 4 groups at 0.25x, 0.5x and
    1.5x), the bottleneck has the nearest number that can, the larger of two equally near: the paper does not say.

    Squeeze-and-excitation (arXiv:1709.01507) scales the new channels before they meet the shortcut; its hidden layer
    is a sixteenth of them, as there.

    The authors' program feeds on BGR values as they are. `preprocess_input` normalises RGB images, as the published
    weights need it, which are pytorchcv's.

    Kernels of the stem and of the classifier are drawn from N(0, 0.01), the others from N(0, 1/n), n counting the input
    channels of a group, as in the authors' program.

    Args:
        groups: g, the groups of the 1x1 convolutions: 1, 2, 3, 4 or 8.
        width: s of "ShuffleNet sx": 0.25, 0.5, 0.75, 1, 1.5 or 2 times the channels. The paper has no 0.75, of which
            there are published weights.
        squeeze_excitation: whether each unit has a squeeze-and-excitation block (section 4.4).
        stages: the units of each stage; the paper's shallow network of section 4.4 has (2, 4, 2).
        weights: None (random), "imagenet" (trained by the authors of pytorchcv, for any `groups` at width 1, for 1
            and 3 groups at 0.5 and 0.75, and at 0.25 with `stem_filters` 6), or the path of a `.weights.h5`, `.keras`,
            `.pth` or `.pth.zip` file.
        input_shape: (height, width, channels); height and width may be None if `include_top` is False. By default
            (224, 224, 3), and (None, None, 3) without the classifier.
        stem_filters: filters of the first convolution, in place of the authors' for that width.
        **shared: what every constructor takes, described in `shared.SharedArguments`.

    Returns:
        The model, not compiled.

    Raises:
        ValueError: a bad argument, or a file of weights that is broken or another network's.

    Example:
        >>> model = ShuffleNet(groups=3, width=0.25, stages=(1, 1), input_shape=(32, 32, 3), classes=10)
        >>> model.output_shape
        (None, 10)
        >>> tuple(model.get_layer("stage3_unit1_1_conv").kernel.shape)  # height, width, inputs of a group, filters
        (1, 1, 20, 30)
        >>> ShuffleNet(groups=5)
        Traceback (most recent call last):
        ...
        ValueError: `groups` (=5) must be one of 1, 2, 3, 4, 8. Use one of those ...
    """
    groups = check_positive_integer("groups", groups, "Use the paper's 1, 2, 3, 4 or 8.")
    check_choice("groups", groups, _FIRST_CHANNELS, "Use one of those for which the paper gives channels.")
    check_choice("width", width, _STEM_FILTERS, "Use one of the paper's widths.")
    check_choice("squeeze_excitation", squeeze_excitation, (True, False), "Use True for the blocks of SENet.")
    stages = check_positive_integers("stages", stages, "Give the units of each stage; the paper has (4, 8, 4).")
    usual_stem = _STEM_FILTERS_OF_GROUPS.get((groups, width), _STEM_FILTERS[width])
    stem_filters = _check_stem(usual_stem if stem_filters is None else stem_filters, groups, width)
    contract = Contract(
        constructor="ShuffleNet",
        arguments={
            "groups": groups,
            "width": width,
            "squeeze_excitation": squeeze_excitation,
            "stages": stages,
            "stem_filters": None if stem_filters == usual_stem else stem_filters,
        },
        default_size=224,
        min_size=1,  # everything is padded: each stride makes ceil(size / 2)
        **shared,
    )
    image = contract.image()
    x = _stem(image, stem_filters)
    for stage, units in enumerate(stages, start=2):  # the stem is stage 1
        filters = int(_FIRST_CHANNELS[groups] * width) * 2 ** (stage - 2)
        for unit in range(1, units + 1):
            x = _shuffle_unit(
                x,
                filters,
                groups=groups,
                first_groups=1 if stage == 2 and unit == 1 else groups,
                strides=2 if unit == 1 else 1,
                squeeze_excitation=squeeze_excitation,
                name=f"stage{stage}_unit{unit}",
            )
    classifier = functools.partial(keras.layers.Dense, kernel_initializer=_normal(0.01))
    return contract.model(image, x, classifier)


def _check_stem(stem_filters: int, groups: int, width: float) -> int:
    check_positive_integer("stem_filters", stem_filters, "Leave it out for the authors' number.")
    new_filters = int(_FIRST_CHANNELS[groups] * width) - stem_filters  # which the first unit adds to the stem's
    if new_filters < groups or new_filters % groups:
        raise ValueError(
            f"`stem_filters` (={stem_filters}) must leave filters to the first unit that `groups` (={groups}) divides, "
            f"and leaves {new_filters} of {new_filters + stem_filters}. Leave it out for the authors' number."
        )
    return int(stem_filters)


def _stem(image: keras.KerasTensor, filters: int) -> keras.KerasTensor:
    x = keras.layers.ZeroPadding2D(1, name="stem_pad")(image)
    x = keras.layers.Conv2D(filters, 3, strides=2, use_bias=False, kernel_initializer=_normal(0.01), name="stem_conv")(
        x
    )
    x = _relu(_normalize(x, "stem_bn"), "stem_relu")
    # nothing is below zero after the ReLU, so that zeros around the image never are a maximum
    x = keras.layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
    return keras.layers.MaxPooling2D(3, strides=2, name="stem_pool")(x)


def _shuffle_unit(
    x: keras.KerasTensor,
    filters: int,
    groups: int,
    first_groups: int,
    strides: int,
    squeeze_excitation: bool,
    name: str,
) -> keras.KerasTensor:
    """Figure 2 of the paper: (b) of stride 1, (c) of stride 2."""
    bottleneck = _nearest_multiple(filters, BOTTLENECK_FACTOR, groups)
    new_filters = filters if strides == 1 else filters - x.shape[-1]
    new = _normalize(_pointwise(x, bottleneck, first_groups, f"{name}_1_conv"), f"{name}_1_bn")
    new = _relu(new, f"{name}_1_relu")
    if groups > 1:
        new = ChannelShuffle(groups, name=f"{name}_shuffle")(new)
    new = _normalize(_depthwise(new, strides, f"{name}_2"), f"{name}_2_bn")
    new = _normalize(_pointwise(new, new_filters, groups, f"{name}_3_conv"), f"{name}_3_bn")
    if squeeze_excitation:
        new = squeeze_and_excite(new, max(new_filters // SQUEEZE_FACTOR, 1), f"{name}_se")
    if strides == 1:
        return _relu(keras.layers.Add(name=f"{name}_add")([x, new]), f"{name}_out")
    x = keras.layers.ZeroPadding2D(1, name=f"{name}_0_pad")(x)
    x = keras.layers.AveragePooling2D(3, strides=strides, name=f"{name}_0_pool")(x)
    return _relu(keras.layers.Concatenate(name=f"{name}_concat")([new, x]), f"{name}_out")


def _nearest_multiple(channels: int, divisor: int, multiple: int) -> int:
    """The multiple of `multiple` that is nearest to `channels` / `divisor`, the larger one of two."""
    return (2 * channels + divisor * multiple) // (2 * divisor * multiple) * multiple


def _pointwise(x: keras.KerasTensor, filters: int, groups: int, name: str) -> keras.KerasTensor:
    initializer = _normal(groups / x.shape[-1])
    return GroupConv2D(filters, 1, groups=groups, kernel_initializer=initializer, name=name)(x)


def _depthwise(x: keras.KerasTensor, strides: int, name: str) -> keras.KerasTensor:
    padding = "same"
    if strides > 1:  # "same" would pad an even image on one side only; the authors pad both
        x, padding = keras.layers.ZeroPadding2D(1, name=f"{name}_pad")(x), "valid"
    return keras.layers.DepthwiseConv2D(
        3, strides=strides, padding=padding, use_bias=False, depthwise_initializer=_normal(1.0), name=f"{name}_conv"
    )(x)


def _normalize(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON, name=name)(x)


def _relu(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return keras.layers.Activation("relu", name=name)(x)


def _normal(deviation: float) -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=deviation)


_PAPER, _PROGRAM = "arXiv:1707.01083", "github.com/megvii-model/ShuffleNet-Series"
# groups, width, parameters, operations, error, source; of the others the paper has no figures. Table 2 gives the
# operations of a width without regard to the groups; table 1, by groups, leaves the classifier out.
_ROWS = (
    (1, 0.25, "", "13M", "57.1", f"{_PAPER}, table 2"),
    (1, 0.5, "", "38M", "45.1", f"{_PAPER}, table 2"),
    (1, 1.0, "", "143M", "33.6", f"{_PAPER}, tables 1 and 2"),
    (1, 1.5, "", "", "", _PAPER),
    (1, 2.0, "", "", "", _PAPER),
    (2, 0.25, "", "13M", "56.8", f"{_PAPER}, table 2"),
    (2, 0.5, "", "38M", "44.4", f"{_PAPER}, table 2"),
    (2, 1.0, "", "140M", "32.7", f"{_PAPER}, tables 1 and 2"),
    (2, 1.5, "", "", "", _PAPER),
    (2, 2.0, "", "", "", _PAPER),
    (3, 0.25, "", "13M", "55.0", f"{_PAPER}, table 2"),
    (3, 0.5, "0.7M", "38M", "43.2", f"{_PAPER}, table 2; {_PROGRAM}"),
    (3, 1.0, "1.9M", "137M", "32.6", f"{_PAPER}, tables 1 and 2; {_PROGRAM}"),
    (3, 1.5, "3.4M", "292M", "28.5", f"{_PAPER}, table 5; {_PROGRAM}"),
    (3, 2.0, "5.4M", "524M", "26.3", f"{_PAPER}, table 5; {_PROGRAM}"),
    (4, 0.25, "", "13M", "54.2", f"{_PAPER}, table 2"),
    (4, 0.5, "", "38M", "41.6", f"{_PAPER}, table 2"),
    (4, 1.0, "", "133M", "32.8", f"{_PAPER}, tables 1 and 2"),
    (4, 1.5, "", "", "", _PAPER),
    (4, 2.0, "", "", "", _PAPER),
    (8, 0.25, "", "13M", "52.7", f"{_PAPER}, table 2"),
    (8, 0.5, "1.0M", "38M", "42.3", f"{_PAPER}, table 2; {_PROGRAM}"),
    (8, 1.0, "2.4M", "137M", "32.4", f"{_PAPER}, tables 1 and 2; {_PROGRAM}"),
    (8, 1.5, "4.3M", "290M", "29.0", _PROGRAM),
    (8, 2.0, "6.5M", "522M", "27.1", _PROGRAM),
)
_ROWS_WITH_SQUEEZE_EXCITATION = (
    (3, 1.0, "2.4M", "142M", "31.0", "arXiv:1709.01507, table 3"),
    (3, 2.0, "", "527M", "24.7", f"{_PAPER}, table 5"),
)


def _figures(rows: tuple[tuple, ...], suffix: str, more_arguments: Mapping[str, object]) -> tuple[Published, ...]:
    return tuple(
        Published(
            network=f"ShuffleNet {width:g}x (g={groups}{suffix})",
            constructor="ShuffleNet",
            arguments={"groups": groups, "width": width} | more_arguments,
            parameters=parameters,
            operations=operations,
            error=error,
            source=source,
        )
        for groups, width, parameters, operations, error, source in rows
    )


FAMILY.publish(
    *_figures(_ROWS, "", {}),
    *_figures(_ROWS_WITH_SQUEEZE_EXCITATION, ", SE", {"squeeze_excitation": True}),
)

__all__ = ["FAMILY", *FAMILY.constructors, "decode_predictions", "preprocess_input"]
