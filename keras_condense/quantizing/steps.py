"""A model as one list of calls, nested models taken apart, and which numbers between them share a range."""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import keras

from keras_condense.keras_graphs import can_enter, functional_form, nodes_in_order
from keras_condense.layers import ChannelShuffle
from keras_condense.quantizing.pieces import Piece, pieces_of
from keras_condense.rewriting import NewNames

__all__ = ["Step", "Steps", "is_fused", "only_reader", "read_steps", "readers_of", "rounded_places", "shared_ranges"]


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """A call of a layer of the new model; numbers stand for tensors.

    Attributes:
        piece: the layer.
        node: the call of the old model that says the arguments; None for a layer of one tensor.
        inputs: the tensors that it reads.
        outputs: those that it gives.
        training: what `training` is said to be by the call of a nested model; None for what `fit` says.
    """

    piece: Piece
    node: Any
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    training: bool | None = None


@dataclasses.dataclass
class Steps:
    """The calls in their order.

    Attributes:
        inputs: the tensors that the model is given.
        outputs: those that leave it.
        steps: the calls.
        is_float: of each tensor, whether it holds numbers that can be rounded.
        replaced: the layers of the old model, and the pieces of each.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...] = ()
    steps: list[Step] = dataclasses.field(default_factory=list)
    is_float: dict[int, bool] = dataclasses.field(default_factory=dict)
    replaced: list[tuple[Any, list[Piece]]] = dataclasses.field(default_factory=list)


def read_steps(model: keras.Model) -> Steps:
    """Read a functional or built sequential model."""
    return _Reader(model).steps


class _Reader:
    def __init__(self, model: keras.Model):
        self._numbers, self._names = itertools.count(), NewNames(model)
        self._pieces: dict[int, list[Piece]] = {}
        self._called: set[str] = set()
        functional = functional_form(model)
        bound = {id(tensor): next(self._numbers) for tensor in functional.inputs}
        self.steps = Steps(tuple(bound.values()))
        self.steps.is_float = {bound[id(tensor)]: _is_float(tensor) for tensor in functional.inputs}
        self._walk(model, bound, None, model.trainable)
        self.steps.outputs = tuple(bound[id(tensor)] for tensor in functional.outputs)

    def _walk(self, model: keras.Model, bound: dict[int, int], training: bool | None, trainable: bool) -> None:
        """Read a model, the numbers of whose inputs are bound."""
        for node in nodes_in_order(model):
            inputs = tuple(bound[id(tensor)] for tensor in node.input_tensors)
            if can_enter(node):
                inner = functional_form(node.operation)
                inside = {id(tensor): number for tensor, number in zip(inner.inputs, inputs, strict=True)}
                said = node.arguments.kwargs.get("training")
                self._walk(
                    node.operation, inside, training if said is None else said, trainable and node.operation.trainable
                )
                made = tuple(inside[id(tensor)] for tensor in inner.outputs)
            else:
                made = self._call(node, inputs, training, trainable)
            bound.update({id(tensor): number for tensor, number in zip(node.outputs, made, strict=True)})

    def _call(self, node: Any, inputs: tuple[int, ...], training: bool | None, trainable: bool) -> tuple[int, ...]:
        first, *others = self._pieces_of(node.operation, len(inputs), trainable)
        made = tuple(next(self._numbers) for _ in node.outputs)
        self.steps.is_float |= {number: _is_float(t) for number, t in zip(made, node.outputs, strict=True)}
        self.steps.steps.append(Step(first, node, inputs, made, training))
        for piece in others:
            inputs, made = made, (next(self._numbers),)
            self.steps.is_float[made[0]] = True
            self.steps.steps.append(Step(piece, None, inputs, made, training))
        return made

    def _pieces_of(self, operation: Any, inputs: int, trainable: bool) -> list[Piece]:
        if id(operation) not in self._pieces:
            pieces = pieces_of(operation, inputs, self._names.new)
            for piece in pieces:
                if isinstance(piece.operation, keras.layers.Layer):
                    self._name(piece.operation)
                    if not trainable:
                        piece.operation.trainable = False
            self._pieces[id(operation)] = pieces
            self.steps.replaced.append((operation, pieces))
        return self._pieces[id(operation)]

    def _name(self, layer: keras.layers.Layer) -> None:
        """Keep a layer's name unless one of another nested model has it."""
        if layer.name in self._called:
            layer.name = self._names.new(layer.name)
        self._called.add(layer.name)


def _is_float(tensor: Any) -> bool:
    return keras.backend.is_float_dtype(keras.backend.standardize_dtype(tensor.dtype))


def readers_of(steps: Steps) -> dict[int, list[Step]]:
    """For each tensor the calls that read it; one that leaves the model is not told."""
    readers: dict[int, list[Step]] = {}
    for step in steps.steps:
        for number in dict.fromkeys(step.inputs):
            readers.setdefault(number, []).append(step)
    return readers


def is_fused(step: Step, steps: Steps, readers: dict[int, list[Step]]) -> bool:
    """Whether what a call gives is not a number of its own in the file, for its reader is computed along with it."""
    reader = only_reader(step, steps, readers)
    # of an image, it is carried past the norm
    while reader is not None and isinstance(reader.piece.operation, ChannelShuffle) and _is_image(reader):
        reader = only_reader(reader, steps, readers)
    if reader is None or not step.piece.fuses(reader.piece):
        return False
    # what a file's dense layer gives for an image is reshaped before a norm could be computed along with it
    is_dense = isinstance(step.piece.operation, keras.layers.Dense)
    return not (is_dense and reader.piece.role == "norm" and _is_image(step))


def _is_image(step: Step) -> bool:
    return len(step.node.outputs[0].shape) == 4


def only_reader(step: Step, steps: Steps, readers: dict[int, list[Step]]) -> Step | None:
    """The one call that reads what a call gives; None if several do or it leaves the model."""
    mine = readers.get(step.outputs[0], [])
    alone = len(step.outputs) == 1 and len(mine) == 1 and step.outputs[0] not in steps.outputs
    return mine[0] if alone else None


def shared_ranges(steps: Steps) -> dict[int, int]:
    """Of each tensor the first of those that share its range, since numbers are copied from one to the other."""
    parents: dict[int, int] = {}

    def root(number: int) -> int:
        while parents.setdefault(number, number) != number:
            number = parents[number]
        return number

    for step in steps.steps:
        if step.piece.role in ("same", "average"):
            numbers = [number for number in (*step.inputs, *step.outputs) if steps.is_float[number]]
            for number in numbers[1:]:
                first, second = sorted((root(numbers[0]), root(number)))
                parents[second] = first
    return {number: root(number) for number in steps.is_float}


def rounded_places(steps: Steps) -> Iterator[tuple[int, Step | None]]:
    """The tensors that are rounded once they are computed, and the call that gives each (None: the model's input)."""
    readers = readers_of(steps)
    yield from ((number, None) for number in steps.inputs if steps.is_float[number] and number in readers)
    for step in steps.steps:
        if step.piece.role != "same" and not is_fused(step, steps, readers):
            yield from ((number, step) for number in step.outputs if steps.is_float[number])
