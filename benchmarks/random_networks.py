"""Random networks, masked, condensed and lowered in every way, compared with each other.

python benchmarks/random_networks.py                      # 5000 networks, about half an hour on two cores
python benchmarks/random_networks.py --first 5000 -n 100  # others than the first; writes nothing
"""

import argparse
import concurrent.futures
import multiprocessing
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
AT_ONCE = 50  # networks that a process checks before it is given others


def checked(seeds: range, tables: int) -> dict[str, float]:
    """Check some networks, print those that fail, and return the figures."""
    found = {"graphs": 0, "condensed": 0.0, "lowered": 0.0, "failures": 0}
    for seed in seeds:
        program = random_program(seed)
        result = check(program, tables=tables)
        found["graphs"] += result.graphs
        if result.failure:
            found["failures"] += 1
            small = shrunk(program, still_fails(result.failure))
            print(f"network {seed}, {result.failure}:\n\n{small.source()}", flush=True)
        else:
            for name in ("condensed", "lowered"):
                found[name] = max(found[name], getattr(result, name))
    keras.backend.clear_session()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0, help="the first network's seed (default: %(default)s)")
    parser.add_argument("-n", "--networks", type=int, default=NETWORKS, help="how many (default: %(default)s)")
    parser.add_argument("--tables", type=int, default=TABLES, help="random tables of costs (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (default: %(default)s)")
    arguments = parser.parse_args()
    seeds = range(arguments.first, arguments.first + arguments.networks)
    parts = [seeds[start : start + AT_ONCE] for start in range(0, len(seeds), AT_ONCE)]
    # TensorFlow does not survive a fork
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(arguments.jobs, mp_context=context) as pool:
        done = pool.map(checked, parts, [arguments.tables] * len(parts))
        found = list(track(done, total=len(parts), console=Console(stderr=True)))
    row = {
        "first_seed": arguments.first,
        "networks": arguments.networks,
        "graphs": sum(part["graphs"] for part in found),
        "tables_of_costs": arguments.tables,
        "largest_relative_error_condensed": f"{max(part['condensed'] for part in found):.1e}",
        "largest_relative_error_graph": f"{max(part['lowered'] for part in found):.1e}",
        "failures": sum(part["failures"] for part in found),
    }
    print(row)
    if arguments.first == 0:
        packages = ("keras-condense", "keras", "tensorflow")
        print(write_results("random_networks", [row], threads=os.cpu_count(), packages=packages))


if __name__ == "__main__":
    main()
