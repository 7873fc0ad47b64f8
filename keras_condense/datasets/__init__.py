"""Digits, TensorFlow Datasets and folders of images, as `tf.data` that can be resumed at any epoch.

>>> from keras_condense import datasets
>>> data = datasets.load("digits")
>>> data.image_shape, data.train_size, data.test_size, data.steps_per_epoch
((16, 16, 1), 1437, 360, 23)
"""

from keras_condense.datasets.loading import Dataset, load
from keras_condense.datasets.recipes import RECIPES, Augmentation, Recipe

__all__ = ["RECIPES", "Augmentation", "Dataset", "Recipe", "load"]
