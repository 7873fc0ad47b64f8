"""The paper's training recipe as one function that can be killed at any moment and goes on where it was."""

import csv
import io
import json
import os
import pathlib
import time
from collections.abc import Sequence

import keras

from keras_condense.callbacks import CondenseSchedule, learned_layers
from keras_condense.files import write_text
from keras_condense.optimizers import SGDWithL2
from keras_condense.saving import load_model, save_model
from keras_condense.validation import check_positive_integer

__all__ = ["compile_model", "train"]

CHECKPOINT, LOG, SETTINGS, MODEL = "checkpoint.keras", "log.csv", "settings.json", "model.keras"


def compile_model(
    model: keras.Model,
    steps: int,
    learning_rate: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
) -> None:
    """Compile a classifier with the paper's recipe (section 4.1).

    SGD with Nesterov momentum, L2 on every weight's gradient, and a learning rate that falls to zero along half a
    cosine, step by step.

    Args:
        model: a classifier whose last activation is a softmax.
        steps: batches of the whole training.
        learning_rate: at the first step; the paper's 0.1 is for batches of 64 (CIFAR) or 256 (ImageNet).
        momentum: of the gradient.
        weight_decay: weight of the L2 term.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation="softmax")])
        >>> compile_model(model, steps=100)
        >>> round(float(model.optimizer.learning_rate), 3)
        0.1
    """
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    model.compile(
        SGDWithL2(schedule, momentum=momentum, nesterov=True, l2=weight_decay),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )


def train(
    model: keras.Model,
    data,
    folder: str | os.PathLike,
    *,
    epochs: int = 300,
    learning_rate: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    resume: bool = False,
    settings: dict | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: str | int = "auto",
) -> keras.Model:
    """Train a classifier with the paper's recipe while it condenses itself, in a folder that can be resumed.

    After every epoch the folder holds `checkpoint.keras` (weights, masks, optimizer) and `log.csv` (loss, accuracy,
    stage, share of connections, seconds), each replaced atomically; at the end `model.keras`. A run that is killed,
    at whatever moment, and called again with `resume=True` repeats the epoch it was in on the same batches, so it
    ends with the same masks and weights as an unbroken run.

    Args:
        model: a classifier with a softmax; compiled here. A resumed run takes the checkpoint's model instead.
        data: a `keras_condense.datasets.Dataset`.
        folder: made if it does not exist.
        epochs: of the whole training.
        learning_rate: see `compile_model`, as the two that follow.
        momentum: of the gradient.
        weight_decay: weight of the L2 term.
        resume: go on with the run in `folder`; where there is none, begin one.
        settings: what else a resumed run must have in common with the first, for instance the seed; JSON values.
        callbacks: more Keras callbacks.
        verbose: as in `keras.Model.fit`.

    Returns:
        The trained model, every layer in its last stage.

    Raises:
        ValueError: a folder that holds a run and no `resume`, or a run of other settings; a folder that takes no
            files; a broken checkpoint.

    Example:
        `applications/digits/` is a whole program around this function.
    """
    check_positive_integer("epochs", epochs, "The paper trains 300 on CIFAR and 120 on ImageNet.")
    folder = pathlib.Path(folder)
    settings = (settings or {}) | {
        "network": model.name,
        "parameters": model.count_params(),
        "dataset": data.name,
        "batch_size": data.batch_size,
        "epochs": epochs,
        "learning_rate": learning_rate,
        "momentum": momentum,
        "weight_decay": weight_decay,
    }
    _prepare(folder, settings, resume)
    first_epoch, rows = 0, []
    if (folder / CHECKPOINT).exists():
        model = load_model(folder / CHECKPOINT)
        first_epoch = int(model.optimizer.iterations) // data.steps_per_epoch
        rows = _read_log(folder / LOG)[:first_epoch]
    else:
        compile_model(model, epochs * data.steps_per_epoch, learning_rate, momentum, weight_decay)
    if first_epoch < epochs:
        condensing = [CondenseSchedule(epochs=epochs)] if learned_layers(model) else []
        model.fit(
            data.training(first_epoch),
            initial_epoch=first_epoch,
            epochs=epochs,
            steps_per_epoch=data.steps_per_epoch,
            validation_data=data.validation or data.test,
            callbacks=[*condensing, *callbacks, _Checkpoint(folder, rows)],
            verbose=verbose,
        )
    for layer in learned_layers(model):
        layer.condense_to(layer.final_stage)  # due still if the run was killed after its last epoch
    save_model(model, folder / MODEL)
    return model


def _prepare(folder: pathlib.Path, settings: dict, resume: bool) -> None:
    """Make the folder and its settings file, or check that they belong to the same run."""
    path = folder / SETTINGS
    if not path.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"`folder` (={str(folder)!r}) must be a folder or a place where one can be made ({error.strerror}). "
                "Choose another one."
            ) from error
        write_text(path, json.dumps(settings, indent=2) + "\n")
        return
    if not resume:
        raise ValueError(
            f"`folder` (={str(folder)!r}) must be empty to begin a run, and holds one already. "
            "Resume it (`resume=True`, `--resume`), or choose another folder."
        )
    # through JSON, as the first run's went: tuples come back as lists
    settings, former = json.loads(json.dumps(settings)), json.loads(path.read_text(encoding="utf-8"))
    different = sorted(key for key in settings | former if settings.get(key) != former.get(key))
    if different:
        listing = ", ".join(f"{key} (={settings.get(key)!r}, first {former.get(key)!r})" for key in different)
        raise ValueError(
            f"`folder` (={str(folder)!r}) must hold a run of the same settings to be resumed, and these differ: "
            f"{listing}. Resume with the first run's settings, or choose another folder."
        )


def _read_log(path: pathlib.Path) -> list[dict]:
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


class _Checkpoint(keras.callbacks.Callback):
    """Writes the log and then the checkpoint after every epoch; a kill in between repeats the epoch."""

    def __init__(self, folder: pathlib.Path, rows: list[dict]):
        super().__init__()
        self._folder, self._rows = folder, rows

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch + 1} | {name: f"{float(value):.6g}" for name, value in (logs or {}).items()}
        self._rows.append(row | {"seconds": f"{time.perf_counter() - self._start:.3f}"})
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(self._rows[-1]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        write_text(self._folder / LOG, text.getvalue())
        save_model(self.model, self._folder / CHECKPOINT)
