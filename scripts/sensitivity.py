"""Measure the accuracy that a trained .keras classifier loses when one of its layers alone is compressed."""

import argparse
import sys
from collections.abc import Sequence

import command_line
import data_arguments

EXAMPLES = """\
  python scripts/sensitivity.py mine.keras --dataset photographs/ --test-images
  python scripts/sensitivity.py runs/dense/model.keras --validation-fraction 0.1 --groups 2x2 4x4 8x8
  python scripts/sensitivity.py mine.keras --dataset digits --test-images --sparsity 0.5 0.9 --bits 4 --csv lost.csv
"""


def parser() -> argparse.ArgumentParser:
    parser = command_line.new_parser(__doc__, EXAMPLES)
    parser.add_argument(
        "model", metavar="MODEL.keras", help="one score a class; without layers that still learn their groups"
    )
    data_arguments.add_dataset_arguments(parser)
    images = parser.add_mutually_exclusive_group(required=True)
    images.add_argument(
        "--validation-fraction",
        type=float,
        metavar="SHARE",
        help="measure on the share of the training images that was held out when the network was trained: the same "
        "images are held out again",
    )
    images.add_argument(
        "--test-images",
        action="store_true",
        help="measure on the test images, which say too much of the network afterwards if layers are chosen by them",
    )
    parser.add_argument(
        "--groups",
        type=command_line.numbers,
        nargs="+",
        default=[],
        metavar="GxC",
        help="learned groups and condense factor: 4x4, or 4 for both",
    )
    parser.add_argument(
        "--sparsity", type=float, nargs="+", default=[], metavar="SHARE", help="of a layer's weights that become zero"
    )
    parser.add_argument("--bits", type=int, nargs="+", default=[], metavar="N", help="that weights are rounded to")
    parser.add_argument("--layers", nargs="+", metavar="NAME", help="(default: those that fit, as the library chooses)")
    parser.add_argument("--rows", type=int, metavar="N", help="at most so many images (default: all)")
    parser.add_argument("--csv", metavar="FILE.csv", help="write the numbers; replaces the file")
    parser.add_argument("--picture", metavar="OUT.png|svg", help="draw them; replaces the file")
    return parser


def _settings(arguments: argparse.Namespace) -> dict:
    """What was asked for; the library's default where nothing was."""
    from keras_condense.compressions import LearnedGroups, PrunedWeights, RoundedWeights

    if wrong := [numbers for numbers in arguments.groups if len(numbers) > 2]:
        text = "x".join(map(str, wrong[0]))
        raise ValueError(f"`--groups` (={text}) must be groups and a condense factor. Write 4x8, or 4 for both.")
    settings = [
        *(LearnedGroups(numbers[0], numbers[-1]) for numbers in arguments.groups),
        *map(PrunedWeights, arguments.sparsity),
        *map(RoundedWeights, arguments.bits),
    ]
    return {"settings": settings} if settings else {}


def sensitivity(arguments: argparse.Namespace) -> None:
    import keras_condense as kc
    from keras_condense.files import check_writable
    from keras_condense.saving import load_model

    command_line.check_file(arguments.model, ".keras")
    if arguments.csv is not None:
        check_writable(arguments.csv)
    if arguments.picture is not None:
        kc.pictures.check_picture(arguments.picture)
    settings = _settings(arguments)
    model, card = load_model(arguments.model), kc.load_card(arguments.model)
    shape = command_line.image_shape_of(model, arguments.model)
    options = {} if arguments.test_images else {"validation_fraction": arguments.validation_fraction}
    data = data_arguments.load_dataset(arguments, shape, card=card, **options)
    lost = kc.sensitivity(
        model,
        data.test_arrays() if arguments.test_images else data,
        where=arguments.layers,
        rows=arguments.rows,
        batch_size=arguments.batch_size,
        **settings,
    )
    print(lost)
    if arguments.csv is not None:
        lost.to_csv(arguments.csv)
    if arguments.picture is not None:
        kc.pictures.save(kc.pictures.sensitivity(lost), arguments.picture)


def main(argv: Sequence[str] | None = None) -> int:
    return command_line.run(parser(), sensitivity, argv)


if __name__ == "__main__":
    sys.exit(main())
