"""Turn published weights, or a .pth file of pytorchcv, into a .keras model."""

import argparse
import ast
import contextlib
import sys
from collections.abc import Sequence
from typing import Any

import command_line

EXAMPLES = """\
  python scripts/convert_weights.py CondenseNetImageNet74G8 imagenet condensenet74.keras    # fetches the weights
  python scripts/convert_weights.py DenseNetBC100K12 cifar100 densenet.keras
  python scripts/convert_weights.py ResNeXt50 resnext50_32x4d-0560-d7976503.pth.zip resnext50.keras
  python scripts/convert_weights.py ShuffleNet shufflenet.pth shufflenet.keras --argument groups=8 --classes 10"""


def parser() -> argparse.ArgumentParser:
    parser = command_line.new_parser(__doc__, EXAMPLES)
    parser.add_argument("network", metavar="NETWORK", help="a constructor in keras_condense.applications")
    parser.add_argument(
        "weights",
        metavar="WEIGHTS",
        help="imagenet, cifar10, cifar100 or svhn, or a .pth or .pth.zip file",
    )
    parser.add_argument("output", metavar="OUT.keras", help="where to write the network with its weights")
    parser.add_argument(
        "--argument",
        action="append",
        default=[],
        type=_argument,
        metavar="NAME=VALUE",
        help="an argument of the constructor as Python writes it, for instance version='1.1'; may be repeated",
    )
    parser.add_argument("--classes", type=int, metavar="N", help="of a .pth file's classifier (default: the network's)")
    parser.add_argument("--no-top", action="store_true", help="leave the classifier out")
    return parser


def _argument(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    if name.isidentifier():
        with contextlib.suppress(ValueError, SyntaxError):
            return name, ast.literal_eval(value)
        if value.isidentifier():
            return name, value  # stem=cifar, whose quotes the shell took
    raise argparse.ArgumentTypeError(f"{text!r} must be a name, '=' and a value, such as groups=8")


def convert_weights(arguments: argparse.Namespace) -> None:
    import keras_condense as kc
    from keras_condense.applications.architectures import architecture
    from keras_condense.applications.pretrained import CLASSES
    from keras_condense.saving import save_model

    output = command_line.check_file(arguments.output, ".keras", to_write=True)
    options = dict(arguments.argument)
    architecture(arguments.network, options)  # which knows the constructors
    constructor = getattr(kc.applications, arguments.network)
    if arguments.classes is not None and (arguments.no_top or "classes" in options):
        other = "--no-top" if arguments.no_top else "--argument classes=..."
        raise ValueError(f"`--classes` (={arguments.classes}) must be left out with {other}. Give one of them.")
    if arguments.no_top:
        options["include_top"] = False
    elif arguments.classes is not None:
        options["classes"] = arguments.classes
    elif arguments.weights in CLASSES:
        options.setdefault("classes", CLASSES[arguments.weights])
    try:
        model = constructor(weights=arguments.weights, **options)
    except TypeError as error:  # an argument that the constructor does not have, or lacks
        raise ValueError(f"`--argument` (={options!r}) must fit {arguments.network} ({error}). Name others.") from error
    save_model(model, output)
    print(f"{model.count_params():,} weights of {arguments.network} from {arguments.weights}: {output}")


def main(argv: Sequence[str] | None = None) -> int:
    return command_line.run(parser(), convert_weights, argv)


if __name__ == "__main__":
    sys.exit(main())
