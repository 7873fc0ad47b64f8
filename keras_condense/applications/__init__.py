"""Constructors of whole networks, with the arguments of `keras.applications`.

`preprocess_input` and `decode_predictions` stand beside each family, in its module, for instance `densenet`.
`table` counts what the networks of all papers' tables cost, beside what was published; `pretrained` lists the trained
weights that `weights="imagenet"` and the like stand for.
"""

from keras_condense.applications import (
    condensenet,
    condensenet_light,
    condensenet_v2,
    densenet,
    mobilenet,
    preprocessing,
    pretrained,
    resnext,
    shufflenet,
    sparse_densenet,
    squeezenet,
    zoo,
)
from keras_condense.applications.condensenet import (
    CondenseNet,
    CondenseNet50,
    CondenseNet74,
    CondenseNet86,
    CondenseNet98,
    CondenseNet110,
    CondenseNet122,
    CondenseNet182,
    CondenseNetImageNet74G4,
    CondenseNetImageNet74G8,
)
from keras_condense.applications.condensenet_light import CondenseNetLight, CondenseNetLight94
from keras_condense.applications.condensenet_v2 import CondenseNetV2, CondenseNetV2A, CondenseNetV2B, CondenseNetV2C
from keras_condense.applications.densenet import (
    DenseNet,
    DenseNet40K12,
    DenseNet100K12,
    DenseNet100K24,
    DenseNet121,
    DenseNet169,
    DenseNet201,
    DenseNet264,
    DenseNetBC100K12,
    DenseNetBC190K40,
    DenseNetBC250K24,
    densenet_stages,
)
from keras_condense.applications.mobilenet import MobileNet, MobileNetV2
from keras_condense.applications.resnext import ResNeXt, ResNeXt50, ResNeXt101
from keras_condense.applications.shufflenet import ShuffleNet
from keras_condense.applications.sparse_densenet import SparseDenseNet, SparseDenseNet40
from keras_condense.applications.squeezenet import SqueezeNet
from keras_condense.applications.zoo import table

__all__ = [
    "CondenseNet",
    "CondenseNet50",
    "CondenseNet74",
    "CondenseNet86",
    "CondenseNet98",
    "CondenseNet110",
    "CondenseNet122",
    "CondenseNet182",
    "CondenseNetImageNet74G4",
    "CondenseNetImageNet74G8",
    "CondenseNetLight",
    "CondenseNetLight94",
    "CondenseNetV2",
    "CondenseNetV2A",
    "CondenseNetV2B",
    "CondenseNetV2C",
    "DenseNet",
    "DenseNet40K12",
    "DenseNet100K12",
    "DenseNet100K24",
    "DenseNet121",
    "DenseNet169",
    "DenseNet201",
    "DenseNet264",
    "DenseNetBC100K12",
    "DenseNetBC190K40",
    "DenseNetBC250K24",
    "MobileNet",
    "MobileNetV2",
    "ResNeXt",
    "ResNeXt50",
    "ResNeXt101",
    "ShuffleNet",
    "SparseDenseNet",
    "SparseDenseNet40",
    "SqueezeNet",
    "condensenet",
    "condensenet_light",
    "condensenet_v2",
    "densenet",
    "densenet_stages",
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
