"""Show what a network costs, layer by layer, or what all networks cost: parameters and multiply-adds."""

import argparse
import dataclasses
import sys
from collections.abc import Sequence

import command_line

EXAMPLES = """\
  python scripts/describe.py runs/digits/model.keras
  python scripts/describe.py CondenseNet86 --condensed
  python scripts/describe.py condensenet --stages 4-4-4 --input-shape 16x16x1 --csv layers.csv
  python scripts/describe.py --all --csv zoo.csv
"""


def parser() -> argparse.ArgumentParser:
    parser = command_line.new_parser(__doc__, EXAMPLES)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "model", metavar="MODEL", nargs="?", help="a .keras file, or a name in keras_condense.applications"
    )
    what.add_argument(
        "--all",
        action="store_true",
        help="every network of the papers' tables, beside what was published: takes minutes",
    )
    parser.add_argument("--file-sizes", action="store_true", help="with --all: export each network too, for its size")
    parser.add_argument(
        "--condensed", action="store_true", help="what it costs once it is condensed, whatever its stage is now"
    )
    parser.add_argument("--csv", metavar="FILE", help="write the rows to a file as well; replaces it")
    network = parser.add_argument_group("network, for a name")
    network.add_argument(
        "--input-shape",
        type=command_line.numbers,
        metavar="HEIGHTxWIDTHxCHANNELS",
        help="default: the network's own",
    )
    network.add_argument("--classes", type=int, metavar="N", help="default: the network's own")
    command_line.add_network_arguments(network)
    return parser


def describe(arguments: argparse.Namespace) -> None:
    import keras_condense as kc
    from keras_condense.csv_files import write_rows
    from keras_condense.files import check_writable

    _check_usage(arguments)
    if arguments.csv is not None:
        check_writable(arguments.csv)
    if arguments.all:
        table = kc.applications.table(file_size=arguments.file_sizes)
        print(table)
        if arguments.csv is not None:
            write_rows(arguments.csv, [dataclasses.asdict(row) for row in table.rows])
        return
    model = _model(arguments)
    if arguments.condensed:
        model = kc.condense(model, finish=True)
    profile = kc.profile_model(model)
    print(profile)
    if arguments.csv is not None:
        rows = [dataclasses.asdict(layer) for layer in profile.layers]
        shapes = [{"output_shape": "x".join(map(str, layer.output_shape))} for layer in profile.layers]
        write_rows(arguments.csv, [row | shape for row, shape in zip(rows, shapes, strict=True)])


def _check_usage(arguments: argparse.Namespace) -> None:
    """End as argparse does where an option is given that says nothing beside the others."""
    for_all = ("model", "all", "file_sizes", "csv")
    others = [name for name, value in vars(arguments).items() if name not in for_all and value not in (None, False)]
    if arguments.all and others:
        parser().error(f"argument --all: not allowed with argument --{others[0].replace('_', '-')}")
    if arguments.file_sizes and not arguments.all:
        parser().error("argument --file-sizes: not allowed without argument --all")


def _model(arguments: argparse.Namespace):
    from keras_condense.saving import load_model

    if arguments.model.endswith(".keras"):
        of_names = ("input_shape", "classes", *command_line.NETWORK_OPTIONS)
        if given := [name for name in of_names if getattr(arguments, name) is not None]:
            flag = f"--{given[0].replace('_', '-')}"
            raise ValueError(f"`{flag}` must be left out with a file, and {arguments.model!r} is one. Leave it out.")
        return load_model(arguments.model)
    shape = arguments.input_shape
    if shape is not None and len(shape) != 3:
        raise ValueError(f"`input_shape` (={shape!r}) must be height, width and channels. Write 32x32x3.")
    return command_line.build_network(arguments, arguments.model, shape, arguments.classes)


def main(argv: Sequence[str] | None = None) -> int:
    return command_line.run(parser(), describe, argv)


if __name__ == "__main__":
    sys.exit(main())
