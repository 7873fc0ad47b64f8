"""Names of the first version that programs may use go on meaning the same."""

import keras_condense as kc
from keras_condense import drop_plans, masks


def test_former_names():
    assert kc.layers.LearnedInputs is kc.layers.LearnedConnections
    assert kc.callbacks.learned_layers is kc.layers.learned_layers is kc.layers.condensable_layers
    assert kc.learnable_layers is kc.explain_learn_groups
    assert kc.datasets.Recipe is kc.datasets.ImageDefaults
    assert kc.datasets.RECIPES is kc.datasets.IMAGE_DEFAULTS


def test_the_former_module_of_all_mathematics():
    for module in (drop_plans, masks):
        for name in module.__all__:
            assert getattr(kc.condensing, name) is getattr(module, name)
