"""Models that `condense` and `learn_groups` can't build anew; what they can is tested beside each of them."""

import keras
import numpy as np
import pytest

from keras_condense.rewriting import check_rewritable, rewrite

L = keras.layers


def same(layer):
    return None


class Doubled(keras.Model):
    """Made from inputs and outputs, with a `call` that is not in the graph."""

    def call(self, inputs, training=None, mask=None):
        return 2 * super().call(inputs, training=training, mask=mask)


class DoubledOfWidth(Doubled):
    def __init__(self, width, **options):
        image = keras.Input((width,))
        super().__init__(image, L.ReLU()(image), **options)


class InTurn(keras.Sequential):
    steps = 0

    def train_step(self, *args, **kwargs):
        InTurn.steps += 1
        return super().train_step(*args, **kwargs)


def test_a_call_of_its_own_is_kept_where_a_model_can_be_made_anew():
    image = keras.Input((3,))
    model = Doubled(image, L.ReLU()(image))
    check_rewritable(model)
    new = rewrite(model, same)
    assert type(new) is Doubled
    assert keras.ops.convert_to_numpy(new(keras.ops.ones((1, 3)))).tolist() == [[2, 2, 2]]


@pytest.mark.parametrize("nested", [False, True])
def test_a_call_of_its_own_is_not_lost_silently(nested):
    model = DoubledOfWidth(3, name="doubled")
    if nested:
        model = keras.Sequential([keras.Input((3,)), model], name="outer")
    message = rf"`model` \(='{model.name}'\) must compute what its graph says, and 'doubled', a DoubledOfWidth, has"
    with pytest.raises(ValueError, match=message + r" .*\. Let its `__init__` take"):
        check_rewritable(model)


def test_a_sequential_model_with_its_own_training_step_keeps_it():
    model = InTurn([keras.Input((3,)), L.Dense(2)])
    model.compile("sgd", "mse")
    new = rewrite(model, same)
    assert type(new) is InTurn
    before = InTurn.steps
    new.fit(keras.ops.ones((2, 3)), keras.ops.ones((2, 2)), verbose=0)
    assert InTurn.steps > before


def test_inputs_that_may_be_missing():
    image, weight = keras.Input((3,)), keras.Input((3,), name="weight", optional=True)

    class Scale(L.Layer):
        def call(self, x, weight=None):
            return x if weight is None else x * weight

    model = keras.Model([image, weight], Scale()(image, weight))
    new = rewrite(model, same)
    assert keras.ops.convert_to_numpy(new([keras.ops.ones((1, 3)), None])).tolist() == [[1, 1, 1]]


class Unsaid(L.Layer):
    """Its configuration does not say what it was made of."""

    def __init__(self, scale, **options):
        super().__init__(**options)
        self.scale = scale

    def call(self, x):
        return x * self.scale[0]


def unregistered(x):
    return x + 1


