"""Batch normalization with the backend's fused kernel where there is a fast one."""

import functools
import os
import pathlib
import platform

import keras

__all__ = ["BatchNormalization"]

ONEDNN_VECTOR = 16  # float32 values of an AVX-512 register


@functools.cache
def _processor_has_avx512() -> bool:
    try:
        return "avx512bw" in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return False


@functools.cache
def _runs_on_onednn() -> bool:
    """Whether TensorFlow computes on an x86-64 processor, with oneDNN's kernels."""
    import tensorflow as tf

    return (
        all(device.device_type == "CPU" for device in tf.config.list_physical_devices())
        and platform.machine().lower() in ("x86_64", "amd64")
        and platform.system() == "Linux"
        and os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1").lower() not in ("0", "false")
    )


def _is_fused_op_fast(channels: int) -> bool:
    """Whether to train with TensorFlow's fused op.

    oneDNN's forward kernel took 3 to 10 times as long as the few ops of `_normalize` for channels that don't fill
    AVX-512 registers, and for all channels without AVX-512. Its backward kernel is as fast for all.
    """
    return not _runs_on_onednn() or (_processor_has_avx512() and channels % ONEDNN_VECTOR == 0)


def _fused(images, scale, offset, epsilon):
    """Normalized images, and the mean and variance of each channel, by TensorFlow's fused op."""
    import tensorflow as tf

    outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(images, scale, offset, epsilon=epsilon)
    # the op returns the sample variance (n - 1 below); Keras keeps the population's
    count = tf.cast(tf.size(images) // images.shape[-1], variance.dtype)
    return outputs, mean, variance * (count - 1) / count


def _composed(images, scale, offset, epsilon):
    """The same by oneDNN's fastest ops: matrix products for the sums, a 1x1 depthwise convolution for scale and offset.

    Grappler merges the latter with a ReLU that follows. The gradient is the fused op's.
    """
    import tensorflow as tf

    channels = images.shape[-1]
    pixels = tf.reshape(images, (-1, channels))
    count = tf.shape(pixels)[0]
    ones = tf.ones((1, count))

    def average(values):
        return tf.reshape(tf.matmul(ones, values), (channels,)) / tf.cast(count, "float32")

    mean = average(pixels)
    variance = average(tf.square(tf.nn.bias_add(pixels, -mean)))

    @tf.custom_gradient
    def normalize(images, scale, offset, mean, variance):
        factor = scale * tf.math.rsqrt(variance + epsilon)
        kernel = tf.reshape(factor, (1, 1, channels, 1))
        outputs = tf.nn.depthwise_conv2d(images, kernel, strides=(1, 1, 1, 1), padding="SAME")

        def gradient(gradient_of_outputs):
            of_images, of_scale, of_offset, *_ = tf.raw_ops.FusedBatchNormGradV3(
                y_backprop=gradient_of_outputs,
                x=images,
                scale=scale,
                reserve_space_1=mean,  # on the CPU the op keeps these two for its gradient
                reserve_space_2=variance,
                reserve_space_3=tf.zeros(0),
                epsilon=epsilon,
            )
            return of_images, of_scale, of_offset, None, None

        return tf.nn.bias_add(outputs, offset - mean * factor), gradient

    return normalize(images, scale, offset, mean, variance), mean, variance


@keras.saving.register_keras_serializable("keras_condense")
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization`, trained with TensorFlow's fused op on that backend.

    Arguments, weights and results are those of the Keras layer. The fused op reads and writes the activations half as
    often, which shortens a training step of a CondenseNet on the CPU; where its forward kernel is slow, other ops of
    the same result take its place.

    Example:
        >>> import numpy as np
        >>> layer = BatchNormalization(momentum=0.9, epsilon=1e-5)
        >>> images = np.random.default_rng(0).normal(3.0, 2.0, (8, 4, 4, 2)).astype("float32")
        >>> outputs = keras.ops.convert_to_numpy(layer(images, training=True))
        >>> bool(abs(outputs.mean()) < 1e-5), bool(abs(outputs.std() - 1) < 1e-3)
        (True, True)
    """

    def _can_fuse(self, inputs) -> bool:
        return (
            keras.backend.backend() == "tensorflow"
            and len(inputs.shape) == 4
            and keras.backend.standardize_dtype(inputs.dtype) in ("float16", "bfloat16", "float32")
            and self.axis in (-1, 3)
            and self.scale
            and self.center
            and not self.synchronized
            and "_moments" not in vars(self)  # of `training.batch_norm_statistics`
            and not getattr(self, "renorm", False)
        )

    def call(self, inputs, training=None, mask=None):
        if not (training and self.trainable) or mask is not None or not self._can_fuse(inputs):
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        inputs = tf.convert_to_tensor(inputs)
        gamma, beta = tf.cast(self.gamma, "float32"), tf.cast(self.beta, "float32")
        slow = inputs.dtype == tf.float32 and not _is_fused_op_fast(inputs.shape[-1])
        outputs, mean, variance = (_composed if slow else _fused)(inputs, gamma, beta, self.epsilon)
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + tf.cast(batch, moving.dtype) * (1.0 - self.momentum))
        return tf.cast(outputs, self.compute_dtype)
