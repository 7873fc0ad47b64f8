"""Training recipes by name: a row each, and how a model is compiled for one."""

import dataclasses
from typing import Any

import keras

from keras_condense.callbacks import check_last_drop
from keras_condense.losses import SmoothedCrossentropy
from keras_condense.optimizers import SGDWithL2
from keras_condense.validation import (
    check_choice,
    check_fraction,
    check_not_negative,
    check_positive_integer,
)

__all__ = ["RECIPES", "Recipe", "compile_model", "recipe_of"]

DECAYS = ("cosine", "linear")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained; the defaults are the paper's (arXiv 1711.09224, section 4.1).

    Attributes:
        epochs: of the whole training.
        learning_rate: at the first step, for batches of `batch_size`.
        batch_size: images in a batch, on all devices together, that the learning rate is chosen for. What is trained
            on is the data set's; `train(scale_learning_rate=True)` makes up for a difference.
        decay: how the learning rate falls to zero, step by step: "cosine" (half a cosine) or "linear".
        momentum: Nesterov's.
        weight_decay: weight of the L2 term in the gradient.
        label_smoothing: the share of every target that is spread evenly over all classes, in [0, 1).
        last_drop: the progress, in (0, 1), at which the last connections are dropped; the drops before it move in
            proportion. None drops when the network's layers say: at 1/6, 1/3 and 1/2 for a condense factor of 4.
        small_crops: (crop, share): the first share of the epochs sees crops of this many pixels a side, for a square
            image of any size a fraction of it: (0.75, 1 / 3) trains on 24x24 of 32x32 for a third of the epochs.
            None for none.
        alternate_flips: mirror each image in every second epoch, in place of drawing lots.

    Raises:
        ValueError: an attribute out of its range.

    Example:
        >>> Recipe(epochs=60, decay="linear").weight_decay
        0.0001
        >>> Recipe(decay="steps")
        Traceback (most recent call last):
        ...
        ValueError: `decay` (='steps') must be one of 'cosine', 'linear'. ...
    """

    epochs: int = 300
    learning_rate: float = 0.1
    batch_size: int = 64
    decay: str = "cosine"
    momentum: float = 0.9
    weight_decay: float = 1e-4
    label_smoothing: float = 0.0
    last_drop: float | None = None
    small_crops: tuple[float, float] | None = None
    alternate_flips: bool = False

    def __post_init__(self) -> None:
        """Check the attributes."""
        fix_epochs = "The paper trains 300 on CIFAR and 120 on ImageNet."
        checked = {
            "epochs": check_positive_integer("epochs", self.epochs, fix_epochs),
            "learning_rate": check_not_negative("learning_rate", self.learning_rate, "Use 0.1.", above_zero=True),
            "batch_size": check_positive_integer("batch_size", self.batch_size, "The paper's is 64."),
            "decay": check_choice("decay", self.decay, DECAYS, "The paper's is 'cosine'."),
            "momentum": check_fraction("momentum", self.momentum, "Use 0.9.", below_one=True),
            "weight_decay": check_not_negative("weight_decay", self.weight_decay, "Use 1e-4, or 0 for none."),
            "label_smoothing": check_fraction(
                "label_smoothing", self.label_smoothing, "Use 0.1, or 0 for none.", below_one=True
            ),
            "last_drop": None if self.last_drop is None else check_last_drop(self.last_drop),
            "small_crops": None if self.small_crops is None else _check_small_crops(self.small_crops),
            "alternate_flips": check_choice(
                "alternate_flips", self.alternate_flips, (True, False), "The paper's is False."
            ),
        }
        for name, value in checked.items():  # as Python's own numbers, which can be written to a file
            object.__setattr__(self, name, value)

    def for_batches_of(self, batch_size: int) -> "Recipe":
        """The recipe with its learning rate in proportion to another batch size (arXiv 1706.02677).

        Example:
            >>> Recipe(learning_rate=0.1, batch_size=256).for_batches_of(1024).learning_rate
            0.4
        """
        rate = self.learning_rate * batch_size / self.batch_size
        return dataclasses.replace(self, learning_rate=rate, batch_size=batch_size)

    @property
    def small_epochs(self) -> int:
        """How many of the epochs, the first ones, see small crops."""
        return round(self.epochs * self.small_crops[1]) if self.small_crops else 0

    def phases(self, image_size: tuple[int, int]) -> list[tuple[range, tuple[int, int] | None]]:
        """The training in its parts: epochs, and (height, width) of small crops or None for the images' own size.

        Args:
            image_size: (height, width) of the images.

        Example:
            >>> Recipe(epochs=60, small_crops=(0.75, 1 / 3)).phases((32, 32))
            [(range(0, 20), (24, 24)), (range(20, 60), None)]
            >>> Recipe(epochs=60).phases((32, 32))
            [(range(0, 60), None)]
        """
        whole = (range(self.small_epochs, self.epochs), None)
        if not self.small_epochs:
            return [whole]
        crop_size = tuple(max(round(side * self.small_crops[0]), 1) for side in image_size)
        return [(range(self.small_epochs), crop_size), whole]


def _check_small_crops(small_crops: Any) -> tuple[float, float]:
    try:
        crop, share = small_crops
    except (TypeError, ValueError):
        raise ValueError(
            f"`small_crops` (={small_crops!r}) must be None or (crop, share), two numbers in (0, 1). "
            "Use (0.75, 1 / 3) for crops of 24x24 out of 32x32 in the first third of the epochs."
        ) from None
    fix = "Use (0.75, 1 / 3), or None."
    return tuple(
        check_fraction(f"small_crops[{place}]", value, fix, below_one=True) for place, value in enumerate((crop, share))
    )


# "imagenet" is the paper's of section 4.2. "short" is what trials of a few epochs on a validation split chose
# (results/short_recipe.csv). Its weight decay is the paper's times what the training is shorter: the decay that a
# weight sees from the first step to the last is the same.
RECIPES = {
    "paper": Recipe(),
    "imagenet": Recipe(epochs=120, batch_size=256),
    "short": Recipe(epochs=60, decay="linear", weight_decay=5e-4, alternate_flips=True),
}


def recipe_of(recipe: str | Recipe, **changes: Any) -> Recipe:
    """Return the recipe that a name stands for, or a recipe itself, with those `changes` that are not None.

    Args:
        recipe: a name in `RECIPES`, or a `Recipe`.
        **changes: attributes of `Recipe`.

    Raises:
        ValueError: no such recipe, or a change out of its range.

    Example:
        >>> recipe_of("paper", epochs=120, learning_rate=None).epochs
        120
        >>> recipe_of("quick")
        Traceback (most recent call last):
        ...
        ValueError: `recipe` (='quick') must be 'paper', 'imagenet', 'short' or a Recipe. ...
    """
    if not isinstance(recipe, Recipe):
        if not isinstance(recipe, str) or recipe not in RECIPES:
            names = ", ".join(map(repr, RECIPES))
            raise ValueError(
                f"`recipe` (={recipe!r}) must be {names} or a Recipe. "
                "The paper's takes 300 epochs; pass `epochs` for another length."
            )
        recipe = RECIPES[recipe]
    return dataclasses.replace(recipe, **{name: value for name, value in changes.items() if value is not None})


def compile_model(
    model: keras.Model,
    steps: int,
    learning_rate: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    decay: str = "cosine",
    label_smoothing: float = 0.0,
) -> None:
    """Compile a classifier with the paper's recipe (section 4.1), or a variation of it.

    SGD with Nesterov momentum, L2 on every weight's gradient, and a learning rate that falls to zero step by step,
    along half a cosine.

    Args:
        model: a classifier whose last activation is a softmax.
        steps: batches of the whole training.
        learning_rate: at the first step; the paper's 0.1 is for batches of 64 (CIFAR) or 256 (ImageNet).
        momentum: of the gradient.
        weight_decay: weight of the L2 term.
        decay: "cosine" or "linear": how the learning rate falls.
        label_smoothing: the share of every target that is spread over all classes.

    Raises:
        ValueError: `steps` no positive integer, `learning_rate` not above 0, `momentum` or `label_smoothing` not in
            [0, 1), `weight_decay` negative, or an unknown `decay`; infinity and NaN.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation="softmax")])
        >>> compile_model(model, steps=100)
        >>> round(float(model.optimizer.learning_rate), 3)
        0.1
    """
    check_positive_integer("steps", steps, "Give epochs * steps per epoch.")
    recipe = Recipe(
        learning_rate=learning_rate,
        momentum=momentum,
        weight_decay=weight_decay,
        decay=decay,
        label_smoothing=label_smoothing,
    )
    compile_for(recipe, model, steps)


def compile_for(recipe: Recipe, model: keras.Model, steps: int) -> None:
    """Compile `model` for `steps` batches of a recipe."""
    if recipe.decay == "cosine":
        schedule = keras.optimizers.schedules.CosineDecay(recipe.learning_rate, steps)
    else:
        schedule = keras.optimizers.schedules.PolynomialDecay(recipe.learning_rate, steps, end_learning_rate=0.0)
    optimizer = SGDWithL2(schedule, momentum=recipe.momentum, nesterov=True, l2=recipe.weight_decay)
    compile_with(model, optimizer, recipe.label_smoothing)
    # variables that are made inside the first step, "accuracy" by its name too, have TensorFlow trace it twice
    model.optimizer.build(model.trainable_variables)


def compile_with(model: keras.Model, optimizer: keras.optimizers.Optimizer, label_smoothing: float = 0.0) -> None:
    """Compile `model` to classify, with an optimizer that may be another model's too."""
    model.compile(
        optimizer,
        loss=SmoothedCrossentropy(label_smoothing) if label_smoothing else "sparse_categorical_crossentropy",
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        jit_compile=None,  # decided by the machine that trains; of "auto", a file keeps what it came to on the first
    )
