"""The folder of a training run: its settings, its log and its checkpoint, each whole whenever the run is killed."""

import csv
import io
import json
import os
import pathlib
import time
import zipfile
from typing import Any

import keras
import numpy as np

from keras_condense.csv_files import read_rows, write_rows
from keras_condense.files import check_path, check_readable, check_writable, remove_leftovers, replacing, write_text
from keras_condense.saving import load_state
from keras_condense.training.several import alone
from keras_condense.training.within_epoch import Progress, state_of
from keras_condense.validation import shown

__all__ = [
    "CHECKPOINT",
    "LOG",
    "MODEL",
    "SETTINGS",
    "Checkpoint",
    "check_settings",
    "load_checkpoint",
    "make_folder",
    "prepare",
    "read_log",
    "save_checkpoint",
]

_PROGRESS, _STATE = "progress.json", "state.npz"  # the parts of a checkpoint that say how far it is, of a `Progress`
FILES = CHECKPOINT, LOG, MODEL, SETTINGS = "checkpoint.keras", "log.csv", "model.keras", "settings.json"


def make_folder(folder: str | os.PathLike, images: str = "") -> pathlib.Path:
    """Return the folder as a path, made if it is missing; ValueError where there can be none.

    Args:
        folder: of the run.
        images: the whole path of the folder of its images, where they come from one.
    """
    folder = check_path("folder", folder)
    if os.path.isabs(images) and pathlib.Path(images) in (folder.resolve(), *folder.resolve().parents):
        raise ValueError(
            f"`folder` (={str(folder)!r}) must lie outside the folder of the images ({images!r}), where a run would be "
            "taken for a class. Choose another one."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"`folder` (={str(folder)!r}) must be a folder or a place where one can be made ({error.strerror}). "
            "Choose another one."
        ) from error
    return folder


def check_settings(settings: dict) -> None:
    """Raise ValueError unless settings can be written to a JSON file."""
    try:
        json.dumps(settings)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`settings` (={shown(settings)}) must be values that JSON has, and they are not: {error}. Use numbers, "
            "strings, lists and dicts of Python's own."
        ) from error


# what runs had that were begun before these settings were kept
_BEFORE = {"class_weights": False, "resize": "stretch", "scale_learning_rate": False, "batch_norms": None}


def prepare(folder: pathlib.Path, settings: dict, resume: bool) -> None:
    """Write the folder's settings file, or check that it belongs to the same run; remove what a kill left behind.

    A run may go on with more epochs than it was begun with. One that ended in its first epoch leaves its settings
    alone: there is nothing to resume, and the next one begins.
    """
    path = folder / SETTINGS
    check_writable(path)  # or a whole epoch would be trained before that is found out
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
    if not present or _is_less(former.get("epochs"), settings["epochs"]):
        write_text(path, json.dumps(settings, indent=2) + "\n")


def _read_settings(path: pathlib.Path) -> dict:
    check_readable("folder", path, "Choose another folder.")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
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
    former = _BEFORE | former
    different = sorted(key for key in settings | former if settings.get(key) != former.get(key))
    if "epochs" in different and _is_less(former.get("epochs"), settings["epochs"]):
        different.remove("epochs")
    if different:
        listing = ", ".join(f"{key} (={settings.get(key)!r}, first {former.get(key)!r})" for key in different)
        raise ValueError(
            f"`folder` (={str(folder)!r}) must hold a run of the same settings to be resumed, and these differ: "
            f"{listing}. Resume with the first run's settings, or choose another folder."
        )


def _is_less(first: Any, second: int) -> bool:
    """Whether a run of so many epochs is to be continued with more."""
    return isinstance(first, int) and first < second


def read_log(path: pathlib.Path) -> list[dict]:
    """Return the rows of a run's log, every cell a string; none if there is no file."""
    if not path.exists():
        return []
    check_readable("folder", path, "Choose another folder.")
    try:
        return read_rows(path)
    except (ValueError, csv.Error) as error:
        raise ValueError(
            f"`folder` (={str(path.parent)!r}) must hold a whole run to be resumed, and its {path.name} can't be read "
            f"({error}). Choose another folder."
        ) from error


