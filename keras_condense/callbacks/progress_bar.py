"""How Keras' progress bar shows a stage."""

__all__ = ["ShownStage", "show_stage"]


class ShownStage(int):
    """An integer that the progress bar prints as one: of a number it makes 0.0000e+00 or 1.0000.

    The bar divides what it prints by a count of one, asks for four digits behind the point, and since Keras 3.13 takes
    the mean first.

    Example:
        >>> f"{abs(ShownStage(0) / 1):.4e}", f"{ShownStage(3):.4f}", type(ShownStage(3) + 1)
        ('0', '3', <class 'int'>)
    """

    def mean(self, *args, **kwargs):
        """Itself; `numpy.mean` asks its argument."""
        return self

    def __truediv__(self, other):
        return self if other == 1 else int(self) / other

    def __abs__(self):
        return self

    def __format__(self, spec: str) -> str:
        return str(int(self)) if spec in (".4f", ".4e") else format(int(self), spec)


def show_stage(epoch: int, logs: dict | None = None) -> None:
    """Have the stage in the logs printed as an integer; to be called last before the progress bar, as a callback is."""
    if logs and "condense_stage" in logs:
        logs["condense_stage"] = ShownStage(logs["condense_stage"])
