"""Seconds to export the condensed ImageNet network (G=C=8): `export_tflite` and TensorFlow's converter, in turn.

python benchmarks/export_time.py
"""

import argparse
import os
import statistics
import time

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
from common import write_results
from rich.progress import track

import keras_condense as kc


def ours(condensed) -> bytes:
    return kc.export_tflite(condensed)


def naive(condensed) -> bytes:
    """What a user of TensorFlow writes."""
    return tf.lite.TFLiteConverter.from_keras_model(condensed).convert()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="exports with each (default: %(default)s)")
    arguments = parser.parse_args()
    condensed = kc.condense(kc.applications.CondenseNetImageNet74G8(), finish=True)
    exporters = {"export_tflite": ours, "TFLiteConverter.from_keras_model": naive}
    seconds, sizes = {name: [] for name in exporters}, {}
    for _ in track(range(arguments.runs), description="exporting"):
        for name, export in exporters.items():
            start = time.perf_counter()
            sizes[name] = len(export(condensed))
            seconds[name].append(time.perf_counter() - start)
    rows = [
        {
            "exporter": name,
            "seconds": f"{statistics.median(values):.1f}",
            "fastest": f"{min(values):.1f}",
            "slowest": f"{max(values):.1f}",
            "runs": len(values),
            "file_bytes": sizes[name],
        }
        for name, values in seconds.items()
    ]
    print(
        write_results("export_time", rows, threads=os.cpu_count(), packages=("keras-condense", "keras", "tensorflow"))
    )
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
