"""Networks handed over to tf_keras (Keras 2) and back, for tensorflow-model-optimization, which takes nothing else.

tf_keras is imported when a function is called: `pip install "keras-condense[tfmot]"`.
"""

from typing import Any

import keras

from keras_condense.interop.building import built_in_keras, built_in_tf_keras, reasons
from keras_condense.interop.graphs import graph_of_keras, graph_of_tf_keras
from keras_condense.interop.quantizing import annotated, problems_of
from keras_condense.rewriting import check_rewritable
from keras_condense.validation import shown

__all__ = ["from_tf_keras", "quantize_annotate_model", "to_tf_keras"]


def _import_tf_keras() -> Any:
    try:
        import tf_keras
    except ImportError as error:
        raise ImportError('This needs tf_keras. Install it: `pip install "keras-condense[tfmot]"`.') from error
    return tf_keras


def to_tf_keras(model: keras.Model) -> Any:
    """A network as a model of tf_keras, which computes the same.

    Layers keep their names, weights, `trainable`, regularizers and constraints; initializers stay behind, and the new
    model is not compiled. Most layers become those of the same name. `GroupConv2D` becomes `Conv2D(groups=...)`;
    `ChannelIndex`, `ChannelShuffle` and `ChannelScatterAdd` become small layers of the same names; operations such as
    `x + y` become layers where one computes the same.

    What tensorflow-model-optimization's `quantize_model` refuses is avoided: nested models are opened, so that their
    layers stand in one graph (one whose name would stand there twice gets the nested model's name in front), and a
    sequential model becomes a functional one. A layer that is called several times stays shared. A `training` that was
    given in a call is not kept: Keras 3 does not heed it either, in `fit` and `predict`.

    Args:
        model: a functional or built sequential Keras 3 model, condensed: masked layers are refused. It is left as it
            is.

    Returns:
        A functional `tf_keras.Model`, with inputs and outputs nested as those of `model`.

    Raises:
        ValueError: layers that tf_keras can't express, all of them with the reasons, before anything is made.
        ImportError: tf_keras is not installed.

    Example:
        >>> import keras_condense as kc
        >>> layers = [kc.layers.ChannelIndex([2, 0], name="index"), keras.layers.Activation("hard_silu", name="act")]
        >>> model = keras.Sequential([keras.Input((4, 4, 3)), *layers])
        >>> twin = kc.interop.to_tf_keras(model)
        >>> type(twin).__module__.split(".")[0], [layer.name for layer in twin.layers[1:]]
        ('tf_keras', ['index', 'act'])
    """
    tf_keras = _import_tf_keras()
    if isinstance(model, tf_keras.Model):
        raise ValueError(
            f"`model` (={model.name!r}) must be a Keras 3 model, and is of tf_keras already. Use it as it is."
        )
    check_rewritable(model)
    return built_in_tf_keras(graph_of_keras(model))


def from_tf_keras(model: Any) -> keras.Model:
    """A model of tf_keras as one of Keras 3, which computes the same: the way back of `to_tf_keras`.

    What is kept and what is not is said there; grouped convolutions become `GroupConv2D`. Nothing is stripped: the
    wrappers of tensorflow-model-optimization are refused.

    Args:
        model: a functional or built sequential model of tf_keras; it is left as it is.

    Returns:
        A functional `keras.Model`, not compiled.

    Raises:
        ValueError: no such model; layers that Keras 3 can't express, all of them with the reasons; wrappers for pruning
            and clustering, which `strip_pruning` and `strip_clustering` take off; emulated quantization.
        ImportError: tf_keras is not installed.

    Example:
        >>> import keras_condense as kc
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="scores")])
        >>> back = kc.interop.from_tf_keras(kc.interop.to_tf_keras(model))
        >>> [layer.name for layer in back.layers[1:]], bool((back.get_weights()[0] == model.get_weights()[0]).all())
        (['scores'], True)
    """
    _check_tf_keras_graph(model)
    return built_in_keras(graph_of_tf_keras(model))


def quantize_annotate_model(model: Any) -> Any:
    """`tfmot.quantization.keras.quantize_annotate_model` for whole networks, such as a condensed CondenseNet.

    tensorflow-model-optimization's own function leaves layers to you that it has no quantizer for, and `quantize_apply`
    then refuses them. Here, batch norms that follow no convolution, products, scalings, other activations and the like
    have their outputs quantized to 8 bits (by moving averages of the ranges); where a ReLU is all that follows, it is
    the ReLU's. Layers that only move channels are left as they are. All other layers are quantized as usual.

    Args:
        model: a functional or sequential model of tf_keras, as `to_tf_keras` makes it.

    Returns:
        The annotated model. `tfmot.quantization.keras.quantize_apply`, called within
        `tfmot.quantization.keras.quantize_scope()`, makes of it one that emulates quantization.

    Raises:
        ValueError: no such model; layers with kernels that tensorflow-model-optimization can't quantize, models inside
            the model, all of them.
        ImportError: tensorflow-model-optimization is not installed.
    """
    _check_tf_keras_graph(model)
    try:
        from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
            default_8bit_quantize_registry,
        )
    except ImportError as error:
        raise ImportError(
            "This needs tensorflow-model-optimization, and TensorFlow with tf_keras. Install them: "
            '`pip install "keras-condense[tfmot]"`.'
        ) from error
    registry = default_8bit_quantize_registry.Default8BitQuantizeRegistry()
    problems = problems_of(model, registry)
    if problems:
        raise ValueError(
            f"`model` (={model.name!r}) must be of layers that tensorflow-model-optimization can quantize. "
            f"{reasons(problems)}. Open nested models with `to_tf_keras`, and replace the other layers."
        )
    return annotated(model, registry)


def _check_tf_keras_graph(model: Any) -> None:
    """Raise ValueError unless `model` is a functional or built sequential model of tf_keras."""
    tf_keras = _import_tf_keras()
    if not isinstance(model, tf_keras.Model):
        kind = type(model).__name__
        fix = "Use it as it is" if isinstance(model, keras.Model) else "Load one with `tf_keras.models.load_model`"
        raise ValueError(f"`model` (={shown(model)}, a {kind}) must be a model of tf_keras. {fix}.")
    own_call = type(model).call.__module__.split(".")[0] != "tf_keras"
    if own_call or not model.built or not hasattr(model, "_nodes_by_depth"):
        raise ValueError(
            f"`model` (={model.name!r}, a {type(model).__name__}) must be a functional or a built sequential model, "
            "whose graph can be read. Build it with `tf_keras.Model(inputs, outputs)`, or give a Sequential its Input."
        )
