"""Run and time .tflite files.

This folder stands alone: it needs NumPy and one of ai-edge-litert, tflite-runtime (2.14 runs on Python <= 3.11 with
NumPy < 2) or TensorFlow, but neither Keras nor the rest of the package, and its modules import each other by relative
names. A device that only runs networks can copy it:

    python -m runtime condensenet86.tflite
"""

from .files import check_tflite
from .interpreters import RUNTIMES, Runtime
from .native_output import native_output_logged
from .running import run_tflite
from .timing import TFLiteBenchmark, benchmark_tflite, operators_outside_xnnpack

__all__ = [
    "RUNTIMES",
    "Runtime",
    "TFLiteBenchmark",
    "benchmark_tflite",
    "check_tflite",
    "native_output_logged",
    "operators_outside_xnnpack",
    "run_tflite",
]
