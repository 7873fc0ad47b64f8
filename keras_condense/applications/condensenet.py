"""CondenseNet (Huang et al., "CondenseNet: An Efficient DenseNet using Learned Group Convolutions").

CVPR 2018, arXiv:1711.09224.
"""

from collections.abc import Sequence

import keras

from keras_condense.applications.contract import Contract
from keras_condense.applications.families import Constructor, Family, SharedKeywords, Unpack
from keras_condense.applications.imagenet import decode_predictions, preprocess_input
from keras_condense.applications.parts import (
    check_channels,
    check_growth_rates,
    check_of_blocks,
    classifier,
    dense_layer,
    normalize,
    stem,
)
from keras_condense.validation import check_divisible, check_fraction, check_positive_integer

FAMILY = Family(__name__)


@FAMILY.constructor(takes_memory_efficient=True)
def CondenseNet(
    stages: Sequence[int],
    growth_rates: Sequence[int],
    groups: int | Sequence[int] = 4,
    condense_factor: int | Sequence[int] = 4,
    bottleneck_factor: int | Sequence[int] = 4,
    stem_strides: int = 2,
    dropout_rate: float = 0.0,
    group_lasso: float = 0.0,
    classifier_condense_factor: int = 1,
    window_groups: int | Sequence[int] | None = None,
    **shared: Unpack[SharedKeywords],
) -> keras.Model:
    """Build a CondenseNet as it is trained: with learned group convolutions, nothing pruned yet.

    A 3x3 stem to 2*k0 channels; then in each layer of a block BN, ReLU, learned 1x1 group convolution to
    `bottleneck_factor` * k, BN, ReLU, 3x3 group convolution to k, and the concatenation of input and output; 2x2
    average pooling between blocks, no transition convolution (sections 3 and 4 of the paper). Every layer thus sees
    all layers before it, and the growth rate k of each block is given by itself. Train it with
    `keras_condense.callbacks.CondenseSchedule`, then shrink it with `keras_condense.condense`.

    Kernels are drawn from N(0, sqrt(2 / (height * width * filters))), the classifier's from
    U(-1/sqrt(in), 1/sqrt(in)), as in the authors' program.

    Args:
        stages: the number of layers of each dense block; not the stages of condensing (`layer.stage`).
        growth_rates: k of each block: the channels that each of its layers adds.
        groups: groups of the learned 1x1 and of the 3x3 convolutions; one number, or one for each block.
        condense_factor: C; the condensed network keeps 1/C of the learned convolutions' connections. One number, or one
            for each block.
        bottleneck_factor: outputs of the learned 1x1 convolution are this many times k; one number, or one for each
            block.
        stem_strides: strides of the first convolution: 1 for images of about 32x32 pixels, 2 for ImageNet; 4 leaves out
            the largest images, on which phones spend most for a multiply-add.
        dropout_rate: share of activations dropped before each learned convolution.
        group_lasso: weight of the group lasso in the loss (1e-5 in the paper's ImageNet training).
        classifier_condense_factor: F; above 1 the classifier is a `keras_condense.layers.CondenseDense`, of whose
            inputs 1/F are left once it is condensed, those of the largest weights. Until then it is a dense layer.
        window_groups: groups of the 3x3 convolutions where they are not `groups`; one number, or one for each block.
            With `groups=1`, all filters of a 1x1 convolution share the inputs that they learn to need, as processors of
            wide registers like it.
        weights: None (random), "imagenet" (where the network is CondenseNetImageNet74G4 or 74G8: the authors' own
            training, at its last stage, so that it can be condensed at once or trained on), "cifar10" (where it is
            CondenseNet50: trained with this package, which has the file; its images are those that
            `pretrained.find_weights("CondenseNet50", "cifar10").preprocessing.normalize` makes, and not this module's
            `preprocess_input`), or the path of a `.weights.h5`, `.keras`, `.pth` or `.pth.zip` file.
        input_shape: (height, width, channels); height and width may be None if `include_top` is False. By default
            (224, 224, 3), and (32, 32, 3) with `stem_strides` 1; (None, None, 3) without the classifier.
        **shared: what every constructor takes, described in `shared.SharedArguments`.

    Returns:
        The model, not compiled.

    Raises:
        ValueError: a bad argument, numbers of channels that the groups or the condense factor don't divide, or a
            file of weights that is broken or another network's.

    Example:
        >>> model = CondenseNet((2, 2), (8, 16), stem_strides=1, input_shape=(16, 16, 3), classes=10)
        >>> model.output_shape
        (None, 10)
        >>> tuple(model.get_layer("block1_layer2_1_conv").kernel.shape)  # height, width, in, filters
        (1, 1, 24, 32)
        >>> model = CondenseNet((2, 2), (8, 16), groups=(8, 1), window_groups=(8, 4), bottleneck_factor=(4, 2))
        >>> [model.get_layer(f"block{block}_layer1_1_conv").groups for block in (1, 2)]
        [8, 1]
        >>> CondenseNet((2, 2), (6, 12))
        Traceback (most recent call last):
        ...
        ValueError: `growth_rates[0]` (=6) must be divisible by `groups` (=4). Use 4 or 8, ...
    """
    stages, growth_rates = check_growth_rates(stages, growth_rates, "(14, 14, 14)", "(8, 16, 32)")
    blocks, fix = len(stages), "The paper has 4 or 8 groups; 1 turns it off."
    groups_of, factors, bottlenecks = (
        check_of_blocks(argument, value, blocks, fix)
        for argument, value in (
            ("groups", groups),
            ("condense_factor", condense_factor),
            ("bottleneck_factor", bottleneck_factor),
        )
    )
    windows = groups_of
    if window_groups is not None:
        windows = check_of_blocks("window_groups", window_groups, blocks, "Leave it out for as many as `groups`.")
    check_positive_integer("classifier_condense_factor", classifier_condense_factor, fix)
    check_positive_integer("stem_strides", stem_strides, "Use 1 for small images, 2 or 4 for ImageNet's.")
    dropout_rate = check_fraction("dropout_rate", dropout_rate, "Use 0.0 or 0.1.", below_one=True)
    check_channels(stages, growth_rates, windows, factors, classifier_condense_factor if shared["include_top"] else 1)
    for block, (growth_rate, bottleneck, count) in enumerate(zip(growth_rates, bottlenecks, groups_of, strict=True)):
        check_divisible(
            f"bottleneck_factor[{block}] * growth_rates[{block}]",
            bottleneck * growth_rate,
            "groups",
            count,
            "They are the filters of the block's learned convolutions.",
        )
    of_blocks = {"groups": groups_of, "condense_factor": factors, "bottleneck_factor": bottlenecks}
    if windows != groups_of:
        of_blocks["window_groups"] = windows
    contract = Contract(
        constructor="CondenseNet",
        arguments={
            "stages": stages,
            "growth_rates": growth_rates,
            # one number where all blocks have it, as the published networks are known by
            **{name: values[0] if len(set(values)) == 1 else values for name, values in of_blocks.items()},
            "stem_strides": stem_strides,
            "classifier_condense_factor": classifier_condense_factor,
        },
        default_size=32 if stem_strides == 1 else 224,
        # the stem makes ceil(size / strides), each pooling floor(size / 2)
        min_size=stem_strides * (2 ** (len(stages) - 1) - 1) + 1,
        **shared,
    )
    image = contract.image()
    x = stem(image, 2 * growth_rates[0], stem_strides)
    of_block = zip(stages, growth_rates, groups_of, factors, bottlenecks, windows, strict=True)
    for block, (layers, growth_rate, count, factor, bottleneck, window_count) in enumerate(of_block, start=1):
        if block > 1:
            x = keras.layers.AveragePooling2D(2, name=f"pool{block - 1}")(x)
        for layer in range(1, layers + 1):
            x = dense_layer(
                x,
                growth_rate,
                groups=count,
                condense_factor=factor,
                bottleneck_factor=bottleneck,
                dropout_rate=dropout_rate,
                group_lasso=group_lasso,
                name=f"block{block}_layer{layer}",
                window_groups=window_count,
            )
    return contract.model(image, normalize(x, ""), classifier(classifier_condense_factor))


