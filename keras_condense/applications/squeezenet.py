"""SqueezeNet (Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size").

2016, arXiv:1602.07360.
"""

import functools
from collections.abc import Callable

import keras

from keras_condense.applications.contract import Contract, dtype_of_scores
from keras_condense.applications.families import Family, SharedKeywords, Unpack
from keras_condense.applications.imagenet import decode_predictions, preprocess_input
from keras_condense.applications.published import Published
from keras_condense.validation import check_choice

FAMILY = Family(__name__)

# filters and kernel size of the first convolution, and the fire modules before which the image is halved
_VERSIONS = {"1.0": (96, 7, (2, 5, 9)), "1.1": (64, 3, (2, 4, 6))}
_FIRES = range(2, 10)  # conv1 and conv10 stand around them
_DROPOUT_RATE = 0.5


@FAMILY.constructor()
def SqueezeNet(
    version: str = "1.0",
    bypass: str | None = None,
    **shared: Unpack[SharedKeywords],
) -> keras.Model:
    """Build a SqueezeNet.

    A convolution, eight fire modules (a 1x1 convolution squeezes the channels to an eighth of what 1x1 and 3x3
    convolutions, concatenated, expand them to) and 3x3 max pooling, stride 2, between; then dropout of 0.5, a 1x1
    convolution to the classes, and its average over the image. Every convolution has a bias, and ReLU but on the
    bypasses; there is no batch norm. Sections 3 and 6 and table 1 of the paper, figure 2 for the bypasses.

    Version 1.1, of the authors' repository, begins with fewer and smaller filters and pools earlier, which saves more
    than half of the operations at the same accuracy.

    Like Caffe, in which the authors wrote it, the poolings round sizes up: a feature map of even height or width gets a
    row or column of zeros at its end. At the default size all are odd.

    Kernels are drawn from U(-sqrt(3/in), sqrt(3/in)), `in` counting height * width * inputs, the last one's from
    N(0, 0.01), as in the authors' program.

    The authors only subtract the mean colour from their images. `preprocess_input` divides by the standard deviation
    too, as the published weights need it, which are pytorchcv's.

    Args:
        version: "1.0" (the paper's) or "1.1".
        bypass: None, "simple" (the input of every second fire module, of those that keep the number of channels, is
            added to its output) or "complex" (the other modules have a bypass too, through a 1x1 convolution). Only
            version 1.0 has bypasses.
        weights: None (random), "imagenet" (without bypass, or 1.0 with the simple one; trained by the authors of
            pytorchcv, because this paper's authors published files of Caffe), or the path of a `.weights.h5`, `.keras`,
            `.pth` or `.pth.zip` file.
        input_shape: (height, width, channels); height and width may be None if `include_top` is False. By default
            (227, 227, 3), the authors' crop, of which the sizes in the paper's table follow, and (224, 224, 3) with
            the published weights, whose crop that is; (None, None, 3) without the classifier.
        **shared: what every constructor takes, described in `shared.SharedArguments`.

    Returns:
        The model, not compiled.

    Raises:
        ValueError: a bad argument, or a file of weights that is broken or another network's.

    Example:
        >>> model = SqueezeNet()
        >>> model.output_shape, model.count_params()
        ((None, 1000), 1248424)
        >>> SqueezeNet("1.1", bypass="simple")
        Traceback (most recent call last):
        ...
        ValueError: `bypass` (='simple') must be None with `version` (='1.1'). Use version='1.0', ...
    """
    check_choice("version", version, _VERSIONS, "Use '1.0' for the network of the paper.")
    check_choice("bypass", bypass, (None, "simple", "complex"), "Leave it out for the plain network.")
    if bypass is not None and version != "1.0":
        raise ValueError(
            f"`bypass` (={bypass!r}) must be None with `version` (={version!r}). Use version='1.0', which has bypasses."
        )
    stem_filters, stem_size, halved_before = _VERSIONS[version]
    contract = Contract(
        constructor="SqueezeNet",
        arguments={"version": version, "bypass": bypass},
        default_size=227,
        # each pooling makes floor(size / 2), the first convolution floor((size - stem_size) / 2) + 1
        min_size=2 * (2 ** len(halved_before) - 1) + stem_size,
        **shared,
    )
    image = contract.image()
    x = _convolve(image, stem_filters, stem_size, "conv1", strides=2, padding="valid")
    for fire in _FIRES:
        if fire in halved_before:
            x = _halve(x, f"pool{fire - 1}")
        x = _bypassed(x, _fire(x, fire), bypass, f"fire{fire}")
    head = functools.partial(_head, classes=contract.classes, activation=contract.classifier_activation)
    return contract.model(image, x, head=head)


