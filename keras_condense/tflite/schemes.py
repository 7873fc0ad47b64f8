"""What numbers a file holds and computes with: a row for each `quantize` of `export_tflite`."""

import dataclasses
from collections.abc import Callable
from typing import Any

from keras_condense.tflite.calibration import Rows

__all__ = ["FLOAT32", "INT8_BY_RANGES", "SCHEMES", "Scheme"]


def _leave(converter: Any, tf: Any, rows: Rows | None) -> None:
    """Numbers stay float32."""


def _half_precision(converter: Any, tf: Any, rows: Rows | None) -> None:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]


def _dynamic(converter: Any, tf: Any, rows: Rows | None) -> None:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    # tflite-runtime 2.14 has no dense layer with a scale for each output
    converter._experimental_disable_per_channel_quantization_for_dense_layers = True


def _int8(converter: Any, tf: Any, rows: Rows | None) -> None:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    # by name: the order of a file's inputs is the converter's own
    converter.representative_dataset = lambda: iter(rows)


def _int8_by_ranges(converter: Any, tf: Any, rows: Rows | None) -> None:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]


@dataclasses.dataclass(frozen=True)
class Scheme:
    """One way to store and to compute numbers.

    Attributes:
        name: `quantize`, or None for float32.
        arithmetic: which of a target's tables of costs holds for it.
        configure: sets a converter up, given it, the module `tensorflow` and the rows to calibrate with.
        needs_data: whether it is calibrated with representative data.
        limits: whether a norm may become a limit. That leaves activations with the ranges from before the norm, a
            different one for each channel, where int8 has one for all, and adds up in a bias what float16 rounds.
        folds: whether a norm may move into the kernel before it, whose filters have values of their own then.
        few_weights: kernels of fewer weights keep fewer; below that many the converter leaves them in float32.
        zeros: whether learned groups may become kernels that are mostly zeros.
        sparse: whether kernels can be stored without their zeros.
        has_ranges: whether the network says the ranges of its numbers, so that no pass may make a number without one.
    """

    name: str | None
    arithmetic: str
    configure: Callable[[Any, Any, Rows | None], None]
    needs_data: bool = False
    limits: bool = False
    folds: bool = True
    few_weights: int = 0
    zeros: bool = True
    sparse: bool = False
    has_ranges: bool = False

    @property
    def is_exact(self) -> bool:
        """Whether files compute in float32 with the model's own weights."""
        return self.name is None


FLOAT32 = Scheme(None, "float32", _leave, limits=True, sparse=True)

# of a model made by `quantize_aware`; asked for by the name of the one that calibrates
INT8_BY_RANGES = Scheme("int8", "int8", _int8_by_ranges, has_ranges=True)

SCHEMES: dict[str | None, Scheme] = {
    scheme.name: scheme
    for scheme in (
        FLOAT32,
        Scheme("float16", "float32", _half_precision),
        Scheme("dynamic", "dynamic", _dynamic, few_weights=1024, zeros=False),
        Scheme("int8", "int8", _int8, needs_data=True),
    )
}
