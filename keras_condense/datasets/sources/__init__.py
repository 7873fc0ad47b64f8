"""The places images come from, one file each: the registry.

A new source is a subclass of `Source` in a file of its own, and a row here. The first one that knows a name takes it.
"""

import contextlib
import difflib
import os

import keras

from keras_condense.datasets.request import Request
from keras_condense.datasets.sources.array_file import ArrayFile
from keras_condense.datasets.sources.base import (
    HeldOutImages,
    Images,
    Source,
    missing_package,
    require,
    stratified_split,
)
from keras_condense.datasets.sources.digits import Digits
from keras_condense.datasets.sources.folder import Folder
from keras_condense.datasets.sources.keras_names import KerasNames
from keras_condense.datasets.sources.tfds_names import TfdsNames

__all__ = [
    "SOURCES",
    "HeldOutImages",
    "Images",
    "Source",
    "find_source",
    "require",
    "similar_names",
    "stratified_split",
]

SOURCES: list[type[Source]] = [Digits, ArrayFile, KerasNames, TfdsNames, Folder]


def find_source(request: Request) -> Source:
    """Return the source that knows a request's name.

    Raises:
        ValueError: there is none.
        ImportError: TensorFlow is missing, and the images, or what becomes of them, need it.
    """
    if not request.in_memory:
        require("tensorflow", "tensorflow")
    for kind in SOURCES:
        if kind.needs_tensorflow and request.in_memory:
            _need_tensorflow(request)
        if source := kind.open(request):
            return source
    name = os.fspath(request.name)
    similar = " or ".join(map(repr, similar_names(name)))
    raise ValueError(
        f"`name` (={name!r}) must be {_listed(SOURCES)}. "
        f"{f'Did you mean {similar}?' if similar else 'Check the spelling.'}"
    )


def similar_names(name: str) -> list[str]:
    """Return the names of data sets that look like `name`."""
    return difflib.get_close_matches(name, sorted({known for kind in SOURCES for known in kind.names()}), n=3)


def _need_tensorflow(request: Request) -> None:
    if missing_package("tensorflow"):
        raise ImportError(
            f"`name` (={os.fspath(request.name)!r}) must be "
            f"{_listed([kind for kind in SOURCES if not kind.needs_tensorflow])} where TensorFlow is missing. "
            'Install it (pip install "keras-condense[tensorflow,tfds]"), or bring the data as a file of '
            "`ImageArrays.save`."
        )
    if keras.backend.backend() != "tensorflow":
        import tensorflow as tf

        with contextlib.suppress(RuntimeError):  # it has the GPUs already, on which another backend will train
            tf.config.set_visible_devices([], "GPU")


def _listed(kinds: list[type[Source]]) -> str:
    described = [kind.described for kind in kinds if kind.described]
    return f"{', '.join(described[:-1])} or {described[-1]}"
