"""What to expect of 8, 64 and 256 devices under data parallelism: a model, nothing is measured here.

Bytes and exchanges come from `results/exchange.csv`; links and devices are assumptions, which stand below and in the
table. With your own device's images a second, measured in training on one device, nothing is written:

    python benchmarks/scaling.py
    python benchmarks/scaling.py --networks CondenseNet86 --images-a-second 4000
"""

import argparse
import itertools
import math
from typing import NamedTuple

OPERATIONS_A_SECOND, UTILISATION = 100e12, 0.1  # assumed of a device: its peak, and the share of it that is reached
DEVICES = (8, 64, 256)
MIDDLE = 64  # of these, milliseconds stand in the table too


class Link(NamedTuple):
    """What an assumed network can do."""

    bandwidth: float  # bytes a second, of each device in each direction
    latency: float  # seconds, of one message between two devices


LINKS = {
    "25 GbE (3.1 GB/s, 20 µs)": Link(3.1e9, 20e-6),
    "100 Gb/s (12.5 GB/s, 5 µs)": Link(12.5e9, 5e-6),
    "NVLink class (300 GB/s, 2 µs)": Link(300e9, 2e-6),
}
PREFIXES = {"synchronized": "", "local": "local_"}  # of columns, for each kind of batch norms
# images of a device in a step, by how many devices there are
BATCHES = {"256 in all": lambda devices: 256 // devices, "64 a device": lambda devices: 64}


def seconds_an_image(multiply_adds: float) -> float:
    """Of training on the assumed device: a multiply-add is two operations, and the backward pass is twice the forward.

    Example:
        >>> round(1 / seconds_an_image(200e6))
        8333
    """
    return 3 * 2 * multiply_adds / (OPERATIONS_A_SECOND * UTILISATION)


def all_reduce_seconds(size: float, devices: int, link: Link) -> float:
    """Of one all-reduce: a ring's, or a tree's where that takes less, as libraries choose.

    Args:
        size: bytes.
        devices: how many take part.
        link: between two of them.

    Example:
        >>> link = Link(bandwidth=10e9, latency=10e-6)
        >>> round(all_reduce_seconds(10e6, 8, link) * 1e3, 2)  # a ring: 2 x 7/8 x 1 ms, and 14 messages
        1.89
        >>> round(all_reduce_seconds(100, 256, link) * 1e3, 2)  # a tree: 2 x 8 messages
        0.16
        >>> all_reduce_seconds(10e6, 1, link)
        0.0
    """
    ring = 2 * (devices - 1) / devices * size / link.bandwidth + 2 * (devices - 1) * link.latency
    levels = math.ceil(math.log2(devices))
    tree = (2 * size / link.bandwidth if devices > 1 else 0.0) + 2 * levels * link.latency
    return min(ring, tree)


def statistics_seconds(size: float, exchanges: int, devices: int, link: Link) -> float:
    """Of the batch norms' exchanges, one after the other.

    Args:
        size: bytes of all together.
        exchanges: how many there are.
        devices: how many take part.
        link: between two of them.

    Example:
        >>> link = Link(bandwidth=10e9, latency=10e-6)
        >>> round(statistics_seconds(10e3, 100, 8, link) * 1e3, 2)  # 100 times a tree's 6 messages
        6.0
    """
    return exchanges * all_reduce_seconds(size / exchanges, devices, link) if exchanges else 0.0


def efficiency(compute: float, statistics: float, gradients: float) -> tuple[float, float]:
    """The share of its time that a device computes, at worst and at best.

    At worst the gradients travel after the backward pass, at best during it, which is two thirds of the compute. The
    statistics of a batch norm are waited for in both.

    Args:
        compute: seconds that a device computes in a step.
        statistics: seconds of the batch norms' exchanges.
        gradients: seconds of the gradients' exchange.

    Example:
        >>> efficiency(compute=6.0, statistics=0.0, gradients=2.0)
        (0.75, 1.0)
        >>> efficiency(compute=6.0, statistics=2.0, gradients=8.0)
        (0.375, 0.5)
    """
    at_worst = compute + statistics + gradients
    at_best = compute + statistics + max(0.0, gradients - 2 / 3 * compute)
    return compute / at_worst, compute / at_best


def seconds_on(devices: int, network: dict, link: Link) -> tuple[float, float]:
    """Of a step's exchanges: the batch norms' and the gradients'; `network` is a row of `results/exchange.csv`."""
    exchanges = int(network["counted_exchanges"]) - 1  # all but one are of batch norms that wait
    of_statistics, of_gradients = float(network["statistics_bytes"]), float(network["gradient_bytes"])
    if not exchanges:  # what local batch norms keep travels with the gradients
        return 0.0, all_reduce_seconds(of_gradients + of_statistics, devices, link)
    statistics = statistics_seconds(of_statistics, exchanges, devices, link)
    return statistics, all_reduce_seconds(of_gradients, devices, link)


def rows(networks: list[dict], images_a_second: float | None) -> list[dict]:
    """The table: a row for each network, batch and link, with columns for local batch norms beside the others.

    Args:
        networks: rows of `results/exchange.csv`.
        images_a_second: that one device trains; None for the assumed device's.
    """
    made: list[dict] = []
    of_networks: dict[str, dict[str, dict]] = {}
    for row in networks:
        of_networks.setdefault(row["network"], {})[row["kind"]] = row
    for (network, kinds), (batch, images), (name, link) in itertools.product(
        of_networks.items(), BATCHES.items(), LINKS.items()
    ):
        of_image = seconds_an_image(float(kinds["local"]["million_multiply_adds"]) * 1e6)
        of_image = 1 / images_a_second if images_a_second else of_image
        row = {"network": network, "batch": batch, "link": name, "images_a_second": f"{1 / of_image:.0f}"}
        for (kind, prefix), devices in itertools.product(PREFIXES.items(), DEVICES):
            seconds = (images(devices) * of_image, *seconds_on(devices, kinds[kind], link))
            row[f"{prefix}on_{devices}"] = " to ".join(f"{share:.3f}" for share in efficiency(*seconds))
            if devices == MIDDLE:
                parts = zip(("compute", "statistics", "gradients"), seconds, strict=True)
                row |= {f"{prefix}{part}_ms_on_{devices}": f"{of_part * 1e3:.1f}" for part, of_part in parts}
        made.append(row)
    return made


def main() -> None:
    from common import RESULTS, conditions, print_rows, read_rows, write_rows

    known = read_rows(RESULTS / "exchange.csv")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices={row["network"]: None for row in known}, metavar="NETWORK",
                        help="those of results/exchange.csv (default: all)")  # fmt: skip
    parser.add_argument(
        "--images-a-second", type=float, help="that one of your devices trains; then nothing is written"
    )
    arguments = parser.parse_args()
    if arguments.images_a_second is not None and not 0 < arguments.images_a_second < math.inf:
        parser.error(
            f"--images-a-second {arguments.images_a_second} must be a number above 0, of one device in training"
        )
    chosen = [row for row in known if arguments.networks is None or row["network"] in arguments.networks]
    made = rows(chosen, arguments.images_a_second)
    title = "efficiency, at worst to at best"
    if len(chosen) == len(known) and arguments.images_a_second is None:
        path = RESULTS / "scaling.csv"
        beside = conditions(threads=0, packages=("keras-condense",)) | {"device": "a model, nothing measured"}
        write_rows(path, [row | beside for row in made])
        title = f"{title}: {path}"
    print_rows(made, title, width=150)


if __name__ == "__main__":
    main()
