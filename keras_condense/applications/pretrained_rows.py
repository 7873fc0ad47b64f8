"""What a row of the table of trained networks says, and where its file lies."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from keras_condense.applications.preprocessing import Preprocessing

__all__ = ["CLASSES", "KERAS_FOLDER", "RELEASES", "KerasFiles", "PretrainedWeights"]

RELEASES = "https://github.com/osmr/imgclsmob/releases/download"
KERAS_FOLDER = "https://storage.googleapis.com/tensorflow/keras-applications"

# the data sets that `weights=` may name, and their classes
CLASSES = {"imagenet": 1000, "cifar10": 10, "cifar100": 100, "svhn": 10}


@dataclasses.dataclass(frozen=True)
class KerasFiles:
    """Where keras.applications keeps the weights of a network: with the classifier and without it.

    Attributes:
        folder: the URL of the files' folder.
        top: name and MD5 sum of the file with the classifier's weights; None for a sum that is not known.
        no_top: name and MD5 sum of the file without them.
    """

    folder: str
    top: tuple[str, str | None]
    no_top: tuple[str, str | None]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PretrainedWeights:
    """A row of the table: the published weights of one network for one data set.

    The network is `getattr(keras_condense.applications, constructor)(**arguments, weights=dataset, classes=classes)`,
    for images of `preprocessing.size`.

    Attributes:
        constructor: the function of `keras_condense.applications` that builds the network.
        arguments: its arguments, besides those that every constructor has.
        dataset: a key of `CLASSES`: what the network was trained on, and the value of `weights`.
        license: of the file.
        preprocessing: what the images must go through.
        release: pytorchcv's file as "tag/file name"; empty for others.
        sha1: of the .pth file inside the release's zip, in hexadecimal digits; empty for others.
        published_error: per cent, top-1, of one crop, of these very weights; None where the publisher gives none.
        published_top5_error: likewise, of the five best classes.
        keras_files: the files of Keras; None for others.
        packaged: the file in `weights/` that comes with this package; empty for others.
        sha256: of that file, in hexadecimal digits.
        measured_error: per cent, top-1, as `benchmarks/accuracy.py` measured it here; None where nobody did.

    Example:
        >>> from keras_condense.applications.pretrained import find_weights
        >>> row = find_weights("CondenseNetImageNet74G8", "imagenet")
        >>> row.published_error, row.preprocessing.size, row.license
        (28.93, 224, 'MIT')
        >>> row.address
        'https://github.com/osmr/imgclsmob/releases/download/v0.0.4/condensenet74_c8_g8-1006-3574d874.pth.zip'
    """

    constructor: str
    dataset: str
    license: str
    preprocessing: Preprocessing
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    release: str = ""
    sha1: str = ""
    published_error: float | None = None
    published_top5_error: float | None = None
    keras_files: KerasFiles | None = None
    packaged: str = ""
    sha256: str = ""
    measured_error: float | None = None

    @property
    def address(self) -> str:
        """The URL of the file, of the one with the classifier where there are two; the path of a packaged one."""
        if self.packaged:
            return str(pathlib.Path(__file__).parent / "weights" / self.packaged)
        if self.keras_files is not None:
            return f"{self.keras_files.folder}/{self.keras_files.top[0]}"
        return f"{RELEASES}/{self.release}"

    @property
    def classes(self) -> int:
        """The number of classes of the data set."""
        return CLASSES[self.dataset]
