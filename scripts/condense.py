"""Turn a trained, masked network into the small one that computes the same."""

import argparse
import math
import sys
from collections.abc import Sequence

import command_line

EXAMPLES = """\
  python scripts/condense.py runs/digits/model.keras runs/digits/condensed.keras
  python scripts/condense.py untrained.keras small.keras --finish   # prune what is still due at once
"""


def parser() -> argparse.ArgumentParser:
    parser = command_line.new_parser(__doc__, EXAMPLES)
    parser.add_argument("model", metavar="MODEL.keras", help="a network with learned group convolutions")
    parser.add_argument("output", metavar="OUT.keras", help="where to write the condensed network")
    parser.add_argument(
        "--finish",
        action="store_true",
        help="prune the rest by magnitude if condensing is unfinished; changes the outputs",
    )
    return parser


def condense(arguments: argparse.Namespace) -> None:
    import keras_condense as kc
    from keras_condense.saving import load_model, save_model

    output = command_line.check_file(arguments.output, ".keras", to_write=True)
    model = load_model(arguments.model)
    condensed = kc.condense(model, finish=arguments.finish)
    save_model(condensed, output, kc.load_card(arguments.model))
    before, after = (sum(math.prod(weight.shape) for weight in net.trainable_weights) for net in (model, condensed))
    share = f" ({after / before:.0%})" if before else ""  # of a frozen network nothing is trained
    print(f"{before:,} trainable weights, {after:,} after condensing{share}: {output}")


def main(argv: Sequence[str] | None = None) -> int:
    return command_line.run(parser(), condense, argv)


if __name__ == "__main__":
    sys.exit(main())
