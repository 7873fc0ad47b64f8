"""The ways to hold a network: precision, containers of inputs and outputs, compiling, nesting, saving."""

import contextlib
import dataclasses
import pathlib
import tempfile
from collections import OrderedDict
from collections.abc import Iterator

import keras
import numpy as np

CONTAINERS = {"list": list, "dict": dict, "OrderedDict": OrderedDict}
# keys of outputs, whose alphabetical order is another than their own
KEYS = ("scores", "boxes", "mask", "classes")


@dataclasses.dataclass(frozen=True)
class Setting:
    """How a network is held; nothing of it changes what is computed in float32.

    Attributes:
        precision: the global policy under which it is built and condensed.
        inputs: the container of its inputs.
        outputs: the container of its outputs.
        compiled: arguments of `compile`, as Python.
        wrapped: another model calls it.
        frozen: every second layer is not trained.
        saved: it was written and read again.
    """

    precision: str = "float32"
    inputs: str = "list"
    outputs: str = "list"
    compiled: str = ""
    wrapped: bool = False
    frozen: bool = False
    saved: bool = False


PLAIN = Setting()
CHOICES = {
    "precision": ["float32", "float32", "mixed_bfloat16", "mixed_float16", "float64"],
    "inputs": ["list", "list", "dict", "OrderedDict"],
    "outputs": ["list", "list", "dict", "OrderedDict"],
    "compiled": [
        "",
        "",
        "loss='mse'",
        "optimizer='sgd', loss='mse', metrics=['mae']",
        "optimizer=keras.optimizers.AdamW(1e-3, weight_decay=0.01), loss=keras.losses.Huber(), jit_compile=False",
        "optimizer=keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 10), momentum=0.9), loss='mse'",
    ],
    "wrapped": [False, False, False, True],
    "frozen": [False, False, False, True],
    "saved": [False, False, False, False, True],
}


def random_setting(random: np.random.Generator) -> Setting:
    """Half of the networks are held plainly."""
    if random.random() < 0.5:
        return PLAIN
    drawn = {name: values[int(random.integers(len(values)))] for name, values in CHOICES.items()}
    if drawn["saved"]:  # Keras' files mix up the layers of an OrderedDict
        drawn |= {name: "dict" for name in ("inputs", "outputs") if drawn[name] == "OrderedDict"}
    return Setting(**drawn)


@contextlib.contextmanager
def precision(name: str) -> Iterator[None]:
    """A global policy for a while."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def contained(values: list, kind: str, keys: tuple[str, ...] | list[str]):
    """Values in a container; a dict's keys are `keys`."""
    return list(values) if kind == "list" else CONTAINERS[kind](zip(keys, values, strict=False))


def output_keys(count: int) -> list[str]:
    """Keys of a dict of outputs."""
    return [f"{KEYS[n % len(KEYS)]}{n // len(KEYS) or ''}" for n in range(count)]


def held(model: keras.Model, **setting) -> keras.Model:
    """A network that computes what `model` does, held in another way; see `Setting`."""
    setting = Setting(**setting)
    inputs, outputs = model.inputs, model.outputs
    if setting.frozen:
        for layer in model.layers[::2]:
            layer.trainable = False
    # keys of a dict are the inputs' names, in another order than theirs
    inputs = contained(inputs[::-1], setting.inputs, [x.name for x in inputs[::-1]])
    inputs = inputs[::-1] if setting.inputs == "list" else inputs
    model = keras.Model(inputs, contained(outputs, setting.outputs, output_keys(len(outputs))))
    if setting.wrapped:
        outer = keras.tree.map_structure(lambda x: keras.Input(x.shape[1:], name=x.name, dtype=x.dtype), inputs)
        model = keras.Model(outer, model(outer))
    if setting.compiled:
        model.compile(**eval(f"dict({setting.compiled})", {"keras": keras}))
        model.optimizer.build(model.trainable_variables)  # or Keras warns when it reads a saved one
    if setting.saved:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "model.keras")
            model.save(path)
            model = keras.saving.load_model(path)
    return model
