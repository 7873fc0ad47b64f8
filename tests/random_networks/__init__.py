"""Random functional networks of this package's layers among Keras' own, in all the ways of lowering each one.

`check` holds the masked network, the condensed one, and every candidate of every target against each other; a form that
is never chosen today must be right when the costs are measured again. A network that fails is printed as a program.
"""

from random_networks.checking import check, difference, inputs_of, outputs_of
from random_networks.generator import random_program
from random_networks.programs import Program, finished
from random_networks.settings import held
from random_networks.shrinking import shrunk, still_fails

__all__ = [
    "Program",
    "check",
    "difference",
    "finished",
    "held",
    "inputs_of",
    "outputs_of",
    "random_program",
    "shrunk",
    "still_fails",
]
