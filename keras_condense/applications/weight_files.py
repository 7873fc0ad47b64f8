"""Files of weights that a caller names: which kinds there are, whether one is whole, and loading those of Keras."""

import os
import warnings
import zipfile
import zlib
from typing import Any

import h5py
import keras

from keras_condense.applications.torch_files import TORCH_SUFFIXES
from keras_condense.archives import check_archive

__all__ = ["KERAS_SUFFIXES", "UNREADABLE", "check_whole", "is_torch", "load_weights"]

KERAS_SUFFIXES = (".weights.h5", ".keras", ".h5", ".hdf5")
# what h5py, zipfile and Keras raise for a file that is broken or another model's
UNREADABLE = (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def is_torch(weights: Any) -> bool:
    """Whether `weights` names a file of PyTorch."""
    return isinstance(weights, (str, os.PathLike)) and str(os.fspath(weights)).endswith(TORCH_SUFFIXES)


def load_weights(model: keras.Model, path: str) -> None:
    """Load a file of Keras into a model; ValueError if it is broken or another network's."""
    try:
        with warnings.catch_warnings():
            # a warning for each layer that a foreign file lacks, on top of the error raised at the end
            warnings.filterwarnings("ignore", "Skipping nested container", UserWarning)
            model.load_weights(path)
    except UNREADABLE as error:
        raise ValueError(
            f"`weights` (={path!r}) must hold the weights of this very network, which they don't fit "
            f"({_reason(error)}). Pass the arguments that the saved model was built with."
        ) from error


def check_whole(path: str) -> None:
    """Raise before any work if a file of weights is truncated or of another format than its name says."""
    try:
        if path.endswith(".keras"):
            check_archive(path)
            with zipfile.ZipFile(path) as archive:
                archive.getinfo("model.weights.h5")
                broken = archive.testzip()
            if broken:
                raise zipfile.BadZipFile(f"its part {broken!r} is damaged")
        else:
            with h5py.File(path, "r") as file:
                file.keys()
    except UNREADABLE as error:
        raise ValueError(
            f"`weights` (={path!r}) must be a whole file of weights, and this one can't be read ({_reason(error)}). "
            "Save it again with model.save_weights(...)."
        ) from error


def _reason(error: Exception) -> str:
    text = " ".join(str(error).partition("List of objects")[0].split()).rstrip(".")
    return text or type(error).__name__
