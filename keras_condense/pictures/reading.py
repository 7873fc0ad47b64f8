"""Which channels of which layers the learned layers of a network read, masked or condensed, and with what weights."""

import dataclasses
from collections.abc import Collection, Sequence

import keras
import numpy as np
from keras import ops

from keras_condense.keras_graphs import functional_form, is_graph, nodes_in_order, student_of
from keras_condense.layers import (
    ChannelIndex,
    ChannelScatterAdd,
    ChannelShuffle,
    GroupConv2D,
    LearnedConnections,
    SparseFeatureReactivation,
)
from keras_condense.masks import expanded_kernel
from keras_condense.validation import shown

__all__ = ["Reading", "readings"]

L = keras.layers
# each of their output channels is made of one input channel, the one at its place
_KEEP_CHANNELS = (
    L.Activation, L.AlphaDropout, L.BatchNormalization, L.Cropping2D, L.Dropout, L.ELU, L.GaussianDropout,
    L.GaussianNoise, L.Identity, L.LeakyReLU, L.PReLU, L.ReLU, L.Rescaling, L.SpatialDropout2D,
    L.UpSampling2D, L.ZeroPadding2D, L.AveragePooling2D, L.MaxPooling2D, L.GlobalAveragePooling2D, L.GlobalMaxPooling2D,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a learned layer reads.

    Attributes:
        layer: the name of the one that holds the kernel.
        sources: for each input channel, the name of the layer that made it.
        weights: (inputs, filters), the mean of |kernel| over its positions; 0 where a connection is dropped.
        mask: (groups, inputs), 1 where a group reads an input; (groups, filters) where the groups learn their outputs.
        of_outputs: whether they do (`SparseFeatureReactivation`).
    """

    layer: str
    sources: tuple[str, ...]
    weights: np.ndarray
    mask: np.ndarray
    of_outputs: bool = False

    @property
    def by_source(self) -> dict[str, float]:
        """The mean weight of the connections from each layer that this one can read, dropped ones included as 0."""
        names = np.array(self.sources)
        return {name: float(self.weights[names == name].mean()) for name in dict.fromkeys(self.sources)}


@dataclasses.dataclass(frozen=True)
class _Channels:
    """What a tensor's channels are: who made each, and how the layer that moved them last did so."""

    names: tuple[str, ...]
    made_by: keras.layers.Layer | None = None
    before: tuple[str, ...] = ()  # the names of its input channels


def readings(model: keras.Model, dense: Collection[str] = ()) -> list[Reading]:
    """Follow the channels through a network to its learned layers, nested models included.

    A `ChannelIndex` and the convolution or dense layer that reads it count as what a learned layer has become, and so
    do a `GroupConv2D` and the `ChannelScatterAdd` behind it. Concatenations, norms, activations and poolings pass
    channels on under the name of the layer that made them; sums and all others make new ones.

    Args:
        model: functional, or sequential and built.
        dense: names of layers that count too though nothing shows that they were learned ones: a learned layer that
            drops nothing is condensed to a dense one of its name.

    Returns:
        A `Reading` for each learned layer that stands in the graph, in the graph's order.

    Raises:
        ValueError: a model without a graph, or without learned layers in it.

    Example:
        >>> from keras_condense.layers import LearnedGroupConv2D
        >>> image = keras.Input((8, 8, 4), name="image")
        >>> x = keras.layers.Concatenate()([image, keras.layers.Conv2D(4, 3, padding="same", name="conv")(image)])
        >>> model = keras.Model(image, LearnedGroupConv2D(8, 1, name="learned")(x))
        >>> (reading,) = readings(model)
        >>> reading.layer, list(reading.by_source), reading.mask.shape
        ('learned', ['image', 'conv'], (4, 8))
    """
    model = student_of(model)
    if not is_graph(model):
        raise ValueError(
            f"`model` (={shown(getattr(model, 'name', model))}) must be a functional or built sequential Keras model, "
            "whose graph shows who reads whom. Build it with `keras.Model(inputs, outputs)`."
        )
    found: list[Reading] = []
    inputs = functional_form(model).inputs
    _follow(model, [_made_by(tensor._keras_history.operation.name, tensor) for tensor in inputs], "", found, dense)
    if not found:
        raise ValueError(
            f"`model` (={model.name!r}) must have learned layers, masked or condensed, and has none. Build it with "
            "`LearnedGroupConv2D`, or give learned groups to it (`learn_groups`)."
        )
    return found


def _made_by(name: str, tensor, layer=None, before: tuple[str, ...] = ()) -> _Channels:
    return _Channels((name,) * ((tensor.shape or (0,))[-1] or 0), layer, before)


def _follow(
    model, inputs: list[_Channels], prefix: str, found: list[Reading], dense: Collection[str]
) -> list[_Channels]:
    """Append the readings of a model that is called with `inputs`; return what its outputs are."""
    graph = functional_form(model)
    known = dict(zip(map(id, graph.inputs), inputs, strict=True))
    for node in nodes_in_order(model):
        layer, name = node.operation, f"{prefix}{node.operation.name}"
        given = [known[id(tensor)] for tensor in node.input_tensors]
        if is_graph(layer):
            outputs = _follow(layer, given, f"{name}/", found, dense)
        else:
            if (reading := _reading(layer, name, given, name in dense)) is not None:
                found.append(reading)
            outputs = [_passed_on(layer, given, tensor) or _new(layer, name, given, tensor) for tensor in node.outputs]
        known |= zip(map(id, node.outputs), outputs, strict=True)
    return [known[id(tensor)] for tensor in graph.outputs]


def _new(layer, name: str, given: Sequence[_Channels], tensor) -> _Channels:
    return _made_by(name, tensor, layer, given[0].names if given else ())


def _passed_on(layer, given: Sequence[_Channels], tensor) -> _Channels | None:
    """What a layer gives out, if it moves channels alone or changes each by itself."""
    if getattr(layer, "data_format", None) == "channels_first":
        return None
    if isinstance(layer, L.Concatenate) and layer.axis in (-1, len(tensor.shape) - 1):
        return _Channels(sum((each.names for each in given), ()))
    if isinstance(layer, ChannelIndex):
        (names,) = (each.names for each in given)
        return _Channels(tuple(names[i] for i in ops.convert_to_numpy(layer.indices)), layer, names)
    if isinstance(layer, ChannelShuffle):
        (names,) = (each.names for each in given)
        return _Channels(tuple(np.array(names).reshape(layer.groups, -1).T.ravel().tolist()))
    if isinstance(layer, _KEEP_CHANNELS) and len(given) == 1:
        return _Channels(given[0].names)
    return None


def _reading(layer, name: str, given: Sequence[_Channels], dense: bool) -> Reading | None:
    """What a layer reads, if it is a learned one, or all that is left of one."""
    if isinstance(layer, LearnedConnections):
        mask = ops.convert_to_numpy(layer.mask)
        is_twin = isinstance(layer, SparseFeatureReactivation)
        return Reading(name, given[0].names, _positions_mean(layer.masked_kernel()), mask, is_twin)
    maker = given[0].made_by if len(given) == 1 else None
    if isinstance(maker, ChannelIndex) and isinstance(layer, (GroupConv2D, L.Conv2D, L.Dense)):
        groups, kept = getattr(layer, "groups", 1), ops.convert_to_numpy(maker.indices)
        sources = given[0].before
        return Reading(name, sources, *expanded_kernel(_positions_mean(layer.kernel), kept, len(sources), groups))
    if isinstance(maker, GroupConv2D) and isinstance(layer, ChannelScatterAdd):
        reached = ops.convert_to_numpy(layer.indices).reshape(maker.groups, -1)
        mask, kernel = np.zeros((maker.groups, layer.channels), "float32"), _positions_mean(maker.kernel)
        np.put_along_axis(mask, reached, 1, axis=1)
        weights = np.zeros((len(given[0].before), layer.channels), kernel.dtype)
        inputs = len(weights) // maker.groups
        for group, part in enumerate(np.split(kernel, maker.groups, axis=1)):
            weights[group * inputs : (group + 1) * inputs, reached[group]] = part
        prefix = name.removesuffix(layer.name)
        return Reading(f"{prefix}{maker.name}", given[0].before, weights, mask, of_outputs=True)
    if dense and getattr(layer, "groups", 1) == 1 and hasattr(layer, "kernel"):
        return Reading(
            name, given[0].names, _positions_mean(layer.kernel), np.ones((1, len(given[0].names)), "float32")
        )
    return None


def _positions_mean(kernel) -> np.ndarray:
    kernel = np.abs(ops.convert_to_numpy(ops.cast(kernel, "float32")))
    return kernel.reshape(-1, *kernel.shape[-2:]).mean(axis=0)
