"""What was dropped stays zero: under every optimizer, and in files."""

import keras
import numpy as np
import pytest
from tensors import array, numpy_of

from keras_condense.callbacks import CondenseSchedule
from keras_condense.layers import (
    CondenseDense,
    LearnedGroupConv2D,
)

pytestmark = pytest.mark.slow  # all of it, together


tf = pytest.importorskip("tensorflow")


def test_dropped_inputs_get_no_gradient():
    for layer, x in ((LearnedGroupConv2D(4, 3, groups=2, use_bias=True), array(2, 5, 5, 8)),
                     (CondenseDense(3, 4), array(2, 8))):  # fmt: skip
        layer.build(x.shape)
        layer.condense_to(2)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x) ** 2)
        gradient = numpy_of(tape.gradient(loss, layer.kernel.value))
        mask = numpy_of(layer.mask)
        for f in range(gradient.shape[-1]):
            dropped = mask[f % layer.groups] == 0
            assert (gradient[..., dropped, f] == 0).all()
            assert (gradient[..., ~dropped, f] != 0).all()


OPTIMIZERS = {
    "SGD": lambda **more: keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True, weight_decay=1e-2, **more),
    "SGD momentum": lambda **more: keras.optimizers.SGD(0.05, momentum=0.9, **more),
    "Adam": lambda **more: keras.optimizers.Adam(0.01, amsgrad=True, **more),
    "AdamW": lambda **more: keras.optimizers.AdamW(0.01, weight_decay=0.1, **more),
    "RMSprop": lambda **more: keras.optimizers.RMSprop(0.01, momentum=0.9, centered=True, **more),
    "Adagrad": lambda **more: keras.optimizers.Adagrad(0.1, **more),
    "Adadelta": lambda **more: keras.optimizers.Adadelta(1.0, **more),
    "Adafactor": lambda **more: keras.optimizers.Adafactor(0.01, **more),
    "Adamax": lambda **more: keras.optimizers.Adamax(0.01, **more),
    "Ftrl": lambda **more: keras.optimizers.Ftrl(0.1, **more),
    "Ftrl regularised": lambda **more: keras.optimizers.Ftrl(
        0.1, l1_regularization_strength=1e-3, l2_regularization_strength=1e-3,
        l2_shrinkage_regularization_strength=1e-3, beta=0.1, **more),
    "Nadam": lambda **more: keras.optimizers.Nadam(0.01, **more),
    "Lamb": lambda **more: keras.optimizers.Lamb(0.01, **more),
    "Lion": lambda **more: keras.optimizers.Lion(0.003, weight_decay=0.1, **more),
    "LossScale": lambda **more: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01), **more),
}  # fmt: skip


def small_network():
    return keras.Sequential([
        keras.Input((4, 4, 8)),
        LearnedGroupConv2D(8, 1, condense_factor=4, group_lasso=1e-4, use_bias=True, kernel_regularizer="l2"),
        keras.layers.ReLU(),
        LearnedGroupConv2D(8, 3, groups=2, condense_factor=2, padding="same"),
        keras.layers.GlobalAveragePooling2D(),
        CondenseDense(3, kernel_constraint=keras.constraints.MaxNorm(2.0)),
    ])  # fmt: skip


# at the end: 6 of 8 inputs for 8 filters, 4 of 8 for 8 filters, 4 of 8 for 3 units
ALL_DROPPED = 6 * 8 + 4 * 8 + 4 * 3


class DroppedStayZero(keras.callbacks.Callback):
    """After every batch, raw weights that the mask dropped are exactly zero, and nothing is NaN."""

    def on_train_batch_end(self, batch, logs=None):
        check_zeros(self.model)


def check_zeros(model):
    zeros = 0
    for layer in model.layers:
        if hasattr(layer, "condense_to"):
            kernel, mask = layer.kernel.numpy(), layer.mask.numpy()
            assert np.isfinite(kernel).all()
            for f in range(kernel.shape[-1]):
                dropped = mask[f % layer.groups] == 0
                assert (kernel[..., dropped, f] == 0).all()
                zeros += int(dropped.sum())
    return zeros


def train_while_condensing(model, optimizer, batch_size=6, **more):
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), **more)
    x, y = array(18, 4, 4, 8), np.arange(18) % 3
    return model.fit(
        x, y, batch_size=batch_size, epochs=6, verbose=0, callbacks=[CondenseSchedule(), DroppedStayZero()]
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_dropped_weights_stay_zero_under(name):
    model = small_network()
    history = train_while_condensing(model, OPTIMIZERS[name]()).history
    assert check_zeros(model) == ALL_DROPPED
    assert all(layer.stage == layer.final_stage for layer in model.layers if hasattr(layer, "condense_to"))
    assert np.isfinite(history["loss"]).all()
    assert all(np.isfinite(w).all() for w in model.get_weights())


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        {"use_ema": True, "ema_momentum": 0.9},
        {"use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 4},
        {"gradient_accumulation_steps": 5},  # drops fall between two updates
        {"clipnorm": 0.5, "gradient_accumulation_steps": 2},
        {"global_clipnorm": 0.5, "weight_decay": 0.1},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["SGD momentum", "Adam"])
def test_dropped_weights_stay_zero_with(name, more, tmp_path):
    model = small_network()
    train_while_condensing(model, OPTIMIZERS[name](**more))
    assert check_zeros(model) == ALL_DROPPED
    model.save(tmp_path / "model.keras")
    assert check_zeros(keras.models.load_model(tmp_path / "model.keras")) == check_zeros(model)


@pytest.mark.slow
def test_dropped_weights_stay_zero_in_half_precision_with_loss_scaling():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = small_network()
        train_while_condensing(model, OPTIMIZERS["SGD"]())
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    finally:
        keras.config.set_dtype_policy("float32")
    assert check_zeros(model) == ALL_DROPPED


def test_an_optimizer_that_mixes_weights_revives_nothing_that_is_used_or_saved(tmp_path):
    model = small_network()
    model.compile(keras.optimizers.Muon(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = array(12, 4, 4, 8)
    model.fit(x, np.arange(12) % 3, batch_size=3, epochs=4, verbose=0, callbacks=[CondenseSchedule()])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert check_zeros(loaded) == ALL_DROPPED
    np.testing.assert_array_equal(numpy_of(loaded(x)), numpy_of(model(x)))


def test_saved_files_hold_zeros_whatever_the_variable_holds(tmp_path):
    model = small_network()
    layer = model.layers[0]
    layer.condense_to(3)
    layer.kernel.assign(layer.kernel + 1.0)
    x = array(2, 4, 4, 8)
    expected = numpy_of(model(x))
    for path in (tmp_path / "a.keras", tmp_path / "a.weights.h5"):
        if path.suffix == ".keras":
            model.save(path)
            loaded = keras.models.load_model(path)
        else:
            model.save_weights(path)
            loaded = small_network()
            loaded.load_weights(path)
        assert check_zeros(loaded) == 8 * 6
        np.testing.assert_array_equal(numpy_of(loaded(x)), expected)
