"""The argument contract of `keras.applications`, in one place: every constructor of this package keeps it."""

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_condense.applications import downloads, torch_conversion
from keras_condense.applications.architectures import architecture
from keras_condense.applications.pretrained import CLASSES, PretrainedWeights, available, find_weights, weights_of
from keras_condense.applications.shared import SharedArguments
from keras_condense.applications.torch_files import TORCH_SUFFIXES, read_state_dict
from keras_condense.applications.weight_files import KERAS_SUFFIXES, check_whole, is_torch, load_weights
from keras_condense.memory_efficient import MemoryEfficientModel
from keras_condense.validation import check_choice, check_positive_integer

__all__ = ["Contract", "dtype_of_scores"]


def dtype_of_scores() -> str | None:
    """The dtype of the layer that makes class scores: float32 under a mixed policy, otherwise the policy's own (None).

    The three or four digits of bfloat16 and float16 are too few for a softmax and its loss.

    Example:
        >>> keras.config.set_dtype_policy("mixed_bfloat16")
        >>> dtype_of_scores()
        'float32'
        >>> keras.config.set_dtype_policy("float32")
        >>> dtype_of_scores()
    """
    policy = keras.config.dtype_policy()
    return policy.variable_dtype if policy.compute_dtype != policy.variable_dtype else None


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Contract(SharedArguments):
    """The arguments that all image classifiers share, checked, and what follows from them.

    Making one raises every error that the arguments deserve, before a layer is built. A constructor then calls
    `image()`, puts its layers on it, and ends with `model(image, features)`:

    >>> contract = Contract(default_size=32, min_size=2, include_top=False, pooling="avg", name="tiny")
    >>> image = contract.image()
    >>> features = keras.layers.Conv2D(8, 3)(image)
    >>> contract.model(image, features).output_shape
    (None, 8)

    Its attributes are the shared arguments, and:

    Attributes:
        default_size: height and width of the images when neither `input_shape` nor `input_tensor` is given.
        min_size: the smallest height and width that the network's poolings leave a pixel of.
        constructor: the general constructor's name, by which published weights are found; empty for a network that has
            none.
        arguments: those of its arguments that decide which weights fit.

    Raises:
        ValueError: an argument that is wrong by itself or beside another; the message names both.
    """

    default_size: int
    min_size: int
    constructor: str = ""
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the arguments."""
        if keras.config.image_data_format() != "channels_last":
            raise ValueError(
                f"`image_data_format` (={keras.config.image_data_format()!r}) must be 'channels_last', the only one "
                "that these networks support. Call keras.config.set_image_data_format('channels_last')."
            )
        check_choice("include_top", self.include_top, (True, False), "Pass it as a keyword.")
        check_choice("pooling", self.pooling, (None, "avg", "max"), "Leave it out for the feature map.")
        if self.name is not None and (not isinstance(self.name, str) or not self.name or "/" in self.name):
            raise ValueError(f"`name` (={self.name!r}) must be a string without '/'. Leave it out for the default.")
        check_choice("memory_efficient", self.memory_efficient, (True, False), "Use True to train in less memory.")
        self._check_weights()
        if self.include_top:
            self._check_classifier()
        self._check_input()

    @functools.cached_property
    def pretrained(self) -> PretrainedWeights | None:
        """The row of the published weights that are asked for, if any."""
        if not isinstance(self.weights, str) or self.weights not in CLASSES:
            return None
        return find_weights(self.constructor, self.weights, self._call)

    @property
    def size(self) -> int:
        """Height and width of the images when neither `input_shape` nor `input_tensor` is given."""
        return self.default_size if self.pretrained is None else self.pretrained.preprocessing.size

    @property
    def _call(self) -> dict[str, Any]:
        """What the constructor was called with, as far as weights depend on it."""
        shape = (self.default_size, self.default_size, 3)
        return {**self.arguments, "include_top": self.include_top, "input_shape": shape}

    @functools.cached_property
    def _state(self) -> dict[str, Any]:
        """What the file of PyTorch holds that `weights` names."""
        return read_state_dict(self.weights, "weights")

    def image(self) -> keras.KerasTensor:
        """Return the images (batch, height, width, channels) that the network begins with."""
        if self.input_tensor is not None:
            return self.input_tensor
        size = self.size if self.include_top else None
        return keras.Input(tuple(self.input_shape or (size, size, 3)))

    def model(
        self,
        image: keras.KerasTensor,
        features: keras.KerasTensor,
        classifier: Callable[..., keras.Layer] = keras.layers.Dense,
        head: Callable[[keras.KerasTensor], keras.KerasTensor] | None = None,
    ) -> keras.Model:
        """Return the model from the images to the class scores, the pooled features or the feature map.

        Args:
            image: what `image()` returned.
            features: the last feature map (batch, height, width, channels).
            classifier: called as `classifier(classes, activation=..., dtype=..., name="predictions")` on the pooled
                features.
            head: for a network that does not classify pooled features: what makes class scores of the feature map, in
                the place of global pooling and `classifier`.

        Returns:
            The model, with its weights loaded if `weights` names any.

        Raises:
            ValueError: the file that `weights` names is broken or another network's.
        """
        if self.include_top and head is not None:
            x = head(features)
        elif self.include_top:
            x = keras.layers.GlobalAveragePooling2D(name="avg_pool")(features)
            activation, dtype = self.classifier_activation, dtype_of_scores()
            x = classifier(self.classes, activation=activation, dtype=dtype, name="predictions")(x)
        elif self.pooling == "avg":
            x = keras.layers.GlobalAveragePooling2D(name="avg_pool")(features)
        elif self.pooling == "max":
            x = keras.layers.GlobalMaxPooling2D(name="max_pool")(features)
        else:
            x = features
        return self.model_of(image, x)

    def model_of(self, image: keras.KerasTensor, outputs: keras.KerasTensor) -> keras.Model:
        """Return the model from the images to `outputs`, for a network that comes with its own classifier and pooling.

        Args:
            image: what `image()` returned.
            outputs: the class scores, the pooled features or the feature map.

        Returns:
            The model, with its weights loaded if `weights` names any.

        Raises:
            ValueError: the file that `weights` names is broken or another network's.
        """
        if self.input_tensor is None:
            inputs = image
        else:  # the model begins where the caller's own layers begin
            inputs = keras.utils.get_source_inputs(image)
            inputs = inputs[0] if len(inputs) == 1 else inputs
        kind = MemoryEfficientModel if self.memory_efficient else keras.Model
        model = kind(inputs, outputs, name=self.name)
        if self.pretrained is not None or is_torch(self.weights):
            # these files know nothing of layers that the caller put before the network
            self._load_foreign(keras.Model(image, outputs))
        elif self.weights is not None:
            load_weights(model, os.fspath(self.weights))
        return model

    def _load_foreign(self, network: keras.Model) -> None:
        row = self.pretrained
        if row is not None and row.packaged:
            load_weights(network, downloads.packaged_file(row))
            return
        if row is not None and row.keras_files is not None:
            load_weights(network, downloads.keras_file(row.keras_files, self.include_top))
            return
        described = f"`weights` (={os.fspath(self.weights)!r})" if row is None else f"The file at {row.address}"
        _, arguments = architecture(self.constructor, self._call)

        def convert(state: Mapping[str, Any]) -> None:
            torch_conversion.convert(network, state, self.constructor, arguments, described)

        if row is None:
            convert(self._state)
        else:
            downloads.load(row, network, convert)

    def _check_weights(self) -> None:
        if self.weights is None:
            return
        datasets = weights_of(self.constructor, self._call) if self.constructor else ()
        if isinstance(self.weights, str) and self.weights in datasets:
            return
        if not isinstance(self.weights, (str, os.PathLike)) or not os.path.isfile(self.weights):
            raise ValueError(self._unknown_weights(datasets))
        path = os.fspath(self.weights)
        suffixes = KERAS_SUFFIXES + (TORCH_SUFFIXES if self.constructor in torch_conversion.FAMILIES else ())
        if not str(path).endswith(suffixes):
            raise ValueError(
                f"`weights` (={path!r}) must end in one of {', '.join(suffixes)}. "
                "Save them with model.save_weights('name.weights.h5') or model.save('name.keras')."
            )
        if is_torch(path):
            _ = self._state  # which raises for a broken file
        else:
            check_whole(path)

    def _unknown_weights(self, datasets: tuple[str, ...]) -> str:
        """What to say of `weights` that is neither a data set nor a file."""
        named = "".join(f"{dataset!r}, " for dataset in datasets)
        expected = f"None, {named.rstrip(', ')} or" if datasets else "None or"
        what = f"`weights` (={self.weights!r}) must be {expected} the path of an existing file"
        if not isinstance(self.weights, str) or self.weights not in CLASSES:
            return f"{what}. Check the path, or pass weights=None for random weights."
        if datasets:
            return f"{what}. This network has {named.rstrip(', ')}; train it for other data with weights=None."
        others = available(self.constructor) if self.constructor else "Pass weights=None and train it."
        return f"{what}, because no trained weights of this network are published. {others}"

    def _check_classifier(self) -> None:
        classes = check_positive_integer("classes", self.classes, "Give the number of classes of your data.")
        object.__setattr__(self, "classes", classes)  # NumPy's integers are none to some layers
        if self.pretrained is not None and self.classes != self.pretrained.classes:
            raise ValueError(
                f"`classes` (={self.classes}) must be {self.pretrained.classes} with weights={self.weights!r} and "
                "include_top=True. "
                "Pass include_top=False, pooling='avg' and put your own classifier on the features."
            )
        try:
            activation = keras.activations.get(self.classifier_activation)
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"`classifier_activation` (={self.classifier_activation!r}) must be None, a callable or a name that "
                "keras.activations knows. Pass 'softmax', or None for logits."
            ) from error
        if self.weights is not None and activation not in (keras.activations.softmax, keras.activations.linear):
            raise ValueError(
                f"`classifier_activation` (={self.classifier_activation!r}) must be None or 'softmax' with pretrained "
                "weights. Pass one of them, or include_top=False and your own classifier."
            )

    def _check_input(self) -> None:
        if self.input_shape is not None:
            object.__setattr__(self, "input_shape", _image_shape(self.input_shape))
        shape, described = self.input_shape, f"`input_shape` (={self.input_shape})"
        if self.input_tensor is not None:
            _check_tensor(self.input_tensor, shape)
            shape = tuple(self.input_tensor.shape[1:])
            described = f"`input_tensor` (of shape {tuple(self.input_tensor.shape)})"
        elif shape is not None and self.include_top:
            default = (self.size, self.size, 3)
            if None in shape:
                raise ValueError(
                    f"{described} must be free of None with include_top=True. Give height and width, for instance "
                    f"{default}, or pass include_top=False."
                )
            if self.pretrained is not None and shape != default:
                raise ValueError(
                    f"{described} must be {default} with weights={self.weights!r} and include_top=True. Resize the "
                    "images, or pass include_top=False."
                )
        if shape is None:
            return
        if self.pretrained is not None and shape[2] != 3:
            raise ValueError(
                f"{described} must have 3 channels with weights={self.weights!r}. Give RGB images, or pass "
                "weights=None."
            )
        if any(size is not None and size < self.min_size for size in shape[:2]):
            raise ValueError(
                f"{described} must be at least {self.min_size}x{self.min_size}, because the network's strides and "
                "poolings shrink a smaller image to nothing. Enlarge the images, or build the network of fewer blocks."
            )


def _image_shape(shape: Any) -> tuple[int | None, int | None, int]:
    try:
        sizes = tuple(shape)
        height, width, channels = sizes
        sizes = tuple(None if size is None else check_positive_integer("size", size, "") for size in (height, width))
        return (*sizes, check_positive_integer("channels", channels, ""))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`input_shape` (={shape!r}) must be a tuple of three positive integers (height, width, channels); height "
            "and width may be None without the classifier. Give for instance (224, 224, 3), without the batch."
        ) from error


def _check_tensor(tensor: Any, input_shape: tuple | None) -> None:
    if not isinstance(tensor, keras.KerasTensor):
        raise ValueError(
            f"`input_tensor` (of type {type(tensor).__name__}) must be a Keras tensor. Pass the output of keras.Input "
            "or of a layer called on one; arrays and backend tensors go to the model that is returned."
        )
    shape = tuple(tensor.shape)
    if len(shape) != 4 or shape[3] is None:
        raise ValueError(
            f"`input_tensor` (of shape {shape}) must have the shape (batch, height, width, channels) with a known "
            "number of channels. Make it with keras.Input((height, width, channels))."
        )
    if "float" not in tensor.dtype:
        raise ValueError(
            f"`input_tensor` (of dtype {tensor.dtype!r}) must be of a floating-point dtype. Put "
            "keras.layers.Rescaling(1 / 255) before it, or make it with keras.Input(..., dtype='float32')."
        )
    if input_shape is not None and any(
        a is not None and b is not None and a != b for a, b in zip(shape[1:], input_shape, strict=True)
    ):
        raise ValueError(
            f"`input_shape` (={input_shape}) must agree with `input_tensor` (of shape {shape}). Leave it out."
        )
