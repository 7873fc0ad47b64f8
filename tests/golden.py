"""What the authors' own PyTorch program computed on random weights, and our network holding the same weights.

`data/condensenet_cifar_g4_c4.npz` holds kernels and batch-norm statistics (`weights/<torch name>`, OIHW), an input
batch, the logits, masks and group lassos at every stage, and the condensed network's logits and indices.
"""

import pathlib
import re

import numpy as np

from keras_condense.applications import CondenseNet

GOLDEN_FILE = pathlib.Path(__file__).parent / "data" / "condensenet_cifar_g4_c4.npz"
LEARNED_NAME = re.compile(r"features\.denseblock_(\d+)\.denselayer_(\d+)\.conv_1")


def load_golden() -> dict[str, np.ndarray]:
    """All arrays of the golden file by their names."""
    with np.load(GOLDEN_FILE) as arrays:
        return dict(arrays)


def learned_layers(golden: dict) -> dict[str, str]:
    """The authors' names of the learned convolutions -> our layers' names, in the network's order."""
    names = (name.removeprefix("stage1/mask/") for name in golden if name.startswith("stage1/mask/"))
    return {name: "block{}_layer{}_1_conv".format(*LEARNED_NAME.fullmatch(name).groups()) for name in names}


def golden_model(golden: dict, **arguments):
    """The golden network with its weights, dense, giving logits; `arguments` go to `CondenseNet` as well."""
    model = CondenseNet(
        golden["config_stages"].tolist(),
        golden["config_growth"].tolist(),
        groups=int(golden["config_groups"]),
        condense_factor=int(golden["config_condense_factor"]),
        bottleneck_factor=int(golden["config_bottleneck"]),
        stem_strides=int(golden["config_stem_strides"]),
        classes=int(golden["config_classes"]),
        classifier_activation=None,
        **arguments,
    )
    weights = {name.removeprefix("weights/"): array for name, array in golden.items() if name.startswith("weights/")}

    def set_kernel(layer: str, name: str) -> None:
        model.get_layer(layer).kernel.assign(weights.pop(f"{name}.weight").transpose(2, 3, 1, 0))

    def set_statistics(layer: str, name: str) -> None:
        model.get_layer(layer).set_weights(
            [weights.pop(f"{name}.{part}") for part in ("weight", "bias", "running_mean", "running_var")]
        )

    set_kernel("stem_conv", "features.init_conv")
    for learned, layer in learned_layers(golden).items():
        ours, theirs = layer.removesuffix("_1_conv"), learned.removesuffix("_1")
        for part in (1, 2):
            set_statistics(f"{ours}_{part}_bn", f"{theirs}_{part}.norm")
            set_kernel(f"{ours}_{part}_conv", f"{theirs}_{part}.conv")
    set_statistics("bn", "features.norm_last")
    classifier = model.get_layer("predictions")
    classifier.kernel.assign(weights.pop("classifier.weight").T)
    classifier.bias.assign(weights.pop("classifier.bias"))
    assert not weights, f"never set: {sorted(weights)}"
    return model
