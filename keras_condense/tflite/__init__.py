"""From a Keras model to a .tflite file, and from the file to outputs and times."""

from keras_condense.tflite.coded_size import CodedSize, coded_size
from keras_condense.tflite.export import export_tflite
from keras_condense.tflite.runtime import TFLiteBenchmark, benchmark_tflite, run_tflite

__all__ = ["CodedSize", "TFLiteBenchmark", "benchmark_tflite", "coded_size", "export_tflite", "run_tflite"]
