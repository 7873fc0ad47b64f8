"""`export_tflite` checks itself: before a file is written, it runs on the same inputs as the model."""

import itertools
import logging
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from keras_condense.keras_graphs import functional_form, is_graph, nodes_in_order
from keras_condense.layers import FakeQuantize
from keras_condense.tflite.calibration import Rows
from keras_condense.tflite.comparison import (
    GIVEN_ROWS,
    TOLERANCE,
    Difference,
    Outputs,
    compare,
    file_outputs,
    first_call_that_differs,
    model_outputs,
    rows_for,
)
from keras_condense.tflite.converter import convert_graph, convert_model
from keras_condense.tflite.lowering import Lowering, lower_model
from keras_condense.tflite.operators import FakeQuantized
from keras_condense.tflite.preparation import in_float32, made_anew
from keras_condense.tflite.schemes import FLOAT32, Scheme
from keras_condense.tflite.signature import inputs_of, output_names
from keras_condense.tflite.tracing import graph_outputs

__all__ = ["verify"]

logger = logging.getLogger(__name__)

# of quantized files' outputs, in units of their own root mean square, beyond which a file is of little use
_LARGEST_RMS = 0.5
# a copy in half precision runs the same operations: it may be off by an ulp or two, of 1e-3 (float16) or 1e-2
_LARGEST_OF_COPIES = 0.05
# of each layer's rounding, which adds up, to that of the inputs alone; and what no rounding explains
_TIMES_NOISE, _LARGEST_NOISE = 8, 0.01
_PIXELS = 255.0
_NORMALIZING = (keras.layers.Rescaling, keras.layers.Normalization)  # takes pixels as they are
# of random integers, which a layer may look up in a small table
_HIGHEST = (255, 63, 15, 3, 1)


def verify(
    content: bytes,
    lowering: Lowering | None,
    model: keras.Model,
    condensed: keras.Model,
    scheme: Scheme,
    target: str,
    given: Rows | None,
) -> str:
    """Compare a file with its model.

    In float32 the file must be exact; of a quantized one the network that was quantized must be, and how near the file
    itself comes is said. So it is with shared weights; in float32 the file must also compute what the network with the
    shared weights does.

    Args:
        content: the file's.
        lowering: the network that was converted, or None where the model was converted as it is.
        model: what the user gave.
        condensed: what was lowered.
        scheme: what numbers the file holds.
        target: what it was lowered for.
        given: the user's rows, if there are any.

    Returns:
        How near the file comes, in words.

    Raises:
        ValueError: the file computes something else than the model, or the model in float32 than in half precision; the
            model gives no finite numbers.
    """
    reference = in_float32(model)
    rows, expected = _rows_and_outputs(reference, given)
    if not rows:
        return "not compared"
    if reference is not model:
        _check_reference(reference, expected, model, rows)
    of_file = file_outputs(content, list(expected), rows)
    if scheme.has_ranges:
        return _verify_by_ranges(of_file, lowering, model, condensed, expected, rows)
    sharing = None if lowering is None else lowering.sharing
    exact, is_exact = None, scheme.is_exact and sharing is None
    numbers = (scheme.name or "float32") + (" with shared weights" if sharing else "")
    if is_exact:
        exact = of_file
    elif sharing is not None:
        exact = graph_outputs(sharing.whole, rows)
    elif lowering is not None:
        exact = graph_outputs(lowering.graph, rows)
    elif condensed is not model:
        exact = _named_alike(_outputs_of(condensed, rows), expected)
    differences = compare(of_file if exact is None else exact, expected)
    _check_numbers(differences, model)
    if exact is not None and _is_wrong(differences):
        expected = _outputs_of(reference, rows)  # in a batch, a model may let its rows meet
        differences = compare(exact, expected)
    if exact is not None and _is_wrong(differences):
        wrong = next(difference for difference in differences if _is_wrong([difference]))
        if _is_noise(differences, reference, expected, rows):
            logger.warning("%s: makes much of rounding: its file is off by as much as a last bit of input: %s",
                           model.name, wrong)  # fmt: skip
        else:
            _explain(wrong, condensed, model, expected, scheme, target, rows)
    if sharing is not None and scheme.is_exact:
        _check_sharing(of_file, graph_outputs(sharing.shared, rows), model, reference, expected, rows)
    if not is_exact:
        differences = compare(of_file, expected)
    for difference in differences:
        name = difference.output
        if expected[name].dtype.kind == "f" and not np.isfinite(of_file[name][np.isfinite(expected[name])]).all():
            raise ValueError(
                f"The file must give finite numbers where `model` (={model.name!r}) does, and in {numbers} its "
                f"output {difference.output!r} has NaN or infinity: a number is too large for it. Quantize less, or "
                "leave the check out with verify=False. No file was written."
            )
        if not difference.rms <= _LARGEST_RMS:
            logger.warning(
                "%s: in %s, %s; calibrate with other inputs or quantize less", model.name, numbers, difference
            )
    return f"{len(rows)} inputs, {'; '.join(map(str, differences))}"


