"""Train a network that condenses itself, in a folder that survives a kill."""

import argparse
import contextlib
import json
import pathlib
import shlex
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import command_line
import data_arguments
import devices

EXAMPLES = """\
  python scripts/train.py                                     # CondenseNet on digits, about a minute
  python scripts/train.py --resume                            # go on after a kill
  python scripts/train.py --tensorboard                       # then: tensorboard --logdir runs
  python scripts/train.py --dataset cifar10 --network CondenseNet86 --data-dir data
  python scripts/train.py --dataset cifar10 --network CondenseNet50 --recipe short --on-device --mixed-precision
  python scripts/train.py --dataset photographs/              # a folder of images for each class
  python scripts/train.py --dataset photographs/ --augment photographs --class-weights
  python scripts/train.py --resume --output runs/photographs  # the folder knows all the rest; --epochs may be more
  python scripts/train.py --dataset photographs/ --learn-groups MobileNetV2 --image-size 128
  KERAS_BACKEND=jax python scripts/train.py --dataset cifar10.npz --network CondenseNet182 --mixed-precision
  KERAS_BACKEND=jax python scripts/train.py --output /shared/run --resume --distribute 10.0.0.1:1234 2 0
"""
# no part of what a resumed run must have in common with the first
INCIDENTAL = ("data_dir", "distribute", "output", "resume", "save_freq", "tensorboard", "verbose")
TENSORBOARD = "tensorboard"  # in the run's folder
# of a folder of images of many sizes, where nothing else is asked for
OF_ANY_NETWORK = {"image_size": (96,), "resize": "crop", "recipe": "short"}
PHOTOGRAPHS = OF_ANY_NETWORK | {"stages": (4, 6, 8), "growth_rates": (8, 16, 32)}


def parser() -> argparse.ArgumentParser:
    parser = command_line.new_parser(__doc__, EXAMPLES)
    data = parser.add_argument_group("data")
    data_arguments.add_dataset_arguments(data, "digits", "digits")
    data.add_argument(
        "--validation-fraction",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="hold this share of the training images out and validate on it, not on the test set "
        "(default: %(default)s)",
    )
    data.add_argument(
        "--drop-remainder",
        action="store_true",
        default=None,  # as in runs that were begun before there was this option
        help="leave an epoch's last images out if they fill no batch (always so with --distribute)",
    )
    augmentation = data.add_mutually_exclusive_group()
    augmentation.add_argument("--no-augment", action="store_true", help="no random crops and mirror images")
    augmentation.add_argument(
        "--augment",
        choices=("photographs", "imagenet"),
        metavar="HOW",
        help='"photographs": random resized crops, mirror images, changes of brightness, contrast and saturation; '
        '"imagenet": the same with crops of as little as 0.08 of an image '
        "(default: the data set's own, crops of the padded image and mirror images for most; imagenet for "
        "--resize photographs)",
    )
    data.add_argument(
        "--on-device",
        action="store_true",
        help="keep the images on the device and augment them in the compiled step; an epoch's last images that fill "
        "no batch are dropped (always so with KERAS_BACKEND=jax or torch, which then need no TensorFlow)",
    )
    network = parser.add_argument_group("network")
    network.add_argument(
        "--network",
        default="condensenet",
        metavar="NAME",
        help="a name in keras_condense.applications, such as CondenseNet86 "
        "(default: %(default)s, of stages 4-4-4 and growth rates 8-16-32)",
    )
    network.add_argument(
        "--learn-groups",
        metavar="NAME",
        help="train a network of keras.applications, such as MobileNetV2, whose 1x1 convolutions learn their groups",
    )
    command_line.add_network_arguments(network)
    training = parser.add_argument_group("training")
    training.add_argument(
        "--recipe",
        metavar="NAME",
        help='"paper" (300 epochs), "imagenet" (120 epochs, of batches of 256) or "short" (60 epochs) (default: paper; '
        "short for photographs of many sizes)",
    )
    training.add_argument("--epochs", type=int, metavar="N", help="default: 20 for digits, else the recipe's")
    training.add_argument(
        "--learning-rate", type=float, metavar="RATE", help="at the first step; falls to 0 (default: the recipe's)"
    )
    training.add_argument("--momentum", type=float, metavar="SHARE", help="Nesterov's (default: the recipe's)")
    training.add_argument(
        "--weight-decay", type=float, metavar="WEIGHT", help="of the L2 term in the gradient (default: the recipe's)"
    )
    training.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of weights, order, crops, dropout (default: 0)"
    )
    training.add_argument(
        "--class-weights", action="store_true", help="let rare classes count more, for all classes to count alike"
    )
    training.add_argument(
        "--mixed-precision",
        action="store_true",
        help="compute in bfloat16, but for the classifier and the loss; weights stay float32 (policy mixed_bfloat16)",
    )
    training.add_argument(
        "--no-validation",
        action="store_true",
        help="look at no image that is held out, the test set's included, before the training is over",
    )
    training.add_argument("--output", metavar="FOLDER", help="default: runs/<dataset>")
    training.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in the output folder, or begin one where there is none",
    )
    training.add_argument(
        "--save-freq",
        type=int,
        metavar="STEPS",
        help="write a checkpoint after every so many batches of an epoch, too (default: at its end)",
    )
    devices.add_arguments(training)
    training.add_argument(
        "--tensorboard",
        action="store_true",
        help=f"write scalars and pictures of the connections for TensorBoard into {TENSORBOARD}/ in the output folder; "
        "a run that has one goes on with it",
    )
    training.add_argument(
        "--verbose",
        type=int,
        choices=(0, 1, 2),
        help="0 nothing, 1 a progress bar, 2 one line per epoch (default: 1 in a terminal, else 2)",
    )
    return parser


