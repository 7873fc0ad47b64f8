"""Draw the pictures of README.md and docs/ from results/*.csv; with `--check`, only say whether they are up to date.

Each file holds the numbers that it was drawn from, as JSON beside its pixels: these are compared, since another version
of matplotlib draws other pixels. All pictures can be read without colours.

    python benchmarks/pictures.py
"""

import argparse
import json
import pathlib
import shutil
import sys
import tempfile

import matplotlib
import numpy as np
import overview
from common import PICTURES, RESULTS, ROOT, read_rows
from matplotlib import colors, patches, pyplot
from PIL import Image

from keras_condense import masks

GROUPS = 4
NOTE = "Numbers"  # the name of the text in a file


def kernels() -> dict[int, np.ndarray]:
    """The kernels of `learned_layer.py`, (inputs, filters), by their stages."""
    found: dict[int, list] = {}
    for row in read_rows(RESULTS / "learned_layer.csv"):
        weights = [float(weight) for column, weight in row.items() if column.startswith("filter_")]
        found.setdefault(int(row["stage"]), []).append(weights)
    return {stage: np.array(rows) for stage, rows in found.items()}


def mask_of(kernel: np.ndarray) -> np.ndarray:
    """Which inputs each group still reads: (groups, inputs)."""
    return np.stack([(kernel[:, group::GROUPS] != 0).any(axis=1) for group in range(GROUPS)])


def by_groups(kernel: np.ndarray) -> np.ndarray:
    """The filters of each group side by side: (groups, filters of a group, inputs)."""
    return np.stack([kernel[:, group::GROUPS].T for group in range(GROUPS)])


def draw_groups(axes, weights: np.ndarray, largest: float, title: str) -> None:
    """Draw (groups, filters, inputs), a block for each group: the darker the larger, and white what is dropped."""
    grey = colors.ListedColormap(pyplot.get_cmap("gray_r")(np.linspace(0.13, 1, 256)))
    grey.set_bad("white")
    groups, filters, inputs = weights.shape
    spaced = np.zeros((groups, filters + 1, inputs))  # a free row above each group
    spaced[:, 1:] = np.abs(weights)
    axes.imshow(np.ma.masked_equal(spaced.reshape(-1, inputs), 0), cmap=grey, vmin=0, vmax=largest)
    tops = np.arange(groups) * (filters + 1) + 0.5
    for top in tops:
        axes.add_patch(patches.Rectangle((-0.5, top), inputs, filters, fill=False, linewidth=0.8, clip_on=False))
    axes.set_yticks(tops + filters / 2, [f"group {group + 1}" for group in range(groups)])
    axes.set_xticks([])
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=9, loc="left", pad=2)


def draw_layer(path: pathlib.Path) -> None:
    """Dense, masked, condensed: one layer in its three forms."""
    stages = kernels()
    dense, masked = stages[0], stages[max(stages)]
    mask = mask_of(masked)
    read = masks.kept_inputs(mask).reshape(GROUPS, -1)
    condensed = np.stack(np.split(masks.condensed_kernel(masked, mask).T, GROUPS))
    largest = max(np.abs(kernel).max() for kernel in (dense, masked))
    inputs = len(dense)
    ratios = (inputs, inputs, inputs / 2)  # the last panel's title is wider than it
    figure, panels = pyplot.subplots(ncols=3, figsize=(9, 4.7), width_ratios=ratios, layout="constrained")
    draw_groups(panels[0], by_groups(dense), largest, "1. dense: all groups of filters\nread all inputs")
    draw_groups(panels[1], by_groups(masked), largest, "2. masked: each group has dropped\nthree quarters of them")
    draw_groups(panels[2], condensed, largest, "3. condensed: an index,\na group convolution")
    for axes in panels[:2]:
        axes.set_xlabel(f"{inputs} inputs", fontsize=8)
    panels[2].set_xlim(-0.5, inputs / 2 - 0.5)
    panels[2].set_xlabel("above each group: which\ninputs it reads", fontsize=8, loc="left")
    for group, numbers in enumerate(read):
        for place, number in enumerate(numbers):
            top = group * (condensed.shape[1] + 1)
            panels[2].text(place, top, number, fontsize=5.5, ha="center", va="center")
    save(figure, path, {"dense": dense.tolist(), "masked": masked.tolist()})


