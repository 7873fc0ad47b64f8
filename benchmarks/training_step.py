"""A training step of CondenseNet-86 (batch 64, CPU): ours, without the mask, of stock layers, and the authors' program.

Each contestant lives in a process of its own; the parent lets them step in turn, so that all see the same machine.

    python benchmarks/training_step.py --authors path/to/CondenseNet    # a checkout of the paper's PyTorch program
    python benchmarks/training_step.py                                  # without it
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import time
import types

BATCH = 64
STAGES, GROWTH_RATES = (14, 14, 14), (8, 16, 32)
CONTESTANTS = {
    "ours": "keras_condense CondenseNet86",
    "unmasked": "the same without masks",
    "stock": "the same of stock keras.layers (Conv2D(groups=4), BatchNormalization)",
    "authors": "the authors' PyTorch program",
}


def images_and_labels():
    import numpy as np

    random = np.random.default_rng(0)
    return random.normal(size=(BATCH, 32, 32, 3)).astype("float32"), random.integers(0, 10, BATCH)


def keras_step(contestant: str, threads: int):
    """A function that does one training step on the TensorFlow backend."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    import keras

    import keras_condense as kc
    from keras_condense.training import compile_model

    def replaced(layer):
        config = layer.get_config()
        if isinstance(layer, kc.layers.LearnedGroupConv2D):
            for name in ("groups", "group_lasso", *layer.plan_config()):
                del config[name]
            kind = kc.layers.GroupConv2D if contestant == "unmasked" else keras.layers.Conv2D
            return kind.from_config(config)
        if contestant == "stock" and isinstance(layer, kc.layers.GroupConv2D):
            return keras.layers.Conv2D.from_config(config)
        if contestant == "stock" and isinstance(layer, kc.layers.BatchNormalization):
            return keras.layers.BatchNormalization.from_config(config)
        return type(layer).from_config(config)

    model = kc.applications.CondenseNet86()
    if contestant != "ours":
        model = keras.models.clone_model(model, clone_function=replaced)
    compile_model(model, steps=1000)
    model.jit_compile = False
    images, labels = images_and_labels()
    return lambda: model.train_on_batch(images, labels)


def authors_step(checkout: str, threads: int):
    """A function that does one training step of the authors' program, as its main.py does it."""
    sys.path.insert(0, checkout)
    import torch
    from models.condensenet import CondenseNet

    torch.set_num_threads(threads)
    arguments = types.SimpleNamespace(
        stages=STAGES, growth=GROWTH_RATES, data="cifar10", num_classes=10, bottleneck=4, group_1x1=4, group_3x3=4,
        condense_factor=4, dropout_rate=0.0,
    )  # fmt: skip
    model = CondenseNet(arguments).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-4, nesterov=True)
    criterion = torch.nn.CrossEntropyLoss()
    images, labels = images_and_labels()
    images, labels = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), torch.from_numpy(labels)

    def step():
        loss = criterion(model(images, 1e-3), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def worker(contestant: str, checkout: str | None, threads: int) -> None:
    """Build, do the first step, then one step for every line that comes; answer each with its seconds."""
    answers, sys.stdout = sys.stdout, sys.stderr
    start = time.perf_counter()
    step = authors_step(checkout, threads) if contestant == "authors" else keras_step(contestant, threads)
    step()
    print(time.perf_counter() - start, file=answers, flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        step()
        print(time.perf_counter() - start, file=answers, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--authors", help="path of a checkout of the authors' program; left out without it")
    parser.add_argument("--steps", type=int, default=15, help="timed steps of each (default: %(default)s)")
    parser.add_argument("--warmup", type=int, default=3, help="steps before them (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="default: %(default)s")
    parser.add_argument("--worker", choices=CONTESTANTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.authors and not pathlib.Path(arguments.authors, "models", "condensenet.py").is_file():
        parser.error(f"--authors {arguments.authors!r} must hold models/condensenet.py: a checkout of the program")
    if arguments.worker:
        worker(arguments.worker, arguments.authors, arguments.threads)
        return

    from common import print_rows, write_results

    contestants = [name for name in CONTESTANTS if name != "authors" or arguments.authors]
    processes, first_steps = {}, {}
    for name in contestants:  # one after the other: the seconds to the first step are measured alone
        command = [sys.executable, __file__, "--worker", name, "--threads", str(arguments.threads)]
        command += ["--authors", arguments.authors] if name == "authors" else []
        processes[name] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        first_steps[name] = float(processes[name].stdout.readline())
        print(f"{CONTESTANTS[name]}: first step after {first_steps[name]:.1f} s", file=sys.stderr)
    seconds = {name: [] for name in contestants}
    for turn in range(arguments.warmup + arguments.steps):
        for name in contestants:
            if name == "stock" and turn >= 4:  # tens of times slower: two timed steps tell enough
                continue
            processes[name].stdin.write("step\n")
            processes[name].stdin.flush()
            answer = float(processes[name].stdout.readline())
            if turn >= (2 if name == "stock" else arguments.warmup):
                seconds[name].append(answer)
    for process in processes.values():
        process.stdin.close()
        process.wait()
    ours = statistics.median(seconds["ours"])
    rows = [
        {
            "contestant": CONTESTANTS[name],
            "seconds_per_step": f"{statistics.median(seconds[name]):.3f}",
            "fastest": f"{min(seconds[name]):.3f}",
            "slowest": f"{max(seconds[name]):.3f}",
            "ours_to_it": f"{ours / statistics.median(seconds[name]):.3f}",
            "seconds_to_first_step": f"{first_steps[name]:.1f}",
            "steps": len(seconds[name]),
        }
        for name in contestants
    ]
    packages = ("keras-condense", "keras", "tensorflow", *(["torch"] if arguments.authors else []))
    path = write_results("training_step", rows, threads=arguments.threads, packages=packages)
    print_rows(rows, f"CondenseNet-86, batch {BATCH}: {path}")


if __name__ == "__main__":
    main()
