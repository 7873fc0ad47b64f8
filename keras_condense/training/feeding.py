"""How a data set reaches `fit`: which model is fitted, and with what, for whole images and for small crops."""

import functools
import os
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from keras_condense.datasets import Dataset, ImageArrays
from keras_condense.datasets.drawing import as_they_are
from keras_condense.distillation import check_teacher, copied_teacher, with_teacher
from keras_condense.keras_graphs import functional_form, is_graph, run_through_graph
from keras_condense.layers import AugmentedImages
from keras_condense.rewriting import is_made_like_its_base
from keras_condense.saving import check_savable
from keras_condense.training.recipes import Recipe, compile_with
from keras_condense.training.several import Share, share_of_process, strategy_of

__all__ = ["balanced_weights", "check_data", "check_fit", "model_and_inputs", "settings_of", "teacher_of"]


def check_data(data: Any) -> None:
    """Raise ValueError unless `data` is a data set that `train` takes."""
    if not isinstance(data, (Dataset, ImageArrays)):
        raise ValueError(
            f"`data` (of type {type(data).__name__}) must be a Dataset or ImageArrays. Make it with "
            "`keras_condense.datasets.load` or `load_arrays`."
        )


def check_model(model: Any) -> None:
    """Raise ValueError unless `model` is a graph of one input and one output."""
    if not is_graph(model) or len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            f"`model` (={getattr(model, 'name', model)!r}) must be a functional or a built sequential model that maps "
            "images to classes. Build it with `keras.Model(inputs, outputs)`, or give a Sequential its `keras.Input`."
        )


def check_fit(model: keras.Model, data: Dataset | ImageArrays, recipe: Recipe) -> None:
    """Raise ValueError unless `model` classifies the images of `data`, and its small crops if the recipe has any."""
    check_savable(model)
    given = (*model.inputs[0].shape[1:], *model.outputs[0].shape[1:])
    expected = (*data.image_shape, len(data.class_names))
    if len(given) != len(expected) or any(size not in (None, need) for size, need in zip(given, expected, strict=True)):
        raise ValueError(
            f"`model` (={model.name!r}) must map images of {tuple(data.image_shape)} to {expected[-1]} classes, as "
            f"`data` (={data.name!r}) has them, and maps {tuple(model.inputs[0].shape[1:])} to "
            f"{tuple(model.outputs[0].shape[1:])}. "
            "Build it with the data set's `image_shape` and `len(class_names)`."
        )
    for _, crop_size in recipe.phases(data.image_shape[:2]):
        if crop_size is not None:
            for_crops(model, (*crop_size, data.image_shape[2]))


def teacher_of(model: keras.Model, teacher: Any, data: Dataset | ImageArrays, recipe: Recipe) -> keras.Model | None:
    """A copy of the teacher to train `model` with, or None for none; ValueError for one that does not fit."""
    if isinstance(teacher, str):
        raise ValueError(f"`teacher` (={teacher!r}) must be a trained Keras model. Leave it out to train without one.")
    check_teacher(teacher, model)
    if teacher is None:
        return None
    teacher = copied_teacher(teacher)
    for _, crop_size in recipe.phases(data.image_shape[:2]):
        if crop_size is not None:
            for_crops(teacher, (*crop_size, data.image_shape[2]))
    return teacher


def settings_of(data: Dataset | ImageArrays) -> dict[str, Any]:
    """What a run that goes on must have in common with its beginning: the same images, in the same batches."""
    augmentation = data.augmentation and data.augmentation.settings()
    return {
        "batches": "tf.data" if isinstance(data, Dataset) else "arrays",
        "dataset": os.path.basename(os.path.normpath(data.name)),  # a run may go on from another folder
        "batch_size": data.batch_size,
        "steps_per_epoch": data.steps_per_epoch,
        "image_shape": data.image_shape,
        "resize": data.resize,
        "classes": len(data.class_names),
        "class_names_checksum": f"{zlib.crc32(repr(data.class_names).encode()):08x}",
        "validation_size": data.validation_size,
        "images_checksum": data.checksum,
        "data_seed": data.seed,
        "augmentation": augmentation,
        "mean": data.mean,
        "std": data.std,
    }