def draw_stages(path: pathlib.Path) -> None:
    """The layer at each stage of its training."""
    stages = kernels()
    largest = max(np.abs(kernel).max() for kernel in stages.values())
    figure, panels = pyplot.subplots(ncols=len(stages), figsize=(10.5, 4), layout="constrained")
    for (stage, kernel), axes in zip(stages.items(), panels, strict=True):
        left = (kernel != 0).mean()
        draw_groups(axes, by_groups(kernel), largest, f"stage {stage}: {left:.0%} left")
        if stage:
            axes.set_yticks([])
    save(figure, path, {str(stage): kernel.tolist() for stage, kernel in stages.items()})


FAMILIES = (("MobileNet", "o", "black"), ("ShuffleNet", "^", "white"), ("CondenseNetV2", "s", "white"),
            ("CondenseNet-", "D", "white"), ("DenseNet", "v", "white"))  # fmt: skip
LEFT = ("CondenseNetV2-B", "CondenseNet-74, G=C=8")  # whose names would hide another point


def draw_errors(path: pathlib.Path) -> None:
    """Published top-1 error on ImageNet against instructions."""
    figure, axes = pyplot.subplots(figsize=(7.5, 4.6), layout="constrained")
    points = {}
    for row in overview.rows():
        if row["data_set"] == "ImageNet":
            points[row["network"]] = (float(row["million_instructions"]), float(row["published_error"]))
    for name, (instructions, error) in points.items():
        _, marker, face = next(family for family in FAMILIES if name.startswith(family[0]))
        axes.plot(instructions, error, marker, color="black", markerfacecolor=face, markersize=7)
        beside = {"xytext": (-7, 0), "ha": "right"} if name in LEFT else {"xytext": (7, 0)}
        axes.annotate(name, (instructions, error), **beside, textcoords="offset points", va="center", fontsize=8)
    axes.set_xscale("log")
    ticks = (25, 50, 100, 200, 400, 800)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlim(22, 2000)
    axes.set_xlabel("million instructions of one inference on an emulated Cortex-A76 (fewer is better)")
    axes.set_ylabel("published top-1 error on ImageNet, %")
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    save(figure, path, points)


def draw_compression(path: pathlib.Path) -> None:
    """Error against instructions of one network in each way of making it smaller, mean of the seeds."""
    measured: dict[str, list[tuple[float, float]]] = {}
    for row in read_rows(RESULTS / "compression.csv"):
        if row["million_instructions"] and row["network"].startswith("MobileNetV2"):
            point = float(row["million_instructions"]), float(row["test_error"])
            measured.setdefault(row["method"], []).append(point)
    points = {method: np.mean(found, axis=0).tolist() for method, found in measured.items()}
    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    for method, (instructions, error) in points.items():
        parts = {"int8": "s", "quant": "s", "prun": "^", "group": "o"}
        marker = next((marker for part, marker in parts.items() if part in method), "D")
        axes.plot(instructions, error, marker, color="black", markersize=5)
        others = [point for name, point in points.items() if name != method]
        is_crowded = any(abs(x - instructions) < 0.5 and 0 <= y - error < 0.8 for x, y in others)
        axes.annotate(
            method, (instructions, error), (5, -9 if is_crowded else 3), textcoords="offset points", fontsize=8
        )
    axes.set_xlabel("million instructions of a Cortex-A76 for one image, counted")
    axes.set_ylabel("test error on CIFAR-10, per cent")
    axes.set_xlim(0, 1.3 * max(instructions for instructions, _ in points.values()))  # room for the names
    axes.margins(y=0.1)
    axes.grid(alpha=0.3)
    save(figure, path, points)
    pyplot.close(figure)


DRAWN = {
    "learned_layer.png": draw_layer,
    "learned_layer_stages.png": draw_stages,
    "error_against_instructions.png": draw_errors,
    "compression.png": draw_compression,
}


def save(figure, path: pathlib.Path, numbers: dict) -> None:
    # without the version that matplotlib notes down, the same numbers give the same file
    metadata = {"Software": None, NOTE: json.dumps(numbers)}
    figure.savefig(path, dpi=130, metadata=metadata)


def numbers_in(path: pathlib.Path) -> str | None:
    """The numbers that a picture was drawn from, or None if there is none."""
    if not path.is_file():
        return None
    with Image.open(path) as picture:
        return picture.text.get(NOTE)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if a picture is out of date")
    arguments = parser.parse_args()
    matplotlib.use("agg")
    outdated = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, draw in DRAWN.items():
            path, drawn = PICTURES / name, pathlib.Path(folder, name)
            draw(drawn)
            if not arguments.check:
                shutil.copyfile(drawn, path)
            elif numbers_in(drawn) != numbers_in(path):
                print(f"{path.relative_to(ROOT)}: it differs from results/*.csv; run `python benchmarks/pictures.py`")
                outdated = 1
    return outdated


if __name__ == "__main__":
    sys.exit(main())
