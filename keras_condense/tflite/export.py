"""Keras models as .tflite files: prepare the model, trace it into a static graph, convert the graph."""

import dataclasses
import functools
import gc
import itertools
import logging
import math
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_condense.conversion import condense
from keras_condense.files import check_writable, write_bytes
from keras_condense.keras_graphs import functional_form
from keras_condense.layers import ChannelIndex, ChannelScatterAdd, ChannelShuffle, GroupConv2D, LearnedInputs
from keras_condense.tflite.emission import emit
from keras_condense.tflite.frontend import is_readable, read_model
from keras_condense.tflite.graph import Graph
from keras_condense.tflite.lowering import LOWERING_TARGETS, Lowering, lower
from keras_condense.tflite.quantization import QUANTIZATIONS, configure_quantization, representative_rows
from keras_condense.tflite.runtime import (
    RUNTIMES,
    benchmark_tflite,
    native_output_logged,
    operators_outside_xnnpack,
)
from keras_condense.tflite.verification import (
    TOLERANCE,
    Difference,
    Outputs,
    Rows,
    compare,
    file_outputs,
    first_layer_that_differs,
    model_outputs,
    rows_for,
    stacked,
)
from keras_condense.validation import check_choice

__all__ = ["convert_graph", "export_tflite"]

logger = logging.getLogger(__name__)


# --- prepare the Keras model ---------------------------------------------------------------------------------------
def _check_model(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"`model` (={model!r}) must be a keras.Model. Load a saved one with `keras.saving.load_model(path)`."
        )
    if keras.config.backend() != "tensorflow":
        raise ValueError(
            f"`model` runs on the Keras backend {keras.config.backend()!r}, and export needs 'tensorflow'. Save it "
            "with `model.save('model.keras')` and export it in a process started with KERAS_BACKEND=tensorflow."
        )
    if not model.built:
        raise ValueError(
            f"`model` (={model.name!r}) must be built, and has no weights yet. Begin it with a `keras.Input`, or "
            "call it on a batch first."
        )
    for layer in model._flatten_layers():
        if isinstance(layer, (ChannelIndex, ChannelScatterAdd)):
            layer.check_indices()  # `set_weights` takes any
    for variable in model.variables:
        values = ops.convert_to_numpy(variable)
        if values.dtype.kind not in "iub" and not np.isfinite(values.astype("float32")).all():
            raise ValueError(
                f"Weight {variable.path!r} of `model` must be finite, and has NaN or infinity. Export a checkpoint "
                "from before the training diverged."
            )


def _in_float32(model: keras.Model) -> keras.Model:
    """`model` computing in float32, which is what .tflite kernels compute in; itself if it does so already."""
    if all(layer.compute_dtype in (None, "float32") for layer in model._flatten_layers(include_self=False)):
        return model
    if not getattr(model, "inputs", None):
        raise ValueError(
            f"`model` (={model.name!r}) computes in {model.compute_dtype}, and a subclassed model must compute in "
            'float32 to be exported. Build it with `dtype="float32"` and copy the weights with `set_weights`.'
        )

    def with_float32(layer: keras.layers.Layer) -> keras.layers.Layer:
        return type(layer).from_config(layer.get_config() | {"dtype": "float32"})

    clone = keras.models.clone_model(model, clone_function=with_float32, recursive=True)
    clone.set_weights(model.get_weights())
    return clone


def _prepare(model: keras.Model) -> keras.Model:
    """The model to export: condensed if it is masked, and in float32."""
    if any(isinstance(layer, LearnedInputs) for layer in model._flatten_layers()):
        model = condense(model)
    return _in_float32(model)


# --- what goes in and out ------------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class _Inputs:
    """The model's inputs: their nesting as `model` is called with them, and each one's name, shape and dtype."""

    structure: Any
    names: list[str]
    shapes: list[tuple[int, ...]]  # without the batch
    dtypes: list[str]