def balanced_weights(data: Dataset | ImageArrays) -> np.ndarray:
    """How much the images of each class count, for all classes to count alike: n / (classes * n of the class).

    Returns:
        float32, (classes,); of a class without images, 0.
    """
    counts = np.bincount(data.labels, minlength=len(data.class_names))
    return (len(data.labels) / (len(counts) * np.maximum(counts, 1)) * (counts > 0)).astype("float32")


def for_crops(model: keras.Model, image_shape: tuple[int, int, int]) -> keras.Model:
    """Return a model of the same layers and weights for images of another size.

    Args:
        model: a functional or built sequential model of images.
        image_shape: (height, width, channels) of the new images.

    Raises:
        ValueError: a model without a graph, or one whose outputs change with the size of its images.

    Example:
        >>> import keras
        >>> layers = [keras.layers.Conv2D(4, 3), keras.layers.GlobalAveragePooling2D()]
        >>> model = keras.Sequential([keras.Input((8, 8, 1)), *layers])
        >>> small = for_crops(model, (6, 6, 1))
        >>> small.input_shape, small.output_shape, small.weights[0] is model.weights[0]
        ((None, 6, 6, 1), (None, 4), True)
    """
    wrong = (
        f"`model` (={model.name!r}) must take images of any size to be trained on small crops of "
        f"{image_shape[:2]}, and {{}}. End it in a global pooling, give nested models no fixed size, or choose "
        "a recipe with `small_crops=None`."
    )
    if not is_graph(model):
        raise ValueError(wrong.format("has no graph of layers"))
    graph = functional_form(model)
    images = keras.Input(image_shape)
    try:
        outputs = run_through_graph(
            graph, images, replace=lambda layer: layer, call=lambda layer, *args, **kwargs: layer(*args, **kwargs)
        )
    except (ValueError, TypeError) as error:
        raise ValueError(wrong.format(f"does not ({str(error).splitlines()[0]})")) from error
    if tuple(outputs.shape) != tuple(model.output_shape):
        raise ValueError(wrong.format(f"gives outputs of {tuple(outputs.shape)[1:]} for them"))
    kind = type(model) if not isinstance(model, keras.Sequential) else keras.Model
    if kind is not keras.Model and not is_made_like_its_base(kind):
        raise ValueError(wrong.format(f"is a {kind.__name__}, which can't be made of inputs and outputs"))
    return kind(images, outputs, name=model.name)


