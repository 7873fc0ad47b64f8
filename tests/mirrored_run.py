"""What test_training_mirrored.py runs in processes of its own, on TensorFlow:

    python mirrored_run.py FOLDER REPLICAS KIND EPOCHS_BEFORE_A_KILL

Trains on "arrays" or a "stream", under a strategy of two replicas or none, and writes the weights and what each replica
began the last epoch's dropout with; 0 epochs before a kill for none.
"""

import contextlib
import json
import os
import sys

import keras
import numpy as np
import tensorflow as tf

import keras_condense as kc
from keras_condense.layers import BatchNormalization, CondenseDense, LearnedGroupConv2D


class Watch(keras.callbacks.Callback):
    """Ends a run like a lost machine, and looks at the generators of each replica."""

    def __init__(self, network, strategy, epochs):
        super().__init__()
        self.network, self.strategy, self.epochs, self.states = network, strategy, epochs, []

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epochs and epoch:
            os._exit(0)
        states = [one.value for one in self.network.variables if one.name == "seed_generator_state"]
        if self.strategy:
            copies = [self.strategy.experimental_local_results(state) for state in states]
            self.states = [[copy.numpy().tolist() for copy in of_replicas] for of_replicas in copies]


def network():
    return keras.Sequential(
        [
            keras.Input((None, None, 1)),
            keras.layers.Conv2D(8, 3, use_bias=False),
            BatchNormalization(),
            LearnedGroupConv2D(8, 1, groups=2, condense_factor=2, group_lasso=1e-3),
            keras.layers.Dropout(1e-9),  # it draws, and drops nothing
            BatchNormalization(),
            LearnedGroupConv2D(8, 3, groups=2, condense_factor=2, group_lasso=1e-3),
            keras.layers.GlobalAveragePooling2D(),
            CondenseDense(10, activation="softmax"),
        ],
        name="network",
    )  # without ReLUs, at whose kinks the order of sums in float32 decides


def main(folder, replicas, kind, epochs):
    device = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(device, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]) if replicas > 1 else None
    keras.utils.set_random_seed(0)
    # 1336 images to train, 101 to validate: neither divides, and the last batch of a stream is smaller
    load = {"arrays": kc.datasets.load_arrays, "stream": kc.datasets.load}[kind]
    data = load("digits", batch_size={"arrays": 128, "stream": 100}[kind], image_size=8, validation_fraction=0.07)
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = network()
    watch = Watch(model, strategy, epochs)
    recipe = kc.training.Recipe(epochs=4, learning_rate=0.05, small_crops=(0.75, 0.5))
    model = kc.training.train(
        model,
        data,
        folder,
        recipe=recipe,
        resume=True,
        class_weights=True,
        verbose=0,
        callbacks=[watch],
        batch_norms="synchronized",
    )
    weights = {f"{i:03}{weight.path.replace('/', '.')}": weight.numpy() for i, weight in enumerate(model.weights)}
    np.savez(f"{folder}.npz", **weights)
    print(json.dumps(watch.states))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
