"""`export_tflite`: from a Keras model to a .tflite file."""

import logging
import math
import os
from typing import Any

import keras

from keras_condense.cards import Card
from keras_condense.codebooks import check_bits
from keras_condense.files import check_writable, write_bytes, write_text
from keras_condense.keras_graphs import is_graph, student_of
from keras_condense.layers import SharedKernel
from keras_condense.tflite.calibration import representative_rows
from keras_condense.tflite.converter import convert_graph, convert_model
from keras_condense.tflite.lowering import MEASURE, Lowering, lower_model, lowering_targets
from keras_condense.tflite.metadata import with_card
from keras_condense.tflite.node_costs import check_node_costs, model_explorer_data
from keras_condense.tflite.ordinary_costs import dearer_than_ordinary
from keras_condense.tflite.pixels import PIXELS, check_card, pixels_of, taking_pixels
from keras_condense.tflite.preparation import check_model, check_ranges, is_aware, prepared
from keras_condense.tflite.runtime import RUNTIMES, operators_outside_xnnpack
from keras_condense.tflite.schemes import INT8_BY_RANGES, SCHEMES, Scheme
from keras_condense.tflite.signature import Inputs, check_outputs, inputs_of, output_names
from keras_condense.tflite.targets import SHOWN_UNITS
from keras_condense.tflite.verification import verify as compare_with_model
from keras_condense.validation import check_choice

__all__ = ["check_exportable", "export_tflite"]

logger = logging.getLogger(__name__)

# a file beyond the model's weights by this factor, and by what the operators of its layers take, is announced
_LARGEST_FILE = 1.1
_BYTES_OF_A_LAYER = 400

_MOST_NAMED = 5  # layers that a warning names


def _warn_of_zeros(content: bytes, model: keras.Model) -> None:
    """Warn of a float32 file that is larger than the weights explain."""
    weights = 4 * sum(math.prod(weight.shape) for weight in model.weights)
    layers = sum(1 for _ in model._flatten_layers())
    if weights and len(content) > _LARGEST_FILE * weights + _BYTES_OF_A_LAYER * layers:
        logger.warning(
            "%s: the file takes %s bytes, %.2f times its weights' %s, since convolutions of few filters a group are "
            "stored with zeros, which take less time than picking and shuffling. Export it with quantize='float16' "
            "for half of that.",
            model.name,
            f"{len(content):,}",
            len(content) / weights,
            f"{weights:,}",
        )


def check_exportable(model: Any) -> Inputs:
    """Raise ValueError unless a model can be exported, learned layers aside; return what it takes."""
    check_model(model)
    inputs = inputs_of(model)
    check_outputs(model)
    return inputs


def _warn_of_dearer(lowering: Lowering, model: keras.Model, scheme: Scheme) -> None:
    """Warn of groups that cost more, by the table, than ordinary convolutions of all inputs would."""
    dearer = None if lowering.target == MEASURE else dearer_than_ordinary(lowering, scheme)
    if dearer is None:
        return
    unit, scale = SHOWN_UNITS[lowering.unit]
    layers = [f"{layer!r} ({more / scale:.3f})" for layer, more in dearer.layers.items()]
    others = f" and {len(layers) - _MOST_NAMED} others" if len(layers) > _MOST_NAMED else ""
    logger.warning(
        "%s: by the table of costs of %s in %s the file takes %.3f %s, and would take %.3f with ordinary convolutions "
        "in the place of those with groups. These cost more: %s%s. Have ordinary ones there "
        "(`explain_learn_groups(model, target=..., quantize=...)` tells it before), or export in other numbers.",
        model.name,
        lowering.target,
        scheme.name or "float32",
        dearer.cost / scale,
        unit,
        dearer.ordinary / scale,
        ", ".join(layers[:_MOST_NAMED]),
        others,
    )


