"""What several families are made of: weights as they are drawn, gates, and the stem and layers of the CondenseNets."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_condense.layers import BatchNormalization, CondenseDense, GroupConv2D, LearnedGroupConv2D
from keras_condense.validation import check_divisible, check_positive_integer

__all__ = [
    "EPSILON",
    "MOMENTUM",
    "check_channels",
    "check_growth_rates",
    "check_of_blocks",
    "check_positive_integers",
    "classifier",
    "dense_layer",
    "kernel_initializer",
    "normalize",
    "squeeze_and_excite",
    "stem",
    "uniform_initializer",
]

EPSILON, MOMENTUM = 1e-5, 0.9


def check_positive_integers(name: str, values: Any, fix: str) -> tuple[int, ...]:
    """Return `values` as a tuple if it is a sequence of at least one positive integer.

    Args:
        name: the argument's name, for the message.
        values: what the caller gave.
        fix: a sentence that says how to fix it.

    Returns:
        The integers.

    Raises:
        ValueError: no sequence, an empty one, or a value that is no positive integer.

    Example:
        >>> check_positive_integers("stages", [14, 14, 14], "Give the layers of each block.")
        (14, 14, 14)
        >>> check_positive_integers("stages", 14, "Give the layers of each block.")
        Traceback (most recent call last):
        ...
        ValueError: `stages` (=14) must be a sequence of positive integers. Give the layers of each block.
    """
    if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__") or not len(values := tuple(values)):
        raise ValueError(f"`{name}` (={values!r}) must be a sequence of positive integers. {fix}")
    return tuple(check_positive_integer(f"{name}[{i}]", value, fix) for i, value in enumerate(values))


def check_of_blocks(name: str, value: Any, blocks: int, fix: str) -> tuple[int, ...]:
    """Return one positive integer for each block: `value` for all of them, or those that it is a sequence of.

    Args:
        name: the argument's name, for the message.
        value: what the caller gave.
        blocks: how many blocks there are.
        fix: a sentence that says how to fix it.

    Raises:
        ValueError: no positive integer and no sequence of as many as there are blocks.

    Example:
        >>> check_of_blocks("groups", 4, 3, "The paper has 4 or 8.")
        (4, 4, 4)
        >>> check_of_blocks("groups", (8, 4), 3, "The paper has 4 or 8.")
        Traceback (most recent call last):
        ...
        ValueError: `groups` (=(8, 4)) must be one number, or one for each of 3 blocks. The paper has 4 or 8.
    """
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        return (check_positive_integer(name, value, fix),) * blocks
    values = check_positive_integers(name, value, fix)
    if len(values) != blocks:
        raise ValueError(f"`{name}` (={values!r}) must be one number, or one for each of {blocks} blocks. {fix}")
    return values


def check_growth_rates(
    stages: Any, growth_rates: Any, usual_stages: str, usual_growth_rates: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return `stages` and `growth_rates`, a number of each for every block, if they are as many positive integers.

    Args:
        stages: the layers of each block.
        growth_rates: the channels that each layer of a block adds.
        usual_stages: what the paper has, for the message.
        usual_growth_rates: likewise.
    """
    stages = check_positive_integers("stages", stages, f"Give the layers of each block, for instance {usual_stages}.")
    growth_rates = check_positive_integers(
        "growth_rates", growth_rates, f"Give k of each block, for instance {usual_growth_rates}."
    )
    if len(stages) != len(growth_rates):
        raise ValueError(
            f"`growth_rates` (of {len(growth_rates)} values) must be as long as `stages` (of {len(stages)}). "
            "Give one growth rate for each block."
        )
    return stages, growth_rates