def train(arguments: argparse.Namespace) -> None:
    import keras

    import keras_condense as kc
    from keras_condense import pictures, training
    from keras_condense.pictures.tensorboard import need_tensorboard
    from keras_condense.saving import load_model
    from keras_condense.training.several import share_of_process

    if arguments.seed < 0:
        raise ValueError(f"`seed` (={arguments.seed}) must not be negative. Use 0.")
    _suit_photographs(arguments)
    recipe = training.recipe_of(arguments.recipe)
    if arguments.epochs is None:
        arguments.epochs = 20 if arguments.dataset == "digits" else recipe.epochs
    output = _output(arguments)
    if arguments.resume and (output / TENSORBOARD).is_dir():
        arguments.tensorboard = True
    if arguments.tensorboard:
        need_tensorboard()
    if arguments.verbose is None:
        arguments.verbose = 1 if sys.stdout.isatty() else 2

    augmentations = {"photographs": kc.datasets.PHOTOGRAPHS, "imagenet": kc.datasets.IMAGENET}
    if arguments.distribute:
        arguments.drop_remainder = True  # devices must divide each batch
    with devices.shared(arguments.distribute) as scope:
        is_first = share_of_process().is_first
        if not is_first:
            arguments.verbose, arguments.tensorboard = 0, False
        keras.utils.set_random_seed(arguments.seed)
        data = data_arguments.load_dataset(
            arguments,
            arrays=arguments.on_device,
            augment=augmentations.get(arguments.augment, not arguments.no_augment),
            validation_fraction=arguments.validation_fraction,
            seed=arguments.seed,
        )
        arguments.on_device = isinstance(data, kc.datasets.ImageArrays)
        with _precision(arguments.mixed_precision):
            model = _trained(arguments, data, recipe, output, scope)
    if not is_first:
        return
    if arguments.distribute:  # the weights of a group are still on the devices of all its processes
        model = load_model(output / "model.keras")
    if arguments.tensorboard:
        pictures.write_run_pictures(output / TENSORBOARD, output, model)
    if arguments.on_device:
        results = model.evaluate(*data.test_arrays(), batch_size=arguments.batch_size, verbose=0, return_dict=True)
    else:
        results = model.evaluate(data.test, verbose=0, return_dict=True)
    print(f"test accuracy {results['accuracy']:.4f}: {output / 'model.keras'}")
    _print_next(output, arguments)


