"""A training step of ResNeXt-50 and ShuffleNet on the CPU: with our layers, with stock keras.layers, and in PyTorch.

The stock network is a clone of ours, of equal weights, whose `GroupConv2D` are `keras.layers.Conv2D(groups=...)` and
whose `BatchNormalization` are Keras' own; the losses of the first step are compared. PyTorch's network is pytorchcv's,
left out where torch or pytorchcv is missing. Each contestant lives in a process of its own; the parent lets those of a
network step in turn, so that all see the same machine.

    python benchmarks/grouped_training.py
    python benchmarks/grouped_training.py --networks "ResNeXt-50 (32x4d)" --batch 16 --size 96
"""

import argparse
import importlib.util
import math
import os
import statistics
import subprocess
import sys
import time

# by their names in the papers' tables: constructor, its arguments, a batch that stock layers finish within a minute,
# and the module and function of pytorchcv
NETWORKS = {
    "ResNeXt-50 (32x4d)": ("ResNeXt50", {}, 2, ("resnext", "resnext50_32x4d")),
    "ShuffleNet 1x (g=3)": ("ShuffleNet", {"groups": 3}, 8, ("shufflenet", "shufflenet_g3_w1")),
    "ShuffleNet 1x (g=8)": ("ShuffleNet", {"groups": 8}, 8, ("shufflenet", "shufflenet_g8_w1")),
}
CONTESTANTS = {
    "ours": "keras_condense.layers",
    "stock": "keras.layers",
    "pytorch": "PyTorch (pytorchcv)",
}
STEPS_A_ROUND = {"ours": 5, "stock": 1, "pytorch": 5}  # stock layers are tens of times slower: a few steps tell enough
TARGET = 10  # times faster a step


def with_stock_layers(model):
    """A clone of `model` made of keras.layers, with its weights."""
    import keras

    import keras_condense as kc

    def replaced(layer):
        stock = {
            kc.layers.GroupConv2D: keras.layers.Conv2D,
            kc.layers.BatchNormalization: keras.layers.BatchNormalization,
        }
        return stock.get(type(layer), type(layer)).from_config(layer.get_config())

    clone = keras.models.clone_model(model, clone_function=replaced)
    clone.set_weights(model.get_weights())
    return clone


def has_pytorch() -> bool:
    """Whether torch and pytorchcv are installed."""
    return all(importlib.util.find_spec(package) for package in ("torch", "pytorchcv"))


def images_and_labels(batch: int, size: int):
    """The same for all contestants: images (batch, size, size, 3), and classes."""
    import numpy as np

    random = np.random.default_rng(0)
    return random.normal(size=(batch, size, size, 3)).astype("float32"), random.integers(0, 1000, batch)


def keras_step(network: str, contestant: str, batch: int, size: int, threads: int):
    """A function that does one training step on the TensorFlow backend and returns the loss before it."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    import keras

    import keras_condense as kc
    from keras_condense.training import compile_model

    keras.utils.set_random_seed(0)
    constructor, arguments, *_ = NETWORKS[network]
    model = getattr(kc.applications, constructor)(**arguments, input_shape=(size, size, 3))
    if contestant == "stock":
        model = with_stock_layers(model)
    compile_model(model, steps=1000)
    # what Keras itself chooses on the CPU; compiled as a whole, the stock ResNeXt-50 took two to three times as long
    model.jit_compile = False
    images, labels = images_and_labels(batch, size)
    return lambda: float(model.train_on_batch(images, labels)[0])


def pytorch_step(network: str, batch: int, size: int, threads: int):
    """The same of pytorchcv's network with PyTorch's SGD, whose settings are those of ours."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    module, function = NETWORKS[network][3]
    model = getattr(importlib.import_module(f"pytorchcv.models.{module}"), function)(in_size=(size, size)).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-4, nesterov=True)
    images, labels = images_and_labels(batch, size)
    images, labels = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), torch.from_numpy(labels)

    def step():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def worker(network: str, contestant: str, batch: int, size: int, threads: int) -> None:
    """Build, do the first step, then one step for every line that comes; answer each with its seconds and the loss."""
    answers, sys.stdout = sys.stdout, sys.stderr
    start = time.perf_counter()
    if contestant == "pytorch":
        step = pytorch_step(network, batch, size, threads)
    else:
        step = keras_step(network, contestant, batch, size, threads)
    print(step(), time.perf_counter() - start, file=answers, flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        print(step(), time.perf_counter() - start, file=answers, flush=True)


def answer(process: subprocess.Popen) -> tuple[float, float]:
    """The loss and the seconds of a worker's step."""
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"A worker ended before its answer: {' '.join(process.args)}")
    loss, seconds = map(float, line.split())
    return loss, seconds


