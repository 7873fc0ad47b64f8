"""What `import keras_condense` adds to `import keras`: fresh processes, in turn.

python benchmarks/import_time.py
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

from common import write_results
from rich.progress import track

PROGRAMS = {
    "import keras": "import time; start = time.perf_counter(); import keras; print(time.perf_counter() - start)",
    "import keras_condense, after keras": (
        "import time, keras; start = time.perf_counter(); import keras_condense; print(time.perf_counter() - start)"
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7, help="processes of each (default: %(default)s)")
    arguments = parser.parse_args()
    environment = os.environ | {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    seconds = {name: [] for name in PROGRAMS}
    for turn in track(range(arguments.runs + 1), description="importing"):
        for name, program in PROGRAMS.items():
            done = subprocess.run(
                [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
            )
            if turn:  # the first fills the disk cache
                seconds[name].append(float(done.stdout))
        time.sleep(0.1)
    rows = [
        {
            "program": name,
            "seconds": f"{statistics.median(values):.3f}",
            "fastest": f"{min(values):.3f}",
            "slowest": f"{max(values):.3f}",
            "runs": len(values),
        }
        for name, values in seconds.items()
    ]
    print(
        write_results("import_time", rows, threads=os.cpu_count(), packages=("keras-condense", "keras", "tensorflow"))
    )
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
