"""Training with a teacher: the loss against NumPy, a teacher left alone, a Distiller in the place of a model."""

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import keras_condense as kc
from keras_condense.callbacks import BestCondensed, CondenseSchedule
from keras_condense.distillation import Distiller, check_teacher
from keras_condense.layers import CondenseDense, condensable_layers, frozen_layers

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(24, 4, 4, 8)).astype("float32")
Y = RANDOM.integers(0, 3, 24)
FIT = {"batch_size": 4, "shuffle": False, "verbose": 0}


def classifier(activation="softmax", filters=8, classes=3, dense=L.Dense, name="net", regularizer=None, **options):
    image = keras.Input((4, 4, 8))
    x = L.Conv2D(filters, 1, use_bias=False, kernel_regularizer=regularizer, name="conv")(image)
    x = L.ReLU()(L.BatchNormalization(name="norm")(x))
    x = L.Flatten()(L.Dropout(0.5, seed=1)(x))
    return keras.Model(image, dense(classes, activation=activation, name="scores", **options)(x), name=name)


def compiled(model, loss="sparse_categorical_crossentropy", optimizer="sgd", **arguments):
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False, **arguments)
    return model


def logits_of(model, x=X):
    """Of a classifier whose softmax is taken off."""
    scores = model.get_layer("scores")
    before = ops.convert_to_numpy(keras.Model(model.input, scores.input)(x, training=False)).astype("float64")
    return before @ ops.convert_to_numpy(scores.kernel) + ops.convert_to_numpy(scores.bias)


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def divergence(teacher, student, temperature, weights=None):
    """Hinton's loss of logits, in double precision."""
    t, s = softmax(teacher / temperature), softmax(student / temperature)
    rows = (t * (np.log(t) - np.log(s))).sum(axis=-1)
    return temperature**2 * np.mean(rows * (1 if weights is None else weights))


def assert_same_weights(model, weights):
    for one, other in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("of_student", ["softmax", None])
@pytest.mark.parametrize("of_teacher", ["softmax", None])
def test_the_loss_is_numpys_whether_of_probabilities_or_logits(of_student, of_teacher):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=of_student is None)
    student = compiled(classifier(of_student, regularizer="l2"), loss)
    teacher = classifier(of_teacher, filters=16)
    distiller = kc.distill(student, teacher, temperature=4, weight=0.3)
    found = distiller.evaluate(X, Y, verbose=0, return_dict=True)
    ours = logits_of(student)
    soft = divergence(logits_of(teacher), ours, 4)
    of_labels = -np.mean(np.log(softmax(ours))[np.arange(24), Y])
    decay = 0.01 * np.square(ops.convert_to_numpy(student.get_layer("conv").kernel)).sum()
    assert found["distillation_loss"] == pytest.approx(soft, rel=1e-4)
    assert found["student_loss"] == pytest.approx(of_labels, rel=1e-4)
    assert found["loss"] == pytest.approx(0.7 * of_labels + 0.3 * soft + decay, rel=1e-4)
    assert found["accuracy"] == pytest.approx(np.mean(ours.argmax(axis=-1) == Y))
    np.testing.assert_array_equal(distiller.predict(X, verbose=0), student.predict(X, verbose=0))


def test_weights_of_rows_count_in_both_parts():
    student, teacher = compiled(classifier()), classifier(filters=16)
    weights = RANDOM.uniform(0, 2, 24)
    distiller = kc.distill(student, teacher, temperature=2)
    found = distiller.evaluate(X, Y, batch_size=24, sample_weight=weights, verbose=0, return_dict=True)
    ours = logits_of(student)
    expected = divergence(logits_of(teacher), ours, 2, weights)
    assert found["distillation_loss"] == pytest.approx(expected, rel=1e-4)
    of_labels = -np.mean(weights * np.log(softmax(ours))[np.arange(24), Y])
    assert found["student_loss"] == pytest.approx(of_labels, rel=1e-4)


def test_a_certain_teacher_gives_finite_gradients():
    student, teacher = compiled(classifier()), classifier()
    teacher.get_layer("scores").bias.assign([500.0, 0.0, -500.0])
    student.get_layer("scores").bias.assign([-500.0, 0.0, 500.0])
    kc.distill(student, teacher).fit(X, Y, epochs=2, **FIT)
    assert all(np.isfinite(weight).all() for weight in student.get_weights())


def test_the_teacher_is_left_as_it_is_and_called_as_in_inference():
    student, teacher = compiled(classifier()), compiled(classifier(filters=16))
    before = teacher.get_weights()
    distiller = kc.distill(student, teacher)
    own = student.get_weights()
    distiller.fit(X, Y, epochs=2, **FIT)
    assert_same_weights(teacher, before)
    assert_same_weights(distiller.teacher, before)  # with the moving means of its norms
    assert teacher.trainable
    assert len(teacher.trainable_weights) == 5
    assert [id(one) for one in distiller.trainable_variables] == [id(one) for one in student.trainable_variables]
    assert not any(np.array_equal(a, b) for a, b in zip(student.get_weights(), own, strict=True) if a.dtype != "uint32")
    assert distiller.student is student
    assert distiller.optimizer is student.optimizer


