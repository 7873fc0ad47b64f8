"""The places images come from: scikit-learn's digits, a NumPy file, keras.datasets, TensorFlow Datasets, a folder."""

import concurrent.futures
import contextlib
import dataclasses
import difflib
import importlib
import os
import pathlib
import re
import socket
import urllib.parse
import urllib.request
import warnings
from types import ModuleType
from typing import Any

import keras
import numpy as np

from keras_condense.archives import check_archive
from keras_condense.datasets.decoding import decode_image
from keras_condense.datasets.examples import (
    ImageFiles,
    InMemory,
    Stream,
    in_memory_if_small,
)
from keras_condense.datasets.pixels import fit_pixels
from keras_condense.datasets.recipes import RECIPES
from keras_condense.files import check_readable
from keras_condense.validation import shown_text

__all__ = [
    "KERAS_DATASETS",
    "Source",
    "check_examples",
    "class_files",
    "encoded_pairs",
    "image_and_label",
    "is_image",
    "keep_tensorflow_off_gpus",
    "listing",
    "missing_package",
    "prepare",
    "read_arrays_file",
    "read_digits",
    "read_folder",
    "read_keras_dataset",
    "read_tfds",
    "require",
    "some",
    "stratified_split",
    "subfolders",
    "tfds_builder",
]

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
KERAS_DATASETS = ("cifar10", "cifar100", "fashion_mnist", "mnist")
_ARRAYS = ("x_train", "y_train", "x_test", "y_test")
_TEST_FOLDERS = ("test", "val", "validation")  # ImageNet's held-out images lie in val
_NAMED = 10  # broken files are named one by one up to this number
_TFDS_NAME = re.compile(r"(?P<name>[A-Za-z_]\w*)(/[\w.\-]+)?(:[\d.*]+)?")
_DIGITS_TEST_SIZE = 360
LARGEST_CLASSES = 1_000_000  # a label beyond is a mistake, and every class below it gets a name


@dataclasses.dataclass(frozen=True)
class Source:
    """Training and test examples, as yet neither normalised nor augmented."""

    train: InMemory | ImageFiles | Stream
    test: InMemory | ImageFiles | Stream
    train_labels: np.ndarray | None  # None where nobody needs them and reading them would take a pass
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]


def require(module: str, extra: str) -> ModuleType:
    """Import a package that only some users need.

    Raises:
        ImportError: it, or something it needs, is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"`{module}` could not be imported ({error}), and this data set needs it. "
            f'Install it: pip install "keras-condense[{extra}]"'
        ) from error


def missing_package(*modules: str) -> str | None:
    """Return the first of `modules` that can't be imported, or None."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError:
            return module
    return None


def keep_tensorflow_off_gpus() -> None:
    """Let TensorFlow, which is to read images, take no memory of the GPUs on which another backend will train."""
    if keras.backend.backend() != "tensorflow":
        import tensorflow as tf

        with contextlib.suppress(RuntimeError):  # it has them already
            tf.config.set_visible_devices([], "GPU")


def stratified_split(labels: np.ndarray, held_out: int, seed: int, argument: str) -> tuple[np.ndarray, np.ndarray]:
    """Split `range(len(labels))` in two so that every class keeps its share in both.

    Args:
        labels: (examples,) class numbers.
        held_out: size of the second part.
        seed: of the choice.
        argument: name of the argument that asked for the split, for messages.

    Returns:
        The sorted indices of the first part and of the second.

    Raises:
        ValueError: a class has less than two examples, or a part would have less examples than there are classes.

    Example:
        >>> stratified_split(np.array([0, 0, 0, 1, 1, 1]), 2, seed=0, argument="test_fraction")[1].shape
        (2,)
    """
    from sklearn.model_selection import train_test_split

    counts = np.bincount(labels)
    counts = counts[counts > 0]
    if counts.min() < 2 or held_out < len(counts) or len(labels) - held_out < len(counts):
        raise ValueError(
            f"`{argument}` asks for {held_out} of {len(labels)} examples of {len(counts)} classes (the smallest has "
            f"{counts.min()}), but both parts need at least one example of every class. Give another fraction or "
            "more images."
        )
    kept, held = train_test_split(np.arange(len(labels)), test_size=held_out, stratify=labels, random_state=seed)
    return np.sort(kept), np.sort(held)