def _unique(names: list[str]) -> list[str]:
    """Names of ASCII letters, digits and underscores, as TensorFlow's scopes have them, numbered where they repeat."""
    found: list[str] = []
    for name in names:
        base = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_") or "tensor"
        candidates = (base if number == 0 else f"{base}_{number}" for number in range(len(names)))
        found.append(next(candidate for candidate in candidates if candidate not in found))
    return found


def _layer_name(tensor: keras.KerasTensor) -> str:
    """The name of the `keras.Input` that made `tensor`."""
    return tensor._keras_history.operation.name if hasattr(tensor, "_keras_history") else tensor.name


def _signature_name(tensor: keras.KerasTensor) -> str:
    """The input's name, or "input" if Keras made it up; such names count on through a process and mean nothing."""
    name = _layer_name(tensor)
    return "input" if re.fullmatch(r"(input_layer|keras_tensor)(_\d+)?", name) else name


def _subclassed_inputs(model: keras.Model) -> Any:
    """Symbolic inputs for a model without a graph, from the shape that it was built with."""
    shape = (model.get_build_config() or {}).get("input_shape")
    if not (
        isinstance(shape, (tuple, list)) and len(shape) > 0 and all(s is None or isinstance(s, int) for s in shape)
    ):
        raise ValueError(
            f"`model` (={model.name!r}) is a subclassed model whose inputs are not known. Wrap it: "
            "`inputs = keras.Input(shape); keras.Model(inputs, model(inputs))`."
        )
    return keras.KerasTensor((None, *shape[1:]), dtype=model.input_dtype, name="input")


def _inputs(model: keras.Model) -> _Inputs:
    if isinstance(model, keras.Sequential):
        structure = model.inputs[0]
    elif getattr(model, "inputs", None):
        structure = model.input
    else:
        structure = _subclassed_inputs(model)
    tensors = keras.tree.flatten(structure)
    for tensor in tensors:
        described = f"Input {_layer_name(tensor)!r} of `model` has the shape {tuple(tensor.shape)}"
        if None in tensor.shape[1:]:
            raise ValueError(
                f"{described}, and all of it but the batch must be known. Build the model again with a full "
                "`input_shape` and copy the weights with `set_weights`."
            )
        if tensor.shape[0] not in (None, 1):
            raise ValueError(
                f"{described}, a fixed batch, and export is for batch 1. Build the model again without `batch_shape` "
                "and copy the weights with `set_weights`."
            )
    return _Inputs(
        structure,
        _unique([_signature_name(tensor) for tensor in tensors]),
        [tuple(tensor.shape[1:]) for tensor in tensors],
        [keras.backend.standardize_dtype(tensor.dtype) for tensor in tensors],
    )


def _output_names(model: keras.Model, outputs: Any) -> list[str]:
    """A name for each output: its key in a dict, else the layer that makes it."""
    if isinstance(outputs, dict) and not any(isinstance(value, (dict, list, tuple)) for value in outputs.values()):
        return [str(key) for key in sorted(outputs)]
    count = len(keras.tree.flatten(outputs))
    names = list(getattr(functional_form(model), "output_names", None) or [])
    return names if len(names) == count else ["output"] * count


# --- lower it to what the target is good at -----------------------------------------------------------------------
def _has_our_layers(model: keras.Model) -> bool:
    ours = (ChannelIndex, ChannelShuffle, GroupConv2D)
    return any(isinstance(layer, ours) for layer in model._flatten_layers(include_self=False))


def _lower(model: keras.Model, inputs: _Inputs, quantize: str | None, target: str) -> Lowering | None:
    """The model as the target executes it best; None for one without our layers or without a graph."""
    if not _has_our_layers(model) or not is_readable(model):
        return None
    outputs = model.outputs[0] if isinstance(model, keras.Sequential) else model.output
    graph = read_model(model, inputs.names, _unique(_output_names(model, outputs)))
    timed = functools.partial(_picoseconds, model=model)
    return lower(graph, target, quantize=quantize, timed=timed)


def _picoseconds(graph: Graph, model: keras.Model) -> float:
    """The fastest of some runs on the interpreter at hand."""
    return 1e9 * benchmark_tflite(convert_graph(graph, model), runs=20, warmup=5).minimum_ms


