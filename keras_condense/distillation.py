"""Training with a teacher: a network learns from the outputs of another one (Hinton et al., arXiv 1503.02531)."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_condense.keras_graphs import is_graph, last_operation, student_of
from keras_condense.rewriting import check_rewritable, rewrite
from keras_condense.validation import check_choice, check_fraction, check_not_negative, shown

__all__ = ["Distiller", "SoftTargets", "check_teacher", "copied_teacher", "distill", "taught", "with_teacher"]

_SELF = "self"
_TEMPERATURE, _WEIGHT = 3.0, 0.5


@keras.saving.register_keras_serializable("keras_condense")
class SoftTargets(keras.distillation.DistillationLoss):
    """Kullback-Leibler divergence of the student's classes from the teacher's, both at a temperature T, times T^2.

    Outputs may be logits or probabilities. The logarithms of probabilities are logits but for a constant in each row,
    which a softmax takes out again, so that both give the same number.

    Args:
        temperature: T, by which logits are divided.
        teacher_from_logits: whether the teacher gives logits; False for probabilities.
        student_from_logits: the same of the student.

    Shapes:
        outputs: (batch, ..., classes), both.

    Example:
        >>> logits = ops.convert_to_tensor([[2.0, 0.0]])
        >>> probabilities = ops.softmax(logits)
        >>> float(SoftTargets(2.0, teacher_from_logits=True).compute_loss(logits, probabilities))
        0.0
    """

    def __init__(
        self, temperature: float = _TEMPERATURE, teacher_from_logits: bool = False, student_from_logits: bool = False
    ):
        self.temperature = temperature
        self.teacher_from_logits, self.student_from_logits = teacher_from_logits, student_from_logits

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, sample_weight: Any = None, **kwargs) -> Any:
        """The loss, a mean over all rows; rows may be weighted."""
        teacher = _logits(teacher_outputs, self.teacher_from_logits) / self.temperature
        student = _logits(student_outputs, self.student_from_logits) / self.temperature
        targets, cross_entropy = ops.softmax(teacher, axis=-1), keras.losses.CategoricalCrossentropy(from_logits=True)
        divergence = cross_entropy(targets, student, sample_weight) - cross_entropy(targets, teacher, sample_weight)
        return divergence * self.temperature**2

    def get_config(self) -> dict[str, Any]:
        names = ("temperature", "teacher_from_logits", "student_from_logits")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "SoftTargets":
        return cls(**config)


def _logits(outputs: Any, from_logits: bool) -> Any:
    """Outputs as logits in float32; of probabilities their logarithms."""
    if from_logits:
        return ops.cast(outputs, "float32")
    # the smallest number of its kind whose logarithm is finite everywhere: some devices flush denormal ones to 0
    least = 6.2e-5 if keras.backend.standardize_dtype(outputs.dtype) == "float16" else 1.2e-38
    return ops.log(ops.maximum(ops.cast(outputs, "float32"), least))


def _replicas() -> int:
    """How many replicas of a `tf.distribute` strategy train together; 1 elsewhere."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


@keras.saving.register_keras_serializable("keras_condense")
class Distiller(keras.distillation.Distiller):
    """A student that is trained with a teacher, compiled as the student is; `distill` makes it.

    Keras' own leaves sample weights, class weights, and what the student's layers add to the loss (weight decay, group
    lasso) out. Here weights count in both parts, and what layers add is added whole:
    (1 - weight) * loss + weight * soft targets + what layers add. The student's optimizer trains it.

    Attributes:
        student: the model that is trained.
        teacher: frozen, and called as in inference.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.built = True  # as its parts are
        if self.student.compiled:
            self._compile_as_student()

    def compile(self, *args, **kwargs) -> None:
        """Compile the student, and this model alike; the arguments are those of `keras.Model.compile`."""
        self.student.compile(*args, **kwargs)
        self._compile_as_student()

    def _compile_as_student(self) -> None:
        arguments = self.student._compile_config.config | {"optimizer": self.student.optimizer}
        keras.Model.compile(self, **arguments, auto_scale_loss=False)  # the student's optimizer does it, if any

    def get_compile_config(self) -> None:
        """None: the student's own says it."""
        return None

    def compile_from_config(self, config: Any) -> None:
        """Nothing: it is compiled as soon as it is made of a student that is."""

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """The total loss; its parts go to the logs as `student_loss` and `distillation_loss`."""
        if y_pred is None:
            y_pred = self(x, training=training)
        added = [self._aggregate_additional_loss(loss) for loss in self.losses]  # before the teacher is called
        of_labels = self._compile_loss(y, y_pred, sample_weight)
        (soft_targets,) = self.distillation_losses
        of_teacher = soft_targets.compute_loss(self.teacher(x, training=False), y_pred, sample_weight=sample_weight)
        total = self.student_loss_weight * of_labels + (1 - self.student_loss_weight) * of_teacher
        total = sum(added, total)
        replicas = _replicas()  # Keras divides losses by them, to sum gradients
        self.student_loss_tracker.update_state(of_labels * replicas)
        self.distillation_loss_tracker.update_state(of_teacher * replicas)
        self.total_loss_tracker.update_state(total * replicas)
        return total


