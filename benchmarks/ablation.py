r"""How good is learning the groups? CondenseNet against groups chosen otherwise, at equal multiply-adds, on CIFAR-10.

Every arm is one network (arXiv:1711.09224, G = C = 4) with the same first weights and batches, trained by the same
recipe; the arms differ in when three quarters of the 1x1 convolutions' connections go, and in what chooses them. One
more keeps all of its connections and has lower growth rates instead. The recipe is one of those that `train` knows, and
was not tuned for any arm; test images are looked at once, after the training.

Every finished run is added to ablation.csv at once, and what stands there for the same settings is not run
again. ablation_history.csv has the losses on the way; NAME_summary.csv and the pictures show the runs of one setting.

    python benchmarks/ablation.py
    python benchmarks/ablation.py --recipe paper --image-size 16 --epochs 6 --sizes 2-2-2 4-4-4 \
        --name ablation_six_epochs
    python benchmarks/ablation.py --plot
"""

import argparse
import functools
import os
import pathlib
import time
from collections.abc import Callable

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf
from ablation_arms import (
    ARMS,
    GROWTH_RATES,
    PACKAGES,
    TRAINING_IMAGES,
    WINDOWS,
    Arm,
    Settings,
    Training,
)
from ablation_networks import Shape, built, condensed_macs
from ablation_report import report, results_paths
from common import PICTURES, RESULTS, conditions, read_rows, write_rows
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import keras_condense as kc
from keras_condense.layers import condensable_layers
from keras_condense.masks import connections_left
from keras_condense.training import RECIPES, Recipe, recipe_of
from keras_condense.training.recipes import compile_for


@functools.lru_cache(maxsize=1)  # reading CIFAR-10 takes longer than a short run
def load(settings: Settings, seed: int, data_dir: str | None) -> kc.datasets.Dataset:
    """The data: the same images for every seed, as many of each class; the seed orders, crops and mirrors them."""
    data = kc.datasets.load(
        settings.data,
        batch_size=settings.batch_size,
        image_size=settings.image_size,
        # the paper's padding by 4 of 32, in proportion
        augment=kc.datasets.Augmentation(pad=max(settings.image_size // 8, 1), flip=settings.data != "digits"),
        validation_fraction=1 - settings.train_images / TRAINING_IMAGES[settings.data],
        seed=seed,
        data_dir=data_dir,
    )
    if data.train_size != settings.train_images:
        raise RuntimeError(f"{data.train_size} training images were read in place of {settings.train_images}")
    return data


def renew_statistics(model: keras.Model, data: kc.datasets.Dataset) -> None:
    """Let batch norms see training images once more; they forget a tenth of the past at each batch."""
    for images, _ in data.training().take(100):
        model(images, training=True)


class LossHistory(keras.callbacks.Callback):
    """Keeps the mean cross-entropy of every sixth part of an epoch, and how far the network was condensed."""

    def __init__(self, data: kc.datasets.Dataset):
        super().__init__()
        self.rows: list[dict] = []
        self._data = data
        steps = data.steps_per_epoch
        self._ends = {max(round(steps * window / WINDOWS), 1) for window in range(1, WINDOWS + 1)}

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch, self._images, self._sum = epoch, 0, 0.0

    def on_train_batch_end(self, batch, logs=None):
        if batch + 1 not in self._ends:
            return
        # Keras' loss is the mean of all images of the epoch so far, and has the group lasso in it
        images = min((batch + 1) * self._data.batch_size, self._data.train_size)
        loss_sum = float(logs["loss"]) * images
        layers = condensable_layers(self.model)
        lasso = sum(layer.group_lasso * float(layer.lasso()) for layer in layers if layer.group_lasso)
        masks = [keras.ops.convert_to_numpy(layer.mask) for layer in layers]
        self.rows.append(
            {
                "epoch": f"{self._epoch + (batch + 1) / self._data.steps_per_epoch:.3f}",
                "loss": f"{(loss_sum - self._sum) / (images - self._images) - lasso:.4f}",
                "stage": min(layer.stage for layer in layers),
                "connections_left": f"{connections_left(masks):.2f}",
            }
        )
        self._images, self._sum = images, loss_sum


def trained(
    training: Training,
    shape: Shape,
    data: kc.datasets.Dataset,
    seed: int,
    recipe: Recipe,
    on_epoch: Callable[[float], None],
) -> tuple[keras.Model, float, list[dict], float]:
    """The network after its training, the loss of its last epoch, the losses on the way, and the seconds it took."""
    model = built(training, shape, seed)
    compile_for(recipe, model, recipe.epochs * data.steps_per_epoch)
    losses = LossHistory(data)
    callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: on_epoch(logs["loss"]))]
    if training.drops_at:
        callbacks += [kc.callbacks.CondenseSchedule(epochs=recipe.epochs), losses]
    start = time.perf_counter()
    history = model.fit(
        data.training(0, epochs=recipe.epochs, alternate_flips=recipe.alternate_flips),
        epochs=recipe.epochs,
        steps_per_epoch=data.steps_per_epoch,
        callbacks=callbacks,
        shuffle=False,  # `data` is
        verbose=0,
    )
    return model, history.history["loss"][-1], losses.rows, time.perf_counter() - start