def _verify_by_ranges(
    of_file: Outputs,
    lowering: Lowering,
    model: keras.Model,
    condensed: keras.Model,
    expected: Outputs,
    rows: Rows,
) -> str:
    """`verify` for a model with ranges: without rounding the lowered network is exact; with it, few steps apart."""
    wanted = _named_alike(_unrounded_outputs(condensed, rows), expected)
    graph = lowering.graph if lowering.sharing is None else lowering.sharing.whole
    for difference in compare(graph_outputs(graph.without(FakeQuantized), rows), wanted):
        if _is_wrong([difference]):
            raise ValueError(
                f"The file must compute what `model` (={model.name!r}) computes, and before its numbers are rounded to "
                f"int8 the lowered network does not: {difference}; {TOLERANCE} is allowed. This is a mistake of "
                "keras_condense, or the model draws random numbers in inference: leave the check out with "
                "verify=False. No file was written."
            )
    said = []
    for name, outputs in expected.items():
        numbers = np.unique(of_file[name])
        step = np.diff(numbers).min() if len(numbers) > 1 else 1.0
        near = np.mean(np.abs(of_file[name] - outputs) <= 1.01 * step)
        said.append(f"of {name!r}, {100 * near:.1f} % within one step of int8")
    return f"{len(rows)} inputs: {'; '.join(said)}"


def _unrounded_outputs(condensed: keras.Model, rows: Rows) -> Outputs:
    rounding = [layer for layer in condensed._flatten_layers() if isinstance(layer, FakeQuantize)]
    for layer in rounding:
        layer.passing = True
    try:
        return _outputs_of(condensed, rows)
    finally:
        for layer in rounding:
            layer.passing = False


def _explain(
    wrong: Difference,
    condensed: keras.Model,
    model: keras.Model,
    expected: Outputs,
    scheme: Scheme,
    target: str,
    rows: Rows,
) -> None:
    """Raise ValueError for a file that is wrong, unless it only chose otherwise between numbers about equal."""
    wrong_file = (
        f"The file must compute what `model` (={model.name!r}) computes, and does not: {wrong}; {TOLERANCE} is allowed."
    )
    nothing_written = "leave the check out with verify=False. No file was written."
    of_condensed = _named_alike(_outputs_of(condensed, rows), expected)
    if condensed is not model and _is_wrong(compare(of_condensed, expected)):
        raise ValueError(
            f"{wrong_file} The condensed model differs already. Is a layer of yours copied by its `get_config`? It "
            "must return what the layer computes with now. Else this is a mistake of keras_condense, or the model "
            f"draws random numbers in inference: {nothing_written}"
        )
    call = _first_difference(condensed, list(expected).index(wrong.output), scheme, target, rows)
    if call is not None and all(_is_exact(tensor.dtype) for tensor in call.outputs):
        # what it was made of is right
        logger.warning("%s: of equal numbers, its file may choose another: %s", model.name, wrong)
        return
    begin = "No layer differs by itself" if call is None else f"The first layer that differs is {call.operation.name!r}"
    raise ValueError(
        f"{wrong_file} {begin}. This is a mistake of keras_condense, or the model draws random numbers in inference. "
        "Export the condensed model one to one, with "
        "`tf.lite.TFLiteConverter.from_keras_model(keras_condense.condense(model)).convert()`, or "
        f"{nothing_written}"
    )


def _check_sharing(
    of_file: Outputs, shared: Outputs, model: keras.Model, reference: keras.Model, expected: Outputs, rows: Rows
) -> None:
    """Raise ValueError for a float32 file that computes something else than the network with the shared weights."""
    differences = compare(of_file, shared)
    if _is_wrong(differences) and not _is_noise(differences, reference, expected, rows):
        wrong = next(difference for difference in differences if _is_wrong([difference]))
        raise ValueError(
            f"The file must compute what `model` (={model.name!r}) computes with shared weights, and does not: "
            f"{wrong}; {TOLERANCE} is allowed. This is a mistake of keras_condense. Leave `share_weights` out, or "
            "leave the check out with verify=False. No file was written."
        )


def _is_exact(dtype: str) -> bool:
    return np.dtype(keras.backend.standardize_dtype(dtype)).kind in "biu"


