"""Layers that lose their smallest weights, singly or in blocks of neighbouring filters: sparse kernels skip them."""

from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import ops

from keras_condense import drop_plans, masks
from keras_condense.layers.convolution import CONVOLUTION_ARGUMENTS, CheckedConv2D
from keras_condense.layers.dense import MaskedDense
from keras_condense.layers.learned_connections import LearnedConnections
from keras_condense.rewriting import Replacement
from keras_condense.validation import (
    LARGEST_CHANNELS,
    check_divisible,
    check_fraction,
    check_positive_integer,
    check_weight_shape,
)

__all__ = ["BLOCK_FIX", "PrunedConv2D", "PrunedDense", "PrunedKernel"]

_DROPS_AT = tuple(drop / 20 for drop in range(1, 11))  # ten in the first half of the training, as learned groups' are
BLOCK_FIX = "Use 1 for single weights, 2 or 4 for what sparse kernels share."


class PrunedKernel(LearnedConnections):
    """What pruned layers share: a mask of (blocks, inputs), block b of the filters from b * block on.

    In place of as many inputs for each group, the whole layer loses those of its weights, or blocks of them, whose
    magnitude is least.
    """

    condense_factor = None

    def set_sparsity(
        self, filters: int, sparsity: float, block: int, schedule: str, drops_at: Sequence[float] | None
    ) -> None:
        """Check and keep the arguments that say what is dropped when; for `__init__`."""
        fix = "Use 0.8 to lose eight weights in ten."
        self.sparsity = check_fraction("sparsity", sparsity, fix, below_one=True)
        self.block = check_positive_integer("block", block, BLOCK_FIX)
        check_divisible("filters", filters, "block", self.block, f"Change one of them in layer {self.name!r}.")
        self._blocks = filters // self.block
        self.schedule, self.drops_at = schedule, _DROPS_AT if drops_at is None else drops_at
        self.drops_at = self.plan.drops_at  # which checks both

    @property
    def plan(self) -> drop_plans.DropPlan:
        """What the layer drops, and when."""
        return drop_plans.DropPlan(self.sparsity, self.drops_at, self.schedule)

    def plan_config(self) -> dict:
        """The arguments of pruning, for `get_config`."""
        return {name: getattr(self, name) for name in ("sparsity", "block", "schedule", "drops_at")}

    @property
    def mask_rows(self) -> int:
        """The blocks."""
        return self._blocks

    def kernel_mask(self):
        """The mask spread over the kernel: (inputs, filters), 1 where a weight is left."""
        return ops.repeat(ops.transpose(ops.convert_to_tensor(self.mask)), self.block, axis=1)

    def importance(self) -> np.ndarray:
        """The sum of |kernel| over each block: (blocks, inputs), float64."""
        return masks.block_importance(ops.convert_to_numpy(self.kernel), self.block)

    @property
    def stage(self) -> int:
        """The stage reached, 0 (dense) to `final_stage`."""
        self._check_built()
        return masks.stage_of_mask(ops.convert_to_numpy(self.mask).reshape(1, -1), self.plan)

    def mask_at(self, stage: int) -> np.ndarray:
        """The mask at a stage: of all the layer's blocks together, those of the least magnitude are dropped."""
        return masks.drop_blocks_due(ops.convert_to_numpy(self.mask), self.importance(), stage, self.plan)

    def pruned_weights(self) -> list[np.ndarray]:
        """The kernel at the last stage, with its zeros, and the bias."""
        mask = masks.mask_of_blocks(self.final_mask(), self.block)
        kernel = ops.convert_to_numpy(self.kernel)
        return [kernel * mask.astype(kernel.dtype)] + ([ops.convert_to_numpy(self.bias)] if self.use_bias else [])