def tested(arm: Arm, model: keras.Model, data: kc.datasets.Dataset, shape: Shape) -> dict:
    """Finish a trained network as the arm says, and test what it condenses to.

    Raises:
        RuntimeError: the condensed network has other multiply-adds than those of the other arms.
    """
    if arm.pruned:
        for layer in condensable_layers(model):
            layer.condense_to(layer.final_stage)
    if arm.renewed:
        renew_statistics(model, data)
    network = kc.condense(model) if arm.condensed else model
    profile = kc.profile_model(network)
    if arm.condensed and profile.macs != condensed_macs(shape):
        raise RuntimeError(f"the arms must be equal in multiply-adds, and one has {profile.macs:,}")
    accuracy = network.evaluate(data.test, verbose=0, return_dict=True)["accuracy"]
    return {"macs": profile.macs, "parameters": profile.parameters, "test_accuracy": f"{accuracy:.4f}"}


def name_of(stages: tuple[int, ...]) -> str:
    return "-".join(map(str, stages))


def run_all(arguments: argparse.Namespace, settings: Settings) -> None:
    """Train and test what is not in the results yet, seed after seed, so that an early end leaves whole comparisons."""
    path, history_path = results_paths(arguments.output)
    done = {(row["arm"], row["stages"], row["seed"]) for row in settings.chosen(read_rows(path))}
    trainings = dict.fromkeys(ARMS[arm].training for arm in arguments.arms)
    missing = [
        (seed, stages, training, arms)
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds)
        for stages in arguments.sizes
        for training in trainings
        if (
            arms := [
                name
                for name, arm in ARMS.items()
                if name in arguments.arms
                and arm.training == training
                and (name, name_of(stages), str(seed)) not in done
            ]
        )
    ]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as progress:
        runs, epochs = progress.add_task("trainings", total=len(missing)), progress.add_task("", total=settings.epochs)
        for seed, stages, training, arms in missing:
            title = f"{arms[0]}, {name_of(stages)}, seed {seed}"
            progress.reset(epochs, description=title)

            def on_epoch(loss: float, title: str = title) -> None:
                progress.update(epochs, advance=1, description=f"{title}, loss {loss:.3f}")

            keras.utils.clear_session()
            data = load(settings, seed, arguments.data_dir)
            shape = Shape(stages, data.image_shape, len(data.class_names))
            recipe = recipe_of(settings.recipe, epochs=settings.epochs)
            model, loss, losses, seconds = trained(training, shape, data, seed, recipe, on_epoch)
            rows = []
            for arm in arms:
                run = {"arm": arm, "stages": name_of(stages), "seed": str(seed)} | settings.columns()
                rows.append(
                    run
                    | tested(ARMS[arm], model, data, shape)
                    | {"final_training_loss": f"{loss:.4f}", "seconds": f"{seconds:.1f}"}
                    | conditions(threads=arguments.threads or os.cpu_count(), packages=PACKAGES)
                )
                if losses:  # before the run itself, which marks it as done
                    others = [row for row in read_rows(history_path) if not row.items() >= run.items()]
                    write_rows(history_path, others + [run | row for row in losses])
            write_rows(path, read_rows(path) + rows)
            progress.advance(runs)


def block_layers(text: str) -> tuple[int, ...]:
    parts = text.split("-")
    if len(parts) != len(GROWTH_RATES) or not all(part.isdecimal() and int(part) for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} must be the layers of {len(GROWTH_RATES)} blocks. Use 4-4-4.")
    return tuple(map(int, parts))


def positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} must be a positive integer.")
    return int(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=TRAINING_IMAGES, default="cifar10", help="default: %(default)s")
    parser.add_argument("--data-dir", help="of tensorflow-datasets (default: ~/tensorflow_datasets)")
    parser.add_argument("--train-images", type=positive, default=50_000, help="of every class alike; default 50000")
    parser.add_argument("--image-size", type=positive, default=24, help="sides in pixels (default: %(default)s)")
    parser.add_argument("--recipe", choices=RECIPES, default="short", help="default: %(default)s")
    parser.add_argument("--epochs", type=positive, default=20, help="default: %(default)s")
    parser.add_argument("--batch-size", type=positive, default=64, help="default: %(default)s")
    parser.add_argument("--seeds", type=positive, default=2, help="runs of each (default: %(default)s)")
    parser.add_argument("--first-seed", type=int, default=0, help="they go on from it (default: %(default)s)")
    parser.add_argument("--threads", type=positive, help="default: one for each core")
    sizes = [(2, 2, 2)]
    parser.add_argument("--sizes", type=block_layers, nargs="+", default=sizes, help="default: 2-2-2")
    parser.add_argument("--arms", choices=ARMS, nargs="+", default=list(ARMS), metavar="ARM", help=", ".join(ARMS))
    parser.add_argument("--output", type=pathlib.Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--pictures", type=pathlib.Path, default=PICTURES, help="folder of the plots")
    parser.add_argument("--name", default="ablation", help="of the summary and the pictures (default: %(default)s)")
    parser.add_argument("--plot", action="store_true", help="run nothing; draw what the results of these settings hold")
    arguments = parser.parse_args()
    if arguments.train_images > TRAINING_IMAGES[arguments.data]:
        parser.error(f"--train-images must be at most {TRAINING_IMAGES[arguments.data]:,}, all that there are.")
    settings = Settings(
        arguments.data,
        arguments.train_images,
        arguments.image_size,
        arguments.recipe,
        arguments.epochs,
        arguments.batch_size,
    )
    if not arguments.plot:
        if arguments.threads:
            tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
        run_all(arguments, settings)
    report(settings, arguments.output, arguments.pictures, arguments.name)


if __name__ == "__main__":
    main()
