"""Training in the numbers that an int8 file computes with."""

from keras_condense.quantizing.aware import QuantizableLayers, explain_quantize_aware, quantize_aware
from keras_condense.quantizing.calibrating import calibrate_ranges, ranges_of

__all__ = [
    "QuantizableLayers",
    "calibrate_ranges",
    "explain_quantize_aware",
    "quantize_aware",
    "ranges_of",
]
