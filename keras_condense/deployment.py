"""The trained, the condensed and the exported network side by side: is it still the same, and what does it cost?"""

import dataclasses
import os
import pathlib
import statistics
import time

import keras
import numpy as np

from keras_condense.comparing import accuracy_of, kilobytes
from keras_condense.files import check_path
from keras_condense.profiling import profile_model
from keras_condense.text_tables import render
from keras_condense.tflite import TFLiteBenchmark, benchmark_tflite, run_tflite
from keras_condense.validation import check_positive_integer

__all__ = ["DeploymentReport", "DeploymentRow", "compare_deployed"]


@dataclasses.dataclass(frozen=True)
class DeploymentRow:
    """One form of a network.

    Attributes:
        form: "masked", "condensed" or "tflite".
        accuracy: share of the test images classified correctly.
        largest_difference: of any output from the masked network's, over all test images.
        parameters: trainable weights, dropped connections left out; None for a file.
        macs: multiply-adds of one image; None for a file.
        file_bytes: size of the file; None for a Keras model.
        milliseconds: median time of one image, batch 1.
    """

    form: str
    accuracy: float
    largest_difference: float
    parameters: int | None
    macs: int | None
    file_bytes: int | None
    milliseconds: float


@dataclasses.dataclass(frozen=True)
class DeploymentReport:
    """A row for each form of a network; `print` it for a table.

    Attributes:
        images: how many test images the accuracies are of.
        rows: masked, condensed, tflite.
        benchmark: how the file was timed: runtime, version, threads, spread.
    """

    images: int
    rows: tuple[DeploymentRow, ...]
    benchmark: TFLiteBenchmark

    def __str__(self) -> str:
        from rich.table import Table

        table = Table(title=f"{self.images} test images", title_justify="left")
        for title in ("", "accuracy", "largest difference", "parameters", "macs", "file", "ms per image"):
            table.add_column(title, justify="right" if title else "left")
        for row in self.rows:
            table.add_row(
                row.form,
                f"{row.accuracy:.2%}",
                f"{row.largest_difference:.1e}",
                "" if row.parameters is None else f"{row.parameters:,}",
                "" if row.macs is None else f"{row.macs:,}",
                "" if row.file_bytes is None else kilobytes(row.file_bytes),
                f"{row.milliseconds:.2f}",
            )
        return f"{render(table, width=120)}\n{self.benchmark}"


def compare_deployed(
    masked: keras.Model,
    condensed: keras.Model,
    tflite_path: str | os.PathLike,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    threads: int = 1,
) -> DeploymentReport:
    """Run the whole test set through every form of a classifier, and time them.

    Args:
        masked: the network as it was trained.
        condensed: what `condense` made of it.
        tflite_path: what `export_tflite` made of it.
        images: (count, height, width, channels), float32, as the network was trained on.
        labels: (count,), class numbers.
        threads: for the .tflite interpreter.

    Returns:
        A `DeploymentReport`, with a readable `str`.

    Raises:
        ValueError: what is no model or no path; no images, or not as many labels; what `run_tflite` and
            `profile_model` raise.

    Example:
        `applications/digits/` prints one.
    """
    check_positive_integer("threads", threads, "Use 1 to compare with published figures.")
    for name, model in (("masked", masked), ("condensed", condensed)):
        if not isinstance(model, keras.Model):
            raise ValueError(f"`{name}` (={model!r}) must be a Keras model. Load a saved one with `saving.load_model`.")
    check_path("tflite_path", tflite_path)
    if len(images) == 0 or len(images) != len(labels):
        raise ValueError(
            f"`images` ({len(images)}) and `labels` ({len(labels)}) must be equal in number, and not empty. "
            "Give the test set's: `data.test_arrays()`."
        )
    outputs = {
        "masked": masked.predict(images, verbose=0),
        "condensed": condensed.predict(images, verbose=0),
        "tflite": run_tflite(tflite_path, images, threads=threads),
    }
    benchmark = benchmark_tflite(tflite_path, threads=threads)
    rows = []
    for form, model in (("masked", masked), ("condensed", condensed), ("tflite", None)):
        profile = None if model is None else profile_model(model)
        rows.append(
            DeploymentRow(
                form=form,
                accuracy=accuracy_of(outputs[form], labels),
                largest_difference=float(np.abs(outputs[form] - outputs["masked"]).max()),
                parameters=profile and profile.parameters,
                macs=profile and profile.macs,
                file_bytes=None if model else pathlib.Path(tflite_path).stat().st_size,
                milliseconds=_milliseconds(model, images[:1]) if model else benchmark.median_ms,
            )
        )
    return DeploymentReport(len(images), tuple(rows), benchmark)


def _milliseconds(model: keras.Model, image: np.ndarray, warmup: int = 3, runs: int = 20) -> float:
    """Median milliseconds of `predict_on_batch` with one image."""
    seconds = []
    for _ in range(warmup + runs):
        start = time.perf_counter()
        model.predict_on_batch(image)
        seconds.append(time.perf_counter() - start)
    return 1e3 * statistics.median(seconds[warmup:])
