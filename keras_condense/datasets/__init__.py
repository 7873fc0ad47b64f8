"""Digits, TensorFlow Datasets, folders of images and NumPy files.

`load` gives `tf.data` that can be resumed at any epoch, `load_arrays` gives arrays that can be trained on any backend,
`load_evaluation` gives test images, ImageNet's among them, as a trained network was evaluated.

>>> from keras_condense import datasets
>>> data = datasets.load("digits")
>>> data.image_shape, data.train_size, data.test_size, data.steps_per_epoch
((16, 16, 1), 1437, 360, 23)
"""

from keras_condense.datasets.arrays import ImageArrays, load_arrays
from keras_condense.datasets.evaluation import EvaluationImages, evaluation_crop, load_evaluation
from keras_condense.datasets.image_defaults import IMAGE_DEFAULTS, IMAGENET, PHOTOGRAPHS, Augmentation, ImageDefaults
from keras_condense.datasets.loading import Dataset, load

__all__ = [
    "IMAGENET",
    "IMAGE_DEFAULTS",
    "PHOTOGRAPHS",
    "Augmentation",
    "Dataset",
    "EvaluationImages",
    "ImageArrays",
    "ImageDefaults",
    "evaluation_crop",
    "load",
    "load_arrays",
    "load_evaluation",
]

Recipe, RECIPES = ImageDefaults, IMAGE_DEFAULTS  # former names
