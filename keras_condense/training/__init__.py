"""Training recipes, and runs that can be killed at any moment and go on."""

from keras_condense.training.batch_norms import batch_norm_statistics
from keras_condense.training.loop import train
from keras_condense.training.process_group import process_group
from keras_condense.training.recipes import RECIPES, Recipe, compile_model, recipe_of
from keras_condense.training.time_left import TimeLeft

__all__ = [
    "RECIPES",
    "Recipe",
    "TimeLeft",
    "batch_norm_statistics",
    "compile_model",
    "process_group",
    "recipe_of",
    "train",
]
