"""From a Keras model to a .tflite file, and from the file to outputs and times."""

from keras_condense.tflite.export import export_tflite
from keras_condense.tflite.runtime import TFLiteBenchmark, benchmark_tflite, run_tflite

__all__ = ["TFLiteBenchmark", "benchmark_tflite", "export_tflite", "run_tflite"]
