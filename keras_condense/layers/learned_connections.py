"""The state that learned layers share: a mask that says which connections each group still has.

What was dropped stays zero, and this module alone sees to it: a layer computes with `masked_kernel` and saves it, the
mask changes in `set_mask`, which clears the kernel, and `clear_dropped` clears what else remembers dropped weights, as
an optimizer does.
"""

import operator
from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import ops

from keras_condense import drop_plans, masks
from keras_condense.keras_graphs import student_of
from keras_condense.layers.channels import ChannelIndex
from keras_condense.layers.stand_in import StandIn
from keras_condense.replicas import LossesOfReplicas
from keras_condense.rewriting import Replacement
from keras_condense.validation import as_index, check_divisible, shown

__all__ = ["LearnedConnections", "condensable_layers", "frozen_layers"]


def condensable_layers(model: keras.Model) -> list["LearnedConnections"]:
    """The layers of a model that learn which connections they need, nested models and layers included.

    Args:
        model: any Keras model or layer; of a Distiller its student is looked at.

    Returns:
        The layers, each once, in the model's order.

    Example:
        >>> from keras_condense.layers import LearnedGroupConv2D
        >>> inner = keras.Sequential([LearnedGroupConv2D(8, 1, name="inner")])
        >>> [layer.name for layer in condensable_layers(keras.Sequential([inner, keras.layers.Flatten()]))]
        ['inner']
    """
    # the public `model.layers` does not reach into layers that hold layers
    return [layer for layer in student_of(model)._flatten_layers() if isinstance(layer, LearnedConnections)]


def frozen_layers(model: keras.Model) -> list["LearnedConnections"]:
    """Those of `condensable_layers` that training the model leaves as they are, for they or models above are frozen.

    Example:
        >>> from keras_condense.layers import LearnedGroupConv2D
        >>> inner = keras.Sequential([keras.Input((2, 2, 8)), LearnedGroupConv2D(8, 1, name="inner")])
        >>> inner.trainable = False
        >>> model = keras.Sequential([inner, LearnedGroupConv2D(8, 1, name="outer")])
        >>> [layer.name for layer in frozen_layers(model)]
        ['inner']
    """
    trained = {id(variable) for variable in student_of(model).trainable_variables}

    def is_frozen(layer: LearnedConnections) -> bool:
        return id(layer.kernel) not in trained if layer.built else not layer.trainable

    return [layer for layer in condensable_layers(model) if is_frozen(layer)]


