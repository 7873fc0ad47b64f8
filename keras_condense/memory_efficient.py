"""Models that train in less memory, at the price of time (Pleiss et al., arXiv:1707.06990).

Most of what a DenseNet keeps for its backward pass are concatenations and the batch norms and ReLUs of them: they grow
with the square of a block's layers, what the convolutions make grows linearly. `MemoryEfficientModel` keeps the latter
and computes the former again when the backward pass reaches them.

It does so through `keras.remat`. `keras.RematScope`, which does it layer by layer, is of no use here: every layer's
inputs are still kept, and those of a convolution are the ReLU's outputs; batch norm's moving statistics move on a
second time; and `fit` fails in it on TensorFlow (`training` by keyword) and on JAX (state changed in a checkpoint).
"""

import collections
import inspect
from collections.abc import Iterator
from typing import Any

import keras

from keras_condense.keras_graphs import (
    forget_losses,
    nodes_in_order,
    run_through_graph,
    standardized_inputs,
    values_of,
)
from keras_condense.layers import ChannelIndex

__all__ = ["MemoryEfficientModel"]

# cheap to compute again: their outputs are not kept
_RECOMPUTED = (
    keras.layers.Concatenate,
    keras.layers.BatchNormalization,
    keras.layers.Activation,
    keras.layers.ReLU,
    keras.layers.Dropout,
    ChannelIndex,
)
# run again together with what they read, which a convolution would otherwise keep for its gradient; what they make is
# kept, so that the backends drop their own part of the second run
_READERS = (
    keras.layers.Conv2D,  # and ours, which are subclasses
    keras.layers.DepthwiseConv2D,
    keras.layers.AveragePooling2D,
    keras.layers.GlobalAveragePooling2D,
)


@keras.saving.register_keras_serializable("keras_condense")
class MemoryEfficientModel(keras.Model):
    """A functional model that computes concatenations, batch norms and ReLUs again in the backward pass.

    It is made like any functional model, `MemoryEfficientModel(inputs, outputs)`, of the same layers. Outputs,
    gradients, weights, files and batch norm's moving statistics are those of `keras.Model(inputs, outputs)`; only a
    training step needs less memory and more time. Outside of training nothing differs, nor does it where layers mask
    time steps.

    Compiled with XLA for a CPU (`jit_compile=True`, which is not Keras' choice there; JAX always compiles) it needs as
    much memory as the usual model, for XLA runs the operations in an order of its own.

    Args:
        inputs: as those of `keras.Model`.
        outputs: as those of `keras.Model`.
        name: the model's name.

    Example:
        >>> image = keras.Input((8, 8, 3))
        >>> new = keras.layers.Conv2D(4, 3, padding="same")(image)
        >>> x = keras.layers.BatchNormalization()(keras.layers.Concatenate()([image, new]))
        >>> model = MemoryEfficientModel(image, keras.layers.Conv2D(2, 1)(keras.layers.ReLU()(x)))
        >>> model.output_shape
        (None, 8, 8, 2)
    """

    def call(self, inputs, training=None, mask=None):
        if not training or mask is not None or _has_masks(self):  # which TensorFlow's second run would lose
            return super().call(inputs, training=training, mask=mask)
        deferred = _deferred_layers(self)

        def call(layer, *args, **kwargs):
            if layer in deferred:
                return _Call(layer, _joined(layer, args), kwargs)
            if not isinstance(layer, _READERS):
                args, kwargs = keras.tree.map_structure(_recomputed, (args, kwargs))
            return _recomputed(_Call(layer, args, kwargs))

        outputs = run_through_graph(self, standardized_inputs(self, inputs), lambda layer: layer, call)
        # as Keras' own functional model answers
        return outputs[0] if isinstance(outputs, (list, tuple)) and len(outputs) == 1 else outputs


