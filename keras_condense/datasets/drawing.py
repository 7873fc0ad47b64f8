"""What an epoch shows, of every data set and on every backend: the order, the crops and the mirror images.

Nothing here keeps state. What an epoch shows is a function of the seed, the epoch's number and an example's index, so
that a run that was killed can go on with exactly the batches that an unbroken run would have seen.
"""

import dataclasses

import numpy as np

from keras_condense.augmenting import BOXED, PLAIN
from keras_condense.datasets.image_defaults import LIGHT, Augmentation
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
            own size out of the padded images. Boxes of an `augmentation.scale` are resized to them.
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
    def columns(self) -> tuple[str, ...]:
        """What the columns of the draws mean."""
        return BOXED if self.augmentation and self.augmentation.is_boxed else PLAIN

    @property
    def changes_images(self) -> bool:
        """Whether images are shown in another way than as they are."""
        mirrors_or_more = self.augmentation and (self.augmentation.flip or self.augmentation.is_boxed)
        return bool(self.pad or self.crop_size or mirrors_or_more)

    @property
    def cuts_boxes(self) -> bool:
        """Whether boxes are resized to the window."""
        return bool(self.augmentation and self.augmentation.scale)

    def epoch(self, number: int) -> np.ndarray:
        """Return an epoch's draws in its order, the rows of `keras_condense.augmenting.shown_images`.

        A row is an example's index, the row and the column of the window's upper left corner in the padded image, and
        1 if it is mirrored; where boxes are resized or light is changed, the box's height and width and three factors
        in thousandths too. They depend on the example, so that batch sizes make no difference.

        Returns:
            int32, (size, 4 or 9).
        """
        bits = self._bits(number, len(self.columns))
        extents = self._extents(bits[4:6])
        places = [side + 2 * self.pad - shown + 1 for side, shown in zip(self.image_shape, extents, strict=False)]
        offsets = bits[1:3] % np.array(places, "uint64")
        # which images an epoch mirrors: by its own bits, or by the first epoch's and the others in the next
        flips = (self._bits(0) if self.alternate_flips else bits)[3:4] >> np.uint64(63)
        if self.alternate_flips:
            flips ^= np.uint64(number % 2)
        if not (self.augmentation and self.augmentation.flip):
            flips[:] = 0
        rows = [np.arange(self.size)[None], offsets.astype("int64"), flips.astype("int64")]
        if self.columns == BOXED:
            strengths = np.array([[getattr(self.augmentation, name)] for name in LIGHT])
            factors = np.rint(1000 + 1000 * strengths * (2 * _uniform(bits[6:]) - 1))
            rows += [extents, factors]
        return np.concatenate(rows).T[np.argsort(bits[0], kind="stable")].astype("int32")

    def _extents(self, bits: np.ndarray) -> np.ndarray:
        """Heights and widths of the boxes: int64, (2, size)."""
        if not self.cuts_boxes:
            return np.repeat(np.array(self.window)[:, None], self.size, axis=1)
        sides = np.array(self.image_shape[:2])[:, None] + 2 * self.pad
        (least, most), logs = self.augmentation.scale, np.log(self.augmentation.ratio)
        areas = least + (most - least) * _uniform(bits[0])
        ratios = np.exp(logs[0] + (logs[1] - logs[0]) * _uniform(bits[1]))
        shares = np.sqrt(np.stack([areas / ratios, areas * ratios]))
        return np.clip(np.rint(sides * shares), 1, sides).astype("int64")

    def _bits(self, epoch: int, rows: int = 4) -> np.ndarray:
        # the bits of a bit generator are the same in every version of NumPy; what a `Generator` makes of them is not
        return np.random.Philox(np.random.SeedSequence((self.seed, epoch))).random_raw((rows, self.size))


def _uniform(bits: np.ndarray) -> np.ndarray:
    """The upper 53 of 64 bits as numbers in [0, 1)."""
    return (bits >> np.uint64(11)).astype("float64") * 2.0**-53


def as_they_are(indices: np.ndarray, columns: tuple[str, ...] = PLAIN, **others: int) -> np.ndarray:
    """Return draws that show images as they are, or as `others` says: int32, (len(indices), len(columns)).

    Example:
        >>> as_they_are(np.array([5, 2])).tolist()
        [[5, 0, 0, 0], [2, 0, 0, 0]]
        >>> as_they_are(np.array([5]), BOXED, height=8, width=9).tolist()
        [[5, 0, 0, 0, 8, 9, 1000, 1000, 1000]]
    """
    row = [others.get(name, 1000 if name in LIGHT else 0) for name in columns]
    draws = np.full((len(indices), len(columns)), row, "int32")
    draws[:, 0] = indices
    return draws


def shuffled(size: int, seed: int) -> np.ndarray:
    """Return a permutation of `range(size)` that depends on the seed alone."""
    bits = np.random.Philox(np.random.SeedSequence(seed)).random_raw(size)
    return np.argsort(bits, kind="stable")
