"""Layers that stand for ordinary ones while a network is trained, until `condense` puts those in their place."""

from collections.abc import Callable
from typing import ClassVar

import keras
import numpy as np

from keras_condense.rewriting import Replacement, copied

__all__ = ["KERNEL_ARGUMENTS", "StandIn", "stand_ins"]

# what a convolution and a dense layer have in common; their dtype policy has an attribute of another name
KERNEL_ARGUMENTS = (
    "use_bias",
    "kernel_initializer",
    "bias_initializer",
    "kernel_regularizer",
    "bias_regularizer",
    "kernel_constraint",
    "bias_constraint",
    "trainable",
    "name",
)


def stand_ins(model: keras.Model) -> list["StandIn"]:
    """The layers of a model that `condense` replaces, nested models and layers included: each once, in its order.

    Example:
        >>> from keras_condense.layers import PrunedDense
        >>> [layer.name for layer in stand_ins(keras.Sequential([PrunedDense(8, name="scores"), keras.layers.ReLU()]))]
        ['scores']
    """
    # the public `model.layers` does not reach into layers that hold layers
    return [layer for layer in model._flatten_layers() if isinstance(layer, StandIn)]


class StandIn:
    """Mixin of a layer with a kernel that is another one while it is trained, and says in `condensed` what it becomes.

    Attributes:
        kernel_arguments: the arguments that it has in common with what it becomes, whatever its kind.
        saved: the names of its weights, but for the bias.
        trait: what an ordinary layer in its place would lose, for messages.
    """

    kernel_arguments: ClassVar[tuple[str, ...]] = KERNEL_ARGUMENTS
    saved: ClassVar[tuple[str, ...]]
    trait: ClassVar[str]

    def _check_built(self) -> None:
        if not self.built:
            raise ValueError(
                f"Layer {self.name!r} must be built to have a {self.trait}, and is not. "
                "Call the layer or its model on a batch of data first, or begin the model with `keras.Input`."
            )

    def _check_not_quantized(self) -> None:
        if getattr(self, "quantization_mode", None):
            raise ValueError(
                f"`dtype` (={self.dtype_policy.name!r}) of layer {self.name!r} must not be quantized, for Keras would "
                f"lose the {self.trait}. Leave it out, and quantize the condensed model."
            )

    def condensed(self, new_name: Callable[[str], str]) -> Replacement:
        """The layers that compute what this one computes once it is trained; `keras_condense.condense` puts them there.

        Args:
            new_name: gives a name that no layer of the model has, similar to the one it is called with.

        Returns:
            Layers, not built yet, in the order of their calls, each with its weights (None: those that it begins with).
            The one that holds the kernel keeps this layer's name.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must say what it becomes to be condensed. Give it a method `condensed(new_name)`."
        )

    def shared_arguments(self, *others: str) -> dict:
        """The arguments that a condensed layer shares with this one: those of all layers with a kernel, and `others`.

        They are the objects that the layer holds, for functions and classes that nobody registered have no config.
        """
        return {name: getattr(self, name) for name in (*self.kernel_arguments, *others)} | {"dtype": self.dtype_policy}

    def condensed_to(
        self,
        kind: type[keras.layers.Layer],
        arguments: tuple[str, ...],
        weights: list[np.ndarray],
        new_name: Callable[[str], str],
    ) -> Replacement:
        """One ordinary layer, with an `Activation` behind it where that is a layer.

        Args:
            kind: its class.
            arguments: those that it has beside the arguments of every layer with a kernel.
            weights: its kernel, and its bias if there is one.
            new_name: as `condensed` gets it.
        """
        if isinstance(self.activation, keras.layers.Layer):  # with weights of its own, perhaps
            return [(kind(**self.shared_arguments(*arguments)), weights), self.condensed_activation(new_name)]
        arguments = self.shared_arguments(*arguments, "activation", "activity_regularizer")
        return [(kind(**arguments), weights)]

    def condensed_activation(self, new_name: Callable[[str], str]) -> tuple[keras.layers.Layer, list | None]:
        """The activation as a layer of its own; one that is a layer is made anew, with its weights."""
        name = new_name(f"{self.name}_activation")
        if isinstance(self.activation, keras.layers.Layer):
            layer = copied(self.activation)
            layer.name, layer.activity_regularizer = name, self.activity_regularizer
            return layer, self.activation.get_weights() or None
        regularizer = self.activity_regularizer
        layer = keras.layers.Activation(
            self.activation, activity_regularizer=regularizer, dtype=self.dtype_policy, name=name
        )
        return layer, None

    def enable_lora(self, *args, **kwargs) -> None:
        """Refuse: a low-rank update of the kernel would not be condensed."""
        raise ValueError(
            f"Layer {self.name!r} of class {type(self).__name__} must be condensed before LoRA is enabled, for an "
            f"update of its kernel would not have its {self.trait}. Call `keras_condense.condense(model)`, and "
            "`enable_lora` on the layers of the new model."
        )

    def quantize(self, *args, **kwargs) -> None:
        """Refuse: the quantized layers of Keras read a kernel of their own."""
        # of this type, so that `model.quantize` passes the layer over, as every layer that can't be quantized
        raise NotImplementedError(
            f"Layer {self.name!r} of class {type(self).__name__} must be condensed before it is quantized, for Keras "
            f"would lose its {self.trait}. Call `keras_condense.condense(model)`, and `quantize` on the new model."
        )

    def _saved_names(self) -> tuple[str, ...]:
        return (*self.saved, "bias") if self.use_bias else self.saved

    def saved_value(self, name: str):
        """What is saved of a weight."""
        return getattr(self, name)

    def save_own_variables(self, store) -> None:
        """Save the weights under their names."""
        if self.built:  # as Keras' own layers do
            for name in self._saved_names():
                store[name] = self.saved_value(name)

    def load_own_variables(self, store) -> None:
        """Load what `save_own_variables` saved."""
        if not self.built and not store.keys():
            return
        self._check_built()
        expected = set(self._saved_names())
        if set(store.keys()) != expected:
            raise ValueError(
                f"Layer {self.name!r} expects the weights {sorted(expected)}, and the file holds "
                f"{sorted(store.keys())}. Load a file that was saved from the same architecture."
            )
        for name in sorted(expected):
            getattr(self, name).assign(store[name])