@pytest.mark.parametrize("make", [kc.learn_groups, kc.prune_weights])
def test_with_a_teacher_the_same_is_dropped_in_the_same_steps(make):
    """At a weight of next to nothing a Distiller trains as its student alone would."""
    model = compiled(classifier(), optimizer=keras.optimizers.SGD(0.05, momentum=0.9))
    model.fit(X, Y, epochs=1, **FIT)
    alone, distiller = make(model), make(model, teacher="self")
    assert type(distiller) is Distiller
    distiller = kc.distill(distiller.student, model, weight=1e-9)
    histories = [each.fit(X, Y, epochs=4, callbacks=[CondenseSchedule()], **FIT).history for each in (alone, distiller)]
    assert histories[0]["condense_stage"] == histories[1]["condense_stage"]
    assert histories[0]["connections_left"] == histories[1]["connections_left"]
    layers = condensable_layers(distiller)
    assert len(layers) == len(condensable_layers(alone)) > 0
    for layer, other in zip(layers, condensable_layers(alone), strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(layer.mask), ops.convert_to_numpy(other.mask))
        np.testing.assert_allclose(ops.convert_to_numpy(layer.kernel), ops.convert_to_numpy(other.kernel), atol=1e-5)


def test_a_masked_teacher_is_not_condensed():
    teacher = classifier(dense=CondenseDense, condense_factor=2)
    distiller = kc.learn_groups(compiled(classifier()), 4, 4, teacher=teacher)
    assert [layer.name for layer in condensable_layers(distiller)] == ["conv"]
    assert frozen_layers(distiller) == []
    distiller.fit(X, Y, epochs=4, callbacks=[CondenseSchedule()], **FIT)
    (of_teacher,) = condensable_layers(distiller.teacher)
    assert of_teacher.stage == 0
    assert ops.convert_to_numpy(of_teacher.mask).all()


def test_a_distiller_stands_for_its_student(tmp_path):
    distiller = kc.learn_groups(compiled(classifier()), teacher="self")
    best = BestCondensed("val_accuracy", path=tmp_path / "best.keras")
    distiller.fit(X, Y, epochs=4, validation_data=(X, Y), callbacks=[CondenseSchedule(), best], **FIT)
    expected = distiller.student.predict(X, verbose=0)
    small = kc.condense(distiller)
    np.testing.assert_allclose(small.predict(X, verbose=0), expected, atol=1e-5)
    assert small.compiled
    assert str(kc.profile_model(distiller)) == str(kc.profile_model(distiller.student))
    kc.saving.save_model(distiller, tmp_path / "student.keras")
    for name in ("best", "student"):
        loaded = kc.saving.load_model(tmp_path / f"{name}.keras")
        assert not isinstance(loaded, Distiller)
        np.testing.assert_allclose(loaded.predict(X, verbose=0), expected, atol=1e-5)
    distiller.student.get_layer("scores").bias.assign([9.0, 9.0, 9.0])
    kc.saving.load_state(distiller, tmp_path / "student.keras")
    np.testing.assert_allclose(distiller.predict(X, verbose=0), expected, atol=1e-6)
    if keras.backend.backend() == "tensorflow":
        assert kc.export_tflite(distiller) == kc.export_tflite(distiller.student)


def test_a_saved_distiller_goes_on(tmp_path):
    options = FIT | {"callbacks": [CondenseSchedule(epochs=4)]}
    distillers = []
    for _ in range(2):
        keras.utils.set_random_seed(0)
        model = compiled(classifier(), optimizer=keras.optimizers.SGD(0.05, momentum=0.9))
        model.get_layer("norm").momentum = 0.9
        distillers.append(kc.learn_groups(model, teacher="self"))
    whole, parts = distillers
    for each in distillers:  # the states of random generators are in no file
        for part in (each.student, each.teacher):
            next(layer for layer in part.layers if isinstance(layer, L.Dropout)).rate = 0.0
    whole.fit(X, Y, epochs=4, **options)
    parts.fit(X, Y, epochs=2, **options)
    parts.save(tmp_path / "distiller.keras")
    loaded = kc.saving.load_model(tmp_path / "distiller.keras")
    assert type(loaded) is Distiller
    assert loaded.optimizer is loaded.student.optimizer
    assert int(loaded.optimizer.iterations) == 12
    loaded.fit(X, Y, initial_epoch=2, epochs=4, **options)
    for one, other in zip(whole.student.weights, loaded.student.weights, strict=True):
        if "seed" not in one.path:
            np.testing.assert_allclose(ops.convert_to_numpy(one), ops.convert_to_numpy(other), atol=1e-5)


