"""The networks that `ablation.py` compares, before their first step."""

import functools
import itertools
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
from ablation_arms import CONDENSE_FACTOR, GROUPS, GROWTH_RATES, Training

import keras_condense as kc
from keras_condense.layers import LearnedGroupConv2D, condensable_layers
from keras_condense.masks import drop_due


class Shape(NamedTuple):
    """What a network is built for: its layers per block, its images, its classes."""

    stages: tuple[int, ...]
    image_shape: tuple[int, int, int]
    classes: int

    def network(
        self,
        growth_rates: tuple[int, ...] = GROWTH_RATES,
        condense_factor: int = CONDENSE_FACTOR,
        group_lasso: float = 0.0,
    ) -> keras.Model:
        """A CondenseNet of this shape."""
        return kc.applications.CondenseNet(
            self.stages,
            growth_rates,
            groups=GROUPS,
            condense_factor=condense_factor,
            stem_strides=1,
            group_lasso=group_lasso,
            input_shape=self.image_shape,
            classes=self.classes,
        )


@functools.cache
def condensed_macs(shape: Shape) -> int:
    """Multiply-adds of the network whose connections are dropped at once, whatever chose them."""
    return kc.profile_model(kc.condense(shape.network(), finish=True)).macs


@functools.cache
def narrow_growth_rates(shape: Shape) -> tuple[int, ...]:
    """The growth rates, at most the others', whose dense network comes closest to the condensed multiply-adds.

    Like the others they do not fall from block to block.
    """

    def apart(rates: tuple[int, ...]) -> int:
        return abs(kc.profile_model(shape.network(rates, condense_factor=1)).macs - condensed_macs(shape))

    fewer = itertools.product(*(range(GROUPS, rate + 1, GROUPS) for rate in GROWTH_RATES))
    return min((rates for rates in fewer if list(rates) == sorted(rates)), key=apart)


def built(training: Training, shape: Shape, seed: int) -> keras.Model:
    """The network before its first step; its weights follow from the seed alone."""
    narrow = {"growth_rates": narrow_growth_rates(shape), "condense_factor": 1} if training.narrow else {}
    keras.utils.set_random_seed(seed)
    model = shape.network(**narrow, group_lasso=training.group_lasso)
    if training.drops_at:
        model = dropping_at(model, training.drops_at)
    if training.chosen:
        random = np.random.default_rng(seed)
        for layer in condensable_layers(model):
            choose_inputs(layer, PREFERENCES[training.chosen](layer, random))
    return model


def dropping_at(model: keras.Model, drops_at: tuple[float, ...]) -> keras.Model:
    """The same network and weights, its connections dropped at other moments."""

    def cloned(layer: keras.Layer) -> keras.Layer:
        changes = {"drops_at": drops_at} if isinstance(layer, LearnedGroupConv2D) else {}
        return type(layer).from_config(layer.get_config() | changes)

    clone = keras.models.clone_model(model, clone_function=cloned)
    clone.set_weights(model.get_weights())
    return clone


def interleaved(layer: LearnedGroupConv2D, random: np.random.Generator) -> np.ndarray:
    """Group g reads every G-th input from input g on: a group convolution between two channel shuffles."""
    groups, inputs = layer.mask.shape
    return (np.arange(inputs) % groups == np.arange(groups)[:, None]).astype("float64")


def drawn(layer: LearnedGroupConv2D, random: np.random.Generator) -> np.ndarray:
    """Every group reads inputs of its own, drawn by lot."""
    return random.random(layer.mask.shape)


PREFERENCES: dict[str, Callable[[LearnedGroupConv2D, np.random.Generator], np.ndarray]] = {
    "interleaved": interleaved,
    "random": drawn,
}


def choose_inputs(layer: LearnedGroupConv2D, preferences: np.ndarray) -> None:
    """Leave each group the inputs in C that it prefers; a mask that never changes is an ordinary group convolution."""
    mask = drop_due(np.ones(layer.mask.shape), preferences, layer.final_stage, layer.plan)
    layer.set_mask(mask)
