"""What test_training_on_several.py runs in processes of its own, on JAX:

    python several_run.py FOLDER PROCESSES PROCESS PORT EPOCHS_BEFORE_A_KILL

Trains on all devices of all processes and writes the weights; 0 epochs before a kill for none.
"""

import os
import sys

import jax
import keras
import numpy as np

import keras_condense as kc


class Die(keras.callbacks.Callback):
    def __init__(self, epochs):
        super().__init__()
        self.epochs = epochs

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epochs and epoch:
            os._exit(0)


def main(folder, processes, process, port, epochs):
    if processes > 1:
        keras.distribution.initialize(f"localhost:{port}", processes, process)
    if len(jax.devices()) > 1:
        keras.distribution.set_distribution(keras.distribution.DataParallel())
    keras.utils.set_random_seed(0)
    data = kc.datasets.load_arrays("digits", batch_size=180, image_size=8, validation_fraction=0.07)  # 101 images
    model = kc.applications.CondenseNet(
        (1,),
        (4,),
        groups=2,
        condense_factor=2,
        stem_strides=1,
        dropout_rate=0.1,
        classes=10,
        input_shape=data.image_shape,
    )
    model = kc.training.train(
        model, data, folder, epochs=4, learning_rate=0.05, resume=True, class_weights=True, verbose=0,
        callbacks=[Die(epochs)],
    )  # fmt: skip
    weights = {
        f"{number:03}{weight.path.replace('/', '.')}": weight.numpy() for number, weight in enumerate(model.weights)
    }
    np.savez(f"{folder}-{process}.npz", **weights)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:6]))