def distill(
    student: keras.Model,
    teacher: keras.Model,
    *,
    temperature: float = _TEMPERATURE,
    weight: float = _WEIGHT,
    from_logits: bool | None = None,
) -> Distiller:
    """Have a classifier trained with another one's outputs beside the labels (Hinton et al., arXiv 1503.02531).

    What comes back is a `keras.distillation.Distiller`: its `fit`, `evaluate` and `predict` are the student's, with the
    optimizer, loss and metrics that the student is compiled with, and

        loss = (1 - weight) * the student's loss + weight * T^2 * KL(teacher at T, student at T) + what layers add

    `CondenseSchedule` and the other callbacks, `condense`, `export_tflite`, `profile_model` and `saving.save_model`
    take it and work on its `student`. `distiller.save` writes both networks, and `saving.load_model` gives a Distiller
    again.

    Args:
        student: a functional or built sequential classifier with one output. It is trained in place. Where it is not
            compiled, compile the Distiller.
        teacher: a trained classifier of the same inputs and classes. It is copied, and left as it is.
        temperature: T, above 0; the higher, the more the classes count that the teacher holds for wrong.
        weight: the share of the teacher in the loss, in (0, 1].
        from_logits: whether both give logits (True) or probabilities that sum to 1 (False). None looks at the last
            activation of each: a softmax gives probabilities, a layer with a kernel and no activation logits.

    Returns:
        The Distiller, compiled if the student is.

    Raises:
        ValueError: an argument out of range; what is no functional or sequential model; a student with a training step
            or a loss of its own, or without a loss; inputs or classes that differ; an output of which it can't be told
            whether it is logits; a teacher with weights that are not finite.

    Example:
        >>> def network(units):
        ...     hidden, scores = keras.layers.Dense(units), keras.layers.Dense(3, activation="softmax")
        ...     return keras.Sequential([keras.Input((4,)), hidden, scores])
        >>> student, teacher = network(2), network(8)
        >>> student.compile("sgd", "sparse_categorical_crossentropy")
        >>> distiller = distill(student, teacher, temperature=4)
        >>> history = distiller.fit(np.ones((6, 4)), np.zeros(6), verbose=0)
        >>> sorted(history.history)
        ['distillation_loss', 'loss', 'student_loss', 'total_loss']
        >>> distiller.student is student
        True
    """
    temperature = check_not_negative("temperature", temperature, "Use 3.", above_zero=True)
    if check_fraction("weight", weight, "Use 0.5.") == 0:
        raise ValueError(f"`weight` (={shown(weight)}) must be above 0, or the teacher says nothing. Use 0.5.")
    check_choice("from_logits", from_logits, (None, True, False), "Leave it out to look at the last activations.")
    _check_pair(student, student_of(teacher), from_logits)
    return with_teacher(student, copied_teacher(teacher), temperature, weight, from_logits)


def copied_teacher(teacher: keras.Model) -> keras.Model:
    """A copy of a teacher, or of a Distiller's student, that is not compiled: a Distiller freezes what it is given."""
    return rewrite(student_of(teacher), lambda layer: None, compile=False)


def with_teacher(
    student: keras.Model,
    teacher: keras.Model,
    temperature: float = _TEMPERATURE,
    weight: float = _WEIGHT,
    from_logits: bool | None = None,
) -> Distiller:
    """`distill` with arguments that are checked and a teacher that may be frozen as it is."""
    soft_targets = SoftTargets(
        temperature,
        teacher_from_logits=_gives_logits("teacher", teacher, from_logits),
        student_from_logits=_gives_logits("student", student, from_logits),
    )
    return Distiller(teacher, student, soft_targets, student_loss_weight=1 - float(weight))


