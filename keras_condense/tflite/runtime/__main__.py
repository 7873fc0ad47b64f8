"""`python -m runtime FILE ...` times files."""

import sys

from . import benchmark_tflite

if len(sys.argv) == 1:
    sys.exit("usage: python -m runtime FILE.tflite ...")
for argument in sys.argv[1:]:
    try:
        print(benchmark_tflite(argument))
    except ValueError as error:
        sys.exit(f"error: {error}")
