"""MobileNet (Howard et al., arXiv:1704.04861) and MobileNetV2 (Sandler et al., CVPR 2018, arXiv:1801.04381).

The networks are `keras.applications`' own, built with the arguments and the errors of this package, so that they can
stand beside the others.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_condense.applications.contract import Contract
from keras_condense.applications.families import Family, SharedKeywords, Unpack
from keras_condense.applications.imagenet import decode_predictions
from keras_condense.applications.published import Published
from keras_condense.validation import check_not_negative

FAMILY = Family(__name__)

preprocess_input = keras.applications.mobilenet.preprocess_input  # scales to [-1, 1]

# heights and widths of the images that the ImageNet weights are for
_SIZES, _SIZES_V2 = (128, 160, 192, 224), (96, 128, 160, 192, 224)


@FAMILY.constructor(weights="imagenet")
def MobileNet(
    alpha: float = 1.0,
    **shared: Unpack[SharedKeywords],
) -> keras.Model:
    """Build a MobileNet: 3x3 depthwise convolutions, each followed by a 1x1 one.

    Section 3 of the paper; `keras.applications.MobileNet` builds it.

    Args:
        alpha: the width multiplier: each layer has this many times the paper's filters, at least 1/32.
        weights: None (random), "imagenet" (for an alpha of 0.25, 0.5, 0.75 or 1.0), or the path of a `.weights.h5`,
            `.keras` or `.h5` file. Those for ImageNet are of square images of 128, 160, 192 or 224 pixels, whichever
            the model is built for, and of 224 for any other size, which needs `include_top=False`.
        input_shape: (height, width, channels), at least 32x32; height and width may be None if `include_top` is False.
            By default (224, 224, 3) with the classifier and (None, None, 3) without it.
        **shared: what every constructor takes, described in `shared.SharedArguments`.

    Returns:
        The model, not compiled.

    Raises:
        ValueError: a bad argument, or a file of weights that is broken or another network's.

    Example:
        >>> model = MobileNet(0.25, weights=None, input_shape=(32, 32, 3), classes=10)
        >>> model.output_shape, model.count_params()
        ((None, 10), 221114)
        >>> MobileNet(0.01)
        Traceback (most recent call last):
        ...
        ValueError: `alpha` (=0.01) must be at least 0.03125, because the first layer has 32 * alpha filters. Use ...
    """
    alpha = _check_alpha(alpha)
    if alpha < 1 / 32:
        raise ValueError(
            f"`alpha` (={alpha}) must be at least {1 / 32}, because the first layer has 32 * alpha filters. "
            "Use 0.25, 0.5, 0.75 or 1.0."
        )
    contract = Contract(
        constructor="MobileNet",
        arguments={"alpha": alpha},
        default_size=_image_size(_SIZES, shared["input_tensor"], shared["input_shape"]),
        min_size=32,
        **shared,
    )
    return _build(keras.applications.MobileNet, alpha, contract)


@FAMILY.constructor(weights="imagenet")
def MobileNetV2(
    alpha: float = 1.0,
    **shared: Unpack[SharedKeywords],
) -> keras.Model:
    """Build a MobileNetV2: 1x1 to six times the channels, 3x3 depthwise, 1x1 back to few, and a shortcut past them.

    Section 3 of the paper; `keras.applications.MobileNetV2` builds it.

    Args:
        alpha: the width multiplier: each layer has about this many times the paper's filters, a multiple of 8.
        weights: None (random), "imagenet" (for an alpha of 0.35, 0.5, 0.75, 1.0, 1.3 or 1.4), or the path of a
            `.weights.h5`, `.keras` or `.h5` file. Those for ImageNet are of square images of 96, 128, 160, 192 or 224
            pixels, whichever the model is built for, and of 224 for any other size, which needs `include_top=False`;
            for an alpha above 1 they are of 224 alone.
        input_tensor: as `MobileNet`'s, and so are all arguments that follow.
        input_shape: (height, width, channels), at least 32x32.
        pooling: None, "avg" or "max".
        **shared: what every constructor takes, described in `shared.SharedArguments`.

    Returns:
        The model, not compiled.

    Raises:
        ValueError: a bad argument, or a file of weights that is broken or another network's.

    Example:
        >>> model = MobileNetV2(0.35, weights=None, include_top=False, pooling="avg")
        >>> model.output_shape
        (None, 1280)
    """
    alpha = _check_alpha(alpha)
    contract = Contract(
        constructor="MobileNetV2",
        arguments={"alpha": alpha},
        default_size=_image_size(_SIZES_V2 if alpha <= 1 else (224,), shared["input_tensor"], shared["input_shape"]),
        min_size=32,
        **shared,
    )
    return _build(keras.applications.MobileNetV2, alpha, contract)


def _check_alpha(alpha: Any) -> float:
    return check_not_negative("alpha", alpha, "Use 0.5 for half of the filters, 1.0 for all.", above_zero=True)


def _image_size(sizes: tuple[int, ...], input_tensor: Any, input_shape: Any) -> int:
    """Height and width of the images that the ImageNet weights are for: the model's own if it is one of `sizes`."""
    shape = input_shape if input_tensor is None else getattr(input_tensor, "shape", ())[1:]
    for size in sizes:
        if isinstance(shape, Sequence) and tuple(shape[:2]) == (size, size):
            return size
    return 224


def _build(constructor: Callable[..., keras.Model], alpha: float, contract: Contract) -> keras.Model:
    image = contract.image()
    network = constructor(
        alpha=alpha,
        include_top=contract.include_top,
        weights=None,
        input_tensor=image,
        pooling=contract.pooling,
        classes=contract.classes,
        classifier_activation=contract.classifier_activation,
    )
    return contract.model_of(image, network.output)


_PAPER, _PAPER_V2 = "arXiv:1704.04861", "arXiv:1801.04381"

FAMILY.publish(
    *(
        Published(
            network=f"MobileNet {alpha}x, {size}",
            constructor="MobileNet",
            arguments={"alpha": alpha, "input_shape": (size, size, 3)},
            parameters=parameters,
            operations=operations,
            error=error,
            source=f"{_PAPER}, table {table}",
        )
        for alpha, size, parameters, operations, error, table in (
            (1.0, 224, "4.2M", "569M", "29.4", 6),
            (0.75, 224, "2.6M", "325M", "31.6", 6),
            (0.5, 224, "1.3M", "149M", "36.3", 6),
            (0.25, 224, "0.5M", "41M", "49.4", 6),
            (1.0, 192, "4.2M", "418M", "30.9", 7),
            (1.0, 160, "4.2M", "290M", "32.8", 7),
            (1.0, 128, "4.2M", "186M", "35.6", 7),
        )
    ),
    Published(
        network="MobileNetV2 1.0x, 224",
        constructor="MobileNetV2",
        parameters="3.4M",
        operations="300M",
        error="28.0",
        source=f"{_PAPER_V2}, table 4",
    ),
)

__all__ = ["FAMILY", *FAMILY.constructors, "decode_predictions", "preprocess_input"]
