"""What can be done to one layer's kernel without training: which layers it fits, and what the kernel becomes."""

import dataclasses

import keras
import numpy as np

from keras_condense import masks
from keras_condense.choosing import Choice, Where, examined_layers, unfit_to_change
from keras_condense.drop_plans import DropPlan, drop_plan, final_stage
from keras_condense.layers.pruned import BLOCK_FIX
from keras_condense.learned_groups import explain_learn_groups
from keras_condense.validation import check_fraction, check_positive_integer
from keras_condense.weight_pruning import explain_prune_weights

__all__ = ["Compression", "LearnedGroups", "PrunedWeights", "RoundedWeights", "compressed_weights", "rounded_kernel"]

Reasons = dict[str, str | None]  # by a layer's name, why it is left as it is; None for one that is compressed

_MOST_BITS = 16


@dataclasses.dataclass(frozen=True)
class LearnedGroups:
    """Learned groups, finished at once by magnitude: what `condense(learn_groups(model), finish=True)` keeps.

    Attributes:
        groups: G, the groups of filters; layers whose filters it does not divide are left.
        condense_factor: C; each group reads 1 / C of the layer's inputs, which C must divide.

    Raises:
        ValueError: an attribute that is no positive integer.

    Example:
        >>> str(LearnedGroups(4, 8))
        'G4 C8'
        >>> LearnedGroups(groups=1, condense_factor=2).kernel(np.array([[1.0, 2.0], [3.0, -4.0]]))
        array([[ 0.,  0.],
               [ 3., -4.]])
    """

    groups: int = 4
    condense_factor: int = 4

    def __post_init__(self) -> None:
        """Check the attributes."""
        groups = check_positive_integer("groups", self.groups, "Use 4, as the paper does for CIFAR.")
        object.__setattr__(self, "groups", groups)
        drop_plan(self.condense_factor)  # which checks it
        object.__setattr__(self, "condense_factor", int(self.condense_factor))

    def reasons(self, model: keras.Model, where: Where = None) -> Reasons:
        """Why layers are left, as `explain_learn_groups` says."""
        explained = explain_learn_groups(model, self.groups, self.condense_factor, where)
        return {layer.name: layer.reason for layer in explained.layers}

    def kernel(self, kernel: np.ndarray, depthwise: bool = False) -> np.ndarray:
        """What a kernel (..., inputs, filters) becomes, in float64."""
        kernel = np.asarray(kernel, "float64")
        mask = np.ones((self.groups, kernel.shape[-2]))
        last = final_stage(self.condense_factor)
        mask = masks.drop_due(mask, masks.importance(kernel, self.groups), last, self.condense_factor)
        return kernel * masks.mask_of_filters(mask, kernel.shape[-1])

    def __str__(self) -> str:
        return f"G{self.groups} C{self.condense_factor}"


@dataclasses.dataclass(frozen=True)
class PrunedWeights:
    """Weights of the least magnitude set to zero: what `condense(prune_weights(model), finish=True)` keeps.

    Attributes:
        sparsity: the share of the layer's weights that becomes zero, in [0, 1).
        block: so many neighbouring filters lose the same inputs; layers whose filters it does not divide are left.

    Raises:
        ValueError: an attribute out of range.

    Example:
        >>> str(PrunedWeights(0.8)), str(PrunedWeights(0.8, block=2))
        ('80% zeros', '80% zeros by 2')
        >>> PrunedWeights(0.5).kernel(np.array([[1.0, 2.0], [3.0, -4.0]]))
        array([[ 0.,  0.],
               [ 3., -4.]])
    """

    sparsity: float = 0.8
    block: int = 1

    def __post_init__(self) -> None:
        """Check the attributes."""
        fix = "Use 0.8 to lose eight weights in ten."
        object.__setattr__(self, "sparsity", check_fraction("sparsity", self.sparsity, fix, below_one=True))
        object.__setattr__(self, "block", check_positive_integer("block", self.block, BLOCK_FIX))

    def reasons(self, model: keras.Model, where: Where = None) -> Reasons:
        """Why layers are left, as `explain_prune_weights` says."""
        return {layer.name: layer.reason for layer in explain_prune_weights(model, self.block, where).layers}

    def kernel(self, kernel: np.ndarray, depthwise: bool = False) -> np.ndarray:
        """What a kernel (..., inputs, filters) of one position becomes, in float64."""
        kernel = np.asarray(kernel, "float64")
        scores = masks.block_importance(kernel, self.block)
        mask = masks.drop_blocks_due(np.ones(scores.shape), scores, 1, DropPlan(self.sparsity, (0.0,)))
        return kernel * masks.mask_of_blocks(mask, self.block)

    def __str__(self) -> str:
        return f"{100 * self.sparsity:g}% zeros" + (f" by {self.block}" if self.block > 1 else "")