class LearnedConnections(LossesOfReplicas, StandIn):
    """Mixin of a layer with a `kernel` of (..., inputs, filters) and a `mask` of (groups, inputs).

    The layer provides `groups`, `condense_factor`, `kernel`, `use_bias` and `add_weight`, and `pruned_fraction` and
    `drops_at` if it has them; its `call` uses `masked_kernel()`, and `condensed` says what it becomes. One whose groups
    are of inputs and learn which filters they reach has a mask of (groups, filters), and overrides `kernel_mask` and
    `importance`. Nothing is pruned while the layer is called: `CondenseSchedule` calls `condense_to`.
    """

    saved = ("kernel", "mask")
    trait = "mask"

    condense_factor: int | None
    pruned_fraction: float | None = None
    drops_at: tuple[float, ...] | None = None

    def set_plan(
        self,
        condense_factor: int | None,
        pruned_fraction: float | None,
        drops_at: Sequence[float] | None,
        default_condense_factor: int,
    ) -> None:
        """Check and keep the arguments that say what is dropped when (`drop_plans.drop_plan`); for `__init__`."""
        if condense_factor is None and pruned_fraction is None:
            condense_factor = default_condense_factor
        plan = drop_plans.drop_plan(condense_factor, pruned_fraction, drops_at)
        self.condense_factor = None if condense_factor is None else operator.index(condense_factor)
        self.pruned_fraction = None if pruned_fraction is None else plan.pruned_fraction
        self.drops_at = None if drops_at is None else plan.drops_at

    @property
    def plan(self) -> drop_plans.DropPlan:
        """What the layer drops, and when."""
        return drop_plans.drop_plan(self.condense_factor, self.pruned_fraction, self.drops_at)

    def plan_config(self) -> dict:
        """The arguments of `set_plan`, for `get_config`."""
        return {
            "condense_factor": self.condense_factor,
            "pruned_fraction": self.pruned_fraction,
            "drops_at": self.drops_at,
        }

    @property
    def mask_rows(self) -> int:
        """How many sets of filters the mask has a row for: the groups."""
        return self.groups

    def build_mask(self, inputs: int) -> None:
        """Make the mask weight, all ones; to be called first in `build`."""
        self._check_not_quantized()
        if self.condense_factor is not None:
            fix = f"Change the width of what layer {self.name!r} reads, or its condense factor."
            check_divisible("in_channels", inputs, "condense_factor", self.condense_factor, fix)
        self.mask = self.add_weight(
            name="mask", shape=(self.mask_rows, inputs), initializer="ones", trainable=False, autocast=False
        )

    def kernel_mask(self):
        """The mask spread over the kernel: (inputs, filters), 1 where a connection is left."""
        return masks.mask_of_filters(ops.convert_to_tensor(self.mask), self.kernel.shape[-1])

    def importance(self) -> np.ndarray:
        """How much each group needs what it may drop, of the mask's shape (`masks.importance`)."""
        return masks.importance(ops.convert_to_numpy(self.kernel), self.groups)

    def _masked(self, values):
        return values * ops.cast(self.kernel_mask(), values.dtype)

    def masked_kernel(self):
        """The kernel as the layer uses it, in its variable's dtype: what is dropped has neither weight nor gradient."""
        return self._masked(ops.convert_to_tensor(self.kernel))

    def used_kernel(self):
        """What `call` computes with: the masked kernel, and in a layer that rounds it what is left of it."""
        return self.masked_kernel()

    def clear_dropped(self, variable) -> None:
        """Set to zero what a variable of the kernel's shape holds for the connections that are dropped.

        Args:
            variable: a Keras variable, or a tensor of PyTorch, which is changed in place.
        """
        left = self._masked(ops.convert_to_tensor(variable))
        if isinstance(variable, keras.Variable):
            variable.assign(left)
        else:
            variable.copy_(left.detach())

    def set_mask(self, mask) -> None:
        """Replace the mask, (groups, inputs) of ones and zeros, and set the weights that it drops to zero."""
        if not np.isin(mask, (0, 1)).all():
            raise ValueError(
                f"`mask` of layer {self.name!r} must hold ones and zeros alone, and holds other numbers. Give 1 where "
                "a connection is left."
            )
        self.mask.assign(mask)
        self.clear_dropped(self.kernel)

    @property
    def stage(self) -> int:
        """The condensing stage reached, 0 (dense) to `final_stage`."""
        self._check_built()
        return masks.stage_of_mask(ops.convert_to_numpy(self.mask), self.plan)

    @property
    def final_stage(self) -> int:
        """The stage at which the layer can be condensed."""
        return drop_plans.final_stage(self.plan)

    def condense_to(self, stage: int) -> bool:
        """Drop what is due up to `stage`, the least important first, and set its weights to zero.

        Args:
            stage: 0 to `final_stage`; a stage already reached changes nothing.

        Returns:
            Whether the mask changed.

        Raises:
            ValueError: a stage out of range, a layer that is not built, or NaN in the kernel.
        """
        self._check_built()
        number = as_index(stage)
        if number is None or not 0 <= number <= self.final_stage:
            raise ValueError(
                f"`stage` (={shown(stage)}) of layer {self.name!r} must be an integer in [0, {self.final_stage}]. "
                f"Its connections are dropped in {self.final_stage} steps; the stage is how many of them are done."
            )
        mask = ops.convert_to_numpy(self.mask)
        if not np.isfinite(self.importance()).all():
            raise ValueError(
                f"The kernel of layer {self.name!r} must be finite to be pruned, and holds NaN or infinity: the "
                "training has diverged. Lower the learning rate or go back to an earlier checkpoint."
            )
        new = self.mask_at(number)
        if np.array_equal(new, mask):
            return False
        self.set_mask(new)
        return True

    def mask_at(self, stage: int) -> np.ndarray:
        """The mask at a stage; what is still due up to it is dropped by the kernel's magnitudes as they are."""
        return masks.drop_due(ops.convert_to_numpy(self.mask), self.importance(), stage, self.plan)

    def final_mask(self) -> np.ndarray:
        """The mask at the last stage."""
        return self.mask_at(self.final_stage)

    def condensed_weights(self) -> tuple[np.ndarray | None, int, list[np.ndarray]]:
        """What is left at the last stage: the inputs to choose (None: all in order), the groups, kernel and bias."""
        mask = self.final_mask()
        drops = not mask.all()
        groups = self.groups if drops else 1
        if groups == 1:
            mask = mask[:1]
        weights = [masks.condensed_kernel(ops.convert_to_numpy(self.kernel), mask)]
        if self.use_bias:
            bias = ops.convert_to_numpy(self.bias)
            weights.append(np.concatenate([bias[group::groups] for group in range(groups)]))
        return masks.kept_inputs(mask) if drops else None, groups, weights

    def indexed(self, inputs: np.ndarray | None, parts: Replacement, new_name: Callable[[str], str]) -> Replacement:
        """The same parts, with a `ChannelIndex` before them unless they read all inputs in order."""
        if inputs is None:
            return parts
        index = ChannelIndex(inputs, dtype=self.dtype_policy, name=new_name(f"{self.name}_index"))
        return [(index, None), *parts]

    def saved_value(self, name: str):
        """What is saved of a weight: dropped ones as exact zeros, whatever an optimizer did to them."""
        return self.masked_kernel() if name == "kernel" else super().saved_value(name)