def read_digits(image_size: tuple[int, int], channels: int | None) -> Source:
    """Read scikit-learn's 1797 handwritten digits (8x8, 16 grays), the same 360 always held out for the test."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    gray = np.rint(digits.images * (255 / 16)).astype("uint8")[..., None]
    train, test = stratified_split(digits.target, _DIGITS_TEST_SIZE, seed=0, argument="digits")
    return _array_source(
        (gray[train], digits.target[train]),
        (gray[test], digits.target[test]),
        tuple(str(digit) for digit in digits.target_names),
        image_size,
        channels,
    )


# arrays


def check_examples(described: str, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return uint8 images (examples, height, width, 1 or 3) and int32 labels (examples,), a last axis of 1 put right.

    Args:
        described: what the arrays are called, for messages.
        images: uint8, (examples, height, width) or (examples, height, width, 1 or 3).
        labels: integers, (examples,) or (examples, 1).

    Raises:
        ValueError: other types or shapes, no example, not as many labels as images, or a label that is negative or not
            below `LARGEST_CLASSES`.

    Example:
        >>> images, labels = check_examples("`images`", np.zeros((2, 4, 4), "uint8"), np.array([[0], [1]]))
        >>> images.shape, labels
        ((2, 4, 4, 1), array([0, 1], dtype=int32))
    """
    pixels = images[..., None] if images.ndim == 3 else images
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[-1] not in (1, 3) or not pixels.size:
        raise ValueError(
            f"{described} must hold images of uint8, (examples, height, width) or (examples, height, width, 1 or 3), "
            f"and holds {images.dtype} of {images.shape}. Store the pixels as they are, from 0 to 255."
        )
    numbers = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    is_in_range = numbers.dtype.kind in "iu" and numbers.size and 0 <= numbers.min() <= numbers.max() < LARGEST_CLASSES
    if numbers.shape != (len(pixels),) or not is_in_range:
        values = f", from {labels.min()} to {labels.max()}" if labels.dtype.kind in "iu" and labels.size else ""
        raise ValueError(
            f"{described} must hold a class number for each of its {len(pixels)} images, and holds {labels.dtype} of "
            f"{labels.shape}{values}. Number the classes from 0 on, below {LARGEST_CLASSES:,}."
        )
    return pixels, numbers.astype("int32")


def read_arrays_file(path: pathlib.Path, *, image_size: tuple[int, int] | None, channels: int | None) -> Source:
    """Read a `.npz` file of x_train, y_train, x_test, y_test, and class_names if it has them."""
    check_readable("name", path)
    try:
        check_archive(path)
        with open(path, "rb") as opened, warnings.catch_warnings():  # NumPy leaves open what it opened and can't read
            warnings.simplefilter("error")  # it warns of headers that it guesses the meaning of
            file = np.load(opened, allow_pickle=False)
            arrays = {name: file[name] for name in (*_ARRAYS, "class_names") if name in file}
            if others := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
                raise ValueError(f"{', '.join(others)} in it is no array")
    except (Exception, Warning) as error:  # a stranger's file can end in any
        raise ValueError(
            f"`name` (={str(path)!r}) must be a whole .npz file of numbers, and can't be read "
            f"({type(error).__name__}: {shown_text(error)}). Make it with `ImageArrays.save` or `numpy.savez`."
        ) from error
    if missing := [name for name in _ARRAYS if name not in arrays]:
        raise ValueError(
            f"`name` (={str(path)!r}) must hold {', '.join(_ARRAYS)}, and lacks {', '.join(missing)}. "
            "Make it with `ImageArrays.save` or `numpy.savez`."
        )
    train, test = (
        check_examples(f"`name` (={str(path)!r}, x_{part} and y_{part})", arrays[f"x_{part}"], arrays[f"y_{part}"])
        for part in ("train", "test")
    )
    if train[0].shape[1:] != test[0].shape[1:]:
        raise ValueError(
            f"`name` (={str(path)!r}) must hold training and test images of one size, and they are "
            f"{train[0].shape[1:]} and {test[0].shape[1:]}. Resize some of them."
        )
    classes = 1 + int(max(train[1].max(), test[1].max()))
    class_names = tuple(map(str, np.ravel(arrays.get("class_names", range(classes)))))
    if len(class_names) < classes:
        raise ValueError(
            f"`name` (={str(path)!r}) must have a name for each class in class_names, and has {len(class_names)} for "
            f"labels up to {classes - 1}. Leave class_names out, or add the missing ones."
        )
    return _array_source(train, test, class_names, image_size, channels)