@pytest.mark.parametrize(
    "layer",
    [
        L.Activation(unregistered),
        L.Lambda(unregistered),
        L.Dense(3, activation=unregistered),
        L.TimeDistributed(L.Dense(3, activation=unregistered)),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_functions_need_not_be_registered(layer):
    model = keras.Sequential([keras.Input((2, 3)), layer])
    x = np.arange(6.0).reshape(1, 2, 3)
    np.testing.assert_array_equal(rewrite(model, same)(x), model(x))


@pytest.mark.parametrize(
    "layer",
    [Unsaid([2.0, object()], name="bad"), L.Lambda(lambda x: x + 1, name="bad")],
    ids=["no get_config", "a Python lambda"],
)
def test_layers_that_can_not_be_copied_are_named(layer):
    model = keras.Sequential([keras.Input((3,)), layer])
    kind = type(layer).__name__
    message = rf"Layer 'bad' of class {kind} must be one that `{kind}\.from_config\(.*\)` can copy, .+\. Let its"
    with pytest.raises(ValueError, match=message):
        rewrite(model, same)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float32"])
def test_models_keep_their_precision_whatever_the_global_one_is(policy):
    """A sequential model casts what it is given."""
    keras.config.set_dtype_policy(policy)
    inner = keras.Sequential([keras.Input((3,)), L.Dense(4, dtype="float32")])
    model = keras.Sequential([keras.Input((3,)), inner, L.Dense(2, dtype="float32")])
    other = "float32" if policy == "mixed_bfloat16" else "mixed_bfloat16"
    keras.config.set_dtype_policy(other)
    try:
        new = rewrite(model, same)
        assert keras.config.dtype_policy().name == other
    finally:
        keras.config.set_dtype_policy("float32")
    assert [layer.dtype_policy.name for layer in (new, new.layers[0])] == [policy, policy]
    x = np.random.default_rng(0).normal(size=(2, 3)).astype("float32")
    np.testing.assert_array_equal(new(x), model(x))


def leaky_relu(x):
    return keras.ops.leaky_relu(x, 0.01)  # Keras' own has a slope of 0.2


def times_tanh(factor):
    def act(x):
        return keras.ops.tanh(factor * x)

    return act


@pytest.mark.parametrize(
    "layer",
    [
        L.Dense(4, activation=leaky_relu),
        L.Activation(leaky_relu),
        L.LSTM(4, activation=times_tanh(1.0), recurrent_activation=times_tanh(0.5)),
        L.TimeDistributed(L.Dense(4, activation=leaky_relu)),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_functions_called_as_others_stay_what_they_are(layer):
    model = keras.Sequential([keras.Input((3, 5)), layer])
    x = np.random.default_rng(0).normal(size=(2, 3, 5)).astype("float32")
    np.testing.assert_array_equal(rewrite(model, same)(x), model(x))


@keras.saving.register_keras_serializable("test_rewriting")
class Scaled(L.Layer):
    """Holds a function that reads its own weight."""

    def __init__(self, **options):
        super().__init__(**options)
        self.scaled = lambda inputs: inputs * self.factor

    def build(self, input_shape):
        self.factor = self.add_weight(shape=(), initializer="ones")

    def call(self, inputs):
        return self.scaled(inputs)


def test_a_function_of_the_layer_itself_is_the_copys_own():
    model = keras.Sequential([keras.Input((3,)), Scaled()])
    new = rewrite(model, same)
    new.layers[0].factor.assign(5.0)
    x = np.ones((1, 3), "float32")
    np.testing.assert_array_equal(new(x), 5 * x)
    np.testing.assert_array_equal(model(x), x)


def test_vocabularies_are_copied():
    pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("strings are TensorFlow's")
    look = L.StringLookup(output_mode="one_hot")
    look.adapt(["a", "b", "c"])
    words = keras.Input((1,), dtype="string")
    model = keras.Model(words, look(words))
    new = rewrite(model, same)
    assert new.get_layer(look.name).get_vocabulary() == look.get_vocabulary()
    import tensorflow as tf

    x = tf.constant([["b"], ["x"]])
    np.testing.assert_array_equal(new(x), model(x))


def test_a_model_that_is_frozen_alone_stays_so():
    inner = keras.Sequential([keras.Input((3,)), L.Dense(2)], trainable=False)
    model = keras.Sequential([keras.Input((3,)), inner, L.Dense(2)])
    assert [layer.trainable for layer in rewrite(model, same).layers] == [False, True]
    assert inner.trainable_weights == rewrite(inner, same).trainable_weights == []


class Warmup(keras.optimizers.schedules.LearningRateSchedule):
    def __init__(self, rate):
        self.rate = rate

    def __call__(self, step):
        return self.rate

    def get_config(self):
        return {"rate": self.rate}


class Secret(keras.metrics.Metric):
    def __init__(self, k, **options):
        super().__init__(**options)
        self.k = k

    def update_state(self, *args, **kwargs):
        pass

    def result(self):
        return 0.0


def test_models_that_are_compiled_in_any_way():
    model = keras.Sequential([keras.Input((3,)), L.Dense(2)])
    model.compile(keras.optimizers.SGD(Warmup(0.25)), "mse")
    assert float(rewrite(model, same).optimizer.learning_rate) == 0.25
    model.compile(optimizer=None, loss="mse")
    x, y = np.ones((2, 3), "float32"), np.ones((2, 2), "float32")
    assert rewrite(model, same).evaluate(x, y, verbose=0) == pytest.approx(model.evaluate(x, y, verbose=0))
    model.compile("sgd", "mse", metrics=[Secret(3)])
    with pytest.raises(
        ValueError, match=r"is compiled with a Secret, which must be one that .* can copy, and that fails"
    ):
        rewrite(model, same)


@pytest.mark.parametrize("excluded", ["bias", "second/kernel"])
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_what_is_left_out_of_weight_decay_still_is(excluded, policy):
    model = keras.Sequential(
        [keras.Input((3,)), L.Dense(2, name="first", dtype=policy), L.Dense(2, name="second", dtype=policy)]
    )
    optimizer = keras.optimizers.AdamW(0.1, weight_decay=0.1)
    if excluded == "bias":
        optimizer.exclude_from_weight_decay(var_names=["bias"])
    else:
        optimizer.exclude_from_weight_decay([model.layers[1].kernel])
    model.compile(optimizer, "mse")

    def decayed(model):
        inner = getattr(model.optimizer, "inner_optimizer", model.optimizer)
        return {variable.path: inner._use_weight_decay(variable) for variable in model.trainable_variables}

    assert {path for path, decays in decayed(model).items() if not decays} == {
        variable.path for variable in model.trainable_variables if variable.path.endswith(excluded)
    }
    assert decayed(rewrite(model, same)) == decayed(model)
