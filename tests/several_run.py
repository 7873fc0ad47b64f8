"""What test_training_on_several.py runs in processes of its own, on JAX:

    python several_run.py FOLDER PROCESSES PROCESS PORT EPOCHS_BEFORE_A_KILL [arrays | stream | local]

Trains on all devices of all processes and writes the weights; 0 epochs before a kill for none, and a stream's comes
within an epoch; "local" trains on arrays, with batch norms of each device's images.
"""

import contextlib
import os
import sys

import keras
import numpy as np

import keras_condense as kc


class Die(keras.callbacks.Callback):
    def __init__(self, epochs, batch):
        super().__init__()
        self.at = epochs, batch

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == self.at and self.epoch:
            os._exit(0)


def main(folder, processes, process, port, epochs, kind="arrays"):
    group = kc.training.process_group(f"localhost:{port}", processes, process)
    with group if processes > 1 else contextlib.nullcontext():
        train(folder, process, epochs, kind)


def train(folder, process, epochs, kind):
    keras.utils.set_random_seed(0)
    options = {"batch_size": 180, "image_size": 8, "validation_fraction": 0.07}  # of 101 images
    if kind == "stream":
        data = kc.datasets.load("digits", drop_remainder=True, **options)
    else:
        data = kc.datasets.load_arrays("digits", **options)
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
        callbacks=[Die(epochs, 5 if kind == "stream" else 0)], save_freq=2, distribution="auto",
        batch_norms="local" if kind == "local" else None,
    )  # fmt: skip
    weights = {
        f"{number:03}{weight.path.replace('/', '.')}": weight.numpy() for number, weight in enumerate(model.weights)
    }
    np.savez(f"{folder}-{process}.npz", **weights)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:6]), *sys.argv[6:])
