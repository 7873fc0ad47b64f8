"""Evaluation of a network, or of a file, on images that are made as published weights need them."""

import argparse
import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import command_line
import scores

if TYPE_CHECKING:
    import numpy as np

TOP = 5
# what `--weights` names: where the images are on which its error was published, and what they are called
TEST_SETS = {
    "imagenet": ("imagenet2012", "ImageNet's 50,000 validation images"),
    "cifar10": ("cifar10", "the 10,000 test images of CIFAR-10"),
    "cifar100": ("cifar100", "the 10,000 test images of CIFAR-100"),
    "svhn": ("svhn_cropped", "the 26,032 test images of SVHN"),
}


def evaluate_as_published(arguments: argparse.Namespace) -> None:
    import keras_condense as kc

    if arguments.image_size is not None:
        raise ValueError(
            f"`--image-size` (={arguments.image_size}) must be left out with --weights or --preprocessing, which say "
            "how images are resized. Leave it out."
        )
    row, preprocessing = _row_and_preprocessing(arguments)
    if arguments.weights is not None:
        command_line.check_complete("MODEL", arguments.model)
    else:
        predict, shape = scores.read_file(arguments)
    images = kc.datasets.load_evaluation(
        arguments.dataset, preprocessing, batch_size=arguments.batch_size, data_dir=arguments.data_dir
    )
    _check_classes(arguments, row, images.class_names)
    if arguments.weights is not None:  # fetched once it is known that they fit the images
        model = _build(arguments, row)
        predict, shape = model.predict_on_batch, model.input_shape[1:]
    expected = (preprocessing.size, preprocessing.size, 3)
    if shape is not None and any(side not in (None, wanted) for side, wanted in zip(shape, expected, strict=True)):
        raise ValueError(
            f"`MODEL` (={arguments.model!r}) takes images of {shape}, and the preprocessing makes {expected}. Give "
            "--preprocessing of the weights that the network was trained with."
        )
    print(images, flush=True)  # before the work, so that a mistake is seen at once
    _print_errors(_wrong(predict, images), images.size, row)


def _print_errors(wrong: dict[int, int], size: int, row: Any) -> None:
    published = {1: getattr(row, "published_error", None), TOP: getattr(row, "published_top5_error", None)}
    measured = getattr(row, "measured_error", None)
    for top, count in wrong.items():
        known = "none published" if published[top] is None else f"published {published[top]:.2f} %"
        if top == 1 and published[1] is None and measured is not None:
            known = f"{measured:.2f} % when it was packaged"
        print(f"top-{top} error    {100 * count / size:.2f} % ({count:,} of {size:,}), {known}")
    if row is None:
        return
    network = f"{row.constructor}({', '.join(f'{name}={value!r}' for name, value in row.arguments.items())})"
    network = network.removesuffix("()")
    if published[1] is not None:
        print(f"published      for {network} on {TEST_SETS[row.dataset][1]}, {row.address}")
    else:
        print(f"weights        of {network}, {row.address}")


def _row_and_preprocessing(arguments: argparse.Namespace) -> tuple[Any, Any]:
    """Return the row of the published weights that were named, or None, and how images are made; name the test set."""
    weights, given = arguments.weights, arguments.preprocessing
    if weights is None or _is_file(weights):
        if given is None or arguments.dataset is None:
            raise ValueError(
                f"`--preprocessing` and `--dataset` must be given for {weights or arguments.model!r}, for a file does "
                "not say what it was trained on, nor how. Give for instance --preprocessing DenseNet121:imagenet "
                "--dataset imagenet_v2."
            )
        return _read_preprocessing(given)
    if given is not None:
        raise ValueError(
            f"`--preprocessing` (={given!r}) must be left out with --weights (={weights!r}), which have their own. "
            "Leave one of them out; or give --weights the path of an existing file."
        )
    row = _row("--weights", *command_line.read_network("MODEL", arguments.model), weights)
    own, described = TEST_SETS[row.dataset]
    arguments.dataset = arguments.dataset or own
    is_own = row.dataset == "imagenet" or arguments.dataset.endswith(".npz") or arguments.dataset.split(":")[0] == own
    if not is_own:
        raise ValueError(
            f"`--dataset` (={arguments.dataset!r}) must be {own!r} or an .npz file of it with --weights {weights}: the "
            f"error was published on {described}. Leave it out."
        )
    return row, row.preprocessing


