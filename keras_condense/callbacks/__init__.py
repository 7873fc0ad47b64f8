"""Callbacks: when layers drop connections while `fit` trains them, and which network is kept."""

from keras_condense.callbacks.best import BestCondensed
from keras_condense.callbacks.quantize import QuantizeSchedule
from keras_condense.callbacks.schedule import CondenseSchedule, check_last_drop
from keras_condense.layers import condensable_layers

learned_layers = condensable_layers  # where it was once, and its former name

__all__ = ["BestCondensed", "CondenseSchedule", "QuantizeSchedule", "check_last_drop", "learned_layers"]
