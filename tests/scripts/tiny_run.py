"""The arguments of a training that takes seconds."""

import pathlib

SCRIPTS = pathlib.Path(__file__).parents[2] / "scripts"
TINY = ["--stages", "1-1", "--growth-rates", "4-4", "--groups", "2", "--condense-factor", "2", "--verbose", "2"]
# dropout, so that a resumed run must draw the same random numbers too
RUN = ["--epochs", "4", *TINY, "--dropout-rate", "0.3", "--seed", "3"]
