"""Pictures for reports: trainings, learned connections, costs and exported files, drawn with matplotlib.

Each function takes data and returns a matplotlib Figure, which needs no display; `save` writes it as PNG or SVG. All
can be read in black and white. Install matplotlib with `pip install "keras-condense[plot]"`; it is imported when the
first picture is drawn.
"""

from keras_condense.pictures.drawing import check_picture, save
from keras_condense.pictures.of_connections import connections
from keras_condense.pictures.of_costs import cost
from keras_condense.pictures.of_exports import exports
from keras_condense.pictures.of_runs import run

__all__ = ["check_picture", "connections", "cost", "exports", "run", "save"]
