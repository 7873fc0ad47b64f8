"""Saving and loading whole models: atomic writes, and errors that name the file and what is wrong with it."""

import io
import json
import math
import os
import pathlib
import random
import re
import warnings
import zipfile

import h5py
import keras
import numpy as np

from keras_condense import distillation, layers, losses, optimizers  # noqa: F401  registers what a file may hold
from keras_condense.archives import check_archive
from keras_condense.cards import Card, write_card
from keras_condense.files import check_path, check_readable, replacing
from keras_condense.keras_graphs import student_of
from keras_condense.validation import listed, shown_text

__all__ = ["check_model_suffix", "check_savable", "load_model", "load_state", "save_model"]

_MEMBERS = {"config.json", "metadata.json", "model.weights.h5"}
_LARGEST_CONFIG = 1 << 26  # bytes; a network of a thousand layers has about one million
_UNSAVED = 1 << 30  # bytes of weights that a file need not hold, such as the pixels of `AugmentedImages`
_NUMPY = {"bfloat16": "float16", "float8_e4m3fn": "int8", "float8_e5m2": "int8", "int4": "int8", "uint4": "uint8"}
_NUMPY["string"] = "int8"
_SEVERAL = re.compile(
    r"A total of (?P<count>\d+) objects could not be loaded\. Example error message for object .*?:\n\n"
    r"(?P<example>.*)\n\nList of objects that could not be loaded:\n(?P<all>.*)",
    re.DOTALL,
)


def save_model(model: keras.Model, path: str | os.PathLike, card: Card | None = None) -> None:
    """Write a model to a `.keras` file, whole or not at all.

    Args:
        model: the model, with its optimizer's state if it is compiled. Of a Distiller the student is written;
            `distiller.save(path)` writes its teacher too.
        path: ends in `.keras`; its folder exists.
        card: what it takes and gives, to go with it; `keras_condense.load_card` reads it. Keras leaves it alone.

    Raises:
        ValueError: no model, another suffix, or a folder that takes no file.
        OSError: the disk is full; what stood at `path` is still there.

    Example:
        >>> import tempfile
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_model(model, os.path.join(folder, "model.keras"))
        ...     os.listdir(folder)
        ['model.keras']
    """
    if not isinstance(model, keras.Model):
        raise ValueError(f"`model` (={model!r}) must be a Keras model. Give the model first and the path second.")
    path = check_model_suffix(path)
    with replacing(path) as temporary:
        student_of(model).save(temporary)
        if card is not None:
            with zipfile.ZipFile(temporary, "a") as archive:
                write_card(archive, card)


def load_model(path: str | os.PathLike) -> keras.Model:
    """Load a model from a `.keras` file.

    Args:
        path: the file.

    Returns:
        The model, compiled if it was when it was saved.

    Raises:
        ValueError: no such file, a truncated or foreign one, a model of classes that are not known here, of Python code
            (`Lambda`), or of much larger layers than the file holds weights for. No code is run from the file.

    Example:
        >>> load_model("no/such/model.keras")
        Traceback (most recent call last):
        ...
        ValueError: `path` (='no/such/model.keras') must be an existing file. ...
    """
    path = _check_file(path)
    try:
        _check_needs(path)
        return keras.models.load_model(path, safe_mode=True)
    except Exception as error:
        raise ValueError(
            f"`path` (={str(path)!r}) must hold a model that this installation knows, and loading it failed: "
            f"{_reason(error)} Import the package that its layers come from, or install the versions it was "
            "saved with."
        ) from error


def load_state(model: keras.Model, path: str | os.PathLike) -> None:
    """Load the weights and the optimizer's state of a `.keras` file into the model that it was saved from.

    Args:
        model: built, and compiled with the same kind of optimizer. Its layers need not be registered. Of a Distiller
            the student's are loaded.
        path: the file.

    Raises:
        ValueError: no such file, a broken or foreign one, or one of another network or optimizer.

    Example:
        >>> load_state(keras.Sequential([keras.Input((3,))]), "no/such/model.keras")
        Traceback (most recent call last):
        ...
        ValueError: `path` (='no/such/model.keras') must be an existing file. ...
    """
    path = _check_file(path)
    try:
        with warnings.catch_warnings():  # which is all that Keras does about another optimizer's state
            warnings.filterwarnings("error", message="Skipping variable loading for optimizer")
            student_of(model).load_weights(path)
    except Exception as error:
        raise ValueError(
            f"`path` (={str(path)!r}) must hold the state of `model` (={model.name!r}), and loading it failed: "
            f"{_reason(error)} Build the network and compile it as when it was saved."
        ) from error


