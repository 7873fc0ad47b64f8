"""What every operator of the intermediate form is: attributes, how TensorFlow computes it, what its cost grows with."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar

__all__ = ["Features", "Operator", "Shape"]

Shape = tuple[int, ...]

# a row of a target's table of costs, and the sizes that the cost grows with
Features = tuple[str, dict[str, float]]


@dataclasses.dataclass(frozen=True, eq=False)  # arrays don't compare to one truth value
class Operator:
    """One operation with one output, an image (height, width, channels) or a vector, of batch 1.

    A subclass is a frozen dataclass: its fields are the attributes and the learned weights. It says how TensorFlow
    computes it, from which the converter makes operators of TensorFlow Lite, and what its cost grows with. A new
    operator is a new subclass; what is in no table of costs costs nothing.

    Attributes:
        kind: what reports and tables of costs call it.
    """

    kind: ClassVar[str]

    def emit(self, tf: Any, inputs: list[Any], shape: Shape) -> Any:
        """Compute it.

        Args:
            tf: the module `tensorflow`.
            inputs: tensors of batch 1.
            shape: of the output, without the batch.

        Returns:
            The output, a tensor of batch 1.
        """
        raise NotImplementedError(f"{type(self).__name__} is not executed: a pass must replace it.")

    def features(self, inputs: Sequence[Shape], shape: Shape, lanes: int) -> Features:
        """What its cost grows with: by default the numbers that it writes.

        Args:
            inputs: shapes of what it reads, without the batch.
            shape: of the output, without the batch.
            lanes: filters of a group that the target's convolutions compute together.

        Returns:
            A row of the target's table of costs, and the sizes of its features. An operator whose row is in no table
            costs nothing.
        """
        return self.kind, {"outputs": math.prod(shape)}
