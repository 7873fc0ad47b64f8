"""Training as one function that can be killed at any moment and goes on where it was."""

import contextlib
import dataclasses
import os
import re
import warnings
import zlib
from collections.abc import Iterator, Sequence

import keras
import numpy as np

from keras_condense.callbacks import BestCondensed, CondenseSchedule, QuantizeSchedule
from keras_condense.cards import CARD, Card
from keras_condense.datasets import Dataset, ImageArrays
from keras_condense.datasets.examples import checksum
from keras_condense.datasets.request import check_seed
from keras_condense.files import locked, write_text
from keras_condense.layers import condensable_layers, frozen_layers
from keras_condense.quantizing import fake_quantizers, round_biases
from keras_condense.saving import save_model
from keras_condense.training.batch_norms import batch_norm_statistics, check_batch_norms
from keras_condense.training.feeding import (
    balanced_weights,
    check_data,
    check_fit,
    check_model,
    model_and_inputs,
    settings_of,
    teacher_of,
)
from keras_condense.training.placement import on_devices, values_given_back
from keras_condense.training.recipes import Recipe, compile_for, recipe_of
from keras_condense.training.run_folder import (
    CHECKPOINT,
    LOG,
    MODEL,
    Checkpoint,
    check_settings,
    load_checkpoint,
    make_folder,
    prepare,
    read_log,
)
from keras_condense.training.several import (
    alone,
    check_distribution,
    own_batches,
    scope_of,
    share_of_process,
)
from keras_condense.training.within_epoch import Progress, ReseedDropout, RestoreState
from keras_condense.validation import check_choice, check_positive_integer, shown

__all__ = ["train"]


def train(
    model: keras.Model,
    data: Dataset | ImageArrays,
    folder: str | os.PathLike,
    *,
    recipe: str | Recipe = "paper",
    epochs: int | None = None,
    learning_rate: float | None = None,
    momentum: float | None = None,
    weight_decay: float | None = None,
    seed: int = 0,
    resume: bool = False,
    settings: dict | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    validate: bool = True,
    class_weights: bool = False,
    verbose: str | int = "auto",
    teacher: keras.Model | None = None,
    save_freq: str | int = "epoch",
    distribution: str | keras.distribution.DataParallel | None = None,
    scale_learning_rate: bool = False,
    batch_norms: str | None = None,
) -> keras.Model:
    """Train a classifier by a recipe while it condenses itself, in a folder that can be resumed.

    After every epoch the folder holds `checkpoint.keras` (weights, masks, optimizer) and `log.csv` (loss, accuracy,
    stage, share of connections, seconds), each replaced atomically; at the end `model.keras`. `card.json`, which the
    model's file holds too, says what the network takes and gives (`keras_condense.load_card`). A run that is killed,
    at whatever moment, and called again with `resume=True` repeats the epoch it was in on the same batches and with
    the same dropout, so it ends with the same masks and weights as an unbroken run: to the last bit on one CPU; a GPU
    needs `tf.config.experimental.enable_op_determinism()` for that.

    With `ImageArrays` the images lie on the device, one byte per value, and are cropped, mirrored and normalised within
    the compiled step, on TensorFlow, JAX and PyTorch; the step is compiled once. A run may go on with another backend
    and on another machine: the batches are the same, and the files hold the network and no images.

    On several devices (JAX: `distribution="auto"`) and in several processes (`process_group`) all share each batch, and
    masks and weights are those of one device but for the order of sums in float32. The first process writes the folder,
    which all must see. The devices of a `tf.distribute.MirroredStrategy` in whose scope the model is built share each
    batch too; they drop out other units than one device, and need `batch_norms="synchronized"` to compute as one does.

    Args:
        model: a functional or sequential classifier with a softmax, one output per class of `data`; compiled here. A
            resumed run loads the checkpoint's weights into it.
        data: made by `keras_condense.datasets.load` (which needs TensorFlow, whatever the backend) or `load_arrays`.
        folder: made if it does not exist.
        recipe: a name in `RECIPES` ("paper", "imagenet", "short") or a `Recipe`.
        epochs: of the whole training; None for the recipe's own, as for the three that follow.
        learning_rate: at the first step.
        momentum: of the gradient.
        weight_decay: weight of the L2 term.
        seed: of the dropout. Those of the first weights and of the data are `keras.utils.set_random_seed`'s and
            the data set's.
        resume: go on with the run in `folder`; where there is none, begin one. With more `epochs` than it was begun
            with, learning rate and drops follow the longer plan from there on.
        settings: what else a resumed run must have in common with the first, for instance the network's options;
            JSON values.
        callbacks: more Keras callbacks; what they remember is in no checkpoint, so a resumed run begins them anew. With
            `ImageArrays`, what they know as their `model` is a model of two layers: `AugmentedImages` and the network.
            They run in each of several processes: give trackers, and what writes files, to the first alone.
        validate: measure loss and accuracy after every epoch, on the images held out, or on the test set where none
            are. False looks at neither.
        class_weights: whether rare classes count more in the loss, for all classes to count alike.
        verbose: as in `keras.Model.fit`.
        teacher: a trained classifier of the same images and classes, whose outputs the model learns from as well, by
            `keras_condense.distill` with its defaults. It is shown the same crops, and copied; no file holds it. A
            resumed run needs the same one. The log's `loss` is then that of both.
        save_freq: "epoch", or an integer: write a checkpoint after every so many batches of an epoch, too, for epochs
            that last hours. A run that is resumed goes on there; its results are the same.
        distribution: the devices that share each batch. None for those of `keras.distribution` (JAX) or of the strategy
            the model was built under (TensorFlow). On JAX, "auto" for all devices of all processes, or a
            `keras.distribution.DataParallel`; the model may have been built before, and is where it was after.
        scale_learning_rate: whether the learning rate is for batches of the recipe's `batch_size`, and is to grow in
            proportion to those of `data`.
        batch_norms: whose images their statistics are of, where several devices share each batch: "synchronized" for
            the whole batch, as on one device; "local" for each device's own, for which no device waits, and which
            train another network than one device does. None for what the backend does: the whole batch's on JAX, and
            as each layer says under a strategy of TensorFlow.

    Returns:
        The trained model, every layer in its last stage.

    Raises:
        ValueError: an argument out of range; devices that don't divide the batch, or a strategy with which `fit` fails;
            a model that does not fit `data`, or a teacher that does not fit the model; a folder that holds a run and no
            `resume`, a run of other settings or other data, or one that another process is training; processes of one
            training with other settings; a folder that takes no files; a broken checkpoint; a loss that is not finite,
            in which case the last checkpoint stays as it is.
        OSError: writing failed, for instance on a full disk; the last checkpoint is still there.

    Example:
        `applications/digits/` is a whole program around this function.
    """
    recipe = recipe_of(recipe, epochs=epochs, learning_rate=learning_rate, momentum=momentum, weight_decay=weight_decay)
    check_choice("class_weights", class_weights, (True, False), "Use True where classes have few and many images.")
    check_choice("validate", validate, (True, False), "Use False to leave the test set alone.")
    if save_freq != "epoch":
        save_freq = check_positive_integer("save_freq", save_freq, "Use 'epoch', or how many batches to train between.")
    check_choice("scale_learning_rate", scale_learning_rate, (True, False), "Use True for large batches.")
    check_data(data)
    check_model(model)
    if settings is not None and not isinstance(settings, dict):
        raise ValueError(f"`settings` (={shown(settings)}) must be a dict. Use `settings={{'name': value}}`.")
    settings = (settings or {}) | {"scale_learning_rate": scale_learning_rate, "batch_norms": batch_norms}
    seed = check_seed("seed", seed)
    with on_devices(model, distribution):
        return _train(
            model, data, folder, recipe, seed, resume, settings, callbacks, validate, class_weights, verbose, teacher,
            save_freq,
        )  # fmt: skip


