"""`quantize_aware`: a model made anew that computes, and is trained, in the numbers of its int8 file."""

from typing import Any

import keras

from keras_condense.choosing import ChosenLayer, ChosenLayers
from keras_condense.distillation import check_teacher, taught
from keras_condense.keras_graphs import call_arguments, functional_form, output_layer_names, student_of
from keras_condense.layers.fake_quantization import FakeQuantize
from keras_condense.layers.quantized import QuantizedKernel
from keras_condense.quantizing.biases import round_biases
from keras_condense.quantizing.calibrating import calibrate_ranges
from keras_condense.quantizing.steps import Step, Steps, read_steps, readers_of, rounded_places, shared_ranges
from keras_condense.recompiling import compile_like
from keras_condense.rewriting import check_rewritable, check_untied, copied, is_made_like_its_base
from keras_condense.validation import check_choice

__all__ = ["QuantizableLayers", "explain_quantize_aware", "quantize_aware"]


class QuantizableLayers(ChosenLayers):
    """Which layers of a model `quantize_aware` lets compute in int8; `print` it for a table.

    Attributes:
        model: the model's name.
        layers: a row for each layer, in the model's order; nested models are taken apart.
    """

    things, they_do, it_does = "layers", "compute in int8", "computes in int8"


def quantize_aware(
    model: keras.Model,
    data: Any = None,
    *,
    teacher: keras.Model | str | None = None,
    strict: bool = False,
    report: bool = False,
) -> keras.Model:
    """Make a model that rounds its weights and activations as its int8 file will, to be trained so.

    The weights of convolutions and dense layers are rounded in every call, symmetric, with a scale for each filter;
    what they, sums, products, pools and activations give is rounded to 256 numbers of a range (`FakeQuantize`), which
    training follows. The gradient passes the rounding as if it were not there (Jacob et al., arXiv 1712.05877, section
    3). Nothing is rounded between a convolution, its batch norm and its ReLU, which a file computes as one: scaling a
    filter by its norm scales its rounding, so the folded kernel is rounded as this one is. What a file copies without
    computing has one range: all inputs of a concatenation, a pool's input and output.

    `export_tflite(..., quantize="int8")` of such a model takes these ranges, and no representative data. Learned groups
    and pruned weights go on being learned: call `learn_groups` or `prune_weights` first, then this, then `fit` with
    both callbacks. `keras_condense.callbacks.QuantizeSchedule` freezes ranges near the end.

    Args:
        model: a functional or built sequential model; nested models are taken apart, so that the new model is flat. It
            is left as it is.
        data: some hundred inputs, preprocessed as for training, from which the ranges are known at once: an array
            (rows, ...) or an iterable of batches. None: they begin with the first batch of training.
        teacher: a model whose outputs the new one learns from as well, "self" for `model`; see `distill`.
        strict: refuse a model with layers that have no int8 form that is known here; otherwise these compute in
            float32 between int8 numbers, and `explain_quantize_aware` names them.
        report: print what `explain_quantize_aware` returns.

    Returns:
        The new model, compiled as `model` is, with a fresh optimizer, its outputs called as before: the layer that
        rounds an output has its name, and the one that had it is called `..._unrounded`. With a teacher, the
        `Distiller` that trains it.

    Raises:
        ValueError: a model without a graph, or with nothing to quantize; one that is quantization-aware already; a
            layer that can't be copied; with `strict`, one without an int8 form; data that do not fit.

    Example:
        >>> import numpy as np
        >>> model = keras.Sequential([
        ...     keras.Input((8, 8, 3)),
        ...     keras.layers.Conv2D(4, 3, name="conv"),
        ...     keras.layers.BatchNormalization(name="norm"),
        ...     keras.layers.ReLU(name="relu"),
        ...     keras.layers.GlobalAveragePooling2D(name="pool"),
        ... ])
        >>> images = np.random.default_rng(0).random((64, 8, 8, 3), "float32")
        >>> aware = quantize_aware(model, images)
        >>> [type(layer).__name__ for layer in aware.layers][2:5]
        ['QuantizedConv2D', 'QuantizedBatchNormalization', 'ReLU']
        >>> len(np.unique(aware(images))) < len(np.unique(model(images)))
        True
    """
    check_choice("strict", strict, (False, True), "True refuses layers that have no int8 form.")
    check_choice("report", report, (False, True), "True prints which layers compute in int8.")
    model = student_of(model)
    steps = _checked_steps(model)
    check_teacher(teacher, model)
    summary = _summary(model, steps)
    if strict and summary.left:
        reasons = "".join(f"\n{name!r} {reason}" for name, reason in summary.left.items())
        raise ValueError(
            f"`model` (={model.name!r}) must have layers with an int8 form alone with strict=True:{reasons}\nReplace "
            "them, or leave `strict` out."
        )
    aware = _built(model, steps)
    if data is not None:
        calibrate_ranges(aware, data)
        round_biases(aware)
    if report:
        print(summary)
    return taught(aware, teacher, model)


def explain_quantize_aware(model: keras.Model) -> QuantizableLayers:
    """Say which layers of a model `quantize_aware` would let compute in int8, and why not the others.

    Args:
        model: as `quantize_aware` takes it.

    Returns:
        A `QuantizableLayers`, with a readable `str`.

    Raises:
        ValueError: as `quantize_aware`.

    Example:
        >>> model = keras.Sequential([keras.Input((4, 4)), keras.layers.Dense(4, name="dense")])
        >>> model.add(keras.layers.LayerNormalization(name="norm"))
        >>> layers = explain_quantize_aware(model)
        >>> layers.chosen, list(layers.left)
        (('dense',), ['norm'])
    """
    model = student_of(model)
    return _summary(model, _checked_steps(model))


