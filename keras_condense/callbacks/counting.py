"""How many epochs of a training layers have behind them."""

import weakref
from collections.abc import Mapping

from keras_condense.layers import LearnedConnections

__all__ = ["counted_epochs", "remember"]

# of each layer the epochs that were counted, and the stage they ended in: callbacks come and go with every `fit`
_counted: weakref.WeakKeyDictionary[LearnedConnections, tuple[float, int]] = weakref.WeakKeyDictionary()


def remember(stages: Mapping[LearnedConnections, int], epochs: float) -> None:
    """Note for each layer how many epochs of its training are done, and the stage in which they leave it."""
    for layer, stage in stages.items():
        _counted[layer] = (epochs, stage)


def counted_epochs(stages: Mapping[LearnedConnections, int]) -> float | None:
    """Return the epochs noted for layers that are all still in the stages they ended in; None if that is not known.

    Example:
        >>> from keras_condense.layers import CondenseDense
        >>> layer = CondenseDense(2)
        >>> remember({layer: 1}, epochs=2)
        >>> counted_epochs({layer: 1}), counted_epochs({layer: 0})  # the latter: it got other weights
        (2, None)
    """
    noted = [_counted.get(layer, (None, None)) for layer in stages]
    found = {epochs for epochs, _ in noted}
    unchanged = [stage for _, stage in noted] == list(stages.values())
    return found.pop() if unchanged and len(found) == 1 else None
