"""Bytes that devices exchange in a training step under `keras.distribution.DataParallel` on JAX: counted and measured.

Counted from the network's variables. Measured in the program that XLA makes of Keras' training step for two virtual CPU
devices: each network takes two steps in a process of its own, one dense and one after all drops, and the operands of
the collectives in the program's text are added up. `scaling.py` says what follows for many devices.

    python benchmarks/exchange.py
    python benchmarks/exchange.py --networks CondenseNet86

Each network has a row with batch norms that take the statistics of the whole batch, and one with those of each device's
images: `train(batch_norms=)`.
"""

import argparse
import importlib.util
import itertools
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import tempfile

# constructor: images a step. Each device takes two: what is exchanged does not grow with them
NETWORKS = {"CondenseNet86": 4, "CondenseNet182": 4, "CondenseNetImageNet74G4": 4, "CondenseNetImageNet74G8": 4}
KINDS = ("synchronized", "local")  # of batch norms
DEVICES = 2
FLOAT = 4  # bytes
STEPS = "*jit_train_step*after_optimizations.txt"  # files of training steps that XLA made
COLLECTIVE = re.compile(
    r"= (?P<results>.+?) (?P<kind>all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all|"
    r"collective-broadcast)(?:-start)?\((?P<operands>.*?)\)(?:,|$)",
    re.MULTILINE,
)
ARRAY = re.compile(r"(?P<type>pred|bf16|[a-z]\d+)\[(?P<shape>[\d,]*)\]")


def collectives(program: str) -> list[int]:
    """The bytes of each collective of a program, what all its operands hold on one device.

    Args:
        program: text of an optimized XLA program. Only all-reduces are expected, whose results are as large as their
            operands.

    Raises:
        ValueError: another kind of collective.

    Example:
        >>> one = "%a = f32[3,2]{1,0} all-reduce(%x), channel_id=1"
        >>> two = "ROOT %b = (f32[], /*index=1*/bf16[4]{0}) all-reduce(%y, %z), channel_id=2"
        >>> collectives(f"{one} {two} %c = f32[8]{{0}} add(%a, %b)")
        [24, 12]
    """
    found = []
    for match in COLLECTIVE.finditer(program):
        if match["kind"] != "all-reduce":
            raise ValueError(f"the program has a collective of another kind than all-reduce: {match[0]}")
        found.append(sum(array_bytes(array) for array in ARRAY.finditer(match["results"])))
    return found


def array_bytes(array: re.Match) -> int:
    """The bytes of an array that `ARRAY` found."""
    bits = 8 if array["type"] == "pred" else int(re.sub(r"\D", "", array["type"]))
    return bits // 8 * math.prod(int(size) for size in array["shape"].split(",") if size)


def counted(parameters: int, normalized_channels: int, batch_norms: int, kind: str = "synchronized") -> dict[str, int]:
    """What a step has to exchange, counted from the network.

    - gradients: of each trainable parameter, dropped or not.
    - statistics: of each channel of each batch norm four numbers, the sums over the whole batch of the forward pass
      (Keras sums for the mean, and again for the mean within the variance, and for the variance) and one of the
      backward pass (the gradient of that mean). The other two of the backward pass are gradients of scale and offset.
      Local ones are two numbers that are kept, of each channel.
    - others: loss and accuracy.
    - exchanges: the batch norms' wait for each other, two forward and two backward; the rest is joined in one, local
      statistics included.

    Example:
        >>> counted(690, 36, 3)
        {'gradient_bytes': 2760, 'statistics_bytes': 576, 'other_bytes': 8, 'exchanges': 13}
        >>> counted(690, 36, 3, "local")
        {'gradient_bytes': 2760, 'statistics_bytes': 288, 'other_bytes': 8, 'exchanges': 1}
    """
    is_local = kind == "local"
    return {
        "gradient_bytes": FLOAT * parameters,
        "statistics_bytes": (2 if is_local else 4) * FLOAT * normalized_channels,
        "other_bytes": 2 * FLOAT,
        "exchanges": 1 if is_local else 4 * batch_norms + 1,
    }


