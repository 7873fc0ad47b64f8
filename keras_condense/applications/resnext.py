"""ResNeXt (Xie et al., "Aggregated Residual Transformations for Deep Neural Networks", CVPR 2017, arXiv:1611.05431)."""

import functools
from collections.abc import Callable, Sequence

import keras

from keras_condense.applications.contract import Contract
from keras_condense.applications.families import Constructor, Family, SharedKeywords, Unpack
from keras_condense.applications.imagenet import decode_predictions, preprocess_input
from keras_condense.applications.parts import EPSILON, MOMENTUM, check_positive_integers, classifier, kernel_initializer
from keras_condense.applications.published import Published
from keras_condense.layers import BatchNormalization, GroupConv2D
from keras_condense.validation import check_positive_integer

FAMILY = Family(__name__)

STEM_FILTERS, FIRST_FILTERS = 64, 256
_STAGES_50 = (3, 4, 6, 3)


@FAMILY.constructor()
def ResNeXt(
    stages: Sequence[int],
    cardinality: int = 32,
    bottleneck_width: int = 4,
    **shared: Unpack[SharedKeywords],
) -> keras.Model:
    """Build a ResNeXt of any depth, cardinality and width.

    A 7x7 stem to 64 channels, stride 2, and 3x3 max pooling, stride 2; then residual blocks: 1x1 convolution to
    `cardinality` * d channels, 3x3 group convolution of `cardinality` groups (it carries the stride), 1x1 convolution
    to 256 channels, each with BN, the first two with ReLU; the shortcut is added, then ReLU. Each further stage halves
    the image and doubles d and the 256. Where size or channels change, the shortcut is a 1x1 convolution with BN
    (option B). Section 3 and table 1 of the paper, in the form of its figure 3(c); cardinality 1 and width 64 make a
    ResNet.

    Kernels are drawn from N(0, sqrt(2 / (height * width * filters))), the classifier's from
    U(-1/sqrt(in), 1/sqrt(in)), as in the authors' program.

    Args:
        stages: the number of residual blocks of each stage.
        cardinality: C, the groups of the 3x3 convolutions.
        bottleneck_width: d, the channels of a group in the first stage.
        weights: None (random), "imagenet" (where the network is ResNeXt50, ResNeXt101 or, with stages (3, 4, 6, 3),
            cardinality 1 and bottleneck width 64, a ResNet-50; trained by the authors of pytorchcv, because this
            paper's authors published files of Torch 7), or the path of a `.weights.h5`, `.keras`, `.pth` or `.pth.zip`
            file.
        input_shape: (height, width, channels); height and width may be None if `include_top` is False. By default
            (224, 224, 3), and (None, None, 3) without the classifier.
        **shared: what every constructor takes, described in `shared.SharedArguments`.

    Returns:
        The model, not compiled.

    Raises:
        ValueError: a bad argument, or a file of weights that is broken or another network's.

    Example:
        >>> model = ResNeXt((1, 1), cardinality=4, bottleneck_width=2, input_shape=(32, 32, 3), classes=10)
        >>> model.output_shape
        (None, 10)
        >>> tuple(model.get_layer("conv3_block1_2_conv").kernel.shape)  # height, width, inputs of a group, filters
        (3, 3, 4, 16)
        >>> ResNeXt((1, 1), cardinality=0)
        Traceback (most recent call last):
        ...
        ValueError: `cardinality` (=0) must be a positive integer. Use the paper's 32, or 1 for a ResNet.
    """
    stages = check_positive_integers("stages", stages, "Give the blocks of each stage, for instance (3, 4, 6, 3).")
    cardinality = check_positive_integer("cardinality", cardinality, "Use the paper's 32, or 1 for a ResNet.")
    bottleneck_width = check_positive_integer("bottleneck_width", bottleneck_width, "Use 4 with cardinality 32.")
    contract = Contract(
        constructor="ResNeXt",
        arguments={"stages": stages, "cardinality": cardinality, "bottleneck_width": bottleneck_width},
        default_size=224,
        min_size=1,  # everything is padded: each stride makes ceil(size / 2)
        **shared,
    )
    image = contract.image()
    x = _stem(image)
    for stage, blocks in enumerate(stages):
        for block in range(blocks):
            x = _residual_block(
                x,
                filters=FIRST_FILTERS * 2**stage,
                width=cardinality * bottleneck_width * 2**stage,
                cardinality=cardinality,
                strides=2 if stage > 0 and block == 0 else 1,
                name=f"conv{stage + 2}_block{block + 1}",  # the stem is stage 1
            )
    return contract.model(image, x, classifier())