def read_keras_dataset(
    name: str, *, image_size: tuple[int, int] | None, channels: int | None, download: bool
) -> Source:
    """Read one of `KERAS_DATASETS`, which `keras.datasets` downloads to its own cache. Classes are called 0, 1, ..."""
    if not download:
        raise ValueError(
            f"`download` (={download}) must be True for {name!r} where tensorflow-datasets is missing, since "
            "`keras.datasets` downloads what it has not cached. Give True, or the path of an .npz file as `name`."
        )
    try:
        parts = getattr(keras.datasets, name).load_data()
    except Exception as error:
        if type(error) is not Exception and not isinstance(error, OSError):  # Keras raises a bare one for a bad URL
            raise
        raise ConnectionError(
            f"`name` (={name!r}) is not in the cache of `keras.datasets`, and it could not be downloaded, which needs "
            f"a network ({error}). Save it elsewhere with `load_arrays({name!r}).save('{name}.npz')`, bring the file "
            "here and give its path."
        ) from error
    train, test = (check_examples(f"`name` (={name!r})", images, labels) for images, labels in parts)
    return _array_source(train, test, tuple(map(str, range(train[1].max() + 1))), image_size, channels)


def _array_source(
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    class_names: tuple[str, ...],
    image_size: tuple[int, int] | None,
    channels: int | None,
) -> Source:
    height, width, own_channels = train[0].shape[1:]
    image_shape = (*(image_size or (height, width)), channels or own_channels)
    examples = [InMemory(fit_pixels(images, image_shape), labels) for images, labels in (train, test)]
    return Source(*examples, examples[0].labels, class_names, image_shape)


# TensorFlow Datasets


def tfds_builder(name: str, data_dir: str | os.PathLike | None) -> Any:
    """Return the TFDS builder of `name`, or None if TFDS has no such data set.

    Raises:
        ImportError: tensorflow-datasets is missing, and `name` is no existing folder that could be meant instead.
    """
    if not _TFDS_NAME.fullmatch(name):
        return None
    try:
        tfds = require("tensorflow_datasets", "tfds")
    except ImportError:
        if os.path.isdir(name):
            return None
        raise
    try:
        return tfds.builder(name, data_dir=None if data_dir is None else os.fspath(data_dir))
    except tfds.core.registered.DatasetNotFoundError:
        return None


def similar_names(name: str) -> list[str]:
    """Return the names of data sets that look like `name`."""
    known = {"digits", *RECIPES}
    with contextlib.suppress(ImportError):  # without tensorflow-datasets the table's names must do
        known.update(require("tensorflow_datasets", "tfds").list_builders())
    return difflib.get_close_matches(name, sorted(known), n=3)


def read_tfds(
    builder: Any,
    *,
    image_size: tuple[int, int] | None,
    channels: int | None,
    download: bool,
    test_fraction: float,
    split_seed: int,
    need_labels: bool,
) -> Source:
    """Read an image classification data set of TensorFlow Datasets, prepared before or prepared now."""
    image_key, label_key = image_and_label(builder)
    image_shape = _tfds_image_shape(builder, image_key, image_size, channels)
    if not builder.is_prepared():
        prepare(builder, download)
    splits = builder.info.splits
    if "train" not in splits:
        raise ValueError(
            f"`name` (={builder.name!r}) must be a data set with a split 'train', and it has {sorted(splits)}. "
            "Choose another one."
        )
    test_split = next((split for split in _TEST_FOLDERS if split in splits), None)

    decode = builder.info.features[image_key].decode_example

    def read(split):
        pairs = encoded_pairs(builder, split, image_key, label_key)
        return Stream(pairs, decode, splits[split].num_examples, image_shape)

    train = read("train")
    labels = None
    if need_labels or test_split is None:
        labels = np.array([label for _, label in train.pairs.as_numpy_iterator()])
    if test_split is None:
        kept, held = stratified_split(labels, round(test_fraction * train.size), split_seed, "test_fraction")
        train, test, labels = train.subset(kept), train.subset(held), labels[kept]
    else:
        test = read(test_split)
    return Source(
        train=in_memory_if_small(train),
        test=in_memory_if_small(test),
        train_labels=labels,
        class_names=tuple(builder.info.features[label_key].names),
        image_shape=image_shape,
    )


