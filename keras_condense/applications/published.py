"""What the papers say of their networks: one row per network, to be compared with what the constructors build."""

import dataclasses
from collections.abc import Mapping
from typing import Any

__all__ = ["RULES", "Published", "comparable_operations"]

RULES = ("macs", "operations", "2 macs")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
    """A row of a paper's table, and how to build its network here.

    Attributes:
        network: the row's name, for instance "DenseNet-BC (L=100, k=12)".
        constructor: the function of `keras_condense.applications` that builds it.
        arguments: keyword arguments that make the constructor build this row.
        parameters: as printed, for instance "0.8M"; empty where the paper says nothing, as in all that follow.
        operations: as printed, for instance "4.2G".
        rule: what the operations count: "macs" or "operations" of `keras_condense.profile_model`, or "2 macs" where
            multiplications and additions are counted apart.
        condensed: whether the figures are those of the network after `keras_condense.condense`.
        error: per cent, as printed: top-1 on ImageNet, or CIFAR-10 and CIFAR-100 with " / " between.
        source: where the figures stand, for instance "arXiv:1608.06993, table 2".

    Example:
        >>> row = Published(network="DenseNet121", constructor="DenseNet121", error="25.0", source="arXiv:1608.06993")
        >>> row.rule, row.condensed
        ('macs', False)
    """

    network: str
    constructor: str
    source: str
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    parameters: str = ""
    operations: str = ""
    rule: str = "macs"
    condensed: bool = False
    error: str = ""


def comparable_operations(counted: Any, rule: str) -> int:
    """What a paper's counting rule makes of our counts.

    Args:
        counted: something with `macs` and `operations`, such as what `keras_condense.profile_model` returns.
        rule: one of `RULES`.

    Returns:
        The operations.

    Example:
        >>> import types
        >>> comparable_operations(types.SimpleNamespace(macs=100, operations=120), "2 macs")
        200
    """
    return {"macs": counted.macs, "operations": counted.operations, "2 macs": 2 * counted.macs}[rule]