def test_what_is_not_compiled_is_compiled_together():
    student = classifier()
    distiller = kc.distill(student, classifier(filters=16))
    assert not distiller.compiled
    compiled(distiller, optimizer="adam")
    assert student.compiled
    assert distiller.optimizer is student.optimizer
    before = distiller.evaluate(X, Y, verbose=0, return_dict=True)["loss"]
    distiller.fit(X, Y, epochs=5, **FIT)
    assert distiller.evaluate(X, Y, verbose=0, return_dict=True)["loss"] < before


def test_where_activations_do_not_tell(monkeypatch):
    image = keras.Input((4,))
    scores = L.Dense(3)(image)
    cases = {
        "softmax layer": (L.Softmax()(scores), False),
        "activation, cast": (L.Activation("linear", dtype="float32")(L.Activation("softmax")(scores)), False),
        "reshaped": (L.Reshape((3,))(L.Reshape((1, 3))(scores)), True),
        "nested": (keras.Sequential([keras.Input((4,)), L.Dense(3, "softmax"), L.Dropout(0.1)])(image), False),
    }
    teacher = keras.Sequential([keras.Input((4,)), L.Dense(3)])
    for name, (output, from_logits) in cases.items():
        target = teacher
        if output.shape != (None, 3):
            raise AssertionError(name)
        distiller = kc.distill(keras.Model(image, output), target)
        assert distiller.distillation_losses[0].student_from_logits is from_logits, name
    for output in (L.Add()([scores, scores]), L.Dense(3, "sigmoid")(image), L.Softmax(axis=0)(scores), image):
        model = keras.Model(image, output)
        target = keras.Sequential([keras.Input((4,)), L.Dense(output.shape[-1])])
        with pytest.raises(ValueError, match=r"`student` .* must end in a softmax, .* say with `from_logits`"):
            kc.distill(model, target)
        assert kc.distill(model, target, from_logits=True).distillation_losses[0].student_from_logits


def _own_step():
    class Own(keras.Model):
        def train_step(self, *arguments):
            raise NotImplementedError

    plain = classifier()
    return Own(plain.input, plain.output)


def _diverged():
    teacher = classifier()
    teacher.get_layer("scores").bias.assign([np.nan, 0, 0])
    return teacher


@pytest.mark.parametrize(
    ("student", "teacher", "arguments", "message"),
    [
        (classifier, classifier, {"temperature": 0}, r"`temperature` \(=0\) must be a finite number above 0\. Use 3"),
        (classifier, classifier, {"weight": 0}, r"`weight` \(=0\) must be above 0, or the teacher says nothing"),
        (classifier, classifier, {"weight": 1.5}, r"`weight` \(=1\.5\) must be a number in \[0, 1\]"),
        (classifier, classifier, {"from_logits": "yes"}, r"`from_logits` \(='yes'\) must be one of None, True, False"),
        (classifier, lambda: "self", {}, r"`teacher` \(=.*, a str\) must be a functional or a built sequential"),
        (lambda: None, classifier, {}, r"`student` \(=.*, a NoneType\) must be a functional or a built sequential"),
        (lambda: kc.distill(classifier(), classifier()), classifier, {}, r"of a Distiller give `\.student`"),
        (classifier, lambda: classifier(classes=4), {}, r"`teacher` .* must have the outputs of the student"),
        (classifier, lambda: classifier("sigmoid", classes=1), {}, r"`teacher` .* must have one output, .* a softmax"),
        (_own_step, classifier, {}, r"`student` .* has a `train_step` of its own, which a Distiller"),
        (classifier, _diverged, {}, r"Weight .* of `teacher` .* must be finite, and has NaN"),
        (lambda: compiled(classifier(), None), classifier, {}, r"`student` .* must be compiled with a loss"),
    ],
)  # fmt: skip
def test_errors(student, teacher, arguments, message):
    student, teacher = student(), teacher()
    with pytest.raises(ValueError, match=message):
        kc.distill(student, teacher, **arguments)
    if isinstance(teacher, keras.Model):
        assert teacher.trainable


@pytest.mark.parametrize("make", [kc.learn_groups, kc.prune_weights])
@pytest.mark.parametrize("teacher", [True, "other", 3], ids=repr)
def test_what_is_no_teacher(make, teacher):
    with pytest.raises(ValueError, match=r"`teacher` \(=.*\) must be a Keras model, or 'self' for `model` itself\."):
        make(classifier(), teacher=teacher)


def test_the_teacher_is_checked_before_anything_is_made():
    with pytest.raises(ValueError, match=r"`teacher` .* must have the outputs of the student"):
        check_teacher(classifier(classes=5), classifier())
    with pytest.raises(ValueError, match=r"or give a Distiller's `\.student`"):
        kc.learn_groups(kc.distill(classifier(), classifier()))