def _read_preprocessing(text: str) -> tuple[Any, Any]:
    from keras_condense.applications.preprocessing import Preprocessing

    if text.strip().startswith("Preprocessing("):
        _, options = command_line.read_call("--preprocessing", text)
        fields = [field.name for field in dataclasses.fields(Preprocessing)]
        if not {"size", "mean", "std"} <= options.keys() <= set(fields):
            raise ValueError(
                f"`--preprocessing` (={text!r}) must have arguments among {', '.join(fields)}, of which size, mean and "
                "std must be given. Add or remove some."
            )
        return None, Preprocessing(**options)
    network, _, weights = text.rpartition(":")
    if not network:
        raise ValueError(
            f"`--preprocessing` (={text!r}) must be the name of a network and of its weights with a colon between, or "
            "Preprocessing(...). Write for instance CondenseNetImageNet74G8:imagenet."
        )
    row = _row("--preprocessing", *command_line.read_network("--preprocessing", network), weights)
    return row, row.preprocessing


def _row(option: str, constructor: Callable, options: dict[str, Any], weights: str) -> Any:
    from keras_condense.applications import pretrained

    names = pretrained.weights_of(constructor.__name__, options)
    if weights not in names:
        raise ValueError(
            f"`{option}` names the weights {weights!r} of {constructor.__name__}, and there are "
            f"{', '.join(map(repr, names)) or 'none'} of it with these arguments. "
            f"{pretrained.available(constructor.__name__)}"
        )
    return pretrained.find_weights(constructor.__name__, weights, options)


def _is_file(weights: str) -> bool:
    """Whether `--weights` is a path; a name goes before a file or a folder of that name, as in the constructors."""
    return weights not in TEST_SETS and os.path.isfile(weights)


def _build(arguments: argparse.Namespace, row: Any) -> Any:
    constructor, options = command_line.read_network("MODEL", arguments.model)
    if not _is_file(arguments.weights):
        options.setdefault("classes", row.classes)
    return constructor(**options, weights=arguments.weights)


def _check_classes(arguments: argparse.Namespace, row: Any, class_names: Sequence[str]) -> None:
    """Raise unless labels mean what the weights mean by them; a file's other count of classes shows in its outputs."""
    from keras_condense.datasets.imagenet import CLASSES, has_imagenet_classes

    is_published = arguments.weights is not None and not _is_file(arguments.weights)
    if is_published and len(class_names) != row.classes:
        raise ValueError(
            f"`--dataset` (={arguments.dataset!r}) must have the {row.classes} classes of the weights, and has "
            f"{len(class_names)}. Choose the data set that the network was trained on."
        )
    is_of_imagenet = row is not None and row.dataset == "imagenet"
    if is_of_imagenet and len(class_names) == CLASSES and not has_imagenet_classes(class_names):
        raise ValueError(
            f"`--dataset` (={arguments.dataset!r}) must number ImageNet's classes as the weights do, by the sorted "
            f"WordNet numbers, and begins with {', '.join(class_names[:3])}. Choose another data set."
        )


def _wrong(predict: Callable, images: Any) -> dict[int, int]:
    """Count the images whose class is not among the best one and the best few; of few classes the best one alone."""
    classes = len(images.class_names)
    wrong = dict.fromkeys((1, TOP) if classes > TOP else (1,), 0)
    for batch, labels in scores.shown(images, len(images)):
        outputs = predict(batch)
        scores.check_scores(outputs, classes)
        ranks = _ranks(outputs, labels)
        for top in wrong:
            wrong[top] += int((ranks >= top).sum())
    return wrong


def _ranks(outputs: "np.ndarray", labels: "np.ndarray") -> "np.ndarray":
    """Return how many classes stand before the right one: those of higher scores, and earlier ones of the same.

    Of 1000 scores in 8 bits most are the same. `argmax` too takes the first of them.
    """
    import numpy as np

    own = np.take_along_axis(outputs, labels[:, None], axis=1)
    is_earlier = np.arange(outputs.shape[1]) < labels[:, None]
    return ((outputs > own) | ((outputs == own) & is_earlier)).sum(axis=1)