def image_and_label(builder: Any) -> tuple[str, str]:
    """Return the keys of a TFDS data set's image and label; raise ValueError if its examples are anything else."""
    import tensorflow_datasets as tfds

    features, keys = builder.info.features, builder.info.supervised_keys or ()
    if (
        len(keys) != 2
        or not isinstance(features[keys[0]], tfds.features.Image)
        or not isinstance(features[keys[1]], tfds.features.ClassLabel)
    ):
        kinds = ", ".join(f"{key}: {type(feature).__name__}" for key, feature in features.items())
        raise ValueError(
            f"`name` (={builder.name!r}) must be a data set of images with one class each, and it holds {kinds}. "
            "Choose another one, for instance 'cifar10'."
        )
    return keys


def _tfds_image_shape(
    builder: Any, image_key: str, image_size: tuple[int, int] | None, channels: int | None
) -> tuple[int, int, int]:
    height, width, own_channels = builder.info.features[image_key].shape
    if own_channels not in (1, 3):
        raise ValueError(
            f"`name` (={builder.name!r}) must be a data set of gray or RGB images, and its images have "
            f"{own_channels} channels. Choose another one."
        )
    if image_size is None and None in (height, width):
        raise ValueError(
            f"`image_size` (=None) must be given for {builder.name!r}, whose images differ in size. "
            "Give one, for instance image_size=224."
        )
    return (*(image_size or (height, width)), channels or own_channels)


def encoded_pairs(builder: Any, split: str, image_key: str, label_key: str) -> Any:
    """Return a `tf.data.Dataset` of (the bytes of an image file, class number), always in the same order."""
    import tensorflow_datasets as tfds

    examples = builder.as_dataset(
        split=split,
        shuffle_files=False,
        decoders={image_key: tfds.decode.SkipDecoding()},
        read_config=tfds.ReadConfig(try_autocache=False),  # `InMemory` is the cache
    )
    return examples.map(lambda features: (features[image_key], features[label_key]))


def prepare(builder: Any, download: bool) -> None:
    """Download and prepare a TFDS data set that is not prepared.

    Raises:
        ValueError: it may not be downloaded (`download` is False), or not without its owner's consent.
        ConnectionError: there is no network.
        OSError: the folder takes no files.
    """
    name, folder = builder.name, os.fspath(builder._data_dir_root)
    how = (
        f"On a machine with network, run `tfds build {name} --data_dir={folder}` and bring the folder here, or give "
        "`data_dir` the folder where it lies prepared."
    )
    if not download:
        raise ValueError(
            f"`name` (={name!r}) must be prepared in `data_dir` (={folder!r}) if download=False, and it is not there. "
            f"Give download=True. {how}"
        )
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        raise ValueError(
            f"`name` (={name!r}) must be downloaded by hand and prepared in `data_dir` (={folder!r}). {how} "
            f"TFDS says: {' '.join(builder.MANUAL_DOWNLOAD_INSTRUCTIONS.split())}"
        )
    try:
        _check_network(builder)
        builder.download_and_prepare()
    except OSError as error:
        if not _is_network_error(error):
            raise OSError(
                f"`name` (={name!r}) could not be prepared in `data_dir` (={folder!r}): {error}. "
                "Give `data_dir` a folder that takes new files, on a disk with room."
            ) from error
        raise ConnectionError(
            f"`name` (={name!r}) is not prepared in `data_dir` (={folder!r}), and it could not be downloaded, "
            f"which needs a network ({error}). {how}"
        ) from error


def _check_network(builder: Any) -> None:
    """Look the data set's hosts up first: TFDS would try for minutes, and leave half-made folders behind."""
    if urllib.request.getproxies():
        return  # the proxy resolves names
    hosts = {urllib.parse.urlsplit(url).hostname for url in builder.url_infos or ()}
    for host in sorted(host for host in hosts if host):
        socket.getaddrinfo(host, 443)