# --- trace it into a static graph ----------------------------------------------------------------------------------
def _module(serve: Callable, names: list[str], shapes: list[tuple[int, ...]], dtypes: list[str]):
    """A tf.Module with one function, `serve`, at batch 1."""
    import tensorflow as tf

    specs = [tf.TensorSpec((1, *shape), dtype, name) for name, shape, dtype in zip(names, shapes, dtypes, strict=True)]
    module = tf.Module()
    module.serve = tf.function(serve, input_signature=specs, autograph=False, jit_compile=False)
    return module


def _constant_variables(variables: Iterable) -> Callable[[], keras.StatelessScope]:
    """A function that makes a scope in which variables are constants of the graph.

    There are then no variables to track or to freeze, which takes most of the time of a conversion otherwise, and none
    that the converter could leave out.
    """
    import tensorflow as tf

    values = [(variable, ops.convert_to_numpy(variable)) for variable in variables]
    return lambda: keras.StatelessScope(state_mapping=[(variable, tf.constant(value)) for variable, value in values])


def _trace(model: keras.Model, inputs: _Inputs):
    """The model in inference, layer by layer as Keras calls it."""
    constants = _constant_variables(model.variables)

    def serve(*tensors):
        with constants():
            outputs = model(keras.tree.pack_sequence_as(inputs.structure, list(tensors)), training=False)
        flat = keras.tree.flatten(outputs)
        return dict(zip(_unique(_output_names(model, outputs)), flat, strict=True))

    return _module(serve, inputs.names, inputs.shapes, inputs.dtypes)


def _trace_graph(graph: Graph):
    """A lowered network, with the layers that are passed through."""
    constants = _constant_variables(variable for node in graph for variable in node.get("variables", ()))

    def serve(*tensors):
        with constants():
            return emit(graph, list(tensors))

    inputs = [node for node in graph if node.op == "input"]
    return _module(
        serve,
        [node.name for node in inputs],
        [node.shape for node in inputs],
        [node["dtype"] for node in inputs],
    )


# --- convert the graph ---------------------------------------------------------------------------------------------
def _reworded(error: Exception, model: keras.Model) -> ValueError:
    """The converter's error in terms of the model's layers."""
    operators = {}
    for data in getattr(error, "errors", []):
        if data.operator.name:
            scope = data.location.call[0].name if data.location.call else ""
            operators.setdefault(data.operator.name, scope)
    if not operators:
        return ValueError(
            f"`model` (={model.name!r}) must consist of operators that TensorFlow Lite has, and its converter refused: "
            f"{str(error).strip().splitlines()[0]} Replace the layer concerned."
        )
    layers = {layer.name for layer in model._flatten_layers(include_self=False)}
    described = []
    for operator, scope in operators.items():
        # scopes repeat a layer's name with a number behind it when it is called a second time
        parts = [re.sub(r"_\d+$", "", part) if part not in layers else part for part in scope.split("/")[:-1]]
        owner = next((part for part in reversed(parts) if part in layers), scope or "an unknown layer")
        described.append(f"{operator} in layer {owner!r}")
    return ValueError(
        f"`model` (={model.name!r}) must consist of operators that TensorFlow Lite has, and has not: "
        f"{'; '.join(described)}. Replace the layer, or leave this step out of the model and do it outside."
    )


