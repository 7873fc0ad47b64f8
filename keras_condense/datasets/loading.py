"""`load`: a name or a folder in, batched and prefetched `tf.data` out."""

import dataclasses
import functools
import math
import os
from typing import TYPE_CHECKING

import numpy as np

from keras_condense.datasets.image_defaults import Augmentation
from keras_condense.datasets.parts import Part, check_part, repeats
from keras_condense.datasets.pipeline import batches_in_order, calibration_images, training_batches
from keras_condense.datasets.preparing import Prepared, prepare
from keras_condense.datasets.request import Request, check_calibration_size, check_seed
from keras_condense.validation import check_positive_integer

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["Dataset", "load"]

_LARGEST_EPOCH = 2**62


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Images for training and testing, made by `load`.

    Every `tf.data.Dataset` yields batches of (images, labels): float32 (batch, height, width, channels), normalised
    as `(pixels / 255 - mean) / std`, and int32 (batch,) class numbers.

    Attributes:
        name: what was loaded.
        train: one epoch; each time it is iterated the examples come in a new order, with new crops and flips. Which
            ones, depends on TensorFlow's global seed too; `training` depends on nothing but the data set's own.
        test: the test images, always in the same order.
        validation: images held out of the training set, or None.
        class_names: one for each label.
        image_shape: (height, width, channels).
        train_size: number of training images.
        test_size: number of test images.
        validation_size: number of validation images.
        batch_size: images in a batch; the last one of an epoch may be smaller.
        steps_per_epoch: batches of an epoch.
        mean: of each channel, pixels in [0, 1]; normalise new images with it.
        std: standard deviation of the same.
        augmentation: of the training images, or None.
    """

    name: str
    train: "tf.data.Dataset"
    test: "tf.data.Dataset"
    validation: "tf.data.Dataset | None"
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    train_size: int
    test_size: int
    validation_size: int
    batch_size: int
    steps_per_epoch: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: Augmentation | None
    _prepared: Prepared = dataclasses.field(repr=False)

    @property
    def location(self) -> str:
        """What finds the data set again from any folder: its name, or the whole path."""
        return self._prepared.location

    @property
    def data_dir(self) -> str | None:
        """The whole path of the folder of TensorFlow Datasets; None for its default."""
        return self._prepared.data_dir

    @property
    def resize(self) -> str:
        """What became of images of another ratio of sides: "stretch", "crop" or "photographs"."""
        return self._prepared.request.resize

    @property
    def seed(self) -> int:
        """Of the training set's order, crops and flips."""
        return self._prepared.request.seed

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """Those of the training images; a data set that is streamed is read for them."""
        return np.asarray(self._prepared.train.labels)

    @functools.cached_property
    def checksum(self) -> str:
        """Of which training images there are, in their order: what a resumed run has to share, besides the name."""
        return self._prepared.train.checksum

    def training(
        self,
        initial_epoch: int = 0,
        epochs: int | None = None,
        crop_size: tuple[int, int] | None = None,
        alternate_flips: bool = False,
        initial_step: int = 0,
        part: tuple[int, int] = (0, 1),
    ) -> "tf.data.Dataset":
        """Return the training batches from one epoch on, the same ones whether or not epochs came before.

        Order, crops and flips are a function of the seed, the epoch's number and the example alone, so that a run
        that was stopped goes on exactly as if it had not been: `model.fit(data.training(7), initial_epoch=7,
        epochs=300, steps_per_epoch=data.steps_per_epoch, shuffle=False)`. (`shuffle=False` only tells Keras not to
        warn that it leaves the order to `tf.data`.)

        Args:
            initial_epoch: the first epoch, counted from 0 as in `fit`.
            epochs: the epoch to stop before, as in `fit`; None for no end.
            crop_size: (height, width) of smaller crops, cut out of the images themselves; None for crops of the
                images' own size out of the padded images. Boxes of an `Augmentation.scale` are resized to it.
            alternate_flips: mirror each image in every second epoch, in place of drawing lots. Images that are not
                mirrored (`augmentation.flip`) stay so.
            initial_step: the first batch of the first epoch; those before it are not read.
            part: (number, of), for several processes that train together: of each batch the rows of one of so many
                equal parts, which are together the batch. Only those are read and decoded; of TFDS records the others
                are read and not decoded. Needs a batch that they divide, and so `drop_remainder` where the last one
                is smaller.

        Returns:
            `steps_per_epoch` batches per epoch, epoch after epoch, without the first `initial_step`.

        Raises:
            ValueError: `initial_epoch` is no integer of at least 0, `epochs` is not above it, `crop_size` exceeds the
                images, `initial_step` is none of the epoch's, or `part` is no part, or does not divide the batches.

        Example:
            >>> from keras_condense import datasets
            >>> data = datasets.load("digits")
            >>> unbroken, resumed = data.training(0, epochs=3), data.training(2, epochs=3)
            >>> all(
            ...     bool((a[0] == b[0]).numpy().all())
            ...     for a, b in zip(unbroken.skip(2 * data.steps_per_epoch), resumed, strict=True)
            ... )
            True
        """
        import tensorflow as tf

        initial_epoch = check_seed("initial_epoch", initial_epoch, "Use 0 for the first epoch.")
        initial_step = check_seed("initial_step", initial_step, "Use 0 for a whole epoch.")
        if initial_step >= self.steps_per_epoch:
            raise ValueError(
                f"`initial_step` (={initial_step}) must be below the {self.steps_per_epoch} steps of an epoch. Use 0 "
                "for a whole one."
            )
        last = self.train_size - (self.steps_per_epoch - 1) * self.batch_size
        number, of = check_part(part, self.batch_size, min(last, self.batch_size))
        if epochs is None:
            numbers, steps = tf.data.Dataset.range(initial_epoch, _LARGEST_EPOCH), tf.data.INFINITE_CARDINALITY
        else:
            if check_positive_integer("epochs", epochs, "Leave it out for an endless stream.") <= initial_epoch:
                raise ValueError(
                    f"`epochs` (={epochs}) must be above `initial_epoch` (={initial_epoch}): it is the epoch to stop "
                    "before, as in `fit`. Leave it out for an endless stream."
                )
            numbers = tf.data.Dataset.range(initial_epoch, epochs)
            steps = self.steps_per_epoch * (epochs - initial_epoch)

        def batches(numbers: "tf.data.Dataset", first_batch: int = 0) -> "tf.data.Dataset":
            return training_batches(self._prepared, numbers, crop_size, alternate_flips, Part(first_batch, number, of))

        if not initial_step:
            return batches(numbers).apply(tf.data.experimental.assert_cardinality(steps))
        found = batches(numbers.take(1), initial_step).concatenate(batches(numbers.skip(1)))
        steps = steps - initial_step if epochs is not None else steps
        return found.apply(tf.data.experimental.assert_cardinality(steps))

    def held_out(self, part: tuple[int, int] = (0, 1), devices: int = 1) -> "tf.data.Dataset":
        """Return the batches held out for validation, or those of the test set where none are; or a part of each.

        Args:
            part: (number, of), as in `training`.
            devices: that share each batch, those of all parts. Where they don't divide the images, all images come as
                often as makes them do: each counts alike, in means of any kind.

        Raises:
            ValueError: `part` is no part, or does not divide the batches.

        Example:
            >>> from keras_condense import datasets
            >>> batches = datasets.load("digits", batch_size=60).held_out((1, 3))
            >>> [len(labels) for _, labels in batches]
            [20, 20, 20, 20, 20, 20]
        """
        number, of = check_part(part, self.batch_size, self.batch_size)
        examples = self._prepared.validation or self._prepared.test
        shown = Part(number=number, of=of, repeats=repeats(examples.size, math.lcm(of, devices)))
        return batches_in_order(self._prepared, examples, shown)

    def representative_data(self, n: int = 100) -> list[np.ndarray]:
        """Return training images to calibrate an int8 export with: no crops or flips, classes mixed.

        Args:
            n: how many.

        Returns:
            A list of float32 arrays (1, height, width, channels), the same at every call.

        Raises:
            ValueError: `n` is no integer in [1, `train_size`].

        Example:
            >>> from keras_condense import datasets
            >>> [batch.shape for batch in datasets.load("digits").representative_data(2)]
            [(1, 16, 16, 1), (1, 16, 16, 1)]
        """
        check_calibration_size(n, self.train_size)
        return calibration_images(self._prepared, n)

    def test_arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the test set as NumPy arrays (images, labels).

        Example:
            >>> from keras_condense import datasets
            >>> images, labels = datasets.load("digits").test_arrays()
            >>> images.shape, images.dtype, labels.shape
            ((360, 16, 16, 1), dtype('float32'), (360,))
        """
        images, labels = zip(*self.test.as_numpy_iterator(), strict=True)
        return np.concatenate(images), np.concatenate(labels)


def load(
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
    drop_remainder: bool = False,
    seed: int = 0,
    split_seed: int = 0,
    data_dir: str | os.PathLike | None = None,
    download: bool = True,
    skip_broken: bool = False,
) -> Dataset:
    """Load a data set of images.

    Data sets of at most 1 GiB as uint8 are held in memory; image files beyond that are decoded in every epoch (a broken
    one is named when it is its turn; `scripts/check_images.py` finds them all before), and TFDS records are streamed
    through a shuffle buffer. For the same seed, epochs are those of `load_arrays`, whose last images that fill no batch
    are left out; only a stream has its own order.

    Args:
        name: "digits" (scikit-learn's handwritten digits, part of its package: 1797 images, always the same 360 for
            the test); a name of TensorFlow Datasets ("cifar10", "cifar100", "mnist", ...); a folder, laid out as
            `<folder>/train/<class>/*.png` and `<folder>/test/<class>/*.png` (or `training`, `testing`, `val`, `valid`,
            `validation`, in any letter case), or as `<folder>/<class>/*.png` of which `test_fraction` is held out; or
            an `.npz` file of `ImageArrays.save`. PNG, JPEG, WebP, BMP and GIF are read. A name goes before a folder:
            write "./cifar10" for a folder of that name.
        batch_size: images in a batch.
        image_size: side length or (height, width) to resize to, bilinearly. None for 16x16 digits, else for the images'
            own size.
        channels: 1 for gray, 3 for RGB. None for the data set's own; RGB for a folder, whatever its files are.
        resize: "stretch" to `image_size` whatever the sides' ratio was, or "crop": the largest middle of that ratio.
            "photographs", for image files and TFDS records: as networks for ImageNet are trained and evaluated. Boxes
            of an `Augmentation.scale` are cut out of the files' own pixels, and of all other images the middle, 0.875
            of the shorter side (224 of 256 pixels). They are decoded in every epoch, few or many.
        augment: True for the data set's row in `datasets.IMAGE_DEFAULTS` (the paper's padding by 4, random crops and
            mirror images, for data sets without a row too; digits are cropped only), or, for `resize="photographs"`,
            for `datasets.IMAGENET`. False for none, or an `Augmentation`, such as `datasets.PHOTOGRAPHS` (random
            resized crops, mirror images, changes of light). Without boxes, the middle is what photographs show.
        mean: of each channel, pixels in [0, 1], subtracted from them. None for the row in `datasets.IMAGE_DEFAULTS`,
            else ImageNet's.
        std: standard deviation of the same, by which they are then divided.
        validation_fraction: the share of the training set to hold out as `validation`, of every class alike.
        test_fraction: the share to hold out as the test set where none comes with the data.
        drop_remainder: leave an epoch's last batch out if it is smaller than the others. Training only.
        seed: of the training set's order, crops and flips.
        split_seed: of what is held out; not `seed`, so that runs with different seeds have the same test set.
        data_dir: the folder of TensorFlow Datasets; None for its default, `~/tensorflow_datasets`.
        download: whether TensorFlow Datasets may download what is not prepared in `data_dir`.
        skip_broken: leave broken image files of a folder out, with a warning that names them, instead of raising.
            They are found by decoding all files once.

    Returns:
        A `Dataset`.

    Raises:
        ValueError: an argument is out of range; no such name; not prepared and `download=False`; a folder that is
            empty, can't be read, lacks images or a class, or holds broken images.
        ConnectionError: not prepared, and the download failed for lack of a network.
        ImportError: TensorFlow or, for its names, tensorflow-datasets is not installed.

    Example:
        >>> from keras_condense import datasets
        >>> data = datasets.load("digits", batch_size=32)
        >>> data.class_names[:3]
        ('0', '1', '2')
        >>> images, labels = next(iter(data.train))
        >>> images.shape, images.dtype.name, labels.dtype.name
        (TensorShape([32, 16, 16, 1]), 'float32', 'int32')
        >>> datasets.load("cifar11")
        Traceback (most recent call last):
        ...
        ValueError: `name` (='cifar11') must be 'digits', an .npz file, one of ...
    """
    prepared = prepare(Request(**locals()))  # the arguments are the request's fields, and nothing else is there yet
    import tensorflow as tf

    size, batch_size, drop_remainder = (
        prepared.train.size,
        prepared.request.batch_size,
        prepared.request.drop_remainder,
    )
    steps_per_epoch = size // batch_size if drop_remainder else math.ceil(size / batch_size)
    if not steps_per_epoch:
        raise ValueError(
            f"`batch_size` (={batch_size}) must be at most the {size} training images if drop_remainder=True. "
            "Use a smaller one or keep the remainder."
        )
    # `fit` without steps_per_epoch iterates anew in every epoch: each iteration draws a number that stands for one
    drawn = tf.data.Dataset.random(seed=prepared.request.seed, rerandomize_each_iteration=True).take(1)
    train = training_batches(prepared, drawn).apply(tf.data.experimental.assert_cardinality(steps_per_epoch))
    return Dataset(
        name=prepared.name,
        train=train,
        test=batches_in_order(prepared, prepared.test),
        validation=batches_in_order(prepared, prepared.validation) if prepared.validation else None,
        class_names=prepared.class_names,
        image_shape=prepared.image_shape,
        train_size=size,
        test_size=prepared.test.size,
        validation_size=prepared.validation.size if prepared.validation else 0,
        batch_size=batch_size,
        steps_per_epoch=steps_per_epoch,
        mean=prepared.mean,
        std=prepared.std,
        augmentation=prepared.augmentation,
        _prepared=prepared,
    )
