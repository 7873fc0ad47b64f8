"""The networks that `compressing.py` compresses, trained on CIFAR-10: MobileNetV2 of width 0.5, and CondenseNet-50.

CondenseNet-50 is the package's own, condensed, with the weights that come with it. keras.applications' MobileNetV2
halves the images five times, which leaves one pixel of thirty-two. Here the second of these layers keeps their size, as
is usual on CIFAR-10: 7.0 million multiply-adds. Batch norms average over a hundred steps in place of a thousand, since
an epoch has only 390.
"""

import pathlib
from collections.abc import Callable

import keras

import keras_condense as kc
from keras_condense.training import Recipe, train

EPOCHS = 15
BATCH = 128
RECIPE = Recipe(epochs=EPOCHS, decay="linear", weight_decay=5e-4, alternate_flips=True)
FULL_SIZE = "block_1_depthwise"  # strides of two in keras.applications' network
BEFORE_IT = "block_1_pad"  # pads for these strides


def network(alpha: float = 0.5) -> keras.Model:
    """The network before its first step."""
    published = keras.applications.MobileNetV2(input_shape=(32, 32, 3), alpha=alpha, weights=None, classes=10)

    def changed(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        if layer.name == FULL_SIZE:
            config |= {"strides": 1, "padding": "same"}
        if layer.name == BEFORE_IT:
            config["padding"] = 0
        if isinstance(layer, keras.layers.BatchNormalization):
            config["momentum"] = 0.99
        return type(layer).from_config(config)

    return keras.models.clone_model(published, clone_function=changed)


def arrays(seed: int, data_dir: str | None) -> kc.datasets.ImageArrays:
    """CIFAR-10 with the crops and flips of the paper."""
    augment = kc.datasets.Augmentation(pad=4, flip=True)
    return kc.datasets.load_arrays("cifar10", augment=augment, seed=seed, batch_size=BATCH, data_dir=data_dir)


def trained_condensenet(seed: int, folder: pathlib.Path, data_dir: str | None) -> keras.Model:
    """CondenseNet-50 with its packaged weights, condensed; nothing is trained or read."""
    return kc.condense(kc.applications.CondenseNet50(weights="cifar10"))


def trained(seed: int, folder: pathlib.Path, data_dir: str | None, log: Callable[[str], None] = print) -> keras.Model:
    """The network after its training, which goes on where it was stopped."""
    keras.utils.set_random_seed(seed)
    model = network()
    data = arrays(seed, data_dir)
    log(f"parent, seed {seed}: {kc.profile_model(model).macs:,} multiply-adds, {EPOCHS} epochs")
    # test images are looked at once, when all is trained
    return train(model, data, folder, recipe=RECIPE, seed=seed, resume=True, validate=False, verbose=2)
