"""CondenseNetV2 (Yang et al., "CondenseNet V2: Sparse Feature Reactivation for Deep Networks").

CVPR 2021, arXiv:2104.04382.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_condense.applications.contract import Contract
from keras_condense.applications.families import Constructor, Family, SharedKeywords, Unpack
from keras_condense.applications.imagenet import decode_predictions, preprocess_input
from keras_condense.applications.parts import (
    check_channels,
    check_growth_rates,
    classifier,
    group_convolution,
    kernel_initializer,
    normalize,
    squeeze_and_excite,
    stem,
    uniform_initializer,
)
from keras_condense.layers import LearnedGroupConv2D, SparseFeatureReactivation
from keras_condense.validation import check_positive_integer

FAMILY = Family(__name__)

# by how much squeeze-excitation narrows the features before the classifier; in the layers it does not
SQUEEZE_FACTOR = 16


@FAMILY.constructor()
def CondenseNetV2(
    stages: Sequence[int],
    growth_rates: Sequence[int],
    groups: int = 8,
    condense_factor: int = 8,
    bottleneck_factor: int = 4,
    hidden_units: int = 1024,
    hard_swish_from_block: int = 3,
    squeeze_excitation_from_block: int = 4,
    stem_strides: int = 2,
    group_lasso: float = 0.0,
    **shared: Unpack[SharedKeywords],
) -> keras.Model:
    """Build a CondenseNetV2 as it is trained: with learned groups and sparse feature reactivation, nothing pruned yet.

    A 3x3 stem to 2*k0 channels; then in each layer of a block, as in `CondenseNet`, BN, activation, learned 1x1 group
    convolution to `bottleneck_factor` * k, BN, activation, 3x3 group convolution to k, here with squeeze-excitation in
    the later blocks. These k new features are concatenated to the block's features so far once they have updated them:
    BN, activation and `SparseFeatureReactivation` of the new ones are added. 2x2 average pooling between
    blocks; the classifier is squeeze-excitation, a hidden layer with hard-swish and the dense layer of the classes.
    The activation is ReLU, and hard-swish in the later blocks. Train it with
    `keras_condense.callbacks.CondenseSchedule`, then shrink it with `keras_condense.condense`.

    Convolutions are drawn from N(0, sqrt(2 / (height * width * filters))), dense layers and squeeze-excitation from
    U(-1/sqrt(in), 1/sqrt(in)), as in the authors' program.

    Args:
        stages: the number of layers of each dense block.
        growth_rates: k of each block: the channels that each of its layers adds.
        groups: groups of the learned 1x1 convolutions, the 3x3 convolutions and the reactivations.
        condense_factor: C; the condensed network keeps 1/C of the connections of learned convolutions and
            reactivations (of these the paper calls it the sparse factor S).
        bottleneck_factor: outputs of the learned 1x1 convolution are this many times k.
        hidden_units: units of the classifier's hidden layer.
        hard_swish_from_block: the first block, counted from 1, whose activation is hard-swish.
        squeeze_excitation_from_block: the first block, counted from 1, whose layers have squeeze-excitation.
        stem_strides: strides of the first convolution: 1 for images of about 32x32 pixels, 2 for ImageNet.
        group_lasso: weight of the group lasso of learned convolutions and reactivations in the loss; the authors train
            without.
        include_top: whether the classifier, hidden layer included, is part of the model.
        weights: None (random), or the path of a `.weights.h5` or `.keras` file. "imagenet" is refused: the authors'
            files are PyTorch's.
        input_shape: (height, width, channels); height and width may be None if `include_top` is False. By default
            (224, 224, 3), and (32, 32, 3) with `stem_strides` 1; (None, None, 3) without the classifier.
        **shared: what every constructor takes, described in `shared.SharedArguments`.

    Returns:
        The model, not compiled.

    Raises:
        ValueError: a bad argument, numbers of channels that the groups or the condense factor don't divide, or a
            file of weights that is broken or another network's.

    Example:
        >>> model = CondenseNetV2((2, 2), (8, 16), groups=4, condense_factor=4, input_shape=(32, 32, 3), classes=10)
        >>> model.output_shape
        (None, 10)
        >>> tuple(model.get_layer("block1_layer2_3_conv").kernel.shape)  # height, width, in, filters
        (1, 1, 8, 24)
        >>> CondenseNetV2((2, 2), (6, 12))
        Traceback (most recent call last):
        ...
        ValueError: `growth_rates[0]` (=6) must be divisible by `groups` (=8). Use 8 or 16, ...
    """
    stages, growth_rates = check_growth_rates(stages, growth_rates, "(2, 4, 6, 8, 6)", "(6, 12, 24, 48, 96)")
    for argument, value, fix in (
        ("groups", groups, "The paper has 6 or 8 groups; 1 turns them off."),
        ("condense_factor", condense_factor, "The paper has 6 or 8; 1 keeps all connections."),
        ("bottleneck_factor", bottleneck_factor, "The paper has 4."),
        ("hidden_units", hidden_units, "The paper has 828 or 1024."),
        ("hard_swish_from_block", hard_swish_from_block, "The paper has 3; a number above the blocks' for none."),
        (
            "squeeze_excitation_from_block",
            squeeze_excitation_from_block,
            "The paper has 4; a number above the blocks' for none.",
        ),
        ("stem_strides", stem_strides, "Use 1 for small images, 2 for ImageNet's."),
    ):
        check_positive_integer(argument, value, fix)
    count = len(stages)
    check_channels(stages, growth_rates, (groups,) * count, (condense_factor,) * count, classifier_factor=1)
    contract = Contract(
        default_size=32 if stem_strides == 1 else 224,
        # the stem makes ceil(size / strides), each pooling floor(size / 2)
        min_size=stem_strides * (2 ** (len(stages) - 1) - 1) + 1,
        **shared,
    )
    image = contract.image()
    x = stem(image, 2 * growth_rates[0], stem_strides)
    for block, (layers, growth_rate) in enumerate(zip(stages, growth_rates, strict=True), start=1):
        if block > 1:
            x = keras.layers.AveragePooling2D(2, name=f"pool{block - 1}")(x)
        for layer in range(1, layers + 1):
            x = _dense_layer(
                x,
                growth_rate,
                groups=groups,
                condense_factor=condense_factor,
                bottleneck_factor=bottleneck_factor,
                activation="hard_swish" if block >= hard_swish_from_block else "relu",
                squeeze_excitation=block >= squeeze_excitation_from_block,
                group_lasso=group_lasso,
                name=f"block{block}_layer{layer}",
            )
    return contract.model(image, normalize(x, ""), _classifier(hidden_units))


def _dense_layer(
    x: keras.KerasTensor,
    growth_rate: int,
    groups: int,
    condense_factor: int,
    bottleneck_factor: int,
    activation: str,
    squeeze_excitation: bool,
    group_lasso: float,
    name: str,
) -> keras.KerasTensor:
    """The features so far, updated, and `growth_rate` new ones."""
    learned = {
        "groups": groups,
        "condense_factor": condense_factor,
        "group_lasso": group_lasso,
        "kernel_initializer": kernel_initializer(),
    }
    new = normalize(x, f"{name}_1_", activation)
    new = LearnedGroupConv2D(bottleneck_factor * growth_rate, 1, **learned, name=f"{name}_1_conv")(new)
    new = normalize(new, f"{name}_2_", activation)
    new = group_convolution(new, growth_rate, groups, f"{name}_2_conv")
    if squeeze_excitation:
        new = squeeze_and_excite(new, growth_rate, f"{name}_se", **_gate())
    # The authors' layer begins with the scale (gamma) of this batch norm at zero, and their network then sets those of
    # all batch norms to one: this is what they trained.
    update = normalize(new, f"{name}_3_", activation)
    update = SparseFeatureReactivation(x.shape[-1], **learned, name=f"{name}_3_conv")(update)
    x = keras.layers.Add(name=f"{name}_add")([x, update])
    return keras.layers.Concatenate(name=f"{name}_concat")([x, new])


def _gate() -> dict[str, Any]:
    """Arguments of a layer of squeeze-excitation."""
    return {"use_bias": False, "kernel_initializer": uniform_initializer()}


def _classifier(hidden_units: int) -> Callable[..., Callable]:
    """Squeeze-excitation, a hidden layer and the classes, in the form that `Contract.model` asks for."""

    def build(classes: int, activation: str | Callable | None, dtype: str | None, name: str) -> Callable:
        def call(means: keras.KerasTensor) -> keras.KerasTensor:
            channels = means.shape[-1]
            squeezed = max(channels // SQUEEZE_FACTOR, 1)
            gates = keras.layers.Dense(squeezed, activation="relu", **_gate(), name="se_1_dense")(means)
            gates = keras.layers.Dense(channels, activation="sigmoid", **_gate(), name="se_2_dense")(gates)
            x = keras.layers.Multiply(name="se_scale")([means, gates])
            x = keras.layers.Dense(hidden_units, kernel_initializer=uniform_initializer(), name="hidden")(x)
            x = keras.layers.Activation("hard_swish", name="hidden_hard_swish")(x)
            return classifier()(classes, activation=activation, dtype=dtype, name=name)(x)

        return call

    return build


def _paper(
    name: str,
    network: str,
    stages: tuple[int, ...],
    growth_rates: tuple[int, ...],
    groups: int,
    hidden_units: int,
    parameters: str,
    operations: str,
    error: str,
) -> Constructor:
    """A network of the paper, for ImageNet, of as many groups as its condense factor."""
    return FAMILY.variant(
        CondenseNetV2,
        name,
        {"stages": stages, "growth_rates": growth_rates},
        doc=f"Build {name}: `CondenseNetV2({stages}, {growth_rates})`, {groups} groups, condense factor {groups}, "
        f"{hidden_units} hidden units.",
        defaults={"groups": groups, "condense_factor": groups, "hidden_units": hidden_units, "group_lasso": 0.0},
        network=network,
        parameters=parameters,
        operations=operations,
        rule="operations",
        condensed=True,
        error=error,
        source="arXiv:2104.04382; github.com/jianghaojun/CondenseNetV2",
    )


CondenseNetV2A = _paper(
    "CondenseNetV2A", "CondenseNetV2-A", (1, 1, 4, 6, 8), (8, 8, 16, 32, 64), 8, 828, "2.0M", "46M", "35.6"
)
CondenseNetV2B = _paper(
    "CondenseNetV2B", "CondenseNetV2-B", (2, 4, 6, 8, 6), (6, 12, 24, 48, 96), 6, 1024, "3.6M", "146M", "28.1"
)
CondenseNetV2C = _paper(
    "CondenseNetV2C", "CondenseNetV2-C", (4, 6, 8, 10, 8), (8, 16, 32, 64, 128), 8, 1024, "6.1M", "309M", "24.1"
)

__all__ = ["FAMILY", *FAMILY.constructors, "decode_predictions", "preprocess_input"]
