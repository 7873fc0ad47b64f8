"""The table of the README: what networks reach, what they cost as counted, and what that comes to on processors.

It is made of other results alone: published errors and multiply-adds of zoo.csv, instructions of the files for arm64
and milliseconds of the files for x86_64 of `phone_networks.py`, and errors that were measured here.
"""

from common import RESULTS, read_rows

CONDITIONS = ("threads", "device", "versions", "python", "date")

# of keras.applications alone: top-1 error in per cent by the table in its docstrings, multiply-adds by `profile_model`
KERAS = {"MobileNetV3Small": ("31.9", 56_510_400), "MobileNetV3Large": ("24.4", 216_589_760)}

# name here, row of zoo.csv (or name in KERAS), file of results, name there
IMAGENET = (
    ("MobileNetV3-Small", "MobileNetV3Small", "imagenet_networks", "MobileNetV3Small"),
    ("MobileNetV3-Large", "MobileNetV3Large", "imagenet_networks", "MobileNetV3Large"),
    ("MobileNetV2", "MobileNetV2 1.0x, 224", "imagenet_networks", "MobileNetV2"),
    ("MobileNet", "MobileNet 1.0x, 224", "imagenet_networks", "MobileNet"),
    ("ShuffleNet 1x (g=3)", "ShuffleNet 1x (g=3)", "mobile_networks", "ShuffleNet, groups 3"),
    ("CondenseNetV2-A", "CondenseNetV2-A", "mobile_networks", "CondenseNetV2A"),
    ("CondenseNetV2-B", "CondenseNetV2-B", "mobile_networks", "CondenseNetV2B"),
    ("CondenseNetV2-C", "CondenseNetV2-C", "mobile_networks", "CondenseNetV2C"),
    ("CondenseNet-74, G=C=8", "CondenseNet-74 (ImageNet, G=C=8)", "imagenet_networks", "CondenseNetImageNet74G8"),
    ("CondenseNet-74, G=C=4", "CondenseNet-74 (ImageNet, G=C=4)", "imagenet_networks", "CondenseNetImageNet74G4"),
    ("DenseNet-121", "DenseNet-121", "imagenet_networks", "DenseNet121"),
)
CIFAR10 = (
    ("CondenseNet-50", "CondenseNet-50", "cifar_networks", "CondenseNet50"),
    ("CondenseNet-86", "CondenseNet-86", "cifar_networks", "CondenseNet86"),
    ("CondenseNet-122", "CondenseNet-122", "cifar_networks", "CondenseNet122"),
)


def measured_error(cell: str, data_set: str) -> str:
    """The error in a cell such as "cifar10 6.99, cifar100 30.10", or nothing.

    >>> measured_error("cifar10 6.99, cifar100 30.10", "cifar100"), measured_error("", "cifar10")
    ('30.10', '')
    """
    return dict(part.split(" ") for part in cell.split(", ") if part).get(data_set, "")


def cell_of(name: str, network: str, column: str) -> str:
    """A cell of one results file.

    Raises:
        ValueError: there is none.
    """
    found = [row[column] for row in read_rows(RESULTS / f"{name}.csv") if row["network"] == network and column in row]
    if not found:
        raise ValueError(f"results/{name}.csv has no {column} of {network}; run the program that writes it")
    return found[0]


def costs(results: str, label: str) -> dict:
    """Instructions of the file for arm64, milliseconds of that for x86_64, and how they were measured."""
    rows = {row["network"] for row in read_rows(RESULTS / f"{results}.csv")}
    arm64, x86_64 = (f"{label}, export_tflite for {target}" for target in ("arm64", "x86_64"))
    if arm64 not in rows:  # exported alike for both
        arm64 = x86_64 = label
    return {
        "million_instructions": cell_of(results, arm64, "million_instructions"),
        "ms_here": cell_of(results, x86_64, "ms_1_thread"),
    } | {condition: cell_of(results, arm64, condition) for condition in CONDITIONS}


def figures(network: str, data_set: str) -> dict:
    """Errors, published and measured here, and multiply-adds."""
    if network in KERAS:
        published, macs, here = *KERAS[network], ""
    else:
        published, macs, here = (
            cell_of("zoo", network, column) for column in ("published_error", "macs", "measured_error")
        )
    return {
        "published_error": published.split(" / ")[0],  # on CIFAR-100 beside that on CIFAR-10
        "error_here": measured_error(here, data_set),
        "million_multiply_adds": f"{int(macs) / 1e6:.1f}",
    }


def rows() -> list[dict]:
    """A row for each network, ImageNet's before CIFAR-10's.

    Raises:
        ValueError: results are missing.
    """
    table = []
    for data_set, title, networks in (("imagenet", "ImageNet", IMAGENET), ("cifar10", "CIFAR-10", CIFAR10)):
        for name, network, results, label in networks:
            row = {"network": name, "data_set": title}
            table.append(row | figures(network, data_set) | costs(results, label))
    yardstick = next(row for row in table if row["network"] == "MobileNet")
    for column in ("multiply_adds", "instructions"):
        for row in table:
            ratio = float(row[f"million_{column}"]) / float(yardstick[f"million_{column}"])
            row[f"{column}_to_mobilenet"] = f"{ratio:.3f}"
    return table
