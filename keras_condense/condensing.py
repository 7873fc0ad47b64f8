"""The former name of `keras_condense.drop_plans` and `keras_condense.masks`, kept for programs that use it."""

from keras_condense.drop_plans import *  # noqa: F403
from keras_condense.masks import *  # noqa: F403
