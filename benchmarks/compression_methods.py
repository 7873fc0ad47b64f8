"""What `compressing.py` compares: each way to make a trained network smaller, with the same training after it.

A method takes the trained parent and gives the file's content. `Setting.recipe` is the training that all have.
"""

import dataclasses
import pathlib
import subprocess
import sys
from collections.abc import Callable

import keras
import numpy as np

import keras_condense as kc
from keras_condense.training import Recipe, recipe_of, train

EPOCHS = 3
TUNING = Recipe(epochs=EPOCHS, learning_rate=0.02, decay="linear", weight_decay=5e-4, alternate_flips=True)
SHORT_TUNING = recipe_of(
    TUNING, epochs=1, learning_rate=0.005
)  # of CondenseNet-50, whose epoch takes seven times as long
GROUPS, SPARSITY, BITS, CALIBRATION = 4, 0.8, 5, 500


@dataclasses.dataclass(frozen=True)
class Setting:
    """What every method gets.

    Attributes:
        data: images to train on.
        folder: of the method's own, for what can be resumed.
        seed: of the training.
        data_dir: of tensorflow-datasets.
        recipe: of the training that all methods have.
    """

    data: kc.datasets.ImageArrays
    folder: pathlib.Path
    seed: int
    data_dir: str | None
    recipe: Recipe

    def tuned(self, model: keras.Model, teacher: keras.Model | None = None) -> keras.Model:
        """The model after the training that all have."""
        return train(
            model,
            self.data,
            self.folder,
            recipe=self.recipe,
            seed=self.seed,
            resume=True,
            validate=False,  # test images are looked at once, by the file
            teacher=teacher,
            verbose=2,
        )

    @property
    def calibration(self) -> np.ndarray:
        """Training images to calibrate with."""
        return self.data.representative_data(CALIBRATION)


Made = tuple[keras.Model, dict]  # the model that is exported, and the arguments of `export_tflite`


def unchanged(parent: keras.Model, setting: Setting) -> Made:
    return parent, {}


def trained_on(parent: keras.Model, setting: Setting) -> Made:
    return setting.tuned(parent), {}


def int8_after_training(parent: keras.Model, setting: Setting) -> Made:
    return parent, {"quantize": "int8", "representative_data": setting.calibration}


def quantization_aware(parent: keras.Model, setting: Setting) -> Made:
    return setting.tuned(kc.quantize_aware(parent, setting.calibration)), {"quantize": "int8"}


def learned_groups(parent: keras.Model, setting: Setting) -> Made:
    return setting.tuned(kc.learn_groups(parent, GROUPS, GROUPS)), {}


def fixed_groups(parent: keras.Model, setting: Setting) -> Made:
    """The same groups of filters, each with the inputs that an ordinary group convolution reads: its part in order."""
    model = kc.learn_groups(parent, GROUPS, GROUPS)
    for layer in kc.layers.condensable_layers(model):
        inputs = layer.mask.shape[-1]
        layer.set_mask(np.repeat(np.eye(GROUPS), inputs // GROUPS, axis=1))
    return setting.tuned(model), {}


def pruned(parent: keras.Model, setting: Setting) -> Made:
    return setting.tuned(kc.prune_weights(parent, SPARSITY)), {}


def pruned_in_pairs(parent: keras.Model, setting: Setting) -> Made:
    """Pairs of neighbouring filters lose the same inputs; the classifier, of ten, single weights as well as pairs."""
    return setting.tuned(kc.prune_weights(parent, SPARSITY, block=2)), {}


def pruned_by_tfmot(parent: keras.Model, setting: Setting) -> Made:
    """By tensorflow-model-optimization, in a process of its own, for it switches TensorFlow to the old Keras."""
    given, made = setting.folder / "parent.keras", setting.folder / "pruned.keras"
    setting.folder.mkdir(parents=True, exist_ok=True)
    if not made.exists():
        parent.save(given)
        program = pathlib.Path(__file__).with_name("compression_tfmot.py")
        command = [sys.executable, str(program), str(given), str(made), str(setting.seed), setting.data_dir or ""]
        subprocess.run(command, check=True)
    return keras.saving.load_model(made), {}


def shared(parent: keras.Model, setting: Setting) -> Made:
    return setting.tuned(kc.share_weights(parent, BITS)), {"share_weights": BITS}


def all_together(parent: keras.Model, setting: Setting) -> Made:
    aware = kc.quantize_aware(kc.learn_groups(parent, GROUPS, GROUPS), setting.calibration)
    return setting.tuned(aware, teacher=parent), {"quantize": "int8"}


METHODS: dict[str, Callable[[keras.Model, Setting], Made]] = {
    "parent": unchanged,
    "parent, int8 after training": int8_after_training,
    "quantization-aware": quantization_aware,
    "learned groups": learned_groups,
    "learned groups, quantization-aware, teacher": all_together,
    "pruned 80 %": pruned,
    "pruned 80 % by tfmot": pruned_by_tfmot,
    "parent, trained on": trained_on,
    "shared, 5 bits": shared,
    "fixed groups": fixed_groups,
    "pruned 80 % in pairs": pruned_in_pairs,
}
# those for a network that has learned its groups
OF_CONDENSED = (
    "parent",
    "parent, int8 after training",
    "parent, trained on",
    "quantization-aware",
    "shared, 5 bits",
)
