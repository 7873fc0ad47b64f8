"""DenseNet (Huang et al., "Densely Connected Convolutional Networks", CVPR 2017, arXiv:1608.06993)."""

from collections.abc import Callable, Sequence

import keras

from keras_condense.applications.contract import Contract
from keras_condense.applications.families import Constructor, Family, SharedKeywords, Unpack
from keras_condense.applications.imagenet import decode_predictions, preprocess_input
from keras_condense.applications.parts import check_positive_integers
from keras_condense.layers import BatchNormalization
from keras_condense.validation import check_choice, check_fraction, check_positive_integer

FAMILY = Family(__name__)

BOTTLENECK_FACTOR = 4
EPSILON = 1.001e-5  # of keras.applications, whose outputs DenseNet121, 169 and 201 equal


def densenet_stages(depth: int, blocks: int = 3, bottleneck: bool = True) -> tuple[int, ...]:
    """Return the layers of each block of the paper's CIFAR networks, which it names by their depth.

    The depth counts convolutions and the classifier: the stem, one transition between two blocks, the classifier, and
    two convolutions for each layer with a bottleneck, else one (section 4.2 of the paper).

    Args:
        depth: the paper's L, for instance 100.
        blocks: the number of dense blocks.
        bottleneck: as `DenseNet`'s.

    Returns:
        `blocks` equal numbers.

    Raises:
        ValueError: the layers of such a depth can't be divided evenly among the blocks.

    Example:
        >>> densenet_stages(100)  # DenseNet-BC (L=100, k=12) is DenseNet(densenet_stages(100), 12, stem="cifar", ...)
        (16, 16, 16)
        >>> densenet_stages(40, bottleneck=False)
        (12, 12, 12)
        >>> densenet_stages(41)
        Traceback (most recent call last):
        ...
        ValueError: `depth` (=41) must be 4 plus a multiple of 6 for 3 blocks. Use 40 or 46.
    """
    check_positive_integer("depth", depth, "Use the paper's 40, 100, 190 or 250.")
    check_positive_integer("blocks", blocks, "The paper has 3 for CIFAR.")
    check_choice("bottleneck", bottleneck, (True, False), "Use True for DenseNet-B and DenseNet-BC.")
    unit = blocks * (2 if bottleneck else 1)
    layers, left = divmod(depth - blocks - 1, unit)
    if left or layers < 1:
        below = blocks + 1 + max(layers, 1) * unit
        raise ValueError(
            f"`depth` (={depth}) must be {blocks + 1} plus a multiple of {unit} for {blocks} blocks. "
            f"Use {below} or {below + unit}."
        )
    return (layers,) * blocks


