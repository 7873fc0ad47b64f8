"""Pictures for reports: trainings, learned connections, costs and exported files, drawn with matplotlib.

Each function takes data and returns a matplotlib Figure, which needs no display; `save` writes it as PNG or SVG. All
can be read in black and white. `ConnectionPictures` and `tensorboard_callbacks` are callbacks that show a training in
TensorBoard. Matplotlib is imported when the first picture is drawn: `pip install "keras-condense[plot]"`.
"""

from keras_condense.pictures.drawing import check_picture, save
from keras_condense.pictures.of_connections import connections
from keras_condense.pictures.of_costs import cost
from keras_condense.pictures.of_exports import exports
from keras_condense.pictures.of_runs import run
from keras_condense.pictures.of_sensitivity import sensitivity
from keras_condense.pictures.tensorboard import ConnectionPictures, tensorboard_callbacks, write_run_pictures

__all__ = [
    "ConnectionPictures",
    "check_picture",
    "connections",
    "cost",
    "exports",
    "run",
    "save",
    "sensitivity",
    "tensorboard_callbacks",
    "write_run_pictures",
]