def _checked_steps(model: keras.Model) -> Steps:
    check_rewritable(model)
    check_untied(model)
    aware = [layer for layer in model._flatten_layers() if isinstance(layer, (FakeQuantize, QuantizedKernel))]
    if aware:
        raise ValueError(
            f"`model` (={model.name!r}) must not be quantization-aware yet, and layer {aware[0].name!r} is. Train it "
            "on, or begin with the model that it was made of."
        )
    steps = read_steps(model)
    if not any(piece.role == "kernel" for _, pieces in steps.replaced for piece in pieces):
        pieces = [piece for _, pieces in steps.replaced for piece in pieces]
        reasons = "".join(f"\n{p.operation.name!r} {p.reason}" for p in pieces if p.role == "float")
        raise ValueError(
            f"`model` (={model.name!r}) must have a convolution or a dense layer to quantize, and has none that is "
            f"known here. Subclassed layers are left as they are.{reasons}"
        )
    return steps


def _summary(model: keras.Model, steps: Steps) -> QuantizableLayers:
    rows = []
    for operation, pieces in steps.replaced:
        reason = next((piece.reason for piece in pieces if piece.role == "float"), None)
        kernel = getattr(operation, "kernel", None)
        shape = () if kernel is None else tuple(kernel.shape)
        rows.append(ChosenLayer(operation.name, type(operation).__name__, shape, reason))
    return QuantizableLayers(model.name, tuple(rows))


def _rounding(steps: Steps, model: keras.Model) -> dict[int, list[tuple[FakeQuantize, int]]]:
    """For each tensor the layers that round it, and which of their places it is."""
    readers, shared = readers_of(steps), shared_ranges(steps)
    places = [
        (number, step)
        for number, step in rounded_places(steps)
        if number in readers or (number in steps.outputs and step.piece.role != "float")
    ]
    together: dict[int, list[tuple[int, Step | None]]] = {}
    for number, step in places:
        together.setdefault(shared[number], []).append((number, step))
    inputs = dict(zip(steps.inputs, functional_form(model).inputs, strict=True))
    rounding: dict[int, list[tuple[FakeQuantize, int]]] = {}
    names: set[str] = set()

    def new_name(number: int, step: Step | None) -> str:
        source = inputs[number]._keras_history.operation if step is None else step.piece.operation
        wanted = name = f"{source.name}_range"
        while name in names:
            name = f"{wanted}_{len(names)}"
        names.add(name)
        return name

    for group in together.values():
        follows = [(number, step) for number, step in group if step is None or step.piece.fixed is None]
        if len(group) > 1:
            follows = group
        else:
            for number, step in set(group) - set(follows):
                # a probability that is rounded to 0 has an endless logarithm
                rounds = number in readers
                fixed = FakeQuantize(fixed=step.piece.fixed, rounds=rounds, name=new_name(number, step))
                rounding.setdefault(number, []).append((fixed, 0))
        if follows:
            layer = FakeQuantize(len(follows), name=new_name(*follows[0]))
            for site, (number, _) in enumerate(follows):
                rounding.setdefault(number, []).append((layer, site))
    return rounding


def _name_outputs(steps: Steps, rounding: dict[int, list[tuple[FakeQuantize, int]]], names: list[str]) -> None:
    """Give the layers that outputs come from the names that losses, metrics and files know these outputs by."""
    taken = {piece.operation.name: piece.operation for _, pieces in steps.replaced for piece in pieces}
    for number, name in zip(steps.outputs, names, strict=True):
        if number in rounding and steps.outputs.count(number) == 1:
            if name in taken:
                taken.pop(name).name = f"{name}_unrounded"
            rounding[number][-1][0].name = name


def _built(model: keras.Model, steps: Steps) -> keras.Model:
    """The new model: the calls in their order, and rounding where it is due."""
    rounding = _rounding(steps, model)
    tensors: dict[int, Any] = {}

    def add(number: int, tensor: Any) -> None:
        for layer, site in rounding.get(number, ()):
            tensor = layer(tensor, site=site) if site else layer(tensor)
        tensors[number] = tensor

    _name_outputs(steps, rounding, output_layer_names(model))
    functional = functional_form(model)
    given = keras.tree.map_structure(lambda tensor: copied(tensor._keras_history.operation).output, functional.input)
    for number, tensor in zip(steps.inputs, keras.tree.flatten(given), strict=True):
        add(number, tensor)
    for step in steps.steps:
        read = [tensors[number] for number in step.inputs]
        args, kwargs = ((read[0],), {}) if step.node is None else call_arguments(step.node, read)
        if step.training is not None and "training" in getattr(step.piece.operation, "_call_context_args", ()):
            kwargs = {**kwargs, "training": step.training}
        made = keras.tree.flatten(step.piece.operation(*args, **kwargs))
        for number, tensor in zip(step.outputs, made, strict=True):
            add(number, tensor)
    flat = iter(steps.outputs)
    outputs = keras.tree.map_structure(lambda _: tensors[next(flat)], functional.output)
    sequential = isinstance(model, keras.Sequential)
    kind = type(model) if is_made_like_its_base(type(model)) and not sequential else keras.Model
    aware = kind(given, outputs, name=model.name)
    for _, pieces in steps.replaced:
        for piece in pieces:
            if piece.weights is not None and isinstance(piece.operation, keras.layers.Layer):
                piece.operation.set_weights(piece.weights)
                if isinstance(piece.operation, keras.layers.Normalization):
                    piece.operation.finalize_state()
    if model.compiled:
        replaced = [(old, [piece.operation for piece in pieces]) for old, pieces in steps.replaced]
        layers = [(old, new) for old, new in replaced if isinstance(old, keras.layers.Layer)]
        compile_like(aware, model, layers)
    return aware
