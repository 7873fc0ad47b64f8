"""`export_tflite` checks itself: before a file is written, it runs on the same inputs as the model."""

import itertools
import logging
from collections.abc import Iterable

import keras
import numpy as np

from keras_condense.tflite.calibration import Rows
from keras_condense.tflite.comparison import (
    TOLERANCE,
    Difference,
    Outputs,
    compare,
    file_outputs,
    first_layer_that_differs,
    model_outputs,
    rows_for,
)
from keras_condense.tflite.converter import convert_graph, convert_model
from keras_condense.tflite.lowering import Lowering, lower_model
from keras_condense.tflite.preparation import in_float32
from keras_condense.tflite.schemes import FLOAT32, Scheme
from keras_condense.tflite.signature import inputs_of, output_names
from keras_condense.tflite.tracing import graph_outputs

__all__ = ["verify"]

logger = logging.getLogger(__name__)

# of quantized files' outputs, in units of their own root mean square, beyond which a file is of little use
_LARGEST_RMS = 0.5


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
    itself comes is said.

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
    exact = of_file if scheme.is_exact else graph_outputs(lowering.graph, rows) if lowering else None
    differences = compare(of_file if exact is None else exact, expected)
    _check_numbers(differences, model)
    if exact is not None and _is_wrong(differences):
        expected = _outputs_of(reference, rows)  # in a batch, a model may let its rows meet
        differences = compare(exact, expected)
    if exact is not None and _is_wrong(differences):
        wrong = next(difference for difference in differences if _is_wrong([difference]))
        begin = _first_difference(condensed, expected, wrong.output, scheme, target, rows)
        raise ValueError(
            f"The file must compute what `model` (={model.name!r}) computes, and does not: {wrong}; {TOLERANCE} is "
            f"allowed. {begin}. This is a mistake of keras_condense, or the model draws random numbers in inference. "
            "Export the condensed model one to one, with "
            "`tf.lite.TFLiteConverter.from_keras_model(keras_condense.condense(model)).convert()`, or leave the check "
            "out with verify=False. No file was written."
        )
    if not scheme.is_exact:
        differences = compare(of_file, expected)
    for difference in differences:
        if not difference.rms <= _LARGEST_RMS and not np.issubdtype(expected[difference.output].dtype, np.integer):
            logger.warning(
                "%s: in %s, %s; calibrate with other inputs or quantize less", model.name, scheme.name, difference
            )
    return f"{len(rows)} inputs, {'; '.join(map(str, differences))}"


def _check_reference(reference: keras.Model, expected: Outputs, model: keras.Model, rows: Rows) -> None:
    """Say where a model in float32 computes something else than the model in half precision that it was made of."""
    for difference in compare(expected, _outputs_of(model, rows)):
        if not difference.rms <= _LARGEST_RMS and difference.finite == 1:
            raise ValueError(
                f"`model` (={model.name!r}) must compute about the same in float32, in which files compute, and does "
                f"not: {difference}. Build it in float32 and copy the weights with `set_weights`, or leave the check "
                "out with verify=False. No file was written."
            )


def _outputs_of(model: keras.Model, rows: Rows, *, at_once: bool = False) -> Outputs:
    structure = inputs_of(model).structure
    return model_outputs(model, structure, lambda outputs: output_names(model, outputs), rows, at_once=at_once)


def _rows_and_outputs(model: keras.Model, given: Rows | None) -> tuple[Rows, Outputs]:
    """Inputs to compare on, and what the model computes from them; none if it refuses all that are tried."""
    inputs, refused = inputs_of(model), None
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
    condensed: keras.Model, expected: Outputs, name: str, scheme: Scheme, target: str, rows: Rows
) -> str:
    """Where a wrong file begins to differ from its model, in words."""
    if _is_wrong(compare(_outputs_of(condensed, rows), expected)):
        return "The condensed model differs already"

    def differs(part: keras.Model) -> bool:
        lowering = lower_model(part, target, scheme, rows)
        wanted = _outputs_of(part, rows)
        if not scheme.is_exact:
            return lowering is not None and _is_wrong(compare(graph_outputs(lowering.graph, rows), wanted))
        content = convert_graph(lowering.graph, part) if lowering else convert_model(part, FLOAT32)
        return _is_wrong(compare(file_outputs(content, list(wanted), rows), wanted))

    layer = first_layer_that_differs(condensed, list(expected).index(name), differs)
    return "No layer differs by itself" if layer is None else f"The first layer that differs is {layer!r}"