def _paper(
    name: str,
    network: str,
    stages: tuple[int, ...],
    growth_rates: tuple[int, ...],
    groups: int,
    parameters: str,
    operations: str,
    error: str,
    *,
    stem_strides: int = 1,
    classes: int = 10,
) -> Constructor:
    """A network of the paper (section 4), of as many groups as its condense factor."""
    return FAMILY.variant(
        CondenseNet,
        name,
        {"stages": stages, "growth_rates": growth_rates, "stem_strides": stem_strides},
        doc=f"Build {name}: `CondenseNet({stages}, {growth_rates})`, {groups} groups, condense factor {groups}, "
        f"stem strides {stem_strides}; condensing halves the classifier's inputs.",
        defaults={
            "classes": classes,
            "groups": groups,
            "condense_factor": groups,
            "dropout_rate": 0.0,
            "group_lasso": 0.0,
            "classifier_condense_factor": 2,
            "memory_efficient": False,
        },
        network=network,
        parameters=parameters,
        operations=operations,
        rule="operations",
        condensed=True,
        error=error,
        source="arXiv:1711.09224; github.com/ShichenLiu/CondenseNet",
    )


CondenseNet50 = _paper("CondenseNet50", "CondenseNet-50", (8, 8, 8), (8, 16, 32), 4, "0.22M", "28.6M", "6.22")
CondenseNet74 = _paper("CondenseNet74", "CondenseNet-74", (12, 12, 12), (8, 16, 32), 4, "0.41M", "51.9M", "5.28")
CondenseNet86 = _paper(
    "CondenseNet86", "CondenseNet-86", (14, 14, 14), (8, 16, 32), 4, "0.52M", "65.8M", "5.06 / 23.64"
)
CondenseNet98 = _paper("CondenseNet98", "CondenseNet-98", (16, 16, 16), (8, 16, 32), 4, "0.65M", "81.3M", "4.83")
CondenseNet110 = _paper("CondenseNet110", "CondenseNet-110", (18, 18, 18), (8, 16, 32), 4, "0.79M", "98.2M", "4.63")
CondenseNet122 = _paper("CondenseNet122", "CondenseNet-122", (20, 20, 20), (8, 16, 32), 4, "0.95M", "116.7M", "4.48")
CondenseNet182 = _paper(
    "CondenseNet182", "CondenseNet-182", (30, 30, 30), (12, 24, 48), 4, "4.2M", "513M", "3.76 / 18.47"
)

