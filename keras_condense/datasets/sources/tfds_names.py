"""The data sets of TensorFlow Datasets that hold images of one class each."""

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any

from keras_condense.datasets.examples import Stream, fits_in_memory, in_memory
from keras_condense.datasets.image_defaults import IMAGE_DEFAULTS
from keras_condense.datasets.request import Request
from keras_condense.datasets.sources.base import (
    HeldOutImages,
    Images,
    Source,
    missing_package,
    require,
    stratified_split,
)

__all__ = ["TfdsNames"]

_NAME = re.compile(r"(?P<name>[A-Za-z_]\w*)(/[\w.\-]+)?(:[\d.*]+)?")
_TEST_SPLITS = ("test", "val", "validation")
_EVALUATION_SPLITS = ("validation", "test")


class TfdsNames(Source):
    """A data set that was prepared before, or is downloaded and prepared now."""

    described = "a name of TensorFlow Datasets"
    needs_tensorflow = True
    has_files = True

    def __init__(self, request: Request, builder: Any):
        super().__init__(request)
        self._builder = builder
        self.defaults = builder.name

    @classmethod
    def open(cls, request: Request) -> "TfdsNames | None":
        """Return the source of a request, or None if TFDS has no such data set.

        Raises:
            ImportError: tensorflow-datasets is missing, and the name is no existing folder that could be meant instead.
        """
        name, folder = request.name, request.data_dir
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            return None
        if os.path.isdir(name) and missing_package("tensorflow_datasets"):
            return None
        tfds = require("tensorflow_datasets", "tfds")
        try:
            return cls(request, tfds.builder(name, data_dir=None if folder is None else os.fspath(folder)))
        except tfds.core.registered.DatasetNotFoundError:
            return None
        except (AssertionError, ValueError) as error:  # a version or a configuration that there is not
            raise ValueError(
                f"`name` (={name!r}) must be a data set that TensorFlow Datasets has in this form, and it says: "
                f"{' '.join(str(error).split())} Leave the version and the configuration out."
            ) from error

    @classmethod
    def names(cls) -> list[str]:
        if missing_package("tensorflow_datasets"):
            return list(IMAGE_DEFAULTS)
        return require("tensorflow_datasets", "tfds").list_builders()

    def read(self) -> Images:
        request, builder = self.request, self._builder
        image_shape = self._image_shape()
        self._prepare()
        splits = builder.info.splits
        if "train" not in splits:
            raise ValueError(
                f"`name` (={builder.name!r}) must be a data set with a split 'train', and it has {sorted(splits)}. "
                "Choose another one."
            )
        test_split = self._first_labelled(_TEST_SPLITS)
        train = self._split("train", image_shape)
        if test_split:
            test = self._split(test_split, image_shape)
        else:
            held_out = round(request.test_fraction * train.size)
            kept, held = stratified_split(train.labels, held_out, request.split_seed, "test_fraction")
            train, test = train.subset(kept), train.subset(held)
        return Images(train, test, self._class_names(), image_shape)

    def read_test(self) -> HeldOutImages:
        builder, (image_key, label_key) = self._builder, self._keys()
        self._prepare()
        split = self._first_labelled(_EVALUATION_SPLITS)
        if split is None:
            raise ValueError(
                f"`name` (={builder.name!r}) must be prepared with a split 'validation' or 'test', and it has "
                f"{sorted(builder.info.splits)}. Prepare it again with these images, or choose another one."
            )
        described = f"{builder.info.full_name}, split {split!r}"

        def examples():
            pairs = _encoded_pairs(builder, split, image_key, label_key)
            with self._read_whole():
                for number, (content, label) in enumerate(pairs.as_numpy_iterator()):
                    yield f"image {number} of {described}", content, int(label)

        size = builder.info.splits[split].num_examples
        return HeldOutImages(f"split {split!r} as {builder.info.full_name}", size, self._class_names(), examples)

    def _split(self, split: str, image_shape: tuple[int, int, int]) -> Any:
        builder, (image_key, label_key) = self._builder, self._keys()
        pairs = _encoded_pairs(builder, split, image_key, label_key)
        decode, size = builder.info.features[image_key].decode_example, builder.info.splits[split].num_examples
        examples, request = Stream(pairs, decode, size, image_shape, self.request.resize), self.request
        keep = request.in_memory or (not request.is_photographs and fits_in_memory(size, image_shape))
        with self._read_whole():
            return in_memory(examples) if keep else examples

    def _first_labelled(self, splits: tuple[str, ...]) -> str | None:
        """The first of `splits` that has labels (the test images of imagenet2012 have -1), or else that there is."""
        present = [split for split in splits if split in self._builder.info.splits]
        for split in present:
            pairs = _encoded_pairs(self._builder, split, *self._keys())
            with self._read_whole():
                if all(label >= 0 for _, label in pairs.take(1).as_numpy_iterator()):
                    return split
        return next(iter(present), None)

    @contextlib.contextmanager
    def _read_whole(self) -> Iterator[None]:
        """Raise ValueError for files that are not all there."""
        import tensorflow as tf

        builder = self._builder
        try:
            yield
        except tf.errors.OpError as error:
            raise ValueError(
                f"`name` (={builder.name!r}) must be whole in {str(builder.data_dir)!r}, and reading it failed "
                f"({' '.join(error.message.split())}). Copy it or prepare it again."
            ) from error

    def _class_names(self) -> tuple[str, ...]:
        return tuple(self._builder.info.features[self._keys()[1]].names)

    def _keys(self) -> tuple[str, str]:
        """Return the keys of image and label; raise ValueError if the examples are anything else."""
        import tensorflow_datasets as tfds

        features, keys = self._builder.info.features, self._builder.info.supervised_keys or ()
        if (
            len(keys) != 2
            or not isinstance(features[keys[0]], tfds.features.Image)
            or not isinstance(features[keys[1]], tfds.features.ClassLabel)
        ):
            kinds = ", ".join(f"{key}: {type(feature).__name__}" for key, feature in features.items())
            raise ValueError(
                f"`name` (={self._builder.name!r}) must be a data set of images with one class each, and it holds "
                f"{kinds}. Choose another one, for instance 'cifar10'."
            )
        return keys

    def _image_shape(self) -> tuple[int, int, int]:
        name = self._builder.name
        height, width, channels = self._builder.info.features[self._keys()[0]].shape
        if channels not in (1, 3):
            raise ValueError(
                f"`name` (={name!r}) must be a data set of gray or RGB images, and its images have {channels} "
                "channels. Choose another one."
            )
        if self.request.image_size is None and None in (height, width):
            raise ValueError(
                f"`image_size` (=None) must be given for {name!r}, whose images differ in size. "
                "Give one, for instance image_size=224."
            )
        return self.request.image_shape(height, width, channels)

    def _prepare(self) -> None:
        """Download and prepare the data set if it is not prepared.

        Raises:
            ValueError: it may not be downloaded, or not without its owner's consent.
            ConnectionError: there is no network.
            OSError: the folder takes no files.
        """
        builder = self._builder
        if builder.is_prepared():
            return
        name, folder = builder.name, os.fspath(builder._data_dir_root)
        how = (
            f"On a machine with network, run `tfds build {name} --data_dir={folder}` and bring the folder here, or "
            "give `data_dir` the folder where it lies prepared."
        )
        if not self.request.download:
            raise ValueError(
                f"`name` (={name!r}) must be prepared in `data_dir` (={folder!r}) if download=False, and it is not "
                f"there. Give download=True. {how}"
            )
        if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
            raise ValueError(
                f"`name` (={name!r}) must be downloaded by hand and prepared in `data_dir` (={folder!r}). {how} "
                f"TFDS says: {' '.join(builder.MANUAL_DOWNLOAD_INSTRUCTIONS.split())}"
            )
        from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
        from tensorflow_datasets.core.download.util import DownloadError

        try:
            builder.download_and_prepare()
        except (DownloadError, NonMatchingChecksumError) as error:
            raise ConnectionError(
                f"`name` (={name!r}) is not prepared in `data_dir` (={folder!r}), and what its server gave is not it "
                f"({' '.join(str(error).split())}). {how}"
            ) from error
        except OSError as error:
            requests = require("requests", "tfds")
            if not isinstance(error, (ConnectionError, TimeoutError, requests.exceptions.RequestException)):
                raise OSError(
                    f"`name` (={name!r}) could not be prepared in `data_dir` (={folder!r}): {error}. "
                    "Give `data_dir` a folder that takes new files, on a disk with room."
                ) from error
            raise ConnectionError(
                f"`name` (={name!r}) is not prepared in `data_dir` (={folder!r}), and it could not be downloaded, "
                f"which needs a network ({error}). {how}"
            ) from error


def _encoded_pairs(builder: Any, split: str, image_key: str, label_key: str) -> Any:
    """Return a `tf.data.Dataset` of (the bytes of an image file, class number), always in the same order."""
    import tensorflow_datasets as tfds

    examples = builder.as_dataset(
        split=split,
        shuffle_files=False,
        decoders={image_key: tfds.decode.SkipDecoding()},
        read_config=tfds.ReadConfig(try_autocache=False),  # `InMemory` is the cache
    )
    return examples.map(lambda features: (features[image_key], features[label_key]))