@dataclasses.dataclass(frozen=True)
class RoundedWeights:
    """Weights rounded to few bits, symmetrically and with a scale for each output channel (`rounded_kernel`).

    It fits convolutions of any kernel and groups, depthwise ones and dense layers. Biases and activations keep their
    precision.

    Attributes:
        bits: of a weight, 2 to 16.

    Raises:
        ValueError: `bits` out of range.

    Example:
        >>> str(RoundedWeights(4))
        '4 bits'
        >>> RoundedWeights(2).kernel(np.array([[1.0, 0.2], [0.4, -0.3]]))
        array([[ 1. ,  0.3],
               [ 0. , -0.3]])
    """

    bits: int = 8

    def __post_init__(self) -> None:
        """Check the attribute."""
        fix = "Use 8, as int8 exports do."
        bits = check_positive_integer("bits", self.bits, fix, largest=_MOST_BITS)
        if bits < 2:
            raise ValueError(f"`bits` (={bits}) must be at least 2, of which one is the sign. {fix}")
        object.__setattr__(self, "bits", bits)

    def reasons(self, model: keras.Model, where: Where = None) -> Reasons:
        """Why layers are left."""
        return {name: reason for name, _, reason in examined_layers(model, where, _ROUNDING)}

    def kernel(self, kernel: np.ndarray, depthwise: bool = False) -> np.ndarray:
        """What a kernel becomes, in float64; of a depthwise one each input is a channel of its own."""
        return rounded_kernel(kernel, self.bits, 2 if depthwise else 1)

    def __str__(self) -> str:
        return f"{self.bits} bits"


Compression = LearnedGroups | PrunedWeights | RoundedWeights

_ROUNDING = Choice(
    kinds=(keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense),
    things="layers",
    can="be rounded",
    unfit=unfit_to_change,
    default=lambda layer: None,
    too_small=lambda layer: None,
    default_in_words="convolutions and dense layers",
    explained_by="explain_prune_weights",
)


def rounded_kernel(kernel: np.ndarray, bits: int, channel_axes: int = 1) -> np.ndarray:
    """A kernel whose weights are whole multiples of their channel's scale, the largest of which it can hold exactly.

    The scale of a channel is max |w| / (2^(bits - 1) - 1), as in TensorFlow Lite's int8 kernels.

    Args:
        kernel: (..., channels).
        bits: of a multiple, the sign included.
        channel_axes: how many of the last axes number the channels; 2 for (height, width, inputs, multiplier).

    Returns:
        float64, of the kernel's shape.

    Example:
        >>> rounded_kernel(np.array([[1.0, 0.2], [0.4, -0.3]]), bits=3)
        array([[ 1.        ,  0.2       ],
               [ 0.33333333, -0.3       ]])
    """
    kernel = np.asarray(kernel, "float64")
    largest = np.abs(kernel).max(axis=tuple(range(kernel.ndim - channel_axes)), keepdims=True)
    scale = largest / (2 ** (bits - 1) - 1)
    return np.round(np.divide(kernel, scale, out=np.zeros_like(kernel), where=scale > 0)) * scale


def compressed_weights(layer: keras.layers.Layer, compression: Compression, kernel: np.ndarray) -> np.ndarray:
    """What a kernel of a layer becomes, in its own dtype.

    Example:
        >>> layer = keras.layers.Dense(2)
        >>> compressed_weights(layer, PrunedWeights(0.5), np.array([[1, 2], [3, -4]], "float32")).tolist()
        [[0.0, 0.0], [3.0, -4.0]]
    """
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    return compression.kernel(kernel.astype("float64"), depthwise).astype(kernel.dtype)