def check_channels(
    stages: tuple[int, ...],
    growth_rates: tuple[int, ...],
    groups: Sequence[int],
    condense_factors: Sequence[int],
    classifier_factor: int,
) -> None:
    """Raise for the first layer whose channels can't be divided evenly; they all follow from the arguments.

    Args:
        stages: the layers of each block.
        growth_rates: the channels that each of them adds.
        groups: of the 3x3 convolutions of each block.
        condense_factors: of the learned convolutions of each block.
        classifier_factor: the classifier's condense factor.
    """
    for block, (growth_rate, count) in enumerate(zip(growth_rates, groups, strict=True)):
        multiple = max(growth_rate // count, 1) * count
        check_divisible(
            f"growth_rates[{block}]",
            growth_rate,
            "groups",
            count,
            f"Use {multiple} or {multiple + count}, because the 3x3 convolutions of the block have {count} groups.",
        )
    channels = 2 * growth_rates[0]
    for block, (layers, growth_rate, factor) in enumerate(
        zip(stages, growth_rates, condense_factors, strict=True), start=1
    ):
        for layer in range(1, layers + 1):
            check_divisible(
                f"in_channels of block{block}_layer{layer}_1_conv",
                channels,
                "condense_factor",
                factor,
                f"Make 2 * growth_rates[0] and every growth rate a multiple of {factor}.",
            )
            channels += growth_rate
    check_divisible(
        "inputs of the classifier",
        channels,
        "classifier_condense_factor",
        classifier_factor,
        "Use 1 or 2, or change `stages` or `growth_rates`.",
    )


def kernel_initializer() -> keras.initializers.Initializer:
    """Kernels drawn from N(0, sqrt(2 / (height * width * filters)))."""
    # Keras' fan_out is height * width * filters, of a grouped kernel too: the standard deviation is sqrt(2 / fan_out)
    return keras.initializers.VarianceScaling(2.0, mode="fan_out", distribution="untruncated_normal")


def uniform_initializer() -> keras.initializers.Initializer:
    """Weights drawn from U(-1/sqrt(in), 1/sqrt(in)), the default of Torch, which the authors keep."""
    # a limit of sqrt(3 * scale / fan_in)
    return keras.initializers.VarianceScaling(1 / 3, mode="fan_in", distribution="uniform")


def classifier(condense_factor: int = 1) -> Callable[..., keras.Layer]:
    """The layer of the classes, for `Contract.model`; above 1, one input in `condense_factor` is left at the end."""
    if condense_factor == 1:
        return functools.partial(keras.layers.Dense, kernel_initializer=uniform_initializer())
    return functools.partial(CondenseDense, condense_factor=condense_factor, kernel_initializer=uniform_initializer())


def squeeze_and_excite(x: keras.KerasTensor, squeezed: int, name: str, **convolution: Any) -> keras.KerasTensor:
    """Channels scaled by gates that follow from their means through a layer of `squeezed` units (arXiv:1709.01507)."""
    gates = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_pool")(x)
    gates = keras.layers.Conv2D(squeezed, 1, activation="relu", **convolution, name=f"{name}_1_conv")(gates)
    gates = keras.layers.Conv2D(x.shape[-1], 1, activation="sigmoid", **convolution, name=f"{name}_2_conv")(gates)
    return keras.layers.Multiply(name=f"{name}_scale")([x, gates])


def stem(image: keras.KerasTensor, filters: int, strides: int) -> keras.KerasTensor:
    """A 3x3 convolution, padded by a pixel on every side."""
    if strides == 1:
        padding = "same"
    else:  # "same" would put the padding of an even image on one side only; the authors pad both
        image, padding = keras.layers.ZeroPadding2D(1, name="stem_pad")(image), "valid"
    return keras.layers.Conv2D(
        filters,
        3,
        strides=strides,
        padding=padding,
        use_bias=False,
        kernel_initializer=kernel_initializer(),
        name="stem_conv",
    )(image)


def group_convolution(x: keras.KerasTensor, filters: int, groups: int, name: str) -> keras.KerasTensor:
    """The 3x3 group convolution that makes the new features of a dense layer."""
    return GroupConv2D(filters, 3, padding="same", groups=groups, kernel_initializer=kernel_initializer(), name=name)(x)


def dense_layer(
    x: keras.KerasTensor,
    growth_rate: int,
    groups: int,
    condense_factor: int,
    bottleneck_factor: int,
    dropout_rate: float,
    group_lasso: float,
    name: str,
    window_groups: int | None = None,
) -> keras.KerasTensor:
    """The features so far and `growth_rate` new ones; the 3x3 convolution may have other groups than the 1x1."""
    new = normalize(x, f"{name}_1_")
    if dropout_rate:
        new = keras.layers.Dropout(dropout_rate, name=f"{name}_1_drop")(new)
    new = LearnedGroupConv2D(
        bottleneck_factor * growth_rate,
        1,
        groups=groups,
        condense_factor=condense_factor,
        group_lasso=group_lasso,
        kernel_initializer=kernel_initializer(),
        name=f"{name}_1_conv",
    )(new)
    new = normalize(new, f"{name}_2_")
    new = group_convolution(new, growth_rate, window_groups or groups, f"{name}_2_conv")
    return keras.layers.Concatenate(name=f"{name}_concat")([x, new])


def normalize(x: keras.KerasTensor, prefix: str, activation: str = "relu") -> keras.KerasTensor:
    """Batch norm and activation, under names that begin with `prefix`."""
    x = BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON, name=f"{prefix}bn")(x)
    return keras.layers.Activation(activation, name=f"{prefix}{activation}")(x)
