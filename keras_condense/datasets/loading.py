"""`load`: a name or a folder in, batched and prefetched `tf.data` out."""

import dataclasses
import math
import os
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_condense.datasets import sources
from keras_condense.datasets.pipeline import examples_in_order, training_stream
from keras_condense.datasets.recipes import RECIPES, Augmentation, recipe_for
from keras_condense.files import check_path
from keras_condense.validation import (
    LARGEST_SIDE,
    as_index,
    check_channel_constants,
    check_choice,
    check_crop_size,
    check_fraction,
    check_positive_integer,
    shown,
)

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["Dataset", "Loaded", "check_calibration_size", "check_seed", "load", "read_examples"]

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
    _stream: Callable[..., "tf.data.Dataset"] = dataclasses.field(repr=False)

    def training(
        self,
        initial_epoch: int = 0,
        epochs: int | None = None,
        crop_size: tuple[int, int] | None = None,
        alternate_flips: bool = False,
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
                images' own size out of the padded images.
            alternate_flips: mirror each image in every second epoch, in place of drawing lots. Images that are not
                mirrored (`augmentation.flip`) stay so.

        Returns:
            `steps_per_epoch` batches an epoch, epoch after epoch.

        Raises:
            ValueError: `initial_epoch` is no integer of at least 0, `epochs` is not above it, or `crop_size` exceeds
                the images.

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
        if crop_size is not None:
            check_crop_size(crop_size, self.image_shape)
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
        batches = self._stream(numbers, crop_size=crop_size, alternate_flips=alternate_flips)
        return batches.apply(tf.data.experimental.assert_cardinality(steps))

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
        import tensorflow as tf

        epoch = self._stream(tf.data.Dataset.range(1), augmentation=None, drop_remainder=False)
        return [image[None] for image, _ in epoch.unbatch().take(n).as_numpy_iterator()]

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

    Data sets of at most 1 GiB as uint8 are held in memory; image files beyond that are decoded in every epoch, and
    TFDS records are streamed through a shuffle buffer.

    Args:
        name: "digits" (scikit-learn's handwritten digits, part of its package: 1797 images, always the same 360 for
            the test); a name of TensorFlow Datasets ("cifar10", "cifar100", "mnist", ...); a folder, laid out as
            `<folder>/train/<class>/*.png` and `<folder>/test/<class>/*.png` (or `val`), or as `<folder>/<class>/*.png`
            of which `test_fraction` is held out; or an `.npz` file of `ImageArrays.save`. PNG, JPEG, WebP, BMP and GIF
            are read. A name goes before a folder: write "./cifar10" for a folder of that name.
        batch_size: images in a batch.
        image_size: side length or (height, width) to resize to, bilinearly, whatever the sides' ratio was. None for
            16x16 digits, else for the images' own size.
        channels: 1 for gray, 3 for RGB. None for the data set's own; RGB for a folder, whatever its files are.
        augment: True for the data set's row in `RECIPES` (the paper's padding by 4, random crops and mirror images,
            for data sets without a row too; digits are cropped only), False for none, or an `Augmentation`.
        mean: of each channel, pixels in [0, 1], subtracted from them. None for the row in `RECIPES`, else ImageNet's.
        std: standard deviation of the same, by which they are then divided.
        validation_fraction: the share of the training set to hold out as `validation`, of every class alike.
        test_fraction: the share to hold out as the test set where none comes with the data.
        drop_remainder: leave an epoch's last batch out if it is smaller than the others. Training only.
        seed: of the training set's order, crops and flips.
        split_seed: of what is held out; not `seed`, so that runs with different seeds have the same test set.
        data_dir: the folder of TensorFlow Datasets; None for its default, `~/tensorflow_datasets`.
        download: whether TensorFlow Datasets may download what is not prepared in `data_dir`.
        skip_broken: leave broken image files of a folder out, with a warning that names them, instead of raising.

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
        ValueError: `name` (='cifar11') must be 'digits', a name of TensorFlow Datasets, an .npz file or...
    """
    loaded = read_examples(
        name,
        needs_tensorflow=True,
        batch_size=batch_size,
        image_size=image_size,
        channels=channels,
        augment=augment,
        mean=mean,
        std=std,
        validation_fraction=validation_fraction,
        test_fraction=test_fraction,
        seed=seed,
        split_seed=split_seed,
        data_dir=data_dir,
        download=download,
        skip_broken=skip_broken,
    )
    size = loaded.train.size
    steps_per_epoch = size // batch_size if drop_remainder else math.ceil(size / batch_size)
    if not steps_per_epoch:
        raise ValueError(
            f"`batch_size` (={batch_size}) must be at most the {size} training images if drop_remainder=True. "
            "Use a smaller one or keep the remainder."
        )
    return _assemble(loaded, batch_size=batch_size, steps_per_epoch=steps_per_epoch, drop_remainder=drop_remainder)


@dataclasses.dataclass(frozen=True)
class Loaded:
    """What `load` and `load_arrays` have in common: examples, and what is to be done to them.

    Attributes:
        name: what was loaded.
        train: the training examples, as yet neither normalised nor augmented.
        test: the test examples.
        validation: examples held out of the training set, or None.
        class_names: one for each label.
        image_shape: (height, width, channels).
        mean: of each channel.
        std: of each channel.
        augmentation: of the training images, or None.
        seed: of the order, crops and flips.
    """

    name: str
    train: Any
    test: Any
    validation: Any
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: Augmentation | None
    seed: int


def read_examples(
    name: str | os.PathLike,
    *,
    needs_tensorflow: bool,
    batch_size: int,
    image_size: int | tuple[int, int] | None,
    channels: int | None,
    augment: bool | Augmentation,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    validation_fraction: float,
    test_fraction: float,
    seed: int,
    split_seed: int,
    data_dir: str | os.PathLike | None,
    download: bool,
    skip_broken: bool,
) -> Loaded:
    """Check the arguments of `load`, find the examples, and hold some out.

    All arguments but one are those of `load`. `needs_tensorflow` says whether what becomes of the examples needs it.
    If not, and if TensorFlow or tensorflow-datasets is missing, `keras.datasets` is asked for the names that it has.

    Returns:
        The examples, where they are kept, and constants.

    Raises:
        ValueError: as `load`; so are the other errors.
    """
    check_positive_integer("batch_size", batch_size, "Use 64.")
    image_size = _check_image_size(image_size)
    channels = check_choice("channels", channels, (None, 1, 3), "Leave it out for the data set's own.")
    if not isinstance(augment, (bool, Augmentation)):
        raise ValueError(
            f"`augment` (={shown(augment)}) must be True, False or an Augmentation. Use Augmentation(pad=4, flip=True)."
        )
    check_fraction("validation_fraction", validation_fraction, "Use 0.1, or 0 for none.", below_one=True)
    if check_fraction("test_fraction", test_fraction, "Use 0.2.", below_one=True) == 0:
        raise ValueError(f"`test_fraction` (={test_fraction!r}) must be above 0. Use 0.2.")
    seed = check_seed("seed", seed)
    split_seed = check_seed("split_seed", split_seed)
    if data_dir is not None:
        check_path("data_dir", data_dir)
    if needs_tensorflow:
        sources.require("tensorflow", "tensorflow")

    name, recipe_name, source = _read(
        name,
        needs_tensorflow=needs_tensorflow,
        image_size=image_size,
        channels=channels,
        test_fraction=test_fraction,
        split_seed=split_seed,
        data_dir=data_dir,
        download=download,
        skip_broken=skip_broken,
        need_labels=validation_fraction > 0,
    )
    recipe = recipe_for(recipe_name, source.image_shape[-1])
    image_channels, mend = source.image_shape[-1], "Leave it out for the usual values."
    mean = check_channel_constants("mean", recipe.mean if mean is None else mean, image_channels, mend)
    std = check_channel_constants("std", recipe.std if std is None else std, image_channels, mend, above_zero=True)

    train, validation = source.train, None
    if validation_fraction:
        held_out = round(validation_fraction * train.size)
        kept, held = sources.stratified_split(source.train_labels, held_out, split_seed, "validation_fraction")
        train, validation = train.subset(kept), train.subset(held)
    return Loaded(
        name=name,
        train=train,
        test=source.test,
        validation=validation,
        class_names=source.class_names,
        image_shape=source.image_shape,
        mean=mean,
        std=std,
        augmentation=recipe.augmentation if augment is True else augment or None,
        seed=seed,
    )


def _read(
    name: str | os.PathLike,
    *,
    needs_tensorflow: bool,
    image_size: tuple[int, int] | None,
    channels: int | None,
    test_fraction: float,
    split_seed: int,
    data_dir: str | os.PathLike | None,
    download: bool,
    skip_broken: bool,
    need_labels: bool,
) -> tuple[str, str, sources.Source]:
    """Return the name to show, the name in the table of recipes, and the examples."""
    if not isinstance(name, (str, os.PathLike)) or not os.fspath(name):
        raise ValueError(f"`name` (={shown(name)}) must be a name or a folder. Use 'digits'.")
    if name == "digits":
        return name, name, sources.read_digits(image_size or RECIPES[name].image_size, channels)
    check_path("name", name)
    path = pathlib.Path(os.path.expanduser(name))
    if path.suffix == ".npz":
        return path.stem, path.stem, sources.read_arrays_file(path, image_size=image_size, channels=channels)
    if not needs_tensorflow:
        missing = sources.missing_package("tensorflow", "tensorflow_datasets")
        if missing and name in sources.KERAS_DATASETS:
            source = sources.read_keras_dataset(name, image_size=image_size, channels=channels, download=download)
            return name, name, source
        if missing == "tensorflow":
            raise ImportError(
                f"`name` (={os.fspath(name)!r}) must be 'digits', an .npz file or one of "
                f"{', '.join(map(repr, sources.KERAS_DATASETS))} where TensorFlow is missing. Install it (pip install "
                '"keras-condense[tfds]"), or bring the data as a file of `ImageArrays.save`.'
            )
        sources.keep_tensorflow_off_gpus()
    builder = sources.tfds_builder(name, data_dir) if isinstance(name, str) else None
    if builder is not None:
        source = sources.read_tfds(
            builder,
            image_size=image_size,
            channels=channels,
            download=download,
            test_fraction=test_fraction,
            split_seed=split_seed,
            need_labels=need_labels,
        )
        return name, builder.name, source
    if not os.path.isdir(path):  # unlike `Path.is_dir` it says so of names that are too long
        similar = sources.similar_names(os.fspath(name))
        mend = f"Did you mean {' or '.join(map(repr, similar))}?" if similar else "Check the spelling."
        raise ValueError(
            f"`name` (={os.fspath(name)!r}) must be 'digits', a name of TensorFlow Datasets, an .npz file or "
            f"an existing folder. {mend}"
        )
    source = sources.read_folder(
        path,
        image_size=image_size,
        channels=channels,
        test_fraction=test_fraction,
        split_seed=split_seed,
        skip_broken=skip_broken,
    )
    return str(path), "", source


def _assemble(loaded: Loaded, *, batch_size: int, steps_per_epoch: int, drop_remainder: bool) -> Dataset:
    import tensorflow as tf

    def stream(epochs, augmentation=loaded.augmentation, drop_remainder=drop_remainder, **variation):
        return training_stream(
            loaded.train,
            batch_size=batch_size,
            drop_remainder=drop_remainder,
            augmentation=augmentation,
            mean=loaded.mean,
            std=loaded.std,
            seed=loaded.seed,
            epochs=epochs,
            image_shape=loaded.image_shape,
            **variation,
        )

    # `fit` without steps_per_epoch iterates anew in every epoch: each iteration draws a number that stands for one
    drawn = tf.data.Dataset.random(seed=loaded.seed, rerandomize_each_iteration=True).take(1)
    in_order = {"batch_size": batch_size, "mean": loaded.mean, "std": loaded.std}
    return Dataset(
        name=loaded.name,
        train=stream(drawn).apply(tf.data.experimental.assert_cardinality(steps_per_epoch)),
        test=examples_in_order(loaded.test, **in_order),
        validation=examples_in_order(loaded.validation, **in_order) if loaded.validation else None,
        class_names=loaded.class_names,
        image_shape=loaded.image_shape,
        train_size=loaded.train.size,
        test_size=loaded.test.size,
        validation_size=loaded.validation.size if loaded.validation else 0,
        batch_size=batch_size,
        steps_per_epoch=steps_per_epoch,
        mean=loaded.mean,
        std=loaded.std,
        augmentation=loaded.augmentation,
        _stream=stream,
    )


def _check_image_size(image_size: Any) -> tuple[int, int] | None:
    if image_size is None:
        return None
    mend = "Use 32 or (32, 32)."
    sides = image_size if isinstance(image_size, (tuple, list)) else (image_size, image_size)
    if len(sides) != 2:
        raise ValueError(f"`image_size` (={shown(image_size)}) must be a side length or (height, width). {mend}")
    return tuple(check_positive_integer("image_size", side, mend, largest=LARGEST_SIDE) for side in sides)


def check_calibration_size(n: Any, train_size: int) -> None:
    """Raise ValueError unless a training set has `n` images to calibrate with.

    Example:
        >>> check_calibration_size(200, 150)
        Traceback (most recent call last):
        ...
        ValueError: `n` (=200) must be at most `train_size` (=150). Give fewer; 100 are enough.
    """
    if check_positive_integer("n", n, "100 are enough to calibrate with.") > train_size:
        raise ValueError(f"`n` (={n}) must be at most `train_size` (={train_size}). Give fewer; 100 are enough.")


def check_seed(name: str, value: Any, mend: str = "Use 0.") -> int:
    """Return `value` as an int if it can seed a random generator, or number an epoch.

    Example:
        >>> check_seed("seed", -1)
        Traceback (most recent call last):
        ...
        ValueError: `seed` (=-1) must be an integer in [0, 2**32). Use 0.
    """
    number = as_index(value)
    if number is None or not 0 <= number < 2**32:
        raise ValueError(f"`{name}` (={shown(value)}) must be an integer in [0, 2**32). {mend}")
    return number