def export_tflite(
    model: keras.Model,
    path: str | os.PathLike | None = None,
    *,
    quantize: str | None = None,
    representative_data: Any = None,
    target: str = "arm64",
    report: bool = False,
    node_costs: str | os.PathLike | None = None,
    verify: bool = True,
    card: Card | None = None,
    preprocessing: str = "outside",
    share_weights: int | None = None,
) -> bytes:
    """Turn a model into a .tflite file of batch 1: static shapes, built-in operators only.

    A model with learned group convolutions is condensed first. One with such layers, or with 1x1 convolutions that are
    mostly zeros whatever made them, is lowered to what its target executes fastest; any other Keras model is exported
    as it is. The model itself is not changed. Models in mixed precision are exported in float32. The same model gives
    the same bytes.

    Before anything is written, the file runs on random inputs and up to eight of `representative_data`, and is compared
    with the model. In float32 each number must be right to 1e-4 of what its channel spans (or of a tenth of the largest
    of its row), integers and truth values but for one in a thousand. Of a quantized file, the network that was
    quantized must be, and how near the file itself comes is logged.

    A network whose groups make it dearer, by the target's table, than ordinary convolutions would is exported all the
    same; a warning names the layers.

    Args:
        model: a built Keras model on the TensorFlow backend, with known input shapes. Of a Distiller the student is
            exported.
        path: the file to write, whole or not at all; None only returns the content.
        quantize: None for float32; "float16" stores weights in half precision, half the size; "dynamic" stores the
            larger weights as int8 and quantizes activations on the fly; "int8" computes in int8 throughout, with inputs
            and outputs in float32.
        representative_data: for "int8", some hundred inputs, preprocessed as for training: an array (rows, ...) or an
            iterable of batches, as `model.predict` takes them. At most 1000 rows are used.
        target: what a network is lowered for: "arm64" or "x86_64" choose by a table of costs that were measured in
            float32 and in int8, "wasm" (pages, in LiteRT.js) by one that was measured in float32; "measure" times each
            candidate, in what `quantize` says, on the interpreter at hand. The file runs everywhere all the same.
        report: print what was chosen, layer by layer what it and the alternatives cost, and how the file compares.
        node_costs: a `.json` file to write as well: what each operator of the file costs by the target's table, as
            custom node data for Google's Model Explorer. The network is converted a second time for it.
        verify: False leaves the comparison out.
        card: what a classifier of images takes and gives (`keras_condense.Card`). It becomes part of the file, with
            labels and normalization as TensorFlow Lite metadata, which Android's libraries read.
        preprocessing: "outside" of the file, which takes what the model takes, or "inside": the file takes pixels,
            uint8 from 0 to 255, and normalizes them as the card says.
        share_weights: 1 to 8: each kernel of the file holds at most two to the power of this many different weights,
            by k-means after batch norms are folded into it, for a smaller download (`coded_size`). No training follows:
            how near the file comes is logged, as of a quantized one. Zeros stay zeros. A model of
            `keras_condense.share_weights` keeps its own values if they are no more, for batch norms stay operators of
            their own; without this argument they are folded, and each filter has values of its own.

    Returns:
        The file's content. It has one signature, `serving_default`, whose inputs are called as the model's
        `keras.Input`s ("input" where these have no name) and whose outputs as the layers that make them. A model that
        takes or returns a dict has its keys in their place.

    Raises:
        ValueError: a model that is not built, not condensed to the end, on another backend, of unknown input shape,
            with NaN or infinity in its weights or an operator that TensorFlow Lite lacks; a path that cannot be
            written; an unknown `quantize`, `target` or `preprocessing`; a card of another model, or none for
            preprocessing="inside"; missing or unfit `representative_data`; `node_costs` with target="measure" or of a
            model that has nothing to lower; `share_weights` out of range, or of a model that has no graph or no
            kernels; a file that computes something else than the model (the message names the first layer that
            differs), or a model that gives no finite numbers to compare with. Nothing is written then.
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
    check_choice("quantize", quantize, tuple(SCHEMES), "Leave it out for float32.")
    check_choice("target", target, lowering_targets(), 'Leave it out for phones ("arm64").')
    check_choice("preprocessing", preprocessing, ("outside", "inside"), "Leave it out for what the model takes.")
    if preprocessing == "inside" and card is None:
        raise ValueError("`card` must be given with preprocessing='inside', to say how pixels are normalized.")
    check_choice("verify", verify, (True, False), "False leaves the comparison with the model out.")
    if share_weights is not None:
        share_weights = check_bits("share_weights", share_weights)
    aware = isinstance(model, keras.Model) and is_aware(model)
    if aware:
        check_ranges(model, quantize, INT8_BY_RANGES.name, representative_data is not None)
    scheme = INT8_BY_RANGES if aware else SCHEMES[quantize]
    if path is not None:
        check_writable(path)
    if node_costs is not None:
        node_costs = check_node_costs(node_costs, path, target)
    if scheme.needs_data != (representative_data is not None):
        given = "is missing" if representative_data is None else "was given"
        calibrated = " or ".join(repr(name) for name, other in SCHEMES.items() if other.needs_data)
        raise ValueError(
            f"`representative_data` {given} with `quantize` (={quantize!r}), and is for {calibrated} alone, which "
            f"needs it. Give some hundred inputs together with quantize={calibrated}."
        )
    model = student_of(model)
    inputs = check_exportable(model)
    if card is not None:
        check_card(model, card)
    rows = None
    if scheme.needs_data:
        rows = representative_rows(representative_data, inputs)
    if preprocessing == "inside":
        model = taking_pixels(model, card)
        rows = rows and [{PIXELS: pixels_of(array, card)} for row in rows for array in row.values()]

    condensed = prepared(model)
    # of a sequential model the last layer's name: condensing may put others behind it
    names = output_names(model) if is_graph(model) else None
    is_shared = any(isinstance(layer, SharedKernel) for layer in model._flatten_layers())
    lowering = lower_model(condensed, target, scheme, rows, names, share_weights, is_shared=is_shared)
    if lowering is None:
        content = convert_model(condensed, scheme, rows)
    else:
        content = convert_graph(lowering.graph, condensed, scheme, rows)
    agreement = "not compared with the model"
    if verify:
        difference = compare_with_model(content, lowering, model, condensed, scheme, target, rows)
        agreement = f"compared with the model: {difference}"
    if card is not None:
        content = with_card(content, card, model.name, inside=preprocessing == "inside")
    data = None if node_costs is None else model_explorer_data(content, lowering, condensed, scheme, rows)
    if path is not None:
        write_bytes(path, content)
    if data is not None:
        write_text(node_costs, data)
    if report:
        print(lowering or f"{model.name}: exported layer by layer, for lack of a graph or of layers to lower")
        print(agreement)
        if data is not None:
            print(f"costs of the operators, for Model Explorer: {node_costs}")
    if verify:
        logger.info("%s: %s", model.name, agreement)
    if lowering is not None:
        _warn_of_dearer(lowering, condensed, scheme)
        if scheme.is_exact:
            _warn_of_zeros(content, condensed)
    if logger.isEnabledFor(logging.INFO) and any(runtime.is_installed() for runtime in RUNTIMES.values()):
        logger.info("%s: outside XNNPACK: %s", model.name, operators_outside_xnnpack(content))
    return content
