"""Name what photographs show, with a trained .keras or .tflite file."""

import argparse
import sys
from collections.abc import Sequence

import command_line

EXAMPLES = """\
  python scripts/predict.py runs/flowers/condensed.tflite rose.jpg tulips/
  python scripts/predict.py runs/flowers/model.keras rose.jpg --top 3
"""


def parser() -> argparse.ArgumentParser:
    parser = command_line.new_parser(__doc__, EXAMPLES)
    parser.add_argument("model", metavar="MODEL", help="a .keras or .tflite file of a run")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files, or folders of them")
    parser.add_argument("--top", type=int, default=5, metavar="N", help="classes to name (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="for .tflite (default: %(default)s)")
    return parser


def predict(arguments: argparse.Namespace) -> None:
    import keras_condense as kc

    command_line.check_model_file(arguments.model)
    for prediction in kc.predict(arguments.model, arguments.images, top=arguments.top, threads=arguments.threads):
        print(prediction)


def main(argv: Sequence[str] | None = None) -> int:
    return command_line.run(parser(), predict, argv)


if __name__ == "__main__":
    sys.exit(main())