def seconds_of_step(process: subprocess.Popen) -> float:
    """Have a worker do one step."""
    process.stdin.write("step\n")
    process.stdin.flush()
    return answer(process)[1]


def measure(network: str, arguments: argparse.Namespace) -> list[dict]:
    """The rows of one network, ours first."""
    contestants = [name for name in CONTESTANTS if name != "pytorch" or has_pytorch()]
    batch, size, threads = arguments.batch or NETWORKS[network][2], arguments.size, arguments.threads
    processes, losses, first_steps = {}, {}, {}
    for name in contestants:  # one after the other: the seconds to the first step are measured alone
        command = [sys.executable, __file__, "--worker", network, name]
        command += [f"--batch={batch}", f"--size={size}", f"--threads={threads}"]
        processes[name] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        losses[name], first_steps[name] = answer(processes[name])
        print(f"{network}, {CONTESTANTS[name]}: first step after {first_steps[name]:.1f} s", file=sys.stderr)
    # float32 sums in another order, through all layers
    if not math.isclose(losses["ours"], losses["stock"], rel_tol=1e-3):
        raise SystemExit(
            f"{network}: the losses of the first step (={losses}) must agree, or these are not the same network. If "
            "`--batch` or `--size` is very small, enlarge it: norms over a handful of values magnify rounding."
        )
    for name in contestants:
        for _ in range(arguments.warmup if STEPS_A_ROUND[name] > 1 else 0):  # the long first step has warmed up stock
            seconds_of_step(processes[name])
    seconds = {name: [] for name in contestants}
    for _ in range(arguments.rounds):
        for name in contestants:
            seconds[name] += [seconds_of_step(processes[name]) for _ in range(STEPS_A_ROUND[name])]
    for process in processes.values():
        process.stdin.close()
        process.wait()
    ours = statistics.median(seconds["ours"])
    return [
        {
            "network": network,
            "layers": CONTESTANTS[name],
            "seconds_per_step": f"{statistics.median(seconds[name]):.3f}",
            "fastest": f"{min(seconds[name]):.3f}",
            "slowest": f"{max(seconds[name]):.3f}",
            "times_ours": f"{statistics.median(seconds[name]) / ours:.1f}",
            "seconds_to_first_step": f"{first_steps[name]:.1f}",
            "steps": len(seconds[name]),
            "batch": batch,
            "image": f"{size}x{size}",
        }
        for name in contestants
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS, help="default: all")
    parser.add_argument("--batch", type=int, help="images per step (default: 2 with ResNeXt, 8 with ShuffleNet)")
    parser.add_argument("--size", type=int, default=224, help="their height and width (default: %(default)s)")
    parser.add_argument(
        "--rounds",
        type=int,
        default=2,
        help="five timed steps of ours, one of stock, five of PyTorch (default: %(default)s)",
    )
    parser.add_argument("--warmup", type=int, default=3, help="steps before them (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="default: %(default)s")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    for name in ("batch", "size", "rounds", "threads"):
        if (value := getattr(arguments, name)) is not None and value < 1:
            parser.error(f"--{name} (={value}) must be at least 1")
    if arguments.worker:
        worker(*arguments.worker, arguments.batch, arguments.size, arguments.threads)
        return

    from common import print_rows, write_results

    rows = [row for network in arguments.networks for row in measure(network, arguments)]
    packages = ("keras-condense", "keras", "tensorflow", *(("torch", "pytorchcv") if has_pytorch() else ()))
    path = write_results("grouped_training", rows, threads=arguments.threads, packages=packages)
    print_rows(rows, f"a training step, target {TARGET} times faster: {path}")


if __name__ == "__main__":
    main()
