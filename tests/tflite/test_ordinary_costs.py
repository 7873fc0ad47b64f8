"""Groups that a target's table calls dearer than ordinary convolutions are announced, with the layers that cost it."""

import keras
import numpy as np
import pytest

import keras_condense as kc

pytest.importorskip("tensorflow")

from keras_condense.tflite.group_costs import GroupCosts
from keras_condense.tflite.lowering import lower_model
from keras_condense.tflite.ordinary_costs import dearer_than_ordinary
from keras_condense.tflite.schemes import SCHEMES

L = keras.layers


def network():
    """A 3x3 convolution of few filters a group, and one of many."""
    keras.utils.set_random_seed(0)
    layers = [L.Conv2D(8, 3, name="window"), L.BatchNormalization(), L.ReLU(), L.Conv2D(64, 1, name="wide")]
    return keras.Sequential([keras.Input((24, 24, 8)), *layers], name="net")


def condensed(model, where):
    return kc.condense(kc.learn_groups(model, where=where), finish=True)


def test_a_file_that_is_dearer_is_announced_with_its_layers(caplog):
    small = condensed(network(), ["window", "wide"])
    rows = np.random.default_rng(0).normal(size=(8, 24, 24, 8)).astype("float32")
    kc.export_tflite(small, quantize="int8", representative_data=rows)
    (record,) = [record for record in caplog.records if "table of costs" in record.getMessage()]
    assert record.levelname == "WARNING"
    message = record.getMessage()
    assert message.startswith("net: by the table of costs of arm64 in int8 the file takes 0.")
    assert "These cost more: 'window' (0." in message
    assert "'wide'" not in message
    caplog.clear()
    kc.export_tflite(small, verify=False)  # in float32 they pay
    assert not [record for record in caplog.records if "table of costs" in record.getMessage()]


@pytest.mark.parametrize("quantize", ["int8", "dynamic"])
@pytest.mark.parametrize("target", ["arm64", "x86_64", "wasm"])
def test_ordinary_costs_are_those_of_the_model_before_groups_were_learned(target, quantize):
    model, scheme = network(), SCHEMES[quantize]
    lowering = lower_model(condensed(model, ["window", "wide"]), target, scheme)
    found, before = dearer_than_ordinary(lowering, scheme), GroupCosts(model, target, quantize).now
    assert (found is not None) == (lowering.cost > before.total)
    if found is not None:
        assert (found.cost, found.ordinary) == (lowering.cost, pytest.approx(before.total))
        # what layers cost more is what is told before groups are learned
        told = kc.explain_learn_groups(model, where=lambda layer: True, target=target, quantize=quantize)
        scale = 1e6 if target == "arm64" else 1e9
        more = {layer.name: -layer.saves * scale for layer in told.layers if layer.saves < 0}
        assert found.layers == pytest.approx(more)