@FAMILY.constructor(takes_memory_efficient=True)
def DenseNet(
    stages: Sequence[int],
    growth_rate: int = 32,
    bottleneck: bool = True,
    compression: float = 0.5,
    dropout_rate: float = 0.0,
    stem: str = "imagenet",
    *,
    stem_filters: int | None = None,
    **shared: Unpack[SharedKeywords],
) -> keras.Model:
    """Build a DenseNet of any depth and width.

    Each layer of a dense block sees the outputs of all layers before it: BN, ReLU, 1x1 convolution to 4k, BN, ReLU,
    3x3 convolution to k, concatenation. Between blocks a transition (BN, ReLU, 1x1 convolution, 2x2 average pooling)
    keeps `compression` of the channels. Section 3 of the paper; names, order and constants are those of
    `keras.applications.DenseNet121`, so that its weights fit.

    Args:
        stages: the number of layers of each dense block.
        growth_rate: k, the channels that each layer adds.
        bottleneck: whether the 1x1 convolution stands before each 3x3 one (DenseNet-B).
        compression: the share of channels that a transition keeps, in (0, 1] (DenseNet-C is below 1).
        dropout_rate: share of activations dropped after each convolution but the stem (the paper's 0.2 for CIFAR
            without augmentation).
        stem: "imagenet" (7x7 convolution to 2k, stride 2, then 3x3 max pooling, stride 2) or "cifar" (3x3 convolution,
            stride 1, to 2k with bottleneck and compression, else to 16).
        weights: None (random), "imagenet" (where the network is DenseNet121, 169 or 201, or 161: stages (6, 12, 36, 24)
            and growth rate 48), "cifar10", "cifar100" or "svhn" (where the network is one that pytorchcv publishes:
            `keras_condense.applications.pretrained` lists them, with the preprocessing that each needs:
            `preprocess_input` is for ImageNet), or the path of a `.weights.h5`, `.keras`, `.h5`,
            `.pth` or `.pth.zip` file.
        input_shape: (height, width, channels); height and width may be None if `include_top` is False. By default
            (224, 224, 3), and (32, 32, 3) with the CIFAR stem; (None, None, 3) without the classifier.
        stem_filters: filters of the first convolution, in place of the paper's. pytorchcv's networks for CIFAR without
            bottleneck have 2k, with a `compression` of 0.5, so they are not the paper's.
        memory_efficient: whether a training step keeps what the convolutions make, and computes concatenations, batch
            norms and ReLUs again in its backward pass: less memory, more time, the same results and weights (Pleiss et
            al., "Memory-Efficient Implementation of DenseNets", arXiv:1707.06990).
        **shared: what every constructor takes, described in `shared.SharedArguments`.

    Returns:
        The model, not compiled.

    Raises:
        ValueError: a bad argument, or a file of weights that is broken or another network's.

    Example:
        >>> model = DenseNet((2, 2), growth_rate=4, stem="cifar", input_shape=(8, 8, 3), classes=10)
        >>> model.output_shape, model.count_params()
        ((None, 10), 4002)
    """
    stages = check_positive_integers("stages", stages, "Give the layers of each block, for instance (6, 12, 24, 16).")
    growth_rate = check_positive_integer("growth_rate", growth_rate, "The paper has 12 for CIFAR and 32 for ImageNet.")
    check_choice("bottleneck", bottleneck, (True, False), "Use True for DenseNet-B and DenseNet-BC.")
    compression = check_fraction("compression", compression, "Use 0.5, or 1.0 to keep all channels.")
    dropout_rate = check_fraction("dropout_rate", dropout_rate, "Use 0.0 or 0.2.", below_one=True)
    check_choice("stem", stem, ("imagenet", "cifar"), "Use 'cifar' for images of 32x32 pixels.")
    usual_stem = 2 * growth_rate if stem == "imagenet" or (bottleneck and compression < 1) else 16
    stem_filters = usual_stem if stem_filters is None else stem_filters
    stem_filters = check_positive_integer("stem_filters", stem_filters, "Leave it out for the paper's number.")
    _check_compression(stages, growth_rate, compression, stem_filters)
    imagenet = stem == "imagenet"
    contract = Contract(
        constructor="DenseNet",
        arguments={
            "stages": stages,
            "growth_rate": growth_rate,
            "bottleneck": bottleneck,
            "compression": compression,
            "stem": stem,
            "stem_filters": None if stem_filters == usual_stem else stem_filters,
        },
        default_size=224 if imagenet else 32,
        min_size=(4 if imagenet else 1) * 2 ** (len(stages) - 1),
        **shared,
    )
    image = contract.image()
    x = _imagenet_stem(image, stem_filters) if imagenet else _convolve(image, stem_filters, 3, "conv1_conv")
    return contract.model(image, dense_blocks(x, stages, growth_rate, bottleneck, compression, dropout_rate))


def dense_blocks(
    x: keras.KerasTensor,
    stages: tuple[int, ...],
    growth_rate: int,
    bottleneck: bool,
    compression: float,
    dropout_rate: float,
    convolution: Callable[..., keras.Layer] = keras.layers.Conv2D,
) -> keras.KerasTensor:
    """Return the last feature map: the dense blocks and transitions on the stem, made of `convolution` layers."""
    for block, layers in enumerate(stages, start=2):  # the stem is stage 1
        for layer in range(1, layers + 1):
            x = _dense_layer(x, growth_rate, bottleneck, dropout_rate, f"conv{block}_block{layer}", convolution)
        if block - 1 < len(stages):
            width = int(x.shape[-1] * compression)
            x = _normalize(x, f"pool{block}_")
            x = _convolve(x, width, 1, f"pool{block}_conv", dropout_rate, convolution)
            x = keras.layers.AveragePooling2D(2, strides=2, name=f"pool{block}_pool")(x)
    return _normalize(x, "")


def _check_compression(stages: tuple[int, ...], growth_rate: int, compression: float, channels: int) -> None:
    for layers in stages[:-1]:
        channels = int((channels + layers * growth_rate) * compression)
        if channels < 1:
            raise ValueError(
                f"`compression` (={compression}) must leave a channel in each transition. "
                "Use 0.5, or a larger `growth_rate`."
            )


def _imagenet_stem(x: keras.KerasTensor, filters: int) -> keras.KerasTensor:
    x = keras.layers.ZeroPadding2D(3)(x)
    x = keras.layers.Conv2D(filters, 7, strides=2, use_bias=False, name="conv1_conv")(x)
    x = _normalize(x, "conv1_")
    x = keras.layers.ZeroPadding2D(1)(x)
    return keras.layers.MaxPooling2D(3, strides=2, name="pool1")(x)


