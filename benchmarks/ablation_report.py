"""The summary and the plots of `ablation.py`, from its csv files alone."""

import pathlib
import statistics

from ablation_arms import ARMS, CONDENSE_FACTOR, CONDITIONS, PAPERS_DROPS, STYLES, WINDOWS, Settings
from common import print_rows, read_rows, write_rows


def results_paths(folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    return folder / "ablation.csv", folder / "ablation_history.csv"


def sizes_of(rows: list[dict]) -> list[str]:
    """The sizes among the rows, the smallest first."""
    return sorted({row["stages"] for row in rows}, key=lambda stages: sum(map(int, stages.split("-"))))


def kind_of(arm: str) -> str:
    """Which networks an arm's has the multiply-adds of."""
    return "condensed" if ARMS[arm].condensed else arm


def percents(values: list[float]) -> str:
    """Mean, and smallest to largest: of shares in [0, 1], as percents."""
    mean = f"{statistics.mean(values):.1%}".rstrip("%")
    return mean if len(values) == 1 else f"{mean} ({min(values) * 100:.1f} to {max(values) * 100:.1f})"


def summary(rows: list[dict]) -> list[dict]:
    """A row an arm: test accuracy at each size, and how many points it is behind learned groups, run by run."""
    sizes = sizes_of(rows)
    accuracies = {(row["arm"], row["stages"], row["seed"]): float(row["test_accuracy"]) for row in rows}
    macs = {(kind_of(row["arm"]), row["stages"]): int(row["macs"]) for row in rows}

    def million_macs(kind: str) -> dict:
        return {size: f"{macs[kind, size] / 1e6:.2f}" if (kind, size) in macs else "" for size in sizes}

    learned = {run[1:]: accuracy for run, accuracy in accuracies.items() if run[0] == "learned"}
    table = [{"arm": "million multiply-adds"} | million_macs("condensed") | {"points_behind_learned": ""}]
    for arm in ARMS:
        runs = {run[1:]: accuracy for run, accuracy in accuracies.items() if run[0] == arm}
        if not runs:
            continue
        behind = [learned[run] - accuracy for run, accuracy in runs.items() if run in learned]
        cells = {size: [accuracy for (stages, _), accuracy in runs.items() if stages == size] for size in sizes}
        table.append(
            {"arm": arm}
            | {size: percents(values) if values else "" for size, values in cells.items()}
            | {"points_behind_learned": percents(behind) if behind and arm != "learned" else ""}
        )
    for kind in dict.fromkeys(kind for kind, _ in macs if kind != "condensed"):
        table.append({"arm": f"million multiply-adds, {kind}"} | million_macs(kind) | {"points_behind_learned": ""})
    return [row | {name: rows[-1][name] for name in CONDITIONS} for row in table]


def plot_accuracies(rows: list[dict], path: pathlib.Path) -> None:
    """Test accuracy against multiply-adds: one line per arm through the means over seeds, bars from least to most.

    Equal multiply-adds are drawn side by side, or bars would hide each other. Networks that were pruned and not trained
    after it have a panel of their own, for they are far below.
    """
    figure, (upper, lower) = new_figure(nrows=2, sharex=True, height_ratios=(3, 1))
    drawn = [arm for arm in STYLES if any(row["arm"] == arm for row in rows)]
    panels = [[arm for arm in drawn if ARMS[arm].pruned == pruned] for pruned in (False, True)]
    for arm in drawn:
        (colour, marker, line), points = STYLES[arm], []
        place = panels[ARMS[arm].pruned].index(arm)
        for size in sizes_of(rows):
            runs = [row for row in rows if row["arm"] == arm and row["stages"] == size]
            if runs:
                percent = [100 * float(row["test_accuracy"]) for row in runs]
                mean = statistics.mean(percent)
                points.append((int(runs[0]["macs"]) / 1e6, mean, mean - min(percent), max(percent) - mean))
        if points:
            macs, means, below, above = zip(*points, strict=True)
            beside = [value * 1.015 ** (place - 1) if ARMS[arm].small else value for value in macs]
            (lower if ARMS[arm].pruned else upper).errorbar(
                beside,
                means,
                yerr=(below, above),
                label=arm if ARMS[arm].small else f"{arm}: never pruned, more multiply-adds",
                color=colour,
                marker=marker,
                linestyle=line,
                linewidth=1.3,
                markersize=6,
                capsize=3,
            )
    for axes in (upper, lower):
        axes.set_xscale("log")
        axes.set_ylabel("test accuracy, %")
    ticks = sorted({round(int(row["macs"]) / 1e6, 2) for row in rows})
    lower.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    lower.minorticks_off()
    lower.set_xlabel("million multiply-adds")
    save(figure, path)


def plot_losses(rows: list[dict], epochs: int, path: pathlib.Path) -> None:
    """The training loss of the middle size, a mean over seeds, and the moments at which connections are dropped."""
    sizes = sizes_of(rows)
    size = sizes[len(sizes) // 2]
    figure, axes = new_figure()
    for drop, progress in enumerate(PAPERS_DROPS, start=1):
        axes.axvline(progress * epochs, color="#999999", linestyle="--", linewidth=1)
        left = f"{1 - drop / CONDENSE_FACTOR:.0%} left"
        place = {"xy": (progress * epochs, 0.98), "xycoords": ("data", "axes fraction")}
        axes.annotate(left, **place, xytext=(4, 0), textcoords="offset points", va="top", fontsize=8, color="#555555")
    for arm, (colour, _, line) in STYLES.items():
        losses: dict[float, list[float]] = {}
        for row in rows:
            if row["arm"] == arm and row["stages"] == size:
                losses.setdefault(float(row["epoch"]), []).append(float(row["loss"]))
        if losses:
            means = [statistics.mean(loss) for loss in losses.values()]
            axes.plot(losses.keys(), means, color=colour, linestyle=line, linewidth=1.3, label=arm)
    axes.set_xlabel(f"epoch; each point is the mean of 1/{WINDOWS} epoch before it")
    axes.set_ylabel(f"training loss, {size}")
    save(figure, path)


def new_figure(**panels) -> tuple:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    return pyplot.subplots(**panels, figsize=(7, 5.6), dpi=110, layout="constrained")


def save(figure, path: pathlib.Path) -> None:
    for axes in figure.axes:
        axes.grid(alpha=0.25)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    # without the versions that matplotlib notes down, the same figures give the same file
    figure.savefig(path, metadata={"Software": None})


def report(settings: Settings, folder: pathlib.Path, pictures: pathlib.Path, name: str) -> None:
    """Write the summary and the plots from the csv files alone, and print the summary.

    Args:
        settings: of the runs to be shown.
        folder: of the csv files, the summary among them.
        pictures: the folder of the plots.
        name: what the names of the summary and the plots begin with.

    Raises:
        SystemExit: there are no runs of these settings.
    """
    path, history_path = results_paths(folder)
    rows = settings.chosen(read_rows(path))
    if not rows:
        raise SystemExit(f"error: {path} must have runs of {settings}, and has none. Run it without --plot first.")
    table = summary(rows)
    write_rows(folder / f"{name}_summary.csv", table)
    plot_accuracies(rows, pictures / f"{name}_accuracy.png")
    if losses := settings.chosen(read_rows(history_path)):
        plot_losses(losses, settings.epochs, pictures / f"{name}_loss.png")
    shown = [{column: cell for column, cell in row.items() if column not in CONDITIONS} for row in table]
    print_rows(shown, str(path), width=140)
