"""Random networks, masked, condensed and lowered in every way, compared with each other.

python benchmarks/random_networks.py                      # 5000 networks, about 40 minutes
python benchmarks/random_networks.py --first 5000 -n 100  # others than the first; writes nothing
"""

import argparse
import os
import pathlib
import sys

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests"))

import keras
from common import write_results
from random_networks import check, random_program, shrunk, still_fails
from rich.console import Console
from rich.progress import track

NETWORKS, TABLES = 5000, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0, help="the first network's seed (default: %(default)s)")
    parser.add_argument("-n", "--networks", type=int, default=NETWORKS, help="how many (default: %(default)s)")
    arguments = parser.parse_args()
    graphs, condensed, lowered, failures = 0, 0.0, 0.0, 0
    seeds = range(arguments.first, arguments.first + arguments.networks)
    for seed in track(seeds, console=Console(stderr=True)):
        program = random_program(seed)
        result = check(program, tables=TABLES)
        graphs += result.graphs
        if result.failure:
            failures += 1
            small = shrunk(program, still_fails(result.failure))
            print(f"network {seed}, {result.failure}:\n\n{small.source()}", flush=True)
        else:
            condensed, lowered = max(condensed, result.condensed), max(lowered, result.lowered)
        if seed % 50 == 0:
            keras.backend.clear_session()
    row = {
        "first_seed": arguments.first,
        "networks": arguments.networks,
        "graphs": graphs,
        "tables_of_costs": TABLES,
        "largest_relative_error_condensed": f"{condensed:.1e}",
        "largest_relative_error_graph": f"{lowered:.1e}",
        "failures": failures,
    }
    print(row)
    if arguments.first == 0:
        packages = ("keras-condense", "keras", "tensorflow")
        print(write_results("random_networks", [row], threads=os.cpu_count(), packages=packages))


if __name__ == "__main__":
    main()
