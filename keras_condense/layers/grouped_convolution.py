"""A grouped 2-D convolution through the backend's own op.

`keras.ops.conv` wraps grouped convolutions on TensorFlow's CPU in a jit-compiled function of their own, which makes a
training step tens of times slower. TensorFlow's plain op takes grouped and dilated kernels and has their gradient where
oneDNN provides it (on the CPU in float32 and bfloat16); elsewhere each group is convolved by itself.

On JAX's CPU, too, each group is convolved by itself: XLA takes 60 times as long for four at once.
"""

import functools

import keras
from keras import ops

__all__ = ["grouped_convolution", "pays_to_compile"]


@functools.cache
def pays_to_compile() -> bool:
    """Whether Keras should compile the whole training step of a network of many grouped convolutions with XLA.

    On TensorFlow's CPU that takes minutes and makes the step slower; JAX compiles in any case.
    """
    if keras.backend.backend() != "tensorflow":
        return True
    import tensorflow as tf

    return any(device.device_type != "CPU" for device in tf.config.list_physical_devices())


@functools.cache
def _has_gradient(dtype: str, grouped: bool, dilated: bool) -> bool:
    """Whether TensorFlow can differentiate such a convolution on this machine, by trying a small one once."""
    import tensorflow as tf

    rate = 2 if dilated else 1
    settings = {"strides": [1, 1, 1, 1], "padding": "VALID", "dilations": [1, rate, rate, 1]}
    with tf.init_scope():  # outside a graph that is being traced; a tape records nothing in here
        images, kernel = tf.ones((1, 6, 6, 4), dtype), tf.ones((3, 3, 2 if grouped else 4, 4), dtype)
        try:
            outputs = tf.raw_ops.Conv2D(input=images, filter=kernel, **settings)
            tf.raw_ops.Conv2DBackpropInput(input_sizes=images.shape, filter=kernel, out_backprop=outputs, **settings)
            tf.raw_ops.Conv2DBackpropFilter(input=images, filter_sizes=kernel.shape, out_backprop=outputs, **settings)
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
            return False
    return True


@functools.cache
def _is_jax_on_cpu() -> bool:
    if keras.backend.backend() != "jax":
        return False
    import jax

    return jax.default_backend() == "cpu"


def _tensorflow_convolution(inputs, kernel, strides, padding, dilation_rate, groups):
    import tensorflow as tf

    inputs, kernel = tf.convert_to_tensor(inputs), tf.convert_to_tensor(kernel)
    if inputs.shape[-1] == 1 and strides[0] == 1 < strides[1]:
        # oneDNN answers some images of one channel with arbitrary memory: where only the stride along the width is
        # above 1, and what comes out is one pixel wide. Height and width change places, which it computes rightly.
        turned = [tf.transpose(inputs, (0, 2, 1, 3)), tf.transpose(kernel, (1, 0, 2, 3))]
        outputs = _tensorflow_convolution(*turned, strides[::-1], padding, dilation_rate[::-1], groups)
        return tf.transpose(outputs, (0, 2, 1, 3))
    settings = {"strides": strides, "padding": padding.upper(), "dilations": dilation_rate}
    grouped, dilated = groups > 1, max(dilation_rate) > 1
    if not (grouped or dilated) or _has_gradient(inputs.dtype.name, grouped, dilated):
        return tf.nn.conv2d(inputs, kernel, **settings)
    # unlike `tf.nn.conv2d`, `tf.nn.convolution` moves what a dilation skips into the batch
    parts = zip(tf.split(inputs, groups, axis=-1), tf.split(kernel, groups, axis=-1), strict=True)
    return tf.concat([tf.nn.convolution(part, part_kernel, **settings) for part, part_kernel in parts], axis=-1)


def grouped_convolution(inputs, kernel, strides=(1, 1), padding="valid", dilation_rate=(1, 1), groups=1):
    """Convolve each contiguous group of channels with its own filters.

    Args:
        inputs: (batch, height, width, channels).
        kernel: (kernel height, kernel width, channels / groups, filters), filters sorted by group.
        strides: two ints.
        padding: "valid" or "same".
        dilation_rate: two ints.
        groups: a divisor of channels and filters.

    Returns:
        (batch, new height, new width, filters), a backend tensor of the inputs' dtype.

    Example:
        >>> import numpy as np
        >>> images = np.array([1.0, 2.0, 3.0, 4.0], "float32").reshape(1, 1, 1, 4)
        >>> kernel = np.array([[1.0, 10.0], [1.0, 10.0]], "float32").reshape(1, 1, 2, 2)
        >>> from keras import ops
        >>> ops.convert_to_numpy(grouped_convolution(images, kernel, groups=2)).ravel()
        array([ 3., 70.], dtype=float32)
    """
    if keras.backend.backend() == "tensorflow":
        return _tensorflow_convolution(inputs, kernel, strides, padding, dilation_rate, groups)
    if groups > 1 and _is_jax_on_cpu():
        parts = zip(ops.split(inputs, groups, axis=-1), ops.split(kernel, groups, axis=-1), strict=True)
        alone = {"data_format": "channels_last", "dilation_rate": dilation_rate}
        return ops.concatenate([ops.conv(*part, strides, padding, **alone) for part in parts], axis=-1)
    return ops.conv(inputs, kernel, strides, padding, data_format="channels_last", dilation_rate=dilation_rate)
