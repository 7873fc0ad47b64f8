"""`load_arrays`: a name or a file in, pixels in NumPy arrays out, for training on any backend."""

import dataclasses
import functools
import os

import numpy as np

from keras_condense.augmenting import normalize
from keras_condense.datasets.drawing import Drawing, shuffled
from keras_condense.datasets.examples import checksum, in_memory
from keras_condense.datasets.image_defaults import Augmentation
from keras_condense.datasets.pixels import check_examples
from keras_condense.datasets.preparing import prepare
from keras_condense.datasets.request import Request, check_calibration_size, check_seed
from keras_condense.files import check_path, replacing
from keras_condense.validation import check_positive_integer

__all__ = ["ImageArrays", "load_arrays"]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class ImageArrays:
    """Images for training and testing, as they are: uint8, one byte per value, in NumPy arrays. Made by `load_arrays`.

    `keras_condense.training.train` puts them on the device once and crops, mirrors and normalises them within the
    compiled training step, on TensorFlow, JAX and PyTorch alike.

    What an epoch shows is a function of the seed, the epoch's number and the example's index alone, and the same on
    every backend, and the same as `Dataset` shows. But every batch is of `batch_size`, so that the step is compiled
    once: what is left of an epoch's order is dropped, other images each time.

    Attributes:
        name: what was loaded.
        train_images: uint8, (examples, height, width, channels).
        train_labels: int32, (examples,).
        test_images: as `train_images`.
        test_labels: as `train_labels`.
        validation_images: held out of the training set, or None.
        validation_labels: as `train_labels`, or None.
        class_names: one for each label.
        batch_size: images in a training batch.
        mean: of each channel, pixels in [0, 1]; normalise new images with it.
        std: standard deviation of the same.
        augmentation: of the training images, or None.
        seed: of the order, crops and flips.
        location: what finds the data set again from any folder: its name, or the whole path; empty if it has none.
        data_dir: the whole path of the folder of TensorFlow Datasets; None for its default.
        resize: what became of images of another ratio of sides: "stretch" or "crop".

    Raises:
        ValueError: arrays of other types or shapes, or fewer training images than a batch.
    """

    name: str
    train_images: np.ndarray = dataclasses.field(repr=False)
    train_labels: np.ndarray = dataclasses.field(repr=False)
    test_images: np.ndarray = dataclasses.field(repr=False)
    test_labels: np.ndarray = dataclasses.field(repr=False)
    validation_images: np.ndarray | None = dataclasses.field(default=None, repr=False)
    validation_labels: np.ndarray | None = dataclasses.field(default=None, repr=False)
    class_names: tuple[str, ...]
    batch_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: Augmentation | None
    seed: int = 0
    location: str = ""
    data_dir: str | None = None
    resize: str = "stretch"

    def __post_init__(self) -> None:
        """Check the arrays."""
        for part in ("train", "test", "validation"):
            images, labels = getattr(self, f"{part}_images"), getattr(self, f"{part}_labels")
            if part == "validation" and images is None:
                continue
            described = f"`{part}_images` and `{part}_labels`"
            for kind, values in zip(
                ("images", "labels"), check_examples(described, *map(np.asarray, (images, labels))), strict=True
            ):
                object.__setattr__(self, f"{part}_{kind}", values)
        check_positive_integer("batch_size", self.batch_size, "Use 64.")
        if self.batch_size > self.train_size:
            raise ValueError(
                f"`batch_size` (={self.batch_size}) must be at most the {self.train_size} training images, since all "
                "batches are of one size. Use a smaller one."
            )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return tuple(self.train_images.shape[1:])

    @property
    def train_size(self) -> int:
        """Number of training images."""
        return len(self.train_labels)

    @property
    def test_size(self) -> int:
        """Number of test images."""
        return len(self.test_labels)

    @property
    def validation_size(self) -> int:
        """Number of validation images."""
        return 0 if self.validation_labels is None else len(self.validation_labels)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch; the rest of the images is left out of it."""
        return self.train_size // self.batch_size

    @property
    def labels(self) -> np.ndarray:
        """Those of the training images."""
        return self.train_labels

    @functools.cached_property
    def checksum(self) -> str:
        """Of the training images and labels in their order: what a resumed run has to share, besides the name."""
        return checksum(self.train_labels, np.ascontiguousarray(self.train_images))

    def draws(self, epoch: int, crop_size: tuple[int, int] | None = None, alternate_flips: bool = False) -> np.ndarray:
        """Draw an epoch: which images come when, and how each is cropped and mirrored.

        Args:
            epoch: counted from 0.
            crop_size: (height, width) of smaller crops, cut out of the images themselves; None for crops of the
                images' own size out of the padded images.
            alternate_flips: mirror each image in every second epoch, in place of drawing lots. Images that are not
                mirrored (`augmentation.flip`) stay so.

        Returns:
            int32 (steps_per_epoch, batch_size, 4): of each image its index, the row and the column of the crop's upper
            left corner in the image padded by `augmentation.pad` (by nothing, with a `crop_size`), and 1 if it is
            mirrored; with boxes or changes of light, (..., 9): the crop's height and width too, and factors of
            brightness, contrast and saturation in thousandths. The inputs of `keras_condense.layers.AugmentedImages`.

        Raises:
            ValueError: `epoch` is no integer of at least 0, or `crop_size` exceeds the images.

        Example:
            >>> from keras_condense import datasets
            >>> draws = datasets.load_arrays("digits").draws(epoch=3)
            >>> draws.shape, draws.dtype.name, draws[0, 0].tolist()
            ((22, 64, 4), 'int32', [...])
        """
        epoch = check_seed("epoch", epoch, "Use 0 for the first epoch.")
        shown = self.steps_per_epoch * self.batch_size
        draws = self.drawing(crop_size, alternate_flips).epoch(epoch)[:shown]
        return draws.reshape(self.steps_per_epoch, self.batch_size, draws.shape[1])

    def drawing(self, crop_size: tuple[int, int] | None = None, alternate_flips: bool = False) -> Drawing:
        """How epochs are drawn; the arguments are those of `draws`."""
        return Drawing(self.train_size, self.image_shape, self.seed, self.augmentation, crop_size, alternate_flips)

    def representative_data(self, n: int = 100) -> list[np.ndarray]:
        """Return `n` training images to calibrate an int8 export with, those of `Dataset.representative_data`.

        Example:
            >>> from keras_condense import datasets
            >>> datasets.load_arrays("digits").representative_data(2)[0].shape
            (1, 16, 16, 1)
        """
        check_calibration_size(n, self.train_size)
        chosen = shuffled(self.train_size, self.seed)[:n]
        return list(self.normalize(self.train_images[chosen])[:, None])

    def test_arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the test set as (images, labels), normalised as a network is trained on it.

        Example:
            >>> from keras_condense import datasets
            >>> images, labels = datasets.load_arrays("digits").test_arrays()
            >>> images.shape, images.dtype, labels.shape
            ((360, 16, 16, 1), dtype('float32'), (360,))
        """
        return self.normalize(self.test_images), self.test_labels

    def normalize(self, images: np.ndarray) -> np.ndarray:
        """Return `(images / 255 - mean) / std` as float32."""
        mean, std = (np.asarray(values, "float32") for values in (self.mean, self.std))
        return normalize(images.astype("float32"), mean, std)

    def save(self, path: str | os.PathLike) -> None:
        """Write the images to an `.npz` file that `load_arrays` reads, whole or not at all.

        It carries a data set to a machine without TensorFlow. Name it after the data set: `load_arrays("cifar10.npz")`
        normalises and augments as it does "cifar10". The images keep their order, so a run may go on with either.

        Args:
            path: ends in `.npz`; its folder exists.

        Raises:
            ValueError: another suffix, a folder that takes no file, or validation images, which a file can't hold.
            OSError: the disk is full; what stood at `path` is still there.

        Example:
            >>> import tempfile
            >>> from keras_condense import datasets
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     datasets.load_arrays("digits").save(f"{folder}/digits.npz")
            ...     again = datasets.load_arrays(f"{folder}/digits.npz")
            >>> again.train_size, again.mean == datasets.load_arrays("digits").mean
            (1437, True)
        """
        path = check_path("path", path)
        if path.suffix != ".npz":
            raise ValueError(f"`path` (={str(path)!r}) must end in '.npz'. Name it after the data set: 'cifar10.npz'.")
        if self.validation_size:
            raise ValueError(
                f"`validation_images` ({self.validation_size} of them) must be None to save the data set. Load it "
                "without `validation_fraction`, save that, and hold the same images out when you load the file."
            )
        with replacing(path) as temporary:
            np.savez_compressed(
                temporary,
                x_train=self.train_images,
                y_train=self.train_labels,
                x_test=self.test_images,
                y_test=self.test_labels,
                class_names=np.array(self.class_names),
            )


