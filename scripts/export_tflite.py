"""Export a Keras model to a .tflite file of batch 1. Needs TensorFlow."""

import argparse
import sys
from collections.abc import Sequence

import command_line
import data_arguments

EXAMPLES = """\
  python scripts/export_tflite.py runs/digits/condensed.keras runs/digits/condensed.tflite
  python scripts/export_tflite.py runs/digits/condensed.keras laptop.tflite --target x86_64 --report
  python scripts/export_tflite.py runs/digits/condensed.keras phone.tflite --node-costs costs.json
  python scripts/export_tflite.py runs/digits/condensed.keras int8.tflite --quantize int8   # on the run's images
  python scripts/export_tflite.py runs/flowers/condensed.keras app.tflite --preprocessing inside
"""


def parser() -> argparse.ArgumentParser:
    parser = command_line.new_parser(__doc__, EXAMPLES)
    parser.add_argument("model", metavar="MODEL.keras", help="any Keras model; a masked one is condensed first")
    parser.add_argument("output", metavar="OUT.tflite", help="where to write it")
    parser.add_argument(
        "--quantize",
        metavar="KIND",
        default="none",
        help="float16 and dynamic store smaller weights, int8 computes in int8 (default: %(default)s, float32)",
    )
    parser.add_argument(
        "--target",
        metavar="PROCESSOR",
        default="arm64",
        help="arm64, x86_64, wasm or another that keras_condense knows; measure times the candidates here "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--preprocessing",
        metavar="WHERE",
        default="outside",
        help="inside: the file takes pixels from 0 to 255 and normalizes them as the run did (default: %(default)s)",
    )
    parser.add_argument("--report", action="store_true", help="print what was chosen and, layer by layer, its cost")
    parser.add_argument(
        "--node-costs",
        metavar="COSTS.json",
        help="write what each operator costs by the target's table, for Google's Model Explorer",
    )
    parser.add_argument(
        "--no-verify", dest="verify", action="store_false", help="write the file without comparing it with the model"
    )
    calibration = parser.add_argument_group("calibration, for int8")
    data_arguments.add_dataset_arguments(calibration)
    calibration.add_argument(
        "--calibration-images",
        type=int,
        metavar="N",
        help="training images to calibrate with (default: 100, or all where there are fewer)",
    )
    return parser


def export(arguments: argparse.Namespace) -> None:
    import keras_condense as kc
    from keras_condense.saving import load_model
    from keras_condense.tflite.schemes import SCHEMES

    command_line.need_tensorflow()
    output = command_line.check_file(arguments.output, ".tflite", to_write=True)
    model, card = load_model(arguments.model), kc.load_card(arguments.model)
    quantize = None if arguments.quantize == "none" else arguments.quantize
    representative_data = None
    if getattr(SCHEMES.get(quantize), "needs_data", False):
        data = data_arguments.load_dataset(
            arguments, command_line.image_shape_of(model, arguments.model), card=card, augment=False
        )
        number = arguments.calibration_images
        representative_data = data.representative_data(min(100, data.train_size) if number is None else number)
    with command_line.log_shown("keras_condense.tflite"):
        content = kc.export_tflite(
            model,
            output,
            quantize=quantize,
            representative_data=representative_data,
            target=arguments.target,
            report=arguments.report,
            node_costs=arguments.node_costs,
            verify=arguments.verify,
            card=card,
            preprocessing=arguments.preprocessing,
        )
    print(f"{len(content):,} bytes: {output}")


def main(argv: Sequence[str] | None = None) -> int:
    return command_line.run(parser(), export, argv)


if __name__ == "__main__":
    sys.exit(main())