class _Call:
    """A call of a layer in training; what is an output of a deferred layer stands among the arguments as its call."""

    def __init__(self, layer: keras.Operation, args: tuple, kwargs: dict) -> None:
        self.layer, self.args, self.kwargs = layer, args, kwargs
        if "training" in inspect.signature(layer.call).parameters:  # in the backward pass no outer layer says so
            self.kwargs = kwargs | {"training": True}

    def with_calls_before(self) -> Iterator["_Call"]:
        """Yield the calls that it needs, each after its own, and itself at last."""
        for argument in keras.tree.flatten((self.args, self.kwargs)):
            if isinstance(argument, _Call):
                yield from argument.with_calls_before()
        yield self

    def tensors(self) -> list[Any]:
        """The tensors that all these calls begin with, each once."""
        calls = self.with_calls_before()
        arguments = [argument for call in calls for argument in keras.tree.flatten((call.args, call.kwargs))]
        return list({id(tensor): tensor for tensor in arguments if keras.ops.is_tensor(tensor)}.values())

    def outputs(self, tensors: dict[int, Any]) -> Any:
        """Run it and what it needs, with other tensors for some, given by the ids of those that they stand for."""

        def value(argument):
            return argument.outputs(tensors) if isinstance(argument, _Call) else tensors.get(id(argument), argument)

        args, kwargs = keras.tree.map_structure(value, (self.args, self.kwargs))
        return self.layer(*args, **kwargs)


def _recomputed(call: Any) -> Any:
    """The outputs of a call. What deferred layers contribute is not kept, and computed again in the backward pass."""
    if not isinstance(call, _Call):
        return call  # an argument that is no deferred layer's output
    layers = [before.layer for before in call.with_calls_before()]
    if not isinstance(call.layer, _RECOMPUTED) and len(layers) == 1:
        return call.outputs({})
    trained = [variable for layer in layers for variable in layer.trainable_variables]
    state = [variable for layer in layers for variable in layer.non_trainable_variables]
    statistics = [variable for variable in state if "float" in variable.dtype]
    state_before = [keras.ops.copy(value) for value in values_of(state)]
    tensors = call.tensors()

    def compute(*arguments):
        """A function of tensors alone that changes no state, for it runs twice; what is to change it returns."""
        values, inputs = arguments[: len(trained)], arguments[len(trained) :]
        mapping = [*zip(trained, values, strict=True), *zip(state, state_before, strict=True)]
        with keras.StatelessScope(mapping, collect_losses=True) as scope:
            outputs = call.outputs(dict(zip(map(id, tensors), inputs, strict=True)))
            statistics_after = [keras.ops.stop_gradient(scope.get_current_value(variable)) for variable in statistics]
            forget_losses(layers, scope.losses)
            return outputs, statistics_after, list(scope.losses)

    outputs, statistics_after, losses = keras.remat(compute)(*values_of(trained), *tensors)
    for variable, value in zip(statistics, statistics_after, strict=True):
        variable.assign(value)
    for layer in layers:
        if isinstance(layer, keras.layers.Dropout) and layer.rate > 0:
            layer.seed_generator.next()  # `compute` drew from the state of before, and left it
    for loss in losses:
        call.layer.add_loss(loss)
    return outputs


def _has_masks(model: keras.Model) -> bool:
    """Whether a layer tells others which time steps are padding."""
    tensors = (tensor for node in nodes_in_order(model) for tensor in (*node.input_tensors, *node.outputs))
    return any(getattr(tensor, "_keras_mask", None) is not None for tensor in tensors)


def _deferred_layers(model: keras.Model) -> set[keras.Operation]:
    """The layers whose outputs are not kept.

    Concatenations are, however often they are read. A layer with state (moving statistics, a seed) has to run once a
    step, so it is deferred only to a single reader, which is no concatenation, for that may run many times.
    """
    nodes = list(nodes_in_order(model))
    calls = collections.Counter(node.operation for node in nodes)
    ends = {id(tensor) for tensor in model.outputs}
    readers = collections.defaultdict(list)
    for node in nodes:
        for tensor in node.input_tensors:
            readers[id(tensor)].append(node.operation)

    def is_deferred(node) -> bool:
        layer, output = node.operation, id(node.outputs[0])
        if not isinstance(layer, _RECOMPUTED) or calls[layer] > 1 or output in ends:
            return False
        if isinstance(layer, keras.layers.Concatenate):
            return True
        return len(readers[output]) == 1 and not isinstance(readers[output][0], keras.layers.Concatenate)

    return {node.operation for node in nodes if is_deferred(node)}


def _joined(layer: keras.layers.Layer, args: tuple) -> tuple:
    """Let a concatenation of concatenations read the parts: one copy instead of one for each layer of a block."""
    if not isinstance(layer, keras.layers.Concatenate):
        return args
    parts = []
    for part in args[0]:
        same = isinstance(part, _Call) and isinstance(part.layer, keras.layers.Concatenate)
        parts += part.args[0] if same and part.layer.axis == layer.axis else [part]
    return (parts, *args[1:])
