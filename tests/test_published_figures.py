"""Parameters and operations of every named CondenseNet, to the last digit that was published or counted."""

import pytest

import keras_condense as kc

# network, trainable parameters, operations by the paper's rule (millions), multiply-adds (millions), published
FIGURES = [
    ("CondenseNet50", 214_186, "28.640", "27.183"),  # 0.22M, 28.6M
    ("CondenseNet74", 402_026, "51.894", "49.205"),  # 0.41M, 51.9M
    ("CondenseNet86", 516_202, "65.812", "62.378"),  # 0.52M, 65.8M
    ("CondenseNet98", 643_882, "81.259", "76.993"),  # 0.65M, 81.3M
    ("CondenseNet110", 785_066, "98.233", "93.050"),  # 0.79M, 98.2M
    ("CondenseNet122", 939_754, "116.736", "110.549"),  # 0.95M, 116.7M
    ("CondenseNet182", 4_209_226, "512.659", "493.917"),  # 4.2M, 513M
    ("CondenseNetImageNet74G4", 4_773_944, "529.33", "516.641"),  # 4.8M, 529M
    ("CondenseNetImageNet74G8", 2_935_416, "274.23", "261.546"),  # 2.9M, 274M
]


def millions(count: int, like: str) -> str:
    return f"{count / 1e6:.{len(like.split('.')[1])}f}"


@pytest.mark.slow
@pytest.mark.parametrize(("network", "parameters", "flops", "macs"), FIGURES, ids=lambda value: str(value))
def test_condensed_network_has_the_published_size(network, parameters, flops, macs):
    model = getattr(kc.applications, network)()
    for layer in kc.callbacks.learned_layers(model):
        layer.condense_to(layer.final_stage)
    masked, condensed = kc.profile_model(model), kc.profile_model(kc.condense(model))
    for profile in (masked, condensed):
        assert profile.parameters == parameters
        assert millions(profile.flops, flops) == flops
        assert millions(profile.macs, macs) == macs
