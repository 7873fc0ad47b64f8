"""Training in the numbers that an int8 file computes with."""

from keras_condense.quantizing.aware import QuantizableLayers, explain_quantize_aware, quantize_aware
from keras_condense.quantizing.biases import round_biases
from keras_condense.quantizing.calibrating import calibrate_ranges, fake_quantizers, ranges_of

__all__ = [
    "QuantizableLayers",
    "calibrate_ranges",
    "explain_quantize_aware",
    "fake_quantizers",
    "quantize_aware",
    "ranges_of",
    "round_biases",
]