def _fire(x: keras.KerasTensor, number: int) -> keras.KerasTensor:
    step = number // 2  # two modules each of 1, 2, 3 and 4 times the first one's filters
    squeezed = _convolve(x, 16 * step, 1, f"fire{number}_squeeze1x1")
    expanded = [_convolve(squeezed, 64 * step, size, f"fire{number}_expand{size}x{size}") for size in (1, 3)]
    return keras.layers.Concatenate(name=f"fire{number}_concat")(expanded)


def _bypassed(x: keras.KerasTensor, new: keras.KerasTensor, bypass: str | None, name: str) -> keras.KerasTensor:
    """`new`, and `x` added to it if there is a bypass of that kind around a module from `x` to `new`."""
    same_channels = x.shape[-1] == new.shape[-1]
    if bypass is None or (bypass == "simple" and not same_channels):
        return new
    if not same_channels:
        x = _convolve(x, new.shape[-1], 1, f"{name}_bypass", activation=None)
    return keras.layers.Add(name=f"{name}_add")([x, new])


def _halve(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    # Windows leave nothing of an odd size over. After a ReLU zeros at the end never are a maximum; after the complex
    # bypass, which may be below zero, they can be, and the paper says nothing of that border.
    at_the_end = [0 if size is not None and size % 2 else 1 for size in x.shape[1:3]]
    if any(at_the_end):
        x = keras.layers.ZeroPadding2D([(0, rows) for rows in at_the_end], name=f"{name}_pad")(x)
    return keras.layers.MaxPooling2D(3, strides=2, name=name)(x)


def _convolve(
    x: keras.KerasTensor,
    filters: int,
    kernel_size: int,
    name: str,
    strides: int = 1,
    padding: str = "same",
    activation: str | None = "relu",
) -> keras.KerasTensor:
    return keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding=padding,
        activation=activation,
        kernel_initializer=keras.initializers.LecunUniform(),  # what Caffe calls "xavier"
        name=name,
    )(x)


def _head(features: keras.KerasTensor, classes: int, activation: str | Callable | None) -> keras.KerasTensor:
    x = keras.layers.Dropout(_DROPOUT_RATE, name="drop9")(features)
    initializer = keras.initializers.RandomNormal(stddev=0.01)
    x = keras.layers.Conv2D(classes, 1, activation="relu", kernel_initializer=initializer, name="conv10")(x)
    x = keras.layers.GlobalAveragePooling2D(name="avg_pool")(x)
    return keras.layers.Activation(activation, dtype=dtype_of_scores(), name="predictions")(x)


_PAPER = "arXiv:1602.07360"
# The paper prints accuracies, of which the errors are what is missing to 100 %. For sizes it has the megabytes of the
# files: 4.8 of the plain network and with the simple bypass, as here (1,248,424 numbers of 4 bytes, 2^20 bytes a
# megabyte), but 7.7 with the complex one. The 1x1 convolutions that the text and figure 2 ask for come to 6.1.
# The repository counts 1.72G and 0.72G operations an image of versions 1.0 and 1.1, two a multiply-add. Ours come to
# 1.67G, because the authors pad the last map, and 0.78G (0.70G at 224x224).
FAMILY.publish(
    Published(
        network="SqueezeNet v1.0",
        constructor="SqueezeNet",
        parameters="1,248,424",
        error="42.5",
        source=f"{_PAPER}, tables 1 and 3",
    ),
    Published(
        network="SqueezeNet v1.0 (simple bypass)",
        constructor="SqueezeNet",
        arguments={"bypass": "simple"},
        error="39.6",
        source=f"{_PAPER}, table 3",
    ),
    Published(
        network="SqueezeNet v1.0 (complex bypass)",
        constructor="SqueezeNet",
        arguments={"bypass": "complex"},
        error="41.2",
        source=f"{_PAPER}, table 3",
    ),
    Published(
        network="SqueezeNet v1.1",
        constructor="SqueezeNet",
        arguments={"version": "1.1"},
        source="github.com/forresti/SqueezeNet",
    ),
)

__all__ = ["FAMILY", *FAMILY.constructors, "decode_predictions", "preprocess_input"]
