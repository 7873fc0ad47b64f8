"""Constructors of whole networks, with the arguments of `keras.applications`.

Each family of networks is a module that lists its own constructors (`families`); their names here follow from it.
`preprocess_input` and `decode_predictions` stand beside each family, in its module, for instance `densenet`.
`table` counts what the networks of all papers' tables cost, beside what was published; `pretrained` lists the trained
weights that `weights="imagenet"` and the like stand for.
"""
# ruff: noqa: F403

from typing import TYPE_CHECKING

from keras_condense.applications import (
    condensenet,
    condensenet_light,
    condensenet_v2,
    densenet,
    families,
    mobilenet,
    preprocessing,
    pretrained,
    resnext,
    shufflenet,
    sparse_densenet,
    squeezenet,
    zoo,
)
from keras_condense.applications.densenet import densenet_stages
from keras_condense.applications.zoo import table

globals().update(families.constructors())

if TYPE_CHECKING:  # editors don't run the line above
    from keras_condense.applications.condensenet import *
    from keras_condense.applications.condensenet_light import *
    from keras_condense.applications.condensenet_v2 import *
    from keras_condense.applications.densenet import *
    from keras_condense.applications.mobilenet import *
    from keras_condense.applications.resnext import *
    from keras_condense.applications.shufflenet import *
    from keras_condense.applications.sparse_densenet import *
    from keras_condense.applications.squeezenet import *

__all__ = [
    *families.constructors(),
    "condensenet",
    "condensenet_light",
    "condensenet_v2",
    "densenet",
    "densenet_stages",
    "families",
    "mobilenet",
    "preprocessing",
    "pretrained",
    "resnext",
    "shufflenet",
    "sparse_densenet",
    "squeezenet",
    "table",
    "zoo",
]
