"""The paper's training recipe as one function that can be killed at any moment and goes on where it was."""

import csv
import io
import json
import math
import os
import pathlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_condense.callbacks import CondenseSchedule, learned_layers
from keras_condense.datasets import Dataset, ImageArrays
from keras_condense.files import check_path, locked, remove_leftovers, write_text
from keras_condense.layers import AugmentedImages
from keras_condense.optimizers import SGDWithL2
from keras_condense.saving import load_model, save_model
from keras_condense.validation import check_fraction, check_not_negative, check_positive_integer

__all__ = ["compile_model", "train"]

FILES = CHECKPOINT, LOG, MODEL, SETTINGS = "checkpoint.keras", "log.csv", "model.keras", "settings.json"


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

    Raises:
        ValueError: `steps` no positive integer, `learning_rate` not above 0, `momentum` not in [0, 1), or
            `weight_decay` negative; infinity and NaN.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation="softmax")])
        >>> compile_model(model, steps=100)
        >>> round(float(model.optimizer.learning_rate), 3)
        0.1
    """
    check_positive_integer("steps", steps, "Give epochs * batches an epoch.")
    check_fraction("momentum", momentum, "Use 0.9.", below_one=True)
    check_not_negative("learning_rate", learning_rate, "Use 0.1.", above_zero=True)
    check_not_negative("weight_decay", weight_decay, "Use 1e-4, or 0 for none.")
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    _compile(model, SGDWithL2(schedule, momentum=momentum, nesterov=True, l2=weight_decay))
    # variables that are made inside the first step, "accuracy" by its name too, have TensorFlow trace it twice
    model.optimizer.build(model.trainable_variables)


def _compile(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
    model.compile(
        optimizer,
        loss="sparse_categorical_crossentropy",
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        jit_compile=None,  # decided by the machine that trains; of "auto", a file keeps what it came to on the first
    )


def train(
    model: keras.Model,
    data: Dataset | ImageArrays,
    folder: str | os.PathLike,
    *,
    epochs: int = 300,
    learning_rate: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    seed: int = 0,
    resume: bool = False,
    settings: dict | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: str | int = "auto",
) -> keras.Model:
    """Train a classifier with the paper's recipe while it condenses itself, in a folder that can be resumed.

    After every epoch the folder holds `checkpoint.keras` (weights, masks, optimizer) and `log.csv` (loss, accuracy,
    stage, share of connections, seconds), each replaced atomically; at the end `model.keras`. A run that is killed,
    at whatever moment, and called again with `resume=True` repeats the epoch it was in on the same batches and with
    the same dropout, so it ends with the same masks and weights as an unbroken run: to the last bit on one CPU; a GPU
    needs `tf.config.experimental.enable_op_determinism()` for that.

    With `ImageArrays` the images lie on the device, a byte a value, and are cropped, mirrored and normalised within the
    compiled step, on TensorFlow, JAX and PyTorch; the step is compiled once. A run may go on with another backend and
    on another machine: the batches are the same, and the files hold the network and no images.

    Args:
        model: a classifier with a softmax, one output a class of `data`; compiled here. A resumed run takes the
            checkpoint's model instead.
        data: made by `keras_condense.datasets.load` (which needs TensorFlow, whatever the backend) or `load_arrays`.
        folder: made if it does not exist.
        epochs: of the whole training.
        learning_rate: see `compile_model`, as the two that follow.
        momentum: of the gradient.
        weight_decay: weight of the L2 term.
        seed: of the dropout. Those of the first weights and of the data are `keras.utils.set_random_seed`'s and
            the data set's.
        resume: go on with the run in `folder`; where there is none, begin one.
        settings: what else a resumed run must have in common with the first, for instance the network's options;
            JSON values.
        callbacks: more Keras callbacks. With `ImageArrays`, what they know as their `model` is a model of two layers:
            `AugmentedImages` and the network.
        verbose: as in `keras.Model.fit`.

    Returns:
        The trained model, every layer in its last stage.

    Raises:
        ValueError: an argument out of range; a model that does not fit `data`; a folder that holds a run and no
            `resume`, a run of other settings or one that another process is training; a folder that takes no files;
            a broken checkpoint; a loss that is not finite, in which case the last checkpoint stays as it is.
        OSError: writing failed, for instance on a full disk; the last checkpoint is still there.

    Example:
        `applications/digits/` is a whole program around this function.
    """
    check_positive_integer("epochs", epochs, "The paper trains 300 on CIFAR and 120 on ImageNet.")
    _check_data(data)
    _check_fit(model, data)
    compile_model(model, epochs * data.steps_per_epoch, learning_rate, momentum, weight_decay)
    settings = (settings or {}) | {
        "network": model.name,
        "parameters": model.count_params(),
        "dataset": data.name,
        "batch_size": data.batch_size,
        "epochs": epochs,
        "learning_rate": learning_rate,
        "momentum": momentum,
        "weight_decay": weight_decay,
        "seed": seed,
        **_settings_of(data),
    }
    folder = _make_folder(folder)
    with locked(folder):
        _prepare(folder, settings, resume)
        first_epoch, rows = 0, []
        if (folder / CHECKPOINT).exists():
            model = load_model(folder / CHECKPOINT)
            first_epoch = int(model.optimizer.iterations) // data.steps_per_epoch
            rows = _read_log(folder / LOG)[:first_epoch]
        if first_epoch < epochs:
            condensing = [CondenseSchedule(epochs=epochs)] if learned_layers(model) else []
            trained, inputs = _model_and_inputs(model, data, first_epoch, epochs)
            trained.fit(
                **inputs,
                initial_epoch=first_epoch,
                epochs=epochs,
                steps_per_epoch=data.steps_per_epoch,
                callbacks=[_ReseedDropout(seed), *condensing, *callbacks, _Checkpoint(model, folder, rows)],
                shuffle=False,  # `data` is
                verbose=verbose,
            )
        for layer in learned_layers(model):
            layer.condense_to(layer.final_stage)  # due still if the run was killed after its last epoch
        save_model(model, folder / MODEL)
    return model


def _model_and_inputs(
    model: keras.Model, data: Dataset | ImageArrays, first_epoch: int, epochs: int
) -> tuple[keras.Model, dict[str, Any]]:
    """Return the model to fit, which shares weights and optimizer with `model`, and the arguments that feed it."""
    if isinstance(data, Dataset):
        return model, {"x": data.training(first_epoch), "validation_data": data.validation or data.test}
    held_out = (data.test_images, data.test_labels)
    if data.validation_size:
        held_out = (data.validation_images, data.validation_labels)
    pad = data.augmentation.pad if data.augmentation else 0
    draws = keras.Input((4,), dtype="int32")
    # one layer holds both, for `fit` validates the model that it trains
    images = AugmentedImages(np.concatenate([data.train_images, held_out[0]]), data.mean, data.std, pad)
    whole = keras.Model(draws, model(images(draws)))
    _compile(whole, model.optimizer)
    as_they_are = np.full((len(held_out[0]), 4), (0, pad, pad, 0), "int32")
    as_they_are[:, 0] = np.arange(data.train_size, data.train_size + len(as_they_are))
    return whole, {
        "x": _drawn_batches(data, first_epoch, epochs),
        "validation_data": (as_they_are, held_out[1]),
        "validation_batch_size": data.batch_size,
    }


def _drawn_batches(data: ImageArrays, first_epoch: int, epochs: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for epoch in range(first_epoch, epochs):
        for draws in data.draws(epoch):
            yield draws, data.train_labels[draws[:, 0]]


def _settings_of(data: Dataset | ImageArrays) -> dict[str, str]:
    """What a run with another kind of data, or with the same images in another order, must not go on with."""
    if isinstance(data, Dataset):
        return {"batches": "tf.data"}
    return {"batches": "arrays", "images_checksum": data.checksum}


def _check_data(data: Any) -> None:
    if not isinstance(data, (Dataset, ImageArrays)):
        raise ValueError(
            f"`data` (of type {type(data).__name__}) must be a Dataset or ImageArrays. Make it with "
            "`keras_condense.datasets.load` or `load_arrays`."
        )


def _check_fit(model: keras.Model, data) -> None:
    given = (*model.input_shape[1:], *model.output_shape[1:])
    expected = (*data.image_shape, len(data.class_names))
    if len(given) != len(expected) or any(size not in (None, need) for size, need in zip(given, expected, strict=True)):
        raise ValueError(
            f"`model` (={model.name!r}) must map images of {tuple(data.image_shape)} to {expected[-1]} classes, as "
            f"`data` (={data.name!r}) has them, and maps {model.input_shape[1:]} to {model.output_shape[1:]}. "
            "Build it with the data set's `image_shape` and `len(class_names)`."
        )


def _make_folder(folder: str | os.PathLike) -> pathlib.Path:
    folder = check_path("folder", folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"`folder` (={str(folder)!r}) must be a folder or a place where one can be made ({error.strerror}). "
            "Choose another one."
        ) from error
    return folder


def _prepare(folder: pathlib.Path, settings: dict, resume: bool) -> None:
    """Write the folder's settings file, or check that it belongs to the same run; remove what a kill left behind.

    A run that ended in its first epoch leaves its settings alone. There is nothing to resume: the next one begins.
    """
    path = folder / SETTINGS
    present = [name for name in (CHECKPOINT, LOG, MODEL) if (folder / name).exists()]
    if present and not resume:
        raise ValueError(
            f"`folder` (={str(folder)!r}) must be empty to begin a run, and holds one already. "
            "Resume it (`resume=True`, `--resume`), or choose another folder."
        )
    if present and not path.exists():
        raise ValueError(
            f"`folder` (={str(folder)!r}) must hold a whole run to be resumed, and has {', '.join(present)} but no "
            f"{SETTINGS}. Choose another folder."
        )
    former = _read_settings(path) if path.exists() else {}
    if present:
        _check_settings(folder, settings, former)
    for name in FILES:
        remove_leftovers(folder / name)
    if not present:
        write_text(path, json.dumps(settings, indent=2) + "\n")


def _read_settings(path: pathlib.Path) -> dict:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"`folder` (={str(path.parent)!r}) must be empty or hold a run, and its {path.name} can't be read "
            f"({error}). Choose another folder."
        ) from error
    if not isinstance(settings, dict) or "network" not in settings:  # another program's must not be overwritten
        raise ValueError(
            f"`folder` (={str(path.parent)!r}) must be empty or hold a run, and its {path.name} is not of one. "
            "Choose another folder."
        )
    return settings


def _check_settings(folder: pathlib.Path, settings: dict, former: dict) -> None:
    settings = json.loads(json.dumps(settings))  # as the first run's went: tuples come back as lists
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


class _ReseedDropout(keras.callbacks.Callback):
    """Gives every random generator of the model a state that follows from the seed and the epoch alone.

    A `.keras` file does not hold the states, and a resumed run must draw what an unbroken one draws.
    """

    def __init__(self, seed: int):
        super().__init__()
        self._seed = seed

    def on_epoch_begin(self, epoch, logs=None):
        states = [variable for variable in self.model.variables if variable.name == "seed_generator_state"]
        for number, state in enumerate(states):
            state.assign(np.random.SeedSequence((self._seed, epoch, number)).generate_state(2).astype(state.dtype))


class _Checkpoint(keras.callbacks.Callback):
    """Writes the log and then the checkpoint after every epoch; a kill in between repeats the epoch."""

    def __init__(self, network: keras.Model, folder: pathlib.Path, rows: list[dict]):
        super().__init__()
        self._network, self._folder, self._rows = network, folder, rows

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        losses = [float(logs[name]) for name in ("loss", "val_loss") if name in (logs or {})]
        if not all(map(math.isfinite, losses)):  # the validation's shows what the last step did
            raise ValueError(
                f"The loss must be finite, and after epoch {epoch + 1} it is not ({losses}): the training has "
                "diverged. Begin again in another folder with a smaller `learning_rate`."
            )
        row = {"epoch": epoch + 1} | {name: f"{float(value):.6g}" for name, value in (logs or {}).items()}
        self._rows.append(row | {"seconds": f"{time.perf_counter() - self._start:.3f}"})
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(self._rows[-1]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        write_text(self._folder / LOG, text.getvalue())
        save_model(self._network, self._folder / CHECKPOINT)
