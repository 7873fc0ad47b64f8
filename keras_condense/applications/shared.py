"""The arguments that every constructor takes besides those of its own family: names, types, defaults, descriptions."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import TypedDict

import keras

__all__ = ["SharedArguments", "SharedKeywords"]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class SharedArguments:
    """What all image classifiers take, as in `keras.applications`.

    The descriptions are those of every constructor's docstring that has no description of its own.

    Attributes:
        include_top: whether the classifier is part of the model.
        weights: None (random), a data set for which `pretrained.WEIGHTS` has weights of the network, or the path of a
            `.weights.h5`, `.keras` or `.h5` file, or of one of pytorchcv, `.pth` or `.pth.zip`.
        input_tensor: a Keras tensor (batch, height, width, channels) to be used as the image.
        input_shape: (height, width, channels); height and width may be None if `include_top` is False.
        pooling: without the classifier: None for the feature map, "avg" or "max" for its global pooling.
        classes: outputs of the classifier.
        classifier_activation: the classifier's activation: a name, a callable, or None for logits.
        name: the model's name.
        memory_efficient: as `DenseNet`'s: less memory in a training step for more time, and the same results.
    """

    include_top: bool = True
    weights: str | os.PathLike | None = None
    input_tensor: keras.KerasTensor | None = None
    input_shape: Sequence[int | None] | None = None
    pooling: str | None = None
    classes: int = 1000
    classifier_activation: str | Callable | None = "softmax"
    name: str | None = None
    memory_efficient: bool = False  # the one that only some families take, and by keyword only


class SharedKeywords(TypedDict, total=False):
    """The types once more, as editors need them to complete `**shared`; a test compares them with the above."""

    include_top: bool
    weights: str | os.PathLike | None
    input_tensor: keras.KerasTensor | None
    input_shape: Sequence[int | None] | None
    pooling: str | None
    classes: int
    classifier_activation: str | Callable | None
    name: str | None
    memory_efficient: bool
