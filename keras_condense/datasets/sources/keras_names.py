"""The data sets of `keras.datasets`, for machines without TensorFlow or tensorflow-datasets."""

import keras

from keras_condense.datasets.pixels import check_examples
from keras_condense.datasets.request import Request
from keras_condense.datasets.sources.base import Images, Source, images_of_arrays, missing_package

__all__ = ["KerasNames"]

_NAMES = ("cifar10", "cifar100", "fashion_mnist", "mnist")


class KerasNames(Source):
    """What `keras.datasets` downloads to its own cache. Classes are called 0, 1, ..."""

    described = f"one of {', '.join(map(repr, _NAMES))}"

    @classmethod
    def open(cls, request: Request) -> "KerasNames | None":
        # the images' order is another than TensorFlow Datasets', which goes before where it is installed
        is_known = request.in_memory and request.name in _NAMES
        return cls(request) if is_known and missing_package("tensorflow", "tensorflow_datasets") else None

    @classmethod
    def names(cls) -> tuple[str, ...]:
        return _NAMES

    def read(self) -> Images:
        name = self.name
        if not self.request.download:
            raise ValueError(
                f"`download` (=False) must be True for {name!r} where tensorflow-datasets is missing, since "
                "`keras.datasets` downloads what it has not cached. Give True, or the path of an .npz file as `name`."
            )
        try:
            parts = getattr(keras.datasets, name).load_data()
        except Exception as error:
            if type(error) is not Exception and not isinstance(error, OSError):  # Keras raises a bare one for a bad URL
                raise
            raise ConnectionError(
                f"`name` (={name!r}) is not in the cache of `keras.datasets`, and it could not be downloaded, which "
                f"needs a network ({error}). Save it elsewhere with `load_arrays({name!r}).save('{name}.npz')`, bring "
                "the file here and give its path."
            ) from error
        train, test = (check_examples(f"`name` (={name!r})", images, labels) for images, labels in parts)
        return images_of_arrays(self.request, train, test, tuple(map(str, range(train[1].max() + 1))))
