"""tensorflow-model-optimization's magnitude pruning of a Keras 3 network, by way of tf_keras; see `compressing.py`.

python benchmarks/compression_tfmot.py parent.keras pruned.keras SEED [DATA_DIR]
"""

import os
import sys

os.environ |= {"KERAS_BACKEND": "tensorflow", "TF_USE_LEGACY_KERAS": "1"}
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow_model_optimization as tfmot
import tf_keras
from compression_methods import EPOCHS, SPARSITY, TUNING
from compression_parent import BATCH

import keras_condense as kc


def main(given: str, made: str, seed: str, data_dir: str) -> None:
    augment = kc.datasets.Augmentation(pad=4, flip=True)
    data = kc.datasets.load("cifar10", augment=augment, seed=int(seed), batch_size=BATCH, data_dir=data_dir or None)
    twin = kc.interop.to_tf_keras(keras.saving.load_model(given))
    steps = data.steps_per_epoch * EPOCHS
    # it lowers the learning rate, and prunes in the first half of the training, as the others do
    plan = tfmot.sparsity.keras.PolynomialDecay(0.0, SPARSITY, begin_step=0, end_step=steps // 2, frequency=steps // 20)
    kernels = (tf_keras.layers.Conv2D, tf_keras.layers.Dense)

    def wrapped(layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
        pointwise = isinstance(layer, kernels) and getattr(layer, "kernel_size", (1, 1)) == (1, 1)
        depthwise = isinstance(layer, tf_keras.layers.DepthwiseConv2D)
        if not pointwise or depthwise:
            return layer
        return tfmot.sparsity.keras.prune_low_magnitude(layer, pruning_schedule=plan)

    pruning = tf_keras.models.clone_model(twin, clone_function=wrapped)
    pruning.set_weights(_values(twin, pruning))
    rate = tf_keras.optimizers.schedules.PolynomialDecay(TUNING.learning_rate, steps, 0.0)
    optimizer = tf_keras.optimizers.legacy.SGD(rate, TUNING.momentum, nesterov=True)
    pruning.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    callbacks = [tfmot.sparsity.keras.UpdatePruningStep()]
    pruning.fit(data.train, epochs=EPOCHS, steps_per_epoch=data.steps_per_epoch, callbacks=callbacks, verbose=2)
    stripped = tfmot.sparsity.keras.strip_pruning(pruning)
    kc.interop.from_tf_keras(stripped).save(made)


def _values(twin: tf_keras.Model, pruning: tf_keras.Model) -> list:
    """The twin's weights in the order of the model that wraps its layers, whose masks and steps stay as they begin."""
    of_twin = {variable.name: value for variable, value in zip(twin.weights, twin.get_weights(), strict=True)}
    return [
        next((value for name, value in of_twin.items() if variable.name.endswith(name)), begun)
        for variable, begun in zip(pruning.weights, pruning.get_weights(), strict=True)
    ]


if __name__ == "__main__":
    main(*sys.argv[1:4], sys.argv[4] if len(sys.argv) > 4 else "")
