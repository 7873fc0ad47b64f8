"""`.npz` files: those of `ImageArrays.save`, and others of the same arrays."""

import warnings

import numpy as np

from keras_condense.archives import check_archive
from keras_condense.datasets.pixels import check_examples
from keras_condense.datasets.request import Request
from keras_condense.datasets.sources.base import Images, Source, images_of_arrays
from keras_condense.files import check_readable
from keras_condense.validation import shown_text

__all__ = ["ArrayFile"]

_ARRAYS = ("x_train", "y_train", "x_test", "y_test")


class ArrayFile(Source):
    """A file of x_train, y_train, x_test, y_test, and class_names if it has them; its stem is its name."""

    described = "an .npz file"

    def __init__(self, request: Request):
        super().__init__(request)
        self.name = self.defaults = request.path.stem
        self.location = str(request.path.resolve())

    @classmethod
    def open(cls, request: Request) -> "ArrayFile | None":
        return cls(request) if request.path.suffix == ".npz" else None

    def read(self) -> Images:
        path = self.request.path
        described, arrays = f"`name` (={str(path)!r}", self._arrays()
        fix = "Make it with `ImageArrays.save` or `numpy.savez`."
        if missing := [name for name in _ARRAYS if name not in arrays]:
            raise ValueError(f"{described}) must hold {', '.join(_ARRAYS)}, and lacks {', '.join(missing)}. {fix}")
        train, test = (
            check_examples(f"{described}, x_{part} and y_{part})", arrays[f"x_{part}"], arrays[f"y_{part}"])
            for part in ("train", "test")
        )
        if train[0].shape[1:] != test[0].shape[1:]:
            raise ValueError(
                f"{described}) must hold training and test images of one size, and they are "
                f"{train[0].shape[1:]} and {test[0].shape[1:]}. Resize some of them."
            )
        classes = 1 + int(max(train[1].max(), test[1].max()))
        class_names = tuple(map(str, np.ravel(arrays.get("class_names", range(classes)))))
        if len(class_names) < classes:
            raise ValueError(
                f"{described}) must have a name for each class in class_names, and has {len(class_names)} for "
                f"labels up to {classes - 1}. Leave class_names out, or add the missing ones."
            )
        return images_of_arrays(self.request, train, test, class_names)

    def _arrays(self) -> dict[str, np.ndarray]:
        path = self.request.path
        check_readable("name", path)
        try:
            check_archive(path)
            with open(path, "rb") as opened, warnings.catch_warnings():  # NumPy leaves open what it can't read
                warnings.simplefilter("error")  # it warns of headers that it guesses the meaning of
                file = np.load(opened, allow_pickle=False)
                arrays = {name: file[name] for name in (*_ARRAYS, "class_names") if name in file}
                if others := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
                    raise ValueError(f"{', '.join(others)} in it is not an array")
        except (Exception, Warning) as error:  # a stranger's file can end in any
            raise ValueError(
                f"`name` (={str(path)!r}) must be a whole .npz file of numbers, and can't be read "
                f"({type(error).__name__}: {shown_text(error)}). Make it with `ImageArrays.save` or `numpy.savez`."
            ) from error
        return arrays