def _stem(image: keras.KerasTensor) -> keras.KerasTensor:
    x = _convolve(image, STEM_FILTERS, 7, "conv1", strides=2)
    x = _relu(x, "conv1_relu")
    # nothing is below zero after the ReLU, so that zeros around the image never are a maximum
    x = keras.layers.ZeroPadding2D(1, name="pool1_pad")(x)
    return keras.layers.MaxPooling2D(3, strides=2, name="pool1_pool")(x)


def _residual_block(
    x: keras.KerasTensor, filters: int, width: int, cardinality: int, strides: int, name: str
) -> keras.KerasTensor:
    shortcut = x
    if strides > 1 or x.shape[-1] != filters:
        shortcut = _convolve(x, filters, 1, f"{name}_0", strides=strides)
    x = _relu(_convolve(x, width, 1, f"{name}_1"), f"{name}_1_relu")
    grouped = functools.partial(GroupConv2D, groups=cardinality)
    x = _relu(_convolve(x, width, 3, f"{name}_2", strides=strides, convolution=grouped), f"{name}_2_relu")
    x = _convolve(x, filters, 1, f"{name}_3")
    return _relu(keras.layers.Add(name=f"{name}_add")([shortcut, x]), f"{name}_out")


def _convolve(
    x: keras.KerasTensor,
    filters: int,
    kernel_size: int,
    name: str,
    strides: int = 1,
    convolution: Callable[..., keras.Layer] = keras.layers.Conv2D,
) -> keras.KerasTensor:
    """Convolution and batch norm."""
    padding = "same"
    if strides > 1 and kernel_size > 1:  # "same" would pad an even image on one side only; the authors pad both
        x, padding = keras.layers.ZeroPadding2D(kernel_size // 2, name=f"{name}_pad")(x), "valid"
    x = convolution(
        filters,
        kernel_size,
        strides=strides,
        padding=padding,
        use_bias=False,
        kernel_initializer=kernel_initializer(),
        name=f"{name}_conv",
    )(x)
    return BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON, name=f"{name}_bn")(x)


def _relu(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return keras.layers.Activation("relu", name=name)(x)


def _setting(cardinality: int, bottleneck_width: int) -> dict[str, object]:
    return {"stages": _STAGES_50, "cardinality": cardinality, "bottleneck_width": bottleneck_width}


def _named(
    name: str, network: str, stages: tuple[int, ...], parameters: str, operations: str, error: str
) -> Constructor:
    return FAMILY.variant(
        ResNeXt,
        name,
        {"stages": stages},
        doc=f"Build {name} (32x4d): `ResNeXt({stages})`, cardinality 32, bottleneck width 4.",
        network=network,
        parameters=parameters,
        operations=operations,
        error=error,
        source=f"arXiv:1611.05431, {'tables 1 and 3' if parameters else 'table 3'}",
    )


# Errors are of one 224x224 crop. Of the networks that table 1 leaves out the paper says only that they have about the
# size of those beside them in table 3: 4.1G and 25M for the first four, 7.8G and 44M for the last.
FAMILY.publish(
    *(
        Published(
            network=network,
            constructor="ResNeXt",
            arguments=arguments,
            parameters=parameters,
            operations=operations,
            error=error,
            source=f"arXiv:1611.05431, {tables}",
        )
        for network, arguments, parameters, operations, error, tables in (
            ("ResNet-50 (1x64d)", _setting(1, 64), "25.5M", "4.1G", "23.9", "tables 1 and 3"),
            ("ResNeXt-50 (2x40d)", _setting(2, 40), "", "", "23.0", "table 3"),
            ("ResNeXt-50 (4x24d)", _setting(4, 24), "", "", "22.6", "table 3"),
            ("ResNeXt-50 (8x14d)", _setting(8, 14), "", "", "22.3", "table 3"),
        )
    )
)
ResNeXt50 = _named("ResNeXt50", "ResNeXt-50 (32x4d)", _STAGES_50, "25.0M", "4.2G", "22.2")
ResNeXt101 = _named("ResNeXt101", "ResNeXt-101 (32x4d)", (3, 4, 23, 3), "", "", "21.2")

__all__ = ["FAMILY", *FAMILY.constructors, "decode_predictions", "preprocess_input"]
