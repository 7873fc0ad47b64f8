"""How good is learning the groups? CondenseNet against groups chosen otherwise, at equal multiply-adds, on CIFAR-10.

Every arm is one network (arXiv:1711.09224, G = C = 4) with the same first weights and batches, trained by the same
recipe; the arms differ in when three quarters of the 1x1 convolutions' connections go, and in what chooses them. The
learning rate and all else is the paper's and was not tuned here; test images are looked at once, after the training.

Every finished run is added to ablation.csv at once, and what stands there for the same settings is not run
again. ablation_history.csv has the losses on the way, ablation_summary.csv the README's table.

    python benchmarks/ablation.py
    python benchmarks/ablation.py --plot
"""

import argparse
import dataclasses
import functools
import os
import pathlib
import statistics
import time
from collections.abc import Callable

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from common import RESULTS, conditions, print_rows, read_rows, write_rows
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import keras_condense as kc
from keras_condense.drop_plans import drop_plan
from keras_condense.layers import LearnedGroupConv2D, condensable_layers
from keras_condense.masks import connections_left, drop_due
from keras_condense.training import compile_model

GROWTH_RATES = (8, 16, 32)
GROUPS = CONDENSE_FACTOR = 4
PAPERS_DROPS = drop_plan(CONDENSE_FACTOR).drops_at
TRAINING_IMAGES = {"cifar10": 50_000, "digits": 1_437}  # as many as each data set has
WINDOWS = 6  # losses kept of an epoch
PACKAGES = ("keras-condense", "keras", "tensorflow")
CONDITIONS = ("threads", "device", "versions", "python", "date")


@dataclasses.dataclass(frozen=True)
class Training:
    """How a network is trained: a row of differences to the paper's way.

    Attributes:
        chosen: which inputs each group is given before the first step; "" leaves it all of them.
        drops_at: the progress at which the least important connections are dropped; none if it is empty.
        group_lasso: weight of the group lasso.
    """

    chosen: str = ""
    drops_at: tuple[float, ...] = PAPERS_DROPS
    group_lasso: float = 0.0


@dataclasses.dataclass(frozen=True)
class Arm:
    """A training, and what is done to the network after it and before the test.

    Attributes:
        training: arms of the same training share it.
        pruned: whether connections are dropped at the end, with no step after it.
        renewed: whether batch norms then gather their statistics anew; no weight changes.
    """

    training: Training
    pruned: bool = False
    renewed: bool = False

    @property
    def condensed(self) -> bool:
        """Whether the network ends with one connection in C."""
        return bool(self.pruned or self.training.drops_at or self.training.chosen)


