"""A training step with and without `memory_efficient=True` (DenseNet-BC-100, k=12, batch 64, CPU): memory and time.

Each variant lives in a process of its own, whose peak memory is the largest resident size so far less that before the
first step. The parent lets them step in turn, so that all see the same machine.

    python benchmarks/memory_efficient.py
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time

VARIANTS = {"as usual": False, "memory_efficient=True": True}
NETWORKS = ("DenseNetBC100K12", "CondenseNet86")


def training_step(network: str, memory_efficient: bool, batch: int, threads: int):
    """A function that does one training step on the TensorFlow backend."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import numpy as np
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    import keras_condense as kc
    from keras_condense.training import compile_model

    model = getattr(kc.applications, network)(memory_efficient=memory_efficient)
    compile_model(model, steps=1000)
    model.jit_compile = False  # compiling the whole step with XLA takes minutes on the CPU
    random = np.random.default_rng(0)
    images, labels = random.normal(size=(batch, 32, 32, 3)).astype("float32"), random.integers(0, 10, batch)
    return lambda: model.train_on_batch(images, labels)


def peak_megabytes() -> float:
    """The largest resident size of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024  # kilobytes, on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def worker(network: str, memory_efficient: bool, batch: int, threads: int) -> None:
    """Build, then one step for every line that comes; answer each with its seconds and the peak memory until then."""
    answers, sys.stdout = sys.stdout, sys.stderr
    step = training_step(network, memory_efficient, batch, threads)
    before = peak_megabytes()
    for _ in sys.stdin:
        start = time.perf_counter()
        step()
        print(time.perf_counter() - start, peak_megabytes() - before, file=answers, flush=True)


def measured(network: str, arguments: argparse.Namespace) -> list[dict]:
    """A row for each variant of a network."""
    processes = {}
    for variant in VARIANTS:
        command = [sys.executable, __file__, "--worker", variant, "--networks", network]
        command += ["--batch", str(arguments.batch), "--threads", str(arguments.threads)]
        processes[variant] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    answers = {variant: [] for variant in VARIANTS}
    for _ in range(arguments.warmup + arguments.steps):
        for variant, process in processes.items():
            process.stdin.write("step\n")
            process.stdin.flush()
            answers[variant].append(tuple(map(float, process.stdout.readline().split())))
    for process in processes.values():
        process.stdin.close()
        process.wait()
    seconds = {variant: [answer[0] for answer in answers[variant][arguments.warmup :]] for variant in VARIANTS}
    memory = {variant: answers[variant][-1][1] for variant in VARIANTS}
    usual = next(iter(VARIANTS))
    return [
        {
            "network": network,
            "variant": variant,
            "batch": arguments.batch,
            "peak_megabytes": f"{memory[variant]:.0f}",
            "memory_to_usual": f"{memory[variant] / memory[usual]:.3f}",
            "seconds_per_step": f"{statistics.median(seconds[variant]):.3f}",
            "fastest": f"{min(seconds[variant]):.3f}",
            "slowest": f"{max(seconds[variant]):.3f}",
            "time_to_usual": f"{statistics.median(seconds[variant]) / statistics.median(seconds[usual]):.3f}",
            "seconds_to_first_step": f"{answers[variant][0][0]:.1f}",
            "steps": arguments.steps,
        }
        for variant in VARIANTS
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=NETWORKS, help="constructors (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=64, help="images per step (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=9, help="timed steps of each (default: %(default)s)")
    parser.add_argument("--warmup", type=int, default=2, help="steps before them (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="default: %(default)s")
    parser.add_argument("--worker", choices=VARIANTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments.networks[0], VARIANTS[arguments.worker], arguments.batch, arguments.threads)
        return

    from common import print_rows, write_results

    rows = [row for network in arguments.networks for row in measured(network, arguments)]
    packages = ("keras-condense", "keras", "tensorflow")
    path = write_results("memory_efficient", rows, threads=arguments.threads, packages=packages)
    print_rows(rows, str(path))


if __name__ == "__main__":
    main()
