"""Training recipes, and runs that can be killed at any moment and go on."""

from keras_condense.training.loop import train
from keras_condense.training.recipes import RECIPES, Recipe, compile_model, recipe_of

__all__ = ["RECIPES", "Recipe", "compile_model", "recipe_of", "train"]