def load_arrays(
    name: str | os.PathLike = "digits",
    *,
    batch_size: int = 64,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    resize: str = "stretch",
    augment: bool | Augmentation = True,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    validation_fraction: float = 0.0,
    test_fraction: float = 0.2,
    seed: int = 0,
    split_seed: int = 0,
    data_dir: str | os.PathLike | None = None,
    download: bool = True,
    skip_broken: bool = False,
) -> ImageArrays:
    """Load a data set of images into memory, to train on any backend, with TensorFlow installed or without.

    "digits" and `.npz` files need no other package. Names of TensorFlow Datasets and folders are read by TensorFlow,
    which is kept off the accelerators if Keras runs on another backend. Where TensorFlow or tensorflow-datasets is not
    installed, "cifar10", "cifar100", "mnist" and "fashion_mnist" come from `keras.datasets`: the same images in
    another order. To train elsewhere on the images in the order that they have here, bring a file of
    `ImageArrays.save`.

    Args:
        name: as for `load`, or an `.npz` file of `ImageArrays.save`, or of yours: x_train and x_test of uint8,
            (examples, height, width) or (examples, height, width, channels), and y_train and y_test, class numbers;
            class_names if you like. The file's stem is looked up in `datasets.IMAGE_DEFAULTS`: cifar10.npz is
            normalised as "cifar10".
        batch_size: images in a batch.
        image_size: as for `load`, like all others.
        channels: 1 for gray, 3 for RGB.
        resize: "stretch" or "crop".
        augment: True for the data set's row in `datasets.IMAGE_DEFAULTS`, False for none, or an `Augmentation`.
        mean: of each channel.
        std: of each channel.
        validation_fraction: the share of the training set to hold out; the same images as `load` holds out.
        test_fraction: the share to hold out as the test set where none comes with the data.
        seed: of the training set's order, crops and flips.
        split_seed: of what is held out.
        data_dir: the folder of TensorFlow Datasets.
        download: whether to download what is missing.
        skip_broken: leave broken image files of a folder out.

    Returns:
        An `ImageArrays`.

    Raises:
        ValueError: as `load`; an `.npz` file that is broken or holds something else; more images in a batch than there
            are to train on.
        ConnectionError: not there, and the download failed for lack of a network.
        ImportError: `name` needs TensorFlow or tensorflow-datasets, and they are not installed.

    Example:
        >>> from keras_condense import datasets
        >>> data = datasets.load_arrays("digits")
        >>> data.train_images.shape, data.train_images.dtype.name, data.steps_per_epoch
        ((1437, 16, 16, 1), 'uint8', 22)
    """
    prepared = prepare(Request(**locals(), in_memory=True))  # the arguments are the request's fields
    parts = {"train": prepared.train, "test": prepared.test, "validation": prepared.validation}
    arrays = {}
    for part, examples in parts.items():
        if examples is not None:
            examples = in_memory(examples)
            arrays |= {f"{part}_images": examples.images, f"{part}_labels": examples.labels}
    return ImageArrays(
        name=prepared.name,
        **arrays,
        class_names=prepared.class_names,
        batch_size=batch_size,
        mean=prepared.mean,
        std=prepared.std,
        augmentation=prepared.augmentation,
        seed=prepared.request.seed,
        location=prepared.location,
        data_dir=prepared.data_dir,
        resize=prepared.request.resize,
    )