def check_teacher(teacher: Any, model: keras.Model) -> None:
    """Raise ValueError unless `teacher` can teach what is made of `model`: None, "self" for `model`, or a model."""
    if teacher is None:
        return
    if not isinstance(teacher, keras.Model) and not (isinstance(teacher, str) and teacher == _SELF):
        raise ValueError(
            f"`teacher` (={shown(teacher)}) must be a Keras model, or {_SELF!r} for `model` itself. "
            "Leave it out to train without one."
        )
    _check_pair(model, model if isinstance(teacher, str) else student_of(teacher), None)


def taught(student: keras.Model, teacher: keras.Model | str | None, model: keras.Model) -> keras.Model:
    """A model that was made of another one, with its teacher.

    Args:
        student: the new model.
        teacher: of the new one, checked by `check_teacher`: None, "self" for `model`, or a model.
        model: what the new one was made of.

    Returns:
        A Distiller; `student` itself without a teacher.
    """
    if teacher is None:
        return student
    return distill(student, model if isinstance(teacher, str) else teacher)


def _check_pair(student: Any, teacher: Any, from_logits: bool | None) -> None:
    for name, model in (("student", student), ("teacher", teacher)):
        if isinstance(model, keras.distillation.Distiller) or not is_graph(model):
            raise ValueError(
                f"`{name}` (={getattr(model, 'name', shown(model))!r}, a {type(model).__name__}) must be a functional "
                "or a built sequential model. Give a Sequential its `keras.Input`; of a Distiller give `.student`."
            )
        if len(model.outputs) != 1 or len(model.outputs[0].shape) < 2 or model.outputs[0].shape[-1] in (None, 1):
            shapes = [tuple(tensor.shape) for tensor in model.outputs]
            raise ValueError(
                f"`{name}` (={model.name!r}) must have one output, of shape (batch, ..., classes) with two classes or "
                f"more, and has {shapes}. Give a classifier; of two classes, one with two outputs and a softmax."
            )
        _gives_logits(name, model, from_logits)
    check_rewritable(teacher)
    for what in ("inputs", "outputs"):
        ours, theirs = (
            [(tuple(tensor.shape[1:]), tensor.dtype) for tensor in getattr(model, what)] for model in (student, teacher)
        )
        if ours != theirs:
            raise ValueError(
                f"`teacher` (={teacher.name!r}) must have the {what} of the student (={student.name!r}), {ours}, and "
                f"has {theirs}. Build it for the same images and classes, and in the same precision."
            )
    own = [name for name in ("train_step", "compute_loss") if getattr(type(student), name) is not _of_keras(name)]
    if own:
        raise ValueError(
            f"`student` (={student.name!r}, a {type(student).__name__}) must be trained as Keras does, and has a "
            f"`{own[0]}` of its own, which a Distiller would pass over. Put its layers into a `keras.Model`."
        )
    if student.compiled and student._compile_loss is None:
        raise ValueError(
            f"`student` (={student.name!r}) must be compiled with a loss, and has none. "
            'Compile it with "sparse_categorical_crossentropy".'
        )
    for variable in teacher.weights:
        values = ops.convert_to_numpy(variable)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ValueError(
                f"Weight {variable.path!r} of `teacher` (={teacher.name!r}) must be finite, and has NaN or infinity. "
                "Give a checkpoint from before its training diverged."
            )


def _of_keras(name: str) -> Any:
    return getattr(keras.Model, name)


def _gives_logits(name: str, model: keras.Model, from_logits: bool | None) -> bool:
    """Whether a classifier's output is logits (else probabilities), read off its last layer if it is not said."""
    if from_logits is not None:
        return from_logits
    last = last_operation(model)
    activation = getattr(last, "activation", None)
    softmax = last if type(last).__name__ == "Softmax" else activation
    if activation is keras.activations.softmax or (
        type(softmax).__name__ == "Softmax" and softmax.axis in (-1, len(model.outputs[0].shape) - 1)
    ):
        return False
    if activation is keras.activations.linear and hasattr(last, "kernel"):
        return True
    ends = f"{type(last).__name__} {getattr(last, 'name', '')!r}" if last is not None else "no layer that is known"
    if activation is not None:
        ends += f" with the activation {getattr(activation, '__name__', type(activation).__name__)!r}"
    raise ValueError(
        f"`{name}` (={model.name!r}) must end in a softmax, or in a layer with a kernel and no activation, and ends in "
        f"{ends}. Use `distill` and say with `from_logits` what the outputs are, logits or probabilities that sum to 1."
    )