def _train(
    model: keras.Model,
    data: Dataset | ImageArrays,
    folder: str | os.PathLike,
    recipe: Recipe,
    seed: int,
    resume: bool,
    settings: dict,
    callbacks: Sequence[keras.callbacks.Callback],
    validate: bool,
    class_weights: bool,
    verbose: str | int,
    teacher: keras.Model | None,
    save_freq: str | int,
) -> keras.Model:
    """`train` on the devices that share each batch."""
    check_distribution(model, data)
    check_batch_norms(model, settings["batch_norms"])
    check_fit(model, data, recipe)
    teacher = teacher_of(model, teacher, data, recipe)
    added = [callbacks] if isinstance(callbacks, keras.callbacks.Callback) else callbacks
    if not isinstance(added, Sequence) or not all(isinstance(one, keras.callbacks.Callback) for one in added):
        raise ValueError(f"`callbacks` (={shown(callbacks)}) must be a list of Keras callbacks. Use `callbacks=[...]`.")
    for callback in added:
        if isinstance(callback, BestCondensed):
            callback.network = model  # and not the images around it
    with scope_of(model):
        scaled = recipe.for_batches_of(data.batch_size) if settings["scale_learning_rate"] else recipe
        compile_for(scaled, model, recipe.epochs * data.steps_per_epoch)
    settings = settings | {
        "network": re.sub(r"^(sequential|functional)_\d+$", r"\1", model.name),  # Keras counts what has no name
        "parameters": model.count_params(),
        "weights_checksum": _shapes_checksum(model),
        "optimizer": type(model.optimizer).__name__,
        **dataclasses.asdict(recipe),
        "seed": seed,
        "class_weights": class_weights,
        **settings_of(data),
    }
    if teacher is not None:
        settings["teacher_checksum"] = _weights_checksum(teacher)
    check_settings(settings)
    card, share = Card.of(data), share_of_process()
    share.check_same(settings)
    folder = make_folder(folder, data.location)
    with contextlib.ExitStack() as held:

        def begin() -> None:
            held.enter_context(locked(folder))
            prepare(folder, settings, resume)
            write_text(folder / CARD, card.to_json())

        share.of_first(begin)
        progress, rows = Progress(), []
        if (folder / CHECKPOINT).exists():
            progress = load_checkpoint(model, folder / CHECKPOINT)
            rows = read_log(folder / LOG)[: progress.epochs]
        condensing, last_word = [], []
        if condensable_layers(model):
            schedule = _ScheduleEndedLast(recipe.epochs, data.steps_per_epoch, last_drop=recipe.last_drop)
            schedule.first_step = progress.steps
            condensing, last_word = [schedule], [schedule.end]
        if fake_quantizers(model):
            condensing.append(_FreezingAlone(epochs=recipe.epochs))
        checkpoint = Checkpoint(model, folder, rows, data.steps_per_epoch, save_freq)
        checkpoint.go_on(progress)
        writing = [checkpoint] if share.is_first else []
        callbacks = [ReseedDropout(seed), RestoreState(progress.state), *condensing, *added, *last_word, *writing]
        weights = balanced_weights(data) if class_weights else None
        for left, crop_size, first_step in _parts(recipe, data.image_shape[:2], progress):
            if model.stop_training:
                break
            with scope_of(model):
                trained, inputs = model_and_inputs(
                    model, data, recipe, left, crop_size, validate, weights, teacher, first_step
                )
            with own_batches(), batch_norm_statistics(model, settings["batch_norms"]), values_given_back(trained):
                trained.fit(
                    **inputs,
                    initial_epoch=left.start,
                    epochs=left.stop,
                    steps_per_epoch=data.steps_per_epoch - first_step,
                    callbacks=callbacks,
                    shuffle=False,  # `data` is
                    verbose=verbose,
                )
            model.stop_training = trained.stop_training
        frozen = frozen_layers(model)  # which are not trained, and so not pruned
        learned = [layer for layer in condensable_layers(model) if layer not in frozen]
        if any([layer.condense_to(layer.final_stage) for layer in learned]):
            warnings.warn(  # the run was killed after its last epoch, or a callback put earlier weights back
                "The last condensing stages were made up for at once, without training in between: accuracy may have "
                "dropped. Train longer.",
                stacklevel=3,
            )
        if fake_quantizers(model):
            round_biases(model)

        def end() -> None:
            with alone():
                save_model(model, folder / MODEL, card)

        share.of_first(end)
    return model