def _trained(arguments: argparse.Namespace, data: Any, recipe: Any, output: pathlib.Path, scope: devices.Scope) -> Any:
    """The network, built and trained."""
    from keras_condense import pictures, training

    build = command_line.build_learning if arguments.learn_groups else command_line.build_network
    with scope():
        name = arguments.learn_groups or arguments.network
        model = build(arguments, name, data.image_shape, len(data.class_names))
    if arguments.verbose:
        print(
            f"{model.name} on {data.name}: {data.train_size:,} training and {data.test_size:,} test images of "
            f"{' x '.join(map(str, data.image_shape))}, {len(data.class_names)} classes; run in {output}"
        )
    settings = {name: value for name, value in vars(arguments).items() if name not in INCIDENTAL}
    settings["called"] = arguments.network  # "network" is what it calls itself
    callbacks = [training.TimeLeft(arguments.epochs)] if arguments.verbose else []
    if arguments.tensorboard:
        callbacks += pictures.tensorboard_callbacks(output / TENSORBOARD, model)
    return training.train(
        model,
        data,
        output,
        recipe=recipe,
        epochs=arguments.epochs,
        learning_rate=arguments.learning_rate,
        momentum=arguments.momentum,
        weight_decay=arguments.weight_decay,
        seed=arguments.seed,
        resume=arguments.resume,
        settings=settings,
        callbacks=callbacks,
        validate=not arguments.no_validation,
        class_weights=arguments.class_weights,
        verbose=arguments.verbose,
        save_freq="epoch" if arguments.save_freq is None else arguments.save_freq,
        scale_learning_rate=arguments.scale_learning_rate,
        batch_norms=arguments.batch_norms,
        distribution=devices.ALL if arguments.distribute == [devices.ALL] else None,
    )


def _output(arguments: argparse.Namespace) -> pathlib.Path:
    name = pathlib.Path(arguments.dataset).name.removesuffix(".npz")
    return pathlib.Path(arguments.output or pathlib.Path("runs", name))


def _suit_photographs(arguments: argparse.Namespace) -> None:
    """Fill in what suits a folder of photographs of many sizes, and say so."""
    if arguments.image_size is None and data_arguments.has_many_sizes(arguments.dataset):
        is_own = arguments.network.lower() == "condensenet" and not arguments.learn_groups
        chosen = PHOTOGRAPHS if is_own else OF_ANY_NETWORK
        chosen = {name: value for name, value in chosen.items() if getattr(arguments, name) is None}
        vars(arguments).update(chosen)
        options = (f"--{name.replace('_', '-')} {_written(value)}" for name, value in chosen.items())
        print(f"photographs of several sizes, therefore {' '.join(options)}")
    arguments.recipe, arguments.resize = arguments.recipe or "paper", arguments.resize or "stretch"


def _written(value: str | tuple[int, ...]) -> str:
    return value if isinstance(value, str) else "-".join(map(str, value))


def _know_the_run(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> None:
    """Let the settings of a run that is to go on be the defaults of what is not given."""
    arguments = parser.parse_args(argv)
    folder = _output(arguments)
    if not arguments.resume or not (folder / "settings.json").is_file():
        return
    try:
        settings = json.loads((folder / "settings.json").read_text("utf-8"))
        card = json.loads((folder / "card.json").read_text("utf-8"))
        known = vars(arguments).keys() - set(INCIDENTAL)
        defaults = {name: tuple(v) if isinstance(v, list) else v for name, v in settings.items() if name in known}
        defaults |= {"network": settings["called"], "dataset": card["dataset"], "data_dir": card["data_dir"]}
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return  # `training.train` says what is wrong with the folder
    parser.set_defaults(**defaults, output=str(folder))


@contextlib.contextmanager
def _precision(mixed: bool) -> Iterator[None]:
    """Have layers that are made within the block compute in bfloat16 if `mixed`."""
    import keras

    before = keras.config.dtype_policy()
    if mixed:
        keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _print_next(output: pathlib.Path, arguments: argparse.Namespace) -> None:
    model, condensed, exported = (str(output / name) for name in ("model.keras", "condensed.keras", "condensed.tflite"))
    data = ["--dataset", arguments.dataset]
    if arguments.data_dir is not None:
        data += ["--data-dir", arguments.data_dir]
    print("next:")
    for script, *options in (
        ["condense", model, condensed],
        ["export_tflite", condensed, exported],
        ["evaluate", exported, *data],
        ["benchmark", exported],
    ):
        print(" ", shlex.join([*command_line.words_of(script), *options]))


def main(argv: Sequence[str] | None = None) -> int:
    described = parser()
    _know_the_run(described, argv)
    return command_line.run(described, train, argv)


if __name__ == "__main__":
    sys.exit(main())
