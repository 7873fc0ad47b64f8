"""A network in all its forms: masked, condensed, and every candidate of every target, held against each other."""

import dataclasses

import keras
import numpy as np

import keras_condense as kc
from keras_condense.tflite.frontend import read_model
from keras_condense.tflite.graph import Graph
from keras_condense.tflite.lowering import candidates
from keras_condense.tflite.passes import sparse
from keras_condense.tflite.preparation import in_float32
from keras_condense.tflite.schemes import FLOAT32, SCHEMES
from keras_condense.tflite.signature import inputs_of as signature_of
from keras_condense.tflite.signature import output_names
from keras_condense.tflite.targets import Target, targets
from keras_condense.tflite.tracing import emit
from random_networks.programs import Program
from random_networks.settings import PLAIN, Setting, output_keys, precision

# Condensing leaves out zeros, and a lowering adds up in another order: float32 through a dozen layers, relative to the
# largest output. 1e-4 is what `export_tflite` promises.
CONDENSED, LOWERED = 2e-5, 1e-4


@dataclasses.dataclass
class Checked:
    """What was compared: how many graphs, and the largest difference of the condensed network and of a graph."""

    graphs: int = 0
    condensed: float = 0.0
    lowered: float = 0.0
    failure: str = ""


def random_target(random: np.random.Generator) -> Target:
    """A processor on which any form may be the cheapest."""
    known = targets()["arm64"]
    table = {
        kind: {feature: cost * 10 ** random.uniform(-3, 2) for feature, cost in costs.items()}
        for kind, costs in known.costs["float32"].items()
    }
    if random.random() < 0.5:  # convolutions are split where both are cheap
        table |= {"depthwise": {}, "convolution": {"outputs": 1e-3}}
    return dataclasses.replace(
        known, lanes={"float32": int(random.choice([1, 2, 4, 8, 16, 32]))}, costs={"float32": table}
    )


def difference(actual: dict, expected: dict) -> float:
    """The largest difference, in units of the largest magnitude of its output."""
    assert set(actual) == set(expected)
    worst = 0.0
    for name, value in expected.items():
        assert actual[name].shape == value.shape, (name, actual[name].shape, value.shape)
        apart, scale = np.abs(actual[name] - value).max(initial=0), np.abs(value).max(initial=0)
        worst = max(worst, float(apart / scale if scale else apart), 0.0 if np.isfinite(apart) else np.inf)
    return worst


def inputs_of(model: keras.Model, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.normal(size=(1, *x.shape[1:])).astype("float32") for x in model.inputs]


def outputs_of(model: keras.Model, inputs: list[np.ndarray]) -> dict[str, np.ndarray]:
    """What a network held plainly makes of a list of inputs."""
    outputs = keras.tree.flatten(model(inputs, training=False))
    return {f"y{i}": keras.ops.convert_to_numpy(y) for i, y in enumerate(outputs)}


def outputs_of_held(model: keras.Model, rows: dict[str, np.ndarray], setting: Setting) -> dict[str, np.ndarray]:
    """What a network that takes and gives `setting`'s containers makes of inputs by their names."""
    names = [x.name for x in keras.tree.flatten(model.input)]
    outputs = model(keras.tree.pack_sequence_as(model.input, [rows[name] for name in names]), training=False)
    outputs = outputs if setting.outputs == "list" else [outputs[key] for key in output_keys(len(outputs))]
    return {f"y{i}": keras.ops.convert_to_numpy(y) for i, y in enumerate(keras.tree.flatten(outputs))}


def all_graphs(model: keras.Model, random: np.random.Generator, tables: int = 4):
    """Every candidate of every target and scheme, and of some random tables of costs."""
    graph = read_model(model, signature_of(model).names, output_names(model))
    ways = [(name, target, FLOAT32) for name, target in targets().items()]
    ways += [(name, targets()["arm64"], scheme) for name, scheme in SCHEMES.items() if name in ("int8", "dynamic")]
    ways += [(f"table {number} of costs", random_target(random), FLOAT32) for number in range(tables)]
    yield "as read", graph
    for label, target, scheme in ways:
        for name, candidate, _ in candidates(graph, target, scheme):
            yield f"{name}, {label}", candidate


def fingerprint(graph: Graph) -> tuple:
    """The same for two graphs that compute the same in the same way, whatever their nodes are called."""

    def of_value(value):
        if isinstance(value, np.ndarray):
            return value.shape, str(value.dtype), value.tobytes()
        try:
            hash(value)
        except TypeError:
            return id(value)
        return value

    places = {node.name: place for place, node in enumerate(graph)}
    nodes = []
    for node in graph:
        attributes = (of_value(getattr(node.op, field.name)) for field in dataclasses.fields(node.op))
        nodes.append((type(node.op), *attributes, *(places[name] for name in node.inputs), node.shape))
    return (*nodes, *((name, places[node]) for name, node in graph.outputs.items()))


def check(program: Program, tables: int = 4) -> Checked:
    """Compare a network in all its forms; `failure` says which one is wrong."""
    result = Checked()
    enough, sparse._ENOUGH_ZEROS = sparse._ENOUGH_ZEROS, -1.0  # also where XNNPACK would not go channels-first
    try:
        with precision(program.setting.precision):
            _compare(program, tables, result)
    except Exception as error:
        result.failure = f"{type(error).__name__}: {error}"
    finally:
        sparse._ENOUGH_ZEROS = enough
    return result


def _compare(program: Program, tables: int, result: Checked) -> None:
    """Fill in `result`."""
    setting = program.setting
    model = dataclasses.replace(program, setting=PLAIN).build()
    inputs = inputs_of(model, program.seed)
    rows = dict(zip(program.inputs(), inputs, strict=True))
    expected = outputs_of(model, inputs)
    if not all(np.isfinite(value).all() for value in expected.values()):
        result.failure = "the network itself is not finite"
        return
    small = kc.condense(model)
    result.condensed = difference(outputs_of(small, inputs), expected)
    if result.condensed <= CONDENSED and setting != PLAIN:
        condensed = kc.condense(program.build())
        assert condensed.compiled == bool(setting.compiled), "compiled otherwise"
        small = in_float32(condensed)
        result.condensed = difference(outputs_of_held(small, rows, setting), expected)
    if not result.condensed <= CONDENSED:
        result.failure = f"condensed: {result.condensed:.2g}"
        return
    keys = output_keys(len(expected)) if setting.outputs != "list" else output_names(small)
    expected = dict(zip(keys, expected.values(), strict=True))
    inputs = [rows[key] for key in signature_of(small).keys]
    right = {}  # the graphs too, or another object could come to have an id of theirs
    for name, graph in all_graphs(small, np.random.default_rng(program.seed), tables):
        result.graphs += 1
        if (found := fingerprint(graph)) in right:
            continue
        computed = {key: np.asarray(value) for key, value in emit(graph, inputs).items()}
        apart = difference(computed, expected)
        right[found] = graph
        result.lowered = max(result.lowered, apart)
        if not apart <= LOWERED:
            result.failure = f"{name}: {apart:.2g}"
            return
