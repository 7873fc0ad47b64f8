"""Building DenseNet201: ours and that of keras.applications, in turn in one process.

python benchmarks/build_time.py
"""

import argparse
import gc
import os
import statistics
import time
from collections.abc import Callable

from common import write_results
from rich.progress import track


def seconds_to_build(constructor: Callable) -> float:
    """Build the network with random weights, beginning with nothing left of earlier ones."""
    import keras

    keras.utils.clear_session()
    gc.collect()
    start = time.perf_counter()
    constructor(weights=None)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, help="timed buildings of each (default: %(default)s)")
    arguments = parser.parse_args()
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    import keras_condense as kc

    builders = {
        "keras_condense.applications.DenseNet201": kc.applications.DenseNet201,
        "keras.applications.DenseNet201": keras.applications.DenseNet201,
    }
    seconds = {name: [] for name in builders}
    for turn in track(range(arguments.rounds + 1), description="building"):
        for name in sorted(builders, reverse=turn % 2 == 1):  # each is first as often as the other
            taken = seconds_to_build(builders[name])
            if turn:  # the first imports and caches
                seconds[name].append(taken)
    theirs = statistics.median(seconds["keras.applications.DenseNet201"])
    rows = [
        {
            "constructor": name,
            "seconds": f"{statistics.median(values):.3f}",
            "fastest": f"{min(values):.3f}",
            "slowest": f"{max(values):.3f}",
            "to_keras": f"{statistics.median(values) / theirs:.3f}",
            "fastest_to_fastest": f"{min(values) / min(seconds['keras.applications.DenseNet201']):.3f}",
            "rounds": len(values),
        }
        for name, values in seconds.items()
    ]
    packages = ("keras-condense", "keras", "tensorflow")
    print(write_results("build_time", rows, threads=os.cpu_count(), packages=packages))
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