# of arms that share a training, each goes on where the one above it ended
ARMS = {
    "learned": Arm(Training()),
    "learned with group lasso": Arm(Training(group_lasso=1e-5)),
    "fixed groups, interleaved": Arm(Training(chosen="interleaved", drops_at=())),
    "fixed groups, random": Arm(Training(chosen="random", drops_at=())),
    "one shot, then trained": Arm(Training(drops_at=(PAPERS_DROPS[-1],))),
    "dense": Arm(Training(drops_at=())),
    "one shot": Arm(Training(drops_at=()), pruned=True),
    "one shot, statistics renewed": Arm(Training(drops_at=()), pruned=True, renewed=True),
}
# colours that the colour-blind can tell apart (Okabe and Ito), markers, and lines
STYLES = {
    "learned": ("#0072B2", "o", "-"),
    "learned with group lasso": ("#56B4E9", "s", "--"),
    "fixed groups, interleaved": ("#E69F00", "^", "-"),
    "fixed groups, random": ("#D55E00", "v", "-"),
    "one shot, then trained": ("#009E73", "D", "-"),
    "dense": ("#777777", "*", ":"),
    "one shot": ("#CC79A7", "X", "-"),
    "one shot, statistics renewed": ("#000000", "P", "-"),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What all runs of a comparison have in common: columns of the results."""

    data: str
    train_images: int
    image_size: int
    epochs: int
    batch_size: int

    def columns(self) -> dict:
        """The settings as a csv file holds them."""
        return {name: str(value) for name, value in dataclasses.asdict(self).items()}

    def chosen(self, rows: list[dict]) -> list[dict]:
        """The rows of these settings."""
        return [row for row in rows if row.items() >= self.columns().items()]


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


def built(training: Training, stages: tuple[int, ...], data: kc.datasets.Dataset, seed: int) -> keras.Model:
    """The network before its first step; its weights follow from the seed alone."""
    keras.utils.set_random_seed(seed)
    model = kc.applications.CondenseNet(
        stages,
        GROWTH_RATES,
        groups=GROUPS,
        condense_factor=CONDENSE_FACTOR,
        stem_strides=1,
        group_lasso=training.group_lasso,
        input_shape=data.image_shape,
        classes=len(data.class_names),
    )
    if training.drops_at:
        model = dropping_at(model, training.drops_at)
    if training.chosen:
        random = np.random.default_rng(seed)
        for layer in condensable_layers(model):
            choose_inputs(layer, PREFERENCES[training.chosen](layer, random))
    return model


def dropping_at(model: keras.Model, drops_at: tuple[float, ...]) -> keras.Model:
    """The same network and weights, its connections dropped at other moments."""

    def cloned(layer: keras.Layer) -> keras.Layer:
        changes = {"drops_at": drops_at} if isinstance(layer, LearnedGroupConv2D) else {}
        return type(layer).from_config(layer.get_config() | changes)

    clone = keras.models.clone_model(model, clone_function=cloned)
    clone.set_weights(model.get_weights())
    return clone


def interleaved(layer: LearnedGroupConv2D, random: np.random.Generator) -> np.ndarray:
    """Group g reads every G-th input from input g on: a group convolution between two channel shuffles."""
    groups, inputs = layer.mask.shape
    return (np.arange(inputs) % groups == np.arange(groups)[:, None]).astype("float64")


def drawn(layer: LearnedGroupConv2D, random: np.random.Generator) -> np.ndarray:
    """Every group reads inputs of its own, drawn by lot."""
    return random.random(layer.mask.shape)


PREFERENCES: dict[str, Callable[[LearnedGroupConv2D, np.random.Generator], np.ndarray]] = {
    "interleaved": interleaved,
    "random": drawn,
}


def choose_inputs(layer: LearnedGroupConv2D, preferences: np.ndarray) -> None:
    """Leave each group the inputs in C that it prefers; a mask that never changes is an ordinary group convolution."""
    mask = drop_due(np.ones(layer.mask.shape), preferences, layer.final_stage, layer.plan)
    layer.set_mask(mask)


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
    training: Training, stages: tuple[int, ...], data: kc.datasets.Dataset, seed: int, epochs: int, on_epoch: Callable
) -> tuple[keras.Model, float, list[dict], float]:
    """The network after its training, the loss of its last epoch, the losses on the way, and the seconds it took."""
    model = built(training, stages, data, seed)
    compile_model(model, epochs * data.steps_per_epoch)
    losses = LossHistory(data)
    callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: on_epoch(logs["loss"]))]
    if training.drops_at:
        callbacks += [kc.callbacks.CondenseSchedule(epochs=epochs), losses]
    start = time.perf_counter()
    history = model.fit(
        data.training(0, epochs=epochs),
        epochs=epochs,
        steps_per_epoch=data.steps_per_epoch,
        callbacks=callbacks,
        shuffle=False,  # `data` is
        verbose=0,
    )
    return model, history.history["loss"][-1], losses.rows, time.perf_counter() - start


def tested(arm: Arm, model: keras.Model, data: kc.datasets.Dataset, stages: tuple[int, ...]) -> dict:
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
    if arm.condensed and profile.macs != condensed_macs(stages, data.image_shape, len(data.class_names)):
        raise RuntimeError(f"the arms must be equal in multiply-adds, and one has {profile.macs:,}")
    accuracy = network.evaluate(data.test, verbose=0, return_dict=True)["accuracy"]
    return {"macs": profile.macs, "parameters": profile.parameters, "test_accuracy": f"{accuracy:.4f}"}


@functools.cache
def condensed_macs(stages: tuple[int, ...], image_shape: tuple[int, ...], classes: int) -> int:
    """Multiply-adds of the network whose connections are dropped at once, whatever chose them."""
    model = kc.applications.CondenseNet(
        stages, GROWTH_RATES, GROUPS, CONDENSE_FACTOR, stem_strides=1, input_shape=image_shape, classes=classes
    )
    return kc.profile_model(kc.condense(model, finish=True)).macs


def name_of(stages: tuple[int, ...]) -> str:
    return "-".join(map(str, stages))


def run_all(arguments: argparse.Namespace, settings: Settings) -> None:
    """Train and test what is not in the results yet, seed after seed, so that an early end leaves whole comparisons."""
    path, history_path = results_paths(arguments.output)
    done = {(row["arm"], row["stages"], row["seed"]) for row in settings.chosen(read_rows(path))}
    trainings = dict.fromkeys(ARMS[arm].training for arm in arguments.arms)
    missing = [
        (seed, stages, training, arms)
        for seed in range(arguments.seeds)
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
            model, loss, losses, seconds = trained(training, stages, data, seed, settings.epochs, on_epoch)
            rows = []
            for arm in arms:
                run = {"arm": arm, "stages": name_of(stages), "seed": str(seed)} | settings.columns()
                rows.append(
                    run
                    | tested(ARMS[arm], model, data, stages)
                    | {"final_training_loss": f"{loss:.4f}", "seconds": f"{seconds:.1f}"}
                    | conditions(threads=os.cpu_count(), packages=PACKAGES)
                )
                if losses:  # before the run itself, which marks it as done
                    others = [row for row in read_rows(history_path) if not row.items() >= run.items()]
                    write_rows(history_path, others + [run | row for row in losses])
            write_rows(path, read_rows(path) + rows)
            progress.advance(runs)


def results_paths(folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    return folder / "ablation.csv", folder / "ablation_history.csv"


def sizes_of(rows: list[dict]) -> list[str]:
    """The sizes among the rows, the smallest first."""
    return sorted({row["stages"] for row in rows}, key=lambda stages: sum(map(int, stages.split("-"))))


def percents(values: list[float]) -> str:
    """Mean, and smallest to largest: of shares in [0, 1], as percents."""
    mean = f"{statistics.mean(values):.1%}".rstrip("%")
    return mean if len(values) == 1 else f"{mean} ({min(values) * 100:.1f} to {max(values) * 100:.1f})"


def summary(rows: list[dict]) -> list[dict]:
    """A row an arm: test accuracy at each size, and how many points it is behind learned groups, run by run."""
    sizes = sizes_of(rows)
    accuracies = {(row["arm"], row["stages"], row["seed"]): float(row["test_accuracy"]) for row in rows}
    macs = {(ARMS[row["arm"]].condensed, row["stages"]): int(row["macs"]) for row in rows}

    def million_macs(condensed: bool) -> dict:
        return {size: f"{macs[condensed, size] / 1e6:.2f}" if (condensed, size) in macs else "" for size in sizes}

    learned = {run[1:]: accuracy for run, accuracy in accuracies.items() if run[0] == "learned"}
    table = [{"arm": "million multiply-adds"} | million_macs(True) | {"points_behind_learned": ""}]
    for arm in ARMS:
        runs = {run[1:]: accuracy for run, accuracy in accuracies.items() if run[0] == arm}
        if not runs:
            continue
        behind = [learned[run] - accuracy for run, accuracy in runs.items() if run in learned]
        cells = {size: [accuracy for (stages, _), accuracy in runs.items() if stages == size] for size in sizes}
        table.append(
            {"arm": arm}
            | {size: percents(values) if values else "" for size, values in cells.items()}
            | {"points_behind_learned": percents(behind) if behind and arm != "learned" else ""}
        )
    if any(not condensed for condensed, _ in macs):
        table.append({"arm": "million multiply-adds, dense"} | million_macs(False) | {"points_behind_learned": ""})
    return [row | {name: rows[-1][name] for name in CONDITIONS} for row in table]


def plot_accuracies(rows: list[dict], path: pathlib.Path) -> None:
    """Test accuracy against multiply-adds: one line per arm through the means over seeds, bars from least to most.

    Equal multiply-adds are drawn side by side, or bars would hide each other. Networks that were pruned and not trained
    after it have a panel of their own, for they are far below.
    """
    figure, (upper, lower) = new_figure(nrows=2, sharex=True, height_ratios=(3, 1))
    for place, (arm, (colour, marker, line)) in enumerate(STYLES.items()):
        points = []
        for size in sizes_of(rows):
            runs = [row for row in rows if row["arm"] == arm and row["stages"] == size]
            if runs:
                percent = [100 * float(row["test_accuracy"]) for row in runs]
                mean = statistics.mean(percent)
                points.append((int(runs[0]["macs"]) / 1e6, mean, mean - min(percent), max(percent) - mean))
        if points:
            macs, means, below, above = zip(*points, strict=True)
            beside = [value * 1.015 ** (place - 2) if ARMS[arm].condensed else value for value in macs]
            (lower if ARMS[arm].pruned else upper).errorbar(
                beside,
                means,
                yerr=(below, above),
                label=arm if ARMS[arm].condensed else f"{arm}: never pruned, more multiply-adds",
                color=colour,
                marker=marker,
                linestyle=line,
                linewidth=1.3,
                markersize=6,
                capsize=3,
            )
    for axes in (upper, lower):
        axes.set_xscale("log")
        axes.set_ylabel("test accuracy, %")
    ticks = sorted({round(int(row["macs"]) / 1e6, 2) for row in rows})
    lower.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    lower.minorticks_off()
    lower.set_xlabel("million multiply-adds")
    save(figure, path)


def plot_losses(rows: list[dict], epochs: int, path: pathlib.Path) -> None:
    """The training loss of the middle size, a mean over seeds, and the moments at which connections are dropped."""
    sizes = sizes_of(rows)
    size = sizes[len(sizes) // 2]
    figure, axes = new_figure()
    for drop, progress in enumerate(PAPERS_DROPS, start=1):
        axes.axvline(progress * epochs, color="#999999", linestyle="--", linewidth=1)
        left = f"{1 - drop / CONDENSE_FACTOR:.0%} left"
        place = {"xy": (progress * epochs, 0.98), "xycoords": ("data", "axes fraction")}
        axes.annotate(left, **place, xytext=(4, 0), textcoords="offset points", va="top", fontsize=8, color="#555555")
    for arm, (colour, _, line) in STYLES.items():
        losses: dict[float, list[float]] = {}
        for row in rows:
            if row["arm"] == arm and row["stages"] == size:
                losses.setdefault(float(row["epoch"]), []).append(float(row["loss"]))
        if losses:
            means = [statistics.mean(loss) for loss in losses.values()]
            axes.plot(losses.keys(), means, color=colour, linestyle=line, linewidth=1.3, label=arm)
    axes.set_xlabel(f"epoch; each point is the mean of 1/{WINDOWS} epoch before it")
    axes.set_ylabel(f"training loss, {size}")
    save(figure, path)


def new_figure(**panels) -> tuple:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    return pyplot.subplots(**panels, figsize=(7, 5.6), dpi=110, layout="constrained")


def save(figure, path: pathlib.Path) -> None:
    for axes in figure.axes:
        axes.grid(alpha=0.25)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    # without the versions that matplotlib notes down, the same figures give the same file
    figure.savefig(path, metadata={"Software": None})


def report(settings: Settings, folder: pathlib.Path) -> None:
    """Write the summary and the plots from the csv files alone, and print the summary.

    Raises:
        SystemExit: there are no runs of these settings.
    """
    path, history_path = results_paths(folder)
    rows = settings.chosen(read_rows(path))
    if not rows:
        raise SystemExit(f"error: {path} must have runs of {settings}, and has none. Run it without --plot first.")
    table = summary(rows)
    write_rows(folder / "ablation_summary.csv", table)
    plot_accuracies(rows, folder / "ablation_accuracy.png")
    if losses := settings.chosen(read_rows(history_path)):
        plot_losses(losses, settings.epochs, folder / "ablation_loss.png")
    shown = [{column: cell for column, cell in row.items() if column not in CONDITIONS} for row in table]
    print_rows(shown, str(path), width=140)


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
    parser.add_argument("--image-size", type=positive, default=16, help="sides in pixels (default: %(default)s)")
    parser.add_argument("--epochs", type=positive, default=6, help="default: %(default)s")
    parser.add_argument("--batch-size", type=positive, default=64, help="default: %(default)s")
    parser.add_argument(
        "--seeds", type=positive, default=2, help="runs of each, seeds 0, 1, ... (default: %(default)s)"
    )
    sizes = [(2, 2, 2), (4, 4, 4)]
    parser.add_argument("--sizes", type=block_layers, nargs="+", default=sizes, help="default: 2-2-2 4-4-4")
    parser.add_argument("--arms", choices=ARMS, nargs="+", default=list(ARMS), metavar="ARM", help=", ".join(ARMS))
    parser.add_argument("--output", type=pathlib.Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--plot", action="store_true", help="run nothing; draw what the results of these settings hold")
    arguments = parser.parse_args()
    if arguments.train_images > TRAINING_IMAGES[arguments.data]:
        parser.error(f"--train-images must be at most {TRAINING_IMAGES[arguments.data]:,}, all that there are.")
    settings = Settings(
        arguments.data, arguments.train_images, arguments.image_size, arguments.epochs, arguments.batch_size
    )
    if not arguments.plot:
        run_all(arguments, settings)
    report(settings, arguments.output)


if __name__ == "__main__":
    main()