def _dense_layer(
    x: keras.KerasTensor,
    growth_rate: int,
    bottleneck: bool,
    dropout_rate: float,
    name: str,
    convolution: Callable[..., keras.Layer],
) -> keras.KerasTensor:
    new = _normalize(x, f"{name}_0_")
    if bottleneck:
        new = _convolve(new, BOTTLENECK_FACTOR * growth_rate, 1, f"{name}_1_conv", dropout_rate, convolution)
        new = _normalize(new, f"{name}_1_")
    new = _convolve(new, growth_rate, 3, f"{name}_2_conv", dropout_rate, convolution)
    return keras.layers.Concatenate(name=f"{name}_concat")([x, new])


def _normalize(x: keras.KerasTensor, prefix: str) -> keras.KerasTensor:
    x = BatchNormalization(epsilon=EPSILON, name=f"{prefix}bn")(x)
    return keras.layers.Activation("relu", name=f"{prefix}relu")(x)


def _convolve(
    x: keras.KerasTensor,
    filters: int,
    kernel_size: int,
    name: str,
    dropout_rate: float = 0.0,
    convolution: Callable[..., keras.Layer] = keras.layers.Conv2D,
) -> keras.KerasTensor:
    # a 1x1 convolution has nothing to pad; "valid" is what keras.applications writes into its configuration
    padding = "same" if kernel_size > 1 else "valid"
    x = convolution(filters, kernel_size, padding=padding, use_bias=False, name=name)(x)
    return keras.layers.Dropout(dropout_rate, name=f"{name}_drop")(x) if dropout_rate else x


def _cifar(
    name: str,
    network: str,
    depth: int,
    growth_rate: int,
    bottleneck: bool,
    parameters: str,
    error: str,
    **figures: str,
) -> Constructor:
    """A network for CIFAR (section 4.2): depth L, growth rate k, whether with bottleneck and compression (BC)."""
    stages, compression = densenet_stages(depth, bottleneck=bottleneck), 0.5 if bottleneck else 1.0
    return FAMILY.variant(
        DenseNet,
        name,
        {
            "stages": stages,
            "growth_rate": growth_rate,
            "bottleneck": bottleneck,
            "compression": compression,
            "stem": "cifar",
        },
        doc=f"Build {name}: `DenseNet({stages}, {growth_rate}, bottleneck={bottleneck}, compression={compression}, "
        'stem="cifar")`, 10 classes.',
        defaults={"classes": 10, "dropout_rate": 0.0, "memory_efficient": False},
        network=network,
        parameters=parameters,
        error=error,
        source="arXiv:1608.06993, table 2",
        **figures,
    )


def _imagenet(name: str, stages: tuple[int, ...], error: str, weights: str | None = "imagenet") -> Constructor:
    return FAMILY.variant(
        DenseNet,
        name,
        {"stages": stages},
        doc=f"Build {name}: `DenseNet({stages})`, growth rate 32, ImageNet stem.",
        defaults={"weights": weights},
        annotated=False,  # the signature equals the one of keras.applications
        network=name.replace("DenseNet", "DenseNet-"),
        error=error,
        source="arXiv:1608.06993, table 3",
    )


# of the first one the Sparse-DenseNet paper counts multiplications and additions apart
DenseNet40K12 = _cifar(
    "DenseNet40K12", "DenseNet (L=40, k=12)", 40, 12, False, "1.0M", "5.24 / 24.42", operations="530M", rule="2 macs"
)
DenseNet100K12 = _cifar("DenseNet100K12", "DenseNet (L=100, k=12)", 100, 12, False, "7.0M", "4.10 / 20.20")
DenseNet100K24 = _cifar("DenseNet100K24", "DenseNet (L=100, k=24)", 100, 24, False, "27.2M", "3.74 / 19.25")
DenseNetBC100K12 = _cifar("DenseNetBC100K12", "DenseNet-BC (L=100, k=12)", 100, 12, True, "0.8M", "4.51 / 22.27")
DenseNetBC250K24 = _cifar("DenseNetBC250K24", "DenseNet-BC (L=250, k=24)", 250, 24, True, "15.3M", "3.62 / 17.60")
DenseNetBC190K40 = _cifar("DenseNetBC190K40", "DenseNet-BC (L=190, k=40)", 190, 40, True, "25.6M", "3.46 / 17.18")
DenseNet121 = _imagenet("DenseNet121", (6, 12, 24, 16), "25.0")
DenseNet169 = _imagenet("DenseNet169", (6, 12, 32, 32), "23.8")
DenseNet201 = _imagenet("DenseNet201", (6, 12, 48, 32), "22.6")
DenseNet264 = _imagenet("DenseNet264", (6, 12, 64, 48), "22.2", weights=None)

__all__ = ["FAMILY", *FAMILY.constructors, "decode_predictions", "densenet_stages", "preprocess_input"]
