"""Measure the accuracy of a .keras or .tflite model, or of a network with published weights, on a whole test set."""

import argparse
import dataclasses
import math
import os
import pathlib
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import command_line

if TYPE_CHECKING:
    import numpy as np

EXAMPLES = """\
  python scripts/evaluate.py runs/digits/model.keras
  python scripts/evaluate.py runs/cifar10/condensed.tflite --dataset cifar10 --data-dir data
  python scripts/evaluate.py CondenseNetImageNet74G8 --weights imagenet --dataset imagenet_v2
  python scripts/evaluate.py "ShuffleNet(groups=8)" --weights imagenet --dataset folder/of/imagenet
  python scripts/evaluate.py DenseNetBC100K12 --weights cifar10
  python scripts/evaluate.py g8.tflite --preprocessing CondenseNetImageNet74G8:imagenet --dataset imagenet_v2
"""
TOP = 5
IMAGENETS = ("imagenet2012", "imagenet_v2", "imagenet_a", "imagenet_r", "imagenet_sketch")  # of images of many sizes
# what `--weights` names: where the images are on which its error was published, and what they are called
TEST_SETS = {
    "imagenet": ("imagenet2012", "ImageNet's 50,000 validation images"),
    "cifar10": ("cifar10", "the 10,000 test images of CIFAR-10"),
    "cifar100": ("cifar100", "the 10,000 test images of CIFAR-100"),
    "svhn": ("svhn_cropped", "the 26,032 test images of SVHN"),
}


def parser() -> argparse.ArgumentParser:
    parser = command_line.new_parser(__doc__, EXAMPLES)
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a .keras or .tflite file with one output per class; or, with --weights, a name in "
        'keras_condense.applications, with arguments if it takes any: "ShuffleNet(groups=8)"',
    )
    parser.add_argument(
        "--weights",
        metavar="NAME",
        help=f"of the network MODEL: {', '.join(TEST_SETS)}, or the path of a file; then --preprocessing must be given",
    )
    parser.add_argument(
        "--preprocessing",
        metavar="OF",
        help="resize, crop and normalise the images as for published weights, network:weights, for instance "
        "CondenseNetImageNet74G8:imagenet; or as "
        '"Preprocessing(size=224, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), crop_fraction=0.875)". A file on ImageNet '
        "needs it (default: that of --weights; other images are resized to the file's size)",
    )
    command_line.add_dataset_arguments(parser, None, "digits, or the test set of --weights")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="for .tflite (default: %(default)s)")
    return parser


def evaluate(arguments: argparse.Namespace) -> None:
    if arguments.weights is not None or arguments.preprocessing is not None:
        _evaluate_as_published(arguments)
    else:
        _evaluate_file(arguments)


# a file on images that are resized to its size


def _evaluate_file(arguments: argparse.Namespace) -> None:
    from keras_condense.datasets.imagenet import has_imagenet_classes

    arguments.dataset = arguments.dataset or "digits"
    _refuse_network(arguments)
    _refuse_imagenet(arguments)
    predict, shape = _read_file(arguments)
    data = command_line.load_dataset(arguments, shape)
    if has_imagenet_classes(data.class_names):  # a part of ImageNet under another name
        raise _unknown_preprocessing(arguments)
    count, correct = data.test_size, _correct(predict, data)
    print(f"accuracy {correct / count:.4f} ({correct:,} of {count:,} test images of {data.name})")


def _read_file(arguments: argparse.Namespace) -> tuple[Callable[["np.ndarray"], "np.ndarray"], tuple | None]:
    """Return what computes class scores of images, and (height, width, channels) if it can be told."""
    import keras_condense as kc
    from keras_condense.saving import load_model

    if arguments.model.endswith(".tflite"):
        command_line.check_file(arguments.model, ".tflite")
        return lambda images: kc.run_tflite(arguments.model, images, threads=arguments.threads), None
    model = load_model(arguments.model)
    shape = command_line.image_shape_of(model, arguments.model)
    return lambda images: model.predict(images, verbose=0), shape


def _correct(predict: Callable, data: Any) -> int:
    correct = 0
    for images, labels in _shown(_test_batches(data), math.ceil(data.test_size / data.batch_size)):
        outputs = predict(images)
        _check_scores(outputs, len(data.class_names))
        correct += int((outputs.argmax(axis=1) == labels).sum())
    return correct


def _test_batches(data: Any) -> Iterable[tuple["np.ndarray", "np.ndarray"]]:
    """The test set batch by batch: as floats, a large one does not fit into memory."""
    if hasattr(data, "test"):
        return data.test.as_numpy_iterator()
    parts = (slice(start, start + data.batch_size) for start in range(0, data.test_size, data.batch_size))
    return ((data.normalize(data.test_images[part]), data.test_labels[part]) for part in parts)


def _refuse_imagenet(arguments: argparse.Namespace) -> None:
    """Raise for ImageNet's images where nobody said how they become what the network takes."""
    from keras_condense.datasets.imagenet import has_imagenet_classes

    path = pathlib.Path(os.path.expanduser(arguments.dataset))
    folders = [folder for folder in (path / "val", path) if folder.is_dir()]
    classes = [sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) for folder in folders]
    if re.split("[/:]", arguments.dataset)[0] in IMAGENETS or any(map(has_imagenet_classes, classes)):
        raise _unknown_preprocessing(arguments)


def _unknown_preprocessing(arguments: argparse.Namespace) -> ValueError:
    return ValueError(
        f"`--preprocessing` must be given for {arguments.model!r} on {arguments.dataset!r}: a file does not say "
        "how its images were cropped and normalised. Name the weights that it was made of, for instance "
        "--preprocessing CondenseNetImageNet74G8:imagenet."
    )


def _refuse_network(arguments: argparse.Namespace) -> None:
    """Raise for a network of this package without weights."""
    if os.path.exists(arguments.model) or arguments.model.endswith((".keras", ".tflite")):
        return
    try:
        command_line.read_network("MODEL", arguments.model)
    except ValueError:
        return  # no network: reading it as a file says what is wrong
    raise ValueError(
        f"`--weights` must be given for {arguments.model!r}, a network of this package. Name what it was trained on, "
        "for instance --weights imagenet."
    )


# a network or a file on images that are made as published weights need them


def _evaluate_as_published(arguments: argparse.Namespace) -> None:
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
        predict, shape = _read_file(arguments)
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
    for batch, labels in _shown(images, len(images)):
        outputs = predict(batch)
        _check_scores(outputs, classes)
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


# both


def _shown(batches: Iterable, steps: int) -> Iterable:
    from rich.progress import track

    return track(batches, "evaluating", steps, transient=True, disable=not sys.stdout.isatty())


def _check_scores(outputs: Any, classes: int) -> None:
    import numpy as np

    shape = getattr(outputs, "shape", None)
    if shape is None or shape[1:] != (classes,):
        found = f"{len(outputs)} outputs" if shape is None else f"outputs of shape {shape[1:]}"
        raise ValueError(
            f"`model` gives {found}, and the data set has {classes} classes. "
            "Choose the data set that it was trained on."
        )
    if not np.isfinite(outputs).all():
        raise ValueError("`MODEL` gives scores that are NaN or infinite. Check that it was trained to the end.")


def main(argv: Sequence[str] | None = None) -> int:
    return command_line.run(parser(), evaluate, argv)


if __name__ == "__main__":
    sys.exit(main())
