"""`python -m runtime FILE ...` times files."""

import sys

from . import benchmark_tflite

for argument in sys.argv[1:]:
    print(benchmark_tflite(argument))