def _is_network_error(error: OSError) -> bool:
    requests = require("requests", "tfds")
    return isinstance(error, (ConnectionError, socket.gaierror, TimeoutError, requests.exceptions.RequestException))


# folders


def read_folder(
    folder: pathlib.Path,
    *,
    image_size: tuple[int, int] | None,
    channels: int | None,
    test_fraction: float,
    split_seed: int,
    skip_broken: bool,
) -> Source:
    """Read `folder/train/<class>/*` and `folder/test/<class>/*`, or `folder/<class>/*` and hold a part out."""
    entries = subfolders(folder)
    visited = _Visited(folder)
    if "train" in entries:
        train_folder = folder / "train"
        test_folder = next((folder / name for name in _TEST_FOLDERS if name in entries), None)
    else:
        train_folder, test_folder = folder, None
    files = class_files(train_folder, visited)
    class_names = tuple(files)
    held_out = class_files(test_folder, visited) if test_folder else {}
    if test_folder and set(held_out) != set(class_names):
        missing, unknown = sorted(set(class_names) - set(held_out)), sorted(set(held_out) - set(class_names))
        raise ValueError(
            f"`name` (={str(folder)!r}) must have the same class folders in {train_folder.name!r} and "
            f"{test_folder.name!r}; {test_folder.name!r} lacks {missing} and has {unknown} in excess. "
            "Add or remove folders."
        )

    sizes = _check_images([path for group in (files, held_out) for paths in group.values() for path in paths])
    broken = [path for path, size in sizes.items() if size is None]
    if broken:
        _report_broken(folder, broken, len(sizes), skip_broken)
        files = _without_broken(files, sizes, train_folder)
        held_out = _without_broken(held_out, sizes, test_folder)
    image_shape = (*(image_size or _common_size(folder, sizes)), channels or 3)

    train = _image_files(files, class_names, image_shape)
    if test_folder:
        test = _image_files(held_out, class_names, image_shape)
    else:
        kept, held = stratified_split(train.labels, round(test_fraction * train.size), split_seed, "test_fraction")
        train, test = train.subset(kept), train.subset(held)
    return Source(in_memory_if_small(train), in_memory_if_small(test), train.labels, class_names, image_shape)


def listing(folder: pathlib.Path) -> list[pathlib.Path]:
    """Return what a folder holds, sorted, hidden files left out."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise ValueError(
            f"`name` (={str(folder)!r}) must be a folder that can be read, and it can't ({error.strerror}). "
            "Change its permissions or give another folder."
        ) from error


def subfolders(folder: pathlib.Path) -> list[str]:
    """Return the names of a folder's folders, sorted."""
    return [path.name for path in listing(folder) if path.is_dir()]


class _Visited:
    """The folders that were looked through, so that none is twice: by a link to itself, or to another class's images.

    Images that are both in two classes, or in the training and the test set, say nothing of a network.
    """

    def __init__(self, folder: pathlib.Path):
        self._folder, self._places = folder, {}
        for parent in (folder, *folder.resolve().parents):
            self._places[self._identity(parent)] = parent

    def add(self, folder: pathlib.Path) -> None:
        identity = self._identity(folder)
        first = self._places.setdefault(identity, folder)
        if first is not folder:
            raise ValueError(
                f"`name` (={str(self._folder)!r}) must be a folder in which no folder comes up twice, and "
                f"{str(folder)!r} is {str(first)!r}, by a link. Remove the link, or copy the images."
            )

    @staticmethod
    def _identity(folder: pathlib.Path) -> tuple[int, int]:
        status = folder.stat()
        return status.st_dev, status.st_ino


