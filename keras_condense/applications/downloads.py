"""Published files in Keras' cache: fetched, checked, and those of PyTorch converted once.

Beside the file, under its own name, lies what was converted of it, under a name that also says for which layers and by
which version of the conversion. Nothing gets its name before it is whole and checked, so that processes that fetch the
same file at once, or are killed, can't leave a broken one.
"""

import contextlib
import glob
import hashlib
import os
import pathlib
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import h5py
import keras

from keras_condense.applications.pretrained import KerasFiles, PretrainedWeights
from keras_condense.applications.torch_files import state_dict_of, unpacked
from keras_condense.applications.weight_files import UNREADABLE

__all__ = ["fetch", "folder", "keras_file", "load", "packaged_file"]

ABANDONED = 24 * 3600  # seconds after which nobody is still fetching
VERSION = 1  # of the conversion; a change of what it makes of a file needs the next number


def folder() -> pathlib.Path:
    """Return the folder of Keras' cache for models, made if it is missing (see `keras.utils.get_file`).

    It is in the temporary folder where Keras' own takes no files.

    Raises:
        OSError: neither takes files.
    """
    usual = os.path.expanduser(os.environ.get("KERAS_HOME") or os.path.join("~", ".keras"))
    folders = [pathlib.Path(usual, "models"), pathlib.Path(tempfile.gettempdir(), ".keras", "models")]
    reasons = []
    for models in folders:
        try:
            models.mkdir(parents=True, exist_ok=True)
            if os.access(models, os.W_OK):
                return models
            reasons.append("it is read-only")
        except OSError as error:
            reasons.append(error.strerror or type(error).__name__)
    described = ", ".join(f"{str(models)!r} ({reason})" for models, reason in zip(folders, reasons, strict=True))
    raise OSError(
        f"The cache of Keras must be a folder that takes files, and neither of {described} does. Set KERAS_HOME to one."
    )


def load(row: PretrainedWeights, model: keras.Model, convert: Callable[[Mapping[str, Any]], None]) -> None:
    """Give a network its published weights, converted or, once that was done, as they were converted before.

    Args:
        row: of pytorchcv's files.
        model: the network, from its own first layer on.
        convert: gives `model` the weights of a dictionary of arrays.

    Raises:
        OSError: the file can't be fetched or kept.
        ValueError: what was fetched is damaged, another file, or another network's.
    """
    cached = folder() / f"{pathlib.PurePosixPath(row.release).stem}-{VERSION}-{_layout(model)}.weights.h5"
    if _load_converted(model, cached):
        return
    data, described = fetch(row)
    convert(state_dict_of(data, described))
    try:
        with _private(pathlib.PurePosixPath(row.release).name) as private:
            converted = os.path.join(private, cached.name)
            model.save_weights(converted)
            os.replace(converted, cached)
    except (OSError, ValueError, RuntimeError) as error:  # the network has its weights
        warnings.warn(
            f"The converted weights could not be kept in {str(cached.parent)!r} ({error}). They will be converted "
            "again next time.",
            RuntimeWarning,
            stacklevel=2,
        )


def fetch(row: PretrainedWeights) -> tuple[bytes, str]:
    """Return the bytes of a published .pth file, and what to call it in a message.

    The zip around it is fetched into Keras' cache with `keras.utils.get_file` unless a whole one lies there.

    Raises:
        OSError: it can't be fetched or kept: no connection, a full disk.
        ValueError: what was fetched is damaged or another file. It is not kept.
    """
    models, name = folder(), pathlib.PurePosixPath(row.release).name
    described = f"The file at {row.address}"
    if (models / name).is_file():
        try:
            return unpacked(models / name, described, row.sha1), described
        except ValueError:
            pass  # of an earlier program, or damaged since: fetch it again
    with _fetched(row.address, name) as fetched:
        data = unpacked(fetched, described, row.sha1)
        _keep(fetched, models / name, row.address)
    return data, described


