"""From a request to examples and all that is to be done to them: what `load` and `load_arrays` share."""

import dataclasses
import os
import pathlib
from typing import Any

from keras_condense.datasets.drawing import Drawing
from keras_condense.datasets.image_defaults import IMAGENET, Augmentation, defaults_for
from keras_condense.datasets.request import Request
from keras_condense.datasets.sources import Images, find_source, stratified_split
from keras_condense.validation import check_channel_constants

__all__ = ["Prepared", "prepare"]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Prepared(Images):
    """What a request asked for: images, as yet neither normalised nor augmented, and what is to be done to them.

    Attributes:
        request: the request.
        name: what was loaded.
        location: what finds it again from any folder: the name, or the whole path.
        validation: examples held out of the training set, or None.
        mean: of each channel.
        std: of each channel.
        augmentation: of the training images, or None.
    """

    request: Request
    name: str
    location: str
    validation: Any
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: Augmentation | None

    @property
    def data_dir(self) -> str | None:
        """The whole path of the folder of TensorFlow Datasets; None for its default."""
        folder = self.request.data_dir
        return None if folder is None else str(pathlib.Path(os.path.expanduser(folder)).resolve())

    def drawing(self, crop_size: tuple[int, int] | None = None, alternate_flips: bool = False) -> Drawing:
        """How epochs of the training images are drawn."""
        size, seed = self.train.size, self.request.seed
        return Drawing(size, self.image_shape, seed, self.augmentation, crop_size, alternate_flips)


def prepare(request: Request) -> Prepared:
    """Find what a request names, and hold a part out of its training images if it is to be.

    Raises:
        ValueError: as `load`; so are the other errors.
    """
    source = find_source(request)
    if request.is_photographs and not source.has_files:
        raise ValueError(
            f"`resize` (='photographs') must be 'stretch' or 'crop' for {source.name!r}, whose images are arrays: "
            "boxes are cut out of image files, of a folder or of TensorFlow Datasets. Use 'crop'."
        )
    images = source.read()
    defaults, channels = defaults_for(source.defaults, images.image_shape[-1]), images.image_shape[-1]
    mean, std = (getattr(defaults if getattr(request, name) is None else request, name) for name in ("mean", "std"))
    usual = IMAGENET if request.is_photographs else defaults.augmentation
    fix = "Leave it out for the usual values."
    train, validation = images.train, None
    if request.validation_fraction:
        labels, share = train.labels, request.validation_fraction
        kept, held = stratified_split(labels, round(share * train.size), request.split_seed, "validation_fraction")
        train, validation = train.subset(kept), train.subset(held)
    return Prepared(
        request=request,
        name=source.name,
        location=source.location,
        train=train,
        test=images.test,
        validation=validation,
        class_names=images.class_names,
        image_shape=images.image_shape,
        mean=check_channel_constants("mean", mean, channels, fix),
        std=check_channel_constants("std", std, channels, fix, above_zero=True),
        augmentation=usual if request.augment is True else request.augment or None,
    )