def model_and_inputs(
    model: keras.Model,
    data: Dataset | ImageArrays,
    recipe: Recipe,
    epochs: range,
    crop_size: tuple[int, int] | None,
    validate: bool,
    weights: np.ndarray | None = None,
    teacher: keras.Model | None = None,
    first_step: int = 0,
) -> tuple[keras.Model, dict[str, Any]]:
    """Return the model to fit, which shares weights and optimizer with `model`, and the arguments that feed it.

    Args:
        model: the network, compiled.
        data: the images.
        recipe: how they are cropped and mirrored.
        epochs: those to be trained.
        crop_size: (height, width) of small crops, or None for the images' own size. Small crops are validated on the
            centres of the images.
        validate: whether to show the images held out, or those of the test set, after every epoch.
        weights: how much the images of each class count in the loss, or None for all alike.
        teacher: of the network, to be frozen; it is shown the same crops. With one the model to fit is a Distiller.
        first_step: of the first epoch, whose batches before it are left out.
    """
    network, share = model, share_of_process(model)
    if crop_size is not None:
        network = for_crops(model, (*crop_size, data.image_shape[2]))
        compile_with(network, model.optimizer, recipe.label_smoothing)
        teacher = teacher and for_crops(teacher, (*crop_size, data.image_shape[2]))
    if isinstance(data, Dataset):
        batches = data.training(epochs.start, epochs.stop, crop_size, recipe.alternate_flips, first_step, share.part)
        if weights is not None:
            batches = _weighted(batches, weights)
        trained = with_teacher(network, teacher) if teacher else network
        return trained, {"x": batches, "validation_data": _validation(data, crop_size, share) if validate else None}
    pixels, held_out, labels = data.train_images, data.test_images, data.test_labels
    if data.validation_size:
        held_out, labels = data.validation_images, data.validation_labels
    if validate:  # one layer holds both, for `fit` validates the model that it trains
        pixels = np.concatenate([pixels, held_out])
    drawing = data.drawing(crop_size)
    draws = keras.Input((len(drawing.columns),), dtype="int32")
    images = AugmentedImages(pixels, data.mean, data.std, drawing.pad, crop_size)
    whole = keras.Model(draws, network(images(draws)))
    compile_with(whole, model.optimizer, recipe.label_smoothing)
    batches = functools.partial(_drawn_batches, data, recipe, epochs, crop_size, weights, first_step)
    inputs = {"x": batches() if strategy_of(model) is None else _as_stream(batches)}
    if validate:
        top, left = (drawing.pad + (side - crop) // 2 for side, crop in _sides(data.image_shape, crop_size))
        height, width = drawing.window
        indices = np.arange(data.train_size, data.train_size + len(labels))
        shown = as_they_are(indices, drawing.columns, row=top, column=left, height=height, width=width)
        inputs |= {
            "validation_data": share.of_all(shown, labels),
            "validation_batch_size": data.batch_size // share.processes,
        }
    return with_teacher(whole, keras.Model(draws, teacher(images(draws)))) if teacher else whole, inputs


def _drawn_batches(
    data: ImageArrays,
    recipe: Recipe,
    epochs: range,
    crop_size: tuple[int, int] | None,
    weights: np.ndarray | None,
    first_step: int,
) -> Iterator[tuple[np.ndarray, ...]]:
    share = share_of_process()
    for epoch in epochs:
        for batch in data.draws(epoch, crop_size, recipe.alternate_flips)[first_step:]:
            draws = share.of_batch(batch)
            labels = data.train_labels[draws[:, 0]]
            yield (draws, labels) if weights is None else (draws, labels, weights[labels])
        first_step = 0


def _as_stream(batches: Callable[[], Iterator[tuple[np.ndarray, ...]]]) -> Any:
    """The batches as tf.data, which can begin again: under a strategy `fit` takes one to build with, and begins."""
    import tensorflow as tf

    first = next(batches())
    signature = tuple(tf.TensorSpec((None, *part.shape[1:]), part.dtype) for part in first)
    return tf.data.Dataset.from_generator(batches, output_signature=signature)


def _weighted(batches: Any, weights: np.ndarray) -> Any:
    import tensorflow as tf

    return batches.map(lambda images, labels: (images, labels, tf.gather(weights, labels)))


def _validation(data: Dataset, crop_size: tuple[int, int] | None, share: Share) -> Any:
    """The batches held out, or those of the test set, of this process: their centres, for small crops."""
    held_out = data.held_out(share.part, share.replicas)
    if crop_size is None:
        return held_out
    (top, height), (left, width) = (((side - crop) // 2, crop) for side, crop in _sides(data.image_shape, crop_size))
    return held_out.map(lambda images, labels: (images[:, top : top + height, left : left + width], labels))


def _sides(image_shape: tuple[int, int, int], crop_size: tuple[int, int] | None) -> Iterator[tuple[int, int]]:
    """The images' sides and those of their crops: of the height, of the width."""
    return zip(image_shape[:2], crop_size or image_shape[:2], strict=True)