def keras_file(files: KerasFiles, include_top: bool) -> str:
    """Return the local path of a file of Keras, fetched into Keras' cache on its first use and checked.

    Args:
        files: where it lies.
        include_top: whether it is the one with the classifier's weights.

    Raises:
        OSError: it can't be fetched or kept, does not match its MD5 sum or, where none is published, is not a whole
            HDF5 file.
    """
    name, md5 = files.top if include_top else files.no_top
    kept, address = folder() / name, f"{files.folder}/{name}"
    if not _is_whole(kept, md5):
        with _fetched(address, name, file_hash=md5) as fetched:
            if not md5 and not _is_hdf5(fetched):  # a sum was compared by Keras
                raise _failed(address, OSError("what came is not a whole HDF5 file"))
            _keep(fetched, kept, address)
    return str(kept)


def packaged_file(row: PretrainedWeights) -> str:
    """Return the path of a file that comes with this package, checked.

    Raises:
        OSError: it is missing or damaged.
    """
    path = pathlib.Path(row.address)
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
    if found != row.sha256:
        raise OSError(
            f"The weights that come with keras_condense ({str(path)!r}) must have the SHA-256 {row.sha256}, and "
            f"{'are missing' if found is None else f'have {found}'}. Install the package again."
        )
    return str(path)


def _is_whole(path: pathlib.Path, md5: str | None) -> bool:
    """Whether a file of Keras is there and has its sum; without a sum, whether it is an HDF5 file that is not cut."""
    if not path.is_file():
        return False
    return hashlib.md5(path.read_bytes()).hexdigest() == md5 if md5 else _is_hdf5(path)


def _is_hdf5(path: str | os.PathLike) -> bool:
    try:
        with h5py.File(path, "r"):
            return True
    except OSError:
        return False


@contextlib.contextmanager
def _fetched(address: str, name: str, **checks: str | None) -> Iterator[str]:
    """The path of a file that was fetched into a folder of its own beside its place, and goes with it if it stays."""
    with contextlib.ExitStack() as stack:
        try:
            private = stack.enter_context(_private(name))
            fetched = keras.utils.get_file(name, address, cache_dir=private, cache_subdir=".", **checks)
        except Exception as error:  # which is what Keras raises for an address that does not answer
            raise _failed(address, error) from error
        yield fetched


@contextlib.contextmanager
def _private(name: str) -> Iterator[str]:
    """A folder in the cache for what becomes of the file `name`; those that killed processes left go too."""
    models = folder()
    _remove_abandoned(models, name)
    private = tempfile.mkdtemp(prefix=f".{name}.", dir=models)
    try:
        yield private
    finally:
        shutil.rmtree(private, ignore_errors=True)


def _keep(fetched: str, kept: pathlib.Path, address: str) -> None:
    try:
        os.replace(fetched, kept)
    except OSError as error:
        raise _failed(address, error) from error


def _remove_abandoned(models: pathlib.Path, name: str) -> None:
    """Remove what processes left that were killed while they fetched or converted."""
    for leftover in models.glob(f".{glob.escape(name)}.*"):
        with contextlib.suppress(OSError):  # another process removes it too
            if time.time() - leftover.stat().st_mtime > ABANDONED:
                shutil.rmtree(leftover)


def _failed(address: str, error: Exception) -> OSError:
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return OSError(
        f"The weights at {address} could not be fetched into {str(folder())!r} ({reason}). Check the connection "
        "and the room on the disk, or fetch the file by other means and pass its path as `weights`."
    )


def _layout(model: keras.Model) -> str:
    """Eight digits that tell apart the files that Keras would write of networks of other layers or dtypes."""
    weights = [
        (type(layer).__name__, [(str(w.dtype), tuple(w.shape)) for w in layer.variables]) for layer in model.layers
    ]
    return hashlib.sha256(repr(weights).encode()).hexdigest()[:8]


def _load_converted(model: keras.Model, path: pathlib.Path) -> bool:
    if not path.is_file():
        return False
    try:
        with h5py.File(path, "r"):
            pass
        model.load_weights(path)
    except UNREADABLE:
        return False  # damaged since: it is converted anew, and replaced
    return True