def save_checkpoint(model: keras.Model, path: pathlib.Path, progress: Progress) -> None:
    """Write a model's weights and its optimizer's state, and how far it is trained; whole or not at all."""
    place = {name: getattr(progress, name) for name in ("epochs", "steps", "seconds")}
    state = io.BytesIO()
    np.savez(state, **progress.state)
    with replacing(path) as temporary, alone():
        model.save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(_PROGRESS, json.dumps(place))
            archive.writestr(_STATE, state.getvalue())


def load_checkpoint(model: keras.Model, path: pathlib.Path) -> Progress:
    """Load what `save_checkpoint` wrote into a model; return how far it is trained."""
    load_state(model, path)
    try:
        with zipfile.ZipFile(path) as archive:
            place = json.loads(archive.read(_PROGRESS))
            if not place.get("steps"):  # files of earlier versions hold epochs alone
                return Progress(int(place["epochs"]))
            with np.load(io.BytesIO(archive.read(_STATE)), allow_pickle=False) as state:
                return Progress(int(place["epochs"]), int(place["steps"]), float(place["seconds"]), dict(state))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"`folder` (={str(path.parent)!r}) must hold a run to be resumed, and its {path.name} does not say how "
            "many epochs it was trained. Choose another folder."
        ) from error


class Checkpoint(keras.callbacks.Callback):
    """Writes the log and then the checkpoint after every epoch, and within them; a kill repeats what came after it.

    An epoch that a callback stops before its end is repeated too: what it learned is in the model that is returned,
    and not in the checkpoint.

    Args:
        network: what is saved of the model that `fit` trains.
        folder: of the run.
        rows: of its log.
        steps_per_epoch: of whole epochs.
        save_freq: "epoch", or how many batches come between two checkpoints within an epoch.
    """

    def __init__(
        self, network: keras.Model, folder: pathlib.Path, rows: list[dict], steps_per_epoch: int, save_freq: str | int
    ):
        super().__init__()
        self._network, self._folder, self._rows = network, folder, rows
        self._steps_per_epoch = steps_per_epoch
        self._save_freq = steps_per_epoch if save_freq == "epoch" else save_freq
        self._resumed = Progress()

    def go_on(self, progress: Progress) -> None:
        """Know that the next epoch is begun already."""
        self._resumed = progress

    def on_epoch_begin(self, epoch, logs=None):
        self._first = self._steps = self._resumed.steps
        self._start = time.perf_counter() - self._resumed.seconds
        self._resumed = Progress()
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self._steps = self._first + batch + 1
        if self._steps % self._save_freq or self._steps == self._steps_per_epoch:
            return
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()  # between batches its trainer keeps the values to itself
        state = state_of(self.model)
        self._check_finite([value for name, value in state.items() if name.startswith("metric")])
        seconds = time.perf_counter() - self._start
        save_checkpoint(self._network, self._folder / CHECKPOINT, Progress(self._epoch, self._steps, seconds, state))

    def on_epoch_end(self, epoch, logs=None):
        losses = [float(logs[name]) for name in ("loss", "val_loss") if name in (logs or {})]
        self._check_finite(losses)  # the validation's shows what the last step did
        if self._steps < self._steps_per_epoch:
            return
        row = {"epoch": epoch + 1} | {name: f"{float(value):.6g}" for name, value in (logs or {}).items()}
        self._rows.append(row | {"seconds": f"{time.perf_counter() - self._start:.3f}"})
        write_rows(self._folder / LOG, self._rows)
        save_checkpoint(self._network, self._folder / CHECKPOINT, Progress(epoch + 1))

    def _check_finite(self, losses: list) -> None:
        if not all(np.isfinite(loss).all() for loss in losses):
            raise ValueError(
                f"The loss must be finite, and in epoch {self._epoch + 1} it is not ({list(map(float, losses))}): the "
                "training has diverged. Begin again in another folder with a smaller `learning_rate`."
            )