_IMAGENET = {"stem_strides": 2, "classes": 1000}
CondenseNetImageNet74G4 = _paper(
    "CondenseNetImageNet74G4", "CondenseNet-74 (ImageNet, G=C=4)",
    (4, 6, 8, 10, 8), (8, 16, 32, 64, 128), 4, "4.8M", "529M", "26.2", **_IMAGENET,
)  # fmt: skip
CondenseNetImageNet74G8 = _paper(
    "CondenseNetImageNet74G8", "CondenseNet-74 (ImageNet, G=C=8)",
    (4, 6, 8, 10, 8), (8, 16, 32, 64, 128), 8, "2.9M", "274M", "29.0", **_IMAGENET,
)  # fmt: skip

# All filters of a layer share the inputs that they learn to need, and bottlenecks are half as wide: what phones execute
# faster, at the same multiply-adds (docs/benchmarks/accuracy.md, "Structures for phones").
CondenseNetPhone = FAMILY.variant(
    CondenseNet,
    "CondenseNetPhone",
    {"stages": (4, 6, 8, 10, 8), "growth_rates": (8, 16, 32, 64, 128), "stem_strides": 2},
    doc="Build CondenseNetPhone: `CondenseNet((4, 6, 8, 10, 8), (8, 16, 32, 64, 128), groups=1, window_groups=4, "
    "bottleneck_factor=2)`, condense factor 4, stem strides 2; condensing halves the classifier's inputs. A structure "
    "of this package: the layers and multiply-adds of CondenseNet-74 (G=C=8), in fewer instructions on phones. What is "
    "known of its accuracy is that a small one was no worse than the paper's structure of four groups in a short "
    "training on CIFAR-10; it was never trained on ImageNet.",
    defaults={
        "classes": 1000,
        "groups": 1,
        "condense_factor": 4,
        "bottleneck_factor": 2,
        "window_groups": 4,
        "dropout_rate": 0.0,
        "group_lasso": 0.0,
        "classifier_condense_factor": 2,
        "memory_efficient": False,
    },
    network="CondenseNetPhone",
    rule="operations",
    condensed=True,
    source="this package",
)

__all__ = ["FAMILY", *FAMILY.constructors, "decode_predictions", "preprocess_input"]