@keras.saving.register_keras_serializable("keras_condense")
class PrunedConv2D(PrunedKernel, CheckedConv2D):
    """A 1x1 convolution that loses its weights of the least magnitude while it is trained.

    It begins dense. At each of its stages the weights that matter least become zero and stay zero, until the share
    `sparsity` is gone: by default in ten drops over the first half of the training, large ones first (Zhu and Gupta,
    arXiv 1710.01878, equation 1). `keras_condense.callbacks.CondenseSchedule` moves the stages on while a model is
    fitted; nothing is pruned in `call`. `keras_condense.condense` turns the layer into a `keras.layers.Conv2D` with
    zeros in its kernel, which `export_tflite` lowers to XNNPACK's sparse kernels.

    The weights are `kernel` (1, 1, inputs, filters), `mask` (filters / block, inputs) and, if asked for, `bias`.

    Args:
        filters: number of output channels, a multiple of `block`.
        kernel_size: 1 or (1, 1).
        strides: one or two ints.
        padding: "valid" or "same".
        data_format: None or "channels_last".
        sparsity: the share of the weights that is zero in the end, in [0, 1).
        block: so many neighbouring filters lose the same inputs. Pairs (2) and fours are what sparse kernels of phones
            share reads in; 1 for single weights.
        schedule: "cubic" for large drops at first, "even" for drops of one size.
        drops_at: the progress of the training, ascending in [0, 1), at which each drop falls. By default ten in the
            first half.
        **arguments: those of `keras.layers.Conv2D` that it has beside these, but for groups and dilation.

    Input shape:
        (batch, height, width, channels).

    Output shape:
        (batch, new height, new width, filters).

    Raises:
        ValueError: an argument out of range; a kernel that is not 1x1; filters that `block` does not divide.

    Example:
        >>> import numpy as np
        >>> layer = PrunedConv2D(8, 1, sparsity=0.75, block=2)
        >>> tuple(layer(np.ones((2, 5, 5, 16), "float32")).shape), layer.stage, layer.final_stage
        ((2, 5, 5, 8), 0, 10)
        >>> layer.condense_to(10), int(np.count_nonzero(layer.masked_kernel()))
        (True, 32)
    """

    def __init__(
        self,
        filters,
        kernel_size=1,
        strides=(1, 1),
        padding="valid",
        data_format=None,
        *,
        sparsity=0.8,
        block=1,
        schedule="cubic",
        drops_at=None,
        use_bias=True,
        **arguments,
    ):
        super().__init__(filters, kernel_size, strides, padding, data_format, use_bias=use_bias, **arguments)
        if self.kernel_size != (1, 1):
            raise ValueError(
                f"`kernel_size` (={self.kernel_size}) must be 1: no kernel of phones skips zeros of larger ones. "
                "Use `keras.layers.Conv2D`, or `LearnedGroupConv2D` to drop whole inputs."
            )
        self.set_sparsity(self.filters, sparsity, block, schedule, drops_at)

    def build(self, input_shape):
        channels = self.checked_channels(input_shape)
        check_weight_shape(self.name, (1, 1, channels, self.filters))
        self.build_mask(channels)
        super().build(input_shape)
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={-1: channels})

    def convolution_op(self, inputs, kernel):
        return super().convolution_op(inputs, self.used_kernel())

    def condensed(self, new_name: Callable[[str], str]) -> Replacement:
        """A `keras.layers.Conv2D` of this layer's name, and `Activation` where that is a layer."""
        return self.condensed_to(keras.layers.Conv2D, CONVOLUTION_ARGUMENTS, self.pruned_weights(), new_name)

    def get_config(self):
        config = super().get_config()
        for name in ("groups", "dilation_rate", "lora_rank", "lora_alpha"):
            config.pop(name, None)
        return config | self.plan_config()


@keras.saving.register_keras_serializable("keras_condense")
class PrunedDense(PrunedKernel, MaskedDense):
    """A `keras.layers.Dense` that loses its weights of the least magnitude while it is trained, as `PrunedConv2D` does.

    The weights are `kernel` (inputs, units), `mask` (units / block, inputs) and, if asked for, `bias` (units).

    Args:
        units: number of outputs, a multiple of `block`.
        activation: None, a name or a function.
        sparsity: the share of the weights that is zero in the end, in [0, 1).
        block: so many neighbouring units lose the same inputs.
        schedule: "cubic" or "even".
        drops_at: the progress of the training at which each drop falls.
        **arguments: those of `keras.layers.Dense` that it has beside these.

    Input shape:
        (..., inputs).

    Output shape:
        (..., units).

    Raises:
        ValueError: an argument out of range; units that `block` does not divide.

    Example:
        >>> import numpy as np
        >>> layer = PrunedDense(10, sparsity=0.9)
        >>> tuple(layer(np.ones((3, 20), "float32")).shape), layer.condense_to(10)
        ((3, 10), True)
        >>> int(np.count_nonzero(layer.masked_kernel()))
        20
    """

    def __init__(self, units, activation=None, *, sparsity=0.8, block=1, schedule="cubic", drops_at=None, **arguments):
        units = check_positive_integer("units", units, "Give the number of outputs.", largest=LARGEST_CHANNELS)
        super().__init__(units, activation=activation, **arguments)
        self.set_sparsity(units, sparsity, block, schedule, drops_at)

    def condensed(self, new_name: Callable[[str], str]) -> Replacement:
        """A `keras.layers.Dense` of this layer's name, and `Activation` where that is a layer."""
        return self.condensed_to(keras.layers.Dense, ("units",), self.pruned_weights(), new_name)