def _check_reference(reference: keras.Model, expected: Outputs, model: keras.Model, rows: Rows) -> None:
    """Say where a model in float32 computes something else than the model in half precision that it was made of."""
    of_model = _outputs_of(model, rows)

    def differs(part: keras.Model) -> bool:
        found = compare(_named_alike(_outputs_of(made_anew(part), rows), wanted := _outputs_of(part, rows)), wanted)
        return any(difference.largest > _LARGEST_OF_COPIES for difference in found)

    of_copy = _named_alike(_outputs_of(made_anew(model), rows), of_model)
    for number, difference in enumerate(compare(of_copy, of_model)):
        if difference.largest > _LARGEST_OF_COPIES and not difference.is_exact:
            call = first_call_that_differs(model, number, differs)
            layer = "A layer" if call is None else f"Layer {call.operation.name!r}"
            raise ValueError(
                f"`model` (={model.name!r}) must compute the same when its layers are copied, which takes it to "
                f"float32, and does not: {difference}. {layer} computes something else when it is made anew by its "
                "`get_config`, which must return what it computes with now. Build the model in float32, or leave the "
                "check out with verify=False. No file was written."
            )
    for difference in compare(expected, of_model):
        if not difference.rms <= _LARGEST_RMS and difference.finite == 1:
            raise ValueError(
                f"`model` (={model.name!r}) must compute about the same in float32, in which files compute, and does "
                f"not: {difference}. Build it in float32 and copy the weights with `set_weights`, or leave the check "
                "out with verify=False. No file was written."
            )


def _named_alike(outputs: Outputs, others: Outputs) -> Outputs:
    """The same outputs, in their order, by the names of others: a copied model may call its own in another way."""
    return dict(zip(others, outputs.values(), strict=True))


def _outputs_of(model: keras.Model, rows: Rows, *, at_once: bool = False) -> Outputs:
    structure = inputs_of(model).structure
    return model_outputs(model, structure, lambda outputs: output_names(model, outputs), rows, at_once=at_once)


def _rows_and_outputs(model: keras.Model, given: Rows | None) -> tuple[Rows, Outputs]:
    """Inputs to compare on, and what the model computes from them; none if it refuses all that are tried."""
    inputs, refused = inputs_of(model), None
    pixels = _normalized_inputs(model) if is_graph(model) else ()
    scales = [_PIXELS if place in pixels else 1.0 for place in range(len(inputs.names))]
    attempts = [
        rows_for(inputs.names, inputs.shapes, inputs.dtypes, given, highest=highest, scales=scales)
        for highest in _HIGHEST
    ]
    if given:
        attempts.append(list(given)[:GIVEN_ROWS])
    for rows, at_once in itertools.product(attempts, (True, False)):  # there are models of batch 1 alone
        try:
            return rows, _outputs_of(model, rows, at_once=at_once)
        except Exception as error:  # whatever a layer raises
            refused = error
    logger.warning("%s: not compared with its file, for it refuses random inputs: %s", model.name, refused)
    return [], {}


def _normalized_inputs(model: keras.Model) -> set[int]:
    """The places of the inputs that the model itself normalises before all else, in a nested model too."""
    places = {id(tensor): place for place, tensor in enumerate(functional_form(model).inputs)}
    found = set()
    for node in nodes_in_order(model):
        given = [places.get(id(tensor)) for tensor in node.input_tensors]
        if isinstance(node.operation, _NORMALIZING):
            found |= set(given)
        elif is_graph(node.operation):
            found |= {given[place] for place in _normalized_inputs(node.operation)}
    return found - {None}


def _is_noise(differences: Iterable[Difference], model: keras.Model, expected: Outputs, rows: Rows) -> bool:
    """Whether the model itself differs about as much where its inputs differ in their last bit."""
    random = np.random.default_rng(0)

    def nudged(array: np.ndarray) -> np.ndarray:
        if array.dtype.kind != "f":
            return array
        return array * (1 + random.choice([-1, 1], array.shape) * np.finfo(array.dtype).eps).astype(array.dtype)

    others = _outputs_of(model, [{name: nudged(array) for name, array in row.items()} for row in rows])
    noise = compare(_named_alike(others, expected), expected)
    pairs = zip(differences, noise, strict=True)
    allowed = (max(TOLERANCE, min(_TIMES_NOISE * of_model.largest, _LARGEST_NOISE)) for _, of_model in pairs)
    return all(difference.largest <= limit for difference, limit in zip(differences, allowed, strict=True))


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


def _first_difference(condensed: keras.Model, output: int, scheme: Scheme, target: str, rows: Rows) -> Any | None:
    """The call of a layer where a wrong file begins to differ from its model."""

    def differs(part: keras.Model) -> bool:
        lowering = lower_model(part, target, scheme, rows)
        wanted = _outputs_of(part, rows)
        if not scheme.is_exact:
            return lowering is not None and _is_wrong(compare(graph_outputs(lowering.graph, rows), wanted))
        content = convert_graph(lowering.graph, part) if lowering else convert_model(part, FLOAT32)
        return _is_wrong(compare(file_outputs(content, list(wanted), rows), wanted))

    return first_call_that_differs(condensed, output, differs)
