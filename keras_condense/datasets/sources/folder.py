"""A folder of images.

Not by Keras' own reader: `keras.utils.image_dataset_from_directory` ignores EXIF orientations, reads the palette of a
BMP as gray, takes no WebP, resizes without antialiasing, counts images twice that a link shows twice, and names no file
that is broken.
"""

import pathlib
import warnings

import numpy as np

from keras_condense.datasets.decoding import header_size, in_threads
from keras_condense.datasets.examples import ImageFiles, fits_in_memory
from keras_condense.datasets.folders import Visited, class_files, some, subfolders
from keras_condense.datasets.imagenet import read_imagenet_folder
from keras_condense.datasets.request import Request
from keras_condense.datasets.sources.base import HeldOutImages, Images, Source, require, stratified_split

__all__ = ["Folder"]

# in any letter case; ImageNet's held-out images lie in val
_TRAIN_FOLDERS = ("train", "training")
_TEST_FOLDERS = ("test", "testing", "val", "valid", "validation")


class Folder(Source):
    """`folder/train/<class>/*` and `folder/test/<class>/*`, or `folder/<class>/*`, of which a part is held out.

    Folders beside "train" and "test" are not read, which a warning says.

    Headers are read at once. Whole files are if they are to be held in memory or broken ones are to be skipped, else
    when a batch needs them.
    """

    described = "an existing folder"
    needs_tensorflow = True
    has_files = True

    def __init__(self, request: Request):
        super().__init__(request)
        self.name, self.defaults, self.location = str(request.path), "", str(request.path.resolve())

    @classmethod
    def open(cls, request: Request) -> "Folder | None":
        try:
            return cls(request) if request.path.is_dir() else None
        except OSError:  # a name that is too long
            return None

    def read(self) -> Images:
        require("PIL.Image", "tensorflow")
        request = self.request
        class_names, paths, labels, train_size = self._find()
        sizes = list(in_threads(header_size, paths.tolist()))
        whole = np.array([size is not None for size in sizes])
        if not request.image_size and len(set(sizes) - {None}) != 1:
            if not request.skip_broken:
                self._report(paths[~whole], len(paths))
            self._refuse_sizes(sorted(set(sizes) - {None}))
        image_shape = request.image_shape(*next(filter(None, sizes), (1, 1)), 3)
        examples = ImageFiles(paths[whole], labels[whole], image_shape, request.resize)
        keep = request.in_memory or (not request.is_photographs and fits_in_memory(examples.size, image_shape))
        if keep or request.skip_broken:
            held, decoded = examples.decode(keep)
            examples = held or examples.subset(decoded)
            whole[whole] = decoded
        self._report(paths[~whole], len(paths))
        _check_classes(request.path, class_names, labels, whole, train_size)
        train_size = int(whole[:train_size].sum())
        if train_size < examples.size:
            train, test = examples.subset(slice(train_size)), examples.subset(slice(train_size, None))
        else:
            held_out = round(request.test_fraction * train_size)
            kept, held = stratified_split(examples.labels, held_out, request.split_seed, "test_fraction")
            train, test = examples.subset(kept), examples.subset(held)
        return Images(train, test, class_names, image_shape)

    def read_test(self) -> HeldOutImages:
        files, class_names = read_imagenet_folder(self.request.path)

        def examples():
            for file, label in files:
                yield repr(file), _content(file), label

        return HeldOutImages("a folder for each class", len(files), class_names, examples)

    def _find(self) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, int]:
        """Return the class names, all paths and their labels, and how many of them, the first ones, are to train on."""
        folder = self.request.path
        entries, visited = subfolders(folder), Visited(folder)
        train_folder = _first_of(_TRAIN_FOLDERS, entries)
        test_folder = _first_of(_TEST_FOLDERS, entries) if train_folder else None
        if train_folder and (others := sorted(set(entries) - {train_folder, test_folder})):
            warnings.warn(
                f"In {str(folder)!r}, {train_folder!r} is read to train on and {test_folder or 'a part of it'!r} to "
                f"test; {', '.join(others)} is not read.",
                stacklevel=5,
            )
        files = class_files(folder / train_folder if train_folder else folder, visited)
        held_out = class_files(folder / test_folder, visited) if test_folder else {}
        if test_folder and set(held_out) != set(files):
            raise ValueError(
                f"`name` (={str(folder)!r}) must have the same class folders in {train_folder!r} and {test_folder!r}; "
                f"{test_folder!r} lacks {sorted(set(files) - set(held_out))} and has "
                f"{sorted(set(held_out) - set(files))} in excess. Add or remove folders."
            )
        labelled = [
            (path, label)
            for part in (files, held_out)
            for label, name in enumerate(files)
            for path in part.get(name, [])
        ]
        paths, labels = map(np.array, zip(*labelled, strict=True))
        return tuple(files), paths, labels, sum(map(len, files.values()))

    def _report(self, broken: np.ndarray, total: int) -> None:
        if len(broken) and not self.request.skip_broken:
            raise ValueError(
                f"`name` (={str(self.request.path)!r}) must hold images that can be decoded, and {len(broken)} of its "
                f"{total} can't: {some(broken.tolist())}. Fix or remove them, or give skip_broken=True."
            )
        if len(broken):
            warnings.warn(
                f"{len(broken)} of {total} images can't be decoded and are skipped: {some(broken.tolist())}.",
                stacklevel=5,
            )

    def _refuse_sizes(self, sizes: list[tuple[int, int]]) -> None:
        if sizes:
            raise ValueError(
                f"`image_size` (=None) must be given for {str(self.request.path)!r}, whose images have {len(sizes)} "
                f"sizes, from {sizes[0]} to {sizes[-1]}. Give one, for instance image_size=224."
            )


def _first_of(names: tuple[str, ...], entries: list[str]) -> str | None:
    """The folder that is called by the first of `names` that there is, in any letter case."""
    found = {entry.lower(): entry for entry in reversed(entries)}
    return next((found[name] for name in names if name in found), None)


def _check_classes(
    folder: pathlib.Path, class_names: tuple[str, ...], labels: np.ndarray, whole: np.ndarray, train_size: int
) -> None:
    """Raise ValueError if all images of a class, for training or for the test, are broken."""
    for part in (slice(train_size), slice(train_size, None)):
        empty = [class_names[label] for label in sorted(set(labels[part]) - set(labels[part][whole[part]]))]
        if empty:
            raise ValueError(
                f"`name` (={str(folder)!r}) must have images in every class folder, and all those in {empty} are "
                "broken. Fix them or remove the folders."
            )


def _content(file: str) -> bytes:
    try:
        return pathlib.Path(file).read_bytes()
    except OSError as error:
        raise ValueError(
            f"{file!r} must be a file that can be read, and it can't ({error.strerror}). Change its "
            "permissions, or copy it again."
        ) from error
