"""Train the digits network of `applications/digits`, and keep one learned convolution as it was at each stage.

The pictures of the documentation are drawn from it (`pictures.py`).

    python benchmarks/learned_layer.py
"""

import argparse
import importlib.util
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from common import ROOT, write_results

import keras_condense as kc

LAYER = "block1_layer2_1_conv"


def digits_application():
    spec = importlib.util.spec_from_file_location("digits_application", ROOT / "applications" / "digits" / "main.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class KernelsOfStages(keras.callbacks.Callback):
    """Keeps a layer's kernel, (inputs, filters), as it was at the end of the last epoch of each stage."""

    def __init__(self, name: str):
        super().__init__()
        self.name, self.kernels = name, {}

    def on_epoch_end(self, epoch, logs=None):
        layer = self.model.get_layer(self.name)
        self.kernels[layer.stage] = keras.ops.convert_to_numpy(layer.masked_kernel())[0, 0]


def trained(epochs: int, seed: int) -> dict[int, np.ndarray]:
    """The kernels by their stages."""
    keras.utils.set_random_seed(seed)
    data = kc.datasets.load("digits", batch_size=64, seed=seed)
    model = digits_application().build(data.image_shape, len(data.class_names))
    kc.training.compile_model(model, epochs * data.steps_per_epoch)
    kernels = KernelsOfStages(LAYER)
    model.fit(
        data.training(0, epochs=epochs),
        epochs=epochs,
        steps_per_epoch=data.steps_per_epoch,
        shuffle=False,
        verbose=2,
        callbacks=[kc.callbacks.CondenseSchedule(epochs=epochs), kernels],
    )
    return kernels.kernels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    arguments = parser.parse_args()
    rows = []
    for stage, kernel in sorted(trained(arguments.epochs, arguments.seed).items()):
        for place, weights in enumerate(kernel):
            row = {"layer": LAYER, "stage": stage, "input": place}
            rows.append(row | {f"filter_{number}": f"{weight:.4g}" for number, weight in enumerate(weights)})
    print(
        write_results("learned_layer", rows, threads=os.cpu_count(), packages=("keras-condense", "keras", "tensorflow"))
    )


if __name__ == "__main__":
    main()