def class_files(folder: pathlib.Path, visited: "_Visited | None" = None) -> dict[str, list[str]]:
    """Return each class folder's image files, all sorted by name."""
    visited = visited or _Visited(folder)
    names = subfolders(folder)
    if not names:
        found = "images without class folders" if any(map(is_image, listing(folder))) else "none"
        raise ValueError(
            f"`name` (={str(folder)!r}) must hold a folder of images for each class, and it holds {found}. "
            "Lay images out as <folder>/<class>/<image>.png or <folder>/train/<class>/<image>.png."
        )
    files, others = {}, []
    for name in names:
        found = _files_below(folder / name, visited)
        files[name] = [str(path) for path in found if is_image(path)]
        others.extend(str(path) for path in found if not is_image(path))
    if empty := [name for name, paths in files.items() if not paths]:
        raise ValueError(
            f"`name` (={str(folder)!r}) must have images in every class folder, and there are none in {empty}. "
            f"Add images ({', '.join(ENDINGS)}) or remove the folders."
        )
    if others:
        warnings.warn(
            f"{len(others)} files in {str(folder)!r} are left out, since they end in none of {', '.join(ENDINGS)}: "
            f"{some(others)}.",
            stacklevel=4,
        )
    return files


def _files_below(folder: pathlib.Path, visited: _Visited) -> list[pathlib.Path]:
    visited.add(folder)
    files = []
    for path in listing(folder):
        files.extend(_files_below(path, visited) if path.is_dir() else [path])
    return files


def is_image(path: pathlib.Path) -> bool:
    """Whether a file's name ends as an image's does."""
    return path.suffix.lower() in ENDINGS


def _check_images(paths: list[str]) -> dict[str, tuple[int, int] | None]:
    """Decode every file, for a header says nothing of what follows; return (height, width), or None if broken.

    One pass of decoding is what every epoch costs when the images don't fit in memory.
    """
    import tensorflow as tf

    image = require("PIL.Image", "tensorflow")

    def size(path):
        if not os.path.isfile(path):  # to open a pipe would wait for somebody who writes to it
            return None  # named by the caller
        try:
            with image.open(path):  # refuses headers that claim more pixels than memory holds; reads no more than them
                pass
        except Exception:  # whatever a broken file makes Pillow raise
            return None
        try:
            height, width, _ = decode_image(tf.io.read_file(path), 3).shape
        except (tf.errors.OpError, ValueError):
            return None
        return height, width

    # Pillow's remarks on odd files; here, since filters are the whole process's
    with warnings.catch_warnings(), concurrent.futures.ThreadPoolExecutor() as pool:
        warnings.simplefilter("ignore")
        return dict(zip(paths, pool.map(size, paths), strict=True))


def _report_broken(folder: pathlib.Path, broken: list[str], total: int, skip_broken: bool) -> None:
    if not skip_broken:
        raise ValueError(
            f"`name` (={str(folder)!r}) must hold images that can be decoded, and {len(broken)} of its {total} can't: "
            f"{some(broken)}. Mend or remove them, or give skip_broken=True."
        )
    warnings.warn(f"{len(broken)} of {total} images can't be decoded and are skipped: {some(broken)}.", stacklevel=4)


def _without_broken(files: dict[str, list[str]], sizes: dict, folder: pathlib.Path | None) -> dict[str, list[str]]:
    whole = {name: [path for path in paths if sizes[path]] for name, paths in files.items()}
    if empty := [name for name, paths in whole.items() if not paths]:
        raise ValueError(
            f"`name` (={str(folder)!r}) must have images in every class folder, and all those in {empty} are broken. "
            "Mend them or remove the folders."
        )
    return whole


def _common_size(folder: pathlib.Path, sizes: dict[str, tuple[int, int] | None]) -> tuple[int, int]:
    found = sorted(set(sizes.values()) - {None})
    if len(found) > 1:
        raise ValueError(
            f"`image_size` (=None) must be given for {str(folder)!r}, whose images have {len(found)} sizes, from "
            f"{found[0]} to {found[-1]}. Give one, for instance image_size=224."
        )
    return found[0]


def _image_files(
    files: dict[str, list[str]], class_names: tuple[str, ...], image_shape: tuple[int, int, int]
) -> ImageFiles:
    labels = [label for label, name in enumerate(class_names) for _ in files[name]]
    paths = [path for name in class_names for path in files[name]]
    return ImageFiles(np.array(paths), np.array(labels), image_shape)


def some(paths: list[str]) -> str:
    """Return the first few of `paths`, and how many more there are."""
    rest = len(paths) - _NAMED
    return ", ".join(paths[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
