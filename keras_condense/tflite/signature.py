"""What goes in and out of a model: names, shapes and dtypes, as the file's signature has them."""

import dataclasses
import re
from typing import Any

import keras

from keras_condense.keras_graphs import is_graph, output_layer_names

__all__ = ["Inputs", "check_outputs", "inputs_of", "output_names"]


@dataclasses.dataclass(frozen=True)
class Inputs:
    """A model's inputs.

    Attributes:
        structure: how they are nested when the model is called.
        names: of each, flattened, as the file's signature has them.
        keys: of each, as a dict that `model.predict` takes has them.
        shapes: without the batch.
        dtypes: of each.
    """

    structure: Any
    names: list[str]
    keys: list[Any]
    shapes: list[tuple[int, ...]]
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


def _is_flat_dict(structure: Any) -> bool:
    nests = (dict, list, tuple)
    return isinstance(structure, dict) and not any(isinstance(value, nests) for value in structure.values())


def _keys(structure: dict) -> list[Any]:
    """The keys of a dict in the order in which Keras flattens it: sorted, but for an OrderedDict its own."""
    return [path[0] for path, _ in keras.tree.flatten_with_path(structure)]


def _signature_name(name: str) -> str:
    """An input's name, or "input" if Keras made it up; such names count on through a process and mean nothing."""
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


def inputs_of(model: keras.Model) -> Inputs:
    """A model's inputs.

    Args:
        model: a built model.

    Returns:
        Their names, shapes and dtypes. An input is called by its key where the model was built with a dict, else after
        its `keras.Input`.

    Raises:
        ValueError: a shape that is not known, a batch that is fixed to another size than 1, no numbers.

    Example:
        >>> inputs_of(keras.Sequential([keras.Input((8, 8, 3), name="image"), keras.layers.Flatten()])).shapes
        [(8, 8, 3)]
    """
    if isinstance(model, keras.Sequential) and is_graph(model):
        structure = model.inputs[0]
    elif not isinstance(model, keras.Sequential) and getattr(model, "inputs", None):
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
        if not re.fullmatch(r"bool|u?int\d+|b?float\d+", keras.backend.standardize_dtype(tensor.dtype)):
            raise ValueError(
                f"Input {_layer_name(tensor)!r} of `model` has the dtype {tensor.dtype}, and must hold numbers. Look "
                "strings up outside the model."
            )
    keyed = _is_flat_dict(structure)
    keys = _keys(structure) if keyed else [_layer_name(tensor) for tensor in tensors]
    return Inputs(
        structure,
        _unique([str(key) if keyed else _signature_name(key) for key in keys]),
        keys,
        [tuple(tensor.shape[1:]) for tensor in tensors],
        [keras.backend.standardize_dtype(tensor.dtype) for tensor in tensors],
    )


def check_outputs(model: keras.Model) -> None:
    """Raise ValueError for an output that is not one row for each row of the inputs."""
    for tensor in getattr(model, "outputs", None) or ():
        if not tensor.shape or tensor.shape[0] not in (None, 1):
            raise ValueError(
                f"Output {tensor.name!r} of `model` (={model.name!r}) has the shape {tuple(tensor.shape)}, and must "
                "begin with the batch axis. Compute within each row, for instance a mean over all axes but the first."
            )


def output_names(model: keras.Model, outputs: Any = None) -> list[str]:
    """A name for each output: its key in a dict, else the layer that makes it.

    Args:
        model: the model.
        outputs: what it gave, nested; by default its symbolic outputs.

    Returns:
        The names, flattened, as the file's signature has them.
    """
    if outputs is None:
        outputs = model.outputs[0] if isinstance(model, keras.Sequential) else model.output
    if _is_flat_dict(outputs):
        return _unique([str(key) for key in _keys(outputs)])
    count = len(keras.tree.flatten(outputs))
    names = output_layer_names(model) if is_graph(model) else []
    return _unique(names if len(names) == count else ["output"] * count)
