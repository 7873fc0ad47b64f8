"""What an epoch shows, of every data set and on every backend: the order, the crops and the mirror images.

Nothing here keeps state. What an epoch shows is a function of the seed, the epoch's number and an example's index, so
that a run that was killed can go on with exactly the batches that an unbroken run would have seen.
"""

import dataclasses

import numpy as np

from keras_condense.datasets.image_defaults import Augmentation
from keras_condense.validation import check_crop_size

__all__ = ["Drawing", "as_they_are", "shuffled"]


@dataclasses.dataclass(frozen=True)
class Drawing:
    """How epochs of a training set are drawn.

    Attributes:
        size: number of training images.
        image_shape: (height, width, channels) of them.
        seed: of the order, crops and flips.
        augmentation: None for no crops and flips.
        crop_size: (height, width) of smaller crops, cut out of the images themselves; None for crops of the images'
            own size out of the padded images.
        alternate_flips: mirror each image in every second epoch, in place of drawing lots.

    Raises:
        ValueError: `crop_size` exceeds the images.

    Example:
        >>> drawing = Drawing(3, (8, 8, 1), seed=0, augmentation=Augmentation(pad=1, flip=False))
        >>> drawing.epoch(0).shape, sorted(drawing.epoch(0)[:, 0].tolist())
        ((3, 4), [0, 1, 2])
    """

    size: int
    image_shape: tuple[int, int, int]
    seed: int
    augmentation: Augmentation | None
    crop_size: tuple[int, int] | None = None
    alternate_flips: bool = False

    def __post_init__(self) -> None:
        """Check the crops."""
        if self.crop_size is not None:
            check_crop_size(self.crop_size, self.image_shape)

    @property
    def pad(self) -> int:
        """The width of the border."""
        return self.augmentation.pad if self.augmentation and self.crop_size is None else 0

    @property
    def window(self) -> tuple[int, int]:
        """(height, width) of what is shown."""
        return self.crop_size or self.image_shape[:2]

    @property
    def changes_images(self) -> bool:
        """Whether images are cropped or mirrored."""
        return bool(self.pad or self.crop_size or (self.augmentation and self.augmentation.flip))

    def epoch(self, number: int) -> np.ndarray:
        """Return an epoch's draws in its order, the rows of `keras_condense.augmenting.cut`: int32, (size, 4).

        A row is an example's index, the row and the column of the window's upper left corner in the padded image, and
        1 if it is mirrored. They depend on the example, so that batch sizes make no difference.
        """
        bits = self._bits(number)
        places = [side + 2 * self.pad - shown + 1 for side, shown in zip(self.image_shape, self.window, strict=False)]
        offsets = bits[1:3] % np.array(places, "uint64")[:, None]
        # which images an epoch mirrors: by its own bits, or by the first epoch's and the others in the next
        flips = self._bits(0 if self.alternate_flips else number)[3:] >> np.uint64(63)
        if self.alternate_flips:
            flips ^= np.uint64(number % 2)
        if not (self.augmentation and self.augmentation.flip):
            flips[:] = 0
        rows = np.concatenate([np.arange(self.size)[None], offsets.astype("int64"), flips.astype("int64")])
        return rows.T[np.argsort(bits[0], kind="stable")].astype("int32")

    def _bits(self, epoch: int) -> np.ndarray:
        # the bits of a bit generator are the same in every version of NumPy; what a `Generator` makes of them is not
        return np.random.Philox(np.random.SeedSequence((self.seed, epoch))).random_raw((4, self.size))


def as_they_are(indices: np.ndarray, top: int = 0, left: int = 0) -> np.ndarray:
    """Return draws that show images as they are, or their window at (top, left): int32, (len(indices), 4).

    Example:
        >>> as_they_are(np.array([5, 2])).tolist()
        [[5, 0, 0, 0], [2, 0, 0, 0]]
    """
    draws = np.full((len(indices), 4), (0, top, left, 0), "int32")
    draws[:, 0] = indices
    return draws


def shuffled(size: int, seed: int) -> np.ndarray:
    """Return a permutation of `range(size)` that depends on the seed alone."""
    bits = np.random.Philox(np.random.SeedSequence(seed)).random_raw(size)
    return np.argsort(bits, kind="stable")
