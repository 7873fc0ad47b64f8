"""Measure the accuracy of a .keras or .tflite model, or of a network with published weights, on a whole test set."""

import argparse
import math
import os
import pathlib
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import command_line
import data_arguments
import published
import scores

if TYPE_CHECKING:
    import numpy as np

EXAMPLES = """\
  python scripts/evaluate.py runs/digits/model.keras
  python scripts/evaluate.py runs/flowers/condensed.tflite --dataset photographs/
  python scripts/evaluate.py CondenseNetImageNet74G8 --weights imagenet --dataset imagenet_v2
  python scripts/evaluate.py "ShuffleNet(groups=8)" --weights imagenet --dataset folder/of/imagenet
  python scripts/evaluate.py DenseNetBC100K12 --weights cifar10
  python scripts/evaluate.py g8.tflite --preprocessing CondenseNetImageNet74G8:imagenet --dataset imagenet_v2
"""
IMAGENETS = ("imagenet2012", "imagenet_v2", "imagenet_a", "imagenet_r", "imagenet_sketch")  # of images of many sizes


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
        help=f"of the network MODEL: {', '.join(published.TEST_SETS)}, or the path of a file; then --preprocessing "
        "must be given",
    )
    parser.add_argument(
        "--preprocessing",
        metavar="OF",
        help="resize, crop and normalise the images as for published weights, network:weights, for instance "
        "CondenseNetImageNet74G8:imagenet; or as "
        '"Preprocessing(size=224, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), crop_fraction=0.875)". A file on ImageNet '
        "needs it (default: that of --weights; other images are resized to the file's size)",
    )
    data_arguments.add_dataset_arguments(parser, None, "the run's own, or the test set of --weights")
    parser.add_argument("--per-class", action="store_true", help="print the accuracy of each class, the worst first")
    parser.add_argument(
        "--confusion", metavar="FILE.csv", help="write how often each class was taken for each; replaces the file"
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="for .tflite (default: %(default)s)")
    return parser


def evaluate(arguments: argparse.Namespace) -> None:
    if arguments.weights is not None or arguments.preprocessing is not None:
        published.evaluate_as_published(arguments)
    else:
        _evaluate_file(arguments)


def _evaluate_file(arguments: argparse.Namespace) -> None:
    import keras_condense as kc
    from keras_condense.csv_files import write_rows
    from keras_condense.datasets.imagenet import has_imagenet_classes
    from keras_condense.files import check_writable

    if arguments.confusion is not None:
        check_writable(arguments.confusion)
    _refuse_network(arguments)
    card = kc.load_card(arguments.model)
    if card is None and arguments.dataset is not None:
        _refuse_imagenet(arguments)
    predict, shape = scores.read_file(arguments, card)
    data = data_arguments.load_dataset(arguments, shape, card=card)
    if card is None and has_imagenet_classes(data.class_names):  # a part of ImageNet under another name
        raise _unknown_preprocessing(arguments)
    confusion = _confusion(predict, data)
    count, correct = int(confusion.sum()), int(confusion.trace())
    print(f"accuracy {correct / count:.4f} ({correct:,} of {count:,} test images of {data.name})")
    if arguments.per_class:
        _print_classes(confusion, data.class_names)
    if arguments.confusion is not None:
        rows = zip(data.class_names, confusion.tolist(), strict=True)
        write_rows(
            arguments.confusion, [{"class": name} | dict(zip(data.class_names, row, strict=True)) for name, row in rows]
        )


def _confusion(predict: Callable, data: Any) -> "np.ndarray":
    """How many images of each class (rows) are taken for each class (columns)."""
    import numpy as np

    classes = len(data.class_names)
    confusion = np.zeros((classes, classes), int)
    for images, labels in scores.shown(_test_batches(data), math.ceil(data.test_size / data.batch_size)):
        outputs = predict(images)
        scores.check_scores(outputs, classes)
        np.add.at(confusion, (labels, outputs.argmax(axis=1)), 1)
    return confusion


def _print_classes(confusion: "np.ndarray", class_names: Sequence[str]) -> None:
    """The accuracy of each class, the worst first, and what it is most often taken for."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for title in ("class", "accuracy", "images", "most often taken for"):
        table.add_column(title, justify="left" if title in ("class", "most often taken for") else "right")
    counts = confusion.sum(axis=1)
    shares = confusion.diagonal() / counts.clip(1)
    for number in sorted(range(len(class_names)), key=lambda number: shares[number]):
        wrong = confusion[number].copy()
        wrong[number] = 0
        other = f"{class_names[wrong.argmax()]} ({wrong.max()})" if wrong.any() else ""
        table.add_row(class_names[number], f"{shares[number]:.1%}", f"{counts[number]:,}", other)
    Console().print(table)


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


def main(argv: Sequence[str] | None = None) -> int:
    return command_line.run(parser(), evaluate, argv)


if __name__ == "__main__":
    sys.exit(main())
