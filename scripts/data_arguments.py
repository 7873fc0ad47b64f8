"""The arguments that name a data set, and the data set that they name."""

import argparse
import itertools
import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from command_line import numbers

if TYPE_CHECKING:
    import keras_condense as kc


def add_dataset_arguments(
    parser: argparse._ActionsContainer, default: str | None = None, default_text: str = "the run's own"
) -> None:
    """Add what says which images to read; `default_text` is the default in words."""
    parser.add_argument(
        "--dataset",
        default=default,
        metavar="NAME",
        help='"digits", a name of TensorFlow Datasets, a folder with a folder of images for each class, or an .npz '
        f"file of arrays (default: {default_text})",
    )
    parser.add_argument(
        "--data-dir",
        metavar="FOLDER",
        help="where TensorFlow Datasets keeps its data (default: ~/tensorflow_datasets)",
    )
    parser.add_argument(
        "--image-size",
        type=numbers,
        metavar="HEIGHTxWIDTH",
        help="resize the images, to 32x48 or (both sides) 32 (default: as they are, 16 for digits)",
    )
    parser.add_argument(
        "--resize",
        metavar="HOW",
        help='"stretch" images of another ratio of sides, or "crop" them to their middle first; "photographs": as '
        "networks for ImageNet see them, boxes out of the files' own pixels to train, the middle 224 of 256 pixels to "
        "evaluate (default: stretch; crop for photographs of many sizes)",
    )
    parser.add_argument(
        "--batch-size", type=int, default=64, metavar="N", help="images per batch (default: %(default)s)"
    )


def has_many_sizes(dataset: str) -> bool:
    """Whether a folder has images of several sizes; the first two tell, most often."""
    from keras_condense.datasets.decoding import header_size
    from keras_condense.datasets.folders import is_image

    folder = pathlib.Path(os.path.expanduser(dataset))
    if not folder.is_dir():
        return False
    sizes = set()
    for path in folder.rglob("*"):
        if is_image(path) and (size := header_size(str(path))):
            sizes.add(size)
            if len(sizes) > 1:
                return True
    return False


def load_dataset(
    arguments: argparse.Namespace,
    image_shape: Sequence[int] | None = None,
    arrays: bool = False,
    card: "kc.Card | None" = None,
    **options,
):
    """Load the data set that the arguments name, by default with images of `image_shape`.

    As `ImageArrays` if asked to, or on a backend for which TensorFlow need not be installed. Of a network with a card
    it is by default the one that it was trained on, prepared as it was then.
    """
    import keras

    import keras_condense as kc

    if card is not None:
        _fill_in(arguments, card)
        image_shape = image_shape or card.image_shape
        options |= {"mean": card.mean, "std": card.std}
        arguments.resize = arguments.resize or card.resize
    if arguments.dataset is None:
        raise ValueError(
            "`--dataset` must be given for a network whose file does not say what it was trained on. Name the data "
            "set, the folder or the .npz file of its images."
        )
    image_size = arguments.image_size
    if image_size is not None and len(image_size) == 1:
        image_size = image_size[0]
    if image_size is None and image_shape is not None:
        image_size = tuple(image_shape[:2])
    # what is cut out of files in every epoch can't be arrays
    arrays = arrays or (keras.backend.backend() != "tensorflow" and arguments.resize != "photographs")
    if not arrays and getattr(arguments, "drop_remainder", None):
        options["drop_remainder"] = True
    load = kc.datasets.load_arrays if arrays else kc.datasets.load
    data = load(
        arguments.dataset,
        data_dir=arguments.data_dir,
        image_size=image_size,
        channels=None if image_shape is None else image_shape[2],
        resize=arguments.resize or "stretch",
        batch_size=arguments.batch_size,
        **options,
    )
    if card is not None and data.class_names != card.class_names:
        pairs = itertools.zip_longest(card.class_names, data.class_names, fillvalue="none")
        trained, found = next(pair for pair in pairs if pair[0] != pair[1])
        raise ValueError(
            f"`--dataset` (={arguments.dataset!r}) must have the classes that the network was trained on, and where "
            f"those have {trained!r}, it has {found!r}. Choose the data set that it was trained on."
        )
    return data


def _fill_in(arguments: argparse.Namespace, card: "kc.Card") -> None:
    """Take the data set from a card where the arguments don't name another."""
    if arguments.dataset is None and card.dataset:
        arguments.dataset = card.dataset
        arguments.data_dir = arguments.data_dir or card.data_dir