def check_savable(model: keras.Model) -> None:
    """Raise ValueError unless Keras can write a model down: what has no `get_config` fails after an epoch else."""
    try:
        keras.saving.serialize_keras_object(student_of(model))
    except Exception as error:  # a user's `get_config` can end in any
        raise ValueError(
            f"`model` (={model.name!r}) must be one that can be saved, and that fails: {_reason(error)} Give each of "
            "its layers a `get_config` that returns all arguments of its `__init__`."
        ) from error


def _check_file(path: str | os.PathLike) -> pathlib.Path:
    path = check_readable("path", check_model_suffix(path), "Check the name, or make it with `save_model`.")
    try:
        _check_whole(path)
    except Exception as error:  # a stranger's file can end in any
        raise ValueError(
            f"`path` (={str(path)!r}) must be a whole Keras model file, and is {_described(error)}. "
            "Copy or save it again, or go back to an earlier checkpoint."
        ) from error
    return path


class _BrokenPart(Exception):
    """Says what is wrong with an archive."""


def _described(error: Exception) -> str:
    return str(error) if isinstance(error, _BrokenPart) else f"truncated or of another kind ({shown_text(error)})"


def _check_whole(path: pathlib.Path) -> None:
    """Raise unless the archive is one of Keras' and whole, before anything in it is believed."""
    members = check_archive(path)
    if not members >= _MEMBERS:
        raise _BrokenPart(f"an archive without {', '.join(sorted(_MEMBERS - members))}")
    with zipfile.ZipFile(path) as archive:
        if (damaged := archive.testzip()) is not None:
            raise _BrokenPart(f"damaged (its part {damaged!r} does not match its checksum)")
        if (size := archive.getinfo("config.json").file_size) > _LARGEST_CONFIG:
            raise _BrokenPart(f"of another kind (its config.json has {size:,} bytes)")


def _check_needs(path: pathlib.Path) -> None:
    """Raise if the model would take much more memory than its file holds numbers, or its weights are elsewhere."""
    with zipfile.ZipFile(path) as archive:
        config, weights = archive.read("config.json").decode(), archive.read("model.weights.h5")
    with h5py.File(io.BytesIO(weights), "r") as file:
        stored = _dataset_bytes(file, set())
    if stored > max(_UNSAVED, 100 * len(weights)):
        raise ValueError(f"its weights would unpack to {stored:,} bytes, and take {len(weights):,} in the file.")
    state = random.getstate()  # of which initializers draw seeds
    try:
        uncompiled = json.dumps({key: part for key, part in json.loads(config).items() if key != "compile_config"})
        with keras.StatelessScope(initialize_variables=False):  # builds without taking memory for weights
            variables = keras.models.model_from_json(uncompiled).variables
    except Exception:
        return  # the real load says what is wrong
    finally:
        random.setstate(state)
    needed = sum(math.prod(v.shape) * np.dtype(_NUMPY.get(v.dtype, v.dtype)).itemsize for v in variables)
    if needed > _UNSAVED + 2 * len(weights):
        raise ValueError(f"its layers would take {needed:,} bytes for weights, of which it holds {len(weights):,}.")


def _dataset_bytes(group: h5py.Group, seen: set[int]) -> int:
    """The size of all arrays; raises for those that lie in other files, which may be pipes, or come up twice."""
    total = 0
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"its weights {name!r} are a link to elsewhere.")
        entry = group[name]
        address = h5py.h5o.get_info(entry.id).addr
        if address in seen:
            raise ValueError(f"its weights {name!r} come up twice.")
        seen.add(address)
        if isinstance(entry, h5py.Group):
            total += _dataset_bytes(entry, seen)
        elif entry.external or entry.is_virtual:
            raise ValueError(f"its weights {name!r} lie in another file.")
        else:
            total += entry.nbytes
    return total


def _reason(error: Exception) -> str:
    # Keras wraps what went wrong in remarks on the layers around it
    text = str(error).rsplit("Exception encountered: ", 1)[-1].strip()
    if several := _SEVERAL.match(text):
        names = re.findall(r"name=([^,>]+)", several["all"])
        first = shown_text(ValueError(several["example"]))
        return (
            f"the weights in it do not fit {several['count']} of its layers ({listed(names)}); of the first: {first}."
        )
    return shown_text(ValueError(text.partition("\n")[0] or type(error).__name__)) + "."


def check_model_suffix(path: str | os.PathLike) -> pathlib.Path:
    """Return `path` if it is that of a `.keras` file, else raise ValueError."""
    path = check_path("path", path)
    if path.suffix != ".keras":
        raise ValueError(
            f"`path` (={str(path)!r}) must end in '.keras'. Name it so, or use `model.save_weights` for weights alone."
        )
    return path
