"""Keras networks that drop most of their 1x1 connections while they train, and `.tflite` files of them for phones.

Data flows one way: build (`applications`, `layers`), train (`callbacks`, `datasets`), `condense`, `export_tflite`,
measure (`profile_model`, `benchmark_tflite`). TensorFlow is imported where it is needed only: exporting and datasets.
"""

from keras_condense import (
    applications,
    callbacks,
    cards,
    compressions,
    condensing,
    datasets,
    deployment,
    distillation,
    drop_plans,
    interop,
    layers,
    masks,
    optimizers,
    pictures,
    saving,
    training,
)
from keras_condense.cards import Card, load_card
from keras_condense.comparing import compare
from keras_condense.compressing import compress
from keras_condense.condensation import condense
from keras_condense.deployment import compare_deployed
from keras_condense.distillation import distill
from keras_condense.layer_sensitivity import sensitivity
from keras_condense.learned_groups import explain_learn_groups, learn_groups, learnable_layers
from keras_condense.predicting import predict
from keras_condense.profiling import profile_model
from keras_condense.quantizing import calibrate_ranges, explain_quantize_aware, quantize_aware, ranges_of
from keras_condense.tflite import benchmark_tflite, coded_size, export_tflite, run_tflite
from keras_condense.weight_pruning import explain_prune_weights, prune_weights
from keras_condense.weight_sharing import explain_share_weights, share_weights

__version__ = "0.1.0"

__all__ = [
    "Card",
    "applications",
    "benchmark_tflite",
    "calibrate_ranges",
    "callbacks",
    "cards",
    "coded_size",
    "compare",
    "compare_deployed",
    "compress",
    "compressions",
    "condense",
    "condensing",
    "datasets",
    "deployment",
    "distill",
    "distillation",
    "drop_plans",
    "explain_learn_groups",
    "explain_prune_weights",
    "explain_quantize_aware",
    "explain_share_weights",
    "export_tflite",
    "interop",
    "layers",
    "learn_groups",
    "learnable_layers",
    "load_card",
    "masks",
    "optimizers",
    "pictures",
    "predict",
    "profile_model",
    "prune_weights",
    "quantize_aware",
    "ranges_of",
    "run_tflite",
    "saving",
    "sensitivity",
    "share_weights",
    "training",
]
