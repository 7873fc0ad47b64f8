"""scikit-learn's handwritten digits, which are part of its package."""

import dataclasses

import numpy as np

from keras_condense.datasets.image_defaults import IMAGE_DEFAULTS
from keras_condense.datasets.request import Request
from keras_condense.datasets.sources.base import Images, Source, images_of_arrays, stratified_split

__all__ = ["Digits"]

_TEST_SIZE = 360


class Digits(Source):
    """1797 digits (8x8, 16 grays), the same 360 always held out for the test."""

    described = "'digits'"

    @classmethod
    def open(cls, request: Request) -> "Digits | None":
        return cls(request) if request.name == "digits" else None

    @classmethod
    def names(cls) -> tuple[str, ...]:
        return ("digits",)

    def read(self) -> Images:
        from sklearn.datasets import load_digits

        digits = load_digits()
        gray = np.rint(digits.images * (255 / 16)).astype("uint8")[..., None]
        parts = stratified_split(digits.target, _TEST_SIZE, seed=0, argument="digits")
        train, test = ((gray[part], digits.target[part]) for part in parts)
        size = self.request.image_size or IMAGE_DEFAULTS["digits"].image_size
        request = dataclasses.replace(self.request, image_size=size)
        return images_of_arrays(request, train, test, tuple(map(str, digits.target_names)))
