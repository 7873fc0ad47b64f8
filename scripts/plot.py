"""Draw a picture: a training, learned connections, costs by layer, or exported files. Needs matplotlib."""

import argparse
import sys
from collections.abc import Sequence

import command_line

EXAMPLES = """\
  python scripts/plot.py run runs/digits run.png
  python scripts/plot.py run runs/first runs/second runs.svg
  python scripts/plot.py connections runs/digits/model.keras runs/digits/condensed.keras connections.png
  python scripts/plot.py cost runs/digits/condensed.keras cost.png --target arm64
  python scripts/plot.py cost "CondenseNet86(classes=100)" cost.svg --condensed
  python scripts/plot.py exports condensed.tflite mobilenet.tflite exports.png --threads 2
"""


def parser() -> argparse.ArgumentParser:
    parser = command_line.new_parser(__doc__, EXAMPLES)
    kinds = parser.add_subparsers(metavar="KIND", required=True)
    run = _kind(kinds, _run, "loss and accuracy by epoch, and where connections were dropped")
    run.add_argument("folders", nargs="+", metavar="FOLDER", help="of a run; several are laid over each other")
    connections = _kind(kinds, _connections, "how much weight learned layers give to the layers before them")
    connections.add_argument(
        "models", nargs="+", metavar="MODEL.keras", help="masked, condensed, or first the one and then the other"
    )
    cost = _kind(kinds, _cost, "what each layer costs: multiply-adds and, for a target, the table's cost")
    cost.add_argument(
        "model", metavar="MODEL", help='a .keras file, or a network such as CondenseNet50 or "ShuffleNet(groups=8)"'
    )
    cost.add_argument("--target", metavar="PROCESSOR", help="arm64, x86_64, wasm or another that keras_condense knows")
    cost.add_argument(
        "--by", metavar="HOW", help="layer, the 30 dearest at most, or block (default: whichever gives few bars)"
    )
    cost.add_argument(
        "--condensed", action="store_true", help="what it costs once it is condensed, whatever its stage is now"
    )
    exports = _kind(kinds, _exports, "files side by side: bytes, milliseconds measured here, operators outside XNNPACK")
    exports.add_argument("files", nargs="+", metavar="MODEL.tflite", help="two files or more")
    exports.add_argument("--threads", type=int, default=1, metavar="N", help="default: %(default)s")
    exports.add_argument("--runs", type=int, default=50, metavar="N", help="inferences a round (default: %(default)s)")
    exports.add_argument("--rounds", type=int, default=5, metavar="N", help="turns of a file (default: %(default)s)")
    for kind in kinds.choices.values():
        kind.add_argument("output", metavar="OUT.png|svg", help="where to write it; replaces the file")
    return parser


def _kind(kinds, action, described: str) -> argparse.ArgumentParser:
    """A kind of picture, called as its action is."""
    name = action.__name__.strip("_")
    kind = kinds.add_parser(name, help=described, description=f"Draw {described}.", epilog=command_line.EXIT_CODES)
    kind.set_defaults(draw=action)
    return kind


def _run(arguments: argparse.Namespace):
    from keras_condense import pictures

    return pictures.run(*arguments.folders)


def _connections(arguments: argparse.Namespace):
    from keras_condense import pictures
    from keras_condense.saving import load_model

    if len(arguments.models) > 2:
        raise ValueError(f"`MODEL.keras` (of {len(arguments.models)}) must be one or two files. Leave the others out.")
    return pictures.connections(*map(load_model, arguments.models))


def _cost(arguments: argparse.Namespace):
    import keras_condense as kc
    from keras_condense import pictures
    from keras_condense.saving import load_model

    if arguments.model.endswith(".keras"):
        model = load_model(arguments.model)
    else:
        command_line.check_complete("MODEL", arguments.model)
        constructor, options = command_line.read_network("MODEL", arguments.model)
        model = constructor(weights=None, **options)
    if arguments.condensed:
        model = kc.condense(model, finish=True)
    return pictures.cost(model, arguments.target, by=arguments.by)


def _exports(arguments: argparse.Namespace):
    from keras_condense import pictures

    return pictures.exports(*arguments.files, runs=arguments.runs, rounds=arguments.rounds, threads=arguments.threads)


def plot(arguments: argparse.Namespace) -> None:
    from keras_condense import pictures

    pictures.check_picture(arguments.output)
    pictures.save(arguments.draw(arguments), arguments.output)
    print(arguments.output)


def main(argv: Sequence[str] | None = None) -> int:
    return command_line.run(parser(), plot, argv)


if __name__ == "__main__":
    sys.exit(main())