def _parts(
    recipe: Recipe, image_size: tuple[int, int], progress: Progress
) -> Iterator[tuple[range, tuple[int, int] | None, int]]:
    """What is left of a training, a `fit` each: epochs, the size of small crops, and the first one's first step."""
    for phase, crop_size in recipe.phases(image_size):
        left = range(max(phase.start, progress.epochs), phase.stop)
        if progress.steps and left and left.start == progress.epochs:  # what is left of one epoch is a `fit` of its own
            yield left[:1], crop_size, progress.steps
            left = left[1:]
        if left:
            yield left, crop_size, 0


def _shapes_checksum(model: keras.Model) -> str:
    """What two networks of one name and size differ in, where they differ in their layers."""
    shapes = [(tuple(weight.shape), weight.dtype) for weight in model.weights]
    return f"{zlib.crc32(repr(shapes).encode()):08x}"


def _weights_checksum(model: keras.Model) -> str:
    """What two networks of one shape differ in; the states of random generators are none of it."""
    values = (keras.ops.convert_to_numpy(weight) for weight in model.weights)
    return checksum(*(np.ascontiguousarray(value) for value in values if value.dtype.kind == "f"))


class _ScheduleEndedLast(CondenseSchedule):
    """Stands before the user's callbacks, which may read its logs, and ends after them, which may restore weights.

    Attributes:
        first_step: of the first epoch, of which a resumed run may have trained a part.
    """

    first_step = 0

    def on_train_batch_begin(self, batch, logs=None):
        super().on_train_batch_begin(batch + self.first_step, logs)

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        self.first_step = 0

    def _epochs_before(self, epoch):
        return 0 if self.first_step else super()._epochs_before(epoch)  # within an epoch, it is known

    @property
    def end(self) -> keras.callbacks.Callback:
        """The callback that ends it."""
        return keras.callbacks.LambdaCallback(on_train_end=super().on_train_end)

    def on_train_end(self, logs=None):
        pass


class _FreezingAlone(QuantizeSchedule):
    """Leaves biases as they are: they are rounded once, after the last phase and after what restores weights."""

    def on_train_end(self, logs=None):
        pass
