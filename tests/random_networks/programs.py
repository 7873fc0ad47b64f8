"""A network as a program: lines of Python, each of which calls a layer, so that it can be printed and made smaller."""

import dataclasses
import re

import keras
import numpy as np

import keras_condense as kc
from random_networks.settings import PLAIN, Setting, held, precision

HEADER = """\
import keras, numpy as np
from keras import layers as L
from keras_condense import layers as K
from random_networks import finished, held
"""


@dataclasses.dataclass(frozen=True)
class Program:
    """A network as Python: `lines` of the form `name = expression`, the names of its outputs, and how it is held."""

    seed: int
    lines: tuple[str, ...]
    outputs: tuple[str, ...]
    setting: Setting = PLAIN

    def source(self) -> str:
        """What can be run by itself, in the folder of the tests."""
        policy = f"keras.config.set_dtype_policy({self.setting.precision!r})\n" if self.setting != PLAIN else ""
        model = f"model = finished({self._model()}, seed={self.seed})\n"
        changed = [
            f"{field.name}={getattr(self.setting, field.name)!r}"
            for field in dataclasses.fields(Setting)
            if getattr(self.setting, field.name) != field.default
        ]
        wrapped = f"model = held(model, {', '.join(changed)})\n" if changed else ""
        return f"{HEADER}\n{policy}{chr(10).join(self.lines)}\n{model}{wrapped}"

    def inputs(self) -> list[str]:
        """The names of its inputs."""
        names = [line.split(" = ")[0] for line in self.lines if re.match(r"\w+ = keras\.Input", line)]
        return [name for name in names if not name.endswith("inner")]

    def _model(self) -> str:
        return f"keras.Model([{', '.join(self.inputs())}], [{', '.join(self.outputs)}])"

    def build(self) -> keras.Model:
        """The network, masked, with every learned layer at its last stage."""
        with precision(self.setting.precision):
            names = {"keras": keras, "L": keras.layers, "K": kc.layers, "np": np}
            for line in self.lines:
                exec(line, names)
            model = finished(eval(self._model(), names), self.seed)
            return held(model, **dataclasses.asdict(self.setting)) if self.setting != PLAIN else model


def finished(model: keras.Model, seed: int) -> keras.Model:
    """Random weights as after training, norms of negative and of no scale among them, and masks at their last stage."""
    random = np.random.default_rng(seed)
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.BatchNormalization):
            for name, variable in (("gamma", layer.gamma), ("beta", layer.beta)):
                if variable is not None:
                    values = random.uniform(0.5, 1.5, variable.shape) * random.choice([1, 1, -1, 0], variable.shape)
                    variable.assign(values if name == "gamma" or random.random() < 0.8 else 0 * values)
            layer.moving_mean.assign(random.normal(size=layer.moving_mean.shape) * random.choice([0.0, 0.5]))
            layer.moving_variance.assign(random.uniform(0.5, 2.0, layer.moving_variance.shape))
        elif not isinstance(layer, keras.Model) and not layer._layers:
            for variable in layer.trainable_variables:
                inputs = np.prod(variable.shape[:-1]) if len(variable.shape) > 1 else 4
                variable.assign(random.normal(size=variable.shape) / np.sqrt(max(inputs, 1)))
    for layer in kc.layers.condensable_layers(model):
        layer.condense_to(layer.final_stage)
    return model


def needed(lines: tuple[str, ...], outputs: tuple[str, ...]) -> tuple[str, ...]:
    """The lines that the outputs need."""
    wanted, kept = set(outputs), []
    for line in reversed(lines):
        name, expression = line.split(" = ", 1)
        if name in wanted:
            wanted |= set(re.findall(r"\b(?:[a-z]+\d+(?:inner)?)\b", expression))
            kept.append(line)
    return tuple(reversed(kept))
