"""Callbacks: when layers drop connections while `fit` trains them."""

from keras_condense.callbacks.schedule import CondenseSchedule, check_last_drop
from keras_condense.layers import condensable_layers

learned_layers = condensable_layers  # where it was once, and its former name

__all__ = ["CondenseSchedule", "check_last_drop", "learned_layers"]
