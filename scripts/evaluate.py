"""Measure the accuracy of a .keras or .tflite model on the whole test set of a data set."""

import argparse
import sys
from collections.abc import Sequence

import command_line

EXAMPLES = """\
  python scripts/evaluate.py runs/digits/model.keras
  python scripts/evaluate.py runs/cifar10/condensed.tflite --dataset cifar10 --data-dir data
"""
ROWS = 256  # test images between two steps of the progress bar


def parser() -> argparse.ArgumentParser:
    parser = command_line.new_parser(__doc__, EXAMPLES)
    parser.add_argument("model", metavar="MODEL", help="a .keras or .tflite file with one output a class")
    command_line.add_dataset_arguments(parser)
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="for .tflite (default: %(default)s)")
    return parser


def evaluate(arguments: argparse.Namespace) -> None:
    import keras_condense as kc
    from keras_condense.saving import load_model

    if arguments.model.endswith(".tflite"):
        command_line.check_file(arguments.model, ".tflite")
        data = command_line.load_dataset(arguments)

        def predict(images):
            return kc.run_tflite(arguments.model, images, threads=arguments.threads)
    else:
        model = load_model(arguments.model)
        data = command_line.load_dataset(arguments, model.input_shape[1:])

        def predict(images):
            return model.predict(images, verbose=0)

    count, correct = data.test_size, _correct(predict, *data.test_arrays(), len(data.class_names))
    print(f"accuracy {correct / count:.4f} ({correct:,} of {count:,} test images of {data.name})")


def _correct(predict, images, labels, classes: int) -> int:
    from rich.progress import track

    correct = 0
    for start in track(range(0, len(images), ROWS), "evaluating", transient=True, disable=not sys.stdout.isatty()):
        outputs = predict(images[start : start + ROWS])
        if outputs.shape[1:] != (classes,):
            raise ValueError(
                f"`model` gives outputs of shape {outputs.shape[1:]}, and the data set has {classes} classes. "
                "Choose the data set that it was trained on."
            )
        correct += int((outputs.argmax(axis=1) == labels[start : start + ROWS]).sum())
    return correct


def main(argv: Sequence[str] | None = None) -> int:
    return command_line.run(parser(), evaluate, argv)


if __name__ == "__main__":
    sys.exit(main())
