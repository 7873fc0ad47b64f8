"""Every network of the papers' tables: what it costs as it is built here, what was published, and its file's size.

python benchmarks/zoo.py
python benchmarks/zoo.py CondenseNet86 MobileNetV2   # only these; writes nothing
"""

import argparse
import dataclasses
import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from common import write_results

import keras_condense as kc
from keras_condense.applications.published import comparable_operations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks or constructors (default: all)")
    arguments = parser.parse_args()
    table = kc.applications.table(arguments.names or None, file_size=True)
    print(table)
    if not arguments.names:
        # the operations that are to be compared with the published ones, by the rule of their paper
        rows = [
            dataclasses.asdict(row) | {"comparable_operations": comparable_operations(row, row.rule)}
            for row in table.rows
        ]
        packages = ("keras-condense", "keras", "tensorflow")
        print(write_results("zoo", rows, threads=os.cpu_count(), packages=packages))


if __name__ == "__main__":
    main()
