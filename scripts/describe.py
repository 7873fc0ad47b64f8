"""Show what a network costs: parameters and multiply-adds, a row a layer."""

import argparse
import dataclasses
import sys
from collections.abc import Sequence

import command_line

EXAMPLES = """\
  python scripts/describe.py runs/digits/model.keras
  python scripts/describe.py CondenseNet86 --condensed
  python scripts/describe.py condensenet --stages 4-4-4 --input-shape 16x16x1 --csv layers.csv
"""


def parser() -> argparse.ArgumentParser:
    parser = command_line.new_parser(__doc__, EXAMPLES)
    parser.add_argument("model", metavar="MODEL", help="a .keras file, or a name in keras_condense.applications")
    parser.add_argument(
        "--condensed", action="store_true", help="what it costs once it is condensed, whatever its stage is now"
    )
    parser.add_argument("--csv", metavar="FILE", help="write the rows to a file as well; replaces it")
    network = parser.add_argument_group("network, for a name")
    network.add_argument(
        "--input-shape",
        type=command_line.numbers,
        metavar="HEIGHTxWIDTHxCHANNELS",
        help="default: 224x224x3 for ImageNet's networks, else 32x32x3",
    )
    network.add_argument("--classes", type=int, metavar="N", help="default: the network's own")
    command_line.add_network_arguments(network)
    return parser


def describe(arguments: argparse.Namespace) -> None:
    import keras_condense as kc
    from keras_condense.files import check_writable

    if arguments.csv is not None:
        check_writable(arguments.csv)
    model = _model(arguments)
    if arguments.condensed:
        model = kc.condense(model, finish=True)
    profile = kc.profile_model(model)
    print(profile)
    if arguments.csv is not None:
        rows = [dataclasses.asdict(layer) for layer in profile.layers]
        shapes = [{"output_shape": "x".join(map(str, layer.output_shape))} for layer in profile.layers]
        command_line.write_csv(arguments.csv, [row | shape for row, shape in zip(rows, shapes, strict=True)])


def _model(arguments: argparse.Namespace):
    from keras_condense.saving import load_model

    name = arguments.model
    if name.endswith(".keras"):
        return load_model(name)
    shape = arguments.input_shape
    if shape is None:
        is_for_imagenet = "imagenet" in name.lower() or name.lower().startswith("densenet")
        shape = (224, 224, 3) if is_for_imagenet else (32, 32, 3)
    if len(shape) != 3:
        raise ValueError(f"`input_shape` (={shape!r}) must be height, width and channels. Write 32x32x3.")
    return command_line.build_network(arguments, name, shape, arguments.classes)


def main(argv: Sequence[str] | None = None) -> int:
    return command_line.run(parser(), describe, argv)


if __name__ == "__main__":
    sys.exit(main())