def worker(network: dict, folder: pathlib.Path) -> dict:
    """What is counted and measured of a network.

    Args:
        network: its constructor, arguments, images a step, and the kind of its batch norms.
        folder: where XLA writes the programs that it makes.
    """
    import keras
    import numpy as np

    import keras_condense as kc
    from keras_condense.callbacks import learned_layers
    from keras_condense.training import batch_norm_statistics

    keras.utils.set_random_seed(0)
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    model = getattr(kc.applications, network["constructor"])(**network["arguments"])
    kc.training.compile_model(model, steps=1000)
    parameters = sum(math.prod(variable.shape) for variable in model.trainable_variables)
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    channels = sum(layer.moving_mean.shape[0] for layer in norms)
    multiply_adds = kc.profile_model(model).macs
    images = np.zeros((network["batch"], *model.input_shape[1:]), "float32")
    labels = np.zeros(network["batch"], "int32")
    steps = []
    with batch_norm_statistics(model, network["kind"]):
        for _ in ("dense", "after all drops"):
            model.train_on_batch(images, labels)
            programs = sorted(folder.glob(STEPS))
            steps.append([collectives(program.read_text(encoding="utf-8")) for program in programs])
            for layer in learned_layers(model):
                layer.condense_to(layer.final_stage)
    (dense,), after = steps[0], steps[1]  # the same program again, or another that exchanges the same
    if any(sorted(program) != sorted(dense) for program in after):
        raise ValueError(f"a step after the drops exchanges {list(map(sum, after))} bytes, one before {sum(dense)}")
    return {
        "million_multiply_adds": multiply_adds / 1e6,
        "parameters": parameters,
        "parameters_after_drops": kc.profile_model(model).parameters,
        "batch_norms": len(norms),
        "mask_bytes": sum(FLOAT * math.prod(layer.mask.shape) for layer in learned_layers(model)),
        "counted": counted(parameters, channels, len(norms), network["kind"]),
        "measured_bytes": sum(dense),
        "measured_exchanges": len(dense),
        "programs": len(after),
    }


def dump_flags(folder: str | pathlib.Path) -> str:
    """The `XLA_FLAGS` with which XLA writes each training step that it makes to a folder, as text."""
    return f"--xla_dump_to={folder} --xla_dump_hlo_as_text --xla_dump_hlo_module_re=jit_train_step"


def measured(constructor: str, arguments: dict, batch: int, kind: str) -> dict:
    """What `worker` says of a network, in a process with two virtual devices."""
    with tempfile.TemporaryDirectory() as folder:
        # what is exchanged is settled before LLVM begins, whose work takes least at level 0
        flags = f"--xla_force_host_platform_device_count={DEVICES} --xla_backend_optimization_level=0"
        environment = os.environ | {
            "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3",
            "XLA_FLAGS": f"{flags} {dump_flags(folder)}",
        }  # fmt: skip
        network = json.dumps({"constructor": constructor, "arguments": arguments, "batch": batch, "kind": kind})
        command = [sys.executable, __file__, "--worker", network, "--folder", folder]
        return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment).stdout)


def row(constructor: str, kind: str) -> dict:
    """A row of the table."""
    batch = NETWORKS[constructor]
    found = measured(constructor, {}, batch, kind)
    of_step = found["counted"]
    total = of_step["gradient_bytes"] + of_step["statistics_bytes"] + of_step["other_bytes"]
    left = FLOAT * found["parameters_after_drops"]
    return {
        "network": constructor,
        "kind": kind,
        "trainable_parameters": found["parameters"],
        "gradient_bytes": of_step["gradient_bytes"],
        "statistics_bytes": of_step["statistics_bytes"],
        "other_bytes": of_step["other_bytes"],
        "counted_bytes": total,
        "measured_bytes": found["measured_bytes"],
        "difference": found["measured_bytes"] - total,
        "counted_exchanges": of_step["exchanges"],
        "measured_exchanges": found["measured_exchanges"],
        "programs": found["programs"],
        "batch_norms": found["batch_norms"],
        "parameters_after_drops": found["parameters_after_drops"],
        "gradient_bytes_after_drops": left,
        "share_after_drops": f"{left / of_step['gradient_bytes']:.2f}",
        "mask_bytes": found["mask_bytes"],
        "million_multiply_adds": f"{found['million_multiply_adds']:.1f}",
        "batch": batch,
        "devices": DEVICES,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), metavar="NETWORK",
                        help="constructors; rows of others are kept (default: %(default)s)")  # fmt: skip
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=pathlib.Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        answers, sys.stdout = sys.stdout, sys.stderr
        print(json.dumps(worker(json.loads(arguments.worker), arguments.folder)), file=answers)
        return
    if importlib.util.find_spec("jax") is None:
        parser.error("jax must be installed to measure what its training exchanges, and is not: pip install jax")

    from common import RESULTS, conditions, print_rows, read_rows, write_rows

    path = RESULTS / "exchange.csv"
    beside = conditions(threads=os.cpu_count(), packages=("keras-condense", "keras", "jax"))
    for network, kind in itertools.product(arguments.networks, KINDS):
        rows = {(one["network"], one["kind"]): one for one in read_rows(path)} | {
            (network, kind): row(network, kind) | beside
        }
        write_rows(path, [rows[key] for key in itertools.product(NETWORKS, KINDS) if key in rows])
    print_rows(read_rows(path), str(path))


if __name__ == "__main__":
    main()
