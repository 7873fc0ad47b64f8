"""`python -m runtime FILE ...` times files; `python path/to/runtime FILE ...` does too."""

import argparse
import importlib
import pathlib
import sys


def main() -> None:
    """Time the files that the command line names."""
    parser = argparse.ArgumentParser(prog="runtime", description="Time .tflite files on this device.")
    parser.add_argument("files", nargs="+", metavar="FILE.tflite")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="default: %(default)s")
    parser.add_argument("--runs", type=int, default=50, metavar="N", help="inferences of a file (default: %(default)s)")
    arguments = parser.parse_args()
    if not __package__:  # the folder was run
        sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
    runtime = importlib.import_module(__package__ or "runtime")
    for file in arguments.files:
        try:
            print(runtime.benchmark_tflite(file, runs=arguments.runs, threads=arguments.threads))
        except ValueError as error:
            sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
