"""Saving and loading whole models: atomic writes, and errors that name the file and what is wrong with it."""

import os
import pathlib
import zipfile
import zlib

import keras

from keras_condense import layers, losses, optimizers  # noqa: F401  registers what a file may hold
from keras_condense.files import check_path, replacing

__all__ = ["load_model", "save_model"]

_MEMBERS = {"config.json", "metadata.json", "model.weights.h5"}


def save_model(model: keras.Model, path: str | os.PathLike) -> None:
    """Write a model to a `.keras` file, whole or not at all.

    Args:
        model: the model, with its optimizer's state if it is compiled.
        path: ends in `.keras`; its folder exists.

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
    path = _check_suffix(path)
    with replacing(path) as temporary:
        model.save(temporary)


def load_model(path: str | os.PathLike) -> keras.Model:
    """Load a model from a `.keras` file.

    Args:
        path: the file.

    Returns:
        The model, compiled if it was when it was saved.

    Raises:
        ValueError: no such file, a truncated or foreign one, or a model of classes that are not known here.

    Example:
        >>> load_model("no/such/model.keras")
        Traceback (most recent call last):
        ...
        ValueError: `path` (='no/such/model.keras') must be an existing file. ...
    """
    path = _check_suffix(path)
    if not path.is_file():
        raise ValueError(
            f"`path` (={str(path)!r}) must be an existing file. Check the name, or make it with `save_model`."
        )
    if not os.access(path, os.R_OK):
        raise ValueError(f"`path` (={str(path)!r}) must be a file that can be read. Change its permissions.")
    broken = (
        f"`path` (={str(path)!r}) must be a whole Keras model file, and is {{}}. "
        "Copy or save it again, or go back to an earlier checkpoint."
    )
    try:
        with zipfile.ZipFile(path) as archive:
            damaged, members = archive.testzip(), set(archive.namelist())
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise ValueError(broken.format(f"truncated or of another kind ({error})")) from error
    if damaged is not None:
        raise ValueError(broken.format(f"damaged (its part {damaged!r} does not match its checksum)"))
    if not members >= _MEMBERS:
        raise ValueError(broken.format(f"an archive without {', '.join(sorted(_MEMBERS - members))}"))
    try:
        return keras.models.load_model(path)
    except (TypeError, ValueError, KeyError, AttributeError, OSError) as error:
        raise ValueError(
            f"`path` (={str(path)!r}) must hold a model that this installation knows, and loading it failed: "
            f"{_first_line(error)} Import the package that its layers come from, or install the versions it was "
            "saved with."
        ) from error


def _first_line(error: Exception) -> str:
    # Keras wraps what went wrong in remarks on the layers around it
    lines = str(error).rsplit("Exception encountered: ", 1)[-1].strip().splitlines()
    return (lines or [type(error).__name__])[0].rstrip(".") + "."


def _check_suffix(path: str | os.PathLike) -> pathlib.Path:
    path = check_path("path", path)
    if path.suffix != ".keras":
        raise ValueError(
            f"`path` (={str(path)!r}) must end in '.keras'. Name it so, or use `model.save_weights` for weights alone."
        )
    return path