def _convert(
    module,
    model: keras.Model | None,
    quantize: str | None = None,
    rows: list[dict[str, np.ndarray]] | None = None,
    sparse: bool = False,
) -> bytes:
    import tensorflow as tf
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.python.convert_phase import ConverterError

    graph = module.serve.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph], module)
    converter.exclude_conversion_metadata = True
    configure_quantization(converter, quantize, rows)
    if sparse:
        converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    python_log = logging.getLogger("absl")
    level = python_log.level
    python_log.setLevel(logging.ERROR)
    try:
        with native_output_logged(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it calibrates with TensorFlow's interpreter, which recommends LiteRT's
            content = converter.convert()
    except (ConverterError, RuntimeError) as error:
        if model is None:
            raise
        raise _reworded(error, model) from error
    finally:
        python_log.setLevel(level)
        gc.collect()  # the converter leaves many times the file's size behind in cycles
    if schema.Model.GetRootAs(content).SignatureDefsLength() != 1:
        # the converter writes the graph to a temporary folder, and where it can't, it silently goes on without names
        raise OSError(
            f"The temporary folder {tempfile.gettempdir()!r} must have room for the model, and TensorFlow could not "
            "write there. Free some space or set TMPDIR."
        )
    return content


def convert_graph(graph: Graph, model: keras.Model | None = None) -> bytes:
    """Convert a lowered network in float32.

    Args:
        graph: the network.
        model: the model it was read from, whose layers errors name.

    Returns:
        The content of a .tflite file.
    """
    # stored sparse, the weights tell XNNPACK to look for a part to execute channels-first
    sparse = any(node.get("channels_first") for node in graph)
    return _convert(_trace_graph(graph), model, sparse=sparse)


def _content(lowering: Lowering | None, model: keras.Model, quantize: str | None, rows: Rows | None = None) -> bytes:
    """A lowered network as a file, or a model as it is where there is none."""
    if lowering is None:
        return _convert(_trace(model, _inputs(model)), model, quantize, rows)
    if quantize is None:
        return convert_graph(lowering.graph, model)
    return _convert(_trace_graph(lowering.graph), model, quantize, rows)


# --- does it compute the same? ---------------------------------------------------------------------------------------
# of quantized files' outputs, in units of their own root mean square, beyond which a file is of little use
_LARGEST_RMS = 0.5


def _outputs_of(model: keras.Model, rows: Rows, *, at_once: bool = False) -> Outputs:
    structure = _inputs(model).structure
    return model_outputs(
        model, structure, lambda outputs: _unique(_output_names(model, outputs)), rows, at_once=at_once
    )


def _emitted(graph: Graph, rows: Rows) -> Outputs:
    """What a lowered network computes in TensorFlow, in float32."""
    with _constant_variables(variable for node in graph for variable in node.get("variables", ()))():
        parts = [emit(graph, [ops.convert_to_tensor(array) for array in row.values()]) for row in rows]
    return stacked([{name: ops.convert_to_numpy(tensor) for name, tensor in part.items()} for part in parts])


def _rows_and_outputs(model: keras.Model, given: Rows | None) -> tuple[Rows, Outputs]:
    """Inputs to compare on, and what the model computes from them; none if it refuses all that are tried."""
    inputs, refused = _inputs(model), None
    # the highest of random integers, which a layer may look up in a small table; and models of batch 1 alone
    for highest, at_once in itertools.product((255, 1), (True, False)):
        rows = rows_for(inputs.names, inputs.shapes, inputs.dtypes, given, highest=highest)
        try:
            return rows, _outputs_of(model, rows, at_once=at_once)
        except Exception as error:  # whatever a layer raises
            refused = error
    logger.warning("%s: not compared with its file, for it refuses random inputs: %s", model.name, refused)
    return [], {}


def _is_wrong(differences: Iterable[Difference]) -> bool:
    return not all(difference.largest <= TOLERANCE for difference in differences)


def _check_numbers(differences: Iterable[Difference], model: keras.Model) -> None:
    """Say where the model itself has no numbers to compare with."""
    for difference in differences:
        if difference.finite == 0:
            raise ValueError(
                f"Output {difference.output!r} of `model` (={model.name!r}) must be finite for some of the inputs that "
                "its file is checked with, and the model itself gives NaN or infinity for all of them, random numbers "
                "near 0. Look for a logarithm, a root or a division, or leave the check out with verify=False."
            )
        if difference.finite < 1:
            logger.warning(
                "%s: the model itself gives NaN or infinity in %.0f%% of output %r; the rest was compared",
                model.name, 100 * (1 - difference.finite), difference.output,
            )  # fmt: skip


def _first_difference(
    prepared: keras.Model, expected: Outputs, name: str, quantize: str | None, target: str, rows: Rows
) -> str:
    """Where a wrong file begins to differ from its model, in words."""
    if _is_wrong(compare(_outputs_of(prepared, rows), expected)):
        return "The condensed model differs already"

    def differs(part: keras.Model) -> bool:
        lowering = _lower(part, _inputs(part), quantize, target)
        wanted = _outputs_of(part, rows)
        if quantize is None:
            return _is_wrong(compare(file_outputs(_content(lowering, part, None), list(wanted), rows), wanted))
        return lowering is not None and _is_wrong(compare(_emitted(lowering.graph, rows), wanted))

    layer = first_layer_that_differs(prepared, list(expected).index(name), differs)
    return "No layer differs by itself" if layer is None else f"The first layer that differs is {layer!r}"


def _verify(
    content: bytes,
    lowering: Lowering | None,
    model: keras.Model,
    prepared: keras.Model,
    quantize: str | None,
    target: str,
    given: Rows | None,
) -> str:
    """Compare a file with the model, raise if it is wrong, and say how near it comes.

    In float32 the file must be exact; of a quantized one the network that was quantized must be, and how near the file
    itself comes is said.
    """
    reference = _in_float32(model)
    rows, expected = _rows_and_outputs(reference, given)
    if not rows:
        return "not compared"
    names = list(expected)
    of_file = file_outputs(content, names, rows)
    exact = of_file if quantize is None else _emitted(lowering.graph, rows) if lowering else None
    differences = compare(of_file if exact is None else exact, expected)
    _check_numbers(differences, model)
    if exact is not None and _is_wrong(differences):
        expected = _outputs_of(reference, rows)  # in a batch, a model may let its rows meet
        differences = compare(exact, expected)
    if exact is not None and _is_wrong(differences):
        wrong = next(difference for difference in differences if _is_wrong([difference]))
        begin = _first_difference(prepared, expected, wrong.output, quantize, target, rows)
        raise ValueError(
            f"The file must compute what `model` (={model.name!r}) computes, and does not: {wrong}; {TOLERANCE} is "
            f"allowed. {begin}. This is a mistake of keras_condense, or the model draws random numbers in inference. "
            "Export the condensed model one to one, with "
            "`tf.lite.TFLiteConverter.from_keras_model(keras_condense.condense(model)).convert()`, or leave the check "
            "out with verify=False. No file was written."
        )
    if quantize is not None:
        differences = compare(of_file, expected)
    for difference in differences:
        if not difference.rms <= _LARGEST_RMS and not np.issubdtype(expected[difference.output].dtype, np.integer):
            logger.warning(
                "%s: in %s, %s; calibrate with other inputs or quantize less", model.name, quantize, difference
            )
    return f"{len(rows)} inputs, {'; '.join(map(str, differences))}"


# --- say what came of it ---------------------------------------------------------------------------------------------
# a file beyond the model's weights by this factor, and by what the operators of its layers take, is announced
_LARGEST_FILE = 1.1
_BYTES_OF_A_LAYER = 400


def _log_outcome(content: bytes, model: keras.Model, quantize: str | None, lowered: bool) -> None:
    """Log which operators XNNPACK does not execute, and warn of a file that is larger than the weights explain."""
    weights = 4 * sum(math.prod(weight.shape) for weight in model.weights)
    layers = sum(1 for _ in model._flatten_layers())
    if lowered and weights and quantize is None and len(content) > _LARGEST_FILE * weights + _BYTES_OF_A_LAYER * layers:
        logger.warning(
            "%s: the file takes %s bytes, %.2f times its weights' %s, since convolutions of few filters a group are "
            "stored with zeros, which take less time than picking and shuffling. Export it with quantize='float16' "
            "for half of that.",
            model.name,
            f"{len(content):,}",
            len(content) / weights,
            f"{weights:,}",
        )
    if logger.isEnabledFor(logging.INFO) and any(runtime.is_installed() for runtime in RUNTIMES.values()):
        logger.info("%s: outside XNNPACK: %s", model.name, operators_outside_xnnpack(content))


def export_tflite(
    model: keras.Model,
    path: str | os.PathLike | None = None,
    *,
    quantize: str | None = None,
    representative_data: Any = None,
    target: str = "arm64",
    report: bool = False,
    verify: bool = True,
) -> bytes:
    """Turn a model into a .tflite file of batch 1: static shapes, built-in operators only.

    A model with learned group convolutions is condensed first; any other Keras model is exported as it is. The model
    itself is not changed. Models in mixed precision are exported in float32. The same model gives the same bytes.

    Before anything is written, the file runs on random inputs and up to eight of `representative_data`, and is compared
    with the model. In float32 each output must be right to 1e-4 of its largest magnitude. Of a quantized file, the
    network that was quantized must be, and how near the file itself comes is logged.

    Args:
        model: a built Keras model on the TensorFlow backend, with known input shapes.
        path: the file to write, whole or not at all; None only returns the content.
        quantize: None for float32; "float16" stores weights in half precision, half the size; "dynamic" stores the
            larger weights as int8 and quantizes activations on the fly; "int8" computes in int8 throughout, with inputs
            and outputs in float32.
        representative_data: for "int8", some hundred inputs, preprocessed as for training: an array (rows, ...) or an
            iterable of batches, as `model.predict` takes them. At most 1000 rows are used.
        target: what a network with our layers is written down for: "arm64" or "x86_64" choose by a table of measured
            costs, "measure" times each candidate on the interpreter at hand. The file runs everywhere all the same.
        report: print what was chosen, layer by layer what it and the alternatives cost, and how the file compares.
        verify: False leaves the comparison out.

    Returns:
        The file's content. It has one signature, `serving_default`, whose inputs are called as the model's
        `keras.Input`s ("input" where these have no name) and whose outputs as the layers that make them.

    Raises:
        ValueError: a model that is not built, not condensed to the end, on another backend, of unknown input shape,
            with NaN or infinity in its weights or an operator that TensorFlow Lite lacks; a path that cannot be
            written; an unknown `quantize` or `target`; missing or unfit `representative_data`; a file that computes
            something else than the model (the message names the first layer that differs), or a model that gives no
            finite numbers to compare with. Nothing is written then.
        OSError: writing failed, there or in the temporary folder, for instance on a full disk; what stood at `path`
            before is still there.

    Example:
        >>> import keras
        >>> inputs = keras.Input((4,), name="features")
        >>> model = keras.Model(inputs, keras.layers.Dense(2, name="scores")(inputs))
        >>> content = export_tflite(model)
        >>> content[4:8]
        b'TFL3'
    """
    check_choice("quantize", quantize, QUANTIZATIONS, "Leave it out for float32.")
    check_choice("target", target, LOWERING_TARGETS, 'Leave it out for phones ("arm64").')
    check_choice("verify", verify, (True, False), "False leaves the comparison with the model out.")
    if path is not None:
        check_writable(path)
    if (quantize == "int8") != (representative_data is not None):
        given = "is missing" if representative_data is None else "was given"
        raise ValueError(
            f"`representative_data` {given} with `quantize` (={quantize!r}), and is for 'int8' alone, which needs it. "
            "Give some hundred inputs together with quantize='int8'."
        )
    _check_model(model)
    inputs = _inputs(model)
    rows = None
    if quantize == "int8":
        rows = representative_rows(representative_data, inputs.names, inputs.shapes, inputs.dtypes)

    prepared = _prepare(model)
    lowering = _lower(prepared, _inputs(prepared), quantize, target)
    content = _content(lowering, prepared, quantize, rows)
    agreement = "not compared with the model"
    if verify:
        agreement = f"compared with the model: {_verify(content, lowering, model, prepared, quantize, target, rows)}"
    if path is not None:
        write_bytes(path, content)
    if report:
        print(lowering or f"{model.name}: exported as it is, since it has none of the layers that are lowered")
        print(agreement)
    if verify:
        logger.info("%s: %s", model.name, agreement)
    _log_outcome(content, prepared, quantize, lowering is not None)
    return content
