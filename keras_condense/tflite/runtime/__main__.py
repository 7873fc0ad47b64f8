"""`python -m runtime FILE ...` times files; `python path/to/runtime FILE ...` does too."""

import argparse
import importlib
import pathlib
import sys

if not __package__:  # the folder was run
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
benchmark_tflite = importlib.import_module(__package__ or "runtime").benchmark_tflite

parser = argparse.ArgumentParser(prog="runtime", description="Time .tflite files on this device.")
parser.add_argument("files", nargs="+", metavar="FILE.tflite")
parser.add_argument("--threads", type=int, default=1, metavar="N", help="default: %(default)s")
parser.add_argument("--runs", type=int, default=50, metavar="N", help="inferences of each file (default: %(default)s)")
arguments = parser.parse_args()
for file in arguments.files:
    try:
        print(benchmark_tflite(file, runs=arguments.runs, threads=arguments.threads))
    except ValueError as error:
        sys.exit(f"error: {error}")
